//! Published ports: connections to a port of the sandbox are carried to a container.
//!
//! The listeners are in the sandbox's network and, for a job that talks to a Docker in Docker stand-in, in the stand-in's too: there
//! `docker:8080` is where a job expects what `docker run -p 8080:80` published.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream, UdpSocket},
    task::JoinSet,
    time::timeout,
};

use crate::{
    container::config::{PortBinding, PortKey, Protocol},
    error::{EngineError, ErrorKind, Result},
};

/// How long a UDP client may be silent before its way back is forgotten.
const UDP_IDLE: Duration = Duration::from_secs(90);
/// UDP clients of one port that are remembered.
const UDP_CLIENTS: usize = 256;
const UDP_BYTES: usize = 65_535;
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
const BACKLOG_CONNECTIONS: u32 = 1024;

/// A port that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) key: PortKey,
    /// Addresses that are listened on, as `docker inspect` shows them.
    pub(crate) host_ips: Vec<IpAddr>,
    pub(crate) host_port: u16,
}

/// A listening socket of either kind.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

impl Socket {
    /// Takes a socket that was opened in another network.
    pub(crate) fn from_descriptor(protocol: Protocol, descriptor: OwnedFd) -> io::Result<Self> {
        Ok(match protocol {
            Protocol::Tcp => {
                let listener = std::net::TcpListener::from(descriptor);
                listener.set_nonblocking(true)?;
                Self::Tcp(TcpListener::from_std(listener)?)
            }
            Protocol::Udp => {
                let socket = std::net::UdpSocket::from(descriptor);
                socket.set_nonblocking(true)?;
                Self::Udp(UdpSocket::from_std(socket)?)
            }
        })
    }

    async fn bind(protocol: Protocol, address: SocketAddr) -> io::Result<Self> {
        Ok(match protocol {
            Protocol::Tcp => Self::Tcp(bind_tcp(address).await?),
            Protocol::Udp => Self::Udp(UdpSocket::bind(address).await?),
        })
    }

    fn port(&self) -> io::Result<u16> {
        let address = match self {
            Self::Tcp(listener) => listener.local_addr()?,
            Self::Udp(socket) => socket.local_addr()?,
        };
        Ok(address.port())
    }
}

/// Listens on a port. The engine itself may have it on one address (the registry for containers), which must not keep a container from
/// publishing it on all.
async fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let refused = match TcpListener::bind(address).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && address.ip() == Ipv4Addr::UNSPECIFIED => error,
        other => return other,
    };
    // A container that has published the port listens on this address too.
    if TcpListener::bind((Ipv4Addr::LOCALHOST, address.port())).await.is_err() {
        return Err(refused);
    }
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG_CONNECTIONS)
}

/// Opens the sockets of one binding in the sandbox's network.
pub(crate) async fn open(key: PortKey, binding: &PortBinding) -> Result<(Published, Vec<Socket>)> {
    let (first, last) = binding.host_ports;
    let mut failed = None;
    for port in first..=last {
        match open_at(key, binding.host_ip, port).await {
            Ok(opened) => return Ok(opened),
            Err(error) => failed = Some((port, error)),
        }
    }
    let (port, error) = failed.expect("a range holds at least one port");
    let host = binding.host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    let reason = if error.kind() == io::ErrorKind::AddrInUse { "port is already allocated".to_owned() } else { error.to_string() };
    Err(EngineError::new(ErrorKind::Internal, format!("Bind for {host}:{port} failed: {reason}")))
}

async fn open_at(key: PortKey, host_ip: Option<IpAddr>, port: u16) -> io::Result<(Published, Vec<Socket>)> {
    let address = host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    let first = Socket::bind(key.protocol, (address, port).into()).await?;
    let host_port = first.port()?;
    let mut published = Published { key, host_ips: vec![address], host_port };
    let mut sockets = vec![first];
    // All addresses means those of IPv6 too, where the kernel has it.
    if host_ip.is_none()
        && let Ok(socket) = bind_v6_only(key.protocol, host_port)
    {
        published.host_ips.push(Ipv6Addr::UNSPECIFIED.into());
        sockets.push(socket);
    }
    Ok((published, sockets))
}

