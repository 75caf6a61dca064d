//! What an engine host and its engines are to be.

use std::{net::SocketAddr, path::PathBuf};

use super::IdPool;
use crate::broker::Credentials;

/// What an engine host is to be.
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// Directory of the store and of the engines' directories (`$DOCKWRIGHT_HOME`).
    pub home: PathBuf,
    /// This program; it is started again as sandbox, engine and helper.
    pub binary: PathBuf,
    /// The host's own registry, if it has one.
    pub registry: Option<RegistrySettings>,
    /// Where engines get their user ids from.
    pub ids: IdPool,
}

/// The host's own registry.
#[derive(Debug, Clone)]
pub struct RegistrySettings {
    /// `host:port` in image names and in `CI_REGISTRY`; nothing outside needs to resolve it.
    pub name: String,
    /// Where it listens for containers and for other programs of this machine; port 0 takes a free one.
    pub listen: SocketAddr,
}

/// What an engine is to be.
#[derive(Debug, Clone)]
pub struct EngineSpec {
    /// Unique at its home directory: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
    pub id: String,
    /// Name of the machine as its containers and `docker info` see it; the id when empty.
    pub name: String,
    /// Whose layers and build cache it may use.
    pub scope: TrustScope,
    /// Users of registries, those of the job. A pull that brings its own credentials does not use them.
    pub credentials: Vec<Credentials>,
    /// What the engine's user may do at the host's own registry.
    pub registry_user: Option<RegistryUser>,
    /// Directories of this machine that appear in the sandbox under the same path.
    pub shared_paths: Vec<PathBuf>,
    /// Owner of the shared directories' files; they appear as root's where ids are mapped.
    pub shared_owner: u32,
    /// Directory of this machine in which the API's socket `docker.sock` is made.
    pub socket_dir: PathBuf,
    /// Whether containers, networks and volumes that are made through that socket are hidden from callers inside of the engine: they are
    /// in none of their lists and prunes, and can only be found by id or name.
    pub owner_apart: bool,
    /// Whether containers have a way out of this machine.
    pub egress: bool,
    /// Where published ports appear.
    pub publish: PublishMode,
}

/// Who shares build results: jobs of one project, and of protected branches and tags apart from the others, because anybody who may
/// push a branch can write to the cache of unprotected ones.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TrustScope {
    /// Path of the project.
    pub project: String,
    /// Whether the branch or tag is protected.
    pub protected: bool,
}

/// A user of the host's own registry.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryUser {
    /// `gitlab-ci-token` for jobs.
    pub name: String,
    /// The job's token.
    pub password: String,
    /// Repository path that it may push to, and everything below.
    pub repository: String,
    /// Further repository paths that it may pull from, and everything below.
    pub readable: Vec<String>,
}

/// Secrets do not print.
impl std::fmt::Debug for RegistryUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RegistryUser({:?} for {:?}, [redacted])", self.name, self.repository)
    }
}

/// Where published ports appear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PublishMode {
    /// In the sandbox only: containers of a job reach them, nobody else does, and jobs cannot collide.
    #[default]
    Sandbox,
    /// On this machine too, as those of an ordinary Docker.
    Host,
}

impl TrustScope {
    /// Returns the scope's name in the store.
    pub(crate) fn key(&self) -> String {
        let kind = if self.protected { "protected" } else { "unprotected" };
        format!("{kind}/{}", self.project)
    }
}
