//! `run`, `list`, `lint`: the commands about a project's pipeline.

use std::{path::PathBuf, str::FromStr};

use clap::{Args, ValueEnum};

use crate::environment;

/// Run the pipeline, or some of its jobs and what they need
///
/// Reads .gitlab-ci.yml of the repository you are in and runs its jobs as GitLab would: stages and needs decide the order, jobs without
/// `image:` run in your shell, jobs with one in a container. Every job has a Docker engine of its own, reachable in all the ways that
/// GitLab's documentation describes; a `docker:dind` service costs nothing. Uncommitted changes of tracked files are part of the run.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  \
    dockwright run                              The whole pipeline\n  \
    dockwright run build                        One job, and the jobs it needs\n  \
    dockwright run --variable DEPLOY=no         With a pipeline variable\n  \
    dockwright run --tag v1.2                   As GitLab would for a pushed tag\n  \
    dockwright run --docker-host unix:///var/run/docker.sock\n                                              \
    Jobs on a Docker daemon you already have\n  \
    dockwright run --json | jq .                Events for programs")]
pub(crate) struct RunArgs {
    /// Jobs to run; each brings the jobs it needs. Without any, the whole pipeline runs
    #[arg(value_name = "JOB")]
    pub(crate) jobs: Vec<String>,
    #[command(flatten)]
    pub(crate) project: ProjectArgs,
    /// How many jobs run at once; without it, as many as the machine has processors
    #[arg(short = 'j', long = "jobs", env = environment::JOBS, hide_env_values = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) concurrency: Option<u16>,
    /// Run jobs in containers of this Docker daemon instead of the embedded engine: `unix:///path` or `tcp://host:port`
    #[arg(long, env = environment::DOCKER_ENDPOINT, hide_env_values = true, value_name = "URL", help_heading = "Where jobs run", conflicts_with = "no_engine")]
    pub(crate) docker_host: Option<String>,
    /// Give jobs no Docker: jobs with an image fail, shell jobs run with what the machine has
    #[arg(long, help_heading = "Where jobs run")]
    pub(crate) no_engine: bool,
    /// When to pull the images of jobs and services
    #[arg(long, env = environment::PULL, hide_env_values = true, value_enum, value_name = "POLICY", help_heading = "Where jobs run")]
    pub(crate) pull: Option<PullPolicy>,
    /// What becomes of jobs with `when: delayed`; a job that is named starts at once
    #[arg(long, value_enum, value_name = "HOW", help_heading = "Pipeline")]
    pub(crate) delayed: Option<Delayed>,
    /// Copy the artifacts of every job to this directory, one directory per job
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    pub(crate) keep_artifacts: Option<PathBuf>,
    /// Print one JSON object per event to standard output
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    /// Print only failures
    #[arg(short, long, help_heading = "Output", conflicts_with = "json")]
    pub(crate) quiet: bool,
}

/// Show the jobs of the pipeline without running them
///
/// Evaluates rules as `dockwright run` would with the same flags, and says for each job whether it would run, wait or be left out.
#[derive(Debug, Clone, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) project: ProjectArgs,
    /// Print the jobs as one JSON document
    #[arg(long, help_heading = "Output", group = "form")]
    pub(crate) json: bool,
    /// Print the jobs by stages, each with the jobs that it needs
    #[arg(long, help_heading = "Output", group = "form")]
    pub(crate) graph: bool,
    /// Print stages, jobs and what they need as a picture: `dockwright list --svg > pipeline.svg`
    #[arg(long, help_heading = "Output", group = "form")]
    pub(crate) svg: bool,
    /// Print the names of all jobs, in the pipeline or not, and look for nothing elsewhere: for completion scripts
    #[arg(long, hide = true, group = "form")]
    pub(crate) names: bool,
}

/// Check .gitlab-ci.yml and point at what is wrong
///
/// Ends with 0 when the file is valid, 3 when it is not. Warnings name what GitLab accepts but this version of dockwright does not do.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  \
    dockwright lint                                               For people\n  \
    dockwright lint --format code-quality > gl-code-quality.json  As `artifacts:reports:codequality` of GitLab\n  \
    dockwright lint --format sarif > dockwright.sarif             For code scanning and editors\n  \
    dockwright lint --schema > gitlab-ci.schema.json              A JSON schema, for editors without `dockwright lsp`")]
