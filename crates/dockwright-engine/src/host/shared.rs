//! What the sessions of all engines use.

use std::{net::SocketAddr, sync::Arc};

use dockwright_registry::Client;
use dockwright_store::{Digest, ImageId, ImageRef, Store};
use tokio::sync::broadcast;

use super::{authority::JobAuthority, registry::ServedRegistry};

/// Pushes that a slow listener may be behind.
const PUSH_QUEUE_LENGTH: usize = 256;

/// An engine pushed an image to the host's own registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedImage {
    /// Id of the engine.
    pub engine: String,
    /// The name it was pushed under.
    pub name: ImageRef,
    /// The manifest.
    pub digest: Digest,
}

/// What the sessions of all engines use.
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) authority: Arc<JobAuthority>,
    /// For every registry but the host's own.
    pub(crate) client: Client,
    /// `host:port` of the host's own registry as image names have it.
    pub(crate) registry_name: Option<String>,
    /// The host's own registry on a port, if it is served.
    pub(crate) served: Option<ServedRegistry>,
    pub(crate) pushes: broadcast::Sender<PushedImage>,
    /// Name and id of the image that every engine has from the start.
    pub(crate) helper_image: Option<(String, ImageId)>,
}

impl Shared {
    /// Returns where the host's own registry listens.
    pub(crate) fn registry_address(&self) -> Option<SocketAddr> {
        self.served.as_ref().map(|served| served.address)
    }

    /// Makes the channel on which pushes are told.
    pub(crate) fn push_channel() -> broadcast::Sender<PushedImage> {
        broadcast::Sender::new(PUSH_QUEUE_LENGTH)
    }
}
