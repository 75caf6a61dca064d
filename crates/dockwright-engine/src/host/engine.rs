//! One engine as its host sees it: a directory, a range of ids, a listening socket, a session and a sandbox.

use std::{
    ffi::OsString,
    fs::{self, File},
    future::Future,
    io,
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use dockwright_container::{
    network::egress::{Egress, NAMESERVER, NoEgress},
    process::Limits,
    sandbox::{IdMapping, MountSource, Sandbox, SandboxSpec, SharedPath, SpawnError, open_program},
    socket,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::watch,
    task::JoinHandle,
};

use super::{
    EngineHost, EngineSpec, JobDirError, TakeIdsError,
    id_range::IdRange,
    job_dir::{self, JobDir},
};
use crate::broker::{self, LayerMounts, Session};

/// Names of the descriptors that an engine finds in its sandbox with [`dockwright_container::sandbox::inherited`].
pub mod descriptor {
    /// The socket to the engine host, for [`crate::broker::Client::connect`].
    pub const BROKER: &str = "broker";
    /// The listening unix socket of the API.
    pub const API: &str = "api";
    /// The socket to PID 1.
    pub const SPAWNER: &str = "spawner";
}

/// Name of the API's socket in the directory that the engine's owner chose.
const SOCKET: &str = "docker.sock";
/// How long a new engine may take to answer; usually it is milliseconds.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an engine's log that go into the message when it ends too early.
const LOG_TAIL_BYTES: usize = 2000;
/// The kernel's limit for host names.
const HOSTNAME_LIMIT_BYTES: usize = 64;

/// Where an engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// The id of its specification.
    pub id: String,
    /// The API's unix socket.
    pub socket: PathBuf,
    /// What the machine lacks, limits of resources for example.
    pub warnings: Vec<String>,
    /// Why containers have no way out of this machine. `None` if they have, or were not to have.
    pub no_network: Option<NoEgress>,
}

