//! `PUT /jobs/:id`: what a runner says about a job, and why a job failed.

use serde::{Deserialize, Serialize};

use crate::JobToken;

/// State of a job as its runner reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    Running,
    Success,
    Failed,
}

/// Why a job failed, in GitLab's words (`failure_reason`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    ScriptFailure,
    RunnerSystemFailure,
    JobExecutionTimeout,
    ImagePullFailure,
    UnknownFailure,
    RunnerConfigurationError,
    RunnerExternalDependencyFailure,
    RunnerInterrupted,
    /// Artifacts that a job needs are not there; the coordinator says so.
    MissingDependencyFailure,
    /// Internal to the runner: the coordinator already knows.
    JobCanceled,
}

impl FailureReason {
    /// Returns GitLab's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ScriptFailure => "script_failure",
            Self::RunnerSystemFailure => "runner_system_failure",
            Self::JobExecutionTimeout => "job_execution_timeout",
            Self::ImagePullFailure => "image_pull_failure",
            Self::UnknownFailure => "unknown_failure",
            Self::RunnerConfigurationError => "runner_configuration_error",
            Self::RunnerExternalDependencyFailure => "runner_external_dependency_failure",
            Self::RunnerInterrupted => "runner_interrupted",
            Self::MissingDependencyFailure => "missing_dependency_failure",
            Self::JobCanceled => "job_canceled",
        }
    }
}

/// Length and CRC-32 (IEEE, `crc32:xxxxxxxx`) of the whole trace after masking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceChecksum {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytesize: Option<u64>,
}

/// Body of `PUT /jobs/:id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobUpdate {
    pub token: JobToken,
    pub state: JobState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<FailureReason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<TraceChecksum>,
    /// Exit code of the script; omitted when 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}
