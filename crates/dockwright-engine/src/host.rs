//! The engine host: what engines share, and what starts and ends them.
//!
//! ```text
//! EngineHost ── store, registry (client and server), helper image, pool of ids
//!  ├─ engine "42"   session (grants, credentials) ◄─ broker socket ─► sandbox 42: PID 1, engine, containers
//!  └─ engine "43"   …
//! ```
//!
//! The host is root, or root of a user namespace. It is the only one that reads the store. An engine is known to it as a session of the
//! broker protocol and a sandbox; ending the sandbox ends everything that the engine started.
//!
//! **Crashes.** Sandboxes die with the host: the kernel sends their PID 1 the signal. What lies in `jobs/<id>/` is removed by the next
//! host that starts at the same home, as soon as the directory's lock is free; leases in the store end with the process as well.

mod authority;
mod engine;
mod helper_image;
mod id_range;
mod job_dir;
mod registry;
mod shared;
mod spec;

use std::{
    collections::HashMap,
    fs, io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use dockwright_container::sandbox::sweep_cgroups;
use dockwright_registry::{Client, ClientError, ClientOptions};
use dockwright_store::{OpenError, Store};
use tokio::sync::broadcast;

pub(crate) use self::{
    authority::{Access, JobAuthority},
    shared::Shared,
};
use self::{engine::RunningEngine, registry::ServedRegistry};
pub use self::{
    engine::{CreateEngineError, EngineInfo, descriptor},
    helper_image::{HelperImageError, helper_image_name},
    id_range::{IdPool, TakeIdsError},
    job_dir::JobDirError,
    registry::ServeRegistryError,
    shared::PushedImage,
    spec::{EngineSpec, HostConfig, PublishMode, RegistrySettings, RegistryUser, TrustScope},
};

/// Makes engines. Dropping it ends them all.
pub struct EngineHost {
    shared: Arc<Shared>,
    config: HostConfig,
    engines: Mutex<HashMap<String, RunningEngine>>,
}

/// Failure to start an engine host.
#[derive(Debug, thiserror::Error)]
pub enum StartHostError {
    #[error("create the directory `{}`", path.display())]
    CreateDir {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("open the store")]
    OpenStore(#[from] OpenError),
    #[error("remove what dead engines left")]
    Sweep(#[from] JobDirError),
    #[error("make the helper image")]
    HelperImage(#[from] HelperImageError),
    #[error("serve the registry")]
    Registry(#[from] ServeRegistryError),
    #[error("make the client of registries")]
    Client(#[from] ClientError),
}

impl EngineHost {
    /// Opens the store, sweeps what dead engines left, makes the helper image where it is missing, and serves the registry.
    ///
    /// Blocks for as long as that takes; call it within a Tokio runtime.
    pub fn start(config: HostConfig) -> Result<Self, StartHostError> {
        let ids = config.home.join(job_dir::JOBS).join(job_dir::ID_LOCKS);
        fs::create_dir_all(&ids).map_err(|source| StartHostError::CreateDir { path: ids, source })?;
        for abandoned in job_dir::abandoned(&config.home.join(job_dir::JOBS))? {
            abandoned.remove();
        }
        sweep_cgroups();
        let store = Store::open(&config.home.join("store"))?;
        let helper_image = Some(helper_image::make(&store, &config.binary)?);
        let authority = Arc::new(JobAuthority::default());
        let registry = config.registry.as_ref();
        let served = registry.map(|registry| ServedRegistry::start(registry.listen, &store, &authority)).transpose()?;
        let aliases = registry.zip(served.as_ref()).map(|(settings, served)| (settings.name.clone(), served.address));
        let client = Client::new(ClientOptions { aliases: aliases.into_iter().collect(), ..ClientOptions::default() })?;
        let registry_name = registry.map(|registry| registry.name.clone());
        let shared = Shared { store, authority, client, registry_name, served, pushes: Shared::push_channel(), helper_image };
        Ok(Self { shared: Arc::new(shared), config, engines: Mutex::default() })
    }

    /// Starts an engine. Its API answers when this returns.
    pub async fn create_engine(&self, spec: EngineSpec) -> Result<EngineInfo, CreateEngineError> {
        let engine = RunningEngine::start(self, spec).await?;
        let info = engine.info().clone();
        self.engines().insert(info.id.clone(), engine);
        Ok(info)
    }

    /// Ends an engine and everything it runs, and removes its files. Returns false for an engine that does not exist.
    pub async fn remove_engine(&self, id: &str) -> bool {
        let Some(engine) = self.engines().remove(id) else { return false };
        self.shared.authority.dismiss(id);
        // Waits for the processes to be gone, and removes a directory tree.
        let removed = tokio::task::spawn_blocking(move || drop(engine)).await;
        removed.is_ok()
    }

    /// Waits until an engine ends by itself; at once for one that does not exist.
    pub async fn engine_ended(&self, id: &str) {
        let ended = self.engines().get(id).map(RunningEngine::ended);
        if let Some(ended) = ended {
            ended.await;
        }
    }

    /// Lets somebody use the host's own registry who has no engine.
    pub fn allow(&self, user: RegistryUser) {
        // No engine's id looks like this.
        self.shared.authority.admit(&format!("/{}/{}", user.name, user.repository), user);
    }

    /// Returns where the host's own registry listens.
    pub fn registry_address(&self) -> Option<SocketAddr> {
        self.shared.registry_address()
    }

    /// Tells of pushes to the host's own registry from now on.
    pub fn pushes(&self) -> broadcast::Receiver<PushedImage> {
        self.shared.pushes.subscribe()
    }

    /// Returns the store, for commands that look into it.
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// Entries are added and removed whole, so a panic elsewhere does not spoil the table.
    fn engines(&self) -> MutexGuard<'_, HashMap<String, RunningEngine>> {
        self.engines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for EngineHost {
    fn drop(&mut self) {
        let engines = std::mem::take(&mut *self.engines());
        // All at once, rather than one after the other's end.
        engines.values().for_each(RunningEngine::kill);
    }
}
