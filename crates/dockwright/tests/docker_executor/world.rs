//! A dockerd, our engine and registries beside each other.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use dockwright_testing::find_command;
use tempfile::TempDir;

use crate::dockerd::Dockerd;

/// Where our registry listens, in the network namespace that is theirs alone. Its token service wants the password.
pub(crate) const REGISTRY: &str = "127.0.0.1:5000";
/// Where Debian's does. It wants the password itself.
const BASIC_REGISTRY: &str = "127.0.0.1:5001";
pub(crate) const USER: &str = "ci";
pub(crate) const PASSWORD: &str = "a-password-of-the-registry";

/// The user and the password's bcrypt hash, as `htpasswd -B` writes them.
const HTPASSWD: &str = "ci:$2y$05$abcdefghijklmnopqrstuutdet4itF4ObGgnA4Qq64c8TDpSfaMXC\n";
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Ends with everything in it when dropped.
pub(crate) struct World {
    pub(crate) daemon: Arc<Dockerd>,
    /// Addresses of the registries that the machine has.
    pub(crate) registries: Vec<&'static str>,
    children: Vec<Child>,
    directory: TempDir,
}

/// Held by the test that has a world: its addresses are fixed, and what one test has pulled, another would see.
pub(crate) static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

impl World {
    /// Starts all, with the daemon's images in our engine, too.
    pub(crate) fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("dwx").tempdir().expect("a temporary directory");
        let mut world = Self { daemon: Dockerd::shared(), registries: vec![REGISTRY], children: Vec::new(), directory };
        fs::create_dir(world.shared_directory()).expect("a directory");
        fs::write(world.path("password"), PASSWORD).expect("a file");
        let password = world.path("password");
        world.spawn("registry", &["registry", "serve", "--listen", REGISTRY, "--user", USER, "--password-file", &password]);
        match find_command("docker-registry") {
            Some(program) => world.start_basic_registry(&program),
            None => dockwright_testing::skip("docker_executor", "a registry with basic authentication: `docker-registry` is not installed"),
        }
        let (socket, shared) = (world.path("sock"), world.shared_directory());
        world.spawn("engine", &["engine", "serve", "--socket", &socket, "--share", &shared]);
        world.copy_images();
        world
    }

    /// Starts the program in the daemon's network, with a home of its own, and returns when it says that it listens.
    fn spawn(&mut self, name: &str, arguments: &[&str]) {
        let log = self.path(&format!("{name}.log"));
        let mut child = Command::new("nsenter")
            .arg(format!("--net={}", self.daemon.network_namespace()))
            .arg(env!("CARGO_BIN_EXE_dockwright"))
            .args(arguments)
            .env("DOCKWRIGHT_HOME", self.path(&format!("{name}-home")))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("a log"))
            .spawn()
            .expect("nsenter runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("the output can be read");
        assert!(line.contains('='), "{name} did not start: {line}{}", fs::read_to_string(log).unwrap_or_default());
        self.children.push(child);
    }

    /// It says nothing when it listens; the first push waits for it.
    fn start_basic_registry(&mut self, program: &Path) {
        fs::write(self.path("htpasswd"), HTPASSWD).expect("a file");
        fs::write(self.path("registry.yml"), "version: 0.1\n").expect("a file");
        let child = Command::new("nsenter")
            .arg(format!("--net={}", self.daemon.network_namespace()))
            .arg(program)
            .args(["serve", &self.path("registry.yml")])
            .env("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", self.path("registry-files"))
            .env("REGISTRY_HTTP_ADDR", BASIC_REGISTRY)
            .env("REGISTRY_AUTH_HTPASSWD_REALM", "test")
            .env("REGISTRY_AUTH_HTPASSWD_PATH", self.path("htpasswd"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(self.path("basic-registry.log")).expect("a log"))
            .spawn()
            .expect("nsenter runs");
        self.children.push(child);
        self.registries.push(BASIC_REGISTRY);
    }

    /// The same images by the same ids, and one that is in the registries only.
    fn copy_images(&self) {
        let names: Vec<String> =
            self.daemon.docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).lines().map(str::to_owned).collect();
        let archive = self.path("images.tar");
        let mut save = vec!["save", "-o", archive.as_str()];
        save.extend(names.iter().map(String::as_str).filter(|name| !name.starts_with("dockwright-helper")));
        self.daemon.docker(&save);
        let mut load = Command::new("docker");
        load.args(["load", "-q", "-i", &archive]).env("DOCKER_HOST", self.our_endpoint()).env_remove("DOCKER_CONTEXT");
        let loaded = load.output().expect("the docker client runs");
        assert!(loaded.status.success(), "docker load: {}", String::from_utf8_lossy(&loaded.stderr));

        for registry in &self.registries {
            let name = format!("{registry}/group/app:1");
            self.daemon.docker(&["tag", "busybox", &name]);
            self.push(registry, &name);
            self.daemon.docker(&["rmi", &name]);
        }
    }

    fn push(&self, registry: &str, name: &str) {
        let settings = self.path("docker-config");
        fs::create_dir_all(&settings).expect("a directory");
        fs::write(Path::new(&settings).join("config.json"), auths(registry, USER, PASSWORD)).expect("a file");
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let mut push = self.daemon.client(&["push", "-q", name]);
            let pushed = push.env("DOCKER_CONFIG", &settings).output().expect("the docker client runs");
            if pushed.status.success() {
                return;
            }
            assert!(Instant::now() < deadline, "docker push {name}: {}", String::from_utf8_lossy(&pushed.stderr));
            thread::sleep(Duration::from_millis(100));
        }
    }

    pub(crate) fn our_endpoint(&self) -> String {
        format!("unix://{}", self.path("sock"))
    }

    /// A directory that containers of both may mount.
    pub(crate) fn shared_directory(&self) -> String {
        self.path("shared")
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }
}

/// What `docker login` writes.
pub(crate) fn auths(registry: &str, user: &str, password: &str) -> String {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let auth = BASE64_STANDARD.encode(format!("{user}:{password}"));
    format!(r#"{{"auths": {{"{registry}": {{"auth": "{auth}"}}}}}}"#)
}

impl Drop for World {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
