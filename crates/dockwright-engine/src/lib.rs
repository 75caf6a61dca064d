//! The Docker Engine API, the engine behind it, and the engine host that several engines share.
//!
//! Deliberately absent: GitLab, jobs, YAML.

pub mod api;
mod body;
pub mod broker;
mod build_backend;
mod container;
pub mod engine;
pub mod error;
pub mod event;
mod exec;
pub mod host;
pub mod id;
pub mod image;
mod network;
mod owner;
mod process;
pub mod sandbox;
mod stand_in;
pub mod time;
mod tree;
pub mod volume;

pub use engine::{Engine, EngineSettings};
pub use error::{EngineError, ErrorKind};
pub use process::engine_main;
pub use stand_in::dind_main;
