//! `dockwright why JOB`.

use dockwright_pipeline::{Explanation, PolicyTrace, RuleTrace, Sources, Span, explain};
use serde::Serialize;

use crate::{
    cli::WhyArgs,
    error::CommandError,
    exit_code::ExitCode,
    report::{FAINT, SUCCESS, Streams, print_problem},
    settings::{GlobalSettings, ProjectSettings},
    wire::{Checkout, LoadedPipeline, no_such_job},
};

#[derive(Serialize)]
struct Report<'e> {
    job: &'e str,
    included: bool,
    /// Absent: the job is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    when: Option<&'static str>,
    /// `workflow:rules` refuse the whole pipeline.
    pipeline_refused: bool,
    workflow_rules: Vec<RuleLine<'e>>,
    rules: Vec<RuleLine<'e>>,
    only_except: Vec<PolicyLine>,
}

#[derive(Serialize)]
struct RuleLine<'e> {
    file: &'e str,
    line: usize,
    matches: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    when: Option<&'static str>,
    clauses: Vec<ClauseLine<'e>>,
}

#[derive(Serialize)]
struct ClauseLine<'e> {
    text: &'e str,
    holds: bool,
    /// By name; null where the variable is not defined.
    variables: serde_json::Map<String, serde_json::Value>,
}

#[derive(Serialize)]
struct PolicyLine {
    keyword: &'static str,
    part: &'static str,
    holds: bool,
    /// Nobody wrote it.
    default: bool,
}

pub(super) fn run(arguments: &WhyArgs, settings: &GlobalSettings, streams: Streams) -> Result<ExitCode, CommandError> {
    let project = ProjectSettings::decide(&arguments.project, &settings.file.run)?;
    let checkout = Checkout::temporary()?;
    let loaded = LoadedPipeline::load(&project, settings, None, checkout.path())?;
    if !loaded.is_understood {
        loaded.report_problems()?;
    }
    let names = loaded.config.jobs_named(&arguments.job);
    if names.is_empty() {
        return Err(no_such_job(&arguments.job, &loaded.config));
    }
    let mut explanations = Vec::new();
    for explained in names.iter().filter_map(|name| explain(&loaded.config, &loaded.context, name)) {
        explanations.push(explained.map_err(|problem| {
            print_problem(&problem, &loaded.sources);
            CommandError::configuration("the rules cannot be followed because of the problem above")
        })?);
    }
    if arguments.json {
        streams.json(&explanations.iter().map(|explanation| report(explanation, &loaded.sources)).collect::<Vec<_>>());
    } else {
        for explanation in &explanations {
            print(explanation, &loaded.sources, streams);
        }
    }
    Ok(ExitCode::Success)
}

fn report<'e>(explanation: &'e Explanation, sources: &'e Sources) -> Report<'e> {
    let rules = |rules: &'e [RuleTrace]| rules.iter().map(|rule| rule_line(rule, sources)).collect();
    Report {
        job: &explanation.job,
        included: explanation.when.is_some(),
        when: explanation.when,
        pipeline_refused: explanation.is_pipeline_refused,
        workflow_rules: rules(&explanation.workflow),
        rules: rules(&explanation.rules),
        only_except: explanation.policies.iter().map(policy_line).collect(),
    }
}

fn rule_line<'e>(rule: &'e RuleTrace, sources: &'e Sources) -> RuleLine<'e> {
    let clauses = rule.clauses.iter().map(|clause| ClauseLine {
        text: &clause.text,
        holds: clause.holds,
        variables: clause.variables.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect(),
    });
    RuleLine {
        file: &sources.get(rule.span.source).name,
        line: sources.position(rule.span).line,
        matches: rule.matches,
        when: rule.when,
        clauses: clauses.collect(),
    }
}

fn policy_line(policy: &PolicyTrace) -> PolicyLine {
    PolicyLine { keyword: policy.keyword, part: policy.part, holds: policy.holds, default: policy.span.is_none() }
}

fn print(explanation: &Explanation, sources: &Sources, streams: Streams) {
    let verdict = match explanation.when {
        Some(when) => format!("is part of the pipeline, with `when: {when}`"),
        None if explanation.is_pipeline_refused => "does not run: `workflow:rules` refuse the pipeline".to_owned(),
        None => "is left out".to_owned(),
    };
    streams.data(format!("{} {verdict}", explanation.job));
    print_rules("workflow:rules", &explanation.workflow, sources, streams);
    if explanation.is_pipeline_refused {
        return;
    }
    print_rules("rules", &explanation.rules, sources, streams);
    for policy in &explanation.policies {
        let place = policy.span.map_or_else(|| "by default".to_owned(), |span| place(span, sources));
        let sign = sign(policy.holds);
        streams.data(format!("  {}: {} {}  {FAINT}{place}{FAINT:#}", policy.keyword, policy.part, sign));
    }
    if explanation.rules.is_empty() && explanation.policies.iter().all(|policy| policy.span.is_none()) {
        streams.data("  it has no rules: such a job is for branches and tags, and only `workflow:rules` can keep it from others");
    }
}

fn print_rules(title: &str, rules: &[RuleTrace], sources: &Sources, streams: Streams) {
    if rules.is_empty() {
        return;
    }
    streams.data(format!("  {title}"));
    for rule in rules {
        let decision = match (rule.matches, rule.when) {
            (true, Some(when)) => format!("{SUCCESS}decides{SUCCESS:#}: when: {when}"),
            (true, None) => format!("{SUCCESS}decides{SUCCESS:#}"),
            (false, _) => "does not match".to_owned(),
        };
        streams.data(format!("    {}  {decision}", place(rule.span, sources)));
        for clause in &rule.clauses {
            streams.data(format!("      {}  {}", clause.text, sign(clause.holds)));
            for (name, value) in &clause.variables {
                let value = value.as_ref().map_or_else(|| "not defined".to_owned(), |value| format!("{value:?}"));
                streams.data(format!("        {FAINT}${name} is {value}{FAINT:#}"));
            }
        }
    }
    if !rules.iter().any(|rule| rule.matches) {
        streams.data("    no rule matches");
    }
}

fn sign(holds: bool) -> &'static str {
    if holds { "holds" } else { "does not hold" }
}

fn place(span: Span, sources: &Sources) -> String {
    format!("{}:{}", sources.get(span.source).name, sources.position(span).line)
}
