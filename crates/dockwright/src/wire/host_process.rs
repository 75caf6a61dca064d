//! The engine host as `dockwright run` sees it: a child process that is started when the first job wants an engine.
//!
//! The child is in a process group of its own, so that Ctrl-C on the terminal reaches only the parent, which then ends jobs in order.

use std::{
    collections::HashMap,
    io,
    os::fd::OwnedFd,
    os::unix::{net::UnixStream as StdUnixStream, process::CommandExt as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{OnceCell, mpsc, oneshot},
};
use tokio_util::{
    codec::{FramedRead, FramedWrite, LinesCodec},
    sync::CancellationToken,
};

use super::control::{Answer, Call, FromHost, MAX_LINE_BYTES, Problem, Request, Start};
use crate::{environment, internal, report::RunEvent};

/// How long the host may take to end its engines once told to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const STOP_POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Requests under way at once: one per job and a few.
const MAX_WAITING_CALLS: usize = 1024;

/// Where the host finds itself and its files.
#[derive(Debug, Clone)]
pub(crate) struct HostSettings {
    /// This program.
    pub(crate) program: PathBuf,
    pub(crate) home: PathBuf,
    /// What the host logs.
    pub(crate) log: Option<String>,
}

/// An engine host that may not run yet.
pub(crate) struct HostProcess {
    settings: HostSettings,
    events: mpsc::Sender<RunEvent>,
    connection: OnceCell<Result<Connection, HostError>>,
}

struct Connection {
    calls: mpsc::Sender<(Request, oneshot::Sender<Answer>)>,
    /// Ends the conversation, which ends the host.
    stop: CancellationToken,
    child: Mutex<Child>,
}

/// Why the engine host did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum HostError {
    #[error("start the engine host")]
    Start(#[source] Arc<io::Error>),
    /// The machine lacks something; the remedy is in the problem.
    #[error(transparent)]
    CannotStart(Problem),
    #[error("the engine host ended")]
    Gone,
    #[error(transparent)]
    Refused(Problem),
    #[error("the engine host answered {0:?}, which was not the question")]
    Unexpected(Answer),
}

impl HostError {
    /// Says what to do about it.
    pub(crate) fn remedy(&self) -> Option<String> {
        match self {
            Self::CannotStart(problem) | Self::Refused(problem) => problem.remedy.clone(),
            Self::Start(_) | Self::Gone | Self::Unexpected(_) => None,
        }
    }
}

impl HostProcess {
    pub(crate) fn new(settings: HostSettings, events: mpsc::Sender<RunEvent>) -> Self {
        Self { settings, events, connection: OnceCell::new() }
    }

    /// Sends a request, starting the host if need be, and waits for its answer.
    pub(crate) async fn call(&self, request: Request) -> Result<Answer, HostError> {
        let connection = self.connection.get_or_init(|| self.start()).await;
        Self::ask(connection.as_ref().map_err(Clone::clone)?, request).await
    }

    /// Sends a request that makes sense only to a host that runs.
    pub(crate) async fn call_if_running(&self, request: Request) -> Result<Answer, HostError> {
        match self.connection.get() {
            Some(Ok(connection)) => Self::ask(connection, request).await,
            _ => Ok(Answer::Done),
        }
    }

    async fn ask(connection: &Connection, request: Request) -> Result<Answer, HostError> {
        let (sender, receiver) = oneshot::channel();
        connection.calls.send((request, sender)).await.map_err(|_| HostError::Gone)?;
        match receiver.await.map_err(|_| HostError::Gone)? {
            Answer::Failed(problem) => Err(HostError::Refused(problem)),
            answer => Ok(answer),
        }
    }

    /// Warns whoever watches the run.
    pub(crate) async fn warn(&self, problem: &Problem) {
        let _ = self.events.send(RunEvent::Warning { message: problem.to_string(), hint: problem.remedy.clone() }).await;
    }

    /// Ends the host and everything it runs, and returns when it is gone.
    pub(crate) async fn stop(&self) {
        let Some(Ok(Connection { stop, child, .. })) = self.connection.get() else { return };
        stop.cancel();
        let waited = tokio::time::timeout(STOP_TIMEOUT, wait(child)).await;
        if waited.is_err() {
            tracing::warn!("the engine host did not end in {} s; killing it", STOP_TIMEOUT.as_secs());
            self.kill();
            wait(child).await;
        }
    }

    /// Kills the host, and with it everything it runs.
    pub(crate) fn kill(&self) {
        if let Some(Ok(Connection { child, .. })) = self.connection.get() {
            let _ = child.lock().expect("no holder of this lock panics").kill();
        }
    }

    async fn start(&self) -> Result<Connection, HostError> {
        let failed = |error: io::Error| HostError::Start(Arc::new(error));
        let (ours, theirs) = StdUnixStream::pair().map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        let child = Command::new(&self.settings.program)
            .args([internal::COMMAND, internal::ENGINE_HOST])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .envs(self.settings.log.as_ref().map(|filter| (environment::LOG, filter)))
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let child = Mutex::new(child);
        let (reader, writer) = UnixStream::from_std(ours).map_err(failed)?.into_split();
        let mut reader = FramedRead::new(reader, LinesCodec::new_with_max_length(MAX_LINE_BYTES));
        let mut writer = FramedWrite::new(writer, LinesCodec::new_with_max_length(MAX_LINE_BYTES));
        let start = Start { home: self.settings.home.clone() };
        writer.send(to_line(&start)).await.map_err(|_| HostError::Gone)?;
        match next_message(&mut reader).await {
            Some(FromHost::Ready) => {}
            Some(FromHost::CannotStart(problem)) => {
                wait(&child).await;
                // Said once, however many jobs ask.
                let message = format!("jobs get no containers: {problem}");
                let _ = self.events.send(RunEvent::Warning { message, hint: problem.remedy.clone() }).await;
                return Err(HostError::CannotStart(problem));
            }
            Some(_) | None => return Err(HostError::Gone),
        }
        let (calls, orders) = mpsc::channel(MAX_WAITING_CALLS);
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(converse(reader, writer, orders, self.events.clone())));
        Ok(Connection { calls, stop, child })
    }
}

