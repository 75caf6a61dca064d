//! From what was typed and what the settings file says to what was decided. Only the decided types leave this module.
//!
//! The command line (with its environment variables) wins over the file, the file over the defaults.

use std::{
    collections::BTreeMap,
    num::NonZero,
    path::{Path, PathBuf},
};

use clap::ValueEnum as _;
use dockwright_coordinator::LockMode;
use dockwright_pipeline::Situation;
use serde::Deserialize;

use crate::{
    cli::{ColorChoice, Delayed, Event, GlobalArgs, KeyValue, ProjectArgs, PullPolicy, RunArgs},
    environment,
    error::{CommandError, ErrorKind, Explain as _},
    paths::{PathInputs, Paths, absolute},
    report::{ReportMode, Streams},
};

/// What every command knows.
#[derive(Debug, Clone)]
pub(crate) struct GlobalSettings {
    pub(crate) paths: Paths,
    pub(crate) file: FileSettings,
    /// What to log, for the processes that this one starts.
    pub(crate) log: Option<String>,
}

/// The settings file, `config.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct FileSettings {
    /// As `--color`.
    pub(crate) color: Option<ColorChoice>,
    pub(crate) run: RunFileSettings,
    pub(crate) include: IncludeFileSettings,
}

/// Table `[include]` of the settings file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct IncludeFileSettings {
    /// Address below which included projects are cloned from; without it, that of the repository's remote.
    pub(crate) server: Option<String>,
    /// Directories of projects by their paths, used as they lie there.
    pub(crate) checkouts: BTreeMap<String, PathBuf>,
}

/// Table `[run]` of the settings file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RunFileSettings {
    /// As `--jobs`.
    pub(crate) jobs: Option<NonZero<u16>>,
    /// As `--docker-host`.
    pub(crate) docker_host: Option<String>,
    /// As `--pull`.
    pub(crate) pull: Option<PullPolicy>,
    /// Pipeline variables for every run; `--variable` wins.
    pub(crate) variables: BTreeMap<String, String>,
}

impl GlobalSettings {
    /// Reads the settings file and decides the directories.
    pub(crate) fn decide(typed: &GlobalArgs) -> Result<Self, CommandError> {
        let paths = decide_paths()?;
        let file = match &typed.config {
            Some(path) => read_file(path)?.ok_or_else(|| {
                CommandError::configuration(format!("settings file `{}` does not exist", path.display()))
                    .hint("without --config the file is optional; check the path")
            })?,
            None => read_file(&paths.config)?.unwrap_or_default(),
        };
        Ok(Self { paths, file, log: typed.log.clone() })
    }

    /// Decides the directories only: the runner's commands have a file of their own.
    pub(crate) fn without_file() -> Result<Self, CommandError> {
        Ok(Self { paths: decide_paths()?, file: FileSettings::default(), log: None })
    }
}

fn decide_paths() -> Result<Paths, CommandError> {
    Paths::decide(PathInputs::from_environment()).ok_or_else(|| {
        CommandError::usage("no place for dockwright's files: HOME is not set")
            .hint(format!("set HOME, or {} to a directory", environment::HOME))
    })
}

/// Returns `None` for a file that does not exist.
fn read_file(path: &Path) -> Result<Option<FileSettings>, CommandError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).explain(ErrorKind::Configuration, || format!("read settings file `{}`", path.display())),
    };
    toml::from_str(&text).map(Some).explain(ErrorKind::Configuration, || format!("settings file `{}` is not valid", path.display()))
}

/// Where a pipeline comes from, decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProjectSettings {
    pub(crate) directory: PathBuf,
    /// Relative to the project's root.
    pub(crate) file: PathBuf,
    pub(crate) variables: Vec<PipelineVariable>,
    /// Values for the file's inputs by name; the last of a name counts.
    pub(crate) inputs: Vec<(String, String)>,
    pub(crate) lock: LockMode,
    pub(crate) committed: bool,
    pub(crate) event: Event,
    pub(crate) branch: Option<String>,
    pub(crate) tag: Option<String>,
    pub(crate) target_branch: Option<String>,
    pub(crate) changes_base: Option<String>,
    /// What a test says that the event changed, whatever Git knows.
    pub(crate) changes: Option<Vec<String>>,
}

