//! Requests to one repository: each with a token, again with a fresh one when that is refused, and again when the registry is busy.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use dockwright_store::{Digest, Document, ImageRef, manifest::media_type};
use futures_util::StreamExt as _;
use reqwest::{Body, Method, Response, StatusCode, header};
use url::Url;

use super::{
    ClientError, Inner,
    token::{Key, message_of},
    transport::Endpoint,
};
use crate::{
    credentials::Credentials,
    protocol::{Challenge, MANIFEST_MAX_BYTES, Scope, parse_challenges},
};

const ATTEMPTS_MAX: u32 = 5;
const READ_ATTEMPTS_MAX: u32 = 3;
const BACKOFF_FIRST: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
const MANIFEST_TYPES: &str = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, */*";

/// A body that can be sent again when an attempt fails.
pub(super) enum Payload<'a> {
    None,
    Bytes(Bytes),
    /// Opens a stream of this many bytes.
    Stream(u64, &'a (dyn Fn() -> Body + Send + Sync)),
}

/// One repository at one registry, as one caller.
pub(super) struct Session<'a> {
    pub(super) inner: &'a Inner,
    pub(super) endpoint: Arc<Endpoint>,
    repository: String,
    /// For messages.
    reference: String,
    key: Key,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        inner: &'a Inner,
        endpoint: Arc<Endpoint>,
        reference: &ImageRef,
        scope: Scope,
        credentials: Option<&Credentials>,
    ) -> Self {
        let key = Key { registry: endpoint.registry.clone(), scope, credentials: credentials.cloned().unwrap_or_default() };
        Self { inner, endpoint, repository: reference.repository().to_owned(), reference: reference.familiar(), key }
    }

    pub(super) fn registry(&self) -> &str {
        &self.endpoint.registry
    }

    /// Returns the address of something in the repository.
    pub(super) fn path(&self, rest: &str) -> Url {
        self.endpoint.url(&format!("v2/{}/{rest}", self.repository))
    }

    /// Sends a request until it is answered well or refused for good.
    pub(super) async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: &[(header::HeaderName, String)],
        payload: &Payload<'_>,
    ) -> Result<Response, ClientError> {
        let response = self.send_unchecked(method, url, headers, payload).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refusal(response).await)
    }

    /// As [`send`](Self::send), but a refusal is the caller's to judge.
    pub(super) async fn send_unchecked(
        &self,
        method: Method,
        url: &Url,
        headers: &[(header::HeaderName, String)],
        payload: &Payload<'_>,
    ) -> Result<Response, ClientError> {
        let mut authorised_again = false;
        // What only reads can be asked again when the connection breaks; an upload starts over instead (see `push`).
        let is_read = matches!(method, Method::GET | Method::HEAD);
        let mut attempt = 1;
        loop {
            let response = match self.attempt(&method, url, headers, payload).await {
                Err(ClientError::Unreachable { .. }) if is_read && attempt < READ_ATTEMPTS_MAX => {
                    tokio::time::sleep(backoff(attempt)).await;
                    attempt += 1;
                    continue;
                }
                outcome => outcome?,
            };
            let status = response.status();
            if status == StatusCode::UNAUTHORIZED && !authorised_again {
                authorised_again = true;
                self.authorise(&response).await.map_err(|error| error.for_request(url))?;
                continue;
            }
            let is_busy = matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS | StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
            );
            if !is_busy || attempt == ATTEMPTS_MAX {
                return Ok(response);
            }
            tokio::time::sleep(retry_after(&response).unwrap_or(backoff(attempt)).min(BACKOFF_MAX)).await;
            attempt += 1;
        }
    }

    async fn attempt(
        &self,
        method: &Method,
        url: &Url,
        headers: &[(header::HeaderName, String)],
        payload: &Payload<'_>,
    ) -> Result<Response, ClientError> {
        let mut request = self.inner.transport.request(&self.endpoint, method.clone(), url.clone());
        if self.endpoint.owns(url)
            && let Some(authorization) = self.inner.tokens.known(&self.key, &self.endpoint)
        {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request = match payload {
            Payload::None => request,
            Payload::Bytes(bytes) => request.body(bytes.clone()),
            Payload::Stream(length, open) => request.header(header::CONTENT_LENGTH, *length).body(open()),
        };
        request.send().await.map_err(|source| {
            self.inner.transport.forget(self.registry());
            ClientError::unreachable(self.registry(), source)
        })
    }

    async fn authorise(&self, response: &Response) -> Result<(), ClientError> {
        self.inner.tokens.forget(&self.key);
        let challenges: Vec<Challenge> = challenges(response).collect();
        self.inner.tokens.answer(&self.inner.transport, &self.endpoint, &challenges, &self.key).await.map(drop)
    }

    /// Turns a refusal into an error.
    pub(super) async fn refusal(&self, response: Response) -> ClientError {
        let status = response.status();
        let is_scope_missing = challenges(&response).any(|challenge| challenge.get("error") == Some("insufficient_scope"));
        let message = message_of(response).await;
        let registry = self.registry().to_owned();
        match status {
            // A token was given and is not enough: the repository is there, perhaps, but not for this caller.
            StatusCode::UNAUTHORIZED if is_scope_missing => ClientError::denied("requested access to the resource is denied".to_owned()),
            StatusCode::UNAUTHORIZED => ClientError::unauthorized(message),
            StatusCode::FORBIDDEN => ClientError::denied(message),
            StatusCode::NOT_FOUND => ClientError::NotFound { what: format!("manifest for {}", self.reference), message },
            StatusCode::TOO_MANY_REQUESTS => ClientError::TooManyRequests { registry, message },
            _ => ClientError::Refused { registry, status, message },
        }
    }

    /// Fetches and verifies a manifest or index.
    pub(super) async fn document(&self, reference: &str) -> Result<Document, ClientError> {
        let accept = [(header::ACCEPT, MANIFEST_TYPES.to_owned())];
        let response = self.send(Method::GET, &self.path(&format!("manifests/{reference}")), &accept, &Payload::None).await?;
        let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.and_then(|value| value.split(';').next()).map(|value| value.trim().to_owned());
        let bytes = self.limited(response, MANIFEST_MAX_BYTES).await?;
        let document = Document::parse(bytes, content_type.as_deref().filter(|name| *name != media_type::OCI_CONFIG))?;
        if let Ok(expected) = reference.parse::<Digest>()
            && expected != document.digest()
        {
            return Err(ClientError::WrongManifest { registry: self.registry().to_owned(), expected, actual: document.digest() });
        }
        Ok(document)
    }

    /// Reads a body that must be small.
    pub(super) async fn limited(&self, response: Response, limit: usize) -> Result<Vec<u8>, ClientError> {
        let mut body = response.bytes_stream();
        let mut bytes = Vec::new();
        while let Some(chunk) = body.next().await {
            bytes.extend_from_slice(&chunk.map_err(|source| ClientError::unreadable(self.registry(), source))?);
            if bytes.len() > limit {
                return Err(ClientError::protocol(self.registry(), format!("an answer is larger than {limit} bytes")));
            }
        }
        Ok(bytes)
    }
}

fn challenges(response: &Response) -> impl Iterator<Item = Challenge> {
    let headers = response.headers().get_all(header::WWW_AUTHENTICATE);
    headers.iter().filter_map(|value| value.to_str().ok()).flat_map(parse_challenges)
}

/// How long to wait after the n-th attempt.
pub(super) fn backoff(attempt: u32) -> Duration {
    BACKOFF_FIRST * 2u32.pow(attempt - 1)
}

fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}
