//! What can go wrong at a coordinator; who asked over HTTP learns the kind.

use std::{io, path::PathBuf};

use dockwright_pipeline::Diagnostic;

use crate::{DirectoryError, DotenvError, GitError};

/// A request that was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("there is no such {what}")]
    NotFound { what: &'static str },
    #[error("the token is not valid for this")]
    Forbidden,
    /// The job has ended, with this status.
    #[error("job is not running: it is {status}")]
    JobOver { status: &'static str },
    #[error("{reason}")]
    Invalid { reason: String },
    /// A job needs artifacts that are no longer there.
    #[error("the artifacts of job `{job}` have expired")]
    ArtifactsExpired { job: String },
    /// The trace cannot go on where the runner wants to.
    #[error("the trace has {stored} bytes")]
    TraceGap { stored: u64 },
    #[error("the stored trace is not the one that the runner sent")]
    TraceDiffers,
    #[error("the configuration has errors: {}", first(.0))]
    Configuration(Vec<Diagnostic>),
    #[error(transparent)]
    Dotenv(#[from] DotenvError),
    #[error("use the database")]
    Database(#[from] rusqlite::Error),
    #[error("the database has format {found}, and this version of dockwright knows formats up to {known}")]
    TooNew { found: usize, known: usize },
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error("use `{path}`")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

fn first(problems: &[Diagnostic]) -> String {
    problems.iter().filter(|problem| problem.is_error()).map(|problem| problem.message.clone()).collect::<Vec<_>>().join("; ")
}

impl ServerError {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    pub(crate) fn invalid(reason: impl Into<String>) -> Self {
        Self::Invalid { reason: reason.into() }
    }
}
