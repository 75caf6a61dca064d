//! The process of a `RUN` step: a container without a name, on the default bridge.

use std::{
    io::{self, Read as _},
    os::fd::{AsFd as _, BorrowedFd},
    path::{Path, PathBuf},
    sync::mpsc,
};

use dockwright_build::backend::{Cancel, OutputStream, RunLimits, RunSpec};
use dockwright_container::{
    process::{ContainerSpec, Limits, Mount, MountSource, NetworkMode, ProcessSpec, Rlimit, Rootfs, Seccomp},
    spawner::Stdio,
};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Stat};
use tokio::runtime::Handle;

use super::Overlay;
use crate::{
    Engine,
    container::config::EndpointConfig,
    container::interface,
    error::{Context as _, EngineError, Result},
    id,
    network::{Driver, Endpoint, files::Hosts},
    tree,
};

/// Signal that ends a process for sure.
const SIGKILL: i32 = 9;
/// Pieces of output that may wait for a slow client before the process is held back.
const OUTPUT_QUEUE_CHUNKS: usize = 16;
const OUTPUT_CHUNK_BYTES: usize = 16 << 10;

/// Runs a process in a tree to its end. Returns its exit status.
pub(super) fn run(
    overlay: &Overlay,
    runtime: &Handle,
    spec: &RunSpec,
    output: &mut dyn FnMut(OutputStream, &[u8]),
    cancel: &Cancel,
) -> Result<i32> {
    let engine = &overlay.engine;
    // A step runs one process after another under the same tree; each is a container of its own to the sandbox.
    let id = id::random();
    runtime.block_on(engine.network_up())?;
    let network = Network::join(engine, &id, &spec.limits.network)?;
    let container = container_spec(overlay, &id, spec, &network)?;
    let (stdout, stdout_end) = io::pipe().context("make the pipes of a process")?;
    let (stderr, stderr_end) = io::pipe().context("make the pipes of a process")?;
    let stdin = std::fs::File::open("/dev/null").context("open /dev/null")?;
    let exit = engine.sandbox().expect_exit(&id);
    let stdio = Stdio { stdin: stdin.as_fd(), stdout: stdout_end.as_fd(), stderr: stderr_end.as_fd() };
    if let Err(error) = engine.sandbox().spawner().start(&container, Some(stdio), &[]) {
        engine.sandbox().forget_exit(&id);
        return Err(error.into());
    }
    drop((stdout_end, stderr_end));
    kill_when_cancelled(engine, &id, cancel, runtime);
    carry_output(stdout, stderr, output).context("read the output of a process")?;
    let ended = runtime.block_on(exit);
    drop(network);
    Ok(ended.map_err(|_| EngineError::new(crate::ErrorKind::Internal, "the sandbox ended"))?.status.code())
}

fn kill_when_cancelled(engine: &Engine, id: &str, cancel: &Cancel, runtime: &Handle) {
    let (engine, id, runtime) = (engine.clone(), id.to_owned(), runtime.clone());
    cancel.on_cancel(move || {
        runtime.spawn(async move {
            // It may have ended by itself.
            let _ = engine.sandbox().ask(move |spawner| spawner.signal(&id, SIGKILL)).await;
        });
    });
}

/// Passes output on until the process and all it left behind have closed their ends.
fn carry_output(stdout: io::PipeReader, stderr: io::PipeReader, output: &mut dyn FnMut(OutputStream, &[u8])) -> io::Result<()> {
    let (sender, chunks) = mpsc::sync_channel::<(OutputStream, Vec<u8>)>(OUTPUT_QUEUE_CHUNKS);
    for (stream, mut pipe) in [(OutputStream::Stdout, stdout), (OutputStream::Stderr, stderr)] {
        let sender = sender.clone();
        let read = move || {
            let mut buffer = vec![0; OUTPUT_CHUNK_BYTES];
            while let Ok(read @ 1..) = pipe.read(&mut buffer) {
                if sender.send((stream, buffer[..read].to_vec())).is_err() {
                    break;
                }
            }
        };
        std::thread::Builder::new().name("build-output".to_owned()).spawn(read)?;
    }
    drop(sender);
    for (stream, bytes) in chunks {
        output(stream, &bytes);
    }
    Ok(())
}

