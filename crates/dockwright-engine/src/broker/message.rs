//! What crosses the socket between an engine and its host.
//!
//! Requests carry a number; every answer repeats it. A request may be answered by any number of events and then exactly one outcome.
//! Types that can be malformed (digests, image names) check themselves while they are read, so a request that was understood is valid
//! in form; whether the engine *may* is decided by the host, per request.

use dockwright_store::{DiffId, Digest, ImageId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Engine to host.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Envelope {
    pub(crate) id: u64,
    pub(crate) request: Request,
}

/// Host to engine.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) id: u64,
    pub(crate) body: Body,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Body {
    Event(Progress),
    /// The operation's result, of a type that the request implies.
    Done(Box<RawValue>),
    Failed(BrokerError),
}

/// An operation of the host. The comments name what comes back.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// [`HostFacts`].
    Facts {},
    /// [`ImageRecord`]; events tell the progress.
    Pull { reference: String, credentials: Option<Credentials>, platform: Option<String> },
    /// [`Pushed`]; events tell the progress.
    Push { image: ImageId, reference: String, credentials: Option<Credentials> },
    /// [`LoggedIn`].
    Login { credentials: Credentials },
    /// [`DistributionRecord`]: what a registry says about a name.
    Inspect { reference: String, credentials: Option<Credentials> },
    /// Nothing, with one descriptor per layer in the order asked: a detached, read-only mount.
    Mount { layers: Vec<DiffId> },
    /// [`LayerRecord`]. Comes with a pipe to read a layer's tar from.
    CommitLayer { origin: TarOrigin },
    /// [`ImageRecord`]. The text is the image configuration; all its layers must be granted to this engine.
    PutImage { config: String },
    /// Nothing. Comes with a pipe to write the layer's uncompressed tar to.
    ReadLayer { layer: DiffId },
    /// `Option<String>`: what [`Request::CachePut`] kept under the key in this engine's scope. Its layers are granted.
    CacheGet { key: Digest },
    /// Nothing.
    CachePut { key: Digest, value: String, layers: Vec<DiffId> },
    /// [`Pruned`].
    CachePrune {},
    /// Nothing, with a socket connected to the host's own registry.
    DialRegistry {},
    /// Nothing. A line for the host's log.
    Log { level: LogLevel, message: String },
    /// No answer. The asker no longer waits for the request of that number.
    Cancel { id: u64 },
}

/// What an engine knows about its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Name of the engine, as `docker info` shows it.
    pub engine_name: String,
    /// Whether what the engine's owner makes is hidden from the engine's own containers.
    pub owner_apart: bool,
    /// `host:port` under which containers reach the host's own registry, when it has one.
    pub registry: Option<String>,
    /// Images that every engine has from the start.
    pub granted_images: Vec<ImageRecord>,
    /// Names of `granted_images`, in the same order.
    pub granted_names: Vec<String>,
}

/// An image as an engine keeps it in its table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    pub id: ImageId,
    /// The image configuration as it is stored, byte for byte; its digest is `id`.
    pub config: String,
    /// Lowest layer first.
    pub layers: Vec<LayerRecord>,
    /// Digest of the manifest, of images that came from a registry.
    pub manifest: Option<Digest>,
}

/// A layer and the size of its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    pub diff_id: DiffId,
    pub size_bytes: u64,
}

/// Name and secret for a registry.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Credentials {
    pub username: String,
    pub password: String,
    /// Stands in for user and password when a registry gave one at an earlier login.
    pub identity_token: String,
    pub registry_token: String,
    /// Host name, or an address as `docker login` writes it (`https://index.docker.io/v1/`).
    pub server: String,
}

impl Credentials {
    /// Whether they are for a registry, named as in image names. Docker's own hub goes by several names.
    pub fn are_for(&self, registry: &str) -> bool {
        let named = self.server.strip_prefix("https://").or_else(|| self.server.strip_prefix("http://")).unwrap_or(&self.server);
        let host = named.split('/').next().unwrap_or_default();
        let hub = |host: &str| matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io");
        host.eq_ignore_ascii_case(registry) || (hub(host) && hub(registry))
    }
}

/// Secrets do not print.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({:?} at {:?}, [redacted])", self.username, self.server)
    }
}

/// A line of progress, as Docker clients draw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The layer's short name; empty for lines about the whole image.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    pub status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Amount>,
}

/// Bytes done, of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    pub current_bytes: u64,
    pub total_bytes: Option<u64>,
}

/// Result of a push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pushed {
    pub digest: Digest,
    pub manifest_size_bytes: u64,
}

/// Result of a login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedIn {
    pub identity_token: String,
}

/// What a registry says about a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DistributionRecord {
    pub media_type: String,
    pub digest: Digest,
    pub size_bytes: u64,
    pub platforms: Vec<PlatformRecord>,
}

/// A platform of a multi-platform image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformRecord {
    pub architecture: String,
    pub os: String,
    #[serde(default)]
    pub variant: String,
}

/// Result of removing cache records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    pub records: u64,
}

/// Who wrote a layer's tar, which decides whether its bytes must be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TarOrigin {
    /// The store's own writer: the host can make the same bytes again from the layer's files.
    Build,
    /// An archive or an import.
    Archive,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

/// Why the host did not do what was asked. The message is complete: it is shown to the user of the engine as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct BrokerError {
    pub kind: BrokerErrorKind,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BrokerErrorKind {
    NotFound,
    /// Credentials are missing or wrong.
    Unauthorized,
    /// This engine may not.
    Forbidden,
    Invalid,
    /// Somebody else, a registry for example, cannot be reached.
    Unavailable,
    Internal,
}

impl BrokerError {
    pub(crate) fn new(kind: BrokerErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}
