//! A real dockerd for the tests, in namespaces of its own, with images made from busybox.

use std::{
    fs,
    io::Write as _,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, Weak},
    thread,
    time::{Duration, Instant},
};

use dockwright_testing::find_command;

const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A daemon that ends, with all its containers, when the last test that uses it does.
pub(crate) struct Dockerd {
    process: Child,
    root: tempfile::TempDir,
}

static SHARED: Mutex<Weak<Dockerd>> = Mutex::new(Weak::new());

impl Dockerd {
    /// Returns the daemon that other tests use, or starts one.
    pub(crate) fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(running) = shared.upgrade() {
            return running;
        }
        let daemon = Arc::new(Self::start());
        *shared = Arc::downgrade(&daemon);
        daemon
    }

    fn start() -> Self {
        let root = tempfile::Builder::new().prefix("dw").tempdir().expect("a temporary directory");
        let path = |name: &str| root.path().join(name).display().to_string();
        let log = fs::File::create(root.path().join("log")).expect("a log");
        let daemon = format!(
            "ip link set lo up; exec dockerd --host unix://{} --data-root {} --exec-root {} --pidfile {} --iptables=false --ip6tables=false",
            path("sock"),
            path("data"),
            path("exec"),
            path("pid"),
        );
        // Own namespaces: its network and mounts are its own, and killing its PID 1 ends everything.
        let process = Command::new("unshare")
            .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", &daemon])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn()
            .expect("unshare runs");
        let mut daemon = Self { process, root };
        daemon.wait_until_it_listens();
        daemon.make_images();
        daemon.wait_until_it_runs_containers();
        daemon
    }

    /// On a busy machine its containerd comes later than the API.
    fn wait_until_it_runs_containers(&self) {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let output = self.client(&["run", "--rm", "busybox", "true"]).output().expect("the docker client runs");
            if output.status.success() {
                return;
            }
            assert!(Instant::now() < deadline, "no container runs: {}", String::from_utf8_lossy(&output.stderr));
            thread::sleep(Duration::from_millis(200));
        }
    }

    fn wait_until_it_listens(&mut self) {
        let deadline = Instant::now() + START_TIMEOUT;
        while UnixStream::connect(self.socket()).is_err() {
            let log = || fs::read_to_string(self.root.path().join("log")).unwrap_or_default();
            if let Some(status) = self.process.try_wait().expect("it is our child") {
                panic!("dockerd ended ({status}):\n{}", log());
            }
            assert!(Instant::now() < deadline, "dockerd does not listen:\n{}", log());
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn socket(&self) -> PathBuf {
        self.root.path().join("sock")
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The network namespace of the daemon, for what is to listen where the daemon can reach it.
    #[allow(dead_code, reason = "only the tests of the program have something to start there")]
    pub(crate) fn network_namespace(&self) -> String {
        format!("/proc/{}/ns/net", self.process.id())
    }

    /// Runs the Docker client and returns its output.
    pub(crate) fn docker(&self, arguments: &[&str]) -> String {
        let output = self.client(arguments).output().expect("the docker client runs");
        assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    pub(crate) fn client(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(arguments).env("DOCKER_HOST", self.endpoint()).env_remove("DOCKER_CONTEXT").env_remove("DOCKER_TLS_VERIFY");
        command
    }

    fn make_images(&self) {
        let rootfs = busybox_rootfs();
        self.import(&rootfs, "busybox:latest", &["CMD [\"sh\"]"]);
        self.import(&rootfs, "web:1", &["EXPOSE 8080", "CMD [\"httpd\",\"-f\",\"-v\",\"-p\",\"8080\",\"-h\",\"/www\"]"]);
        self.import(&rootfs, "deaf:1", &["EXPOSE 8080", "CMD [\"sh\",\"-c\",\"echo I refuse; exit 1\"]"]);
        self.import(&rootfs, "entry:1", &["ENTRYPOINT [\"/entry.sh\"]", "CMD [\"sh\"]"]);
        self.import(&rootfs, "volume:1", &["VOLUME [\"/vol\"]"]);
        self.import(&rootfs, "user:1", &["USER 1000:1000"]);
        self.import(&tar::Builder::new(Vec::new()).into_inner().expect("a tar"), "empty:1", &["CMD [\"/none\"]"]);
    }

    fn import(&self, rootfs: &[u8], name: &str, changes: &[&str]) {
        let mut arguments = vec!["import"];
        changes.iter().for_each(|change| arguments.extend(["--change", change]));
        arguments.extend(["-", name]);
        let mut child = self.client(&arguments).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the docker client runs");
        child.stdin.take().expect("stdin is piped").write_all(rootfs).expect("the image is read");
        assert!(child.wait().expect("the client ends").success(), "import {name}");
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn busybox_rootfs() -> Vec<u8> {
    let busybox = find_command("busybox").expect("checked by the test");
    let applets = Command::new(&busybox).arg("--list").output().expect("busybox runs").stdout;
    let mut archive = tar::Builder::new(Vec::new());
    // Parents that an archive does not name are for root alone.
    for (directory, mode) in [("bin/", 0o755), ("www/", 0o755), ("etc/", 0o755), ("tmp/", 0o1777)] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        header.set_mode(mode);
        archive.append_data(&mut header, directory, std::io::empty()).expect("an entry");
    }
    add_file(&mut archive, "bin/busybox", &fs::read(busybox).expect("busybox can be read"), 0o755);
    for applet in String::from_utf8_lossy(&applets).lines().filter(|applet| *applet != "busybox") {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        archive.append_link(&mut header, Path::new("bin").join(applet), "busybox").expect("an entry");
    }
    let entry = "#!/bin/sh\nexport FROM_ENTRY_POINT=yes\nexec \"$@\"\n";
    add_file(&mut archive, "entry.sh", entry.as_bytes(), 0o755);
    add_file(&mut archive, "www/index.html", b"it works\n", 0o644);
    add_file(&mut archive, "etc/passwd", b"root:x:0:0:root:/:/bin/sh\n", 0o644);
    archive.into_inner().expect("a tar")
}

fn add_file(archive: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8], mode: u32) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    archive.append_data(&mut header, path, content).expect("an entry");
}
