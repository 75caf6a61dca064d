//! The Docker Engine API: HTTP/1.1 on unix and TCP listeners, API versions 1.24 to 1.51.
//!
//! One file per family of endpoints, each with its table of routes ([`router::Route`]) and handlers of the form
//! `async fn(Request) -> Result<Response>`. A handler reads the request, calls the engine and shapes the answer for the version asked
//! for; it holds no state. Here an error kind becomes a status, and nowhere else.

mod archives;
mod attach;
mod auth;
mod build;
mod containers;
mod events;
mod files;
mod images;
mod logs;
mod networks;
mod progress;
pub mod router;
mod server;
mod stats;
pub mod stream;
mod system;
mod unsupported;
pub mod version;
mod volumes;

pub(crate) mod hijack;
pub mod tls;

use http::{HeaderValue, StatusCode, header};

use crate::error::{EngineError, ErrorKind};

pub use router::{Caller, Query, Request};
pub use server::{Listener, serve};
pub use stream::{Body, Response};

/// All endpoints. What is not in one of the tables is a page that does not exist.
pub(crate) fn routes() -> impl Iterator<Item = &'static router::Route> {
    let families: [&'static [router::Route]; 13] = [
        system::ROUTES,
        archives::ROUTES,
        auth::ROUTES,
        build::ROUTES,
        images::ROUTES,
        containers::ROUTES,
        attach::ROUTES,
        logs::ROUTES,
        files::ROUTES,
        networks::ROUTES,
        volumes::ROUTES,
        events::ROUTES,
        // Last, because some of its patterns are wide.
        unsupported::ROUTES,
    ];
    families.into_iter().flatten()
}

/// Returns the HTTP status of an error kind.
pub fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::NotModified => StatusCode::NOT_MODIFIED,
        ErrorKind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Renders an error as the API does: a status and `{"message": …}`.
pub(crate) fn error_response(error: &EngineError) -> Response {
    if error.kind == ErrorKind::NotModified {
        return stream::empty(StatusCode::NOT_MODIFIED);
    }
    let mut response = stream::json(status(error.kind), &serde_json::json!({ "message": error.message }));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