pub(crate) struct LintArgs {
    #[command(flatten)]
    pub(crate) project: ProjectArgs,
    /// How to print the problems; all but `text` go to standard output
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t, help_heading = "Output")]
    pub(crate) format: LintFormat,
    /// Print the problems as one JSON document: the same as `--format json`
    #[arg(long, help_heading = "Output", conflicts_with = "format")]
    pub(crate) json: bool,
    /// Check nothing; print a JSON schema of the language, from which editors take hints and completion
    #[arg(long, help_heading = "Output", conflicts_with_all = ["format", "json"])]
    pub(crate) schema: bool,
}

/// What `lint` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum LintFormat {
    /// For people, with the lines that are wrong
    #[default]
    Text,
    /// One document of this program's own
    Json,
    /// SARIF 2.1.0
    Sarif,
    /// GitLab's code quality report
    CodeQuality,
}

/// Help an editor with .gitlab-ci.yml: problems, completion, explanations, definitions
///
/// Speaks the Language Server Protocol over standard input and output. Problems are those of `dockwright lint` for the text in the editor,
/// saved or not. docs/guide/editors.md says how editors are set up.
#[derive(Debug, Clone, Args)]
pub(crate) struct LspArgs {
    /// The pipeline's configuration file, relative to the project's root
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Use only what .gitlab-ci.lock names of other projects and addresses, and fetch nothing
    #[arg(long)]
    pub(crate) frozen: bool,
    /// Speak over standard input and output; some editors add this, and there is no other way
    #[arg(long)]
    pub(crate) stdio: bool,
}

