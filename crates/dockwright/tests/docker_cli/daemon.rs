//! A running `dockwright engine serve`, and docker clients that talk to it.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// Longest time that a state is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
const USER: &str = "dockwright-e2e";
/// Debian's client, and a newer one where the machine has it.
const CLIENTS: [&str; 2] = ["/usr/bin/docker", "/usr/local/bin/docker"];

/// Who runs the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Identity {
    Caller,
    OrdinaryUser,
}

/// Runs a check with every client, for every user, each user with an engine of its own.
pub(crate) fn each(test: &str, images: &[Image], check: impl Fn(&Docker<'_>)) {
    for identity in [Identity::Caller, Identity::OrdinaryUser] {
        let missing = images.iter().find_map(|image| image.missing()).or_else(|| identity.missing());
        if let Some(reason) = missing {
            dockwright_testing::skip(test, &format!("{identity:?}: {reason}"));
            continue;
        }
        let daemon = Daemon::start(identity, images);
        for image in images {
            // An engine begins without names; what they mean is in the store already.
            Docker { daemon: &daemon, client: CLIENTS[0] }.ok(&["pull", "-q", image.name()]);
        }
        for client in CLIENTS {
            if Path::new(client).is_file() {
                check(&Docker { daemon: &daemon, client });
            } else {
                dockwright_testing::skip(test, &format!("{client} is not installed"));
            }
        }
    }
}

/// Images that tests use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Image {
    Busybox,
    DockerClient,
}

impl Image {
    fn archive(self) -> PathBuf {
        let name = match self {
            Self::Busybox => "busybox.tar",
            Self::DockerClient => "docker-cli.tar",
        };
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/stand-ins").join(name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Busybox => "busybox:latest",
            Self::DockerClient => "docker:19.03.12",
        }
    }

    fn missing(self) -> Option<String> {
        let archive = self.archive();
        (!archive.is_file()).then(|| format!("{} is missing; run scripts/stand-in-images target/stand-ins", archive.display()))
    }
}

impl Identity {
    fn missing(self) -> Option<String> {
        use dockwright_testing::Requirement;
        let wanted: &[Requirement] = match self {
            Self::Caller => &[Requirement::UserNamespace],
            Self::OrdinaryUser => &[Requirement::UserNamespace, Requirement::Root, Requirement::Command("newuidmap")],
        };
        wanted.iter().copied().find_map(Requirement::missing)
    }
}

/// A running engine; the last one of a directory takes everything in it along.
struct Daemon {
    directory: Arc<TempDir>,
    identity: Identity,
    /// Below the directory.
    socket: &'static str,
    child: Child,
}

impl Daemon {
    fn start(identity: Identity, images: &[Image]) -> Self {
        let directory = tempfile::Builder::new().prefix("dockwright-cli-").tempdir().expect("temporary directory");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("mode of the directory");
        // An ordinary user may not be able to reach the build directory.
        // Copied by another process: a descriptor for writing that a child of a test beside this one inherits would make it "busy".
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_dockwright")).arg(directory.path().join("dockwright")).output();
        let copied = copied.expect("cp runs");
        assert!(copied.status.success(), "{}", text(&copied));
        for name in ["home", "shared"] {
            fs::create_dir(directory.path().join(name)).expect("directory");
        }
        if identity == Identity::OrdinaryUser {
            give_to_user(directory.path());
        }
        for image in images {
            // Through standard input: the archive may lie where an ordinary user cannot look.
            let archive = File::open(image.archive()).expect("stand-in archive");
            let imported = program(identity, directory.path()).args(["image", "import", image.name(), "-"]).stdin(archive).output();
            let imported = imported.expect("dockwright runs");
            assert!(imported.status.success(), "import {}: {}", image.name(), text(&imported));
        }
        Self::serve(Arc::new(directory), identity, "docker.sock")
    }

