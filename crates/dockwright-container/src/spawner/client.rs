//! The engine's end of the spawner protocol.
//!
//! Requests block for the answer (a start takes a few milliseconds, everything else far less) and may be made from many threads at once.
//! One thread reads: it hands answers to whoever waits and exits to a callback. When the connection ends, so does the sandbox.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Sender, channel},
    },
    thread,
};

use super::{Answer, ErrorKind, ExitEvent, Failure, Message, ProcessInfo, Request, Response, Started, TreeRequest, Usage};
use crate::{
    process::{ContainerSpec, ExecSpec, Interface, Limits, OverlaySpec, SocketSpec},
    socket::{MAX_MESSAGE_BYTES, SocketError, recv_with_fds, send_with_fds},
};

/// A request that was not done.
#[derive(Debug, thiserror::Error)]
pub enum SpawnerError {
    /// PID 1 refused it or failed; the text is fit for the Docker API.
    #[error("{message}")]
    Failed {
        /// What kind of failure.
        kind: ErrorKind,
        /// What happened, in Docker's words where Docker has some.
        message: String,
    },
    /// The sandbox is gone.
    #[error("the sandbox ended")]
    Ended,
    /// The request could not be sent.
    #[error("send a request to the sandbox")]
    Send(#[source] SocketError),
    /// The answer does not fit the request.
    #[error("the sandbox gave an answer that does not fit the request")]
    Unexpected,
}

impl SpawnerError {
    /// Returns the kind of failure; [`ErrorKind::System`] where PID 1 gave none.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Failed { kind, .. } => *kind,
            _ => ErrorKind::System,
        }
    }
}

/// Standard streams of a process that is not on a terminal.
#[derive(Debug, Clone, Copy)]
pub struct Stdio<'fd> {
    /// Standard input.
    pub stdin: BorrowedFd<'fd>,
    /// Standard output.
    pub stdout: BorrowedFd<'fd>,
    /// Standard error.
    pub stderr: BorrowedFd<'fd>,
}

type Reply = (Result<Answer, Failure>, Vec<OwnedFd>);

#[derive(Default)]
struct Pending {
    next: u64,
    waiting: HashMap<u64, Sender<Reply>>,
    ended: bool,
}

/// A connection to PID 1. Cloning shares it.
#[derive(Clone)]
pub struct SpawnerClient {
    shared: Arc<Shared>,
}

struct Shared {
    /// Held while a message is written, so that messages of several threads do not mix.
    socket: Mutex<OwnedFd>,
    pending: Mutex<Pending>,
}

impl SpawnerClient {
    /// Starts using a connection, which is normally [`crate::sandbox::inherited`]'s `spawner`. `on_exit` runs on the reading thread.
    pub fn new(socket: OwnedFd, mut on_exit: impl FnMut(ExitEvent) + Send + 'static) -> io::Result<Self> {
        let reader = socket.try_clone()?;
        let shared = Arc::new(Shared { socket: Mutex::new(socket), pending: Mutex::default() });
        let client = Self { shared: Arc::clone(&shared) };
        thread::Builder::new().name("spawner".to_owned()).spawn(move || {
            read(&reader, &shared, &mut on_exit);
            let mut pending = shared.pending.lock().unwrap_or_else(PoisonError::into_inner);
            pending.ended = true;
            pending.waiting.clear();
        })?;
        Ok(client)
    }

    /// Mounts a layer's detached mount (from the broker) under a name. A name that is already attached is kept as it is.
    pub fn attach_layer(&self, name: &str, mount: impl AsFd) -> Result<(), SpawnerError> {
        self.done(Request::AttachLayer { name: name.to_owned() }, &[mount.as_fd()])
    }

    /// Unmounts a layer. Overlays that use it keep it.
    pub fn detach_layer(&self, name: &str) -> Result<(), SpawnerError> {
        self.done(Request::DetachLayer { name: name.to_owned() }, &[])
    }

    /// Mounts a detached mount at a path of the sandbox, which is made if missing.
    pub fn attach_mount(&self, path: &Path, mount: impl AsFd) -> Result<(), SpawnerError> {
        self.done(Request::AttachMount { path: path.to_owned() }, &[mount.as_fd()])
    }

    /// Unmounts what [`Self::attach_mount`] mounted.
    pub fn detach_mount(&self, path: &Path) -> Result<(), SpawnerError> {
        self.done(Request::DetachMount { path: path.to_owned() }, &[])
    }

