//! The engine host as `run` and `runner run` see it: a child process that is started when the first job wants an engine, and again when
//! it died meanwhile.
//!
//! The child is in a process group of its own, so that Ctrl-C on the terminal reaches only the parent, which then ends jobs in order.

use std::{
    collections::HashMap,
    io,
    os::fd::OwnedFd,
    os::unix::{net::UnixStream as StdUnixStream, process::CommandExt as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Mutex as AsyncMutex, mpsc, oneshot},
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
/// How long a failure to start is the answer to everybody who asks, before it is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

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
    state: Mutex<State>,
    /// Held by who starts the host.
    starting: AsyncMutex<()>,
}

#[derive(Default)]
struct State {
    connection: Option<Arc<Connection>>,
    failure: Option<(Instant, HostError)>,
    has_warned: bool,
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
        Self { settings, events, state: Mutex::default(), starting: AsyncMutex::default() }
    }

    /// Sends a request, starting the host if need be, and waits for its answer.
    pub(crate) async fn call(&self, request: Request) -> Result<Answer, HostError> {
        Self::ask(&*self.connect().await?, request).await
    }

    /// Sends a request that makes sense only to a host that runs.
    pub(crate) async fn call_if_running(&self, request: Request) -> Result<Answer, HostError> {
        match self.running() {
            Some(connection) => Self::ask(&connection, request).await,
            None => Ok(Answer::Done),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    fn running(&self) -> Option<Arc<Connection>> {
        self.state().connection.clone().filter(|connection| !connection.calls.is_closed())
    }

    async fn connect(&self) -> Result<Arc<Connection>, HostError> {
        let _starting = self.starting.lock().await;
        if let Some(connection) = self.running() {
            return Ok(connection);
        }
        let died = {
            let mut state = self.state();
            if let Some((_, failure)) = state.failure.as_ref().filter(|(since, _)| since.elapsed() < RETRY_PAUSE) {
                return Err(failure.clone());
            }
            state.connection.take()
        };
        if let Some(died) = died {
            tracing::warn!("the engine host ended; starting another");
            // It closed the connection, and could be about to end only.
            died.kill();
            wait(&died.child).await;
        }
        let started = self.start().await;
        let mut state = self.state();
        state.failure = started.as_ref().err().map(|failure| (Instant::now(), failure.clone()));
        state.connection = started.as_ref().ok().cloned();
        started
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
        let Some(connection) = self.state().connection.clone() else { return };
        connection.stop.cancel();
        let waited = tokio::time::timeout(STOP_TIMEOUT, wait(&connection.child)).await;
        if waited.is_err() {
            tracing::warn!("the engine host did not end in {} s; killing it", STOP_TIMEOUT.as_secs());
            connection.kill();
            wait(&connection.child).await;
        }
    }

    /// Kills the host, and with it everything it runs.
    pub(crate) fn kill(&self) {
        if let Some(connection) = &self.state().connection {
            connection.kill();
        }
    }

    async fn start(&self) -> Result<Arc<Connection>, HostError> {
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
                if !std::mem::replace(&mut self.state().has_warned, true) {
                    let message = format!("jobs get no containers: {problem}");
                    let _ = self.events.send(RunEvent::Warning { message, hint: problem.remedy.clone() }).await;
                }
                return Err(HostError::CannotStart(problem));
            }
            Some(_) | None => return Err(HostError::Gone),
        }
        let (calls, orders) = mpsc::channel(MAX_WAITING_CALLS);
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(converse(reader, writer, orders, self.events.clone())));
        Ok(Arc::new(Connection { calls, stop, child }))
    }
}

impl Connection {
    fn kill(&self) {
        let _ = self.child.lock().expect("no holder of this lock panics").kill();
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
