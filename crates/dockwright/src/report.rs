//! How a run is told: one closed set of events, and one reader of them per form of output.
//!
//! Events come from the coordinator and the engine host over a channel. One thread owns the reader, so lines of two jobs never mix.
//! Data (what jobs print, what was pushed, JSON) goes to standard output, everything else to standard error.

mod json;
mod live;
mod plain;
mod quiet;
mod release;
mod streams;
mod summary;
mod test_report;
mod thread;
mod trace_lines;

use std::time::Duration;

use dockwright_coordinator::{ReleasePlan, TestReport};
use serde::Serialize;

pub(crate) use streams::{FAILURE, FAINT, HINT, SUCCESS, Streams, WARNING, print_error, print_problem, print_warning};
pub(crate) use summary::PipelineStatus;
pub(crate) use thread::ReportThread;
pub(crate) use trace_lines::{TraceItem, TraceLines};

use crate::cli::RunArgs;

/// Something that happened during a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum RunEvent {
    PipelineStarted {
        pipeline: u64,
        project: String,
        #[serde(rename = "ref")]
        ref_name: String,
        sha: String,
        /// Every job that takes part, in the order of stages.
        jobs: Vec<String>,
    },
    JobStarted {
        job: String,
        id: u64,
        stage: String,
    },
    /// A part of the job began, in GitLab's words (`get_sources`, `step_script`).
    JobPhase {
        job: String,
        phase: String,
    },
    /// One line of the job's trace, without its line end.
    JobOutput {
        job: String,
        line: String,
    },
    JobFinished {
        job: String,
        #[serde(flatten)]
        outcome: JobOutcome,
        #[serde(serialize_with = "as_seconds", rename = "duration_secs")]
        duration: Duration,
        /// Percentage of covered code, where the job has `coverage` and printed it.
        #[serde(skip_serializing_if = "Option::is_none")]
        coverage: Option<f64>,
        /// What the job's JUnit report says.
        #[serde(skip_serializing_if = "Option::is_none")]
        tests: Option<TestReport>,
        /// What GitLab would have released after the job.
        #[serde(skip_serializing_if = "Option::is_none")]
        release: Option<ReleasePlan>,
        /// Where the whole trace is kept.
        #[serde(skip_serializing_if = "Option::is_none")]
        trace: Option<String>,
    },
    /// An engine put an image into the embedded registry.
    ImagePushed {
        reference: String,
        digest: String,
    },
    Warning {
        message: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
    PipelineFinished {
        status: PipelineStatus,
        #[serde(serialize_with = "as_seconds", rename = "duration_secs")]
        duration: Duration,
    },
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub(crate) enum JobOutcome {
    Success,
    Failed {
        /// GitLab's `failure_reason`.
        reason: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        exit_code: Option<i32>,
        /// The pipeline goes on as if it had succeeded.
        allowed: bool,
        /// The job runs again.
        retried: bool,
    },
    Canceled,
    /// An earlier job failed, or nothing this job waited for ran.
    Skipped,
    /// Waits for somebody to start it.
    Manual,
}

fn as_seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((duration.as_secs_f64() * 1000.0).round() / 1000.0)
}

/// One form of output.
pub(crate) trait Reporter: Send {
    fn event(&mut self, event: &RunEvent);
}

/// Which form of output a run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReportMode {
    /// One line per job on a terminal, redrawn; the failing job's log at the end.
    Live,
    /// What jobs print, each line with its job's name.
    Plain,
    /// Only failures.
    Quiet,
    /// One JSON object per event.
    Json,
}

impl ReportMode {
    pub(crate) fn decide(typed: &RunArgs, streams: &Streams) -> Self {
        match typed {
            RunArgs { json: true, .. } => Self::Json,
            RunArgs { quiet: true, .. } => Self::Quiet,
            _ if streams.can_redraw() => Self::Live,
            _ => Self::Plain,
        }
    }

    /// Makes the reader that prints this form.
    pub(crate) fn reporter(self, streams: Streams) -> Box<dyn Reporter> {
        match self {
            Self::Live => Box::new(live::LiveReporter::new(streams)),
            Self::Plain => Box::new(plain::PlainReporter::new(streams)),
            Self::Quiet => Box::new(quiet::QuietReporter::new(streams)),
            Self::Json => Box::new(json::JsonReporter::new(streams)),
        }
    }
}
