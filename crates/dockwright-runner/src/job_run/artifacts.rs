//! `artifacts:` and `dependencies`: archives that go through the coordinator.

use std::path::Path;

use dockwright_job::{Artifact, ArtifactFormat, Dependency};
use futures_util::future::BoxFuture;

use super::{Work, cache::applies, provenance};
use crate::{
    CoordinatorError, Phase,
    coordinator::ArtifactUpload,
    executor::{ExecuteError, Executor, ExecutorContext, HelperFiles},
    helper::{ArchiveOptions, Format, HelperRequest, Level, Selection, Statement},
    outcome::{self, Failure},
};

impl Work<'_> {
    pub(super) async fn download_artifacts(&mut self) -> Result<(), Failure> {
        let dependencies = self.context.payload.dependencies.clone();
        let with_archive: Vec<Dependency> =
            dependencies.into_iter().filter(|dependency| !dependency.artifacts_file.filename.is_empty()).collect();
        if with_archive.is_empty() {
            return Ok(());
        }
        self.start(&Phase::DownloadArtifacts).await;
        if let Executor::Custom(_) = self.executor {
            let result = self.download_artifacts_remotely(&with_archive).await;
            self.end(&Phase::DownloadArtifacts).await;
            return result;
        }
        let mut result = Ok(());
        for dependency in &with_archive {
            self.context.trace.info(format!("Downloading artifacts for {} ({})...", dependency.name, dependency.id)).await;
            result = self.download(dependency).await;
            if result.is_err() {
                break;
            }
            self.context.trace.line(format!("Downloading artifacts from coordinator... ok        id={}", dependency.id)).await;
        }
        self.end(&Phase::DownloadArtifacts).await;
        result
    }

    async fn download(&mut self, dependency: &Dependency) -> Result<(), Failure> {
        let directory = temporary_directory(&self.context)?;
        let file = directory.path().join("artifacts.zip");
        let attempts = self.attempts("ARTIFACT_DOWNLOAD_ATTEMPTS");
        let mut attempt = 1;
        loop {
            match self.unless_stopped(self.job.runner.coordinator.download_artifacts(dependency, &file)).await {
                Err(Failure::Coordinator(error)) if attempt < attempts => self.context.trace.warning(outcome::chain(&error)).await,
                Ok(()) => break,
                failed => return failed,
            }
            attempt += 1;
        }
        let request = HelperRequest::Extract { directory: self.context.directories.project.clone().into() };
        let files = HelperFiles { input: Some(file), output: None };
        Ok(self.executor.run_helper(&self.context, request, files, &self.stops.job).await?)
    }

    pub(super) async fn upload_artifacts(&mut self, success: bool) -> Result<(), Failure> {
        let artifacts: Vec<Artifact> =
            self.context.payload.artifacts.iter().filter(|artifact| applies(artifact.when, success)).cloned().collect();
        if artifacts.is_empty() {
            return Ok(());
        }
        let phase = if success { Phase::UploadArtifactsOnSuccess } else { Phase::UploadArtifactsOnFailure };
        self.start(&phase).await;
        if let Executor::Custom(_) = self.executor {
            let result = self.upload_artifacts_remotely(&phase, &artifacts).await;
            self.end(&phase).await;
            return result;
        }
        let mut result = Ok(());
        for artifact in artifacts {
            self.context.trace.info("Uploading artifacts...").await;
            if let Err(failure) = self.upload(artifact).await {
                if self.stops.job.is_cancelled() {
                    result = Err(failure);
                    break;
                }
                self.context.trace.warning(failure.message()).await;
                // The others are worth having all the same.
                result = result.and(Err(failure));
            }
        }
        self.end(&phase).await;
        result
    }

    async fn upload(&mut self, artifact: Artifact) -> Result<(), Failure> {
        let directory = temporary_directory(&self.context)?;
        let file = directory.path().join("upload");
        let expand = |texts: &[String]| texts.iter().map(|text| self.context.variables.expand(text)).collect();
        let selection = Selection {
            directory: self.context.directories.project.clone().into(),
            paths: expand(&artifact.paths),
            exclude: expand(&artifact.exclude),
            untracked: artifact.untracked,
        };
        let options = ArchiveOptions {
            statement: self.statement(&artifact),
            ..ArchiveOptions::new(format(artifact.artifact_format), self.level("ARTIFACT_COMPRESSION_LEVEL").await)
        };
        let request = HelperRequest::Archive { selection, options };
        let files = HelperFiles { input: None, output: Some(file.clone()) };
        self.executor.run_helper(&self.context, request, files, &self.stops.job).await?;
        if is_empty(&file).await? {
            self.context.trace.error("No files to upload").await;
            return Ok(());
        }
        let filename = file_name(&artifact, &self.context.variables.expand(&artifact.name));
        let kind = if artifact.artifact_type.is_empty() { "archive" } else { artifact.artifact_type.as_str() };
        let line = format!("Uploading artifacts as \"{kind}\" to coordinator... ok  id={}", self.job.access.id);
        let upload = ArtifactUpload { artifact: artifact.clone(), filename, file };
        self.unless_stopped(self.job.runner.coordinator.upload_artifacts(&self.job.access, upload)).await?;
        self.context.trace.line(line).await;
        Ok(())
    }

    /// Waits for the coordinator, which may be away for a while, as long as the job goes on.
    async fn unless_stopped(&self, request: BoxFuture<'_, Result<(), CoordinatorError>>) -> Result<(), Failure> {
        tokio::select! {
            result = request => Ok(result?),
            () = self.stops.job.cancelled() => Err(ExecuteError::Stopped.into()),
        }
    }

    /// Archives say where they come from if the job wants it.
    fn statement(&self, artifact: &Artifact) -> Option<Statement> {
        let is_wanted = self.context.variables.is_true("RUNNER_GENERATE_ARTIFACTS_METADATA") == Some(true);
        if !is_wanted || artifact.artifact_format != ArtifactFormat::Zip {
            return None;
        }
        let file = file_name(artifact, &self.context.variables.expand(&artifact.name));
        let name = format!("{}-metadata.json", file.trim_end_matches(".zip").replace('/', "_"));
        Some(Statement { name, body: provenance::body(&self.context, self.kind) })
    }

    /// Reads how hard to compress.
    pub(super) async fn level(&self, key: &str) -> Level {
        let word = self.context.variables.text(key);
        match Level::parse(word) {
            Some(level) => level,
            None if word.is_empty() => Level::default(),
            None => {
                let text = format!("{key} \"{word}\" is unknown (there are fastest, fast, default, slow, slowest); the default is used");
                self.context.trace.warning(text).await;
                Level::default()
            }
        }
    }
}

fn format(format: ArtifactFormat) -> Format {
    match format {
        ArtifactFormat::Zip => Format::Zip,
        ArtifactFormat::Gzip => Format::Gzip,
        ArtifactFormat::Raw => Format::Raw,
    }
}

fn temporary_directory(context: &ExecutorContext) -> Result<tempfile::TempDir, Failure> {
    tempfile::tempdir_in(&context.config.scratch_dir).map_err(|source| Failure::Internal { action: "create a temporary directory", source })
}

async fn is_empty(file: &Path) -> Result<bool, ExecuteError> {
    Ok(tokio::fs::metadata(file).await.map_err(ExecuteError::file("read", file))?.len() == 0)
}

fn file_name(artifact: &Artifact, name: &str) -> String {
    let name = match (name, artifact.artifact_type.as_str()) {
        ("", "" | "archive") => "artifacts",
        ("", kind) => kind,
        (name, _) => name,
    };
    match artifact.artifact_format {
        ArtifactFormat::Zip => format!("{name}.zip"),
        ArtifactFormat::Gzip => format!("{name}.gz"),
        ArtifactFormat::Raw => name.to_owned(),
    }
}
