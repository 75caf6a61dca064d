//! What happens in the engine, as `docker events` shows it.
//!
//! Events go to everybody who listens at the moment; the last [`KEPT_EVENTS`] are kept for those who ask for the past. A listener that
//! is too slow loses events rather than holding the engine back.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use tokio::sync::broadcast;

/// Events kept for `since`, as many as Docker keeps.
const KEPT_EVENTS: usize = 256;
/// Events a slow listener may be behind.
const LISTENER_EVENTS: usize = 256;

/// What kind of thing an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A network.
    Network,
    /// A volume.
    Volume,
    /// The builder.
    Builder,
    /// The engine itself.
    Daemon,
}

impl EventType {
    /// Returns Docker's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Network => "network",
            Self::Volume => "volume",
            Self::Builder => "builder",
            Self::Daemon => "daemon",
        }
    }
}

/// One event.
#[derive(Debug, Clone)]
pub struct Event {
    /// What it is about.
    pub kind: EventType,
    /// What happened, as in `start` or `exec_start: sh -c true`.
    pub action: String,
    /// The id, or the name for images and volumes.
    pub actor: String,
    /// More about the actor, among others its labels.
    pub attributes: BTreeMap<String, String>,
    /// When.
    pub time: Timestamp,
}

/// The events of one engine.
#[derive(Debug, Clone)]
pub struct Events {
    kept: Arc<Mutex<VecDeque<Arc<Event>>>>,
    sender: broadcast::Sender<Arc<Event>>,
}

impl Default for Events {
    fn default() -> Self {
        Self { kept: Arc::default(), sender: broadcast::Sender::new(LISTENER_EVENTS) }
    }
}

impl Events {
    /// Records an event that happens now.
    pub fn emit(&self, kind: EventType, action: impl Into<String>, actor: impl Into<String>, attributes: BTreeMap<String, String>) {
        let event = Arc::new(Event { kind, action: action.into(), actor: actor.into(), attributes, time: Timestamp::now() });
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT_EVENTS {
            kept.pop_front();
        }
        kept.push_back(Arc::clone(&event));
        // Sent under the lock, so that `listen` sees every event exactly once. An error means that nobody listens.
        let _ = self.sender.send(event);
    }

    /// Returns the kept events and a receiver of all later ones.
    pub fn listen(&self) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.iter().cloned().collect(), self.sender.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_gets_past_and_present() {
        let events = Events::default();
        for number in 0..KEPT_EVENTS + 1 {
            events.emit(EventType::Container, number.to_string(), "c", BTreeMap::new());
        }
        let (past, mut present) = events.listen();
        events.emit(EventType::Volume, "create", "v", BTreeMap::new());
        assert_eq!(past.len(), KEPT_EVENTS);
        assert_eq!(past[0].action, "1");
        assert_eq!(present.recv().await.unwrap().actor, "v");
    }
}
