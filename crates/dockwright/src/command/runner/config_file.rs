//! The configuration file of a command: where it is, what it says, and what is wrong with it.

use std::path::{Path, PathBuf};

use clap::ValueEnum as _;
use dockwright_pipeline::{Diagnostic, Sources, Span};
use dockwright_runner::config::{ConfigStore, EditConfigError, Problem, Severity, file::LoadedConfig, system_id};

use crate::{
    cli::{ConfigFileArg, LogFormat},
    environment,
    error::{CommandError, ErrorKind, Explain as _},
    paths::absolute,
    report,
};

const SYSTEM_FILE: &str = "/etc/gitlab-runner/config.toml";
const USER_FILE: &str = ".gitlab-runner/config.toml";
const FILE_NAME: &str = "config.toml";

/// The configuration file that a command works on.
pub(super) struct RunnerConfigFile {
    store: ConfigStore,
}

impl RunnerConfigFile {
    /// Decides which file: the one that is named, root's, the user's, or one here.
    pub(super) fn decide(typed: &ConfigFileArg) -> Self {
        let path = match &typed.path {
            Some(path) if !path.as_os_str().is_empty() => absolute(path),
            _ if rustix::process::geteuid().is_root() => SYSTEM_FILE.into(),
            _ => environment::absolute_path("HOME").map_or_else(|| absolute(Path::new(FILE_NAME)), |home| home.join(USER_FILE)),
        };
        Self { store: ConfigStore::new(path) }
    }

    pub(super) fn path(&self) -> &Path {
        self.store.path()
    }

    /// Where certificates of servers are looked for.
    pub(super) fn certificates(&self) -> PathBuf {
        self.store.directory().join("certs")
    }

    /// Returns what the file says, or what a new one would say. Problems are printed; errors among them end the command.
    pub(super) fn load_or_default(&self) -> Result<LoadedConfig, CommandError> {
        Ok(self.load_if_there()?.unwrap_or_default())
    }

    /// The same, for a command that needs a file.
    pub(super) fn load(&self) -> Result<LoadedConfig, CommandError> {
        self.load_if_there()?.ok_or_else(|| {
            CommandError::configuration(format!("configuration file `{}` does not exist", self.path().display()))
                .hint("`register` makes one; --config names another")
        })
    }

    /// The same, for a command that can wait for one. `None`: there is no file.
    pub(super) fn load_if_there(&self) -> Result<Option<LoadedConfig>, CommandError> {
        let Some(text) = self.read()? else { return Ok(None) };
        let loaded = LoadedConfig::read(&text, variable);
        print_problems(&loaded.problems, self.path(), &text);
        match loaded.is_valid() {
            true => Ok(Some(loaded)),
            false => Err(CommandError::configuration(format!("configuration file `{}` is not valid", self.path().display()))),
        }
    }

    /// Returns the form of the log, as far as the file can be read.
    pub(super) fn log_format(&self) -> Option<LogFormat> {
        let text = self.store.read().ok()??;
        let format = LoadedConfig::read(&text, variable).file.log_format?;
        LogFormat::from_str(&format, true).ok()
    }

    pub(super) fn read(&self) -> Result<Option<String>, CommandError> {
        self.store.read().map_err(|error| CommandError::new(ErrorKind::Configuration, error))
    }

    /// Changes the file as it is now, while nobody else does.
    pub(super) fn change(&self, edit: impl FnOnce(Option<&str>) -> Result<String, EditConfigError>) -> Result<(), CommandError> {
        let locked = self.store.lock().map_err(|error| CommandError::new(ErrorKind::Environment, error))?;
        let old = locked.read().map_err(|error| CommandError::new(ErrorKind::Configuration, error))?;
        let new = edit(old.as_deref()).explain(ErrorKind::Configuration, || format!("change `{}`", self.path().display()))?;
        locked.write(&new).map_err(|error| CommandError::new(ErrorKind::Environment, error))
    }

    /// Returns the identity of this machine's runner, which is made when it is missing.
    pub(super) fn system_id(&self) -> String {
        let (id, kept) = system_id::load_or_create(self.store.directory());
        if let Err(error) = kept {
            tracing::warn!(error = format!("{:#}", anyhow::Error::from(error)), "The system id could not be kept");
        }
        id
    }
}

/// Looks up a variable that a URL or token of the file names.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Prints problems with the lines they are about.
pub(super) fn print_problems(problems: &[Problem], path: &Path, text: &str) {
    let mut sources = Sources::default();
    let source = sources.add(path.display().to_string(), text);
    for problem in problems {
        let diagnostic = match problem.severity {
            Severity::Error => Diagnostic::error(problem.code, &*problem.message),
            Severity::Warning => Diagnostic::warning(problem.code, &*problem.message),
        };
        let narrow = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        let diagnostic = match &problem.span {
            Some(span) => diagnostic.at(Span { source, start: narrow(span.start), end: narrow(span.end) }),
            None => diagnostic,
        };
        report::print_problem(&diagnostic.help_if(problem.help.clone()), &sources);
    }
}
