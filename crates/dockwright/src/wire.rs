//! Connects the crates: the coordinator and the runner to each other, both to the engine host, and all of them to the report.

mod builds;
mod checkout;
pub(crate) mod control;
mod coordinator;
mod engines;
mod events;
pub(crate) mod host_namespace;
mod host_process;
pub(crate) mod host_setup;
mod lazy_engine;
mod pipeline_run;
mod project;
mod selection;
mod stop;
mod web;

pub(crate) use builds::BuildsDirectory;
pub(crate) use checkout::Checkout;
pub(crate) use coordinator::LocalCoordinator;
pub(crate) use engines::{AbsentEngine, EmbeddedEngines, ForeignEngine};
pub(crate) use events::{JobNames, translate};
pub(crate) use host_process::{HostError, HostProcess, HostSettings};
pub(crate) use pipeline_run::{RunEnd, run_pipeline};
pub(crate) use project::{EMPTY, LoadedPipeline, OpenedProject};
pub(crate) use selection::{no_such_job, select_jobs};
pub(crate) use stop::{Signal, Stop};
pub(crate) use web::WebClient;
