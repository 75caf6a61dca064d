//! The phases of a job, in their order, with the names and titles that GitLab's viewer knows.

use std::borrow::Cow;

/// A part of a job. The order of the variants is the order of execution.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Phase {
    PrepareExecutor,
    PrepareScript,
    GetSources,
    RestoreCache,
    DownloadArtifacts,
    /// `step_<name>`, nearly always `step_script`.
    Step(String),
    AfterScript,
    ArchiveCache,
    ArchiveCacheOnFailure,
    UploadArtifactsOnSuccess,
    UploadArtifactsOnFailure,
    CleanupFileVariables,
}

impl Phase {
    /// Name of the trace section.
    pub fn section(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::PrepareExecutor => "prepare_executor",
            Self::PrepareScript => "prepare_script",
            Self::GetSources => "get_sources",
            Self::RestoreCache => "restore_cache",
            Self::DownloadArtifacts => "download_artifacts",
            Self::Step(name) => return Cow::Owned(format!("step_{name}")),
            Self::AfterScript => "after_script",
            Self::ArchiveCache => "archive_cache",
            Self::ArchiveCacheOnFailure => "archive_cache_on_failure",
            Self::UploadArtifactsOnSuccess => "upload_artifacts_on_success",
            Self::UploadArtifactsOnFailure => "upload_artifacts_on_failure",
            Self::CleanupFileVariables => "cleanup_file_variables",
        })
    }

    /// Title printed at the head of the section. `executor` is `shell` or `docker`.
    pub fn title(&self, executor: &str) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::PrepareExecutor => return Cow::Owned(format!("Preparing the \"{executor}\" executor")),
            Self::PrepareScript => "Preparing environment",
            Self::GetSources => "Getting source from Git repository",
            Self::RestoreCache => "Restoring cache",
            Self::DownloadArtifacts => "Downloading artifacts",
            Self::Step(name) => return Cow::Owned(format!("Executing \"step_{name}\" stage of the job script")),
            Self::AfterScript => "Running after_script",
            Self::ArchiveCache => "Saving cache for successful job",
            Self::ArchiveCacheOnFailure => "Saving cache for failed job",
            Self::UploadArtifactsOnSuccess => "Uploading artifacts for successful job",
            Self::UploadArtifactsOnFailure => "Uploading artifacts for failed job",
            Self::CleanupFileVariables => "Cleaning up project directory and file based variables",
        })
    }
}
