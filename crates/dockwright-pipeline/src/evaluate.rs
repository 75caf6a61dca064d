//! From a configuration and a context to the jobs that run: workflow rules, job rules, variables.

use std::collections::HashSet;

use indexmap::IndexMap;

use crate::{
    config::Config,
    diagnostic::{Diagnostic, has_errors},
    keyword::{
        job::JobConfig,
        only,
        rules::{Rule, RuleWhen, Scope, first_match},
        variables::Variables,
    },
    pipeline::{AllowFailure, Bridge, ChildInclude, Downstream, Job, Need, Pipeline, PipelineContext, When},
    variables::{ExpandableVariable, expand_blank, expand_existing, sort_and_expand},
};

/// Most jobs that one job may need.
const MAX_NEEDS: usize = 50;
/// Longest name of a pipeline.
const MAX_NAME_CHARS: usize = 255;

/// Decides which jobs run. Call it with a configuration without errors: what was not understood is missing here.
pub fn evaluate(config: &Config, context: &PipelineContext) -> (Pipeline, Vec<Diagnostic>) {
    let mut problems = Vec::new();
    let evaluation = match Evaluation::new(config, context) {
        Ok(Some(evaluation)) => evaluation,
        Ok(None) => {
            problems.push(
                Diagnostic::error(
                    "filtered-by-workflow-rules",
                    "The pipeline did not run. Review the workflow:rules configuration for the pipeline.",
                )
                .help("no rule matches, or the one that does says `when: never`"),
            );
            return (Pipeline::default(), problems);
        }
        Err(problem) => {
            problems.push(problem);
            return (Pipeline::default(), problems);
        }
    };
    let mut jobs = Vec::new();
    for job in config.jobs.values() {
        match evaluation.job(job) {
            Ok(job) => jobs.extend(job),
            Err(problem) => {
                let message = format!("Failed to parse rule for {}: {}", job.name, problem.message);
                problems.push(Diagnostic { message, ..problem });
            }
        }
    }
    let stage_index = |job: &Job| config.stages.iter().position(|stage| *stage == job.stage);
    jobs.sort_by_key(stage_index);
    check_variables(&jobs, &mut problems);
    check_needs(&mut jobs, &mut problems);
    if !has_errors(&problems) && !config.jobs.is_empty() && jobs.iter().all(|job| matches!(job.stage.as_str(), ".pre" | ".post")) {
        problems.push(
            Diagnostic::error(
                "filtered-by-rules",
                "The resulting pipeline would have been empty. Review the rules configuration for the relevant jobs.",
            )
            .help("no job's rules hold for this ref and source; jobs in `.pre` and `.post` alone make no pipeline"),
        );
    }
    let stages = config.stages.iter().filter(|stage| jobs.iter().any(|job| job.stage == **stage)).cloned().collect();
    let name = evaluation.pipeline_name(config);
    (Pipeline { name, stages, jobs, cancel_on_failure: config.workflow.cancel_on_failure }, problems)
}

/// Returns the variables of the matching workflow rule, or nothing when there is no pipeline.
fn workflow_variables(config: &Config, context: &PipelineContext) -> Result<Option<Variables>, Diagnostic> {
    let Some(rules) = &config.workflow.rules else { return Ok(Some(Variables::new())) };
    let variables = layers(context, &config.variables);
    let rule = first_match(rules, &Scope { variables: &variables, repository: context.repository.as_deref() })?;
    let variables = |rule: &Rule| rule.variables.iter().map(|variable| (variable.key.clone(), variable.clone())).collect();
    Ok(rule.filter(|rule| !rule.is_never()).map(variables))
}

/// Predefined variables, the configuration's over them, and those the pipeline was started with over all.
pub(crate) fn layers(context: &PipelineContext, configured: &Variables) -> IndexMap<String, String> {
    let mut variables = context.predefined.clone();
    variables.extend(configured.iter().map(|(name, variable)| (name.clone(), variable.value.clone())));
    variables.extend(context.variables.clone());
    variables
}

/// Deciding about the jobs of a pipeline that the workflow lets be.
pub(crate) struct Evaluation<'a> {
    context: &'a PipelineContext,
    workflow_variables: Variables,
    has_workflow_rules: bool,
}

/// Whether a job is part of the pipeline.
enum Verdict<'r> {
    /// With the rule that says so, where there are rules.
    Included(Option<&'r Rule>),
    LeftOut,
}