/// A container's part in a network, given back when dropped.
struct Network<'a> {
    engine: &'a Engine,
    container: String,
    mode: NetworkMode,
    endpoint: Option<Endpoint>,
}

impl<'a> Network<'a> {
    fn join(engine: &'a Engine, container: &str, mode: &str) -> Result<Self> {
        let network = |mode, endpoint| Ok(Self { engine, container: container.to_owned(), mode, endpoint });
        let name = match mode {
            "" | "default" => "bridge",
            other => other,
        };
        if let Some(other) = name.strip_prefix("container:") {
            return network(NetworkMode::Container(engine.containers().find(other)?.id.clone()), None);
        }
        let found = engine.networks().find(name)?;
        match found.driver {
            Driver::Host => network(NetworkMode::Sandbox, None),
            Driver::None => network(NetworkMode::Own { interfaces: Vec::new() }, None),
            Driver::Bridge => {
                let config = EndpointConfig::default();
                let endpoint = engine.networks().connect(&found, container, id::short(container), &config, "eth0".to_owned())?;
                network(NetworkMode::Own { interfaces: vec![interface(&endpoint, true)] }, Some(endpoint))
            }
        }
    }
}

impl Drop for Network<'_> {
    fn drop(&mut self) {
        if let Some(endpoint) = &self.endpoint {
            self.engine.networks().disconnect(&endpoint.network.id, &self.container);
        }
    }
}

fn container_spec(overlay: &Overlay, id: &str, spec: &RunSpec, network: &Network<'_>) -> Result<ContainerSpec> {
    let process = ProcessSpec {
        env: spec.env.clone(),
        cwd: spec.working_dir.clone(),
        user: spec.user.clone(),
        rlimits: spec.limits.ulimits.iter().map(|(name, soft, hard)| Rlimit { name: name.clone(), soft: *soft, hard: *hard }).collect(),
        seccomp: seccomp(&spec.limits),
        ..ProcessSpec::new(spec.argv.iter().cloned())
    };
    let mut container = ContainerSpec::new(id, Rootfs::Mounted(overlay.id.clone()), process);
    container.hostname = id::short(&overlay.id).to_owned();
    container.mounts = generated_files(overlay, &container.hostname, spec, network)?;
    container.mounts.extend(volumes(overlay, &spec.volumes)?);
    container.network = network.mode.clone();
    container.shm_bytes = spec.limits.shm_size.unwrap_or(container.shm_bytes);
    container.limits = limits(&spec.limits);
    Ok(container)
}

fn seccomp(limits: &RunLimits) -> Seccomp {
    let unconfined = limits.security_opt.iter().any(|option| matches!(option.as_str(), "seccomp=unconfined" | "seccomp:unconfined"));
    if unconfined { Seccomp::Unconfined } else { Seccomp::Default }
}

fn limits(limits: &RunLimits) -> Limits {
    let positive = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0);
    // Processor time is given as so many microseconds in each period.
    let nano_cpus =
        positive(limits.cpu_quota).map(|quota| quota.saturating_mul(1_000_000_000) / positive(limits.cpu_period).unwrap_or(100_000));
    Limits {
        memory_bytes: positive(limits.memory),
        memory_and_swap_bytes: positive(limits.memory_swap),
        nano_cpus,
        cpu_shares: positive(limits.cpu_shares),
        cpuset_cpus: Some(limits.cpuset_cpus.clone()).filter(|cpus| !cpus.is_empty()),
        pids: None,
    }
}