/// A variable of highest precedence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PipelineVariable {
    pub(crate) key: String,
    pub(crate) value: String,
    /// In the job, the variable holds the path of a file with the value.
    pub(crate) file: bool,
}

const DEFAULT_PIPELINE_FILE: &str = ".gitlab-ci.yml";

impl ProjectSettings {
    pub(crate) fn decide(typed: &ProjectArgs, file: &RunFileSettings) -> Result<Self, CommandError> {
        Ok(Self {
            directory: absolute(typed.directory.as_deref().unwrap_or(Path::new("."))),
            file: typed.file.clone().unwrap_or_else(|| DEFAULT_PIPELINE_FILE.into()),
            variables: decide_variables(typed, file)?,
            inputs: typed.inputs.iter().map(|KeyValue { key, value }| (key.clone(), value.clone())).collect(),
            lock: match (typed.frozen, typed.refresh) {
                (true, _) => LockMode::Frozen,
                (false, true) => LockMode::Refresh,
                (false, false) => LockMode::Extend,
            },
            committed: typed.committed,
            // A target is that of a merge request, whatever else is not said.
            event: typed.event.unwrap_or(if typed.target_branch.is_some() { Event::MergeRequest } else { Event::Push }),
            branch: typed.branch.clone(),
            tag: typed.tag.clone(),
            target_branch: typed.target_branch.clone(),
            changes_base: typed.changes_base.clone(),
            changes: None,
        })
    }

    /// Decides what a test is for: what it says wins over the command line.
    pub(crate) fn for_situation(&self, situation: &Situation) -> Result<Self, CommandError> {
        let mut decided = self.clone();
        if situation.reference.is_some() || situation.tag.is_some() {
            (decided.branch, decided.tag) = (situation.reference.clone(), situation.tag.clone());
        }
        if let Some(target) = &situation.target_branch {
            (decided.target_branch, decided.event) = (Some(target.clone()), Event::MergeRequest);
        }
        if let Some(event) = &situation.event {
            decided.event = parse_event(event)?;
        }
        decided.changes.clone_from(&situation.changes);
        let variables = situation.variables.iter();
        decided.variables.extend(variables.map(|(key, value)| PipelineVariable { key: key.clone(), value: value.clone(), file: false }));
        decided.variables = keep_last_of_each_key(decided.variables);
        decided.inputs.extend(situation.inputs.iter().cloned());
        Ok(decided)
    }
}

fn parse_event(text: &str) -> Result<Event, CommandError> {
    Event::from_str(text, false).map_err(|_| {
        let names: Vec<String> =
            Event::value_variants().iter().filter_map(|event| Some(event.to_possible_value()?.get_name().to_owned())).collect();
        CommandError::configuration(format!("there is no event `{text}`")).hint(format!("the events are `{}`", names.join("`, `")))
    })
}

fn decide_variables(typed: &ProjectArgs, file: &RunFileSettings) -> Result<Vec<PipelineVariable>, CommandError> {
    let plain = |key: &str, value: &str| PipelineVariable { key: key.to_owned(), value: value.to_owned(), file: false };
    let mut variables: Vec<PipelineVariable> = file.variables.iter().map(|(key, value)| plain(key, value)).collect();
    variables.extend(typed.variables.iter().map(|KeyValue { key, value }| plain(key, value)));
    for KeyValue { key, value: path } in &typed.variable_files {
        let value = std::fs::read_to_string(path).explain(ErrorKind::Usage, || format!("read `{path}` for --variable-file {key}"))?;
        variables.push(PipelineVariable { key: key.clone(), value, file: true });
    }
    Ok(keep_last_of_each_key(variables))
}

