//! An engine made of temporary directories: layers are copied, commands run in the step's directory with the host's shell.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{self, File},
    io::Read as _,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use dockwright_build::{
    backend::{
        BackendError, BaseImage, BuildBackend, BuildStep, Cancel, CommittedLayer, Fetched, OutputStream, PullPolicy, PullProgress,
        ResolveImageError, RunSpec,
    },
    cache::{CacheKey, CacheRecord},
    context::Context,
    progress::BuildEvent,
    request::BuildOptions,
    solver::{BuildError, build},
};
use dockwright_store::{DiffId, Digest, ImageConfig, ImageId};

#[derive(Default)]
struct State {
    images: HashMap<String, BaseImage>,
    layers: HashMap<DiffId, Layer>,
    cache: HashMap<String, CacheRecord>,
    urls: HashMap<String, Vec<u8>>,
    /// What was asked of the engine, one line each.
    calls: Vec<String>,
}

struct Layer {
    files: PathBuf,
    removed: Vec<PathBuf>,
}

/// An engine made of temporary directories.
pub(crate) struct FakeEngine {
    dir: tempfile::TempDir,
    state: Arc<Mutex<State>>,
}

/// What a build said and left.
pub(crate) struct Outcome {
    pub(crate) log: String,
    pub(crate) result: Result<ImageId, BuildError>,
}

impl FakeEngine {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), state: Arc::default() }
    }

    /// Builds with a context of these files; `Dockerfile` is one of them.
    pub(crate) fn build(&self, files: &[(&str, &str)], options: BuildOptions) -> Outcome {
        let mut builder = tar::Builder::new(Vec::new());
        let parents: BTreeSet<&Path> = files.iter().flat_map(|(path, _)| Path::new(path).ancestors().skip(1)).collect();
        for directory in parents.into_iter().filter(|directory| !directory.as_os_str().is_empty()) {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o755);
            header.set_size(0);
            builder.append_data(&mut header, directory, std::io::empty()).unwrap();
        }
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(if content.starts_with("#!") { 0o755 } else { 0o644 });
            header.set_size(content.len() as u64);
            header.set_mtime(1_500_000_000);
            builder.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        self.build_tar(&builder.into_inner().unwrap(), options)
    }

    pub(crate) fn build_tar(&self, context: &[u8], mut options: BuildOptions) -> Outcome {
        options.now = || "2020-01-02T03:04:05Z".parse().unwrap();
        let context = Context::read(&mut &context[..], self.dir.path()).unwrap();
        let mut log = String::new();
        let result = build(self, context, &options, &Cancel::default(), &mut |event| log.push_str(&render(&event)));
        Outcome { log, result }
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().calls)
    }

    pub(crate) fn config(&self, name: &str) -> ImageConfig {
        self.state.lock().unwrap().images[name].config.clone()
    }

    pub(crate) fn add_image(&self, name: &str, config: ImageConfig) {
        let image = BaseImage { id: config.image_id(), config };
        self.state.lock().unwrap().images.insert(name.to_owned(), image);
    }

    pub(crate) fn add_url(&self, url: &str, content: &str) {
        self.state.lock().unwrap().urls.insert(url.to_owned(), content.as_bytes().to_vec());
    }

    pub(crate) fn forget_cache(&self) {
        self.state.lock().unwrap().cache.clear();
    }

    /// Lists an image's files: mode, owner, path, content.
    pub(crate) fn files(&self, name: &str) -> String {
        let root = self.merge(&self.config(name).rootfs.diff_ids);
        let listing = list(root.path());
        listing.iter().map(|(path, entry)| format!("{} {}\n", entry.describe(), path.display())).collect()
    }

    pub(crate) fn merge(&self, layers: &[DiffId]) -> tempfile::TempDir {
        let root = tempfile::tempdir_in(self.dir.path()).unwrap();
        let state = self.state.lock().unwrap();
        for layer in layers {
            let layer = &state.layers[layer];
            for removed in &layer.removed {
                let path = root.path().join(removed);
                let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
            }
            copy(&layer.files, root.path());
        }
        root
    }

    fn call(&self, text: impl Into<String>) {
        self.state.lock().unwrap().calls.push(text.into());
    }
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-aT").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

