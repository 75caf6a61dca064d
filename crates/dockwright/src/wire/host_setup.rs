//! What every process that hosts engines does the same: `run`'s engine host, `engine serve`, `registry serve`.

use std::{io, net::SocketAddr, path::PathBuf};

use dockwright_container::rootless::is_host_root;
use dockwright_engine::host::{HostConfig, IdPool, RegistrySettings};
use tokio::runtime::{Builder, Runtime};

/// `CI_REGISTRY` of jobs on the embedded engine. Nothing outside resolves it: engines and shell jobs' clients ask the engine, which asks
/// its host.
pub(crate) const REGISTRY_NAME: &str = "registry.dockwright.internal:5000";

/// Returns the settings of an engine host in this process, which has entered the host namespace.
pub(crate) fn config(home: PathBuf) -> HostConfig {
    HostConfig {
        home,
        binary: PathBuf::from("/proc/self/exe"),
        registry: Some(RegistrySettings { name: REGISTRY_NAME.to_owned(), listen: SocketAddr::from(([127, 0, 0, 1], 0)) }),
        ids: if is_host_root() { IdPool::default() } else { IdPool::Shared },
    }
}

/// Makes the runtime of such a process, with the one TLS provider of the program.
pub(crate) fn runtime() -> io::Result<Runtime> {
    // Somebody else installed the same one before: just as well.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Builder::new_multi_thread().enable_all().build()
}
