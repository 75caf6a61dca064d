//! Where a job's Docker engine comes from.
//!
//! The runner asks for an engine when a job is prepared and gives it back when the job is cleaned up, whatever happened between.
//! What an engine is, the runner does not know: an address that speaks the Docker Engine API.

use std::{error::Error, fmt, path::PathBuf, sync::Mutex};

use dockwright_job::JobId;
use futures_util::{FutureExt as _, future::BoxFuture};

/// Hands out Docker engines.
pub trait EngineProvider: Send + Sync + 'static {
    /// Returns an engine that listens. Dropping the future gives up the request.
    fn acquire(&self, request: EngineRequest) -> BoxFuture<'_, Result<EngineLease, AcquireEngineError>>;
}

/// What an engine is for.
#[derive(Debug, Clone)]
pub struct EngineRequest {
    pub job_id: JobId,
    /// Path with namespace, `group/project`.
    pub project_path: String,
    /// The job runs for a protected ref, and may use what protected jobs left in caches.
    pub protected: bool,
    /// Access to registries that the job was given.
    pub registry_credentials: Vec<RegistryCredentials>,
    /// Host directories that containers may mount under the same path.
    pub shared_paths: Vec<PathBuf>,
}

/// A user's access to one registry.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryCredentials {
    /// `host[:port]`, without a scheme.
    pub host: String,
    pub username: String,
    pub password: String,
}

/// The password does not print.
impl fmt::Debug for RegistryCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.username, self.host)
    }
}

/// An engine in use by one job. [`EngineLease::release`] it; a lease that is dropped instead is released in the provider's own time.
pub struct EngineLease {
    /// `unix:///path` or `tcp://host:port`.
    pub endpoint: String,
    /// A directory with `ca.pem`, `cert.pem` and `key.pem`, for an engine that speaks TLS.
    pub certificates: Option<PathBuf>,
    /// The engine serves this job alone, so handing it to the job's containers gives them nothing of anybody else's.
    pub job_scoped: bool,
    /// Where this program is in the engine's own file system. The helper container then gets it by a bind instead of in an image.
    pub program: Option<String>,
    /// What the engine lacks, for the job's trace.
    pub warning: Option<String>,
    /// Called once; the lock only makes a lease shareable.
    release: Mutex<Option<Release>>,
}

type Release = Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>;

impl EngineLease {
    /// An engine that needs nothing done afterwards.
    pub fn unmanaged(endpoint: impl Into<String>) -> Self {
        Self { endpoint: endpoint.into(), certificates: None, job_scoped: false, program: None, warning: None, release: Mutex::new(None) }
    }

    /// An engine made for one job. `release` ends it and returns when nothing of it runs any more.
    pub fn job_scoped(endpoint: impl Into<String>, release: impl FnOnce() -> BoxFuture<'static, ()> + Send + 'static) -> Self {
        Self { job_scoped: true, release: Mutex::new(Some(Box::new(release))), ..Self::unmanaged(endpoint) }
    }

    /// Tells that the engine speaks TLS, and where the certificates for it are.
    #[must_use]
    pub fn with_certificates(mut self, directory: Option<PathBuf>) -> Self {
        self.certificates = directory;
        self
    }

    /// Tells where this program is in the engine's own file system.
    #[must_use]
    pub fn with_program(mut self, path: impl Into<String>) -> Self {
        self.program = Some(path.into());
        self
    }

    /// Tells what the engine lacks.
    #[must_use]
    pub fn with_warning(mut self, warning: Option<String>) -> Self {
        self.warning = warning;
        self
    }

    /// Gives the engine back.
    pub async fn release(self) {
        let release = self.release.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(release) = release {
            release().await;
        }
    }
}

impl fmt::Debug for EngineLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineLease").field("endpoint", &self.endpoint).field("job_scoped", &self.job_scoped).finish_non_exhaustive()
    }
}

/// Why a job got no engine.
#[derive(Debug, thiserror::Error)]
pub enum AcquireEngineError {
    /// This machine cannot run the engine; `remedy` says what would change that.
    #[error("this machine cannot run a container engine: {reason}")]
    Unsupported { reason: String, remedy: Option<String> },
    #[error("start a container engine for the job")]
    Start {
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

/// The same foreign Docker for every job (`--docker-host`).
#[derive(Debug, Clone)]
pub struct FixedEndpoint {
    endpoint: String,
    certificates: Option<PathBuf>,
}

impl FixedEndpoint {
    /// Takes an address as `DOCKER_HOST` has it, `unix://` or `tcp://`.
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self { endpoint: endpoint.into(), certificates: None }
    }

    /// Speaks TLS, with the `ca.pem`, `cert.pem` and `key.pem` of a directory. The engine's certificate is always verified.
    #[must_use]
    pub fn with_certificates(mut self, directory: Option<PathBuf>) -> Self {
        self.certificates = directory;
        self
    }
}

impl EngineProvider for FixedEndpoint {
    fn acquire(&self, _request: EngineRequest) -> BoxFuture<'_, Result<EngineLease, AcquireEngineError>> {
        let lease = EngineLease::unmanaged(self.endpoint.clone()).with_certificates(self.certificates.clone());
        async move { Ok(lease) }.boxed()
    }
}
