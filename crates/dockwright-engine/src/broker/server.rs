//! The host's side of the broker protocol: reads requests of one engine, runs each as a task, writes the answers.
//!
//! What a request does is in [`super::session`]. Here is only the traffic: a message that is no message ends the connection, one that is
//! no known request is answered with an error, and a limit on what runs at once makes the engine wait rather than the host suffer.

use std::{collections::HashMap, os::fd::OwnedFd, sync::Arc};

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::{AbortHandle, JoinSet},
};

use super::{
    frame::{self, Frame, FrameReader},
    message::{Answer, Body, BrokerError, BrokerErrorKind, Progress, Request},
    session::Session,
};

/// Requests of one engine that run at once. Further ones wait in the socket, and their senders with them.
const CONCURRENT_REQUESTS: usize = 64;

/// A request whose number was understood, whatever follows.
#[derive(Deserialize)]
struct Numbered {
    id: u64,
    request: Box<RawValue>,
}

/// Result of a request: a value as JSON, and descriptors.
pub(super) type Done = (Box<RawValue>, Vec<OwnedFd>);

/// Answers one engine until it closes its end. What still runs then is ended.
pub(crate) async fn serve(socket: OwnedFd, session: Arc<Session>) {
    let (reader, answers) = match frame::split(socket) {
        Ok(halves) => halves,
        Err(error) => {
            tracing::error!(engine = session.engine(), %error, "broker: take over the socket");
            return;
        }
    };
    let mut server =
        Server { session, answers, running: JoinSet::new(), handles: HashMap::new(), slots: Arc::new(Semaphore::new(CONCURRENT_REQUESTS)) };
    server.run(reader).await;
}

struct Server {
    session: Arc<Session>,
    answers: mpsc::Sender<Frame>,
    /// Each returns its number.
    running: JoinSet<u64>,
    handles: HashMap<u64, AbortHandle>,
    slots: Arc<Semaphore>,
}

impl Server {
    async fn run(&mut self, mut reader: FrameReader) {
        loop {
            let frame = tokio::select! {
                frame = reader.next() => frame,
                Some(ended) = self.running.join_next(), if !self.running.is_empty() => {
                    if let Ok(id) = ended {
                        self.handles.remove(&id);
                    }
                    continue;
                }
            };
            match frame {
                Ok(Some(frame)) => {
                    if let Err(error) = self.accept(frame).await {
                        tracing::warn!(engine = self.session.engine(), %error, "broker: the engine sent something that is no message");
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(engine = self.session.engine(), %error, "broker: the connection to the engine is broken");
                    return;
                }
            }
        }
    }

    async fn accept(&mut self, frame: Frame) -> Result<(), serde_json::Error> {
        let Numbered { id, request } = serde_json::from_slice(&frame.payload)?;
        let outlet = Outlet { id, answers: self.answers.clone() };
        match serde_json::from_str::<Request>(request.get()) {
            Ok(Request::Cancel { id }) => {
                if let Some(handle) = self.handles.remove(&id) {
                    handle.abort();
                }
            }
            Ok(request) => {
                // Never closed, so the error cannot occur.
                let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else { return Ok(()) };
                let session = Arc::clone(&self.session);
                let handle = self.running.spawn(perform(session, request, frame.descriptors, outlet, slot));
                self.handles.insert(id, handle);
            }
            Err(error) => {
                let message = format!("the engine host does not understand the request: {error}");
                outlet.finish(Err(BrokerError::new(BrokerErrorKind::Invalid, message))).await;
            }
        }
        Ok(())
    }
}

async fn perform(session: Arc<Session>, request: Request, descriptors: Vec<OwnedFd>, outlet: Outlet, slot: OwnedSemaphorePermit) -> u64 {
    let outcome = session.perform(request, descriptors, &outlet).await;
    outlet.finish(outcome).await;
    drop(slot);
    outlet.id
}

/// Where the answers to one request go.
#[derive(Debug, Clone)]
pub(super) struct Outlet {
    id: u64,
    answers: mpsc::Sender<Frame>,
}

impl Outlet {
    /// Tells progress, unless the engine is slow to read: then the line is dropped, as lines are for the eye.
    pub(super) fn tell(&self, progress: Progress) {
        if let Ok(frame) = self.frame(Body::Event(progress), Vec::new()) {
            let _ = self.answers.try_send(frame);
        }
    }

    /// Tells a line that must not be missed.
    pub(super) async fn announce(&self, progress: Progress) {
        if let Ok(frame) = self.frame(Body::Event(progress), Vec::new()) {
            let _ = self.answers.send(frame).await;
        }
    }

    async fn finish(&self, outcome: Result<Done, BrokerError>) {
        let (body, descriptors) = match outcome {
            Ok((value, descriptors)) => (Body::Done(value), descriptors),
            Err(error) => (Body::Failed(error), Vec::new()),
        };
        let frame = self.frame(body, descriptors).or_else(|error| {
            let message = format!("the engine host cannot put its answer into words: {error}");
            self.frame(Body::Failed(BrokerError::new(BrokerErrorKind::Internal, message)), Vec::new())
        });
        // An error means that the engine is gone.
        if let Ok(frame) = frame {
            let _ = self.answers.send(frame).await;
        }
    }

    fn frame(&self, body: Body, descriptors: Vec<OwnedFd>) -> serde_json::Result<Frame> {
        Ok(Frame { payload: serde_json::to_vec(&Answer { id: self.id, body })?, descriptors })
    }
}