fn render(event: &BuildEvent) -> String {
    match event {
        BuildEvent::StepStarted { number, total, text } => format!("Step {number}/{total} : {text}\n"),
        BuildEvent::Pull(progress) => format!("{}\n", progress.status),
        BuildEvent::Triggers { count } => format!("# Executing {count} build triggers\n"),
        BuildEvent::Cached => " ---> Using cache\n".to_owned(),
        BuildEvent::Running { .. } => " ---> Running\n".to_owned(),
        BuildEvent::Output { bytes, .. } => String::from_utf8_lossy(bytes).into_owned(),
        BuildEvent::Warning { message } => format!("[Warning] {message}\n"),
        BuildEvent::Tagged { name } => format!("Successfully tagged {name}\n"),
        BuildEvent::Removed { .. } | BuildEvent::Layer { .. } | BuildEvent::StageFinished { .. } | BuildEvent::Built { .. } => {
            String::new()
        }
    }
}

#[derive(PartialEq, Eq)]
struct Entry {
    mode: u32,
    uid: u32,
    gid: u32,
    modified: (i64, i64),
    content: Vec<u8>,
}

impl Entry {
    fn describe(&self) -> String {
        let content = String::from_utf8_lossy(&self.content).replace('\n', "|");
        format!("{:06o} {}:{} [{content}]", self.mode, self.uid, self.gid)
    }
}

fn list(root: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut listing = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let stat = fs::symlink_metadata(&path).unwrap();
            let content = if stat.is_dir() {
                pending.push(path.clone());
                Vec::new()
            } else if stat.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display()).into_bytes()
            } else {
                fs::read(&path).unwrap()
            };
            let modified = (stat.mtime(), stat.mtime_nsec());
            let entry = Entry { mode: stat.mode(), uid: stat.uid(), gid: stat.gid(), modified, content };
            listing.insert(path.strip_prefix(root).unwrap().to_owned(), entry);
        }
    }
    listing
}

impl BuildBackend for FakeEngine {
    fn resolve_image(
        &self,
        reference: &str,
        _: Option<&str>,
        pull: PullPolicy,
        progress: &mut dyn FnMut(PullProgress),
    ) -> Result<BaseImage, ResolveImageError> {
        self.call(format!("resolve {reference}"));
        if pull == PullPolicy::Always {
            progress(PullProgress { id: String::new(), status: format!("Pulling {reference}"), current: None, total: None });
        }
        let found = self.state.lock().unwrap().images.get(reference).cloned();
        found.ok_or_else(|| ResolveImageError::NotFound(format!("manifest for {reference} not found")))
    }

    fn local_image(&self, reference: &str) -> Result<Option<BaseImage>, BackendError> {
        Ok(self.state.lock().unwrap().images.get(reference).cloned())
    }

    fn open_root(&self, layers: &[DiffId]) -> Result<OwnedFd, BackendError> {
        self.call("open root");
        Ok(File::open(self.merge(layers).keep())?.into())
    }

    fn begin_step(&self, layers: &[DiffId]) -> Result<Box<dyn BuildStep>, BackendError> {
        let root = self.merge(layers);
        let handle = File::open(root.path())?;
        Ok(Box::new(FakeStep {
            before: list(root.path()),
            root,
            handle,
            state: Arc::clone(&self.state),
            store: self.dir.path().to_owned(),
        }))
    }

    fn cache_get(&self, key: &CacheKey) -> Result<Option<CacheRecord>, BackendError> {
        Ok(self.state.lock().unwrap().cache.get(key.as_str()).cloned())
    }

    fn cache_put(&self, key: &CacheKey, record: &CacheRecord) -> Result<(), BackendError> {
        self.state.lock().unwrap().cache.insert(key.to_string(), record.clone());
        Ok(())
    }

    fn put_image(&self, config: &ImageConfig) -> Result<ImageId, BackendError> {
        self.add_image(&config.image_id().to_string(), config.clone());
        Ok(config.image_id())
    }

    fn tag(&self, image: &ImageId, name: &str) -> Result<(), BackendError> {
        let config = self.config(&image.to_string());
        self.add_image(name, config);
        Ok(())
    }

    fn fetch(&self, url: &str) -> Result<Fetched, BackendError> {
        self.call(format!("fetch {url}"));
        let content = self.state.lock().unwrap().urls.get(url).cloned().ok_or("404 Not Found")?;
        Ok(Fetched { reader: Box::new(std::io::Cursor::new(content)), last_modified: Some(1_600_000_000), file_name: None })
    }
}

