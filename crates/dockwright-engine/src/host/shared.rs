//! What the sessions of all engines use.

use std::{net::SocketAddr, sync::Arc};

use dockwright_store::{ImageId, Store};

use super::{RegistrySettings, authority::JobAuthority};

/// What the sessions of all engines use.
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) authority: Arc<JobAuthority>,
    /// The host's own registry: its settings and where it really listens.
    pub(crate) registry: Option<(RegistrySettings, SocketAddr)>,
    /// Name and id of the image that every engine has from the start.
    pub(crate) helper_image: Option<(String, ImageId)>,
}

impl Shared {
    /// Returns `host:port` of the host's own registry as image names have it.
    pub(crate) fn registry_name(&self) -> Option<&str> {
        self.registry.as_ref().map(|(settings, _)| settings.name.as_str())
    }

    /// Returns where the host's own registry listens.
    pub(crate) fn registry_address(&self) -> Option<SocketAddr> {
        self.registry.as_ref().map(|(_, address)| *address)
    }
}
