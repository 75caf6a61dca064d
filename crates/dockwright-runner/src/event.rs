//! What a runner does, for progress displays. Everything that matters to a job's result goes to the coordinator instead.

use dockwright_job::{FailureReason, JobId};

use crate::Phase;

/// Something that happened to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunnerEvent {
    /// A job was taken and starts.
    JobStarted { job: JobId, name: String },
    /// A job entered a phase; phases with nothing to do are not entered.
    PhaseStarted { job: JobId, phase: Phase },
    /// A job has ended and nothing of it runs any more. `failure` is `None` when it succeeded.
    JobFinished { job: JobId, failure: Option<FailureReason>, exit_code: Option<i32> },
}
