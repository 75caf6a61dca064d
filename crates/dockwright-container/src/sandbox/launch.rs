//! The exchange between the engine host and the process that becomes a sandbox's PID 1.
//!
//! ```text
//! engine host                                  `internal sandbox`, freshly executed
//!   ── Launch + descriptors ──────────────►    unshare(user)
//!   ◄───────────────────────── Unshared ───
//!   writes id maps, makes cgroups, mounts
//!   ── Mapped + mounts ───────────────────►    unshare(everything else), clone PID 1, hand over its descriptor, exit
//!   ◄────────────────── Cloned + pidfd ────    PID 1 builds its root, starts the engine
//!   ◄──────────────────────────── Ready ───
//! ```
//!
//! From then on nobody speaks; the end of the connection is the end of the sandbox.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    cgroup::Hierarchy,
    socket::{SocketError, recv_with_fds, send_with_fds},
};

/// The longest message of this exchange.
const LIMIT_BYTES: usize = 4 << 20;

/// First message to the sandbox. Its descriptors are the engine's, in the order of `descriptor_names`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Launch {
    pub hostname: String,
    pub resolv_conf: String,
    /// Strings are bytes: arguments and environment need not be UTF-8.
    pub engine_arguments: Vec<Vec<u8>>,
    pub engine_environment: Vec<(Vec<u8>, Vec<u8>)>,
    pub descriptor_names: Vec<String>,
}

/// Second message to the sandbox. Its descriptors are the mounts of the binary and the scratch directory, then one for each shared path.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Mapped {
    pub shared_targets: Vec<PathBuf>,
    /// Where the sandbox has a cgroup; the directories are the host's.
    pub hierarchies: Vec<Hierarchy>,
}

/// What the sandbox says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Progress {
    Unshared,
    /// With the pid descriptor of PID 1.
    Cloned {
        pid: u32,
    },
    Ready {
        warnings: Vec<String>,
    },
    Failed {
        step: String,
        reason: String,
    },
}

/// A broken exchange.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("a message has the wrong shape")]
    Shape(#[source] serde_json::Error),
}

pub(crate) fn send(socket: impl AsFd, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> Result<(), ExchangeError> {
    let body = serde_json::to_vec(message).map_err(ExchangeError::Shape)?;
    Ok(send_with_fds(socket, &body, descriptors)?)
}

pub(crate) fn receive<T: DeserializeOwned>(socket: impl AsFd) -> Result<(T, Vec<OwnedFd>), ExchangeError> {
    let (body, descriptors) = recv_with_fds(socket, LIMIT_BYTES)?;
    Ok((serde_json::from_slice(&body).map_err(ExchangeError::Shape)?, descriptors))
}
