//! Uploads.
//!
//! ```text
//! POST ──► session ──PATCH*──► session ──PUT──► blob        POST?digest= ──► blob        POST?mount= ──► blob, or session
//!             └──── DELETE, wrong digest ──► gone
//! ```
//!
//! A session whose request has ended is parked with its running hash; one that is not parked here (after a restart) is read again.

use std::{
    collections::{HashMap, HashSet},
    sync::Mutex,
};

use bytes::Bytes;
use dockwright_store::{CommitError, StoreError, Upload, digest::Digest};
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::mpsc;

use super::{
    Action, Registry,
    access::Caller,
    blobs::CONTENT_DIGEST,
    respond::{self, Failure, Response},
    route::parse_digest,
};
use crate::{
    blocking::blocking,
    protocol::{ContentRange, ErrorCode},
};

const UPLOAD_ID: header::HeaderName = header::HeaderName::from_static("docker-upload-uuid");
/// Pieces of a body between the connection and the disk.
const PIECES_IN_FLIGHT: usize = 16;

/// Sessions between two requests.
#[derive(Default)]
pub(super) struct Parked {
    state: Mutex<ParkedState>,
}

#[derive(Default)]
struct ParkedState {
    idle: HashMap<String, Upload>,
    busy: HashSet<String>,
}

impl Parked {
    fn park(&self, upload: Upload) {
        let mut state = self.state.lock().expect("no holder of this lock panics");
        state.busy.remove(upload.id());
        state.idle.insert(upload.id().to_owned(), upload);
    }

    /// Marks the session as over.
    fn release(&self, id: &str) {
        self.state.lock().expect("no holder of this lock panics").busy.remove(id);
    }
}

impl Registry {
    pub(super) async fn start_upload(&self, caller: &Caller, repository: &str, request: Request<Incoming>) -> Result<Response, Failure> {
        if request.method() != Method::POST {
            return Err(Failure::new(ErrorCode::Unsupported, "an upload is started with POST"));
        }
        let query = respond::query(request.uri());
        if let Some(digest) = respond::parameter(&query, "mount") {
            let digest = parse_digest(digest)?;
            if self.mount(caller, repository, &digest, respond::parameter(&query, "from")).await? {
                return Ok(created(repository, &digest));
            }
        }
        let digest = respond::parameter(&query, "digest").map(parse_digest).transpose()?;
        let (store, name, principal) = (self.store.clone(), repository.to_owned(), caller.identity.name.clone());
        let upload = blocking(move || store.start_upload(&name, &principal)).await?;
        match digest {
            Some(digest) => self.receive_and_finish(upload, request, &digest).await,
            None => {
                let response = accepted(&upload, StatusCode::ACCEPTED);
                self.parked.park(upload);
                Ok(response)
            }
        }
    }

    /// Links a blob that the caller may read elsewhere.
    async fn mount(&self, caller: &Caller, repository: &str, digest: &Digest, from: Option<&str>) -> Result<bool, Failure> {
        let (store, wanted) = (self.store.clone(), *digest);
        let holders = blocking(move || store.repositories_with_blob(&wanted)).await?;
        let readable = holders.iter().any(|holder| from.is_none_or(|from| from == holder) && caller.could(self, holder, Action::Pull));
        if !readable {
            return Ok(false);
        }
        let (store, name, wanted) = (self.store.clone(), repository.to_owned(), *digest);
        Ok(blocking(move || store.link_blob(&name, &wanted)).await?)
    }

    pub(super) async fn upload(
        &self,
        caller: &Caller,
        repository: &str,
        id: &str,
        request: Request<Incoming>,
    ) -> Result<Response, Failure> {
        match *request.method() {
            Method::GET => {
                let upload = self.take(caller, repository, id).await?;
                let response = accepted(&upload, StatusCode::NO_CONTENT);
                self.parked.park(upload);
                Ok(response)
            }
            Method::DELETE => {
                let upload = self.take(caller, repository, id).await?;
                let cancelled = blocking(move || upload.cancel()).await;
                self.parked.release(id);
                cancelled?;
                Ok(respond::empty(StatusCode::NO_CONTENT))
            }
            Method::PATCH => {
                let upload = self.take_in_order(caller, repository, id, &request).await?;
                let upload = self.receive(upload, request.into_body()).await?;
                let response = accepted(&upload, StatusCode::ACCEPTED);
                self.parked.park(upload);
                Ok(response)
            }
            Method::PUT => {
                let query = respond::query(request.uri());
                let digest = respond::parameter(&query, "digest");
                let digest =
                    digest.ok_or_else(|| Failure::new(ErrorCode::DigestInvalid, "the last request of an upload names its digest"))?;
                let digest = parse_digest(digest)?;
                let upload = self.take_in_order(caller, repository, id, &request).await?;
                self.receive_and_finish(upload, request, &digest).await
            }
            _ => Err(Failure::new(ErrorCode::Unsupported, "an upload is continued with PATCH and ended with PUT or DELETE")),
        }
    }

