//! The engine's way to PID 1 of its sandbox.
//!
//! Requests of the spawner protocol block, so they are made on threads that may. Exits arrive at any time, also before the answer to the
//! start that they belong to; whoever starts a process registers for its exit first.

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
};

use dockwright_container::spawner::{ErrorKind as SpawnerErrorKind, ExitEvent, SpawnerClient, SpawnerError};
use dockwright_store::DiffId;
use tokio::sync::oneshot;

use crate::{
    broker::Client,
    error::{EngineError, ErrorKind, Result},
};

/// PID 1 of the sandbox, as the engine sees it.
#[derive(Clone)]
pub struct Sandbox {
    spawner: SpawnerClient,
    exits: Arc<Mutex<HashMap<String, oneshot::Sender<ExitEvent>>>>,
    attached: Arc<tokio::sync::Mutex<HashSet<DiffId>>>,
}

impl Sandbox {
    /// Starts to speak on the spawner socket.
    pub fn connect(socket: OwnedFd) -> io::Result<Self> {
        let exits: Arc<Mutex<HashMap<String, oneshot::Sender<ExitEvent>>>> = Arc::default();
        let waiting = Arc::clone(&exits);
        let spawner = SpawnerClient::new(socket, move |event| {
            let sender = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&event.id);
            match sender {
                Some(sender) => drop(sender.send(event)),
                None => tracing::debug!(id = event.id, "exit of a process that nobody waits for"),
            }
        })?;
        Ok(Self { spawner, exits, attached: Arc::default() })
    }

    /// Returns a receiver for the exit of a process that will be started under this id. If the start fails, nothing is ever sent.
    pub fn expect_exit(&self, id: &str) -> oneshot::Receiver<ExitEvent> {
        let (sender, receiver) = oneshot::channel();
        self.exits.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), sender);
        receiver
    }

    /// Forgets an id whose process could not be started.
    pub fn forget_exit(&self, id: &str) {
        self.exits.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// Makes a request of the spawner on a thread that may block.
    pub async fn ask<T: Send + 'static>(
        &self,
        request: impl FnOnce(&SpawnerClient) -> Result<T, SpawnerError> + Send + 'static,
    ) -> Result<T, SpawnerError> {
        let spawner = self.spawner.clone();
        tokio::task::spawn_blocking(move || request(&spawner)).await.unwrap_or(Err(SpawnerError::Ended))
    }

    /// Returns the spawner for code that runs on a thread that may block.
    pub fn spawner(&self) -> &SpawnerClient {
        &self.spawner
    }

    /// Attaches layers that are not attached yet, and returns the names of all, the topmost first. `layers` has the lowest first.
    pub async fn attach_layers(&self, broker: &Client, layers: &[DiffId]) -> Result<Vec<String>> {
        let mut attached = self.attached.lock().await;
        let mut missing: Vec<DiffId> = Vec::new();
        for layer in layers {
            if !attached.contains(layer) && !missing.contains(layer) {
                missing.push(*layer);
            }
        }
        if !missing.is_empty() {
            let mounts = broker.mount_layers(&missing).await?;
            for (layer, mount) in missing.into_iter().zip(mounts) {
                let name = layer.hex();
                self.ask(move |spawner| spawner.attach_layer(&name, mount)).await?;
                attached.insert(layer);
            }
        }
        Ok(layers.iter().rev().map(DiffId::hex).collect())
    }
}

impl From<SpawnerError> for EngineError {
    fn from(error: SpawnerError) -> Self {
        let kind = match error.kind() {
            SpawnerErrorKind::NotFound => ErrorKind::NotFound,
            SpawnerErrorKind::Conflict => ErrorKind::Conflict,
            SpawnerErrorKind::Invalid | SpawnerErrorKind::Exec => ErrorKind::Invalid,
            SpawnerErrorKind::System => ErrorKind::Internal,
        };
        Self::new(kind, crate::error::chain(&error))
    }
}
