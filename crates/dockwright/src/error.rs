//! What a command answers when it could not do its work: a kind, a chain of causes, and a hint what to do.
//!
//! A failed job is not such an error; it is a result with its own exit code.

use std::fmt;

use crate::exit_code::ExitCode;

/// Whose turn it is to act; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// What was typed.
    Usage,
    /// What the project's or the user's files say.
    Configuration,
    /// The machine, the network, the disk, another program.
    Environment,
    /// Nothing is wrong, and nothing is to be done.
    NothingToRun,
    /// A bug.
    Internal,
}

impl ErrorKind {
    fn exit_code(self) -> ExitCode {
        match self {
            Self::Usage => ExitCode::Usage,
            Self::Configuration => ExitCode::Configuration,
            Self::Environment => ExitCode::Environment,
            Self::NothingToRun => ExitCode::NothingToRun,
            Self::Internal => ExitCode::Internal,
        }
    }
}

/// Why a command ended without a result.
#[derive(Debug)]
pub(crate) struct CommandError {
    kind: ErrorKind,
    cause: anyhow::Error,
    hint: Option<String>,
}

impl CommandError {
    pub(crate) fn new(kind: ErrorKind, cause: impl Into<anyhow::Error>) -> Self {
        Self { kind, cause: cause.into(), hint: None }
    }

    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Usage, anyhow::anyhow!("{message}"))
    }

    pub(crate) fn configuration(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Configuration, anyhow::anyhow!("{message}"))
    }

    pub(crate) fn environment(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Environment, anyhow::anyhow!("{message}"))
    }

    pub(crate) fn internal(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Internal, anyhow::anyhow!("{message}"))
    }

    /// Adds what the reader can do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        self.kind.exit_code()
    }

    /// Returns the message, its causes and the hint, in the form that is printed.
    pub(crate) fn parts(&self) -> ErrorParts {
        let mut chain = self.cause.chain().map(ToString::to_string);
        let message = chain.next().unwrap_or_default();
        ErrorParts { message, causes: chain.collect(), hint: self.hint.clone() }
    }
}

/// An error ready for printing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ErrorParts {
    pub(crate) message: String,
    pub(crate) causes: Vec<String>,
    pub(crate) hint: Option<String>,
}

/// Gives a failed operation its kind and says what was being done.
pub(crate) trait Explain<T> {
    fn explain(self, kind: ErrorKind, doing: impl FnOnce() -> String) -> Result<T, CommandError>;
}

impl<T, E: Into<anyhow::Error>> Explain<T> for Result<T, E> {
    fn explain(self, kind: ErrorKind, doing: impl FnOnce() -> String) -> Result<T, CommandError> {
        self.map_err(|error| CommandError::new(kind, error.into().context(doing())))
    }
}