fn bind_v6_only(protocol: Protocol, port: u16) -> io::Result<Socket> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let descriptor = socket_with(AddressFamily::INET6, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    sockopt::set_ipv6_v6only(&descriptor, true)?;
    sockopt::set_socket_reuseaddr(&descriptor, protocol == Protocol::Tcp)?;
    bind(&descriptor, &SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
    if protocol == Protocol::Tcp {
        listen(&descriptor, 1024)?;
    }
    Socket::from_descriptor(protocol, descriptor)
}

/// Carries everything that arrives at a socket to a container, until dropped.
pub(crate) async fn carry(socket: Socket, target: SocketAddr) {
    match socket {
        Socket::Tcp(listener) => carry_tcp(listener, target).await,
        Socket::Udp(socket) => carry_udp(Arc::new(socket), target).await,
    }
}

async fn carry_tcp(listener: TcpListener, target: SocketAddr) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((mut client, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_RETRY).await;
            continue;
        };
        connections.spawn(async move {
            // A container that does not listen shows as a connection that ends at once, as behind Docker's own proxy.
            if let Ok(mut server) = TcpStream::connect(target).await {
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}

async fn carry_udp(socket: Arc<UdpSocket>, target: SocketAddr) {
    let mut ways_back: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut readers: JoinSet<SocketAddr> = JoinSet::new();
    let mut buffer = vec![0; UDP_BYTES];
    loop {
        tokio::select! {
            Some(Ok(silent)) = readers.join_next(), if !readers.is_empty() => {
                ways_back.remove(&silent);
            }
            received = socket.recv_from(&mut buffer) => {
                let Ok((length, client)) = received else { continue };
                let way_back = match ways_back.get(&client) {
                    Some(known) => Arc::clone(known),
                    None if ways_back.len() == UDP_CLIENTS => continue,
                    None => {
                        let Ok(fresh) = connected(target).await else { continue };
                        let fresh = Arc::new(fresh);
                        ways_back.insert(client, Arc::clone(&fresh));
                        readers.spawn(carry_back(Arc::clone(&socket), Arc::clone(&fresh), client));
                        fresh
                    }
                };
                let _ = way_back.send(&buffer[..length]).await;
            }
        }
    }
}

async fn connected(target: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(target).await?;
    Ok(socket)
}

async fn carry_back(socket: Arc<UdpSocket>, from: Arc<UdpSocket>, client: SocketAddr) -> SocketAddr {
    let mut buffer = vec![0; UDP_BYTES];
    while let Ok(Ok(length)) = timeout(UDP_IDLE, from.recv(&mut buffer)).await {
        let _ = socket.send_to(&buffer[..length], client).await;
    }
    client
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn any_port() -> PortBinding {
        PortBinding { host_ip: Some(Ipv4Addr::LOCALHOST.into()), host_ports: (0, 0) }
    }

    #[tokio::test]
    async fn connections_are_carried_with_their_half_close() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = server.local_addr().unwrap();
        let key = PortKey { port: target.port(), protocol: Protocol::Tcp };
        let (published, mut sockets) = open(key, &any_port()).await.unwrap();
        let carrying = tokio::spawn(carry(sockets.remove(0), target));
        let mut client = TcpStream::connect(("127.0.0.1", published.host_port)).await.unwrap();
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let (mut served, _) = server.accept().await.unwrap();
        let mut text = String::new();
        served.read_to_string(&mut text).await.unwrap();
        served.write_all(b"answer").await.unwrap();
        drop(served);
        let mut reply = String::new();
        client.read_to_string(&mut reply).await.unwrap();
        assert_eq!((text.as_str(), reply.as_str()), ("question", "answer"));
        carrying.abort();
    }

    #[tokio::test]
    async fn datagrams_find_their_way_back() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let target = server.local_addr().unwrap();
        let key = PortKey { port: target.port(), protocol: Protocol::Udp };
        let (published, mut sockets) = open(key, &any_port()).await.unwrap();
        let carrying = tokio::spawn(carry(sockets.remove(0), target));
        let client = connected(([127, 0, 0, 1], published.host_port).into()).await.unwrap();
        client.send(b"ping").await.unwrap();
        let mut buffer = [0; 16];
        let (length, peer) = server.recv_from(&mut buffer).await.unwrap();
        server.send_to(&buffer[..length], peer).await.unwrap();
        let length = client.recv(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..length], b"ping");
        carrying.abort();
    }

    #[tokio::test]
    async fn a_port_in_use_is_said_in_dockers_words() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let binding = PortBinding { host_ip: Some(Ipv4Addr::LOCALHOST.into()), host_ports: (port, port) };
        let error = open(PortKey { port: 80, protocol: Protocol::Tcp }, &binding).await.unwrap_err();
        assert_eq!(error.message, format!("Bind for 127.0.0.1:{port} failed: port is already allocated"));
    }

    #[tokio::test]
    async fn a_port_of_the_engine_on_one_address_can_be_published_once() {
        let own = TcpSocket::new_v4().unwrap();
        own.set_reuseaddr(true).unwrap();
        own.set_reuseport(true).unwrap();
        own.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let own = own.listen(1).unwrap();
        let address: SocketAddr = (Ipv4Addr::UNSPECIFIED, own.local_addr().unwrap().port()).into();
        let published = bind_tcp(address).await.unwrap();
        assert_eq!(bind_tcp(address).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let (client, accepted) = tokio::join!(TcpStream::connect(own.local_addr().unwrap()), own.accept());
        // The engine's own address still leads to the engine.
        assert!(client.is_ok() && accepted.is_ok());
        drop(published);
    }
}
