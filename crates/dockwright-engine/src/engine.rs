//! The engine: one Docker identity with its containers, networks, volumes and image names.
//!
//! [`Engine`] is a handle; all of its copies share one state. Every part of the state has one owner with its own lock, which is never
//! held across an `.await`.

use std::{path::PathBuf, sync::Arc};

use crate::event::Events;

/// What the sandbox tells an engine at its start.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// Directory on disk for container uppers, volumes and logs; `/var/lib/docker` in a sandbox.
    pub data_dir: PathBuf,
    /// Name of the machine as `docker info` shows it.
    pub name: String,
}

/// Handle to an engine.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    settings: EngineSettings,
    events: Events,
}

impl Engine {
    /// Makes an engine without containers.
    pub fn new(settings: EngineSettings) -> Self {
        Self { inner: Arc::new(Inner { settings, events: Events::default() }) }
    }

    /// Returns what the engine was told at its start.
    pub fn settings(&self) -> &EngineSettings {
        &self.inner.settings
    }

    /// Returns the engine's events.
    pub fn events(&self) -> &Events {
        &self.inner.events
    }
}
