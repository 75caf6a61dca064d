//! Why a build failed. Messages that Docker's clients know keep Docker's wording.

use std::{error::Error, fmt, io, path::PathBuf};

use crate::{
    archive::ReadArchiveError,
    backend::{BackendError, ResolveImageError},
    context::ContextError,
    copy::{FindOwnerError, ParseModeError, WriteError},
    dockerfile::{ParseError, Step, lexer::LexError},
    glob::BadPattern,
};

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Context(#[from] ContextError),
    #[error("{error}")]
    Parse { error: Box<ParseError>, file: String, text: String },
    #[error("failed to reach build target {name} in Dockerfile")]
    UnknownTarget { name: String, similar: Option<String>, stages: Vec<String> },
    #[error("invalid SOURCE_DATE_EPOCH: `{0}` is not a number of seconds")]
    InvalidEpoch(String),
    #[error(transparent)]
    Resolve(#[from] ResolveImageError),
    #[error(transparent)]
    Step(Box<StepFailure>),
    #[error("No image was generated. Is your Dockerfile empty?")]
    NothingBuilt,
    #[error("tag the image as {name}")]
    Tag {
        name: String,
        #[source]
        source: BackendError,
    },
    #[error("{action}")]
    Backend {
        action: &'static str,
        #[source]
        source: BackendError,
    },
    #[error("build cancelled")]
    Cancelled,
}

impl From<StepFailure> for BuildError {
    fn from(failure: StepFailure) -> Self {
        Self::Step(Box::new(failure))
    }
}

impl BuildError {
    /// Whether nothing was done yet because the request itself is wrong.
    pub fn is_invalid_request(&self) -> bool {
        matches!(self, Self::Context(_) | Self::Parse { .. } | Self::UnknownTarget { .. } | Self::InvalidEpoch(_))
    }

    /// The exit status of a `RUN` that failed.
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Step(failure) => match failure.error {
                StepError::CommandFailed { code, .. } => Some(code),
                _ => None,
            },
            _ => None,
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::Parse { error, .. } => error.remedy().map(str::to_owned),
            Self::UnknownTarget { similar: Some(similar), .. } => Some(format!("did you mean `--target {similar}`?")),
            Self::UnknownTarget { stages, .. } if stages.is_empty() => {
                Some("no stage has a name; write `FROM <image> AS <name>`".to_owned())
            }
            Self::UnknownTarget { stages, .. } => Some(format!("the stages are {}", stages.join(", "))),
            Self::Context(ContextError::NoDockerfile(_)) => {
                Some("name it with `--file`, and see that `.dockerignore` leaves it in".to_owned())
            }
            Self::NothingBuilt => Some("add a step after `FROM scratch`".to_owned()),
            Self::Step(failure) => failure.error.remedy(),
            _ => None,
        }
    }

    /// Returns the message with the place in the Dockerfile, where there is one.
    pub fn render(&self) -> String {
        match self {
            Self::Parse { error, file, text } => error.render(file, text),
            other => {
                let hint = other.remedy().map(|remedy| format!("hint: {remedy}\n")).unwrap_or_default();
                format!("error: {other}\n{hint}")
            }
        }
    }
}

/// A step that failed, and where it stands.
#[derive(Debug)]
pub struct StepFailure {
    pub line: usize,
    pub original: String,
    pub error: StepError,
}

impl StepFailure {
    pub(super) fn new(step: &Step, error: StepError) -> Self {
        Self { line: *step.lines.start(), original: step.original.clone(), error }
    }
}

impl fmt::Display for StepFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(formatter)
    }
}

impl Error for StepFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    #[error("failed to process {word:?}: {source}")]
    Expand { word: String, source: LexError },
    #[error("base name ({0}) should not be blank")]
    BlankBase(String),
    #[error("The command '{command}' returned a non-zero code: {code}")]
    CommandFailed { command: String, code: i32 },
    #[error("COPY failed: `{from}` of --from is no stage above, and no image: {source}")]
    UnknownSource { from: String, source: Box<BuildError> },
    #[error("{keyword} failed: file not found in build context or excluded by .dockerignore: stat {path}: file does not exist")]
    NotInContext { keyword: &'static str, path: String },
    #[error("{keyword} failed: stat {path}: file does not exist")]
    NotInSource { keyword: &'static str, path: String },
    #[error("{0} failed: no source files were specified")]
    NoSources(&'static str),
    #[error("cannot determine filename from url: {0}")]
    NoFileName(String),
    #[error("--checksum is only for files that are fetched")]
    ChecksumOfLocal,
    #[error("--checksum is `sha256:<64 hex digits>`, not `{0}`")]
    InvalidChecksum(String),
    #[error("checksum of {url}: expected {expected}, got {actual}")]
    ChecksumMismatch { url: String, expected: String, actual: String },
    #[error("fetch {url}")]
    Fetch {
        url: String,
        #[source]
        source: BackendError,
    },
    #[error("read `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{keyword} failed: {source}")]
    Write { keyword: &'static str, source: WriteError },
    #[error("unpack `{path}`")]
    Unpack {
        path: PathBuf,
        #[source]
        source: ReadArchiveError,
    },
    #[error(transparent)]
    Pattern(#[from] BadPattern),
    #[error(transparent)]
    Mode(#[from] ParseModeError),
    #[error(transparent)]
    Owner(#[from] FindOwnerError),
    #[error("invalid port in EXPOSE: {0}")]
    InvalidPort(String),
    #[error("Invalid signal: {0}")]
    InvalidSignal(String),
    #[error("cannot normalize nothing")]
    BlankWorkdir,
    #[error("{0} names can not be blank")]
    BlankName(&'static str),
    #[error("run the base image's trigger `{text}`: {error}")]
    Trigger { text: String, error: ParseError },
    #[error("{action}")]
    Backend {
        action: &'static str,
        #[source]
        source: BackendError,
    },
    #[error(transparent)]
    Build(Box<BuildError>),
}

impl From<BuildError> for StepError {
    fn from(error: BuildError) -> Self {
        Self::Build(Box::new(error))
    }
}

impl StepError {
    pub(super) fn backend(action: &'static str) -> impl FnOnce(BackendError) -> Self {
        move |source| Self::Backend { action, source }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            Self::BlankBase(_) => Some("give the ARG a default, or pass `--build-arg`".to_owned()),
            Self::NotInContext { path, .. } if path.starts_with("..") => {
                Some("COPY reaches only files of the build context; build from a directory that holds them".to_owned())
            }
            Self::NotInContext { .. } => {
                Some("paths are relative to the directory given to `docker build`; look into .dockerignore too".to_owned())
            }
            Self::CommandFailed { code: 127, .. } => Some("127 means that a command was not found in the image".to_owned()),
            Self::CommandFailed { code: 137, .. } => Some("137 means that the process was killed, often for want of memory".to_owned()),
            Self::NoFileName(_) => Some("name the file in the destination".to_owned()),
            Self::InvalidSignal(_) => Some("write a name such as SIGTERM, or a number".to_owned()),
            Self::InvalidPort(_) => Some("write `80`, `53/udp` or `8000-8010`".to_owned()),
            _ => None,
        }
    }
}
