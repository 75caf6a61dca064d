//! The pipeline of this process as a runner sees it, and the artifacts that the user wants to keep.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use dockwright_coordinator::{Access, PipelineRun, RunError};
use dockwright_job::{ArtifactFormat, Dependency, JobId, JobPayload, JobUpdate};
use dockwright_runner::{
    Coordinator, CoordinatorError,
    coordinator::{ArtifactUpload, JobAccess, JobSignals},
};
use futures_util::{FutureExt as _, future::BoxFuture};

use super::JobNames;

/// Adapts a [`PipelineRun`] to the runner's [`Coordinator`].
pub(crate) struct LocalCoordinator {
    run: PipelineRun,
    names: JobNames,
    keep_artifacts: Option<PathBuf>,
}

impl LocalCoordinator {
    pub(crate) fn new(run: PipelineRun, names: JobNames, keep_artifacts: Option<PathBuf>) -> Self {
        Self { run, names, keep_artifacts }
    }

    /// Unpacks a job's artifacts below the directory that the user named.
    async fn keep(&self, job: JobId, upload: &ArtifactUpload) -> Result<(), CoordinatorError> {
        let Some(directory) = &self.keep_artifacts else { return Ok(()) };
        // Names such as `test 1/3` are one directory each.
        let directory = directory.join(self.names.of(job).replace('/', "-"));
        let (upload, target) = (upload.clone(), directory.clone());
        let kept = tokio::task::spawn_blocking(move || unpack(&upload, &target)).await.expect("unpacking does not panic");
        kept.map_err(|source| CoordinatorError::File { path: directory, source })
    }
}

fn unpack(upload: &ArtifactUpload, directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    match upload.artifact.artifact_format {
        ArtifactFormat::Zip => {
            let mut archive = zip::ZipArchive::new(File::open(&upload.file)?).map_err(io::Error::other)?;
            archive.extract(directory).map_err(io::Error::other)
        }
        ArtifactFormat::Gzip | ArtifactFormat::Raw => fs::copy(&upload.file, directory.join(&upload.filename)).map(|_| ()),
    }
}

fn access(job: &JobAccess) -> Access {
    Access { job: job.id, token: job.token.clone() }
}

fn refused(request: &'static str) -> impl FnOnce(RunError) -> CoordinatorError {
    move |error| match error {
        RunError::Ended => CoordinatorError::Unreachable { source: Box::new(error) },
        error => CoordinatorError::Refused { request, reason: chain(&error) },
    }
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl Coordinator for LocalCoordinator {
    fn request_job(&self) -> BoxFuture<'_, Result<Option<JobPayload>, CoordinatorError>> {
        async { Ok(self.run.request_job().await) }.boxed()
    }

    fn update_job(&self, job: JobId, update: JobUpdate) -> BoxFuture<'_, Result<(), CoordinatorError>> {
        async move { self.run.update_job(job, update).await.map_err(refused("the job's state")) }.boxed()
    }

    fn append_trace<'a>(&'a self, job: &'a JobAccess, offset: u64, bytes: Bytes) -> BoxFuture<'a, Result<(), CoordinatorError>> {
        async move { self.run.append_trace(&access(job), offset, bytes.to_vec()).await.map_err(refused("the trace")) }.boxed()
    }

    fn upload_artifacts<'a>(&'a self, job: &'a JobAccess, upload: ArtifactUpload) -> BoxFuture<'a, Result<(), CoordinatorError>> {
        async move {
            self.keep(job.id, &upload).await?;
            let access = access(job);
            let stored = self.run.store_artifacts(&access, &upload.artifact.artifact_type, &upload.filename, &upload.file);
            stored.await.map_err(refused("the artifacts"))
        }
        .boxed()
    }

    fn download_artifacts<'a>(&'a self, dependency: &'a Dependency, to: &'a Path) -> BoxFuture<'a, Result<(), CoordinatorError>> {
        async move { self.run.open_artifacts(dependency, to).await.map_err(refused("artifacts of an earlier job")) }.boxed()
    }

    fn signals(&self, job: JobId) -> JobSignals {
        let signals = self.run.signals(job);
        JobSignals { cancel: signals.cancel, abort: signals.abort }
    }
}