/// Failure to make an engine.
#[derive(Debug, thiserror::Error)]
pub enum CreateEngineError {
    #[error("`{0}` is not an id for an engine: it begins with a letter or digit, and more of these, `_`, `.` and `-` may follow")]
    InvalidId(String),
    #[error("make the engine's directory")]
    JobDir(#[from] JobDirError),
    #[error("take a range of user ids")]
    TakeIds(#[from] TakeIdsError),
    #[error("listen on the engine's socket `{}`", path.display())]
    Listen {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("prepare the engine's {what}")]
    Prepare {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("start the engine's sandbox")]
    Spawn(#[from] SpawnError),
    #[error("the engine ended while it started: {log}")]
    Ended { log: String },
    #[error("the engine did not answer within {} s: {log}", READY_TIMEOUT.as_secs())]
    NotReady { log: String },
}

/// An engine that runs. Dropping it ends it, waits for that, and removes its files.
pub(super) struct RunningEngine {
    info: EngineInfo,
    broker: JoinHandle<()>,
    connected: watch::Receiver<()>,
    // Dropped in this order: first the processes, then what they used.
    _egress: Option<Egress>,
    sandbox: Arc<Sandbox>,
    _socket: SocketFile,
    _dir: OwnedJobDir,
    _ids: IdRange,
}

impl RunningEngine {
    /// Starts an engine and waits until its API answers.
    pub(super) async fn start(host: &EngineHost, spec: EngineSpec) -> Result<Self, CreateEngineError> {
        let jobs = host.config.home.join(job_dir::JOBS);
        let dir = OwnedJobDir(Some(JobDir::create(&jobs, checked_id(&spec.id)?)?));
        let ids = host.config.ids.take(&jobs.join(job_dir::ID_LOCKS))?;
        let (socket, listener) = SocketFile::listen(&spec.socket_dir)?;
        let (engine_end, host_end) = socket::pair().map_err(preparing("broker"))?;
        let session = Arc::new(Session::new(Arc::clone(&host.shared), spec.clone()));
        if let Some(user) = &spec.registry_user {
            host.shared.authority.admit(&spec.id, user.clone());
        }
        let sandbox_spec = sandbox_spec(host, &spec, &dir, &ids, Descriptors { listener: listener.into(), broker: engine_end })?;
        let spawned = tokio::task::spawn_blocking(move || Sandbox::spawn(sandbox_spec)).await;
        let sandbox = spawned.map_err(|error| CreateEngineError::Prepare { what: "sandbox", source: io::Error::other(error) })??;
        let sandbox = Arc::new(sandbox);
        // Beside the start of the engine, which takes as long.
        let egress = spec.egress.then(|| start_egress(Arc::clone(&sandbox)));
        session.set_mounts(Box::new(sandbox.mounts().clone()));
        let (connection, connected) = watch::channel(());
        let broker = tokio::spawn(async move {
            broker::serve(host_end, session).await;
            drop(connection);
        });
        let info = EngineInfo { id: spec.id, socket: socket.path.clone(), warnings: sandbox.warnings().to_vec(), no_network: None };
        let mut engine = Self { info, broker, connected, _egress: None, sandbox, _socket: socket, _dir: dir, _ids: ids };
        engine.wait_until_ready().await?;
        if let Some(egress) = egress {
            engine.use_egress(egress.await);
        }
        Ok(engine)
    }

    /// An engine without a way out is of use too: its containers reach each other, and images come through the host.
    fn use_egress(&mut self, outcome: Result<Result<Egress, NoEgress>, tokio::task::JoinError>) {
        match outcome {
            Ok(Ok(egress)) => self._egress = Some(egress),
            Ok(Err(none)) => self.info.no_network = Some(none),
            Err(error) => self.info.no_network = Some(NoEgress { reasons: vec![error.to_string()] }),
        }
    }

    pub(super) fn info(&self) -> &EngineInfo {
        &self.info
    }

    /// Begins to end it.
    pub(super) fn kill(&self) {
        self.sandbox.kill();
    }

    /// Returns what completes when it has ended: its end of the broker's socket closes with it.
    pub(super) fn ended(&self) -> impl Future<Output = ()> + use<> {
        let mut connected = self.connected.clone();
        async move {
            // An error says that the sender is gone, which is the end.
            while connected.changed().await.is_ok() {}
        }
    }

    async fn wait_until_ready(&self) -> Result<(), CreateEngineError> {
        match tokio::time::timeout(READY_TIMEOUT, ping(&self.info.socket)).await {
            Ok(Ok(())) => Ok(()),
            // The listening socket closes with the engine, and with it the connections that wait there.
            Ok(Err(_)) => Err(CreateEngineError::Ended { log: self.log_tail() }),
            Err(_) => Err(CreateEngineError::NotReady { log: self.log_tail() }),
        }
    }

    fn log_tail(&self) -> String {
        let log = self._dir.0.as_ref().map(|dir| fs::read(dir.log()).unwrap_or_default()).unwrap_or_default();
        let tail = &log[log.len().saturating_sub(LOG_TAIL_BYTES)..];
        let text = String::from_utf8_lossy(tail).trim().to_owned();
        if text.is_empty() { "it said nothing".to_owned() } else { text }
    }
}

impl Drop for RunningEngine {
    fn drop(&mut self) {
        self.broker.abort();
    }
}

fn start_egress(sandbox: Arc<Sandbox>) -> JoinHandle<Result<Egress, NoEgress>> {
    tokio::task::spawn_blocking(move || Egress::start(&sandbox))
}

/// Removes the directory when dropped.
struct OwnedJobDir(Option<JobDir>);

impl OwnedJobDir {
    fn get(&self) -> &JobDir {
        self.0.as_ref().expect("the directory is taken away only when dropped")
    }
}

impl Drop for OwnedJobDir {
    fn drop(&mut self) {
        if let Some(dir) = self.0.take() {
            dir.remove();
        }
    }
}

/// The API's socket in the file system; removed when dropped.
struct SocketFile {
    path: PathBuf,
}

impl SocketFile {
    fn listen(dir: &Path) -> Result<(Self, UnixListener), CreateEngineError> {
        let path = dir.join(SOCKET);
        let listen = || {
            fs::create_dir_all(dir)?;
            // One that a dead host left.
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            UnixListener::bind(&path)
        };
        let listener = listen().map_err(|source| CreateEngineError::Listen { path: path.clone(), source })?;
        Ok((Self { path }, listener))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody else's clean-up of the directory may have come first.
        let _ = fs::remove_file(&self.path);
    }
}

/// Mounts for a real sandbox.
impl LayerMounts for MountSource {
    fn mount(&self, directories: &[&Path]) -> Result<Vec<OwnedFd>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.layer_mounts(directories)?)
    }
}

struct Descriptors {
    listener: OwnedFd,
    broker: OwnedFd,
}

fn sandbox_spec(
    host: &EngineHost,
    spec: &EngineSpec,
    dir: &OwnedJobDir,
    ids: &IdRange,
    descriptors: Descriptors,
) -> Result<SandboxSpec, CreateEngineError> {
    let dir = dir.get();
    let log = File::create(dir.log()).map_err(preparing("log"))?;
    let mut given = vec![(descriptor::API.to_owned(), descriptors.listener), (descriptor::BROKER.to_owned(), descriptors.broker)];
    // Held by the sandbox too, so that nobody takes the directory or the ids while a process of it lives.
    for (name, lock) in [("directory-lock", Some(dir.lock())), ("ids-lock", ids.lock.as_ref())] {
        if let Some(lock) = lock {
            given.push((name.to_owned(), lock.try_clone().map_err(preparing("locks"))?.into()));
        }
    }
    let words = |words: [&str; 2]| words.into_iter().map(OsString::from).collect();
    Ok(SandboxSpec {
        id: spec.id.clone(),
        binary: open_program(&host.config.binary, &dir.program()).map_err(preparing("program"))?,
        sandbox_arguments: words(["internal", "sandbox"]),
        ids: ids.first.map_or(IdMapping::Identity, |first| IdMapping::Range { first }),
        hostname: hostname(spec),
        scratch: dir.scratch(),
        shared: spec.shared_paths.iter().map(|path| shared_path(path, spec.shared_owner)).collect(),
        resolv_conf: if spec.egress { format!("nameserver {NAMESERVER}\n") } else { String::new() },
        engine_arguments: words(["internal", "engine"]),
        engine_environment: Vec::new(),
        descriptors: given,
        log: Some(log.into()),
        limits: Limits::default(),
    })
}

fn shared_path(path: &Path, owner: u32) -> SharedPath {
    SharedPath { source: path.to_owned(), target: path.to_owned(), owner, read_only: false }
}

fn hostname(spec: &EngineSpec) -> String {
    let name = if spec.name.is_empty() { &spec.id } else { &spec.name };
    let mut end = name.len().min(HOSTNAME_LIMIT_BYTES);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].to_owned()
}

