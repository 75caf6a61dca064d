//! Docker engines for jobs: of the engine host, or somebody else's.

use std::sync::Arc;

use dockwright_runner::{AcquireEngineError, EngineLease, EngineProvider, EngineRequest};
use futures_util::{FutureExt as _, future::BoxFuture};

use super::{
    control::{Answer, EngineOrder, Login, RegistryGrant, Request},
    host_process::{HostError, HostProcess},
};

/// Where this program is in every engine's file system.
const PROGRAM_IN_ENGINE: &str = "/.dockwright";

/// Gives every job an engine of its own.
pub(crate) struct EmbeddedEngines {
    host: Arc<HostProcess>,
    /// `CI_REGISTRY`: credentials for it are grants rather than logins.
    registry: Option<String>,
}

impl EmbeddedEngines {
    pub(crate) fn new(host: Arc<HostProcess>, registry: Option<String>) -> Self {
        Self { host, registry }
    }

    fn order(&self, request: EngineRequest) -> EngineOrder {
        let registry = grant(&request, self.registry.as_deref());
        let login = |credentials: dockwright_runner::engine_provider::RegistryCredentials| Login {
            host: credentials.host,
            username: credentials.username,
            password: credentials.password,
        };
        EngineOrder {
            name: format!("job-{}-{}", std::process::id(), request.job_id),
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
            let order = self.order(request);
            let (engine, endpoint) = match self.host.call(Request::Acquire(order)).await? {
                Answer::Engine { engine, endpoint } => (engine, endpoint),
                answer => return Err(unexpected(&answer)),
            };
            let host = Arc::clone(&self.host);
            let release = move || {
                async move {
                    if let Err(error) = host.call(Request::Release { engine }).await {
                        tracing::warn!(%error, "release an engine");
                    }
                }
                .boxed()
            };
            Ok(EngineLease::job_scoped(endpoint, release).with_program(PROGRAM_IN_ENGINE))
        }
        .boxed()
    }
}

fn unexpected(answer: &Answer) -> AcquireEngineError {
    AcquireEngineError::Start { source: format!("unexpected answer {answer:?}").into() }
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
