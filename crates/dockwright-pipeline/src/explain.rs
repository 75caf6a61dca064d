//! Why a job is part of a pipeline or not: every rule that was looked at, and the values that it saw.

use indexmap::IndexMap;

use crate::{
    config::Config,
    diagnostic::Diagnostic,
    evaluate::Evaluation,
    keyword::{
        job::JobConfig,
        only::Policy,
        rules::{Clause, Rule, RuleWhen, Scope},
    },
    pipeline::PipelineContext,
    source::Span,
};

/// Why a job is part of a pipeline, or is not.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    pub job: String,
    /// The job's name in the configuration.
    pub span: Span,
    /// The rules of `workflow` up to the one that decided; empty where there are none.
    pub workflow: Vec<RuleTrace>,
    /// The rules of the job up to the one that decided.
    pub rules: Vec<RuleTrace>,
    /// What `only` and `except` speak of, where there are no rules.
    pub policies: Vec<PolicyTrace>,
    /// GitLab's word for when the job runs; absent: it is left out.
    pub when: Option<&'static str>,
    /// What the workflow says keeps every job out.
    pub is_pipeline_refused: bool,
}

/// A rule that was looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleTrace {
    pub span: Span,
    /// Its clauses up to the first that does not hold.
    pub clauses: Vec<ClauseTrace>,
    /// All of them hold: this rule decides.
    pub matches: bool,
    /// `when` of the rule.
    pub when: Option<&'static str>,
}

/// A clause of a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct ClauseTrace {
    /// As it was written.
    pub text: String,
    pub holds: bool,
    /// The variables that it names; absent values are not defined.
    pub variables: Vec<(String, Option<String>)>,
}

/// A part of `only` or `except`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyTrace {
    /// `only` or `except`.
    pub keyword: &'static str,
    /// `refs`, `variables`, `changes` or `kubernetes`.
    pub part: &'static str,
    pub holds: bool,
    /// Absent: it is the default.
    pub span: Option<Span>,
}

/// A variable of a job, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariableOrigin {
    pub key: String,
    /// With references expanded, as far as they are known before the job runs.
    pub value: String,
    pub origin: Origin,
}

/// Where a variable comes from; a later one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    Predefined,
    /// `variables` of the root.
    Root,
    /// The matching rule of `workflow`.
    Workflow,
    Job,
    /// `parallel:matrix`.
    Matrix,
    /// The matching rule of the job.
    Rule,
    /// Given when the pipeline was started.
    Given,
}

impl Origin {
    /// Says it in the words of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Predefined => "predefined",
            Self::Root => "variables",
            Self::Workflow => "workflow:rules",
            Self::Job => "job",
            Self::Matrix => "parallel:matrix",
            Self::Rule => "rules",
            Self::Given => "given",
        }
    }
}

impl Config {
    /// Returns the jobs that a name means, in this pipeline or not: one job, or all that `parallel` makes of an entry.
    pub fn jobs_named(&self, name: &str) -> Vec<&str> {
        self.jobs.values().filter(|job| job.name == name || job.group == name).map(|job| job.name.as_str()).collect()
    }
}

/// Explains what becomes of a job of the configuration. Absent: there is none of this name.
pub fn explain(config: &Config, context: &PipelineContext, name: &str) -> Option<Result<Explanation, Diagnostic>> {
    let job = config.jobs.get(name)?;
    Some(explain_job(config, context, job))
}

fn explain_job(config: &Config, context: &PipelineContext, job: &JobConfig) -> Result<Explanation, Diagnostic> {
    let repository = context.repository.as_deref();
    let mut explanation = Explanation {
        job: job.name.clone(),
        span: job.span,
        workflow: Vec::new(),
        rules: Vec::new(),
        policies: Vec::new(),
        when: None,
        is_pipeline_refused: false,
    };
    if let Some(rules) = &config.workflow.rules {
        let variables = crate::evaluate::layers(context, &config.variables);
        explanation.workflow = trace_rules(rules, &Scope { variables: &variables, repository })?;
    }
    let Some(evaluation) = Evaluation::new(config, context)? else {
        explanation.is_pipeline_refused = true;
        return Ok(explanation);
    };
    let variables = evaluation.visible(job, &evaluation.configured(job));
    let scope = Scope { variables: &variables, repository };
    match &job.rules {
        Some(rules) => explanation.rules = trace_rules(rules, &scope)?,
        None => {
            explanation.policies = trace_policy("only", &evaluation.only(job), &scope)?;
            explanation
                .policies
                .extend(job.except.iter().map(|except| trace_policy("except", except, &scope)).collect::<Result<Vec<_>, _>>()?.concat());
        }
    }
    explanation.when = evaluation.job(job)?.map(|job| job.when.as_str());
    Ok(explanation)
}

