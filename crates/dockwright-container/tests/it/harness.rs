//! A sandbox that the test drives: its engine hands its spawner connection over.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::symlink,
    },
    path::{Path, PathBuf},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, channel},
    },
    thread,
};

use dockwright_container::{
    process::{ContainerSpec, ExecSpec, Limits, OverlaySpec, ProcessSpec, Rootfs},
    sandbox::{IdMapping, RANGE_IDS, Sandbox, SandboxSpec, SharedPath},
    socket,
    spawner::{ExitEvent, SpawnerClient, SpawnerError, Started, Stdio},
};

/// Returns the probe's path.
pub(crate) fn probe() -> PathBuf {
    let test = std::env::current_exe().expect("the test's path");
    let probe = test.parent().and_then(Path::parent).expect("target/*/debug/deps").join("examples/probe");
    assert!(probe.exists(), "`{}` is missing; `cargo test` builds it", probe.display());
    probe
}

/// Returns a layer with busybox, made once.
pub(crate) fn busybox_layer() -> &'static Path {
    static LAYER: OnceLock<PathBuf> = OnceLock::new();
    LAYER.get_or_init(|| {
        let layer = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("busybox-{}", std::process::id()));
        make_busybox_root(&layer);
        layer
    })
}

/// Makes a root directory with busybox and a few users.
pub(crate) fn make_busybox_root(root: &Path) {
    for directory in ["bin", "etc", "tmp", "var", "run", "proc", "sys", "dev"] {
        fs::create_dir_all(root.join(directory)).expect("make the root");
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
    let commands = "sh true false cat id ls echo sleep mount umount rm ps kill ping nc wc grep hostname pwd touch chmod mkdir stat readlink stty \
                    dd unshare ip df test env mknod ln sync nproc head tr printf setsid chroot seq chown cut uname";
    for command in commands.split_whitespace() {
        // Made by an earlier call for the same directory.
        let _ = symlink("busybox", root.join("bin").join(command));
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n").expect("write passwd");
    fs::write(root.join("etc/group"), "root:x:0:\napp:x:1000:\nextra:x:44:app\n").expect("write group");
}

/// A sandbox and the connection to its PID 1.
pub(crate) struct Engine {
    pub(crate) sandbox: Sandbox,
    pub(crate) client: SpawnerClient,
    exits: Mutex<Exits>,
    pub(crate) relay: Mutex<(BufReader<fs::File>, fs::File)>,
    pub(crate) scratch: tempfile::TempDir,
    /// The host's id of the sandbox's root.
    pub(crate) first_id: u32,
}

struct Exits {
    receiver: Receiver<ExitEvent>,
    arrived: HashMap<String, ExitEvent>,
}

/// What a container or process did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Engine {
    pub(crate) fn start() -> Self {
        Self::with(Vec::new(), Limits::default())
    }

    pub(crate) fn with(shared: Vec<SharedPath>, limits: Limits) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a scratch directory");
        let (ours, theirs) = socket::pair().expect("a socket pair");
        let first_id = (1 << 24) + number * RANGE_IDS;
        let spec = SandboxSpec {
            id: format!("test-{number}"),
            binary: fs::File::open(probe()).expect("the probe").into(),
            sandbox_arguments: vec!["internal".into(), "sandbox".into()],
            ids: IdMapping::Range { first: first_id },
            hostname: "sandbox".to_owned(),
            scratch: scratch.path().to_owned(),
            shared,
            resolv_conf: "nameserver 10.0.2.3\n".to_owned(),
            engine_arguments: vec!["internal".into(), "relay".into()],
            engine_environment: Vec::new(),
            descriptors: vec![("test".to_owned(), theirs)],
            log: Some(std::io::stderr().as_fd().try_clone_to_owned().expect("copy standard error")),
            limits,
        };
        let sandbox = Sandbox::spawn(spec).unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)));
        let (_, mut descriptors) = socket::recv_with_fds(&ours, 100).expect("the relay sends its connection");
        let (sender, receiver) = channel();
        // When the test is over, nobody listens any more.
        let client = SpawnerClient::new(descriptors.remove(0), move |event| drop(sender.send(event))).expect("a thread");
        let relay = fs::File::from(ours);
        let relay = Mutex::new((BufReader::new(relay.try_clone().expect("copy the socket")), relay));
        Self { sandbox, client, exits: Mutex::new(Exits { receiver, arrived: HashMap::new() }), relay, scratch, first_id }
    }

    /// Gives what the test made in the scratch directory to the sandbox's root.
    pub(crate) fn give(&self, path: &Path) {
        let owner = format!("{0}:{0}", self.first_id);
        let given = std::process::Command::new("chown").args(["-hR", &owner]).arg(path).status().expect("chown");
        assert!(given.success());
    }

    /// Asks the relay to do something in the sandbox; returns its answer.
    pub(crate) fn relay(&self, request: &str) -> Result<String, String> {
        let mut relay = self.relay.lock().expect("no test panics meanwhile");
        writeln!(relay.1, "{request}").expect("the relay listens");
        let mut line = String::new();
        relay.0.read_line(&mut line).expect("the relay answers");
        line.strip_prefix("ok").map(|answer| answer.trim().to_owned()).ok_or(line.clone())
    }

    /// Mounts busybox below a fresh upper directory and returns it as a root.
    pub(crate) fn rootfs(&self, name: &str) -> Rootfs {
        let layers = self.sandbox.mounts().layer_mounts(&[busybox_layer()]).expect("mount the layer");
        self.client.attach_layer("busybox", &layers[0]).expect("attach the layer");
        let overlay = OverlaySpec {
            name: name.to_owned(),
            layers: vec!["busybox".to_owned()],
            upper: format!("/var/lib/docker/{name}/upper").into(),
            work: format!("/var/lib/docker/{name}/work").into(),
        };
        self.client.mount_rootfs(&overlay).expect("mount the overlay");
        Rootfs::Mounted(name.to_owned())
    }

    /// Returns a container that runs a shell script.
    pub(crate) fn shell(&self, name: &str, script: &str) -> ContainerSpec {
        ContainerSpec::new(name, self.rootfs(name), ProcessSpec::new(["/bin/sh", "-c", script]))
    }

    /// Runs a container to its end.
    pub(crate) fn run(&self, spec: &ContainerSpec) -> Result<Output, SpawnerError> {
        let (output, started) = Streams::capture(self.first_id, |stdio| self.client.start(spec, Some(stdio), &[]));
        started?;
        Ok(output.finish(self.wait(&spec.id)))
    }

    /// Runs a process in a container to its end.
    pub(crate) fn exec(&self, container: &str, process: ProcessSpec) -> Result<Output, SpawnerError> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let id = format!("exec-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let spec = ExecSpec { id: id.clone(), container: container.to_owned(), process };
        let (output, started) = Streams::capture(self.first_id, |stdio| self.client.exec(&spec, Some(stdio)));
        started?;
        Ok(output.finish(self.wait(&id)))
    }

    /// Runs a script in a new container and returns what it printed.
    pub(crate) fn script(&self, name: &str, script: &str) -> Output {
        self.run(&self.shell(name, script)).expect("the container starts")
    }

    /// Starts a container that runs until it is killed.
    pub(crate) fn background(&self, spec: &ContainerSpec) -> Started {
        let null = fs::File::options().read(true).write(true).open("/dev/null").expect("/dev/null");
        let stdio = Stdio { stdin: null.as_fd(), stdout: null.as_fd(), stderr: null.as_fd() };
        self.client.start(spec, Some(stdio), &[]).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn wait(&self, id: &str) -> ExitEvent {
        let mut exits = self.exits.lock().expect("no test panics meanwhile");
        loop {
            if let Some(event) = exits.arrived.remove(id) {
                return event;
            }
            let event = exits.receiver.recv().expect("the sandbox lives");
            exits.arrived.insert(event.id.clone(), event);
        }
    }
}

