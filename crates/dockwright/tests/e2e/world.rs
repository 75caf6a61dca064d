//! A machine as a user finds it: a home for Dockwright with the stand-in images in it, and repositories to run.

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Mutex, OnceLock},
};

use tempfile::TempDir;

/// Who runs Dockwright.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Identity {
    /// Whoever runs the tests.
    Caller,
    /// An ordinary user made with `useradd -m`, with the sub-ids it was given.
    OrdinaryUser,
}

/// Which docker client the image `docker:19.03.12` (and the PATH of shell jobs) holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    /// Debian's 20.10.
    Debian,
    /// A static client 28 or later, where the machine has one.
    Newer,
}

const USER: &str = "dockwright-e2e";
const NEWER_CLIENT: &str = "/usr/local/bin/docker";

/// A prepared home; dropped with everything in it.
pub(crate) struct World {
    directory: TempDir,
    identity: Identity,
    client: Client,
}

/// Returns the world of an identity and a client, made once per test process, or `None` after saying why there is none.
pub(crate) fn world(test: &str, identity: Identity, client: Client) -> Option<&'static World> {
    static WORLDS: OnceLock<Mutex<Vec<&'static World>>> = OnceLock::new();
    if let Some(reason) = missing(identity, client) {
        dockwright_testing::skip(test, &reason);
        return None;
    }
    let mut worlds = WORLDS.get_or_init(Mutex::default).lock().expect("no test panics while making a world");
    if let Some(world) = worlds.iter().find(|world| world.identity == identity && world.client == client) {
        return Some(world);
    }
    let world: &'static World = Box::leak(Box::new(World::separate(identity, client)));
    worlds.push(world);
    Some(world)
}

fn stand_ins() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/stand-ins")
}

fn missing(identity: Identity, client: Client) -> Option<String> {
    if let Some(reason) = dockwright_testing::Requirement::UserNamespace.missing() {
        return Some(reason);
    }
    if identity == Identity::OrdinaryUser {
        let requirements = [dockwright_testing::Requirement::Root, dockwright_testing::Requirement::Command("newuidmap")];
        if let Some(reason) = requirements.into_iter().find_map(dockwright_testing::Requirement::missing) {
            return Some(format!("an ordinary user cannot be made: {reason}"));
        }
    }
    let archive = match client {
        Client::Debian => "docker-cli.tar",
        Client::Newer => "docker-cli-28.tar",
    };
    let archive = stand_ins().join(archive);
    (!archive.is_file()).then(|| format!("{} is missing; run scripts/stand-in-images target/stand-ins", archive.display()))
}

/// Makes the ordinary user when it is not there, and sees that it has sub-ids, as `useradd -m` gives them on a Debian machine.
fn ensure_user() {
    let exists = Command::new("id").arg(USER).output().expect("id runs").status.success();
    if !exists {
        run_checked(Command::new("useradd").args(["-m", "-s", "/bin/bash", USER]));
    }
    let has_sub_ids = fs::read_to_string("/etc/subuid").is_ok_and(|text| text.lines().any(|line| line.starts_with(&format!("{USER}:"))));
    if !has_sub_ids {
        run_checked(Command::new("usermod").args(["--add-subuids", "500000-565535", "--add-subgids", "500000-565535", USER]));
    }
}

pub(crate) fn run_checked(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?} failed:\n{}", text(&output));
    output
}

/// Standard output and error of a finished command, for assertions and messages.
pub(crate) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

impl World {
    /// A home that no other test uses.
    pub(crate) fn separate(identity: Identity, client: Client) -> Self {
        if identity == Identity::OrdinaryUser {
            ensure_user();
        }
        let directory = tempfile::Builder::new().prefix("dockwright-e2e-").tempdir().expect("temporary directory");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("mode of the directory");
        // An ordinary user may not be able to reach the build directory.
        fs::copy(env!("CARGO_BIN_EXE_dockwright"), directory.path().join("dockwright")).expect("the program can be copied");
        let world = Self { directory, identity, client };
        for name in ["home", "repositories", "user"] {
            world.make_directory(&world.directory.path().join(name));
        }
        world.import("busybox.tar", "busybox:latest", &["CMD [\"sh\"]"]);
        let archive = if client == Client::Newer { "docker-cli-28.tar" } else { "docker-cli.tar" };
        let changes = ["ENV DOCKER_TLS_CERTDIR=/certs", "ENTRYPOINT [\"docker-entrypoint.sh\"]", "CMD [\"sh\"]"];
        world.import(archive, "docker:19.03.12", &changes);
        world
    }