fn generated_files(overlay: &Overlay, hostname: &str, spec: &RunSpec, network: &Network<'_>) -> Result<Vec<Mount>> {
    let endpoint = network.endpoint.as_ref();
    let hosts = Hosts {
        extra: &spec.limits.extra_hosts,
        gateway: endpoint.map(|endpoint| endpoint.range().gateway.into()),
        links: overlay.engine.registry_host().into_iter().collect(),
        own: endpoint.map(|endpoint| endpoint.address.into()).into_iter().collect(),
        hostname,
        domainname: "",
    };
    let files =
        [("hosts", hosts.render()?), ("hostname", format!("{hostname}\n")), ("resolv.conf", overlay.engine.upstream_resolver().render())];
    let mut mounts = Vec::new();
    for (name, content) in files {
        let path = overlay.dir.join(name);
        std::fs::write(&path, content).context(format_args!("write {name} of a build step"))?;
        mounts.push(Mount { target: Path::new("/etc").join(name), source: MountSource::Path(path), read_only: false });
    }
    Ok(mounts)
}

/// Directories declared by `VOLUME` begin as the image has them, and what is written to them is thrown away.
fn volumes(overlay: &Overlay, targets: &[String]) -> Result<Vec<Mount>> {
    let root = overlay.engine.sandbox().spawner().open_rootfs(&overlay.id)?;
    let mut mounts = Vec::new();
    for (number, target) in targets.iter().enumerate() {
        let volume = overlay.dir.join("volumes").join(number.to_string());
        std::fs::create_dir_all(&volume).context("make a volume of a build step")?;
        fill(root.as_fd(), Path::new(target), &volume).context("copy the image's files into a volume")?;
        mounts.push(Mount { target: PathBuf::from(target), source: MountSource::Path(volume), read_only: false });
    }
    Ok(mounts)
}

