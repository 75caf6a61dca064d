//! What a client asks for: the options of `POST /build`, decided.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::backend::{PullPolicy, RunLimits};

/// The options of one build.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// Path of the Dockerfile in the context.
    pub dockerfile: String,
    /// Names for the result, each validated and complete (`name:tag`).
    pub tags: Vec<String>,
    /// The stage to end at; the last one when absent.
    pub target: Option<String>,
    /// `--build-arg`; a name without a value is declared but unset.
    pub build_args: BTreeMap<String, Option<String>>,
    /// `--label`: added to the result last, by name.
    pub labels: BTreeMap<String, String>,
    /// Use no remembered result; new results are still remembered.
    pub no_cache: bool,
    pub pull: PullPolicy,
    /// Images whose history may answer steps.
    pub cache_from: Vec<String>,
    /// `os/arch[/variant]`; the host's when absent.
    pub platform: Option<String>,
    /// `RUN` steps' resources and network.
    pub limits: RunLimits,
    /// Says `Removing intermediate container`; the container is removed in any case.
    pub remove_containers: bool,
    /// The clock.
    pub now: fn() -> Timestamp,
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self {
            dockerfile: "Dockerfile".to_owned(),
            tags: Vec::new(),
            target: None,
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            no_cache: false,
            pull: PullPolicy::IfMissing,
            cache_from: Vec::new(),
            platform: None,
            limits: RunLimits::default(),
            remove_containers: true,
            now: Timestamp::now,
        }
    }
}
