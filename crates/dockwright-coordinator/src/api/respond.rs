//! Answers.

use std::path::Path;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::AsyncRead;
use tokio_util::io::ReaderStream;

use crate::server::ServerError;

/// Bodies may fail in the middle, when the disk does.
pub(super) type Response = hyper::Response<BoxBody<Bytes, std::io::Error>>;

const BUFFER_BYTES: usize = 256 * 1024;
const JSON_MAX_BYTES: usize = 1024 * 1024;

/// A refusal.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    message: String,
    headers: Vec<(&'static str, String)>,
}

impl Failure {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), headers: Vec::new() }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// GitLab's words for a status.
    pub(super) fn plain(status: StatusCode) -> Self {
        Self::new(status, status.to_string())
    }

    pub(super) fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn into_response(self) -> Response {
        let mut response = json(self.status, &serde_json::json!({ "message": self.message }));
        for (name, value) in self.headers {
            set(&mut response, name, &value);
        }
        response
    }
}

/// The one place where what went wrong becomes a status.
impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        match &error {
            ServerError::NotFound { what } => Self::new(StatusCode::NOT_FOUND, format!("404 {} Not Found", capitalized(what))),
            ServerError::Forbidden => Self::plain(StatusCode::FORBIDDEN),
            ServerError::JobOver { status } => {
                Self::new(StatusCode::FORBIDDEN, format!("403 Forbidden - {error}")).with_header("job-status", *status)
            }
            ServerError::Invalid { .. } | ServerError::Configuration(_) | ServerError::Dotenv(_) => Self::bad_request(error.to_string()),
            ServerError::ArtifactsExpired { .. } => Self::new(StatusCode::GONE, error.to_string()),
            ServerError::TraceGap { stored } => Self::plain(StatusCode::RANGE_NOT_SATISFIABLE).with_header("range", format!("0-{stored}")),
            ServerError::TraceDiffers => Self::new(StatusCode::PRECONDITION_FAILED, error.to_string()),
            ServerError::Database(_)
            | ServerError::TooNew { .. }
            | ServerError::Git(_)
            | ServerError::Directory(_)
            | ServerError::File { .. } => {
                // The caller learns that it is our fault; the log, why.
                tracing::error!(error = &error as &dyn std::error::Error, "a request failed");
                Self::plain(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    bytes(status, "application/json", serde_json::to_vec(value).expect("plain data is valid JSON"))
}

pub(super) fn bytes(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Response {
    let mut response = hyper::Response::new(Full::new(body.into()).map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    set(&mut response, header::CONTENT_TYPE.as_str(), content_type);
    response
}

pub(super) fn empty(status: StatusCode) -> Response {
    let mut response = hyper::Response::new(Full::new(Bytes::new()).map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response
}

/// Sends what a reader gives.
pub(super) fn stream(content_type: &str, reader: impl AsyncRead + Send + Sync + 'static) -> Response {
    let frames = ReaderStream::with_capacity(reader, BUFFER_BYTES).map_ok(Frame::data);
    let mut response = hyper::Response::new(BoxBody::new(StreamBody::new(frames)));
    set(&mut response, header::CONTENT_TYPE.as_str(), content_type);
    response
}

/// Sends a file; one that is missing is empty.
pub(super) async fn file(content_type: &str, path: &Path) -> Result<Response, ServerError> {
    match tokio::fs::File::open(path).await {
        Ok(file) => {
            let length = file.metadata().await.map_err(ServerError::file(path))?.len();
            // A trace grows while it is read; what was promised is sent.
            let mut response = stream(content_type, tokio::io::AsyncReadExt::take(file, length));
            set(&mut response, header::CONTENT_LENGTH.as_str(), &length.to_string());
            Ok(response)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(bytes(StatusCode::OK, content_type, Bytes::new())),
        Err(error) => Err(ServerError::file(path)(error)),
    }
}

pub(super) fn set(response: &mut Response, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// Reads a body, up to a limit.
pub(super) async fn body(request: Request<Incoming>, limit: usize) -> Result<Bytes, Failure> {
    let body = Limited::new(request.into_body(), limit).collect().await;
    body.map(|body| body.to_bytes()).map_err(|_| Failure::plain(StatusCode::PAYLOAD_TOO_LARGE))
}

/// Reads a body of JSON; an empty one is an empty object.
pub(super) async fn json_body<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Failure> {
    let bytes = body(request, JSON_MAX_BYTES).await?;
    let bytes = if bytes.is_empty() { Bytes::from_static(b"{}") } else { bytes };
    serde_json::from_slice(&bytes).map_err(|error| Failure::bad_request(format!("the body is not valid: {error}")))
}
