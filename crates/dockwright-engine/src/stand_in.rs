//! Standing in for Docker in Docker: what a container of `docker:dind` is here.
//!
//! The real image starts a second Docker daemon. Here the engine itself answers on the ports that the daemon would have opened: PID 1 of
//! the sandbox opens them in the container's network, and the container's own process ([`dind_main`]) only waits to be stopped. The
//! certificates are written before the container starts, in the layout of the real image's entrypoint. So whoever sees the container
//! running can connect.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use dockwright_container::process::{ContainerSpec, Mount, MountSource, SocketProtocol, SocketSpec};
use rustix::fs::{Mode, OFlags};
use tokio::{net::TcpListener, task::JoinSet};

use crate::{
    Engine,
    api::{
        Listener,
        tls::{self, Authority, ServerFiles},
    },
    container::Container,
    error::{Context as _, EngineError, ErrorKind, Result},
    network::{
        Endpoint,
        ports::{Published, Socket},
    },
    tree,
};

const PLAIN_PORT: u16 = 2375;
const TLS_PORT: u16 = 2376;
/// This program, as every sandbox has it.
const BINARY: &str = "/.dockwright";

/// What a container of Docker in Docker is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StandIn {
    listeners: Vec<PlannedListener>,
    /// Directory of the certificates, if there is TLS.
    certificates: Option<PathBuf>,
    /// Names in the server's certificate beside those that are always there.
    names: Vec<String>,
    /// Storage driver that the job asked for.
    driver: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PlannedListener {
    port: u16,
    tls: bool,
}

impl StandIn {
    /// Reads the container's command and environment as the real image's entrypoint and daemon would.
    pub(crate) fn plan(container: &Container) -> Result<Self> {
        Self::read(&container.config.args(), &container.config.env)
    }

    fn read(args: &[String], env: &[String]) -> Result<Self> {
        let variable =
            |name: &str| env.iter().rev().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('=')).filter(|value| !value.is_empty());
        let args = match args.split_first() {
            Some((first, rest)) if first.ends_with("dockerd-entrypoint.sh") => rest,
            _ => args,
        };
        let (explicit, flags) = match args.split_first() {
            Some((first, rest)) if first == "dockerd" => (true, rest),
            Some((first, _)) if !first.starts_with('-') => {
                return Err(EngineError::invalid(format!(
                    "exec: \"{first}\": executable file not found in $PATH: this image is answered by the engine itself and holds no programs"
                )));
            }
            _ => (false, args),
        };
        let flags = Flags::read(flags);
        let directory = variable("DOCKER_TLS_CERTDIR").map(PathBuf::from);
        let tls = if explicit { flags.tls } else { directory.is_some() };
        let mut listeners = Vec::new();
        if !explicit {
            listeners.push(PlannedListener { port: if tls { TLS_PORT } else { PLAIN_PORT }, tls });
        }
        for port in flags.ports {
            if listeners.iter().all(|known| known.port != port) {
                listeners.push(PlannedListener { port, tls });
            }
        }
        let names =
            variable("DOCKER_TLS_SAN").map(|names| names.split(',').map(|name| name.trim().to_owned()).collect()).unwrap_or_default();
        let driver = flags.driver.or_else(|| variable("DOCKER_DRIVER").map(str::to_owned));
        Ok(Self { listeners, certificates: tls.then(|| directory.unwrap_or_else(|| PathBuf::from("/certs"))), names, driver })
    }

    /// Changes the specification: the waiting process instead of a daemon, and the ports.
    pub(crate) fn amend(&self, spec: &mut ContainerSpec) {
        let ports: Vec<String> = self.listeners.iter().map(|listener| listener.port.to_string()).collect();
        spec.process.args = [vec![BINARY.to_owned(), "internal".to_owned(), "dind".to_owned()], ports].concat();
        spec.process.cwd.clear();
        spec.process.user.clear();
        spec.mounts.push(Mount { target: BINARY.into(), source: MountSource::Path(BINARY.into()), read_only: true });
        let socket = |listener: &PlannedListener| SocketSpec {
            protocol: SocketProtocol::TcpListener,
            address: Ipv4Addr::UNSPECIFIED.into(),
            port: listener.port,
        };
        spec.sockets.extend(self.listeners.iter().map(socket));
    }

    /// Writes the certificates into the container and its volumes.
    pub(crate) async fn write_certificates(
        &self,
        engine: &Engine,
        container: &Arc<Container>,
        endpoints: &[Endpoint],
    ) -> Result<Option<Arc<rustls::ServerConfig>>> {
        let Some(directory) = self.certificates.clone() else { return Ok(None) };
        let mut names = vec!["docker".to_owned(), "localhost".to_owned(), container.config.hostname.clone(), container.name()];
        names.extend(endpoints.iter().flat_map(|endpoint| endpoint.aliases.clone()));
        names.extend(self.names.iter().cloned());
        let mut addresses: Vec<IpAddr> = vec![Ipv4Addr::LOCALHOST.into()];
        addresses.extend(endpoints.iter().map(|endpoint| IpAddr::from(endpoint.address)));
        let (engine, container) = (engine.clone(), Arc::clone(container));
        let written = tokio::task::spawn_blocking(move || write_files(&engine, &container, &directory, &names, &addresses)).await;
        written.context("write the certificates")?.map(Some)
    }

    /// Answers on the ports that were opened in the container's network.
    pub(crate) fn serve(
        self,
        engine: &Engine,
        mut opened: impl Iterator<Item = OwnedFd>,
        certificates: Option<Arc<rustls::ServerConfig>>,
        services: &mut JoinSet<()>,
    ) -> Result<()> {
        for listener in &self.listeners {
            let missing = || EngineError::new(ErrorKind::Internal, format!("the sandbox did not open port {}", listener.port));
            let socket = std::net::TcpListener::from(opened.next().ok_or_else(missing)?);
            socket.set_nonblocking(true).context("use a listening socket")?;
            let socket = TcpListener::from_std(socket).context("use a listening socket")?;
            let served = match &certificates {
                Some(config) if listener.tls => Listener::Tls(socket, Arc::clone(config)),
                _ => Listener::Plain(socket),
            };
            services.spawn(crate::api::serve(engine.clone(), served));
        }
        if let Some(driver) = self.driver {
            engine.set_storage_driver(driver);
        }
        Ok(())
    }
}

