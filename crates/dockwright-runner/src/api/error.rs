//! What can go wrong between a runner and its server.

use std::path::PathBuf;

use http::{Method, StatusCode};

/// A client that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("`{url}` is not the address of a coordinator: {reason}")]
    Url { url: String, reason: String },
    #[error("read certificates or a key from `{path}`")]
    Pem {
        path: PathBuf,
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    #[error("`{path}` holds no certificate")]
    NoCertificate { path: PathBuf },
    #[error("`{path}` is of no use alone: a client certificate and its key belong together")]
    HalfPair { path: PathBuf },
    #[error("use the certificates")]
    Tls(#[source] rustls::Error),
    #[error("prepare the HTTP client")]
    Http(#[source] reqwest::Error),
}

/// A request that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The server's answer is no.
    #[error("{method} {url}: {status}{}", in_brackets(.message))]
    Refused { method: Method, url: String, status: StatusCode, message: String },
    #[error("{method} {url}")]
    Unreachable {
        method: Method,
        url: String,
        #[source]
        source: reqwest::Error,
    },
    /// The answer is not what the API promises.
    #[error("{method} {url}: {reason}")]
    Protocol { method: Method, url: String, reason: String },
    /// The certificates have changed on disk, and are of no use now.
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error("read or write `{path}`")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

fn in_brackets(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({message})") }
}

impl ApiError {
    /// Returns the status that the server refused with.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Tells whether the server does not know the token, or not for this.
    pub fn is_forbidden(&self) -> bool {
        self.status() == Some(StatusCode::FORBIDDEN)
    }

    /// Tells whether nobody listens at the server's address, or no way leads there.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Self::Unreachable { source, .. } if source.is_connect())
    }
}
