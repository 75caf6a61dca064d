//! What a build needs from an engine.
//!
//! The solver is synchronous and knows no broker, no mounts and no processes. Everything it cannot do with a descriptor of a directory
//! goes through [`BuildBackend`]: images come in and go out, a stack of layers becomes a directory, a process runs in one, the
//! difference becomes a layer, and results of steps are remembered.
//!
//! A step that may write is one object:
//!
//! ```text
//! begin_step(layers) ─► BuildStep ─ root()      COPY, ADD, WORKDIR write below this descriptor
//!                           │       run(spec)   RUN starts a process whose root it is
//!                           ├─ commit()  ─► Some(layer), or None when nothing changed
//!                           └─ drop      ─► everything written is discarded
//! ```
//!
//! Calls come from one thread at a time per build; several builds may share a backend.

use std::{
    fmt, io,
    os::fd::{BorrowedFd, OwnedFd},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use dockwright_store::{DiffId, ImageConfig, ImageId};

use crate::cache::{CacheKey, CacheRecord};

/// Why the engine could not do what the build asked for. The message stands alone; the chain of causes is in `source`.
pub type BackendError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What a build needs from an engine.
pub trait BuildBackend: Send + Sync {
    /// Finds the image that `FROM` or `COPY --from` names, pulling it when the policy says so.
    ///
    /// `reference` is as written in the Dockerfile, after expansion. `platform` is `os/arch[/variant]` when the Dockerfile or the request
    /// named one.
    fn resolve_image(
        &self,
        reference: &str,
        platform: Option<&str>,
        pull: PullPolicy,
        progress: &mut dyn FnMut(PullProgress),
    ) -> Result<BaseImage, ResolveImageError>;

    /// Finds an image without pulling, for `--cache-from`; a name that is not there is `None`.
    fn local_image(&self, reference: &str) -> Result<Option<BaseImage>, BackendError>;

    /// Opens the merged tree of the layers (lowest first), read-only, for `COPY --from`.
    fn open_root(&self, layers: &[DiffId]) -> Result<OwnedFd, BackendError>;

    /// Makes the merged tree of the layers (lowest first) writable. No layers is an empty tree.
    fn begin_step(&self, layers: &[DiffId]) -> Result<Box<dyn BuildStep>, BackendError>;

    /// Returns what an earlier build recorded under this key, if its layer is still there.
    fn cache_get(&self, key: &CacheKey) -> Result<Option<CacheRecord>, BackendError>;

    /// Records the result of a step.
    fn cache_put(&self, key: &CacheKey, record: &CacheRecord) -> Result<(), BackendError>;

    /// Keeps an image; its layers are those of `config.rootfs.diff_ids`. Storing the same configuration twice gives the same id.
    fn put_image(&self, config: &ImageConfig) -> Result<ImageId, BackendError>;

    /// Gives an image a name, taking it away from the image that had it.
    fn tag(&self, image: &ImageId, name: &str) -> Result<(), BackendError>;

    /// Opens a URL for `ADD`. A status that is not a success is an error.
    fn fetch(&self, url: &str) -> Result<Fetched, BackendError>;
}

/// A writable tree above some layers, see [`BuildStep::commit`].
pub trait BuildStep: Send {
    /// The id that the client sees in `Running in <id>`, 64 hex digits.
    fn container_id(&self) -> &str;

    /// The root of the merged, writable tree.
    fn root(&self) -> BorrowedFd<'_>;

    /// Runs a process in the tree to its end, passing on what it prints, and returns its exit status (128 + n after signal n).
    ///
    /// When `cancel` fires, the process is killed and the call returns soon after, with any status.
    fn run(&mut self, spec: &RunSpec, output: &mut dyn FnMut(OutputStream, &[u8]), cancel: &Cancel) -> Result<i32, BackendError>;

    /// Ends the step and keeps what was written as a layer; `None` when nothing was.
    fn commit(self: Box<Self>) -> Result<Option<CommittedLayer>, BackendError>;
}

/// Whether an image is pulled though one of that name is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// Pull only what is missing.
    IfMissing,
    /// Ask the registry each time (`--pull`).
    Always,
}