fn checked_id(id: &str) -> Result<&str, CreateEngineError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let valid = id.len() <= 100 && id.starts_with(|first: char| first.is_ascii_alphanumeric()) && id.bytes().all(plain);
    if valid { Ok(id) } else { Err(CreateEngineError::InvalidId(id.to_owned())) }
}

fn preparing(what: &'static str) -> impl FnOnce(io::Error) -> CreateEngineError {
    move |source| CreateEngineError::Prepare { what, source }
}

/// Asks the API for a sign of life. The socket listens already, so the request waits there until the engine accepts it.
async fn ping(socket: &Path) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n").await?;
    let mut status = [0; 12];
    stream.read_exact(&mut status).await?;
    if &status == b"HTTP/1.1 200" { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_safe_in_paths_and_names() {
        for good in ["1", "job-42", "A.b_c"] {
            assert!(checked_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".ids", "-x", "a/b", "a b", "é", &"x".repeat(101)] {
            assert!(matches!(checked_id(bad), Err(CreateEngineError::InvalidId(_))), "{bad}");
        }
    }

    #[test]
    fn a_stale_socket_is_replaced_and_the_own_one_removed() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (first, listener) = SocketFile::listen(&dir.path().join("sockets")).expect("a socket");
        std::mem::forget(first);
        drop(listener);
        let (second, _listener) = SocketFile::listen(&dir.path().join("sockets")).expect("the socket again");
        let path = second.path.clone();
        drop(second);
        assert!(!path.exists());
    }
}