/// Flags of the daemon that change what is done here. All others are accepted, as the real daemon would.
#[derive(Debug, Default)]
struct Flags {
    tls: bool,
    ports: Vec<u16>,
    driver: Option<String>,
}

impl Flags {
    fn read(args: &[String]) -> Self {
        let mut flags = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let (name, value) = arg.split_once('=').map_or((arg.as_str(), None), |(name, value)| (name, Some(value.to_owned())));
            match name {
                "--tls" | "--tlsverify" => flags.tls |= value.is_none_or(|value| value != "false"),
                "-H" | "--host" => {
                    let address = value.or_else(|| args.next().cloned()).unwrap_or_default();
                    flags.ports.extend(tcp_port(&address));
                }
                "-s" | "--storage-driver" => flags.driver = value.or_else(|| args.next().cloned()),
                _ => {}
            }
        }
        flags
    }
}

fn tcp_port(address: &str) -> Option<u16> {
    let rest = address.strip_prefix("tcp://")?;
    let port = rest.rsplit_once(':').map_or("", |(_, port)| port).trim_end_matches('/');
    if port.is_empty() { Some(PLAIN_PORT) } else { port.parse().ok() }
}

fn write_files(
    engine: &Engine,
    container: &Container,
    directory: &Path,
    names: &[String],
    addresses: &[IpAddr],
) -> Result<Arc<rustls::ServerConfig>> {
    let place = |part: &str| Place::open(engine, container, &directory.join(part));
    let (ca, server, client) = (place("ca")?, place("server")?, place("client")?);
    let given = ServerFiles { ca: server.read("ca.pem"), cert: server.read("cert.pem"), key: server.read("key.pem") };
    let ca_key = ca.read("key.pem");
    if ca_key.is_none() && given.is_complete() {
        // Somebody brought certificates of their own.
        return tls::server_config(&given);
    }
    let authority = Authority::new(ca_key.as_deref())?;
    let server_pair = authority.issue_server(given.key.as_deref(), names, addresses)?;
    let client_pair = authority.issue_client(client.read("key.pem").as_deref())?;
    let files = [
        (&ca, "key.pem", authority.key_pem(), 0o600),
        (&ca, "cert.pem", authority.certificate_pem(), 0o644),
        (&server, "ca.pem", authority.certificate_pem(), 0o644),
        (&server, "key.pem", server_pair.key.clone(), 0o600),
        (&server, "cert.pem", server_pair.certificate.clone(), 0o644),
        (&client, "ca.pem", authority.certificate_pem(), 0o644),
        // Whoever may use the volume may use the engine, whatever user that is.
        (&client, "key.pem", client_pair.key, 0o644),
        (&client, "cert.pem", client_pair.certificate, 0o644),
    ];
    for (place, name, content, mode) in files {
        place.write(name, &content, mode).context(format_args!("write {name} below {}", directory.display()))?;
    }
    tls::server_config(&ServerFiles {
        ca: Some(authority.certificate_pem()),
        cert: Some(server_pair.certificate),
        key: Some(server_pair.key),
    })
}

