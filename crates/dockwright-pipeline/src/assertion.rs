//! Assertions about pipelines: a file of cases, each for one ref and event, that says which jobs there are and what they are like.
//!
//! ```yaml
//! main deploys:
//!   pipeline: {ref: main, variables: {TARGET: production}}
//!   jobs:
//!     build:
//!     deploy: {stage: deploy, when: manual, needs: [build], variables: {ENVIRONMENT: production}}
//!   absent: [release]
//! ```
//!
//! The file is read like a configuration, and what does not hold is a [`Diagnostic`] at the assertion. Evaluating the pipeline of a case is
//! the caller's part, because only the caller knows the repository.

mod reader;

use crate::{
    config::Config,
    diagnostic::Diagnostic,
    explain::variables_of,
    pipeline::{AllowFailure, Job, Pipeline, PipelineContext},
    source::{SourceId, Sources, Span},
    suggestion::did_you_mean,
};

/// One case of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    pub name: String,
    pub span: Span,
    pub situation: Situation,
    jobs: Vec<ExpectedJob>,
    /// Names of jobs that must not be there.
    absent: Vec<(String, Span)>,
    /// There are no other jobs than those of `jobs`.
    exact: bool,
}

/// What the pipeline of a case is for; what is not said is as it is on the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Situation {
    pub reference: Option<String>,
    pub tag: Option<String>,
    pub event: Option<String>,
    pub target_branch: Option<String>,
    /// Paths that the event changed.
    pub changes: Option<Vec<String>>,
    pub variables: Vec<(String, String)>,
    pub inputs: Vec<(String, String)>,
}

/// A job that must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ExpectedJob {
    name: String,
    span: Span,
    properties: Vec<(Property, Span)>,
}

/// What a job must be like.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Property {
    Stage(String),
    When(String),
    AllowFailure(bool),
    /// Absent: it runs in the shell.
    Image(Option<String>),
    Needs(Vec<String>),
    /// Absent value: the variable is not set.
    Variable(String, Option<String>),
}

/// Reads the cases of a file, and what is wrong with it.
pub fn read_cases(source: SourceId, sources: &Sources) -> (Vec<Case>, Vec<Diagnostic>) {
    let mut problems = Vec::new();
    let cases = reader::read(source, sources, &mut problems);
    (cases, problems)
}

impl Case {
    /// Returns what does not hold in a pipeline that was evaluated for the situation of this case.
    pub fn check(&self, config: &Config, context: &PipelineContext, pipeline: &Pipeline) -> Vec<Diagnostic> {
        let mut failures = Vec::new();
        for expected in &self.jobs {
            let jobs: Vec<&Job> = jobs_of(pipeline, &expected.name).collect();
            if jobs.is_empty() {
                failures.push(missing(expected, config));
            }
            for job in jobs {
                failures.extend(expected.properties.iter().filter_map(|(property, span)| {
                    let actual = property.difference(job, config, context)?;
                    Some(Diagnostic::error("job-differs", format!("job `{}` {actual}", job.name)).at(*span))
                }));
            }
        }
        for (name, span) in &self.absent {
            if jobs_of(pipeline, name).next().is_some() {
                let message = format!("job `{name}` is part of this pipeline");
                failures.push(Diagnostic::error("job-present", message).at(*span).help(format!("`dockwright why {name}` says why")));
            }
        }
        failures.extend(self.unexpected(pipeline));
        failures
    }

    fn unexpected(&self, pipeline: &Pipeline) -> Option<Diagnostic> {
        let is_expected = |job: &Job| self.jobs.iter().any(|expected| expected.name == job.name || expected.name == job.group);
        let others: Vec<&str> = pipeline.jobs.iter().filter(|job| !is_expected(job)).map(|job| job.name.as_str()).collect();
        let message = format!("this pipeline also has `{}`", others.join("`, `"));
        (self.exact && !others.is_empty()).then(|| {
            let help = "`exact: true` allows only the jobs under `jobs`";
            Diagnostic::error("job-unexpected", message).at(self.span).help(help)
        })
    }
}

/// Returns the jobs that a name means: one, or those that `parallel` makes of it.
fn jobs_of<'p>(pipeline: &'p Pipeline, name: &str) -> impl Iterator<Item = &'p Job> {
    pipeline.jobs.iter().filter(move |job| job.name == name || job.group == name)
}

fn missing(expected: &ExpectedJob, config: &Config) -> Diagnostic {
    let name = &expected.name;
    let problem = Diagnostic::error("job-missing", format!("job `{name}` is not part of this pipeline")).at(expected.span);
    if config.jobs_named(name).is_empty() {
        return problem.help_if(did_you_mean(name, config.job_names()));
    }
    problem.help(format!("its rules leave it out; `dockwright why {name}` says which"))
}

impl Property {
    /// Returns what is so instead.
    fn difference(&self, job: &Job, config: &Config, context: &PipelineContext) -> Option<String> {
        match self {
            Self::Stage(expected) => differs("stage", expected, &job.stage),
            Self::When(expected) => differs("when", expected, job.when.as_str()),
            Self::AllowFailure(expected) => {
                let actual = job.allow_failure != AllowFailure::Never;
                differs("allow_failure", &expected.to_string(), &actual.to_string())
            }
            Self::Image(expected) => {
                let actual = job.image.as_ref().map(|image| image.name.as_str());
                differs("image", expected.as_deref().unwrap_or("null"), actual.unwrap_or("null"))
            }
            Self::Needs(expected) => needs_difference(expected, job),
            Self::Variable(key, expected) => {
                let variables = variables_of(config, context, &job.name).unwrap_or_default();
                let actual = variables.iter().find(|variable| variable.key == *key).map(|variable| variable.value.as_str());
                match (expected.as_deref(), actual) {
                    (expected, actual) if expected == actual => None,
                    (_, None) => Some(format!("has no variable `{key}`")),
                    (Some(expected), Some(actual)) => Some(format!("has the variable `{key}` with {actual:?}, not {expected:?}")),
                    (None, Some(actual)) => Some(format!("has the variable `{key}` with {actual:?}")),
                }
            }
        }
    }
}

fn differs(keyword: &str, expected: &str, actual: &str) -> Option<String> {
    (expected != actual).then(|| format!("has `{keyword}: {actual}`, not `{expected}`"))
}

fn needs_difference(expected: &[String], job: &Job) -> Option<String> {
    let Some(needs) = &job.needs else {
        return Some("has no `needs`: it waits for all earlier stages".to_owned());
    };
    let sorted = |names: &mut dyn Iterator<Item = &str>| {
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort_unstable();
        names
    };
    let actual = sorted(&mut needs.iter().map(|need| need.job.as_str()));
    let expected = sorted(&mut expected.iter().map(String::as_str));
    differs("needs", &format!("[{}]", expected.join(", ")), &format!("[{}]", actual.join(", ")))
}

#[cfg(test)]
mod tests;