struct FakeStep {
    root: tempfile::TempDir,
    handle: File,
    before: BTreeMap<PathBuf, Entry>,
    state: Arc<Mutex<State>>,
    store: PathBuf,
}

/// A command with the root as its root.
fn command_in(root: &Path, spec: &RunSpec) -> Command {
    let mut command = Command::new("/usr/bin/unshare");
    command.arg(format!("--root={}", root.display())).arg(format!("--wd={}", spec.working_dir));
    if !spec.user.is_empty() {
        let (user, group) = spec.user.split_once(':').expect("tests give both numbers");
        command.arg(format!("--setgid={group}")).arg(format!("--setuid={user}"));
    }
    command.arg("--").args(&spec.argv);
    command
}

fn command_beside(root: &Path, spec: &RunSpec) -> Command {
    let script = root.join(spec.argv[0].trim_start_matches('/'));
    let program = if script.is_file() { script } else { PathBuf::from(&spec.argv[0]) };
    let mut command = Command::new(program);
    command.args(&spec.argv[1..]).current_dir(root.join(spec.working_dir.trim_start_matches('/')));
    command
}

impl BuildStep for FakeStep {
    fn container_id(&self) -> &str {
        "0123456789ab0123456789ab0123456789ab0123456789ab0123456789ab0123"
    }

    fn root(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    /// Without a shell of its own in the root, the root stands in for `/`: commands and scripts use relative paths.
    fn run(&mut self, spec: &RunSpec, output: &mut dyn FnMut(OutputStream, &[u8]), _: &Cancel) -> Result<i32, BackendError> {
        self.state.lock().unwrap().calls.push(format!("run {}", spec.argv.join(" ")));
        let root = self.root.path();
        let mut command = if root.join("bin/busybox").exists() { command_in(root, spec) } else { command_beside(root, spec) };
        let env = spec.env.iter().filter_map(|entry| entry.split_once('='));
        let mut child = command.env_clear().envs(env).stdout(Stdio::piped()).spawn()?;
        let mut text = Vec::new();
        child.stdout.take().ok_or("no output")?.read_to_end(&mut text)?;
        if !text.is_empty() {
            output(OutputStream::Stdout, &text);
        }
        Ok(child.wait()?.code().unwrap_or(128))
    }

    fn commit(self: Box<Self>) -> Result<Option<CommittedLayer>, BackendError> {
        let after = list(self.root.path());
        let changed: BTreeSet<&PathBuf> =
            after.iter().filter(|(path, entry)| self.before.get(*path) != Some(entry)).map(|(path, _)| path).collect();
        let removed: Vec<PathBuf> = self.before.keys().filter(|path| !after.contains_key(*path)).cloned().collect();
        if changed.is_empty() && removed.is_empty() {
            return Ok(None);
        }
        let layer = tempfile::tempdir_in(&self.store)?.keep();
        let mut text = format!("{removed:?}\n");
        for path in changed {
            let status = Command::new("cp")
                .arg("-a")
                .arg("--parents")
                .arg("--no-dereference")
                .arg(path)
                .arg(&layer)
                .current_dir(self.root.path())
                .stderr(Stdio::null())
                .status()?;
            // A directory is copied by its content or made by hand.
            if !status.success() {
                fs::create_dir_all(layer.join(path))?;
            }
            text.extend([format!("{} {:?} {}\n", path.display(), after[path].modified, after[path].describe())]);
        }
        for (path, entry) in after.iter().rev().filter(|(_, entry)| entry.mode & 0o170_000 == 0o040_000) {
            if layer.join(path).is_dir() {
                let target = layer.join(path);
                std::os::unix::fs::chown(&target, Some(entry.uid), Some(entry.gid))?;
                fs::set_permissions(&target, std::os::unix::fs::PermissionsExt::from_mode(entry.mode & 0o7777))?;
                File::open(&target)?
                    .set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(entry.modified.0 as u64, entry.modified.1 as u32))?;
            }
        }
        let diff_id = DiffId(Digest::of(text.as_bytes()));
        self.state.lock().unwrap().layers.insert(diff_id, Layer { files: layer, removed });
        Ok(Some(CommittedLayer { diff_id, size_bytes: 0 }))
    }
}