fn keep_last_of_each_key(variables: Vec<PipelineVariable>) -> Vec<PipelineVariable> {
    let mut kept: Vec<PipelineVariable> = Vec::with_capacity(variables.len());
    for variable in variables {
        kept.retain(|earlier| earlier.key != variable.key);
        kept.push(variable);
    }
    kept
}

/// What gives jobs their Docker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EngineChoice {
    /// An engine of its own for each job that wants one.
    Embedded,
    /// A Docker daemon that somebody else runs.
    Foreign(String),
    /// None.
    Absent,
}

/// Everything `dockwright run` needs, decided.
#[derive(Debug, Clone)]
pub(crate) struct RunSettings {
    pub(crate) project: ProjectSettings,
    /// Empty: the whole pipeline.
    pub(crate) jobs: Vec<String>,
    pub(crate) concurrency: usize,
    pub(crate) engine: EngineChoice,
    pub(crate) pull: PullPolicy,
    pub(crate) delayed: Delayed,
    pub(crate) keep_artifacts: Option<PathBuf>,
    pub(crate) report: ReportMode,
}

impl RunSettings {
    pub(crate) fn decide(typed: &RunArgs, file: &RunFileSettings, streams: &Streams) -> Result<Self, CommandError> {
        let engine = match typed.docker_host.as_ref().or(file.docker_host.as_ref().filter(|_| !typed.no_engine)) {
            _ if typed.no_engine => EngineChoice::Absent,
            Some(host) => EngineChoice::Foreign(host.clone()),
            None => EngineChoice::Embedded,
        };
        let concurrency = typed.concurrency.or(file.jobs.map(NonZero::get)).map_or_else(processors, usize::from);
        Ok(Self {
            project: ProjectSettings::decide(&typed.project, file)?,
            jobs: typed.jobs.clone(),
            concurrency,
            engine,
            pull: typed.pull.or(file.pull).unwrap_or_default(),
            delayed: typed.delayed.unwrap_or_default(),
            keep_artifacts: typed.keep_artifacts.as_deref().map(absolute),
            report: ReportMode::decide(typed, streams),
        })
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn typed(arguments: &[&str]) -> RunArgs {
        let command_line = ["dockwright", "run"].iter().chain(arguments);
        match Cli::try_parse_from(command_line).expect("the command line parses").command {
            Command::Run(run) => run,
            other => panic!("not a run: {other:?}"),
        }
    }

    fn file(text: &str) -> RunFileSettings {
        toml::from_str::<FileSettings>(text).expect("the file parses").run
    }

    fn decide(arguments: &[&str], text: &str) -> RunSettings {
        RunSettings::decide(&typed(arguments), &file(text), &Streams::plain()).expect("settings are decided")
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let text = "[run]\njobs = 3\npull = 'never'\ndocker-host = 'unix:///file'\nvariables = { A = 'file', B = 'file' }";
        let from_file = decide(&[], text);
        assert_eq!((from_file.concurrency, from_file.pull), (3, PullPolicy::Never));
        assert_eq!(from_file.engine, EngineChoice::Foreign("unix:///file".into()));
        let typed = decide(&["-j", "5", "--pull", "always", "--no-engine", "--variable", "A=typed"], text);
        assert_eq!((typed.concurrency, typed.pull, typed.engine), (5, PullPolicy::Always, EngineChoice::Absent));
        let values: Vec<_> = typed.project.variables.iter().map(|variable| (variable.key.as_str(), variable.value.as_str())).collect();
        assert_eq!(values, [("B", "file"), ("A", "typed")]);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place() {
        let error = toml::from_str::<FileSettings>("[run]\njbos = 3\n").expect_err("the key is unknown").to_string();
        assert!(error.contains("line 2") && error.contains("jbos") && error.contains("`jobs`"), "{error}");
    }

    #[test]
    fn a_variable_file_that_cannot_be_read_is_a_usage_error() {
        let error =
            RunSettings::decide(&typed(&["--variable-file", "K=/no/such"]), &file(""), &Streams::plain()).expect_err("no such file");
        assert_eq!(error.exit_code(), crate::exit_code::ExitCode::Usage);
    }
}