    /// Mounts an overlay; containers of [`crate::process::Rootfs::Mounted`] use it until it is unmounted.
    pub fn mount_rootfs(&self, overlay: &OverlaySpec) -> Result<(), SpawnerError> {
        self.done(Request::MountRootfs { overlay: overlay.clone() }, &[])
    }

    /// Unmounts an overlay.
    pub fn unmount_rootfs(&self, name: &str) -> Result<(), SpawnerError> {
        self.done(Request::UnmountRootfs { name: name.to_owned() }, &[])
    }

    /// Opens the root directory of a mounted overlay, for files of a container that does not run. Resolve below it with `openat2` and
    /// `RESOLVE_IN_ROOT`, nothing else: its links are the container's.
    pub fn open_rootfs(&self, name: &str) -> Result<OwnedFd, SpawnerError> {
        self.descriptor(Request::OpenRootfs { name: name.to_owned() })
    }

    /// Opens the root directory of a running container, with what is mounted in it. Resolve below it as in [`Self::open_rootfs`].
    pub fn open_root(&self, container: &str) -> Result<OwnedFd, SpawnerError> {
        self.descriptor(Request::OpenRoot { container: container.to_owned() })
    }

    /// Clones what is at a path, mounts below it included, into a detached mount: the source of a bind mount, as seen by `container`
    /// (running) or by the sandbox itself (`None`). With `create`, a missing source becomes a directory.
    pub fn clone_tree(&self, container: Option<&str>, path: &Path, create: bool) -> Result<OwnedFd, SpawnerError> {
        let tree = TreeRequest { container: container.map(str::to_owned), path: path.to_owned(), create };
        self.descriptor(Request::CloneTree { tree })
    }

