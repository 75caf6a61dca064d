//! The process of an engine: `dockwright internal engine`, a child of PID 1 in its sandbox.

use std::{
    fmt, io,
    os::{fd::OwnedFd, unix::fs::PermissionsExt as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use dockwright_container::sandbox::inherited;
use tokio::net::UnixListener;

use crate::{
    Engine, EngineSettings,
    api::{self, Listener},
    broker::Client,
    host::descriptor,
    sandbox::Sandbox,
};

/// Where the scratch directory on disk is in a sandbox.
const DATA_DIR: &str = "/var/lib/docker";
/// The engine's own socket in a sandbox.
const SOCKET: &str = "/run/docker.sock";
/// Threads for calls that block. Starts of containers wait for each other beyond that.
const BLOCKING_THREADS: usize = 64;
/// How long such a thread is kept after its last call; an idle engine is to be small.
const BLOCKING_THREAD_IDLE: Duration = Duration::from_secs(2);

/// Why an engine could not start. It goes to standard error, which the engine host keeps.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("the descriptor `{0}` was not passed on")]
    NoDescriptor(&'static str),
    #[error("start the runtime")]
    Runtime(#[source] io::Error),
    #[error("use the {what} socket")]
    Socket {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("ask the engine host about itself")]
    Facts(#[source] crate::broker::BrokerError),
    #[error("make the engine")]
    Engine(#[source] crate::EngineError),
    #[error("wait for signals")]
    Signals(#[source] io::Error),
}

/// Runs an engine until its sandbox ends it. It finds its sockets with [`inherited`] and has no arguments.
pub fn engine_main(_arguments: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(format_args!("engine: {}", crate::error::chain(&error)));
            ExitCode::FAILURE
        }
    }
}

fn report(line: impl fmt::Display) {
    use io::Write as _;
    // There is nobody else to tell.
    let _ = writeln!(io::stderr(), "{line}");
}

fn run() -> Result<(), StartError> {
    let descriptor = |name: &'static str| inherited(name).ok_or(StartError::NoDescriptor(name));
    let (broker, spawner, api) = (descriptor(descriptor::BROKER)?, descriptor(descriptor::SPAWNER)?, descriptor(descriptor::API)?);
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().max_blocking_threads(BLOCKING_THREADS).thread_keep_alive(BLOCKING_THREAD_IDLE);
    runtime.build().map_err(StartError::Runtime)?.block_on(serve(broker, spawner, api))
}

async fn serve(broker: OwnedFd, spawner: OwnedFd, api: OwnedFd) -> Result<(), StartError> {
    let socket = |what: &'static str| move |source| StartError::Socket { what, source };
    let broker = Client::connect(broker).map_err(socket("engine host's"))?;
    let facts = broker.facts().await.map_err(StartError::Facts)?;
    let sandbox = Sandbox::connect(spawner).map_err(socket("sandbox's"))?;
    let settings = EngineSettings { data_dir: PathBuf::from(DATA_DIR), name: facts.engine_name.clone(), socket: PathBuf::from(SOCKET) };
    let engine = Engine::new(settings, broker, facts, sandbox).map_err(StartError::Engine)?;
    tokio::spawn(api::serve(engine.clone(), Listener::Unix(own_socket().map_err(socket("engine's own"))?)));
    tokio::spawn(api::serve(engine, Listener::Unix(given_socket(api).map_err(socket("API's"))?)));
    wait_for_end().await.map_err(StartError::Signals)
}

/// Makes the socket for containers. Which user of a container may use it is decided by whoever mounts it, so everybody may connect.
fn own_socket() -> io::Result<UnixListener> {
    let listener = UnixListener::bind(SOCKET)?;
    std::fs::set_permissions(SOCKET, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

fn given_socket(descriptor: OwnedFd) -> io::Result<UnixListener> {
    let listener = std::os::unix::net::UnixListener::from(descriptor);
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

async fn wait_for_end() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}
