//! The Docker Engine API, the engine behind it, and the engine host that several engines share.
//!
//! Deliberately absent: GitLab, jobs, YAML.

pub mod api;
pub mod broker;
pub mod engine;
pub mod error;
pub mod event;
pub mod host;
pub mod image;

pub use engine::{Engine, EngineSettings};
pub use error::{EngineError, ErrorKind};