    fn import(&self, archive: &str, name: &str, changes: &[&str]) {
        let mut command = self.dockwright();
        command.args(["image", "import"]);
        for change in changes {
            command.args(["--change", change]);
        }
        // Through standard input: the archive may lie where an ordinary user cannot look.
        command.args([name, "-"]).stdin(File::open(stand_ins().join(archive)).expect("stand-in archive"));
        run_checked(&mut command);
    }

    /// The directory that holds `home` (Dockwright's), `repositories` and `user` (HOME).
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// `dockwright` with this world's home, as this world's identity.
    pub(crate) fn dockwright(&self) -> Command {
        self.command(self.path().join("dockwright"))
    }

    /// Any command in this world.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = if self.identity == Identity::OrdinaryUser {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", USER, "--regid", USER, "--init-groups", "--inh-caps=-all"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        let client = if self.client == Client::Newer { NEWER_CLIENT } else { "/usr/bin/docker" };
        let client = Path::new(client).parent().expect("client directory");
        command
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", client.display()))
            .env("HOME", self.path().join("user"))
            .env("DOCKWRIGHT_HOME", self.path().join("home"))
            .current_dir(self.path())
            .stdin(Stdio::null());
        command
    }

    /// Makes a committed repository with the given files; a file whose name starts with `script/` is executable.
    pub(crate) fn repository(&self, name: &str, files: &[(&str, &[u8])]) -> PathBuf {
        let repository = tempfile::Builder::new().prefix(name).tempdir_in(self.path().join("repositories")).expect("directory").keep();
        // The name of the directory becomes the project's name, which must be a valid repository path.
        let repository = rename_lower_case(&repository);
        self.make_directory(&repository);
        for (path, content) in files {
            let path = repository.join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("directory");
            fs::write(&path, content).expect("file");
            if path.starts_with(repository.join("script")) {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("mode");
            }
        }
        self.give(&repository);
        for arguments in [&["init", "-q", "-b", "main"][..], &["add", "-A"], &["commit", "-q", "-m", "A commit"]] {
            run_checked(
                self.command("git")
                    .args(["-c", "user.name=Test", "-c", "user.email=test@example.invalid"])
                    .args(arguments)
                    .current_dir(&repository),
            );
        }
        repository
    }

    /// Runs the pipeline of a repository to its end.
    pub(crate) fn run(&self, repository: &Path, arguments: &[&str]) -> Output {
        self.dockwright().arg("run").args(arguments).current_dir(repository).output().expect("dockwright runs")
    }

    /// Runs the pipeline and returns what it printed; panics with all of it unless it succeeded.
    pub(crate) fn run_green(&self, repository: &Path, arguments: &[&str]) -> String {
        let output = self.run(repository, arguments);
        assert!(output.status.success(), "{:?} {:?} ended with {}:\n{}", self.identity, self.client, output.status, text(&output));
        text(&output)
    }

    pub(crate) fn make_directory(&self, path: &Path) {
        fs::create_dir_all(path).expect("directory");
        self.give(path);
    }

    /// Gives a tree to the world's identity.
    fn give(&self, path: &Path) {
        if self.identity != Identity::OrdinaryUser {
            return;
        }
        let id = |flag: &str| -> u32 {
            let output = run_checked(Command::new("id").args([flag, USER]));
            String::from_utf8_lossy(&output.stdout).trim().parse().expect("id prints a number")
        };
        give_tree(path, id("-u"), id("-g"));
    }
}

fn give_tree(path: &Path, uid: u32, gid: u32) {
    chown(path, Some(uid), Some(gid)).expect("chown");
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("directory") {
            give_tree(&entry.expect("entry").path(), uid, gid);
        }
    }
}

fn rename_lower_case(path: &Path) -> PathBuf {
    let name = path.file_name().expect("name").to_string_lossy().to_lowercase().replace('.', "-");
    let renamed = path.with_file_name(name.trim_matches('-'));
    fs::rename(path, &renamed).expect("rename");
    renamed
}

/// The combinations that every sample runs in.
pub(crate) const COMBINATIONS: &[(Identity, Client)] =
    &[(Identity::Caller, Client::Debian), (Identity::OrdinaryUser, Client::Debian), (Identity::Caller, Client::Newer)];

/// Calls `check` with every world that this machine can make; the others are skipped aloud.
pub(crate) fn for_each_world(test: &str, check: impl Fn(&World)) {
    for (identity, client) in COMBINATIONS {
        if let Some(world) = world(&format!("{test} ({identity:?}, {client:?})"), *identity, *client) {
            check(world);
        }
    }
}