    /// Starts an engine at a prepared directory, where another one may run already.
    fn serve(directory: Arc<TempDir>, identity: Identity, socket: &'static str) -> Self {
        let mut child = program(identity, directory.path())
            .args(["engine", "serve", "--socket", socket, "--share", "shared"])
            .stdout(Stdio::piped())
            .stderr(File::create(directory.path().join("log")).expect("log file"))
            .spawn()
            .expect("dockwright runs");
        // It prints where it listens once it does.
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("the output can be read");
        let log = fs::read_to_string(directory.path().join("log")).unwrap_or_default();
        assert!(line.starts_with("DOCKER_HOST="), "{identity:?}: the engine did not start: {line}{log}");
        Self { directory, identity, socket, child }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The kernel ends everything inside with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program(identity: Identity, directory: &Path) -> Command {
    let binary = directory.join("dockwright");
    let mut command = if identity == Identity::OrdinaryUser {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", USER, "--regid", USER, "--init-groups", "--inh-caps=-all"]).arg(binary);
        command
    } else {
        Command::new(binary)
    };
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
        .env("HOME", directory)
        .env("DOCKWRIGHT_HOME", directory.join("home"))
        .current_dir(directory)
        .stdin(Stdio::null());
    command
}

/// Makes the ordinary user once, as `useradd -m` does, and gives the directory to it.
fn give_to_user(directory: &Path) {
    static IDS: OnceLock<(u32, u32)> = OnceLock::new();
    let (uid, gid) = *IDS.get_or_init(|| {
        let id = |flag: &str| {
            let output = Command::new("id").args([flag, USER]).output().expect("id runs");
            String::from_utf8_lossy(&output.stdout).trim().parse::<u32>().ok()
        };
        if id("-u").is_none() {
            let made = Command::new("useradd").args(["-m", "-s", "/bin/bash", USER]).output().expect("useradd runs");
            assert!(made.status.success(), "useradd: {}", text(&made));
        }
        id("-u").zip(id("-g")).expect("the user exists")
    });
    for path in [directory.to_owned(), directory.join("home"), directory.join("shared"), directory.join("dockwright")] {
        chown(&path, Some(uid), Some(gid)).expect("the caller is root");
    }
}

/// Standard output and error of a finished command.
fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A docker client.
pub(crate) struct Docker<'a> {
    daemon: &'a Daemon,
    client: &'static str,
}

impl Docker<'_> {
    /// A name that the other client does not use.
    pub(crate) fn name(&self, name: &str) -> String {
        let client = CLIENTS.iter().position(|client| *client == self.client).expect("one of the two");
        format!("{name}-{client}")
    }

    /// A directory that containers can mount from this machine.
    pub(crate) fn shared(&self) -> PathBuf {
        self.daemon.directory.path().join("shared")
    }

    /// Runs a check with a new engine at the same home: the store is the same, names are not.
    pub(crate) fn in_new_engine(&self, check: impl FnOnce(&Docker<'_>)) {
        let daemon = Daemon::serve(Arc::clone(&self.daemon.directory), self.daemon.identity, "another.sock");
        check(&Docker { daemon: &daemon, client: self.client });
    }

    /// A directory that no other test uses, for files of the client.
    pub(crate) fn directory(&self) -> &Path {
        self.daemon.directory.path()
    }

    /// `dockwright`, as whoever runs the engine.
    pub(crate) fn dockwright(&self) -> Command {
        program(self.daemon.identity, self.daemon.directory.path())
    }

    /// The command line of the client, for a shell.
    pub(crate) fn shell_words(&self) -> String {
        format!("{} -H unix://{}", self.client, self.daemon.directory.path().join(self.daemon.socket).display())
    }

    /// A docker command.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let socket = self.daemon.directory.path().join(self.daemon.socket);
        let mut command = Command::new(self.client);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.daemon.directory.path().join("client"))
            .env("DOCKER_HOST", format!("unix://{}", socket.display()))
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the client runs")
    }

    /// Runs a command that succeeds, and returns what it printed without the last line end.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{} {arguments:?}: {} {}", self.client, output.status, text(&output));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Runs a command that ends with a code, and returns what it printed on standard error.
    pub(crate) fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{} {arguments:?}: {}", self.client, text(&output));
        String::from_utf8_lossy(&output.stderr).trim_end().to_owned()
    }

    /// Runs a command with input, and returns what it printed.
    pub(crate) fn with_input(&self, arguments: &[&str], input: &[u8]) -> String {
        let mut child =
            self.command(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the client runs");
        child.stdin.take().expect("a pipe").write_all(input).expect("the client reads its input");
        let output = child.wait_with_output().expect("the client ends");
        assert!(output.status.success(), "{} {arguments:?}: {}", self.client, text(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a command again and again until its output satisfies the test.
    pub(crate) fn until(&self, arguments: &[&str], test: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = self.run(arguments);
            let printed = text(&output);
            if output.status.success() && test(&printed) {
                return printed;
            }
            assert!(Instant::now() < deadline, "{} {arguments:?} still prints {printed}", self.client);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
