//! Answers.

use bytes::Bytes;
use dockwright_store::StoreError;
use futures_util::TryStreamExt as _;
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full, Limited, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use serde::Serialize;
use tokio::io::AsyncRead;
use tokio_util::io::ReaderStream;

use crate::protocol::{ErrorBody, ErrorCode, ErrorDetail};

/// Bodies may fail in the middle, when the disk does.
pub(super) type Response = hyper::Response<BoxBody<Bytes, std::io::Error>>;

const BUFFER_BYTES: usize = 256 * 1024;

/// A refusal.
#[derive(Debug)]
pub(super) struct Failure {
    code: ErrorCode,
    status: StatusCode,
    message: String,
    detail: serde_json::Value,
    headers: Vec<(header::HeaderName, String)>,
}

impl Failure {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, status: code.status(), message: message.into(), detail: serde_json::Value::Null, headers: Vec::new() }
    }

    pub(super) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    pub(super) fn with_detail(self, detail: serde_json::Value) -> Self {
        Self { detail, ..self }
    }

    pub(super) fn with_header(mut self, name: header::HeaderName, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(super) fn into_response(self) -> Response {
        let error = ErrorDetail { code: self.code.as_str().to_owned(), message: self.message, detail: self.detail };
        let mut response = json(self.status, &ErrorBody { errors: vec![error] });
        for (name, value) in self.headers {
            set(&mut response, name, &value);
        }
        response
    }
}

/// The caller learns that it is our fault; the log, why.
impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "the registry's store failed");
        Self::new(ErrorCode::Unknown, "the registry's store failed")
    }
}

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let body = serde_json::to_vec(value).expect("plain data is valid JSON");
    bytes(status, "application/json", body)
}

pub(super) fn bytes(status: StatusCode, content_type: &str, body: Vec<u8>) -> Response {
    let length = body.len();
    let mut response = with_body(status, Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed());
    set(&mut response, header::CONTENT_TYPE, content_type);
    set(&mut response, header::CONTENT_LENGTH, &length.to_string());
    response
}

pub(super) fn empty(status: StatusCode) -> Response {
    let mut response = with_body(status, Empty::new().map_err(|never| match never {}).boxed());
    if status != StatusCode::NO_CONTENT {
        set(&mut response, header::CONTENT_LENGTH, "0");
    }
    response
}

pub(super) fn stream(status: StatusCode, length: u64, reader: impl AsyncRead + Send + Sync + 'static) -> Response {
    let frames = ReaderStream::with_capacity(reader, BUFFER_BYTES).map_ok(Frame::data);
    let mut response = with_body(status, BodyExt::boxed(StreamBody::new(frames)));
    set(&mut response, header::CONTENT_LENGTH, &length.to_string());
    response
}

fn with_body(status: StatusCode, body: BoxBody<Bytes, std::io::Error>) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    set(&mut response, header::HeaderName::from_static("docker-distribution-api-version"), "registry/2.0");
    response
}

/// For HEAD: the same headers, nothing else.
pub(super) fn without_body(response: Response) -> Response {
    response.map(|_| Empty::new().map_err(|never| match never {}).boxed())
}

/// Sets a header. Values are digests, names that were checked, and numbers; anything else is left out rather than trusted.
pub(super) fn set(response: &mut Response, name: header::HeaderName, value: &str) {
    match HeaderValue::from_str(value) {
        Ok(value) => drop(response.headers_mut().insert(name, value)),
        Err(_) => tracing::warn!(%name, "left out a header with an invalid value"),
    }
}

/// Reads a small body.
pub(super) async fn read_body(body: Incoming, limit: usize, what: &str) -> Result<Vec<u8>, Failure> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes().to_vec()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Failure::new(ErrorCode::SizeInvalid, format!("{what} is larger than {limit} bytes")))
        }
        Err(error) => Err(Failure::new(ErrorCode::Unknown, format!("{what} broke off: {error}")).with_status(StatusCode::BAD_REQUEST)),
    }
}

/// Returns the parameters of a query, decoded, in order.
pub(super) fn query(uri: &http::Uri) -> Vec<(String, String)> {
    url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect()
}

pub(super) fn parameter<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}