/// Output on its way.
struct Streams {
    stdout: thread::JoinHandle<String>,
    stderr: thread::JoinHandle<String>,
}

impl Streams {
    fn capture<T>(owner: u32, start: impl FnOnce(Stdio<'_>) -> T) -> (Self, T) {
        let null = fs::File::open("/dev/null").expect("/dev/null");
        let (stdout, stdout_end) = std::io::pipe().expect("a pipe");
        let (stderr, stderr_end) = std::io::pipe().expect("a pipe");
        // As an engine's pipes would be: made by the sandbox's root.
        for pipe in [&stdout_end, &stderr_end] {
            std::os::unix::fs::fchown(pipe, Some(owner), Some(owner)).expect("give the pipe away");
        }
        let read = |mut pipe: std::io::PipeReader| {
            thread::spawn(move || {
                let mut bytes = Vec::new();
                pipe.read_to_end(&mut bytes).expect("read output");
                String::from_utf8_lossy(&bytes).into_owned()
            })
        };
        let streams = Self { stdout: read(stdout), stderr: read(stderr) };
        let started = start(Stdio { stdin: null.as_fd(), stdout: stdout_end.as_fd(), stderr: stderr_end.as_fd() });
        (streams, started)
    }

    fn finish(self, event: ExitEvent) -> Output {
        let text = |thread: thread::JoinHandle<String>| thread.join().expect("the reader does not panic");
        Output { code: event.status.code(), stdout: text(self.stdout), stderr: text(self.stderr) }
    }
}

/// Reads a descriptor that was opened with `O_PATH` as a directory: the names in it.
pub(crate) fn names(directory: &OwnedFd) -> Vec<String> {
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(directory));
    let entries = fs::read_dir(path).expect("a directory");
    let mut names: Vec<String> = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Waits until something is so; a test that waits in vain is ended by its runner, not by a clock here.
pub(crate) fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        thread::yield_now();
    }
}
