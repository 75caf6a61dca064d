//! The client: pull, push, inspect and log in.
//!
//! ```text
//! pull, push, inspect ─► session (one repository: tokens, retries) ─► transport (which address, which scheme, TLS)
//! ```
//!
//! Downloads of the same blob by several pulls at once happen once; the others wait and find it there.

mod error;
mod pull;
mod push;
mod session;
mod tls;
mod token;
mod transport;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use dockwright_store::{
    Digest, Document, ImageRef,
    manifest::{Descriptor, Platform},
};
use reqwest::Method;

pub use crate::local::{Pulled, Pushed};
use crate::{credentials::Credentials, protocol::Scope};
pub use error::{ClientError, ErrorKind};
use session::Session;
use token::TokenCache;
use transport::Transport;

/// What a client needs to know about the machine it runs on.
#[derive(Debug, Clone, Default)]
pub struct ClientOptions {
    /// Registry names (`host` or `host:port`) that are really at this address, over plain HTTP: the embedded registry.
    pub aliases: HashMap<String, SocketAddr>,
    /// Registry names that may be spoken to with an unverified certificate or over plain HTTP. Loopback addresses always may.
    pub insecure: Vec<String>,
}

/// Returns a client for other parts of the web, which verifies as this one does: the machine's roots, or Mozilla's when it has none.
pub fn web_client() -> Result<reqwest::Client, ClientError> {
    transport::web_client()
}

/// A line of progress, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The layer's short name, or the tag for lines about the whole image, or empty.
    pub id: String,
    /// For instance `Downloading`.
    pub status: String,
    /// Bytes done, and of how many.
    pub amount: Option<(u64, u64)>,
}

/// Takes progress; called often and from several tasks.
pub type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// What a registry says about a reference, without pulling it.
#[derive(Debug, Clone)]
pub struct Inspected {
    /// The manifest or index.
    pub descriptor: Descriptor,
    /// The platforms of an index; the platform of a single image is in its configuration.
    pub platforms: Vec<Platform>,
}

/// A successful login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedIn {
    /// To be used in place of the password from now on; empty if the registry gives none.
    pub identity_token: String,
}

/// A client of registries. Cheap to clone; one for the whole process shares connections, tokens and downloads.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    transport: Transport,
    tokens: TokenCache,
    /// Downloads going on, so that nobody starts the same one twice.
    downloads: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    /// By registry and blob: a repository known to have it, from which it can be mounted.
    sources: Mutex<HashMap<(String, Digest), String>>,
}

impl Client {
    /// Makes a client.
    pub fn new(options: ClientOptions) -> Result<Self, ClientError> {
        let inner = Inner {
            transport: Transport::new(options)?,
            tokens: TokenCache::default(),
            downloads: Mutex::default(),
            sources: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Checks credentials against a registry.
    pub async fn login(&self, registry: &str, credentials: &Credentials) -> Result<LoggedIn, ClientError> {
        let endpoint = self.inner.transport.endpoint(normal_registry(registry)).await?;
        self.inner.tokens.login(&self.inner.transport, &endpoint, credentials).await
    }

    /// Asks what a reference names.
    pub async fn inspect(&self, reference: &ImageRef, credentials: Option<&Credentials>) -> Result<Inspected, ClientError> {
        let session = self.session(reference, Scope::pull(reference.repository()), credentials).await?;
        let document = session.document(&reference.manifest_reference()).await?;
        let descriptor = Descriptor::new(document.media_type(), document.digest(), document.raw().len() as u64);
        let platforms = match document {
            Document::Index(index) => index.manifests.into_iter().filter_map(|entry| entry.platform).collect(),
            Document::Manifest(_) => Vec::new(),
        };
        Ok(Inspected { descriptor, platforms })
    }

    /// Returns the tags of a repository.
    pub async fn tags(&self, reference: &ImageRef, credentials: Option<&Credentials>) -> Result<Vec<String>, ClientError> {
        #[derive(serde::Deserialize)]
        struct Tags {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let session = self.session(reference, Scope::pull(reference.repository()), credentials).await?;
        let response = session.send(Method::GET, &session.path("tags/list"), &[], &session::Payload::None).await?;
        let tags: Tags = response.json().await.map_err(|source| ClientError::unreadable(session.registry(), source))?;
        Ok(tags.tags.unwrap_or_default())
    }

    async fn session(&self, reference: &ImageRef, scope: Scope, credentials: Option<&Credentials>) -> Result<Session<'_>, ClientError> {
        let endpoint = self.inner.transport.endpoint(reference.registry()).await?;
        Ok(Session::new(&self.inner, endpoint, reference, scope, credentials))
    }
}

/// `docker login` calls Docker Hub by the address of its old index.
fn normal_registry(registry: &str) -> &str {
    let bare = registry.trim_start_matches("https://").trim_start_matches("http://");
    match bare.split('/').next().unwrap_or(bare) {
        "" | "index.docker.io" | "docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}
