//! What a container, and a process in it, is to be. Plain data: it travels over the spawner socket as JSON.
//!
//! Field names follow Docker's `HostConfig` where they mean the same. Paths called `target` are paths in the container; paths called
//! `source` are paths in the sandbox, as the engine sees them.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

/// One container: where its files come from, what surrounds it, and the process to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Unique in the sandbox; names the container in every later request and in its exit event. `[a-zA-Z0-9_.-]+`.
    pub id: String,
    /// The root directory.
    pub rootfs: Rootfs,
    /// Whether the root directory is mounted read-only.
    pub read_only_rootfs: bool,
    /// The process.
    pub process: ProcessSpec,
    /// `uname -n`; empty for the sandbox's own.
    pub hostname: String,
    /// `uname` domain name; empty for none.
    pub domainname: String,
    /// Mounts in order, after the default ones (`/proc`, `/dev`, `/sys`, `/dev/shm`, …).
    pub mounts: Vec<Mount>,
    /// Extra devices.
    pub devices: Vec<Device>,
    /// Kernel settings; only those that belong to one of the container's namespaces are accepted.
    pub sysctls: BTreeMap<String, String>,
    /// The network.
    pub network: NetworkMode,
    /// The pid namespace.
    pub pid: NamespaceMode,
    /// The ipc namespace.
    pub ipc: NamespaceMode,
    /// The uts namespace.
    pub uts: NamespaceMode,
    /// Size of `/dev/shm` in bytes; Docker's default is 64 MiB.
    pub shm_bytes: u64,
    /// Paths hidden from the container; `None` for Docker's default list, which does not apply to privileged containers.
    pub masked_paths: Option<Vec<String>>,
    /// Paths made read-only; `None` as above.
    pub read_only_paths: Option<Vec<String>>,
    /// Runs a reaper as PID 1 and the process as its child.
    pub init: bool,
    /// Limits.
    pub limits: Limits,
    /// Sockets to open in the container's network before its process starts; they come back in [`crate::spawner::Started`].
    pub sockets: Vec<SocketSpec>,
}

impl ContainerSpec {
    /// Returns a container of Docker's defaults: own namespaces, no network but loopback, 64 MiB of shared memory.
    pub fn new(id: impl Into<String>, rootfs: Rootfs, process: ProcessSpec) -> Self {
        Self {
            id: id.into(),
            rootfs,
            process,
            read_only_rootfs: false,
            hostname: String::new(),
            domainname: String::new(),
            mounts: Vec::new(),
            devices: Vec::new(),
            sysctls: BTreeMap::new(),
            network: NetworkMode::Own { interfaces: Vec::new() },
            pid: NamespaceMode::Private,
            ipc: NamespaceMode::Private,
            uts: NamespaceMode::Private,
            shm_bytes: 64 << 20,
            masked_paths: None,
            read_only_paths: None,
            init: false,
            limits: Limits::default(),
            sockets: Vec::new(),
        }
    }
}

/// Where the root directory comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rootfs {
    /// An overlay mounted before by [`crate::spawner::SpawnerClient::mount_rootfs`] under this name.
    Mounted(String),
    /// A directory of the sandbox.
    Directory(PathBuf),
}

/// An overlay of attached layers and a writable directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlaySpec {
    /// Names it for [`Rootfs::Mounted`]; `[a-zA-Z0-9_.-]+`.
    pub name: String,
    /// Names given to [`crate::spawner::SpawnerClient::attach_layer`], the topmost first. May be empty (`FROM scratch`).
    pub layers: Vec<String>,
    /// The writable directory below `/var/lib/docker`; made if missing.
    pub upper: PathBuf,
    /// Overlayfs's work directory on the same file system; made if missing.
    pub work: PathBuf,
}

/// A process: the container's own, or one that joins it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Command and arguments. A command without a slash is looked up in the `PATH` of `env`, in the container.
    pub args: Vec<String>,
    /// `NAME=value`. `HOME` is added from the container's passwd file when missing.
    pub env: Vec<String>,
    /// Working directory; made if missing. Empty for `/`.
    pub cwd: String,
    /// `user`, `uid`, `user:group`, `uid:gid`, …, resolved in the container's files. Empty for root.
    pub user: String,
    /// Further groups (names or numbers).
    pub additional_groups: Vec<String>,
    /// Capabilities.
    pub capabilities: Capabilities,
    /// The system call filter.
    pub seccomp: Seccomp,
    /// Whether set-uid programs gain nothing.
    pub no_new_privileges: bool,
    /// Resource limits; those above what the sandbox has are lowered to it.
    pub rlimits: Vec<Rlimit>,
    /// Runs on a terminal, whose other end comes back in [`crate::spawner::Started`].
    pub terminal: Option<TerminalSize>,
    /// `oom_score_adj`; raised silently to what the sandbox may set.
    pub oom_score_adj: Option<i32>,
}

