//! Messages of the spawner protocol.

use std::{os::fd::OwnedFd, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::process::{ContainerSpec, ExecSpec, Interface, Limits, OverlaySpec, SocketSpec};

/// A request of the engine. Descriptors travel beside it; who uses which is said per variant.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// One descriptor: the layer's detached mount.
    AttachLayer {
        name: String,
    },
    DetachLayer {
        name: String,
    },
    /// One descriptor: a detached mount.
    AttachMount {
        path: PathBuf,
    },
    DetachMount {
        path: PathBuf,
    },
    MountRootfs {
        overlay: OverlaySpec,
    },
    UnmountRootfs {
        name: String,
    },
    /// Answers with one descriptor.
    OpenRootfs {
        name: String,
    },
    /// Answers with one descriptor.
    OpenRoot {
        container: String,
    },
    /// Answers with one descriptor.
    CloneTree {
        tree: TreeRequest,
    },
    /// Three descriptors of standard streams unless on a terminal, then those of the mounts.
    Start {
        spec: Box<ContainerSpec>,
    },
    /// Three descriptors of standard streams unless on a terminal.
    Exec {
        spec: Box<ExecSpec>,
    },
    Signal {
        id: String,
        signal: i32,
        all: bool,
    },
    Freeze {
        container: String,
        frozen: bool,
    },
    Update {
        container: String,
        limits: Limits,
    },
    Usage {
        container: String,
    },
    Processes {
        container: String,
    },
    ContainerOf {
        pid: u32,
    },
    Connect {
        container: String,
        interface: Interface,
    },
    Disconnect {
        container: String,
        interface: String,
    },
    /// Answers with one descriptor for each socket.
    OpenSockets {
        container: String,
        sockets: Vec<SocketSpec>,
    },
}

/// Which tree to clone into a detached mount.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TreeRequest {
    /// In whose root; `None` for the sandbox's own.
    pub container: Option<String>,
    pub path: PathBuf,
    /// Makes a directory where nothing is, as Docker does for `-v`.
    pub create: bool,
}

/// A request with its number.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Message {
    pub number: u64,
    pub request: Request,
}

/// What PID 1 says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Response {
    Answer { number: u64, answer: Result<Answer, Failure> },
    Exit(ExitEvent),
}

/// The payload of a successful answer; descriptors travel beside it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done,
    /// With the terminal's descriptor first, if one was asked for, then the sockets'.
    Started {
        pid: u32,
        terminal: bool,
    },
    Container(Option<String>),
    Usage(Usage),
    Processes(Vec<ProcessInfo>),
}

/// A refusal or failure, as text that the Docker API may show.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub kind: ErrorKind,
    pub message: String,
}

/// What kind of failure it was; the engine maps it to an HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorKind {
    /// No such container, layer, path.
    NotFound,
    /// The container is not in a state for this, or the name is taken.
    Conflict,
    /// The specification asks for something that cannot be.
    Invalid,
    /// The process could not be executed (no such command, not executable); the message is Docker's.
    Exec,
    /// A system call failed.
    System,
}

/// A process that was started.
#[derive(Debug)]
pub struct Started {
    /// Process id in the sandbox.
    pub pid: u32,
    /// The engine's end of the terminal, if the specification asked for one.
    pub terminal: Option<OwnedFd>,
    /// The sockets of the specification, in its order.
    pub sockets: Vec<OwnedFd>,
}

/// The end of a process that was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitEvent {
    /// The id of its specification.
    pub id: String,
    /// Process id in the sandbox, already reaped.
    pub pid: u32,
    /// How it ended.
    pub status: ExitStatus,
    /// Whether the kernel killed a process of the container for want of memory.
    pub oom_killed: bool,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl ExitStatus {
    /// Returns Docker's exit code: the code, or 128 and the signal.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// What a container uses; zero where the host's cgroups do not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time in nanoseconds.
    pub cpu_ns: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Memory limit in bytes; 0 for none.
    pub memory_limit_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
}

/// A process of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Process id in the sandbox.
    pub pid: u32,
    /// Parent's process id in the sandbox.
    pub parent: u32,
    /// User id in the sandbox.
    pub uid: u32,
    /// Processor time in clock ticks (hundredths of a second).
    pub cpu_ticks: u64,
    /// Start in clock ticks after boot.
    pub started_ticks: u64,
    /// Controlling terminal's device number; 0 for none.
    pub terminal: u32,
    /// Command line.
    pub command: String,
}