fn trace_rules(rules: &[Rule], scope: &Scope<'_>) -> Result<Vec<RuleTrace>, Diagnostic> {
    let mut traces = Vec::new();
    for rule in rules {
        let trace = trace_rule(rule, scope)?;
        let decides = trace.matches;
        traces.push(trace);
        if decides {
            break;
        }
    }
    Ok(traces)
}

fn trace_rule(rule: &Rule, scope: &Scope<'_>) -> Result<RuleTrace, Diagnostic> {
    let mut clauses = Vec::new();
    for clause in rule.clauses() {
        let holds = clause.holds(scope)?;
        clauses.push(trace_clause(clause, holds, scope.variables));
        if !holds {
            break;
        }
    }
    let when = rule.when.map(|when| match when {
        RuleWhen::Never => "never",
        RuleWhen::Run(when) => when.as_str(),
    });
    let matches = clauses.iter().all(|clause| clause.holds);
    Ok(RuleTrace { span: rule.span, clauses, matches, when })
}

fn trace_clause(clause: Clause<'_>, holds: bool, values: &IndexMap<String, String>) -> ClauseTrace {
    let (text, names) = match clause {
        Clause::If(condition) => (format!("if: {}", condition.text), condition.expression.variables()),
        Clause::Changes(changes) => (changes.to_string(), Vec::new()),
        Clause::Exists(exists) => (exists.to_string(), Vec::new()),
    };
    let variables = names.into_iter().map(|name| (name.to_owned(), values.get(name).cloned())).collect();
    ClauseTrace { text, holds, variables }
}

fn trace_policy(keyword: &'static str, policy: &Policy, scope: &Scope<'_>) -> Result<Vec<PolicyTrace>, Diagnostic> {
    let parts = policy.verdicts(scope)?;
    Ok(parts.into_iter().map(|(part, holds)| PolicyTrace { keyword, part, holds, span: policy.span }).collect())
}

/// Returns the variables of a job, by name, each with where it comes from. Absent: the job is not part of the pipeline.
pub fn variables_of(config: &Config, context: &PipelineContext, name: &str) -> Option<Vec<VariableOrigin>> {
    let job = config.jobs.get(name)?;
    let evaluation = Evaluation::new(config, context).ok()??;
    let evaluated = evaluation.job(job).ok()??;
    let configured = evaluation.configured(job);
    let values = evaluation.visible(job, &evaluated.variables.iter().map(|variable| (variable.key.clone(), variable.clone())).collect());
    let origin = |key: &String| {
        let ruled = evaluated.variables.iter().find(|variable| variable.key == *key);
        match ruled {
            _ if context.variables.contains_key(key) => Origin::Given,
            None => Origin::Predefined,
            Some(variable) if configured.get(key) != Some(variable) => Origin::Rule,
            Some(_) if job.matrix.contains_key(key) => Origin::Matrix,
            Some(_) if job.own_variables.contains_key(key) => Origin::Job,
            Some(variable) if config.variables.get(key) != Some(variable) => Origin::Workflow,
            Some(_) => Origin::Root,
        }
    };
    let raw = |key: &String| evaluated.variables.iter().any(|variable| variable.key == *key && variable.raw);
    let expandable = values.iter().map(|(key, value)| crate::variables::ExpandableVariable {
        key: key.clone(),
        value: value.clone(),
        raw: raw(key),
        file: false,
    });
    let expanded = crate::variables::sort_and_expand(expandable.collect()).ok()?;
    let mut variables: Vec<VariableOrigin> = expanded
        .into_iter()
        .map(|variable| VariableOrigin { origin: origin(&variable.key), key: variable.key, value: variable.value })
        .collect();
    variables.sort_by(|left, right| left.key.cmp(&right.key));
    Some(variables)
}