impl ProcessSpec {
    /// Returns a process of Docker's defaults: root, default capabilities and filter, in `/`.
    pub fn new(args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            args: args.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            cwd: String::new(),
            user: String::new(),
            additional_groups: Vec::new(),
            capabilities: Capabilities::default(),
            seccomp: Seccomp::Default,
            no_new_privileges: false,
            rlimits: Vec::new(),
            terminal: None,
            oom_score_adj: None,
        }
    }
}

/// A process that joins a running container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExecSpec {
    /// Unique among containers and processes of the sandbox; names the process in signals and in its exit event.
    pub id: String,
    /// The container to join.
    pub container: String,
    /// The process.
    pub process: ProcessSpec,
}

/// Which capabilities a process has, relative to Docker's default fourteen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// All capabilities, no filter, no masked paths. Only those of the sandbox's user namespace: never power over the host.
    pub privileged: bool,
    /// Names with or without `CAP_`, any case, or `ALL`.
    pub add: Vec<String>,
    /// The same.
    pub drop: Vec<String>,
}

/// The system call filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// Docker's default profile, as it applies to the process's capabilities.
    Default,
    /// No filter.
    Unconfined,
}

/// One resource limit, named as `ulimit` options of Docker are (`nofile`, `nproc`, …).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// Name.
    pub name: String,
    /// Soft limit; -1 is unlimited.
    pub soft: i64,
    /// Hard limit; -1 is unlimited.
    pub hard: i64,
}

/// Size of a terminal in characters; zero for unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// One mount in the container. The target is made if missing, and never resolved outside the container's root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path in the container.
    pub target: PathBuf,
    /// What is mounted.
    pub source: MountSource,
    /// Read-only, with everything below it.
    pub read_only: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A file or directory of the sandbox, with everything mounted below it.
    Path(PathBuf),
    /// A detached mount, by its position among the descriptors of the request.
    Descriptor(usize),
    /// A new tmpfs.
    Tmpfs {
        /// Docker's options: `size=…`, `mode=…`, `uid=…`, `gid=…`, `exec`, `noexec`, `suid`, `nosuid`, `dev`, `nodev`, `ro`, `rw`, …
        options: Vec<String>,
    },
}

/// A device of the sandbox shown in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Path in the sandbox.
    pub source: PathBuf,
    /// Path in the container.
    pub target: PathBuf,
}

/// The container's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkMode {
    /// An own namespace with loopback and these interfaces; without any it is Docker's `none`.
    Own {
        /// The interfaces, the one with the default route first.
        interfaces: Vec<Interface>,
    },
    /// The sandbox's own: Docker's `host`.
    Sandbox,
    /// The namespace of another running container.
    Container(String),
}

/// One end of a veth pair, the other being a port of a bridge of the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// The bridge, which exists (see [network]).
    pub bridge: String,
    /// The name in the container (`eth0`).
    pub name: String,
    /// Name of the bridge's port; at most 15 bytes, unique in the sandbox.
    pub port: String,
    /// Addresses with their prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Gateways of the default routes, at most one per family.
    pub gateways: Vec<IpAddr>,
    /// Hardware address.
    pub mac: Option<[u8; 6]>,
    /// Packet size limit; the kernel's default otherwise.
    pub mtu: Option<u32>,
}

/// Whose namespace a container has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamespaceMode {
    /// An own one.
    Private,
    /// The sandbox's: Docker's `host`.
    Sandbox,
    /// That of another running container.
    Container(String),
}

/// Limits of a container; `None` for no limit of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Memory and swap together in bytes.
    pub memory_and_swap_bytes: Option<u64>,
    /// Processor time in units of 1e-9 processors (Docker's `NanoCpus`).
    pub nano_cpus: Option<u64>,
    /// Relative weight (Docker's `CpuShares`, 1024 being normal).
    pub cpu_shares: Option<u64>,
    /// Processors, as `0-2,4`.
    pub cpuset_cpus: Option<String>,
    /// Number of processes and threads.
    pub pids: Option<u64>,
}

/// A socket opened in a container's network namespace on behalf of the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketSpec {
    /// Protocol.
    pub protocol: SocketProtocol,
    /// Address to bind.
    pub address: IpAddr,
    /// Port to bind; 0 for any.
    pub port: u16,
}

/// Protocol of a [`SocketSpec`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SocketProtocol {
    /// A bound, listening TCP socket.
    TcpListener,
    /// A bound UDP socket.
    Udp,
}
