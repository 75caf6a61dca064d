//! Blobs: whole, in part, or only their description.

use std::io::SeekFrom;

use dockwright_store::digest::Digest;
use http::{Method, Request, StatusCode, header};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::{
    Registry,
    respond::{self, Failure, Response},
};
use crate::{
    blocking::blocking,
    protocol::{ErrorCode, RangeRequest},
};

pub(super) const CONTENT_DIGEST: header::HeaderName = header::HeaderName::from_static("docker-content-digest");
/// Content never changes under its digest.
const CACHE_CONTROL: &str = "max-age=31536000";

impl Registry {
    pub(super) async fn blob(&self, repository: &str, digest: &Digest, request: &Request<Incoming>) -> Result<Response, Failure> {
        match *request.method() {
            Method::GET | Method::HEAD => self.get_blob(repository, digest, request).await,
            Method::DELETE => self.delete_blob(repository, digest).await,
            _ => Err(Failure::new(ErrorCode::Unsupported, "a blob can be read and deleted")),
        }
    }

    async fn get_blob(&self, repository: &str, digest: &Digest, request: &Request<Incoming>) -> Result<Response, Failure> {
        let unknown = || Failure::new(ErrorCode::BlobUnknown, format!("repository `{repository}` has no blob {digest}"));
        let (store, name, wanted) = (self.store.clone(), repository.to_owned(), *digest);
        let found = blocking(move || match store.repository_blob(&name, &wanted)? {
            Some(size) => Ok::<_, dockwright_store::StoreError>(store.open_blob(&wanted)?.map(|file| (file, size))),
            None => Ok(None),
        });
        let (file, size) = found.await?.ok_or_else(unknown)?;
        let is_head = request.method() == Method::HEAD;
        let range = request.headers().get(header::RANGE).and_then(|value| value.to_str().ok()).filter(|_| !is_head);
        let mut response = match range.and_then(|range| range.parse::<RangeRequest>().ok()) {
            Some(range) => part(file, range, size).await?,
            None => respond::stream(StatusCode::OK, size, tokio::fs::File::from_std(file)),
        };
        respond::set(&mut response, CONTENT_DIGEST, &digest.to_string());
        respond::set(&mut response, header::CONTENT_TYPE, "application/octet-stream");
        respond::set(&mut response, header::ACCEPT_RANGES, "bytes");
        respond::set(&mut response, header::ETAG, &format!("\"{digest}\""));
        respond::set(&mut response, header::CACHE_CONTROL, CACHE_CONTROL);
        Ok(response)
    }

    async fn delete_blob(&self, repository: &str, digest: &Digest) -> Result<Response, Failure> {
        let (store, name, wanted) = (self.store.clone(), repository.to_owned(), *digest);
        if blocking(move || store.unlink_blob(&name, &wanted)).await? {
            return Ok(respond::empty(StatusCode::ACCEPTED));
        }
        Err(Failure::new(ErrorCode::BlobUnknown, format!("repository `{repository}` has no blob {digest}")))
    }
}

async fn part(file: std::fs::File, range: RangeRequest, size: u64) -> Result<Response, Failure> {
    let Some((first, last)) = range.within(size) else {
        let failure = Failure::new(ErrorCode::RangeInvalid, format!("the blob has {size} bytes"));
        return Err(failure.with_header(header::CONTENT_RANGE, format!("bytes */{size}")));
    };
    let mut file = tokio::fs::File::from_std(file);
    let sought = file.seek(SeekFrom::Start(first)).await;
    sought.map_err(|error| Failure::new(ErrorCode::Unknown, format!("the blob cannot be read: {error}")))?;
    let length = last - first + 1;
    let mut response = respond::stream(StatusCode::PARTIAL_CONTENT, length, file.take(length));
    respond::set(&mut response, header::CONTENT_RANGE, &format!("bytes {first}-{last}/{size}"));
    Ok(response)
}
