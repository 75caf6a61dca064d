//! Containers: what they are, the table of them, and their life.
//!
//! ```text
//!             start            exit
//!  created ──────────► running ─────► exited ──remove──► (gone)
//!                       ▲   │ pause      │ start, or the restart policy
//!                       │   ▼            │
//!                       │ paused         │
//!                       └────────────────┘
//! ```
//!
//! Starting, stopping and removing one container exclude each other ([`Container::life`]). The state itself is changed in single steps
//! under its own lock, and whoever waits for a change watches [`Phase`].

pub(crate) mod config;
mod create;
mod fields;
pub(crate) mod health;
pub(crate) mod log;
pub(crate) mod mount;
pub(crate) mod name;
mod show;
mod start;
pub(crate) mod stdio;
mod stop;

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use dockwright_store::ImageId;
use jiff::Timestamp;
use tokio::{sync::watch, task::JoinSet};

use self::{
    config::{Config, EndpointConfig, HostConfig},
    health::Health,
    mount::MountPoint,
    stdio::{Input, Output, Terminal},
};
use crate::{
    error::{EngineError, Result},
    network::{Endpoint, ports::Published},
};

pub(crate) use fields::Fields;
pub(crate) use show::{ListItem, list_item};
pub(crate) use start::{interface, limits};
pub(crate) use stop::{WaitCondition, parse_signal};

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Created,
    Running,
    Paused,
    Restarting,
    Exited,
    Removing,
}

impl Status {
    /// Returns Docker's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Removing => "removing",
        }
    }
}

/// What others wait for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Phase {
    pub(crate) running: bool,
    /// How often the container has ended.
    pub(crate) exits: u64,
    pub(crate) exit_code: i32,
    pub(crate) removed: bool,
}

/// A container.
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) created: Timestamp,
    pub(crate) image: ImageId,
    /// Whether the engine itself stands in for the image, which is one of Docker in Docker.
    pub(crate) is_stand_in: bool,
    pub(crate) config: Config,
    pub(crate) host: HostConfig,
    pub(crate) mounts: Vec<MountPoint>,
    /// Directory on disk: upper and work directory, generated files, log.
    pub(crate) dir: PathBuf,
    pub(crate) output: Arc<Output>,
    pub(crate) input: Input,
    /// Held by whoever starts, stops or removes the container.
    pub(crate) life: tokio::sync::Mutex<()>,
    phase: watch::Sender<Phase>,
    state: Mutex<State>,
}

/// What changes in a container.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) name: String,
    pub(crate) status: Status,
    pub(crate) pid: u32,
    pub(crate) exit_code: i32,
    pub(crate) error: String,
    pub(crate) oom_killed: bool,
    pub(crate) started: Option<Timestamp>,
    pub(crate) finished: Option<Timestamp>,
    pub(crate) restart_count: u32,
    /// Somebody stopped it, so the restart policy does not apply.
    pub(crate) stop_requested: bool,
    /// By name of the network.
    pub(crate) networks: BTreeMap<String, Attachment>,
    pub(crate) published: Vec<Published>,
    pub(crate) health: Option<Health>,
    pub(crate) execs: Vec<String>,
    pub(crate) run: Option<Run>,
}

/// A container's part in a network.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attachment {
    pub(crate) config: EndpointConfig,
    pub(crate) network_id: String,
    /// While it runs.
    pub(crate) endpoint: Option<Endpoint>,
}

/// What exists only while a container runs.
#[derive(Debug, Default)]
pub(crate) struct Run {
    pub(crate) terminal: Option<Arc<Terminal>>,
    /// Name server, published ports, health checks; they end with the run.
    pub(crate) services: JoinSet<()>,
}

impl Container {
    /// Returns the state; changes are single steps, so a panic elsewhere does not spoil it.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the name, without a slash.
    pub(crate) fn name(&self) -> String {
        self.state().name.clone()
    }

    /// Whether a process runs, paused or not.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.state().status, Status::Running | Status::Paused)
    }

    /// Watches the life.
    pub(crate) fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Returns attributes of events: labels, image and name.
    pub(crate) fn event_attributes(&self) -> BTreeMap<String, String> {
        let mut attributes = self.config.labels.clone();
        attributes.insert("image".to_owned(), self.config.image.clone());
        attributes.insert("name".to_owned(), self.name());
        attributes
    }

    /// Returns the error for an operation that needs a running container.
    pub(crate) fn not_running(&self) -> EngineError {
        EngineError::conflict(format!("container {} is not running", self.id))
    }
}

/// The containers of one engine, by id and by name.
#[derive(Default)]
pub(crate) struct Containers {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    containers: HashMap<String, Arc<Container>>,
    /// Names in use, of containers that exist or are being made.
    names: HashMap<String, String>,
}

impl Containers {
    /// Finds a container by full id, name, or unique prefix of an id.
    pub(crate) fn find(&self, name: &str) -> Result<Arc<Container>> {
        let table = self.lock();
        let plain = name.strip_prefix('/').unwrap_or(name);
        let by_name = || table.names.get(plain).and_then(|id| table.containers.get(id));
        if let Some(container) = table.containers.get(plain).or_else(by_name) {
            return Ok(Arc::clone(container));
        }
        let mut matching = table.containers.iter().filter(|(id, _)| !plain.is_empty() && id.starts_with(plain));
        match (matching.next(), matching.next()) {
            (Some((_, container)), None) => Ok(Arc::clone(container)),
            (Some(_), Some(_)) => Err(EngineError::invalid(format!("multiple IDs found with provided prefix: {plain}"))),
            _ => Err(EngineError::not_found(format!("No such container: {name}"))),
        }
    }

    /// Returns all containers, newest first.
    pub(crate) fn list(&self) -> Vec<Arc<Container>> {
        let mut containers: Vec<_> = self.lock().containers.values().cloned().collect();
        containers.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        containers
    }

    /// Takes a name for a container that is being made.
    fn reserve(&self, name: &str, id: &str) -> Result<()> {
        let mut table = self.lock();
        if let Some(owner) = table.names.get(name) {
            return Err(EngineError::conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". You have to remove (or rename) that container to be able to reuse that name."
            )));
        }
        table.names.insert(name.to_owned(), id.to_owned());
        Ok(())
    }

    fn release(&self, name: &str) {
        self.lock().names.remove(name);
    }

    fn insert(&self, container: Arc<Container>) {
        self.lock().containers.insert(container.id.clone(), container);
    }

    fn remove(&self, container: &Container) {
        let mut table = self.lock();
        table.containers.remove(&container.id);
        table.names.retain(|_, id| *id != container.id);
    }

    /// Gives a container another name.
    pub(crate) fn rename(&self, container: &Container, name: &str) -> Result<()> {
        self.reserve(name, &container.id)?;
        let old = std::mem::replace(&mut container.state().name, name.to_owned());
        self.release(&old);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