async fn wait(child: &Mutex<Child>) {
    // The standard library's child, because a process that tokio starts would need its reaper to outlive the runtime.
    while matches!(child.lock().expect("no holder of this lock panics").try_wait(), Ok(None)) {
        tokio::time::sleep(STOP_POLL_INTERVAL).await;
    }
}

fn to_line(message: &impl serde::Serialize) -> String {
    serde_json::to_string(message).expect("messages hold only strings and numbers")
}

async fn next_message(reader: &mut FramedRead<OwnedReadHalf, LinesCodec>) -> Option<FromHost> {
    let line = reader.next().await?.ok()?;
    serde_json::from_str(&line).inspect_err(|error| tracing::error!(%error, "a line of the engine host")).ok()
}

/// Owns the socket: passes requests on, and answers and events back. Dropping it closes the socket.
async fn converse(
    mut reader: FramedRead<OwnedReadHalf, LinesCodec>,
    mut writer: FramedWrite<OwnedWriteHalf, LinesCodec>,
    mut orders: mpsc::Receiver<(Request, oneshot::Sender<Answer>)>,
    events: mpsc::Sender<RunEvent>,
) {
    let mut waiting: HashMap<u64, oneshot::Sender<Answer>> = HashMap::new();
    let mut number = 0;
    loop {
        tokio::select! {
            order = orders.recv() => {
                let Some((request, sender)) = order else { return };
                number += 1;
                waiting.insert(number, sender);
                if writer.send(to_line(&Call { number, request })).await.is_err() {
                    return;
                }
            }
            message = next_message(&mut reader) => match message {
                Some(FromHost::Answer { number, answer }) => {
                    if let Some(sender) = waiting.remove(&number) {
                        let _ = sender.send(answer);
                    }
                }
                Some(FromHost::ImagePushed { reference, digest }) => {
                    let _ = events.send(RunEvent::ImagePushed { reference, digest }).await;
                }
                Some(FromHost::Ready | FromHost::CannotStart(_)) | None => return,
            }
        }
    }
}
