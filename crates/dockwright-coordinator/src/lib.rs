//! What runs next: pipelines as a state machine, and payloads for the runners that ask.
//!
//! Nothing is executed here but Git. A runner, in this process or elsewhere, asks for jobs and reports what became of them.
//!
//! ```text
//! Project::open ──► context ──► dockwright_pipeline::{parse, evaluate} ──► select ──► PipelineRun::start
//!                                                                                       │        │
//!                                                     request_job, update_job, …  ◄─────┘        └────►  JobEvent
//! ```

mod project;

mod include;

mod configuration;
mod directory;
mod predefined;
mod select;

mod dotenv;
mod downstream;
mod event;
mod junit;
mod payload;
mod release;
mod run;
mod schedule;

pub mod api;
pub mod server;

pub use directory::{DirectoryError, RunDirectory};
pub use dotenv::DotenvError;
pub use event::{JobEvent, JobOutcome, JobStatus, PipelineResult, PipelineStatus};
pub use include::{IncludeOptions, Includes, LockError, LockMode, Web, WebError};
pub use junit::{FailedTest, TestReport};
pub use predefined::{GivenVariable, RegistryFacts, Trigger, Upstream, context};
pub use project::{Commit, GitError, MergeRequest, OpenProjectError, Person, Project, Remote, Tree};
pub use release::{PlannedLink, ReleasePlan};
pub use run::{Access, ChildIncludes, JobSignals, PipelineRun, RunError, RunOptions, StartedRun};
pub use select::{Undelayed, UnknownJobError, select, undelay, with_needed};
