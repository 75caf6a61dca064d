//! Sandboxes: what surrounds one engine and everything it runs.

mod spec;

pub use spec::{IdMapping, RANGE_IDS, SandboxSpec, SharedPath};
