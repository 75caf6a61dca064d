//! What runs next: pipelines as a state machine, and payloads for the runners that ask.
//!
//! Nothing is executed here. A runner, in this process or elsewhere, asks for jobs and reports what became of them.

mod event;

pub use event::{JobEvent, JobOutcome, JobStatus, PipelineResult, PipelineStatus};