/// An image that a stage starts from or files are copied from.
#[derive(Debug, Clone)]
pub struct BaseImage {
    pub id: ImageId,
    pub config: ImageConfig,
}

/// One line of a pull's progress, as the Docker API shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullProgress {
    /// The layer's short id, or the tag; empty for lines about the whole pull.
    pub id: String,
    /// `Downloading`, `Pull complete`, …
    pub status: String,
    pub current: Option<u64>,
    pub total: Option<u64>,
}

/// Why an image could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ResolveImageError {
    /// Neither here nor in its registry; the message is the registry's or Docker's own wording.
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Denied(String),
    #[error("`{reference}` is not an image reference")]
    InvalidReference {
        reference: String,
        #[source]
        source: BackendError,
    },
    #[error("resolve image {reference}")]
    Failed {
        reference: String,
        #[source]
        source: BackendError,
    },
}

/// The process of a `RUN` step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSpec {
    pub argv: Vec<String>,
    /// `NAME=value`, each name once.
    pub env: Vec<String>,
    /// Absolute; the step has made it.
    pub working_dir: String,
    /// As in the image configuration: `user[:group]`, names or numbers; empty is root.
    pub user: String,
    /// Paths declared by `VOLUME` above this step: what is written there is thrown away.
    pub volumes: Vec<String>,
    pub limits: RunLimits,
}

/// What the build request says about processes, the same for every `RUN` of a build. It does not enter cache keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunLimits {
    /// `default`, `none`, `host`, `bridge`, `container:<id>` or a network's name; empty is `default`.
    pub network: String,
    /// `name:address` lines for `/etc/hosts`.
    pub extra_hosts: Vec<String>,
    pub shm_size: Option<u64>,
    pub memory: Option<i64>,
    pub memory_swap: Option<i64>,
    pub cpu_shares: Option<i64>,
    pub cpu_period: Option<i64>,
    pub cpu_quota: Option<i64>,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    /// `(name, soft, hard)`.
    pub ulimits: Vec<(String, i64, i64)>,
    pub security_opt: Vec<String>,
    pub cgroup_parent: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    Stdout,
    Stderr,
}

/// A layer that a step left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedLayer {
    pub diff_id: DiffId,
    /// Of the uncompressed content.
    pub size_bytes: u64,
}

/// An open URL.
pub struct Fetched {
    pub reader: Box<dyn io::Read + Send>,
    /// The `Last-Modified` header in seconds since 1970; the file's modification time.
    pub last_modified: Option<i64>,
    /// The file name of a `Content-Disposition` header.
    pub file_name: Option<String>,
}

/// Asks a build to stop. The build looks at it between steps; a backend subscribes while a process runs.
#[derive(Default)]
pub struct Cancel {
    cancelled: AtomicBool,
    actions: Mutex<Vec<Box<dyn FnOnce() + Send>>>,
}

impl Cancel {
    /// Asks the build to stop; once is enough.
    pub fn cancel(&self) {
        let mut actions = self.lock();
        self.cancelled.store(true, Ordering::SeqCst);
        for action in std::mem::take(&mut *actions) {
            action();
        }
    }

    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    /// Runs `action` when the build is cancelled, at once if it already is. It must not block.
    pub fn on_cancel(&self, action: impl FnOnce() + Send + 'static) {
        let mut actions = self.lock();
        if self.is_cancelled() {
            drop(actions);
            action();
        } else {
            actions.push(Box::new(action));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Box<dyn FnOnce() + Send>>> {
        self.actions.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Cancel").field("cancelled", &self.is_cancelled()).finish_non_exhaustive()
    }
}
