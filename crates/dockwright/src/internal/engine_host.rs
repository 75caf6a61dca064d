//! The engine host of a `dockwright run`: root, or root of a user namespace, and the only process that reads the store.
//!
//! It talks with its parent over the socket that is its standard input ([`crate::wire::control`]) and ends when that socket does.

use std::{
    collections::HashMap,
    io::{self, BufRead as _, BufReader, Write as _},
    os::{fd::AsFd as _, unix::net::UnixStream as StdUnixStream},
    path::PathBuf,
    process::ExitCode as ProcessExitCode,
    sync::Arc,
    time::Duration,
};

use dockwright_engine::{
    broker::Credentials,
    host::{EngineHost, EngineSpec, PublishMode, RegistryUser, TrustScope},
};
use futures_util::{SinkExt as _, StreamExt as _};
use rustix::{
    fs::{Mode, OFlags},
    io::fcntl_dupfd_cloexec,
    stdio::dup2_stdin,
};
use tokio::{
    net::UnixStream,
    sync::{broadcast::error::RecvError, mpsc},
    task::{AbortHandle, JoinSet},
};
use tokio_util::codec::{FramedRead, FramedWrite, LinesCodec};

use crate::{
    error::CommandError,
    exit_code::ExitCode,
    report::print_error,
    wire::{
        control::{Answer, Call, EngineOrder, FromHost, MAX_LINE_BYTES, Problem, RegistryGrant, Request, Start},
        host_namespace, host_setup,
    },
};

/// Answers that wait to be written.
const MAX_WAITING_ANSWERS: usize = 256;
/// How long the end may take before the process kills itself; the kernel then ends the engines.
const END_TIMEOUT: Duration = Duration::from_secs(15);
/// Standard input, output and error lie below.
const LOWEST_FREE_DESCRIPTOR: i32 = 3;

/// Runs the role.
pub(super) fn run() -> ProcessExitCode {
    let ended = take_control_socket().and_then(serve);
    match ended {
        Ok(()) => ExitCode::Success.into(),
        Err(error) => {
            let error = CommandError::internal(format!("talk with `dockwright run`: {error}"));
            print_error(&error.parts());
            error.exit_code().into()
        }
    }
}

/// Moves the socket away from standard input, so that no process started from here inherits it.
fn take_control_socket() -> io::Result<StdUnixStream> {
    let control = fcntl_dupfd_cloexec(io::stdin().as_fd(), LOWEST_FREE_DESCRIPTOR)?;
    let nothing = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    dup2_stdin(&nothing)?;
    Ok(control.into())
}

fn serve(mut control: StdUnixStream) -> io::Result<()> {
    let start = read_start(&control)?;
    if let Err(problem) = host_namespace::enter_or_tell() {
        return tell(&mut control, &FromHost::CannotStart(problem));
    }
    let runtime = host_setup::runtime()?;
    let host = {
        let _entered = runtime.enter();
        EngineHost::start(host_setup::config(start.home.clone()))
    };
    let host = match host {
        Ok(host) => Arc::new(host),
        Err(error) => return tell(&mut control, &FromHost::CannotStart(Problem::of(&error))),
    };
    tell(&mut control, &FromHost::Ready)?;
    control.set_nonblocking(true)?;
    let conversation = Conversation { host, home: start.home };
    let ended = runtime.block_on(conversation.run(control));
    end_at_last();
    // Ends the tasks, and with the last of them the host and its engines.
    drop(runtime);
    ended
}

/// The parent waits for the answer before it writes more, so nothing is lost in the buffer.
fn read_start(control: &StdUnixStream) -> io::Result<Start> {
    let mut line = String::new();
    BufReader::new(control).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

fn tell(control: &mut StdUnixStream, message: &FromHost) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    control.write_all(&line)
}

/// Ends the process by force when ending in order hangs: nothing may stay behind a run that was killed.
fn end_at_last() {
    std::thread::spawn(|| {
        std::thread::sleep(END_TIMEOUT);
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    });
}

struct Conversation {
    host: Arc<EngineHost>,
    home: PathBuf,
}

