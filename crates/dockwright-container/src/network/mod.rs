//! Networks of a sandbox: bridges, the interfaces of containers, the way out.
//!
//! Everything acts on the network namespace of the calling thread. An engine calls it in its sandbox, whose root it is; nothing here
//! reaches the host's network.

pub mod egress;
mod firewall;
mod link;
mod netlink;

use std::{fs, io, net::IpAddr};

pub(crate) use link::Links;

/// An operation on the sandbox's network failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} `{subject}`")]
pub struct NetworkError {
    operation: &'static str,
    subject: String,
    #[source]
    source: io::Error,
}

impl NetworkError {
    fn new(operation: &'static str, subject: &str) -> impl FnOnce(io::Error) -> Self {
        let subject = subject.to_owned();
        move |source| Self { operation, subject, source }
    }

    /// Returns the kind of the system's error, for example [`io::ErrorKind::AlreadyExists`].
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

/// A bridge to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// Name; at most 15 bytes.
    pub name: String,
    /// The bridge's own addresses, the gateways of its containers.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Packet size limit; the kernel's default otherwise.
    pub mtu: Option<u32>,
}

/// Makes a bridge, with its addresses, and brings it up.
pub fn create_bridge(bridge: &Bridge) -> Result<(), NetworkError> {
    let failed = || NetworkError::new("make the bridge", &bridge.name);
    let mut links = Links::open().map_err(failed())?;
    links.add_bridge(&bridge.name, bridge.mtu).map_err(failed())?;
    let addressed = links.index(&bridge.name).and_then(|index| {
        bridge.addresses.iter().try_for_each(|(address, prefix)| links.add_address(index, *address, *prefix))?;
        links.set_up(index)
    });
    if addressed.is_err() {
        // Half a bridge would make the next attempt fail with "exists"; the first error is the one to report.
        let _ = links.delete(&bridge.name);
    }
    addressed.map_err(failed())
}

/// Deletes a bridge, or any interface.
pub fn delete_link(name: &str) -> Result<(), NetworkError> {
    let failed = || NetworkError::new("delete the interface", name);
    Links::open().map_err(failed())?.delete(name).map_err(failed())
}

/// Returns whether an interface of that name exists.
pub fn link_exists(name: &str) -> bool {
    Links::open().and_then(|links| links.index(name)).is_ok()
}

/// Hides containers' addresses from the way out. Returns a warning if the firewall is not to be had.
pub(crate) fn prepare_sandbox() -> Option<String> {
    firewall::masquerade(egress::INTERFACE).err().map(|error| format!("containers have no way out: nf_tables: {error}"))
}

/// Brings up loopback and lets bridges forward: what a sandbox's network needs before its first container. Its engine calls it.
pub fn bring_up() -> Result<(), NetworkError> {
    let forward = |path: &str| fs::write(path, "1").map_err(NetworkError::new("let bridges forward by", path));
    Links::open().and_then(|mut links| links.loopback_up()).map_err(NetworkError::new("bring up", "lo"))?;
    forward("/proc/sys/net/ipv4/ip_forward")?;
    // Absent where the kernel has no IPv6; then there is nothing to forward.
    match forward("/proc/sys/net/ipv6/conf/all/forwarding") {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
