//! The engine's side of the broker protocol.
//!
//! Any number of requests may be under way. A caller that stops waiting (its future is dropped) tells the host so, which ends the
//! operation there: closing `docker pull` ends the download.

use std::{
    collections::HashMap,
    io,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use dockwright_store::{DiffId, Digest, ImageId};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};

use super::{
    frame::{self, Frame, FrameReader},
    message::{
        Answer, Body, BrokerError, BrokerErrorKind, Credentials, DistributionRecord, Envelope, HostFacts, ImageRecord, LayerRecord,
        LogLevel, LoggedIn, Progress, Pruned, Pushed, Request, TarOrigin,
    },
};

/// Progress lines that may wait for a slow reader. Further ones are dropped: they are for the eye, and the next replaces them.
const PROGRESS_QUEUE_LINES: usize = 1024;

/// A handle to the engine host. Clones share one connection.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    sender: mpsc::Sender<Frame>,
    next_id: AtomicU64,
    pending: Mutex<HashMap<u64, Pending>>,
}

#[derive(Debug)]
struct Pending {
    progress: Option<mpsc::Sender<Progress>>,
    outcome: oneshot::Sender<Outcome>,
}

type Outcome = Result<(Box<RawValue>, Vec<OwnedFd>), BrokerError>;

impl Client {
    /// Starts to speak on a connected socket. Call it within a Tokio runtime.
    pub fn connect(socket: OwnedFd) -> io::Result<Self> {
        let (reader, sender) = frame::split(socket)?;
        let shared = Arc::new(Shared { sender, next_id: AtomicU64::new(1), pending: Mutex::default() });
        tokio::spawn(read_answers(reader, Arc::downgrade(&shared)));
        Ok(Self { shared })
    }

    /// Returns what there is to know about the host.
    pub async fn facts(&self) -> Result<HostFacts, BrokerError> {
        self.call(Request::Facts {}).await
    }

    /// Pulls an image by its full name. The layers are then granted to this engine.
    pub async fn pull(
        &self,
        reference: &str,
        credentials: Option<Credentials>,
        platform: Option<String>,
        progress: mpsc::Sender<Progress>,
    ) -> Result<ImageRecord, BrokerError> {
        let request = Request::Pull { reference: reference.to_owned(), credentials, platform };
        self.call_with(request, Vec::new(), Some(progress)).await.map(|(record, _)| record)
    }

    /// Pushes an image under a full name.
    pub async fn push(
        &self,
        image: ImageId,
        reference: &str,
        credentials: Option<Credentials>,
        progress: mpsc::Sender<Progress>,
    ) -> Result<Pushed, BrokerError> {
        let request = Request::Push { image, reference: reference.to_owned(), credentials };
        self.call_with(request, Vec::new(), Some(progress)).await.map(|(pushed, _)| pushed)
    }

    /// Checks credentials against the registry they are for.
    pub async fn login(&self, credentials: Credentials) -> Result<LoggedIn, BrokerError> {
        self.call(Request::Login { credentials }).await
    }

    /// Asks a registry about a name without pulling it.
    pub async fn inspect(&self, reference: &str, credentials: Option<Credentials>) -> Result<DistributionRecord, BrokerError> {
        self.call(Request::Inspect { reference: reference.to_owned(), credentials }).await
    }

    /// Returns detached read-only mounts of layers, in the order asked for.
    pub async fn mount_layers(&self, layers: &[DiffId]) -> Result<Vec<OwnedFd>, BrokerError> {
        let ((), descriptors) = self.call_with(Request::Mount { layers: layers.to_vec() }, Vec::new(), None).await?;
        if descriptors.len() != layers.len() {
            let message = format!("the engine host answered {} mounts for {} layers", descriptors.len(), layers.len());
            return Err(BrokerError::new(BrokerErrorKind::Internal, message));
        }
        Ok(descriptors)
    }

    /// Gives the host a new layer: `tar` is a pipe, which is read to its end. The layer is then granted to this engine.
    pub async fn commit_layer(&self, tar: OwnedFd, origin: TarOrigin) -> Result<LayerRecord, BrokerError> {
        self.call_with(Request::CommitLayer { origin }, vec![tar], None).await.map(|(layer, _)| layer)
    }

    /// Keeps an image configuration whose layers are granted to this engine.
    pub async fn put_image(&self, config: String) -> Result<ImageRecord, BrokerError> {
        self.call(Request::PutImage { config }).await
    }

    /// Has a layer's uncompressed tar written to the pipe `to`, which the host closes at the end.
    pub async fn read_layer(&self, layer: DiffId, to: OwnedFd) -> Result<(), BrokerError> {
        self.call_with(Request::ReadLayer { layer }, vec![to], None).await.map(|((), _)| ())
    }

    /// Looks a build step up in the cache of this engine's scope. The layers of a hit are granted.
    pub async fn cache_get(&self, key: Digest) -> Result<Option<String>, BrokerError> {
        self.call(Request::CacheGet { key }).await
    }