fn fill(root: BorrowedFd<'_>, target: &Path, volume: &Path) -> io::Result<()> {
    match tree::open(root, target, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(from) => tree::copy_contents(from.as_fd(), std::fs::File::open(volume)?.as_fd()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Places where every container has something mounted, and which an image may lack.
const MOUNT_TARGETS: [(&str, Kind); 7] = [
    ("etc/hosts", Kind::File),
    ("etc/hostname", Kind::File),
    ("etc/resolv.conf", Kind::File),
    ("etc", Kind::Directory),
    ("proc", Kind::Directory),
    ("sys", Kind::Directory),
    ("dev", Kind::Directory),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Directory,
}

/// The directory of the image in which mounting may make files.
const MOUNT_PARENT: &str = "etc";

/// The places for mounts that were not there before a process ran.
pub(super) struct MountTargets {
    missing: Vec<(&'static str, Kind)>,
    /// [`MOUNT_PARENT`] as it was, where the image has one.
    parent: Option<Stat>,
}

impl MountTargets {
    /// Notes what a tree lacks.
    pub(super) fn missing_in(root: BorrowedFd<'_>) -> Self {
        let is_missing = |path: &str| rustix::fs::statat(root, path, AtFlags::SYMLINK_NOFOLLOW).is_err();
        let parent = rustix::fs::statat(root, MOUNT_PARENT, AtFlags::SYMLINK_NOFOLLOW).ok();
        Self { missing: MOUNT_TARGETS.into_iter().filter(|(path, _)| is_missing(path)).collect(), parent }
    }

    /// Removes [`MOUNT_PARENT`] from the upper directory of an overlay, which is gone, when it got there only because mounting made and
    /// removed files in it: a `RUN true` makes no layer.
    pub(super) fn forget_parent(&self, upper: BorrowedFd<'_>) {
        let Some(before) = &self.parent else { return };
        let same = |now: &Stat| (now.st_mode, now.st_uid, now.st_gid) == (before.st_mode, before.st_uid, before.st_gid);
        let untouched = rustix::fs::statat(upper, MOUNT_PARENT, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|now| same(&now));
        if untouched && !is_opaque(upper) {
            // One that holds something stays, by the kernel's own rule.
            let _ = rustix::fs::unlinkat(upper, MOUNT_PARENT, AtFlags::REMOVEDIR);
        }
    }

    /// Removes what mounting has made, unless the process put something there.
    pub(super) fn remove_from(&self, root: BorrowedFd<'_>) {
        for (path, kind) in &self.missing {
            let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            let Ok(parent) = rustix::fs::openat2(root, parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), resolve)
            else {
                continue;
            };
            // A directory that is not empty stays, by the kernel's own rule.
            let removed = match kind {
                Kind::Directory => rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR),
                Kind::File if is_empty_file(parent.as_fd(), name) => rustix::fs::unlinkat(&parent, name, AtFlags::empty()),
                Kind::File => Ok(()),
            };
            if let Err(error) = removed {
                tracing::debug!(%error, path, "a place for a mount stays");
            }
        }
    }
}

/// Whether [`MOUNT_PARENT`] hides the one of the layers below. What cannot be read does, so that it is kept.
fn is_opaque(upper: BorrowedFd<'_>) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(directory) = rustix::fs::openat(upper, MOUNT_PARENT, flags, Mode::empty()) else { return true };
    let mut value = [0_u8; 1];
    ["user.overlay.opaque", "trusted.overlay.opaque"].iter().any(|name| rustix::fs::fgetxattr(&directory, *name, &mut value).is_ok())
}

fn is_empty_file(parent: BorrowedFd<'_>, name: &str) -> bool {
    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| stat.st_size == 0 && rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_what_mounting_made_is_removed() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = fs::File::open(dir.path()).expect("the root");
        fs::create_dir(dir.path().join("sys")).expect("a directory of the image");
        let targets = MountTargets::missing_in(root.as_fd());

        // What the sandbox makes, and what the process adds.
        for directory in ["proc", "dev", "etc"] {
            fs::create_dir(dir.path().join(directory)).expect("a directory");
        }
        for file in ["hosts", "hostname", "resolv.conf"] {
            fs::write(dir.path().join("etc").join(file), "").expect("a file");
        }
        fs::write(dir.path().join("etc/passwd"), "root:x:0:0").expect("a file");
        targets.remove_from(root.as_fd());

        let mut left: Vec<_> = fs::read_dir(dir.path()).expect("a listing").map(|entry| entry.expect("an entry").file_name()).collect();
        left.sort();
        assert_eq!(left, ["etc", "sys"]);
        assert_eq!(fs::read_dir(dir.path().join("etc")).expect("a listing").count(), 1);
    }

    #[test]
    fn an_untouched_directory_is_no_change() {
        let (image, upper) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let open = |dir: &tempfile::TempDir| fs::File::open(dir.path()).expect("a directory");
        fs::create_dir(image.path().join("etc")).expect("a directory of the image");
        let targets = MountTargets::missing_in(open(&image).as_fd());
        let etc = upper.path().join("etc");
        fs::create_dir(&etc).expect("a directory");
        targets.forget_parent(open(&upper).as_fd());
        assert!(!etc.exists());

        fs::create_dir(&etc).expect("a directory");
        fs::write(etc.join("x"), "").expect("a file");
        targets.forget_parent(open(&upper).as_fd());
        assert!(etc.exists(), "something was written");

        fs::remove_file(etc.join("x")).expect("the file");
        fs::set_permissions(&etc, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("the mode");
        targets.forget_parent(open(&upper).as_fd());
        assert!(etc.exists(), "its mode was changed");
    }

    #[test]
    fn processor_time_is_a_share_of_a_period() {
        let asked = RunLimits { cpu_quota: Some(50_000), cpu_period: Some(100_000), memory: Some(-1), ..RunLimits::default() };
        assert_eq!((limits(&asked).nano_cpus, limits(&asked).memory_bytes), (Some(500_000_000), None));
    }
}
