//! Push: every blob that the registry lacks, then the manifest.

use std::io;

use bytes::Bytes;
use dockwright_store::{Descriptor, DiffId, Digest, ImageId, ImageRef, Store, StoreError};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::{Body, Method, Response, StatusCode, header};
use tokio_util::io::ReaderStream;
use url::Url;

use super::{
    Client, ClientError, OnProgress, Progress, Pushed,
    session::{Payload, Session, backoff},
};
use crate::{blocking::blocking, credentials::Credentials, manifest, protocol::Scope};

/// Layers of one image that are sent at once.
const LAYERS_AT_ONCE: usize = 4;
/// How often a blob is sent when the connection keeps breaking.
const ATTEMPTS_MAX: u32 = 4;
const BUFFER_BYTES: usize = 256 * 1024;
const PROGRESS_STEP_BYTES: u64 = 512 * 1024;

impl Client {
    /// Pushes an image of the store under a name.
    pub async fn push(
        &self,
        store: &Store,
        image: &ImageId,
        reference: &ImageRef,
        credentials: Option<&Credentials>,
        on_progress: &OnProgress,
    ) -> Result<Pushed, ClientError> {
        let lease = store.lease();
        lease.hold_image(image)?;
        let found = store.image(image)?.ok_or_else(|| StoreError::Missing { what: format!("image {image}") })?;
        let session = self.session(reference, Scope::push(reference.repository()), credentials).await?;
        let push = Push { client: self, session: &session, store, reference, on_progress };
        for layer in &found.layers {
            push.tell(&layer.short(), "Preparing");
        }
        // A loop rather than `map`: with a closure the compiler cannot see that the whole future is `Send`.
        let mut layers = Vec::new();
        for layer in &found.layers {
            layers.push(push.layer(layer));
        }
        let layers: Vec<Descriptor> = stream::iter(layers).buffered(LAYERS_AT_ONCE).try_collect().await?;
        let manifest = manifest::for_image(image, found.config_bytes.len() as u64, layers);
        let config = Bytes::from(found.config_bytes);
        if !push.exists(&image.0).await? {
            push.upload(&image.0, Payload::Bytes(config)).await?;
        }
        let tag = reference.tag().map_or_else(|| manifest.digest().to_string(), ToOwned::to_owned);
        let content_type = [(header::CONTENT_TYPE, manifest.media_type().to_owned())];
        let body = Payload::Bytes(Bytes::copy_from_slice(manifest.raw()));
        session.send(Method::PUT, &session.path(&format!("manifests/{tag}")), &content_type, &body).await?;
        Ok(Pushed { digest: manifest.digest(), size: manifest.raw().len() as u64 })
    }
}

struct Push<'a> {
    client: &'a Client,
    session: &'a Session<'a>,
    store: &'a Store,
    reference: &'a ImageRef,
    on_progress: &'a OnProgress,
}

impl Push<'_> {
    fn tell(&self, id: &str, status: impl Into<String>) {
        (self.on_progress)(Progress { id: id.to_owned(), status: status.into(), amount: None });
    }

    async fn layer(&self, diff_id: &DiffId) -> Result<Descriptor, ClientError> {
        let id = diff_id.short();
        let (store, layer) = (self.store.clone(), *diff_id);
        let descriptor = blocking(move || store.compressed_layer(&layer)).await?;
        if self.exists(&descriptor.digest).await? {
            self.tell(&id, "Layer already exists");
        } else if let Some(source) = self.mount(&descriptor.digest).await? {
            self.tell(&id, format!("Mounted from {source}"));
        } else {
            self.send_layer(&id, &descriptor).await?;
            self.tell(&id, "Pushed");
        }
        self.client.remember_source(self.reference, descriptor.digest);
        Ok(descriptor)
    }

    async fn exists(&self, digest: &Digest) -> Result<bool, ClientError> {
        let url = self.session.path(&format!("blobs/{digest}"));
        let response = self.session.send_unchecked(Method::HEAD, &url, &[], &Payload::None).await?;
        match response.status() {
            status if status.is_success() => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.session.refusal(response).await),
        }
    }

    /// Lets the registry take the blob from a repository known to have it. Returns that repository, or `None` if it would not.
    async fn mount(&self, digest: &Digest) -> Result<Option<String>, ClientError> {
        let key = (self.reference.registry().to_owned(), *digest);
        let source = self.client.inner.sources.lock().expect("no holder of this lock panics").get(&key).cloned();
        let Some(source) = source.filter(|source| source != self.reference.repository()) else { return Ok(None) };
        let url = self.session.path(&format!("blobs/uploads/?mount={digest}&from={source}"));
        let response = self.session.send_unchecked(Method::POST, &url, &[], &Payload::None).await?;
        Ok((response.status() == StatusCode::CREATED).then_some(source))
    }

    async fn send_layer(&self, id: &str, descriptor: &Descriptor) -> Result<(), ClientError> {
        let size = descriptor.size;
        let open = || {
            let file = match self.store.open_blob(&descriptor.digest) {
                Ok(Some(file)) => file,
                Ok(None) => return failing(io::Error::from(io::ErrorKind::NotFound)),
                Err(error) => return failing(io::Error::other(error)),
            };
            let (on_progress, id) = (self.on_progress.clone(), id.to_owned());
            let (mut sent, mut told) = (0, 0);
            let reader = ReaderStream::with_capacity(tokio::fs::File::from_std(file), BUFFER_BYTES);
            Body::wrap_stream(reader.inspect(move |chunk| {
                sent += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
                if sent - told >= PROGRESS_STEP_BYTES || sent == size {
                    told = sent;
                    on_progress(Progress { id: id.clone(), status: "Pushing".to_owned(), amount: Some((sent, size)) });
                }
            }))
        };
        self.upload(&descriptor.digest, Payload::Stream(size, &open)).await
    }

    /// Uploads a blob; again from the start when the connection breaks, because what the registry kept of it is not known.
    async fn upload(&self, digest: &Digest, payload: Payload<'_>) -> Result<(), ClientError> {
        for attempt in 1.. {
            match self.upload_once(digest, &payload).await {
                Err(ClientError::Unreachable { .. }) if attempt < ATTEMPTS_MAX => tokio::time::sleep(backoff(attempt)).await,
                outcome => return outcome,
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Asks for an upload and sends the blob in one piece.
    async fn upload_once(&self, digest: &Digest, payload: &Payload<'_>) -> Result<(), ClientError> {
        let start = self.session.path("blobs/uploads/");
        let response = self.session.send(Method::POST, &start, &[(header::CONTENT_LENGTH, "0".to_owned())], &Payload::None).await?;
        let mut location = self.location(&start, &response)?;
        location.query_pairs_mut().append_pair("digest", &digest.to_string());
        let content_type = [(header::CONTENT_TYPE, "application/octet-stream".to_owned())];
        self.session.send(Method::PUT, &location, &content_type, payload).await.map(drop)
    }

    fn location(&self, asked: &Url, response: &Response) -> Result<Url, ClientError> {
        let broken = || ClientError::protocol(self.session.registry(), "an upload was accepted without a place to send it to");
        let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok()).ok_or_else(broken)?;
        asked.join(location).map_err(|_| broken())
    }
}

/// A body that breaks off at once, which ends the request with an error.
fn failing(error: io::Error) -> Body {
    Body::wrap_stream(stream::once(async { Err::<Bytes, _>(error) }))
}
