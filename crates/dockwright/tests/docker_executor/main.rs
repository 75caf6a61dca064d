//! The docker executor of the runner on a real dockerd and on our engine: the same jobs, the same traces.
//!
//! Both engines are in one network namespace, with a registry, so that addresses mean the same to both.

// One daemon and one recording coordinator for the tests of both crates.
#[allow(dead_code)]
#[path = "../../../dockwright-runner/tests/it/dockerd.rs"]
mod dockerd;
#[allow(dead_code)]
#[path = "../../../dockwright-runner/tests/it/support.rs"]
mod support;

mod cases;
mod credentials;
mod same_traces;
mod world;
