//! What happens in a pipeline run, for whoever reports it.

use std::time::Duration;

use dockwright_job::{FailureReason, JobId};

use crate::{junit::TestReport, release::ReleasePlan};

/// State of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobStatus {
    /// Waits for other jobs.
    Created,
    /// Waits for a runner.
    Pending,
    Running,
    /// Waits for somebody to start it.
    Manual,
    /// Waits for its time.
    Scheduled,
    /// Waits for another job of its resource group.
    WaitingForResource,
    Success,
    Failed,
    Canceled,
    Skipped,
}

impl JobStatus {
    /// Tells whether the job will not change any more by itself.
    pub fn is_completed(self) -> bool {
        matches!(self, Self::Success | Self::Failed | Self::Canceled | Self::Skipped)
    }

    /// Returns GitLab's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Manual => "manual",
            Self::Scheduled => "scheduled",
            Self::WaitingForResource => "waiting_for_resource",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Skipped => "skipped",
        }
    }
}

/// State of a whole pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PipelineStatus {
    Created,
    Pending,
    Running,
    Success,
    Failed,
    Canceled,
    Skipped,
    /// Only manual jobs that others wait for are left.
    Manual,
}

impl PipelineStatus {
    /// Returns GitLab's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Skipped => "skipped",
            Self::Manual => "manual",
        }
    }
}

/// A change of a pipeline run, in the order in which it happened.
#[derive(Debug, Clone, PartialEq)]
pub enum JobEvent {
    /// A job is part of the run. All jobs are announced before anything starts; a retry announces a new job with the same name.
    Added { job: JobId, name: String, stage: String },
    /// A job's state changed to one in which it does not run.
    Waiting { job: JobId, status: JobStatus },
    /// A runner took the job.
    Started { job: JobId },
    /// Output of a job, masked, as the runner sent it; chunks may cut lines and characters.
    Trace { job: JobId, bytes: Vec<u8> },
    /// Something of a job cannot be used; the job goes on.
    Warning { job: JobId, message: String },
    /// A job that was running ended: `Success`, `Failed` or `Canceled`.
    Finished(JobOutcome),
    /// Nothing more will happen.
    PipelineFinished { status: PipelineStatus },
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq)]
pub struct JobOutcome {
    pub job: JobId,
    pub name: String,
    pub stage: String,
    pub status: JobStatus,
    pub failure_reason: Option<FailureReason>,
    pub exit_code: Option<i32>,
    /// The pipeline succeeds in spite of this failure.
    pub allowed_to_fail: bool,
    /// The job failed and runs again, under this number.
    pub retried_as: Option<JobId>,
    /// The percentage that `coverage` found in the trace.
    pub coverage: Option<f64>,
    /// What its JUnit report says.
    pub tests: Option<TestReport>,
    /// What GitLab would have released after it.
    pub release: Option<ReleasePlan>,
    /// From handing out to the end; zero for a job that did not start.
    pub duration: Duration,
}

/// How a pipeline run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct PipelineResult {
    pub pipeline_id: u64,
    pub status: PipelineStatus,
    /// Every job of the run, retried ones too, by number.
    pub jobs: Vec<JobOutcome>,
}
