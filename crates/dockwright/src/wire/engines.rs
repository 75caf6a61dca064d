//! Docker engines for jobs: of the engine host, or somebody else's.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use dockwright_runner::{AcquireEngineError, EngineLease, EngineProvider, EngineRequest, engine_provider::RegistryCredentials};
use futures_util::{FutureExt as _, future::BoxFuture};

use super::{
    control::{Answer, EngineOrder, Login, Problem, RegistryGrant, Request},
    host_process::{HostError, HostProcess},
    lazy_engine,
};

/// Where this program is in every engine's file system.
const PROGRAM_IN_ENGINE: &str = "/.dockwright";

/// Gives every job an engine of its own.
pub(crate) struct EmbeddedEngines {
    host: Arc<HostProcess>,
    /// `CI_REGISTRY`: credentials for it are grants rather than logins.
    registry: Option<String>,
    /// Where sockets of engines that are not started yet are made.
    sockets: PathBuf,
    /// Jobs of two coordinators may have the same number.
    count: AtomicU64,
}

impl EmbeddedEngines {
    pub(crate) fn new(host: Arc<HostProcess>, registry: Option<String>, sockets: PathBuf) -> Self {
        Self { host, registry, sockets, count: AtomicU64::new(0) }
    }

    fn order(&self, request: EngineRequest) -> EngineOrder {
        let registry = grant(&request, self.registry.as_deref());
        let login = |credentials: RegistryCredentials| Login {
            host: credentials.host,
            username: credentials.username,
            password: credentials.password,
        };
        EngineOrder {
            name: format!("job-{}-{}-{}", std::process::id(), request.job_id, self.count.fetch_add(1, Ordering::Relaxed)),
            project: request.project_path,
            protected: request.protected,
            credentials: request.registry_credentials.into_iter().map(login).collect(),
            shared_paths: request.shared_paths,
            registry,
        }
    }
}

fn grant(request: &EngineRequest, registry: Option<&str>) -> Option<RegistryGrant> {
    let registry = registry?;
    let credentials = request.registry_credentials.iter().find(|credentials| credentials.host == registry)?;
    Some(RegistryGrant {
        username: credentials.username.clone(),
        password: credentials.password.clone(),
        project: request.project_path.clone(),
    })
}

impl EngineProvider for EmbeddedEngines {
    fn acquire(&self, request: EngineRequest) -> BoxFuture<'_, Result<EngineLease, AcquireEngineError>> {
        async move {
            // A job that shares directories with its engine runs outside of it, and may never use it.
            let runs_outside = !request.shared_paths.is_empty();
            let order = self.order(request);
            if runs_outside {
                let lease = lazy_engine::lease(Arc::clone(&self.host), order, &self.sockets);
                return lease.map_err(|error| AcquireEngineError::Start { source: Box::new(error) });
            }
            let engine = AcquiredEngine::acquire(&self.host, order).await?;
            let (endpoint, no_network) = (engine.endpoint.clone(), engine.no_network.as_ref().map(Problem::with_remedy));
            let lease = EngineLease::job_scoped(endpoint, move || async move { engine.release().await }.boxed());
            Ok(lease.with_program(PROGRAM_IN_ENGINE).with_warning(no_network))
        }
        .boxed()
    }
}

/// An engine of the host, given back when dropped at the latest.
pub(super) struct AcquiredEngine {
    order: PlacedOrder,
    endpoint: String,
    no_network: Option<Problem>,
}

impl AcquiredEngine {
    /// Has an engine started. Dropping the future gives it back, too.
    pub(super) async fn acquire(host: &Arc<HostProcess>, order: EngineOrder) -> Result<Self, HostError> {
        let placed = PlacedOrder { host: Arc::clone(host), engine: Some(order.name.clone()) };
        match host.call(Request::Acquire(order)).await? {
            Answer::Engine { endpoint, no_network, .. } => Ok(Self { order: placed, endpoint, no_network }),
            answer => Err(HostError::Unexpected(answer)),
        }
    }

    /// Returns why its containers have no way out of this machine, if they have none.
    pub(super) fn no_network(&self) -> Option<&Problem> {
        self.no_network.as_ref()
    }

    pub(super) fn socket(&self) -> &Path {
        Path::new(self.endpoint.trim_start_matches("unix://"))
    }

    /// Ends it and returns when nothing of it runs any more.
    pub(super) async fn release(mut self) {
        if let Some(engine) = self.order.engine.take() {
            release(&self.order.host, engine).await;
        }
    }
}

/// An order that the host knows of and that somebody must take back.
struct PlacedOrder {
    host: Arc<HostProcess>,
    engine: Option<String>,
}

impl Drop for PlacedOrder {
    fn drop(&mut self) {
        // Without a runtime everything ends anyway.
        if let (Some(engine), Ok(runtime)) = (self.engine.take(), tokio::runtime::Handle::try_current()) {
            let host = Arc::clone(&self.host);
            runtime.spawn(async move { release(&host, engine).await });
        }
    }
}

async fn release(host: &HostProcess, engine: String) {
    if let Err(error) = host.call_if_running(Request::Release { engine }).await {
        tracing::debug!(%error, "release an engine");
    }
}

impl From<HostError> for AcquireEngineError {
    fn from(error: HostError) -> Self {
        match error {
            HostError::CannotStart(problem) => Self::Unsupported { reason: problem.to_string(), remedy: problem.remedy },
            error => Self::Start { source: Box::new(error) },
        }
    }
}

/// A Docker that somebody else runs, with the embedded registry beside it.
pub(crate) struct ForeignEngine {
    endpoint: String,
    host: Arc<HostProcess>,
    registry: Option<String>,
}

impl ForeignEngine {
    pub(crate) fn new(endpoint: String, host: Arc<HostProcess>, registry: Option<String>) -> Self {
        Self { endpoint, host, registry }
    }
}

impl EngineProvider for ForeignEngine {
    fn acquire(&self, request: EngineRequest) -> BoxFuture<'_, Result<EngineLease, AcquireEngineError>> {
        async move {
            if let Some(grant) = grant(&request, self.registry.as_deref()) {
                self.host.call(Request::Allow(grant)).await?;
            }
            Ok(EngineLease::unmanaged(self.endpoint.clone()))
        }
        .boxed()
    }
}

/// Nobody: `--no-engine`.
pub(crate) struct AbsentEngine;

impl EngineProvider for AbsentEngine {
    fn acquire(&self, _request: EngineRequest) -> BoxFuture<'_, Result<EngineLease, AcquireEngineError>> {
        let error = AcquireEngineError::Unsupported {
            reason: "--no-engine was given".to_owned(),
            remedy: Some("leave --no-engine away, or give a Docker with --docker-host".to_owned()),
        };
        async move { Err(error) }.boxed()
    }
}
