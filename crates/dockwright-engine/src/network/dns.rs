//! The DNS server at 127.0.0.11 of every container on a network that a user made.
//!
//! Its sockets are opened in the container's network by PID 1 of the sandbox; this process answers on them. Names of neighbours are
//! answered here, everything else is forwarded as it came from the sandbox's own network, where the way out is.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
    sync::Arc,
    time::Duration,
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, PTR},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};

use super::Networks;

/// Address of the server inside of containers; configuration files of web servers have it written in them.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// How long an answer about a neighbour may be remembered, in seconds, as in Docker.
const TTL_SECS: u32 = 600;
/// How long an upstream server may take.
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(4);
/// Upstream servers tried per question.
const UPSTREAM_SERVERS: usize = 3;
/// Questions of one container that are forwarded at the same time.
const FORWARDED_AT_ONCE: usize = 128;
/// How long a client of the TCP side may be silent.
const TCP_IDLE: Duration = Duration::from_secs(10);
/// Connections of one container that are served at the same time.
const TCP_CONNECTIONS: usize = 32;
const MESSAGE_BYTES: usize = 65_535;
const UDP_ANSWER_BYTES: usize = 4096;

/// What the server of one container knows.
#[derive(Debug)]
pub(crate) struct Resolving {
    pub(crate) networks: Arc<Networks>,
    /// The container that asks.
    pub(crate) container: String,
    /// Servers for all other names.
    pub(crate) upstream: Vec<IpAddr>,
}

/// Answers on the two sockets of a container until the returned set is dropped.
pub(crate) fn serve(resolving: Resolving, udp: OwnedFd, tcp: OwnedFd) -> io::Result<JoinSet<()>> {
    let udp = std::net::UdpSocket::from(udp);
    udp.set_nonblocking(true)?;
    let tcp = std::net::TcpListener::from(tcp);
    tcp.set_nonblocking(true)?;
    let resolving = Arc::new(resolving);
    let mut tasks = JoinSet::new();
    tasks.spawn(serve_udp(Arc::clone(&resolving), Arc::new(UdpSocket::from_std(udp)?)));
    tasks.spawn(serve_tcp(resolving, TcpListener::from_std(tcp)?));
    Ok(tasks)
}

async fn serve_udp(resolving: Arc<Resolving>, socket: Arc<UdpSocket>) {
    let forwards = Arc::new(Semaphore::new(FORWARDED_AT_ONCE));
    // Questions die with this task, which dies with the container.
    let mut questions = JoinSet::new();
    let mut buffer = vec![0; UDP_ANSWER_BYTES];
    loop {
        while questions.try_join_next().is_some() {}
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { continue };
        let question = buffer[..length].to_vec();
        match answer(&resolving, &question) {
            Reply::Here(bytes) => drop(socket.send_to(&bytes, peer).await),
            Reply::Ignore => {}
            Reply::Forward => {
                let Ok(permit) = Arc::clone(&forwards).try_acquire_owned() else { continue };
                let (resolving, socket) = (Arc::clone(&resolving), Arc::clone(&socket));
                questions.spawn(async move {
                    let bytes = forward(&resolving.upstream, &question, Transport::Udp).await;
                    drop(socket.send_to(&bytes, peer).await);
                    drop(permit);
                });
            }
        }
    }
}

async fn serve_tcp(resolving: Arc<Resolving>, listener: TcpListener) {
    let slots = Arc::new(Semaphore::new(TCP_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&slots).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let resolving = Arc::clone(&resolving);
        connections.spawn(async move {
            // A client that goes away is no problem of anybody else.
            let _ = converse(&resolving, stream).await;
            drop(permit);
        });
    }
}

async fn converse(resolving: &Resolving, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let question = timeout(TCP_IDLE, read_message(&mut stream)).await??;
        let reply = match answer(resolving, &question) {
            Reply::Here(bytes) => bytes,
            Reply::Forward => forward(&resolving.upstream, &question, Transport::Tcp).await,
            Reply::Ignore => return Ok(()),
        };
        write_message(&mut stream, &reply).await?;
    }
}

async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn write_message(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await
}

/// What to do with a question.
#[derive(Debug, PartialEq, Eq)]
enum Reply {
    Here(Vec<u8>),
    Forward,
    Ignore,
}

fn answer(resolving: &Resolving, question: &[u8]) -> Reply {
    let Ok(message) = Message::from_vec(question) else { return Reply::Ignore };
    let [query] = &message.queries[..] else { return Reply::Forward };
    let (name, kind) = (query.name().clone(), query.query_type());
    let Some(records) = neighbours(resolving, &name, kind) else { return Reply::Forward };
    let mut response = message.into_response();
    response.metadata.recursion_available = true;
    response.metadata.response_code = ResponseCode::NoError;
    response.edns = None;
    response.add_answers(records);
    response.to_vec().map_or(Reply::Ignore, Reply::Here)
}

