//! The runner API as a runner sees it.
//!
//! `dockwright run` implements [`Coordinator`] in its own process; over HTTP the same five requests are `POST /jobs/request`,
//! `PUT /jobs/:id`, `PATCH /jobs/:id/trace`, and `POST` and `GET /jobs/:id/artifacts`.

use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use dockwright_job::{Artifact, Dependency, JobId, JobPayload, JobToken, JobUpdate};
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

/// Where jobs come from and where their results go.
pub trait Coordinator: Send + Sync + 'static {
    /// Waits for the next job. `None` means that no more will come, and the runner ends when those at work are done.
    fn request_job(&self) -> BoxFuture<'_, Result<Option<JobPayload>, CoordinatorError>>;

    /// Reports a job's state. The final report comes after the last byte of the trace and after all artifacts.
    fn update_job(&self, job: JobId, update: JobUpdate) -> BoxFuture<'_, Result<(), CoordinatorError>>;

    /// Appends masked bytes to a job's trace. `offset` is the number of bytes that came before.
    fn append_trace<'a>(&'a self, job: &'a JobAccess, offset: u64, bytes: Bytes) -> BoxFuture<'a, Result<(), CoordinatorError>>;

    /// Takes one archive or report of a job. The file is removed once the call has returned.
    fn upload_artifacts<'a>(&'a self, job: &'a JobAccess, upload: ArtifactUpload) -> BoxFuture<'a, Result<(), CoordinatorError>>;

    /// Writes the artifacts archive of an earlier job to the file `to`, which does not exist yet.
    fn download_artifacts<'a>(&'a self, dependency: &'a Dependency, to: &'a Path) -> BoxFuture<'a, Result<(), CoordinatorError>>;

    /// Returns the signals by which the coordinator stops a job. Asked once, when the job starts.
    fn signals(&self, job: JobId) -> JobSignals;
}

/// Names a job to the coordinator and proves the right to report on it.
#[derive(Debug, Clone)]
pub struct JobAccess {
    pub id: JobId,
    pub token: JobToken,
}

/// How a coordinator stops a running job.
#[derive(Debug, Clone, Default)]
pub struct JobSignals {
    /// The script ends, `after_script` and the uploads still run (`Job-Status: canceling`).
    pub cancel: CancellationToken,
    /// Everything ends at once but the executor's clean-up (`Job-Status: canceled`).
    pub abort: CancellationToken,
}

/// One file to upload.
#[derive(Debug, Clone)]
pub struct ArtifactUpload {
    /// The entry of the payload that asked for it: type, format and expiry.
    pub artifact: Artifact,
    /// Name to keep it under, such as `artifacts.zip`.
    pub filename: String,
    /// The content, in a temporary file of the runner.
    pub file: PathBuf,
}

/// A request to the coordinator that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    #[error("reach the coordinator")]
    Unreachable {
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The answer was no; asking again would not help.
    #[error("the coordinator refused {request}: {reason}")]
    Refused { request: &'static str, reason: String },
    #[error("read or write `{path}`")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}