    /// Keeps the result of a build step for later engines of the same scope.
    pub async fn cache_put(&self, key: Digest, value: String, layers: &[DiffId]) -> Result<(), BrokerError> {
        self.call(Request::CachePut { key, value, layers: layers.to_vec() }).await
    }

    /// Removes the cache records of this engine's scope.
    pub async fn cache_prune(&self) -> Result<Pruned, BrokerError> {
        self.call(Request::CachePrune {}).await
    }

    /// Returns a socket connected to the host's own registry.
    pub async fn dial_registry(&self) -> Result<OwnedFd, BrokerError> {
        let ((), descriptors) = self.call_with(Request::DialRegistry {}, Vec::new(), None).await?;
        let no_socket = || BrokerError::new(BrokerErrorKind::Internal, "the engine host answered without a socket");
        descriptors.into_iter().next().ok_or_else(no_socket)
    }

    /// Writes a line to the host's log.
    pub async fn log(&self, level: LogLevel, message: impl Into<String>) -> Result<(), BrokerError> {
        self.call(Request::Log { level, message: message.into() }).await
    }

    async fn call<T: DeserializeOwned>(&self, request: Request) -> Result<T, BrokerError> {
        self.call_with(request, Vec::new(), None).await.map(|(value, _)| value)
    }

    async fn call_with<T: DeserializeOwned>(
        &self,
        request: Request,
        descriptors: Vec<OwnedFd>,
        progress: Option<mpsc::Sender<Progress>>,
    ) -> Result<(T, Vec<OwnedFd>), BrokerError> {
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let payload = encode(id, request)?;
        let (outcome, answered) = oneshot::channel();
        self.shared.pending().insert(id, Pending { progress, outcome });
        let call = Call { shared: &self.shared, id };
        self.shared.sender.send(Frame { payload, descriptors }).await.map_err(|_| host_is_gone())?;
        let outcome = answered.await.map_err(|_| host_is_gone())?;
        drop(call);
        let (value, descriptors) = outcome?;
        let value = serde_json::from_str(value.get())
            .map_err(|error| BrokerError::new(BrokerErrorKind::Internal, format!("read the engine host's answer: {error}")))?;
        Ok((value, descriptors))
    }
}

/// Returns a channel for progress lines.
pub fn progress_channel() -> (mpsc::Sender<Progress>, mpsc::Receiver<Progress>) {
    mpsc::channel(PROGRESS_QUEUE_LINES)
}

impl Shared {
    /// The map is never left half changed, so a panic elsewhere does not spoil it.
    fn pending(&self) -> MutexGuard<'_, HashMap<u64, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deliver(&self, answer: Answer, descriptors: Vec<OwnedFd>) {
        let outcome = match answer.body {
            Body::Event(line) => {
                if let Some(progress) = self.pending().get(&answer.id).and_then(|pending| pending.progress.as_ref()) {
                    let _ = progress.try_send(line);
                }
                return;
            }
            Body::Done(value) => Ok((value, descriptors)),
            Body::Failed(error) => Err(error),
        };
        if let Some(pending) = self.pending().remove(&answer.id) {
            let _ = pending.outcome.send(outcome);
        }
    }
}

/// A request under way; dropped early, it is cancelled.
struct Call<'a> {
    shared: &'a Arc<Shared>,
    id: u64,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let unanswered = self.shared.pending().remove(&self.id).is_some();
        if unanswered && let Ok(payload) = encode(0, Request::Cancel { id: self.id }) {
            // With a full queue the operation goes on at the host, and its answer finds nobody. Rare, and harmless.
            let _ = self.shared.sender.try_send(Frame { payload, descriptors: Vec::new() });
        }
    }
}

fn encode(id: u64, request: Request) -> Result<Vec<u8>, BrokerError> {
    let payload = serde_json::to_vec(&Envelope { id, request })
        .map_err(|error| BrokerError::new(BrokerErrorKind::Internal, format!("write a request: {error}")))?;
    if payload.len() > frame::PAYLOAD_LIMIT_BYTES {
        let message = format!("a request of {} bytes is too long for the engine host", payload.len());
        return Err(BrokerError::new(BrokerErrorKind::Invalid, message));
    }
    Ok(payload)
}

fn host_is_gone() -> BrokerError {
    BrokerError::new(BrokerErrorKind::Unavailable, "the engine host is gone")
}

async fn read_answers(mut reader: FrameReader, shared: std::sync::Weak<Shared>) {
    loop {
        let frame = match reader.next().await {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            Err(error) => {
                tracing::error!(%error, "broker: read an answer");
                break;
            }
        };
        let Some(shared) = shared.upgrade() else { return };
        match serde_json::from_slice::<Answer>(&frame.payload) {
            Ok(answer) => shared.deliver(answer, frame.descriptors),
            Err(error) => tracing::error!(%error, "broker: an answer that cannot be read"),
        }
    }
    if let Some(shared) = shared.upgrade() {
        // Dropping the senders wakes everyone who waits.
        shared.pending().clear();
    }
}
