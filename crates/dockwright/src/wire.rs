//! Connects the crates: the coordinator and the runner to each other, both to the engine host, and all of them to the report.

pub(crate) mod control;
mod engines;
pub(crate) mod host_namespace;
mod host_process;

pub(crate) use engines::{EmbeddedEngines, ForeignEngine};
pub(crate) use host_process::{HostProcess, HostSettings};