    /// Starts a container. `stdio` is used unless its process is on a terminal; `mounts` are the descriptors that
    /// [`crate::process::MountSource::Descriptor`] counts. Returns when the process was executed.
    pub fn start(&self, spec: &ContainerSpec, stdio: Option<Stdio<'_>>, mounts: &[BorrowedFd<'_>]) -> Result<Started, SpawnerError> {
        let descriptors = [&streams(stdio)[..], mounts].concat();
        self.started(Request::Start { spec: Box::new(spec.clone()) }, &descriptors)
    }

    /// Starts a process in a running container. Returns when it was executed.
    pub fn exec(&self, spec: &ExecSpec, stdio: Option<Stdio<'_>>) -> Result<Started, SpawnerError> {
        self.started(Request::Exec { spec: Box::new(spec.clone()) }, &streams(stdio))
    }

    /// Sends a signal to a container's first process or to an executed process, by the id of its specification.
    pub fn signal(&self, id: &str, signal: i32) -> Result<(), SpawnerError> {
        self.done(Request::Signal { id: id.to_owned(), signal, all: false }, &[])
    }

    /// Sends a signal to every process of a container.
    pub fn signal_all(&self, container: &str, signal: i32) -> Result<(), SpawnerError> {
        self.done(Request::Signal { id: container.to_owned(), signal, all: true }, &[])
    }

    /// Freezes every process of a container.
    pub fn pause(&self, container: &str) -> Result<(), SpawnerError> {
        self.done(Request::Freeze { container: container.to_owned(), frozen: true }, &[])
    }

    /// Lets a frozen container go on.
    pub fn unpause(&self, container: &str) -> Result<(), SpawnerError> {
        self.done(Request::Freeze { container: container.to_owned(), frozen: false }, &[])
    }

    /// Changes limits of a running container; those that are `None` stay.
    pub fn update(&self, container: &str, limits: &Limits) -> Result<(), SpawnerError> {
        self.done(Request::Update { container: container.to_owned(), limits: limits.clone() }, &[])
    }

    /// Returns what a running container uses.
    pub fn usage(&self, container: &str) -> Result<Usage, SpawnerError> {
        match self.request(Request::Usage { container: container.to_owned() }, &[])? {
            (Answer::Usage(usage), _) => Ok(usage),
            _ => Err(SpawnerError::Unexpected),
        }
    }

    /// Returns the processes of a running container.
    pub fn processes(&self, container: &str) -> Result<Vec<ProcessInfo>, SpawnerError> {
        match self.request(Request::Processes { container: container.to_owned() }, &[])? {
            (Answer::Processes(processes), _) => Ok(processes),
            _ => Err(SpawnerError::Unexpected),
        }
    }

    /// Returns the container that a process of the sandbox belongs to. The pid is as the engine sees it, for example from the peer
    /// credentials of a unix socket; 0 (a peer outside the sandbox) belongs to none.
    pub fn container_of(&self, pid: u32) -> Result<Option<String>, SpawnerError> {
        match self.request(Request::ContainerOf { pid }, &[])? {
            (Answer::Container(id), _) => Ok(id),
            _ => Err(SpawnerError::Unexpected),
        }
    }

    /// Adds an interface to a running container with an own network.
    pub fn connect(&self, container: &str, interface: &Interface) -> Result<(), SpawnerError> {
        self.done(Request::Connect { container: container.to_owned(), interface: interface.clone() }, &[])
    }

    /// Removes an interface of a running container, by its name in the container.
    pub fn disconnect(&self, container: &str, interface: &str) -> Result<(), SpawnerError> {
        self.done(Request::Disconnect { container: container.to_owned(), interface: interface.to_owned() }, &[])
    }

    /// Opens sockets in a running container's network.
    pub fn open_sockets(&self, container: &str, sockets: &[SocketSpec]) -> Result<Vec<OwnedFd>, SpawnerError> {
        let request = Request::OpenSockets { container: container.to_owned(), sockets: sockets.to_vec() };
        match self.request(request, &[])? {
            (Answer::Done, opened) if opened.len() == sockets.len() => Ok(opened),
            _ => Err(SpawnerError::Unexpected),
        }
    }

    fn started(&self, request: Request, descriptors: &[BorrowedFd<'_>]) -> Result<Started, SpawnerError> {
        match self.request(request, descriptors)? {
            (Answer::Started { pid, terminal }, arrived) => {
                let mut arrived = arrived.into_iter();
                let terminal = if terminal { Some(arrived.next().ok_or(SpawnerError::Unexpected)?) } else { None };
                Ok(Started { pid, terminal, sockets: arrived.collect() })
            }
            _ => Err(SpawnerError::Unexpected),
        }
    }

    fn descriptor(&self, request: Request) -> Result<OwnedFd, SpawnerError> {
        let (_, mut arrived) = self.request(request, &[])?;
        arrived.pop().ok_or(SpawnerError::Unexpected)
    }

    fn done(&self, request: Request, descriptors: &[BorrowedFd<'_>]) -> Result<(), SpawnerError> {
        self.request(request, descriptors).map(drop)
    }

    fn request(&self, request: Request, descriptors: &[BorrowedFd<'_>]) -> Result<(Answer, Vec<OwnedFd>), SpawnerError> {
        let (sender, receiver) = channel();
        let number = {
            let mut pending = self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner);
            if pending.ended {
                return Err(SpawnerError::Ended);
            }
            pending.next += 1;
            let number = pending.next;
            pending.waiting.insert(number, sender);
            number
        };
        let body = serde_json::to_vec(&Message { number, request }).expect("requests hold only what JSON can say");
        let sent = {
            let socket = self.shared.socket.lock().unwrap_or_else(PoisonError::into_inner);
            send_with_fds(&*socket, &body, descriptors)
        };
        if let Err(error) = sent {
            self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner).waiting.remove(&number);
            return Err(SpawnerError::Send(error));
        }
        let (answer, arrived) = receiver.recv().map_err(|_| SpawnerError::Ended)?;
        match answer {
            Ok(answer) => Ok((answer, arrived)),
            Err(Failure { kind, message }) => Err(SpawnerError::Failed { kind, message }),
        }
    }
}

fn streams(stdio: Option<Stdio<'_>>) -> Vec<BorrowedFd<'_>> {
    stdio.map(|stdio| vec![stdio.stdin, stdio.stdout, stdio.stderr]).unwrap_or_default()
}

fn read(socket: &OwnedFd, shared: &Shared, on_exit: &mut dyn FnMut(ExitEvent)) {
    while let Ok((body, descriptors)) = recv_with_fds(socket, MAX_MESSAGE_BYTES) {
        match serde_json::from_slice(&body) {
            Ok(Response::Exit(event)) => on_exit(event),
            Ok(Response::Answer { number, answer }) => {
                let waiting = shared.pending.lock().unwrap_or_else(PoisonError::into_inner).waiting.remove(&number);
                // Who asked may have gone; then nobody misses the answer.
                let _ = waiting.map(|sender| sender.send((answer, descriptors)));
            }
            // PID 1 is the same binary; a message it cannot have written means the connection is useless.
            Err(_) => return,
        }
    }
}
