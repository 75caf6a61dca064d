//! TCP in front of an engine's socket, with TLS where asked.

use std::{
    fs, io,
    net::IpAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use dockwright_engine::api::tls::{Authority, ServerFiles, server_config};
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    net::{TcpListener, UnixStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::error::{CommandError, ErrorKind, Explain as _};

/// How long a client may take over the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// After an error of `accept`, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Keys and certificates in the layout of `docker:dind`, and how to serve with them.
pub(super) struct Tls {
    directory: PathBuf,
    acceptor: TlsAcceptor,
}

impl Tls {
    /// Reads the keys below a directory, making what is missing, and issues certificates.
    pub(super) fn prepare(directory: &Path, names: &[String]) -> Result<Self, CommandError> {
        let make = || -> anyhow::Result<TlsAcceptor> {
            let existing = |name: &str| fs::read_to_string(directory.join(name)).ok();
            let authority = Authority::new(existing("ca/key.pem").as_deref())?;
            let mut all_names = vec!["localhost".to_owned(), "docker".to_owned()];
            all_names.push(rustix::system::uname().nodename().to_string_lossy().into_owned());
            all_names.extend(names.iter().cloned());
            let addresses = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
            let server = authority.issue_server(existing("server/key.pem").as_deref(), &all_names, &addresses)?;
            let client = authority.issue_client(existing("client/key.pem").as_deref())?;
            let ca = authority.certificate_pem();
            write(directory, "ca/key.pem", &authority.key_pem())?;
            write(directory, "ca/cert.pem", &ca)?;
            for (role, pair) in [("server", &server), ("client", &client)] {
                write(directory, &format!("{role}/ca.pem"), &ca)?;
                write(directory, &format!("{role}/cert.pem"), &pair.certificate)?;
                write(directory, &format!("{role}/key.pem"), &pair.key)?;
            }
            let files = ServerFiles { ca: Some(ca), cert: Some(server.certificate), key: Some(server.key) };
            Ok(TlsAcceptor::from(server_config(&files)?))
        };
        let acceptor = make().explain(ErrorKind::Environment, || format!("make certificates in `{}`", directory.display()))?;
        Ok(Self { directory: directory.to_owned(), acceptor })
    }

    /// What clients need (`DOCKER_CERT_PATH`).
    pub(super) fn client_directory(&self) -> PathBuf {
        self.directory.join("client")
    }
}

fn write(directory: &Path, name: &str, text: &str) -> io::Result<()> {
    let path = directory.join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(&path, text)?;
    let mode = if name.ends_with("key.pem") { 0o600 } else { 0o644 };
    fs::set_permissions(&path, fs::Permissions::from_mode(mode))
}

/// Passes connections on to the engine, for ever.
pub(super) async fn forward(listener: &TcpListener, socket: &Path, tls: Option<&Tls>) {
    let socket: Arc<Path> = Arc::from(socket);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (socket, acceptor) = (Arc::clone(&socket), tls.map(|tls| tls.acceptor.clone()));
                    connections.spawn(async move {
                        let ended = match acceptor {
                            Some(acceptor) => match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                                Ok(Ok(stream)) => pass_on(stream, &socket).await,
                                Ok(Err(error)) => Err(error),
                                Err(_) => Err(io::ErrorKind::TimedOut.into()),
                            },
                            None => pass_on(stream, &socket).await,
                        };
                        if let Err(error) = ended {
                            tracing::debug!(%error, "a connection ended");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn pass_on(mut stream: impl AsyncRead + AsyncWrite + Unpin, socket: &Path) -> io::Result<()> {
    let mut engine = UnixStream::connect(socket).await?;
    copy_bidirectional(&mut stream, &mut engine).await.map(|_| ())
}