/// A directory of a container that does not run yet.
struct Place {
    directory: OwnedFd,
}

impl Place {
    fn open(engine: &Engine, container: &Container, path: &Path) -> Result<Self> {
        let (root, rest) = engine.locate(container, path)?;
        let directory = tree::open_or_make_dir(&root, &rest).context(format_args!("make {}", path.display()))?;
        Ok(Self { directory })
    }

    fn read(&self, name: &str) -> Option<String> {
        const CERTIFICATE_BYTES: u64 = 1 << 20;
        let file = File::from(tree::open(&self.directory, Path::new(name), OFlags::RDONLY | OFlags::NONBLOCK).ok()?);
        let mut text = String::new();
        file.take(CERTIFICATE_BYTES).read_to_string(&mut text).ok()?;
        Some(text).filter(|text| !text.is_empty())
    }

    fn write(&self, name: &str, content: &str, mode: u32) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode);
        let file = rustix::fs::openat(self.directory.as_fd(), name, flags, mode)?;
        rustix::fs::fchmod(&file, mode)?;
        File::from(file).write_all(content.as_bytes())
    }
}

impl Engine {
    /// Opens a published port in the networks of all running stand-ins: there a job looks for it, as `docker:8080`.
    pub(crate) async fn stand_in_sockets(&self, published: &Published) -> Vec<Socket> {
        let mut sockets = Vec::new();
        for stand_in in self.containers().list().into_iter().filter(|container| container.is_stand_in && container.is_running()) {
            let protocol = match published.key.protocol {
                crate::container::config::Protocol::Tcp => SocketProtocol::TcpListener,
                crate::container::config::Protocol::Udp => SocketProtocol::Udp,
            };
            let spec = [SocketSpec { protocol, address: Ipv4Addr::UNSPECIFIED.into(), port: published.host_port }];
            match self.sandbox().ask(move |spawner| spawner.open_sockets(&stand_in.id, &spec)).await {
                Ok(opened) => {
                    sockets.extend(opened.into_iter().filter_map(|one| Socket::from_descriptor(published.key.protocol, one).ok()));
                }
                Err(error) => tracing::warn!(%error, port = published.host_port, "publish a port at the stand-in"),
            }
        }
        sockets
    }
}

/// The process of a stand-in container: it says where the engine listens and waits to be stopped.
pub fn dind_main(args: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return ExitCode::FAILURE };
    let mut out = io::stdout();
    for port in args {
        let _ = writeln!(out, "API listen on [::]:{}", port.display());
    }
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
            return ExitCode::FAILURE;
        };
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        ExitCode::SUCCESS
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(args: &[&str], env: &[&str]) -> Result<StandIn> {
        let owned = |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        StandIn::read(&owned(args), &owned(env))
    }

    fn ports(stand_in: &StandIn) -> Vec<(u16, bool)> {
        stand_in.listeners.iter().map(|listener| (listener.port, listener.tls)).collect()
    }

    #[test]
    fn the_certificate_directory_decides() {
        let tls = plan(&["dockerd-entrypoint.sh"], &["DOCKER_TLS_CERTDIR=/certs"]).unwrap();
        assert_eq!((ports(&tls), tls.certificates), (vec![(2376, true)], Some("/certs".into())));
        let plain = plan(&["dockerd-entrypoint.sh", "--tls=false"], &["DOCKER_TLS_CERTDIR="]).unwrap();
        assert_eq!((ports(&plain), plain.certificates), (vec![(2375, false)], None));
    }

    #[test]
    fn flags_of_the_daemon_are_accepted() {
        let args = ["--mtu=1400", "--registry-mirror", "https://mirror", "--storage-driver", "vfs", "--insecure-registry=a:5000"];
        let stand_in = plan(&args, &["DOCKER_TLS_CERTDIR=", "DOCKER_DRIVER=overlay2"]).unwrap();
        assert_eq!((ports(&stand_in), stand_in.driver.as_deref()), (vec![(2375, false)], Some("vfs")));
    }

    #[test]
    fn an_explicit_daemon_listens_where_it_is_told() {
        let stand_in =
            plan(&["dockerd", "--host=unix:///var/run/docker.sock", "-H", "tcp://0.0.0.0:2375"], &["DOCKER_TLS_CERTDIR=/certs"]).unwrap();
        assert_eq!(ports(&stand_in), [(2375, false)]);
    }

    #[test]
    fn other_programs_are_not_there() {
        assert!(plan(&["sh"], &[]).unwrap_err().message.contains("executable file not found in $PATH"));
    }
}
