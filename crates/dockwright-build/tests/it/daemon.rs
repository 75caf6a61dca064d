//! Daemons that speak the Docker API, each on a private socket with data of its own; ended by `Drop`.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;

/// A daemon.
pub(crate) struct Daemon {
    child: Child,
    dir: tempfile::TempDir,
}

/// An image as `docker save` gives it.
pub(crate) struct SavedImage {
    pub(crate) config: Value,
    pub(crate) files: BTreeMap<PathBuf, String>,
}

impl Daemon {
    /// Starts the machine's dockerd.
    pub(crate) fn dockerd() -> Self {
        Self::start(|dir| {
            let path = |name: &str| dir.join(name).display().to_string();
            let mut command = Command::new("dockerd");
            command.args(["--data-root", &path("data"), "--exec-root", &path("exec"), "--pidfile", &path("pid")]);
            command.args(["--host", &format!("unix://{}", path("sock")), "--bridge=none", "--iptables=false", "--ip6tables=false"]);
            command
        })
    }

    /// Starts `dockwright engine serve`.
    pub(crate) fn dockwright(program: &Path) -> Self {
        Self::start(|dir| {
            let mut command = Command::new(program);
            command.env("DOCKWRIGHT_HOME", dir.join("home"));
            command.args(["engine", "serve", "--socket"]).arg(dir.join("sock"));
            command
        })
    }

    fn start(command: impl FnOnce(&Path) -> Command) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        let child = command(dir.path()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let mut daemon = Self { child, dir };
        // About a minute; it takes one or two seconds.
        const ATTEMPTS: usize = 600;
        const PAUSE: Duration = Duration::from_millis(100);
        for _ in 0..ATTEMPTS {
            if daemon.docker(&["version"]).status.success() {
                return daemon;
            }
            assert!(daemon.child.try_wait().unwrap().is_none(), "the daemon ended: {}", daemon.log());
            thread::sleep(PAUSE);
        }
        panic!("the daemon does not answer: {}", daemon.log());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn docker(&self, args: &[&str]) -> Output {
        self.client(args).output().unwrap()
    }

    /// Debian's client speaks to Debian's daemon; another may have dropped the classic builder.
    pub(crate) fn client(&self, args: &[&str]) -> Command {
        let debian = Path::new("/usr/bin/docker");
        let mut command = Command::new(if debian.exists() { debian } else { Path::new("docker") });
        command.env("DOCKER_HOST", format!("unix://{}", self.dir.path().join("sock").display())).env("DOCKER_BUILDKIT", "0");
        command.args(args);
        command
    }

    pub(crate) fn save(&self, name: &str) -> SavedImage {
        let file = self.dir.path().join("image.tar");
        let saved = self.docker(&["save", "--output", &file.display().to_string(), name]);
        assert!(saved.status.success(), "{}", String::from_utf8_lossy(&saved.stderr));
        let mut entries = BTreeMap::new();
        for entry in tar::Archive::new(File::open(file).unwrap()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            let link = entry.link_name().unwrap().map(|link| entry.path().unwrap().parent().unwrap().join(link));
            entries.insert(normal(&entry.path().unwrap()), (bytes, link.map(|link| normal(&link))));
        }
        let content = |path: &Path| match &entries[path] {
            (_, Some(link)) => entries[link].0.clone(),
            (bytes, None) => bytes.clone(),
        };
        let manifest: Value = serde_json::from_slice(&content(Path::new("manifest.json"))).unwrap();
        let config = serde_json::from_slice(&content(Path::new(manifest[0]["Config"].as_str().unwrap()))).unwrap();
        let mut files = BTreeMap::new();
        for layer in manifest[0]["Layers"].as_array().unwrap() {
            apply(&content(&normal(Path::new(layer.as_str().unwrap()))), &mut files);
        }
        SavedImage { config, files }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Asked, not killed: dockerd then ends its containerd and unmounts.
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").arg(pid).stdout(Stdio::null()).status();
        let _ = self.child.wait();
    }
}

fn normal(path: &Path) -> PathBuf {
    let mut result = PathBuf::new();
    for component in path.components() {
        match component {
            std::path::Component::Normal(name) => result.push(name),
            std::path::Component::ParentDir => drop(result.pop()),
            _ => {}
        }
    }
    result
}

/// Puts a layer on the files below it.
fn apply(layer: &[u8], files: &mut BTreeMap<PathBuf, String>) {
    for entry in tar::Archive::new(layer).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = normal(&entry.path().unwrap());
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if let Some(removed) = name.strip_prefix(".wh.") {
            let opaque = removed == ".wh..opq";
            let target = if opaque { path.parent().unwrap().to_owned() } else { path.with_file_name(removed) };
            files.retain(|other, _| !(other.starts_with(&target) && (*other != target || !opaque)));
            continue;
        }
        if path.as_os_str().is_empty() {
            continue;
        }
        let header = entry.header().clone();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let (kind, content) = match header.entry_type() {
            tar::EntryType::Directory => (0o040_000, Vec::new()),
            tar::EntryType::Symlink => (0o120_000, format!("-> {}", entry.link_name().unwrap().unwrap().display()).into_bytes()),
            tar::EntryType::Link => {
                let target = normal(&entry.link_name().unwrap().unwrap());
                files.insert(path, files[&target].clone());
                continue;
            }
            _ => (0o100_000, bytes),
        };
        if kind != 0o040_000 {
            files.retain(|other, _| !other.starts_with(&path));
        }
        let modified = i64::try_from(header.mtime().unwrap()).unwrap();
        let text = describe(kind | (header.mode().unwrap() & 0o7777), header.uid().unwrap(), header.gid().unwrap(), modified, &content);
        files.insert(path, text);
    }
}

/// One line about a file. Times count where the context gave them: files of before 2010.
pub(crate) fn describe(mode: u32, uid: u64, gid: u64, modified: i64, content: &[u8]) -> String {
    const OLD: i64 = 1_262_304_000;
    const SHOWN_BYTES: usize = 60;
    let is_file = mode & 0o170_000 == 0o100_000;
    let time = if is_file && modified < OLD { format!(" @{modified}") } else { String::new() };
    let shown =
        if content.len() > SHOWN_BYTES { format!("{} bytes", content.len()) } else { String::from_utf8_lossy(content).replace('\n', "|") };
    // The permissions of a link mean nothing.
    let mode = if mode & 0o170_000 == 0o120_000 { 0o120_000 } else { mode };
    format!("{mode:06o} {uid}:{gid}{time} [{shown}]")
}
