//! The runner: takes jobs from a coordinator, runs their phases in an executor, and reports a masked trace.
//!
//! A job without an image runs in a shell on this machine, a job with an image in containers of a Docker engine. The engine is
//! reached only through the Docker Engine API at an address that an [`EngineProvider`] hands out, so that Dockwright's own engine
//! and any other Docker are the same to this crate. Likewise the coordinator is known only as the [`Coordinator`] trait: GitLab's
//! runner API as a runner sees it.
//!
//! There is no YAML here, no scheduling, and no knowledge of the embedded engine.

pub mod api;
pub mod config;
pub mod coordinator;
mod dispatcher;
pub mod engine_provider;
pub mod event;
mod executor;
mod feature_flag;
pub mod helper;
mod hint;
mod job_run;
pub mod manager;
mod outcome;
pub mod phase;
mod script;
mod sources;
mod trace;
mod variables;

pub use config::RunnerConfig;
pub use coordinator::{Coordinator, CoordinatorError};
pub use dispatcher::Runner;
pub use engine_provider::{AcquireEngineError, EngineLease, EngineProvider, EngineRequest, FixedEndpoint};
pub use event::RunnerEvent;
pub use phase::Phase;