impl Conversation {
    /// Answers calls until the parent hangs up.
    async fn run(self, control: StdUnixStream) -> io::Result<()> {
        let (reader, writer) = UnixStream::from_std(control)?.into_split();
        let mut calls = FramedRead::new(reader, LinesCodec::new_with_max_length(MAX_LINE_BYTES));
        let mut writer = FramedWrite::new(writer, LinesCodec::new_with_max_length(MAX_LINE_BYTES));
        let (answers, mut waiting) = mpsc::channel::<FromHost>(MAX_WAITING_ANSWERS);
        let mut pushes = self.host.pushes();
        let this = Arc::new(self);
        let mut at_work = JoinSet::new();
        let mut starting: HashMap<String, AbortHandle> = HashMap::new();
        loop {
            tokio::select! {
                // In this order: a push is told before the end of the engine that made it.
                biased;
                pushed = pushes.recv() => match pushed {
                    Ok(pushed) => {
                        let reference = pushed.name.familiar();
                        let message = FromHost::ImagePushed { reference, digest: pushed.digest.to_string() };
                        writer.send(serde_json::to_string(&message)?).await.map_err(io::Error::other)?;
                    }
                    Err(RecvError::Lagged(lost)) => tracing::warn!(lost, "pushes were not reported"),
                    Err(RecvError::Closed) => return Ok(()),
                },
                call = calls.next() => {
                    let Some(Ok(line)) = call else { return Ok(()) };
                    let Call { number, request } = serde_json::from_str(&line)?;
                    let starts = match &request {
                        Request::Acquire(order) => Some(order.name.clone()),
                        Request::Release { engine } => {
                            // Dropping a start ends what there is of the engine.
                            starting.remove(engine).inspect(AbortHandle::abort);
                            None
                        }
                        _ => None,
                    };
                    let (this, answers) = (Arc::clone(&this), answers.clone());
                    let task = at_work.spawn(async move {
                        let answer = this.answer(request).await;
                        let _ = answers.send(FromHost::Answer { number, answer }).await;
                    });
                    starting.extend(starts.map(|engine| (engine, task)));
                }
                Some(message) = waiting.recv() => {
                    let line = serde_json::to_string(&message)?;
                    writer.send(line).await.map_err(io::Error::other)?;
                }
                Some(_) = at_work.join_next(), if !at_work.is_empty() => {}
            }
        }
    }

    async fn answer(&self, request: Request) -> Answer {
        match request {
            Request::Acquire(order) => self.acquire(order).await,
            Request::Release { engine } => {
                self.host.remove_engine(&engine).await;
                Answer::Done
            }
            Request::Allow(grant) => {
                self.host.allow(registry_user(grant));
                Answer::Done
            }
            Request::ListenRegistry => match self.host.registry_address() {
                Some(address) => Answer::Registry { address: address.to_string() },
                None => Answer::Failed(Problem { message: "the registry does not listen".to_owned(), causes: Vec::new(), remedy: None }),
            },
        }
    }

    async fn acquire(&self, order: EngineOrder) -> Answer {
        let engine = order.name.clone();
        match self.host.create_engine(self.spec(order)).await {
            Ok(info) => {
                let endpoint = format!("unix://{}", info.socket.display());
                let no_network = info.no_network.map(|reason| Problem { remedy: Some(reason.remedy().to_owned()), ..Problem::of(&reason) });
                Answer::Engine { engine, endpoint, no_network }
            }
            Err(error) => Answer::Failed(Problem::of(&error)),
        }
    }

    fn spec(&self, order: EngineOrder) -> EngineSpec {
        let credentials = order.credentials.into_iter().map(|login| Credentials {
            username: login.username,
            password: login.password,
            server: login.host,
            ..Credentials::default()
        });
        EngineSpec {
            // Inside of the engine's own directory, which goes with it.
            socket_dir: self.home.join("jobs").join(&order.name).join("api"),
            id: order.name,
            // A job that runs outside uses the engine through the same socket as its runner, which makes nothing there.
            owner_apart: order.shared_paths.is_empty(),
            name: String::new(),
            scope: TrustScope { project: order.project, protected: order.protected },
            credentials: credentials.collect(),
            registry_user: order.registry.map(registry_user),
            shared_paths: order.shared_paths,
            // Root here is the user who runs the jobs.
            shared_owner: 0,
            egress: true,
            publish: PublishMode::Sandbox,
        }
    }
}

fn registry_user(grant: RegistryGrant) -> RegistryUser {
    RegistryUser { name: grant.username, password: grant.password, repository: grant.project, readable: Vec::new() }
}