/// Returns the records of a neighbour, none if it has none of this type, or `None` when the name is not a neighbour's.
fn neighbours(resolving: &Resolving, name: &Name, kind: RecordType) -> Option<Vec<Record>> {
    let record = |data: RData| Record::from_rdata(name.clone(), TTL_SECS, data);
    if kind == RecordType::PTR {
        let IpAddr::V4(address) = name.parse_arpa_name().ok()?.addr() else { return None };
        let found = resolving.networks.reverse(&resolving.container, address)?;
        return Some(vec![record(RData::PTR(PTR(Name::from_utf8(format!("{found}.")).ok()?)))]);
    }
    let text = name.to_utf8();
    let addresses = resolving.networks.resolve(&resolving.container, text.trim_end_matches('.'))?;
    let wanted = matches!(kind, RecordType::A | RecordType::ANY);
    Some(if wanted { addresses.into_iter().map(|address| record(RData::A(A(address)))).collect() } else { Vec::new() })
}

#[derive(Debug, Clone, Copy)]
enum Transport {
    Udp,
    Tcp,
}

/// Asks the upstream servers in turn; without an answer the client is told that the server failed.
async fn forward(upstream: &[IpAddr], question: &[u8], transport: Transport) -> Vec<u8> {
    for server in upstream.iter().take(UPSTREAM_SERVERS) {
        let address = SocketAddr::new(*server, 53);
        let asked = async {
            match transport {
                Transport::Udp => ask_udp(address, question).await,
                Transport::Tcp => ask_tcp(address, question).await,
            }
        };
        if let Ok(Ok(bytes)) = timeout(UPSTREAM_TIMEOUT, asked).await {
            return bytes;
        }
    }
    failure(question)
}

async fn ask_udp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: SocketAddr = if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (std::net::Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut bytes = vec![0; MESSAGE_BYTES];
    loop {
        let length = socket.recv(&mut bytes).await?;
        // The identity of the question, so that a late answer to another one is not taken for this one.
        if bytes[..length].get(..2) == question.get(..2) {
            bytes.truncate(length);
            return Ok(bytes);
        }
    }
}

async fn ask_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write_message(&mut stream, question).await?;
    read_message(&mut stream).await
}

fn failure(question: &[u8]) -> Vec<u8> {
    let Ok(message) = Message::from_vec(question) else { return Vec::new() };
    let mut response = message.into_response();
    response.metadata.recursion_available = true;
    response.metadata.response_code = ResponseCode::ServFail;
    response.to_vec().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Query;

    use super::*;
    use crate::{container::config::EndpointConfig, network::NetworkRequest};

    fn resolving() -> Resolving {
        let networks = Networks::default();
        let network = networks.create(NetworkRequest { name: "net".into(), ..NetworkRequest::default() }).unwrap();
        for (id, name) in [("1", "db"), ("2", "web")] {
            networks.connect(&network, id, name, &EndpointConfig::default(), "eth0".into()).unwrap();
        }
        Resolving { networks: Arc::new(networks), container: "2".into(), upstream: Vec::new() }
    }

    fn ask(name: &str, kind: RecordType) -> Option<Message> {
        let mut question = Message::query();
        question.add_query(Query::query(Name::from_utf8(name).unwrap(), kind));
        match answer(&resolving(), &question.to_vec().unwrap()) {
            Reply::Here(bytes) => Some(Message::from_vec(&bytes).unwrap()),
            _ => None,
        }
    }

    #[test]
    fn neighbours_are_answered() {
        let found = ask("db.", RecordType::A).unwrap();
        assert_eq!(found.answers[0].data, RData::A(A(Ipv4Addr::new(172, 18, 0, 2))));
        let six = ask("db.", RecordType::AAAA).unwrap();
        assert_eq!((six.metadata.response_code, six.answers.len()), (ResponseCode::NoError, 0));
        let reverse = ask("2.0.18.172.in-addr.arpa.", RecordType::PTR).unwrap();
        assert_eq!(reverse.answers[0].data.to_string(), "db.net.");
    }

    #[test]
    fn others_are_forwarded() {
        assert!(ask("example.com.", RecordType::A).is_none());
        assert_eq!(answer(&resolving(), b"garbage"), Reply::Ignore);
    }

    #[tokio::test]
    async fn without_a_server_the_answer_is_a_failure() {
        let mut question = Message::query();
        question.add_query(Query::query(Name::from_utf8("example.com.").unwrap(), RecordType::A));
        let reply = forward(&[], &question.to_vec().unwrap(), Transport::Udp).await;
        assert_eq!(Message::from_vec(&reply).unwrap().metadata.response_code, ResponseCode::ServFail);
    }
}
