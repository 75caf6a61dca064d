//! The one error that API handlers answer with.
//!
//! Docker's clients read the *text* of errors: `docker run` pulls an image because of "No such image", and takes its exit code from
//! words in a failed start. So messages here are part of the API. What an error means for HTTP is decided in `api`.

use std::fmt;

/// What went wrong, as far as a client can act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// A name or id that does not exist.
    NotFound,
    /// A request that can never succeed as it stands.
    Invalid,
    /// A request that the present state rules out.
    Conflict,
    /// Missing or wrong credentials.
    Unauthorized,
    /// Not allowed.
    Forbidden,
    /// The wanted state holds already; answered without a body.
    NotModified,
    /// An endpoint or option that Dockwright does not have.
    NotImplemented,
    /// Something outside of the engine cannot be reached now.
    Unavailable,
    /// Everything else.
    Internal,
}

/// A failed API operation: its kind and the text that the client shows.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    /// What a client can do about it.
    pub kind: ErrorKind,
    /// Docker's own words wherever it has some.
    pub message: String,
}

/// Result of an engine operation.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;

impl EngineError {
    /// Makes an error of the given kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// A name or id that does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// A request that can never succeed as it stands.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// A request that the present state rules out.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    /// Not allowed.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Forbidden, message)
    }

    /// The wanted state holds already.
    pub fn not_modified() -> Self {
        Self::new(ErrorKind::NotModified, "")
    }

    /// An endpoint that Dockwright does not have; `what` is its name, as in "container checkpoint".
    pub fn not_implemented(what: impl fmt::Display) -> Self {
        Self::new(ErrorKind::NotImplemented, format!("{what} (endpoint) is not implemented by Dockwright"))
    }

    /// Something that should not happen; the whole chain of causes becomes the message, because the client is all that sees it.
    pub fn internal(what: impl fmt::Display, source: &(dyn std::error::Error + 'static)) -> Self {
        Self::new(ErrorKind::Internal, format!("{what}: {}", chain(source)))
    }
}

/// Renders an error with all its causes on one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// Adds what was being done to an error that a client cannot act on.
pub trait Context<T> {
    /// Turns the error into an internal one that says what failed.
    fn context(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: std::error::Error + 'static> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| EngineError::internal(what, &error))
    }
}