    /// Takes the session for one request.
    async fn take(&self, caller: &Caller, repository: &str, id: &str) -> Result<Upload, Failure> {
        let unknown = || Failure::new(ErrorCode::BlobUploadUnknown, "there is no such upload");
        {
            let mut state = self.parked.state.lock().expect("no holder of this lock panics");
            if state.busy.contains(id) {
                return Err(
                    Failure::new(ErrorCode::BlobUploadInvalid, "another request continues this upload").with_status(StatusCode::CONFLICT)
                );
            }
            if let Some(upload) = state.idle.get(id) {
                if upload.repository() != repository || upload.principal() != caller.identity.name {
                    return Err(unknown());
                }
                state.busy.insert(id.to_owned());
                return Ok(state.idle.remove(id).expect("it was just looked up"));
            }
            state.busy.insert(id.to_owned());
        }
        let (store, session, name, principal) = (self.store.clone(), id.to_owned(), repository.to_owned(), caller.identity.name.clone());
        let resumed = blocking(move || store.resume_upload(&session, &name, &principal)).await;
        match resumed {
            Ok(Some(upload)) => Ok(upload),
            Ok(None) => {
                self.parked.release(id);
                Err(unknown())
            }
            Err(error) => {
                self.parked.release(id);
                Err(error.into())
            }
        }
    }

    /// As [`take`](Self::take), but refuses a chunk that does not continue where the last one ended.
    async fn take_in_order(&self, caller: &Caller, repository: &str, id: &str, request: &Request<Incoming>) -> Result<Upload, Failure> {
        let range = request.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
        let range = range.map(str::parse::<ContentRange>).transpose();
        let range =
            range.map_err(|error| Failure::new(ErrorCode::BlobUploadInvalid, error.to_string()).with_status(StatusCode::BAD_REQUEST))?;
        let upload = self.take(caller, repository, id).await?;
        match range {
            Some(range) if range.first != upload.offset() => {
                let failure = Failure::new(ErrorCode::RangeInvalid, format!("the upload has {} bytes", upload.offset()))
                    .with_header(header::RANGE, received(&upload))
                    .with_header(header::LOCATION, location(&upload));
                self.parked.park(upload);
                Err(failure)
            }
            _ => Ok(upload),
        }
    }

    /// Appends a body. When it breaks off, what came is kept and the client may continue.
    async fn receive(&self, upload: Upload, mut body: Incoming) -> Result<Upload, Failure> {
        let (pieces, received) = mpsc::channel::<Bytes>(PIECES_IN_FLIGHT);
        let writing = tokio::task::spawn_blocking(move || append_all(upload, received));
        let mut broken = None;
        while let Some(frame) = body.frame().await {
            match frame.map(|frame| frame.into_data()) {
                // The writer is gone after an error, which it reports below.
                Ok(Ok(piece)) => {
                    if pieces.send(piece).await.is_err() {
                        break;
                    }
                }
                Ok(Err(_trailers)) => {}
                Err(error) => {
                    broken = Some(error);
                    break;
                }
            }
        }
        drop(pieces);
        let (upload, written) = match writing.await {
            Ok(outcome) => outcome,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        if let Err(error) = written {
            self.parked.park(upload);
            return Err(error.into());
        }
        if let Some(error) = broken {
            self.parked.park(upload);
            return Err(Failure::new(ErrorCode::BlobUploadInvalid, format!("the body broke off: {error}")));
        }
        Ok(upload)
    }

    async fn receive_and_finish(&self, upload: Upload, request: Request<Incoming>, digest: &Digest) -> Result<Response, Failure> {
        let upload = self.receive(upload, request.into_body()).await?;
        let (id, repository, expected) = (upload.id().to_owned(), upload.repository().to_owned(), *digest);
        let finished = blocking(move || upload.finish(&expected)).await;
        self.parked.release(&id);
        match finished {
            Ok(_) => Ok(created(&repository, digest)),
            Err(CommitError::Store(error)) => Err(error.into()),
            Err(error @ CommitError::Mismatch { .. }) => Err(Failure::new(ErrorCode::DigestInvalid, error.to_string())),
        }
    }
}

fn append_all(mut upload: Upload, mut pieces: mpsc::Receiver<Bytes>) -> (Upload, Result<(), StoreError>) {
    while let Some(piece) = pieces.blocking_recv() {
        if let Err(error) = upload.append(&piece) {
            return (upload, Err(error));
        }
    }
    (upload, Ok(()))
}

fn created(repository: &str, digest: &Digest) -> Response {
    let mut response = respond::empty(StatusCode::CREATED);
    respond::set(&mut response, header::LOCATION, &format!("/v2/{repository}/blobs/{digest}"));
    respond::set(&mut response, CONTENT_DIGEST, &digest.to_string());
    response
}

fn accepted(upload: &Upload, status: StatusCode) -> Response {
    let mut response = respond::empty(status);
    respond::set(&mut response, header::LOCATION, &location(upload));
    respond::set(&mut response, header::RANGE, &received(upload));
    respond::set(&mut response, UPLOAD_ID, upload.id());
    response
}

fn location(upload: &Upload) -> String {
    format!("/v2/{}/blobs/uploads/{}", upload.repository(), upload.id())
}

/// Docker fails without a range that it can parse, even when there is nothing yet.
fn received(upload: &Upload) -> String {
    format!("0-{}", upload.offset().saturating_sub(1))
}
