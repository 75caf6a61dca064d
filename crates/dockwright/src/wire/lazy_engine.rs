//! Engines for jobs outside of them: nothing is started until the first connection.
//!
//! A shell job gets the address of a socket in this process. Most shell jobs never use it and cost nothing. At the first connection the
//! engine starts, and connections are passed on to it; the engine then sees this process as its client, which is as much outside of it as
//! the job is. Where the machine cannot run an engine, the client that asks is told why, in Docker's own form.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use dockwright_runner::EngineLease;
use futures_util::FutureExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{UnixListener, UnixStream},
    sync::OnceCell,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{control::EngineOrder, engines::AcquiredEngine, host_process::HostProcess};

/// A request's head is no longer than this.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Makes a lease of an engine that is started by its first client.
pub(super) fn lease(host: Arc<HostProcess>, order: EngineOrder, sockets: &Path) -> io::Result<EngineLease> {
    fs::create_dir_all(sockets)?;
    fs::set_permissions(sockets, fs::Permissions::from_mode(0o700))?;
    let path = sockets.join(format!("{}.sock", order.name));
    let listener = UnixListener::bind(&path)?;
    let endpoint = format!("unix://{}", path.display());
    let engine = Arc::new(LazyEngine { host, order, started: OnceCell::new() });
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(listener, Arc::clone(&engine), stop.clone()));
    let release = move || {
        async move {
            stop.cancel();
            let _ = serving.await;
            remove(&path);
            if let Some(Ok(engine)) = Arc::into_inner(engine).and_then(|engine| engine.started.into_inner()) {
                engine.release().await;
            }
        }
        .boxed()
    };
    Ok(EngineLease::job_scoped(endpoint, release))
}

fn remove(socket: &PathBuf) {
    if let Err(error) = fs::remove_file(socket) {
        tracing::warn!(%error, path = %socket.display(), "remove the socket of a job");
    }
}

struct LazyEngine {
    host: Arc<HostProcess>,
    order: EngineOrder,
    /// The engine, or what its clients are told.
    started: OnceCell<Result<AcquiredEngine, String>>,
}

impl LazyEngine {
    async fn start(&self) -> &Result<AcquiredEngine, String> {
        let start = async {
            let engine = AcquiredEngine::acquire(&self.host, self.order.clone()).await.map_err(|error| {
                let hint = error.remedy().map(|remedy| format!("\nhint: {remedy}")).unwrap_or_default();
                format!("this job has no Docker engine: {error}{hint}")
            })?;
            // The job runs already, and its trace is not ours to write to.
            if let Some(reason) = engine.no_network() {
                self.host.warn(reason).await;
            }
            Ok(engine)
        };
        self.started.get_or_init(|| start).await
    }
}

/// Passes connections on until it is told to stop.
async fn serve(listener: UnixListener, engine: Arc<LazyEngine>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let engine = Arc::clone(&engine);
                    connections.spawn(async move {
                        if let Err(error) = pass_on(stream, &engine).await {
                            tracing::debug!(%error, "a connection to a job's engine ended");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accept a connection to a job's engine");
                    tokio::task::yield_now().await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            () = stop.cancelled() => break,
        }
    }
    // When this returns, nobody holds the engine but its owner.
    connections.shutdown().await;
}

async fn pass_on(mut client: UnixStream, engine: &LazyEngine) -> io::Result<()> {
    match engine.start().await {
        Ok(started) => {
            let mut engine = UnixStream::connect(started.socket()).await?;
            copy_bidirectional(&mut client, &mut engine).await.map(|_| ())
        }
        Err(message) => refuse(client, message).await,
    }
}

/// Answers a request as a Docker daemon does that cannot.
async fn refuse(mut client: UnixStream, message: &str) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < MAX_HEAD_BYTES {
        if client.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let body = serde_json::json!({ "message": message }).to_string();
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes()).await?;
    client.write_all(body.as_bytes()).await?;
    client.shutdown().await
}
