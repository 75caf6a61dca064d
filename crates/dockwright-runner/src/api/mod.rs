//! GitLab's runner API v4 over HTTP, the runner's side.
//!
//! ```text
//! Client ─► request ─► retry ─► transport ─► reqwest
//!   management, jobs, artifacts: one method per endpoint
//! HttpCoordinator: a Client and a runner's token, as the crate's `Coordinator`
//! ```
//!
//! A [`Client`] knows a server and keeps no state of a runner. Tokens go into headers and bodies and nowhere else: no error, log line or
//! `Debug` of this module holds one.

mod server;
mod tls;
mod transport;

mod details;
mod error;
mod health;
mod request;
mod retry;

mod artifacts;
mod jobs;
mod management;

mod coordinator;

pub use artifacts::{UploadAnswer, UploadQuery};
pub use coordinator::{HttpCoordinator, Polled, RunnerIdentity};
pub use details::{COMPATIBLE_VERSION, ExecutorKind, details};
pub use error::{ApiError, SetupError};
pub use health::{Health, HealthLimits};
pub use jobs::{JobAnswer, JobStatusSignal, Signalled, TraceAnswer, UpdateAnswer};
pub use server::{ServerSettings, TlsFiles};

use transport::Transport;

/// Makes TLS settings with the machine's own authorities, for other servers than the coordinator.
pub(crate) fn tls_client_config() -> Result<rustls::ClientConfig, SetupError> {
    tls::client_config(&TlsFiles::default())
}

/// Talks to one server.
#[derive(Debug)]
pub struct Client {
    transport: Transport,
}

impl Client {
    /// Reads the certificates and prepares connections; nothing is sent yet.
    pub fn new(settings: ServerSettings) -> Result<Self, SetupError> {
        Ok(Self { transport: Transport::new(settings)? })
    }

    /// Returns the certificate files in use.
    pub fn tls_files(&self) -> TlsFiles {
        self.transport.tls_files()
    }

    /// Returns what the client was made with.
    pub fn settings(&self) -> &ServerSettings {
        self.transport.settings()
    }
}