/// Show the configuration as one document, with everything that it includes
///
/// Included files are merged, inputs filled in, `extends` and `!reference` resolved: the "full configuration" of GitLab's editor. It is
/// printed even when jobs in it are wrong; then the command ends with 3 and says what is.
#[derive(Debug, Clone, Args)]
pub(crate) struct PreviewArgs {
    #[command(flatten)]
    pub(crate) project: ProjectArgs,
    /// Print it as JSON instead of YAML
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

/// Say why a job is part of the pipeline, or is not
///
/// Shows the rules in the order in which they were looked at, where each is written, what it compared, and which one decided. The flags
/// are those of `dockwright run`, so that "would it run for a tag?" is a question, too.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  \
    dockwright why deploy                       For the branch that is checked out\n  \
    dockwright why deploy --tag v1.2            For a pushed tag\n  \
    dockwright why test --target-branch main    For a merge request")]
pub(crate) struct WhyArgs {
    /// The job; the name of an entry with `parallel` means all its jobs
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
    #[command(flatten)]
    pub(crate) project: ProjectArgs,
    /// Print the explanation as one JSON document
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

/// Show the variables of a job, and where each comes from
///
/// What is known before the job runs: predefined variables of the project, and those of the configuration and of the command line, with
/// references expanded. Tokens, numbers of jobs and reports of earlier jobs come later.
#[derive(Debug, Clone, Args)]
pub(crate) struct VariablesArgs {
    /// The job
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
    #[command(flatten)]
    pub(crate) project: ProjectArgs,
    /// Print the variables as one JSON document
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

/// Check what a file of tests says about the pipeline
///
/// Each test names a ref, an event, changed files or variables, and the jobs that the pipeline then has, with what they are like. No job
/// runs. Ends with 1 when something does not hold, 3 when the configuration or the file of tests is not valid. docs/reference/tests.md
/// describes the file.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example of a file:\n  \
    main deploys:\n    \
      pipeline: {ref: main, changes: [src/a.c]}\n    \
      jobs:\n      \
        build:\n      \
        deploy: {when: manual, needs: [build], variables: {TARGET: production}}\n    \
      absent: [release]")]
pub(crate) struct TestArgs {
    /// The file; without it, .gitlab-ci.test.yml of the directory, or of the nearest one above that has it
    #[arg(value_name = "FILE")]
    pub(crate) tests: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) project: ProjectArgs,
}

/// Which project, which state of it, and with which variables.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ProjectArgs {
    /// The project's directory, or any directory inside it
    #[arg(short = 'C', long, value_name = "DIR", help_heading = "Pipeline")]
    pub(crate) directory: Option<PathBuf>,
    /// The pipeline's configuration file, relative to the project's root
    #[arg(short, long, value_name = "FILE", help_heading = "Pipeline")]
    pub(crate) file: Option<PathBuf>,
    /// Set a pipeline variable; it wins over the variables of the file
    #[arg(long = "variable", value_name = "KEY=VALUE", help_heading = "Pipeline")]
    pub(crate) variables: Vec<KeyValue>,
    /// Set a pipeline variable of type file: in the job, KEY is the path of a copy of PATH
    #[arg(long = "variable-file", value_name = "KEY=PATH", help_heading = "Pipeline")]
    pub(crate) variable_files: Vec<KeyValue>,
    /// Set an input of the pipeline, as declared by `spec: inputs:` of the file; numbers, booleans and lists are written as JSON
    #[arg(long = "input", value_name = "NAME=VALUE", value_parser = parse_input, help_heading = "Pipeline")]
    pub(crate) inputs: Vec<KeyValue>,
    /// Use only what .gitlab-ci.lock names of other projects and addresses, and fetch nothing
    #[arg(long, help_heading = "Pipeline")]
    pub(crate) frozen: bool,
    /// Look up anew what the file includes from other projects and addresses, and write it to .gitlab-ci.lock
    #[arg(long, help_heading = "Pipeline", conflicts_with = "frozen")]
    pub(crate) refresh: bool,
    /// Use the last commit only; without it, uncommitted changes of tracked files take part
    #[arg(long, help_heading = "Pipeline")]
    pub(crate) committed: bool,
    /// The event that `rules` see
    #[arg(long, value_enum, value_name = "EVENT", help_heading = "Pipeline")]
    pub(crate) event: Option<Event>,
    /// The branch that `rules` see, instead of the one that is checked out
    #[arg(long = "ref", alias = "branch", value_name = "BRANCH", help_heading = "Pipeline", conflicts_with = "tag")]
    pub(crate) branch: Option<String>,
    /// Behave as for a merge request of the branch into this one; without it, `--event merge_request_event` takes the default branch
    #[arg(long, value_name = "BRANCH", help_heading = "Pipeline", conflicts_with = "tag")]
    pub(crate) target_branch: Option<String>,
    /// Let `changes` in rules see what changed since the branch left this reference, instead of what the event changed
    #[arg(long, value_name = "REF", help_heading = "Pipeline")]
    pub(crate) changes_base: Option<String>,
    /// Behave as for a pushed tag of this name
    #[arg(long, value_name = "TAG", help_heading = "Pipeline")]
    pub(crate) tag: Option<String>,
}

/// A `KEY=VALUE` argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyValue {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl FromStr for KeyValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` has no `=`; write KEY=VALUE"))?;
        let starts_well = key.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
        if !starts_well || !key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(format!("`{key}` is not a variable name: letters, digits and underscores, not starting with a digit"));
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

/// Parses an input; unlike variables, inputs may have dashes in their names.
fn parse_input(text: &str) -> Result<KeyValue, String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` has no `=`; write NAME=VALUE"))?;
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(format!("`{name}` is not the name of an input"));
    }
    Ok(KeyValue { key: name.to_owned(), value: value.to_owned() })
}

/// What made the pipeline (`CI_PIPELINE_SOURCE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Event {
    #[default]
    Push,
    Web,
    Schedule,
    Api,
    Trigger,
    #[value(name = "merge_request_event", alias = "merge-request", alias = "merge_request")]
    MergeRequest,
}

/// What becomes of delayed jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Delayed {
    /// They start when their time has come
    #[default]
    Wait,
    /// They start without waiting
    Now,
    /// They are left out, with the jobs that need them
    Skip,
}

/// GitLab's pull policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PullPolicy {
    /// Ask the registry every time
    Always,
    /// Pull what is not here yet
    #[default]
    IfNotPresent,
    /// Use only what is here
    Never,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_keep_everything_after_the_first_equals_sign() {
        let parsed: KeyValue = "URL=http://a/?b=c".parse().expect("the argument parses");
        assert_eq!((parsed.key.as_str(), parsed.value.as_str()), ("URL", "http://a/?b=c"));
    }

    #[test]
    fn variable_names_are_checked() {
        for wrong in ["A", "=x", "1A=x", "a b=x", "A-B=x"] {
            assert!(wrong.parse::<KeyValue>().is_err(), "{wrong} was accepted");
        }
    }
}
