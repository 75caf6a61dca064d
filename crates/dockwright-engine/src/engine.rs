//! The engine: one Docker identity with its containers, networks, volumes and image names.
//!
//! [`Engine`] is a handle; all of its copies share one state. Every part of the state has one owner with its own lock, which is never
//! held across an `.await`.

use std::{path::PathBuf, sync::Arc};

use crate::{
    broker::{Client, HostFacts},
    error::Result,
    event::Events,
    image::{Images, remove::ImageUser},
};

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
    images: Images,
}

impl Engine {
    /// Makes an engine without containers.
    pub fn new(settings: EngineSettings, broker: Client, facts: &HostFacts) -> Result<Self> {
        let events = Events::default();
        let images = Images::new(broker, facts, events.clone(), settings.data_dir.join("tmp"))?;
        Ok(Self { inner: Arc::new(Inner { settings, events, images }) })
    }

    /// Returns the engine's images.
    pub fn images(&self) -> &Images {
        &self.inner.images
    }

    /// Returns what containers keep from being removed: the engine has none so far.
    pub fn image_users(&self) -> Vec<ImageUser> {
        Vec::new()
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