impl<'a> Evaluation<'a> {
    /// Returns nothing when the workflow refuses the pipeline.
    pub(crate) fn new(config: &Config, context: &'a PipelineContext) -> Result<Option<Self>, Diagnostic> {
        let variables = workflow_variables(config, context)?;
        let has_workflow_rules = config.workflow.rules.is_some();
        Ok(variables.map(|workflow_variables| Self { context, workflow_variables, has_workflow_rules }))
    }

    /// Returns the job when it is part of the pipeline.
    pub(crate) fn job(&self, config: &JobConfig) -> Result<Option<Job>, Diagnostic> {
        let variables = self.configured(config);
        match self.verdict(config, &self.visible(config, &variables))? {
            Verdict::Included(rule) => Ok(self.included(config, rule, variables)),
            Verdict::LeftOut => Ok(None),
        }
    }

    /// Returns the variables of the root, the workflow and the job, those of the matrix among the last.
    pub(crate) fn configured(&self, config: &JobConfig) -> Variables {
        let mut variables = config.variables.clone();
        for (name, variable) in &self.workflow_variables {
            if !config.own_variables.contains_key(name) {
                variables.insert(name.clone(), variable.clone());
            }
        }
        variables
    }

    fn verdict<'c>(&self, config: &'c JobConfig, variables: &IndexMap<String, String>) -> Result<Verdict<'c>, Diagnostic> {
        let scope = Scope { variables, repository: self.context.repository.as_deref() };
        if let Some(rules) = &config.rules {
            return Ok(first_match(rules, &scope)?.map_or(Verdict::LeftOut, |rule| Verdict::Included(Some(rule))));
        }
        let only = self.only(config);
        let is_wanted = only.verdicts(&scope)?.iter().all(|(_, holds)| *holds);
        let except = config.except.as_ref().map(|except| except.verdicts(&scope)).transpose()?;
        let is_unwanted = except.iter().flatten().any(|(_, holds)| *holds);
        Ok(if is_wanted && !is_unwanted { Verdict::Included(None) } else { Verdict::LeftOut })
    }

    /// Returns `only` with its default, which `workflow:rules` take away from jobs that do not say it.
    pub(crate) fn only(&self, config: &JobConfig) -> only::Policy {
        let mut policy = config.only.clone().unwrap_or_default();
        if policy.refs.is_none() && (config.only.is_some() || !self.has_workflow_rules) {
            policy.refs = Some(only::branches_and_tags());
        }
        policy
    }

    fn included(&self, config: &JobConfig, rule: Option<&Rule>, mut variables: Variables) -> Option<Job> {
        let base_when = config.when.unwrap_or_default();
        let when = match rule.and_then(|rule| rule.when) {
            Some(RuleWhen::Never) => return None,
            Some(RuleWhen::Run(when)) => when,
            None => base_when,
        };
        // Only a job-level `when: manual` is allowed to fail by itself; one from a rule is not.
        let default_allow_failure = if base_when == When::Manual { AllowFailure::Always } else { AllowFailure::Never };
        let allow_failure =
            rule.and_then(|rule| rule.allow_failure.clone()).or_else(|| config.allow_failure.clone()).unwrap_or(default_allow_failure);
        for variable in rule.iter().flat_map(|rule| &rule.variables) {
            variables.insert(variable.key.clone(), variable.clone());
        }
        let visible = self.visible(config, &variables);
        let mut environment = config.environment.clone();
        if let Some(environment) = &mut environment {
            environment.name = expand_blank(&environment.name, &visible);
            environment.tier = environment.tier.take().map(|tier| expand_blank(&tier, &visible));
        }
        Some(Job {
            name: config.name.clone(),
            group: config.group.clone(),
            node: config.node,
            stage: config.stage.clone(),
            span: config.span,
            image: config.image.clone(),
            services: config.services.clone(),
            variables: variables.into_values().collect(),
            script: config.script.clone(),
            after_script: config.after_script.clone(),
            pre_get_sources_script: config.pre_get_sources_script.clone(),
            needs: rule.and_then(|rule| rule.needs.clone()).or_else(|| config.needs.clone()),
            other_needs: config.other_needs.clone(),
            dependencies: config.dependencies.as_ref().map(|names| names.iter().map(|(name, _)| name.clone()).collect()),
            when,
            start_in_secs: rule.and_then(|rule| rule.start_in_secs).or(config.start_in_secs).filter(|_| when == When::Delayed),
            allow_failure,
            artifacts: config.artifacts.clone(),
            cache: config.cache.clone(),
            timeout_secs: config.timeout_secs,
            retry: config.retry.clone(),
            tags: config.tags.iter().map(|tag| expand_existing(tag, &visible)).collect(),
            interruptible: rule.and_then(|rule| rule.interruptible).unwrap_or(config.interruptible),
            environment,
            has_steps: config.has_steps,
            bridge: config.bridge.as_ref().map(|bridge| expanded_bridge(bridge, &visible)),
            release: config.release.clone(),
            coverage: config.coverage.clone(),
            resource_group: config.resource_group.as_ref().map(|group| expand_blank(group, &visible)),
        })
    }

    /// Returns the variables that a job's rules see.
    pub(crate) fn visible(&self, job: &JobConfig, configured: &Variables) -> IndexMap<String, String> {
        let mut predefined = self.context.predefined.clone();
        predefined.insert("CI_JOB_NAME".to_owned(), job.name.clone());
        predefined.insert("CI_JOB_STAGE".to_owned(), job.stage.clone());
        predefined.insert("CI_JOB_GROUP_NAME".to_owned(), job.group.clone());
        predefined.extend(job.node.map(|node| ("CI_NODE_INDEX".to_owned(), node.index.to_string())));
        predefined.insert("CI_NODE_TOTAL".to_owned(), job.node.map_or(1, |node| node.total).to_string());
        layers(&PipelineContext { predefined, variables: self.context.variables.clone(), ..PipelineContext::default() }, configured)
    }

    fn pipeline_name(&self, config: &Config) -> Option<String> {
        let mut configured = config.variables.clone();
        configured.extend(self.workflow_variables.clone());
        let name = expand_blank(config.workflow.name.as_ref()?, &layers(self.context, &configured));
        let name: String = name.trim().chars().take(MAX_NAME_CHARS).collect();
        (!name.is_empty()).then_some(name)
    }
}

