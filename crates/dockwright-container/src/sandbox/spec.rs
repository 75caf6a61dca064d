//! What a sandbox is to be.

use std::{ffi::OsString, os::fd::OwnedFd, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::process::Limits;

/// Number of ids in a sandbox's own range, where it has one.
pub const RANGE_IDS: u32 = 65_536;

/// Which ids of the host (or of the engine host's user namespace) the sandbox's ids are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdMapping {
    /// The sandbox's 0.. are the host's `first`.. ([`RANGE_IDS`] of them). Layers and shared paths are idmapped. The rootful way.
    Range {
        /// The first id of the range.
        first: u32,
    },
    /// The sandbox's ids are those of the engine host's namespace. The rootless way.
    Identity,
}

/// A directory of the host that appears in the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedPath {
    /// Directory of the host.
    pub source: PathBuf,
    /// Path in the sandbox; the same as `source`, normally.
    pub target: PathBuf,
    /// The host's user whose files appear as root's, where ids are mapped. Ignored by [`IdMapping::Identity`].
    pub owner: u32,
    /// Whether it cannot be written.
    pub read_only: bool,
}

/// A sandbox and the engine that runs in it.
#[derive(Debug)]
pub struct SandboxSpec {
    /// Names the sandbox's cgroups (with the engine host's pid), and its host name if that is empty. `[a-zA-Z0-9_.-]+`.
    pub id: String,
    /// Executed as the sandbox's PID 1 and shown in it as `/.dockwright`; normally what [`super::open_program`] opened. It must call
    /// [`crate::internal::init_main`] for `internal init …`.
    pub binary: OwnedFd,
    /// Arguments that make the binary call [`crate::internal::sandbox_main`]; normally `internal sandbox`.
    pub sandbox_arguments: Vec<OsString>,
    /// Id mapping.
    pub ids: IdMapping,
    /// Host name in the sandbox.
    pub hostname: String,
    /// Directory of the host that becomes `/var/lib/docker`. It is given to the sandbox's root.
    pub scratch: PathBuf,
    /// Further directories of the host.
    pub shared: Vec<SharedPath>,
    /// Content of the sandbox's `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// Arguments of the engine, executed as `/.dockwright`; normally `internal engine …`.
    pub engine_arguments: Vec<OsString>,
    /// Environment of the engine; nothing else is inherited.
    pub engine_environment: Vec<(OsString, OsString)>,
    /// Descriptors for the engine by name, found there with [`crate::sandbox::inherited`]. `spawner` is added.
    pub descriptors: Vec<(String, OwnedFd)>,
    /// Standard output and error of the engine and of PID 1; `/dev/null` if absent.
    pub log: Option<OwnedFd>,
    /// Limits of everything in the sandbox.
    pub limits: Limits,
}
