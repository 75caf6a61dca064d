//! Why a registry operation failed.

use std::{error::Error, io};

use dockwright_store::{
    ApplyLayerError, CommitError, CompressError, DiffId, Digest, PutImageError, StoreError, config::ParseConfigError,
    digest::ParseDigestError, manifest::ManifestError,
};
use reqwest::StatusCode;
use url::Url;

/// Why a registry operation failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection, or it broke. In the words of Docker, by which GitLab Runner and scripts tell an outage from a missing image.
    #[error("Get \"{address}\": {problem}")]
    Unreachable {
        /// What was asked for.
        address: String,
        /// The last attempt's failure.
        problem: String,
    },
    /// The registry's token service gave no token.
    #[error("Get \"{address}\": {source}")]
    NoToken {
        /// What the token was for.
        address: String,
        /// Its answer.
        source: Box<ClientError>,
    },
    /// Its answer breaks off or is not what it should be.
    #[error("read the answer of the registry `{registry}`")]
    Unreadable {
        /// The registry.
        registry: String,
        /// What is wrong.
        #[source]
        source: reqwest::Error,
    },
    /// No or wrong credentials.
    #[error("{message}")]
    Unauthorized {
        /// In the registry's words, which begin with a code such as `unauthorized: `; or why it was not asked.
        message: String,
    },
    /// Known, but not allowed; or Docker Hub's way of saying that there is no such repository.
    #[error("{message}")]
    Denied {
        /// In the registry's words, which begin with a code such as `denied: `.
        message: String,
    },
    /// There is no such thing.
    #[error("{what} not found: {message}")]
    NotFound {
        /// What was asked for.
        what: String,
        /// In the registry's words.
        message: String,
    },
    /// Asked too often.
    #[error("the registry `{registry}` limits requests: {message}")]
    TooManyRequests {
        /// The registry.
        registry: String,
        /// In its words.
        message: String,
    },
    /// Another refusal.
    #[error("the registry `{registry}` answered {status}: {message}")]
    Refused {
        /// The registry.
        registry: String,
        /// The status.
        status: StatusCode,
        /// In its words.
        message: String,
    },
    /// An answer that the protocol does not allow.
    #[error("the registry `{registry}` broke the protocol: {problem}")]
    Protocol {
        /// The registry.
        registry: String,
        /// How.
        problem: String,
    },
    /// A manifest is not what its digest says.
    #[error("the registry `{registry}` sent manifest {actual} when asked for {expected}")]
    WrongManifest {
        /// The registry.
        registry: String,
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// A layer is not the one the configuration names.
    #[error("layer {blob} is {actual}, but the image's configuration wants {expected}")]
    WrongLayer {
        /// The compressed layer.
        blob: Digest,
        /// What it should be.
        expected: DiffId,
        /// What it is.
        actual: DiffId,
    },
    /// A digest that is none.
    #[error(transparent)]
    Digest(#[from] ParseDigestError),
    /// A manifest that cannot be understood, or has nothing for this machine.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A configuration that cannot be understood.
    #[error(transparent)]
    Config(#[from] ParseConfigError),
    /// Content that is not what its digest says.
    #[error("receive content")]
    Content(#[from] CommitError),
    /// A layer was refused.
    #[error("unpack layer {blob}")]
    Layer {
        /// The compressed layer.
        blob: Digest,
        /// Why.
        #[source]
        source: ApplyLayerError,
    },
    /// A layer cannot be compressed.
    #[error("compress a layer")]
    Compress(#[from] CompressError),
    /// The image could not be kept.
    #[error(transparent)]
    Image(#[from] PutImageError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The HTTP client could not be set up.
    #[error("set up TLS")]
    Tls(#[from] rustls::Error),
    /// The HTTP client could not be set up.
    #[error("set up the HTTP client")]
    Setup(#[source] reqwest::Error),
}

/// What sort of failure it is, for whoever turns it into a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Missing or wrong credentials.
    Unauthorized,
    /// Not allowed.
    Forbidden,
    /// Not there.
    NotFound,
    /// The registry cannot be reached, or does not want to now.
    Unavailable,
    /// What came is not acceptable.
    Invalid,
    /// Ours.
    Internal,
}

impl ClientError {
    /// Returns the sort of failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoToken { source, .. } => source.kind(),
            Self::Unauthorized { .. } => ErrorKind::Unauthorized,
            Self::Denied { .. } => ErrorKind::Forbidden,
            Self::NotFound { .. } | Self::Manifest(ManifestError::NoPlatform { .. }) => ErrorKind::NotFound,
            Self::Unreachable { .. } | Self::Unreadable { .. } | Self::TooManyRequests { .. } | Self::Refused { .. } => {
                ErrorKind::Unavailable
            }
            Self::Protocol { .. }
            | Self::WrongManifest { .. }
            | Self::WrongLayer { .. }
            | Self::Digest(_)
            | Self::Manifest(_)
            | Self::Config(_)
            | Self::Content(CommitError::Mismatch { .. })
            | Self::Layer { .. }
            | Self::Image(_) => ErrorKind::Invalid,
            Self::Content(CommitError::Store(_)) | Self::Compress(_) | Self::Store(_) | Self::Tls(_) | Self::Setup(_) => {
                ErrorKind::Internal
            }
        }
    }

    pub(super) fn unreachable(registry: &str, source: reqwest::Error) -> Self {
        let address = source.url().map_or_else(|| registry.to_owned(), without_query);
        Self::Unreachable { address, problem: connection_problem(&source) }
    }

    /// Tells what a token was wanted for.
    pub(super) fn for_request(self, url: &Url) -> Self {
        match self {
            Self::Unauthorized { .. } | Self::Denied { .. } => Self::NoToken { address: without_query(url), source: Box::new(self) },
            other => other,
        }
    }

    /// `message` in the registry's words, with or without a code.
    pub(super) fn unauthorized(message: String) -> Self {
        Self::Unauthorized { message: with_code("unauthorized", message) }
    }

    /// As [`unauthorized`](Self::unauthorized).
    pub(super) fn denied(message: String) -> Self {
        Self::Denied { message: with_code("denied", message) }
    }

    pub(super) fn unreadable(registry: &str, source: reqwest::Error) -> Self {
        Self::Unreadable { registry: registry.to_owned(), source: source.without_url() }
    }

    pub(super) fn protocol(registry: &str, problem: impl Into<String>) -> Self {
        Self::Protocol { registry: registry.to_owned(), problem: problem.into() }
    }
}

fn with_code(code: &str, message: String) -> String {
    let has_code = message.starts_with("unauthorized: ") || message.starts_with("denied: ");
    if has_code { message } else { format!("{code}: {message}") }
}

/// A query may name a user.
fn without_query(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.to_string()
}

/// Says why there is no answer, as Go's network library does.
fn connection_problem(error: &reqwest::Error) -> String {
    let authority = error.url().and_then(|url| Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?)));
    let dial = authority.map_or_else(|| "dial tcp".to_owned(), |authority| format!("dial tcp {authority}"));
    let causes: Vec<&dyn Error> = std::iter::successors(Some(error as &dyn Error), |&error| error.source()).collect();
    let of_system = causes.iter().rev().find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    let last = causes.last().map(ToString::to_string).unwrap_or_default();
    match of_system {
        Some(io::ErrorKind::ConnectionRefused) => format!("{dial}: connect: connection refused"),
        Some(io::ErrorKind::ConnectionReset) => "read: connection reset by peer".to_owned(),
        Some(io::ErrorKind::TimedOut) if error.is_connect() => format!("{dial}: i/o timeout"),
        _ if error.is_timeout() && error.is_connect() => format!("{dial}: i/o timeout"),
        _ if error.is_timeout() => "net/http: request canceled (Client.Timeout exceeded while awaiting headers)".to_owned(),
        _ if last.contains("failed to lookup address information") => {
            let host = error.url().and_then(Url::host_str).unwrap_or_default();
            format!("dial tcp: lookup {host}: no such host")
        }
        _ => last,
    }
}
