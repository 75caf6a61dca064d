//! The host's own registry as containers see it: at its name and port, like any registry on the network.
//!
//! The Docker client needs none of this, because it asks the engine, which asks its host. Other tools (`skopeo`, `crane`, `curl`) speak
//! to the registry themselves. The name leads to the default bridge's gateway; what connects there is carried to the host's registry
//! over the broker.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    time::Duration,
};

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::{Engine, broker::Client};

/// How long to rest after a failed accept; the usual cause is a full table of descriptors, which an immediate retry would not mend.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
const BACKLOG_CONNECTIONS: u32 = 128;
/// Port of a registry whose name has none.
const DEFAULT_PORT: u16 = 80;

impl Engine {
    /// Returns where containers find the host's own registry: an address and its name, for `/etc/hosts`.
    pub(crate) fn registry_host(&self) -> Option<(IpAddr, Vec<String>)> {
        let (host, _) = split(self.facts().registry.as_deref()?);
        let gateway = self.networks().find("bridge").ok()?.range?.gateway;
        Some((gateway.into(), vec![host.to_owned()]))
    }

    /// Serves the host's own registry to containers, if there is one, until the task is dropped. The default bridge exists.
    pub(crate) async fn serve_registry(self) {
        let Some(registry) = self.facts().registry.clone() else { return };
        let Some((address, _)) = self.registry_host() else { return };
        match listen((address, split(&registry).1).into()) {
            Ok(listener) => accept(listener, self.images().broker().clone()).await,
            Err(error) => tracing::warn!(%error, registry, "containers reach the registry only through Docker"),
        }
    }
}

/// Splits `host:port`.
fn split(registry: &str) -> (&str, u16) {
    let parsed = registry.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    parsed.unwrap_or((registry, DEFAULT_PORT))
}

/// Listens so that a container may publish the same port on all addresses; see [`super::ports`].
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG_CONNECTIONS)
}

async fn accept(listener: TcpListener, broker: Client) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                let broker = broker.clone();
                tokio::spawn(async move {
                    if let Err(error) = carry(client, &broker).await {
                        tracing::debug!(%error, "a container's connection to the registry");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept a connection to the registry");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

async fn carry(mut client: TcpStream, broker: &Client) -> io::Result<()> {
    let mut registry = connected(broker.dial_registry().await.map_err(io::Error::other)?)?;
    tokio::io::copy_bidirectional(&mut client, &mut registry).await?;
    Ok(())
}

fn connected(socket: OwnedFd) -> io::Result<TcpStream> {
    let stream = std::net::TcpStream::from(socket);
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_has_a_host_and_a_port() {
        assert_eq!(split("registry.test:5000"), ("registry.test", 5000));
        assert_eq!(split("registry.test"), ("registry.test", 80));
    }
}
