//! The host's own registry: served on a port of this machine for containers, tools and other programs.
//!
//! Engines do not need the port: their pulls and pushes go through the broker and copy nothing.

use std::{net::SocketAddr, sync::Arc};

use dockwright_registry::{
    Registry,
    server::{self, Action, Authority, Identity, KeyError},
};
use dockwright_store::Store;
use tokio::net::TcpListener;

use super::{JobAuthority, authority::Access};

/// Failure to serve the registry.
#[derive(Debug, thiserror::Error)]
pub enum ServeRegistryError {
    #[error("listen for the registry at {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("make the registry's keys")]
    Keys(#[from] KeyError),
}

/// A registry that is being served; it ends when dropped.
pub(crate) struct ServedRegistry {
    pub(crate) address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl ServedRegistry {
    /// Starts to serve.
    pub(super) fn start(listen: SocketAddr, store: &Store, authority: &Arc<JobAuthority>) -> Result<Self, ServeRegistryError> {
        let registry = Registry::new(store.clone(), Arc::clone(authority) as Arc<dyn Authority>)?;
        let bind = || {
            let listener = std::net::TcpListener::bind(listen)?;
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, TcpListener::from_std(listener)?))
        };
        let (address, listener) = bind().map_err(|source| ServeRegistryError::Listen { address: listen, source })?;
        let task = tokio::spawn(async move {
            if let Err(error) = server::serve(listener, Arc::new(registry), std::future::pending()).await {
                tracing::error!(%error, "the registry ended");
            }
        });
        Ok(Self { address, task })
    }
}

impl Drop for ServedRegistry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Authority for JobAuthority {
    fn authenticate(&self, user: &str, password: &str) -> Option<Identity> {
        self.identify(user, password).map(|name| Identity { name })
    }

    fn access(&self, identity: &Identity, repository: &str, action: Action) -> bool {
        match action {
            Action::Pull => self.may(&identity.name, Access::Pull, repository),
            Action::Push | Action::Delete => self.may(&identity.name, Access::Push, repository),
        }
    }
}
