//! Running Git: the only child process of this crate.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use dockwright_pipeline::{LoadError, LoadErrorKind};

/// Returns the text of a file of a commit.
pub(crate) fn read_file(repository: &Path, commit: &str, path: &str) -> Result<String, LoadError> {
    let object = format!("{commit}:{path}");
    let bytes = git(repository, &["cat-file", "blob", &object]).bytes().map_err(|error| {
        // The error does not tell a missing file from a broken one.
        let exists = git(repository, &["cat-file", "-e", &object]).bytes().is_ok();
        if exists { LoadErrorKind::Unreadable(error.to_string()) } else { LoadErrorKind::NotFound }
    })?;
    String::from_utf8(bytes).map_err(|_| LoadErrorKind::Unreadable("it is not valid UTF-8".to_owned()).into())
}

/// Returns the texts of several files of a commit by one process. What cannot be read is left out; [`read_file`] says why.
pub(crate) fn read_files(repository: &Path, commit: &str, paths: &[&str]) -> Vec<(String, String)> {
    // The answer has no names: a path with an end of line would shift all that follow.
    let paths: Vec<&str> = paths.iter().filter(|path| !path.contains('\n')).copied().collect();
    let question: String = paths.iter().map(|path| format!("{commit}:{path}\n")).collect();
    let answer = git(repository, &["cat-file", "--batch=%(objecttype) %(objectsize)"]).bytes_for(question.as_bytes()).unwrap_or_default();
    let mut texts = Vec::new();
    let mut rest = answer.as_slice();
    for path in paths {
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else { break };
        let header = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = &rest[end + 1..];
        // Without such an object, its name comes back with this word.
        if header.ends_with(" missing") {
            continue;
        }
        let Some(size) = header.rsplit_once(' ').and_then(|(_, size)| size.parse::<usize>().ok()) else { break };
        let Some(content) = rest.get(..size) else { break };
        rest = rest.get(size + 1..).unwrap_or_default();
        if header.starts_with("blob ")
            && let Ok(text) = std::str::from_utf8(content)
        {
            texts.push((path.to_owned(), text.to_owned()));
        }
    }
    texts
}

/// Returns the paths of all files of a commit.
pub(crate) fn list_files(repository: &Path, commit: &str) -> Vec<String> {
    let list = git(repository, &["ls-tree", "-r", "-z", "--name-only", commit]).text();
    list.unwrap_or_default().split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect()
}

/// Git could not be run, or said no.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    #[error("run `git`")]
    Run {
        #[source]
        source: io::Error,
    },
    #[error("`git {arguments}` in `{directory}`: {message}")]
    Failed { arguments: String, directory: PathBuf, message: String },
}

impl GitError {
    /// Says what to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Run { source } if source.kind() == io::ErrorKind::NotFound => Some("install Git, for example `apt-get install git`"),
            Self::Run { .. } | Self::Failed { .. } => None,
        }
    }
}

/// A Git command to run.
pub(crate) struct Git {
    command: Command,
    directory: PathBuf,
}

/// Prepares a Git command for a directory. Settings and variables of the user's shell that would redirect it have no effect.
pub(crate) fn git(directory: &Path, arguments: &[&str]) -> Git {
    let mut command = Command::new("git");
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES"] {
        command.env_remove(variable);
    }
    // The repository was chosen by whoever runs the pipeline, so it does not matter who owns it: root often runs that of another user.
    command.args(["-c", "safe.directory=*", "-c", "core.quotePath=false"]).args(arguments);
    command.current_dir(directory).stdin(Stdio::null()).env("LC_ALL", "C").env("GIT_TERMINAL_PROMPT", "0");
    Git { command, directory: directory.to_owned() }
}

impl Git {
    /// Sets a variable of the command.
    pub(super) fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it and returns what it prints.
    pub(crate) fn bytes(mut self) -> Result<Vec<u8>, GitError> {
        let output = self.command.output().map_err(|source| GitError::Run { source })?;
        self.printed(output)
    }

    /// Runs it with something to read, and returns what it prints.
    fn bytes_for(mut self, input: &[u8]) -> Result<Vec<u8>, GitError> {
        let run = |source: io::Error| GitError::Run { source };
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().map_err(run)?;
        let stdin = child.stdin.take();
        let output = std::thread::scope(|scope| {
            // Both pipes may fill up, so they are emptied at the same time. A child that reads no further says why itself.
            scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input)));
            child.wait_with_output()
        });
        self.printed(output.map_err(run)?)
    }

    fn printed(self, output: Output) -> Result<Vec<u8>, GitError> {
        if output.status.success() {
            return Ok(output.stdout);
        }
        let arguments: Vec<String> = self.command.get_args().skip(4).map(|argument| argument.to_string_lossy().into_owned()).collect();
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let message = if message.is_empty() { output.status.to_string() } else { message };
        Err(GitError::Failed { arguments: arguments.join(" "), directory: self.directory, message })
    }

    /// Runs it and returns what it prints, without the last line's end.
    pub(crate) fn text(self) -> Result<String, GitError> {
        let mut text = String::from_utf8_lossy(&self.bytes()?).into_owned();
        if text.ends_with('\n') {
            text.pop();
        }
        Ok(text)
    }
}