/// Names of projects and paths of artifacts may hold variables. Those of other files are expanded where the child is made.
fn expanded_bridge(bridge: &Bridge, variables: &IndexMap<String, String>) -> Bridge {
    let mut bridge = bridge.clone();
    bridge.branch = bridge.branch.map(|branch| expand_blank(&branch, variables));
    match &mut bridge.downstream {
        Downstream::Project(path) => *path = expand_blank(path, variables),
        Downstream::Child(includes) => {
            for include in includes {
                if let ChildInclude::Artifact { path, .. } = include {
                    *path = expand_blank(path, variables);
                }
            }
        }
    }
    bridge
}

/// Variables of a job must not refer to each other in a circle.
fn check_variables(jobs: &[Job], problems: &mut Vec<Diagnostic>) {
    for job in jobs {
        let expandable = job.variables.iter().map(|variable| ExpandableVariable {
            key: variable.key.clone(),
            value: variable.value.clone(),
            raw: variable.raw,
            file: false,
        });
        if let Err(circle) = sort_and_expand(expandable.collect()) {
            let message = format!("{}: circular variable reference detected: {:?}", job.name, circle.names);
            problems.push(
                Diagnostic::error("variables-cycle", message).at(job.span).help("a value may name other variables, but not in a circle"),
            );
        }
    }
}

/// Needed jobs must be part of the pipeline, unless they are optional; those are dropped.
fn check_needs(jobs: &mut [Job], problems: &mut Vec<Diagnostic>) {
    let names: HashSet<String> = jobs.iter().map(|job| job.name.clone()).collect();
    let is_present = |need: &Need| names.contains(&need.job);
    for job in jobs {
        let Some(needs) = &mut job.needs else { continue };
        if needs.len() > MAX_NEEDS {
            let message = format!(
                "{}: one job can only need {MAX_NEEDS} others, but you have listed {}. See needs keyword documentation for more details",
                job.name,
                needs.len()
            );
            problems.push(
                Diagnostic::error("needs-limit", message)
                    .at(needs[0].span)
                    .help("an entry with `parallel` counts once for each of its jobs"),
            );
        }
        for need in needs.iter().filter(|need| !need.optional && !is_present(need)) {
            let message = format!(
                "'{}' job needs '{}' job, but '{}' does not exist in the pipeline. This might be because of the only, except, or rules keywords. To need a job that sometimes does not exist in the pipeline, use needs:optional.",
                job.name, need.job, need.job
            );
            problems.push(
                Diagnostic::error("needs-filtered-job", message)
                    .at(need.span)
                    .help(format!("write `- job: {}` with `optional: true`, or give both jobs the same rules", need.job)),
            );
        }
        needs.retain(is_present);
    }
}
