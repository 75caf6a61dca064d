//! The engine: one Docker identity with its containers, networks, volumes and image names.
//!
//! [`Engine`] is a handle; all of its copies share one state. Every part of the state has one owner with its own lock, which is never
//! held across an `.await`.

use std::{
    net::IpAddr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use dockwright_container::spawner::ErrorKind as SpawnerErrorKind;
use tokio::sync::OnceCell;

use crate::{
    api::Caller,
    broker::{Client, HostFacts},
    container::{Container, Containers},
    error::{Context as _, Result},
    event::Events,
    exec::Execs,
    image::{Images, remove::ImageUser},
    network::Networks,
    owner::OwnersThings,
    sandbox::Sandbox,
    volume::Volumes,
};

/// What the sandbox tells an engine at its start.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// Directory on disk for container uppers, volumes and logs; `/var/lib/docker` in a sandbox.
    pub data_dir: PathBuf,
    /// Name of the machine as `docker info` shows it.
    pub name: String,
    /// The engine's own socket in the sandbox, which containers get that ask for `/var/run/docker.sock`.
    pub socket: PathBuf,
}

/// Handle to an engine.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    id: String,
    settings: EngineSettings,
    facts: HostFacts,
    events: Events,
    images: Images,
    sandbox: Sandbox,
    containers: Containers,
    execs: Execs,
    networks: Arc<Networks>,
    volumes: Volumes,
    owners: OwnersThings,
    storage_driver: Mutex<String>,
    network_up: OnceCell<Result<()>>,
}

impl Engine {
    /// Makes an engine without containers.
    pub fn new(settings: EngineSettings, broker: Client, facts: HostFacts, sandbox: Sandbox) -> Result<Self> {
        let events = Events::default();
        for name in ["containers", "volumes", "tmp"] {
            std::fs::create_dir_all(settings.data_dir.join(name)).context(format_args!("make the engine's directory of {name}"))?;
        }
        let images = Images::new(broker, &facts, events.clone(), settings.data_dir.join("tmp"))?;
        let volumes = Volumes::new(settings.data_dir.join("volumes"));
        Ok(Self {
            inner: Arc::new(Inner {
                id: crate::id::random(),
                owners: OwnersThings::new(facts.owner_apart),
                settings,
                facts,
                events,
                images,
                sandbox,
                containers: Containers::default(),
                execs: Execs::default(),
                networks: Arc::default(),
                volumes,
                storage_driver: Mutex::new("overlay2".to_owned()),
                network_up: OnceCell::new(),
            }),
        })
    }

    /// Returns the engine's identity, new at every start.
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// Returns the engine's images.
    pub fn images(&self) -> &Images {
        &self.inner.images
    }

    /// Returns what containers keep from being removed.
    pub fn image_users(&self) -> Vec<ImageUser> {
        let user = |container: Arc<Container>| ImageUser {
            image: container.image,
            container: container.id.clone(),
            running: container.is_running(),
        };
        self.containers().list().into_iter().map(user).collect()
    }

    /// Returns what the engine was told at its start.
    pub fn settings(&self) -> &EngineSettings {
        &self.inner.settings
    }

    /// Returns what the engine's host told about itself.
    pub fn facts(&self) -> &HostFacts {
        &self.inner.facts
    }

    /// Returns the engine's events.
    pub fn events(&self) -> &Events {
        &self.inner.events
    }

    /// Returns the way to PID 1 of the sandbox.
    pub fn sandbox(&self) -> &Sandbox {
        &self.inner.sandbox
    }

    pub(crate) fn containers(&self) -> &Containers {
        &self.inner.containers
    }

    pub(crate) fn execs(&self) -> &Execs {
        &self.inner.execs
    }

    pub(crate) fn networks(&self) -> &Arc<Networks> {
        &self.inner.networks
    }

    /// Waits until the sandbox's network can take containers; the first who needs it brings it up. It is no part of an engine's start:
    /// each of its steps waits for the kernel's one lock on networks, and removing a network that was up holds that lock for up to a
    /// tenth of a second, which would delay the start of the next engine. Many engines never start a container.
    pub(crate) async fn network_up(&self) -> Result<()> {
        self.inner.network_up.get_or_init(|| self.bring_network_up()).await.clone()
    }

    async fn bring_network_up(&self) -> Result<()> {
        let up = tokio::task::spawn_blocking(dockwright_container::network::bring_up).await;
        up.context("bring up the network")?.context("prepare the engine's network")?;
        let bridge = self.networks().find("bridge")?;
        self.make_bridge(&bridge).await?;
        tokio::spawn(self.clone().serve_registry());
        Ok(())
    }

    /// Returns the engine's volumes.
    pub fn volumes(&self) -> &Volumes {
        &self.inner.volumes
    }

    /// Returns what the engine's owner made.
    pub(crate) fn owners(&self) -> &OwnersThings {
        &self.inner.owners
    }

    /// Returns the storage driver as `docker info` names it. Jobs that asked for one by `DOCKER_DRIVER` expect to find it there; how
    /// layers are kept does not depend on it.
    pub(crate) fn storage_driver(&self) -> String {
        self.inner.storage_driver.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_storage_driver(&self, name: String) {
        *self.inner.storage_driver.lock().unwrap_or_else(PoisonError::into_inner) = name;
    }

    /// Returns the container that a request comes from, if it comes from one.
    pub(crate) async fn container_of(&self, caller: Caller) -> Result<Option<String>> {
        match caller {
            Caller::Outside => Ok(None),
            Caller::Process(pid) => {
                let Ok(pid) = u32::try_from(pid) else { return Ok(None) };
                Ok(self.sandbox().ask(move |spawner| spawner.container_of(pid)).await?)
            }
            Caller::Address(peer) => Ok(match peer.ip().to_canonical() {
                IpAddr::V4(address) => self.networks().container_at(address),
                IpAddr::V6(_) => None,
            }),
        }
    }

    /// Finds where a path of a container is, while it runs or not: a root to resolve in, and the path below it. Blocks.
    pub(crate) fn locate(&self, container: &Container, path: &Path) -> Result<(OwnedFd, PathBuf)> {
        let path = crate::container::config::clean_path(&path.to_string_lossy());
        if container.is_running() {
            match self.sandbox().spawner().open_root(&container.id) {
                // It ended just now.
                Err(error) if error.kind() == SpawnerErrorKind::Conflict => {}
                root => return Ok((root?, path.into())),
            }
        }
        // The mounts are in order, outer ones first, so the last that fits is the innermost.
        let below = |target: &str| Path::new(&path).strip_prefix(target).ok().map(Path::to_owned);
        let mounted = container.mounts.iter().rev().find_map(|mount| Some((mount.path()?, below(&mount.target)?)));
        match mounted {
            Some((source, rest)) if source.is_dir() => {
                let root = std::fs::File::open(source).context(format_args!("open the mount of {path}"))?;
                Ok((root.into(), Path::new("/").join(rest)))
            }
            _ => Ok((self.sandbox().spawner().open_rootfs(&container.id)?, path.into())),
        }
    }
}
