//! The engine host's side of a sandbox.

use std::{
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use rustix::{
    fs::{CWD, Mode, OFlags},
    process::{PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid},
};

use super::{
    IdMapping, MountError, MountSource, RANGE_IDS, SandboxSpec, SharedPath,
    launch::{self, ExchangeError, Launch, Mapped, Progress},
    mounts::{Wanted, mapping_namespace, write_map},
};
use crate::{
    cgroup::{self, Group},
    socket,
    spawner::ExitStatus,
    starter, sys,
};

/// A sandbox could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The id or a path of the specification is unusable.
    #[error("{what} of the sandbox is invalid: `{value}`")]
    Invalid {
        /// Which part.
        what: &'static str,
        /// Its value.
        value: String,
    },
    /// A step of the engine host failed.
    #[error("{step} for sandbox `{id}`")]
    Step {
        /// What was being done.
        step: &'static str,
        /// The sandbox.
        id: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A mount for the sandbox could not be made.
    #[error("make the mounts of sandbox `{id}`")]
    Mount {
        /// The sandbox.
        id: String,
        /// The reason.
        #[source]
        source: MountError,
    },
    /// The sandbox's own process reported a failure.
    #[error("sandbox `{id}`: {step}: {reason}")]
    Inside {
        /// The sandbox.
        id: String,
        /// What it was doing.
        step: String,
        /// The reason.
        reason: String,
    },
    /// The sandbox's process ended or spoke nonsense before it was ready.
    #[error("sandbox `{id}` ended before it was ready")]
    Exchange {
        /// The sandbox.
        id: String,
        /// The reason.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A running sandbox. Dropping it kills everything inside and removes its cgroups.
#[derive(Debug)]
pub struct Sandbox {
    id: String,
    pid: u32,
    pidfd: Arc<OwnedFd>,
    /// PID 1 ends when this closes, even if the engine host cannot kill any more.
    _control: OwnedFd,
    mounts: MountSource,
    group: Group,
    warnings: Vec<String>,
    ended: Mutex<Option<ExitStatus>>,
}

impl Sandbox {
    /// Makes a sandbox and starts the engine in it. Blocks until the engine is executed.
    pub fn spawn(spec: SandboxSpec) -> Result<Self, SpawnError> {
        validate(&spec)?;
        let step = |step: &'static str| {
            let id = spec.id.clone();
            move |source: io::Error| SpawnError::Step { step, id, source }
        };
        // The binary's mount must be cloned in the mount namespace its descriptor is of, which is this one.
        let binary = Wanted::open_file(&spec.binary).map_err(|source| SpawnError::Mount { id: spec.id.clone(), source })?;
        let (control, theirs) = socket::pair().map_err(step("make a socket pair"))?;
        let stage = start(&spec, theirs).map_err(step("execute the sandbox's process"))?;
        let guard = Stage { pid: stage };
        let exchange = |source: ExchangeError| SpawnError::Exchange { id: spec.id.clone(), source: Box::new(source) };

        let descriptors: Vec<BorrowedFd<'_>> = spec.descriptors.iter().map(|(_, descriptor)| descriptor.as_fd()).collect();
        launch::send(&control, &launch_message(&spec), &descriptors).map_err(exchange)?;
        expect(&spec.id, &control, |progress| matches!(progress, Progress::Unshared).then_some(()))?;
        map_ids(stage, spec.ids).map_err(step("write the id maps"))?;
        let namespace = fs::File::open(format!("/proc/{stage}/ns/user")).map_err(step("open the user namespace"))?;
        let mounts = MountSource::new(Arc::new(namespace.into()), spec.ids);

        let (group, mut warnings) = Group::create(&cgroup::hierarchies(), &cgroup::sandbox_name(&spec.id), &spec.limits);
        let begun = Begun { stage: guard, group: GroupGuard(group) };
        let group = &begun.group.0;
        group.enter(stage).map_err(step("enter the cgroups"))?;
        if let IdMapping::Range { first } = spec.ids {
            group.delegate(first).map_err(step("hand over the cgroups"))?;
        }

        let made = make_mounts(&spec, &mounts, binary)?;
        let made: Vec<BorrowedFd<'_>> = made.iter().map(AsFd::as_fd).collect();
        let shared_targets = spec.shared.iter().map(|shared| shared.target.clone()).collect();
        let mapped = Mapped { shared_targets, hierarchies: group.hierarchies() };
        launch::send(&control, &mapped, &made).map_err(exchange)?;
        let (pid, mut arrived) = expect(&spec.id, &control, |progress| match progress {
            Progress::Cloned { pid } => Some(*pid),
            _ => None,
        })?;
        let pidfd = Arc::new(arrived.pop().ok_or_else(|| early_end(&spec.id))?);
        // From here on dropping the sandbox is the clean-up, so it exists before it is ready.
        let Begun { stage, group } = begun;
        drop(stage);
        let mut sandbox = Self {
            id: spec.id.clone(),
            pid,
            pidfd,
            _control: control.try_clone().map_err(step("copy the control socket"))?,
            mounts,
            group: group.release(),
            warnings: Vec::new(),
            ended: Mutex::new(None),
        };
        let (inside, _) = expect(&spec.id, &control, |progress| match progress {
            Progress::Ready { warnings } => Some(warnings.clone()),
            _ => None,
        })?;
        warnings.extend(inside);
        sandbox.warnings = warnings;
        Ok(sandbox)
    }

    /// Returns the id of its specification.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the process id of its PID 1, as the engine host sees it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns what could not be had: cgroups and limits, mostly.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns what makes mounts for it; usable from any thread, for as long as the sandbox runs.
    pub fn mounts(&self) -> &MountSource {
        &self.mounts
    }

    /// Returns a descriptor that becomes readable when the sandbox has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Kills everything inside. Does not wait.
    pub fn kill(&self) {
        // Fails only when it has ended, which is what is wanted.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Waits for its end and returns how the engine in it ended.
    pub fn wait(&self) -> io::Result<ExitStatus> {
        let mut ended = self.ended.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(status) = *ended {
            return Ok(status);
        }
        let status = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED))?;
        let status = match status {
            Some(status) if status.exited() => ExitStatus::Code(status.exit_status().unwrap_or(0)),
            Some(status) => ExitStatus::Signal(status.terminating_signal().unwrap_or(Signal::KILL.as_raw())),
            None => ExitStatus::Code(0),
        };
        *ended = Some(status);
        Ok(status)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.kill();
        // PID 1 ends only after every process inside was reaped, so the groups are empty then.
        let _ = self.wait();
        self.group.remove();
    }
}

/// Removes cgroups that killed engine hosts left. Call it when an engine host starts.
pub fn sweep_cgroups() {
    cgroup::sweep();
}

/// The process before PID 1, killed and reaped unless the launch goes well; reaped in any case.
struct Stage {
    pid: u32,
}

impl Drop for Stage {
    fn drop(&mut self) {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw) else { return };
        // It exits by itself after cloning PID 1; a failed launch ends it here. It is our child, so its pid cannot have been reused.
        if let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            let exiting = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
            if !matches!(exiting, Ok(Some(_))) {
                let _ = pidfd_send_signal(&pidfd, Signal::KILL);
                let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
            }
        }
    }
}

/// What there is of a sandbox before its PID 1. Dropped in this order: a group with a process cannot be removed.
struct Begun {
    stage: Stage,
    group: GroupGuard,
}

/// Removes a group unless it was released to a sandbox.
struct GroupGuard(Group);

impl GroupGuard {
    fn release(mut self) -> Group {
        std::mem::take(&mut self.0)
    }
}

impl Drop for GroupGuard {
    fn drop(&mut self) {
        self.0.remove();
    }
}

fn validate(spec: &SandboxSpec) -> Result<(), SpawnError> {
    let invalid = |what, value: &str| Err(SpawnError::Invalid { what, value: value.to_owned() });
    if !is_name(&spec.id) {
        return invalid("the id", &spec.id);
    }
    for path in spec.shared.iter().flat_map(|shared| [&shared.source, &shared.target]).chain([&spec.scratch]) {
        if !path.is_absolute() || path.components().any(|part| part == std::path::Component::ParentDir) {
            return invalid("a path", &path.to_string_lossy());
        }
    }
    if let Some((name, _)) = spec.descriptors.iter().find(|(name, _)| !is_name(name) || name == "spawner") {
        return invalid("a descriptor's name", name);
    }
    Ok(())
}

/// Tells whether a string can be part of a path or list without being mistaken for something else.
pub(crate) fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    !text.is_empty() && text.len() <= 128 && !text.starts_with('.') && text.bytes().all(allowed)
}

fn launch_message(spec: &SandboxSpec) -> Launch {
    let bytes = |text: &std::ffi::OsString| text.as_bytes().to_vec();
    Launch {
        hostname: if spec.hostname.is_empty() { spec.id.clone() } else { spec.hostname.clone() },
        resolv_conf: spec.resolv_conf.clone(),
        engine_arguments: spec.engine_arguments.iter().map(bytes).collect(),
        engine_environment: spec.engine_environment.iter().map(|(name, value)| (bytes(name), bytes(value))).collect(),
        descriptor_names: spec.descriptors.iter().map(|(name, _)| name.clone()).collect(),
    }
}

/// Executes the binary.
fn start(spec: &SandboxSpec, control: OwnedFd) -> io::Result<u32> {
    let mut command = Command::new(sys::descriptor_path(&spec.binary));
    command.args(&spec.sandbox_arguments).env_clear().current_dir("/").stdin(control);
    match &spec.log {
        Some(log) => command.stdout(log.try_clone()?).stderr(log.try_clone()?),
        None => command.stdout(Stdio::null()).stderr(Stdio::null()),
    };
    // The child is not waited for through `Child`: it is known by its pid, and reaped when the launch is over.
    starter::run(move || command.spawn().map(|child| child.id()))
}

fn map_ids(pid: u32, ids: IdMapping) -> io::Result<()> {
    let map = |kind: &str| match ids {
        IdMapping::Range { first } => Ok(format!("0 {first} {RANGE_IDS}\n")),
        IdMapping::Identity => fs::read_to_string(format!("/proc/self/{kind}")).map(|own| identity(&own)),
    };
    write_map(&format!("/proc/{pid}/uid_map"), &map("uid_map")?)?;
    write_map(&format!("/proc/{pid}/gid_map"), &map("gid_map")?)
}

/// Returns the map in which every id of a namespace stands for itself.
fn identity(own: &str) -> String {
    let extents = own.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (first, count) = (fields.next()?, fields.nth(1)?);
        Some(format!("{first} {first} {count}\n"))
    });
    extents.collect()
}

fn make_mounts(spec: &SandboxSpec, mounts: &MountSource, binary: Wanted) -> Result<Vec<OwnedFd>, SpawnError> {
    let failed = |source| SpawnError::Mount { id: spec.id.clone(), source };
    if let IdMapping::Range { first } = spec.ids {
        let scratch = rustix::fs::openat(CWD, &spec.scratch, OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
            .and_then(|scratch| {
                rustix::fs::fchown(scratch, Some(rustix::fs::Uid::from_raw(first)), Some(rustix::fs::Gid::from_raw(first)))
            });
        scratch.map_err(|errno| SpawnError::Step { step: "take over the scratch directory", id: spec.id.clone(), source: errno.into() })?;
    }
    let mut wanted = vec![binary, Wanted::open(&spec.scratch, false).map_err(failed)?];
    for shared in &spec.shared {
        wanted.push(shared_mount(shared, mounts).map_err(failed)?);
    }
    mounts.make(&wanted).map_err(failed)
}

fn shared_mount(shared: &SharedPath, mounts: &MountSource) -> Result<Wanted, MountError> {
    let id_map = match mounts.ids() {
        IdMapping::Identity => None,
        IdMapping::Range { .. } if shared.owner == 0 => mounts.own_map(),
        // Files of one user of the host appear as root's, and nothing else can be made there: a sandbox must not create files of
        // the host's other users, least of all root's.
        IdMapping::Range { first } => {
            let namespace = mapping_namespace(shared.owner, first, 1);
            Some(Arc::new(namespace.map_err(|source| MountError::Make { step: "make an id map", path: shared.source.clone(), source })?))
        }
    };
    // An idmapped mount of a tree works only if every file system in it supports it; then what is mounted below stays outside.
    let recursive = id_map.is_none();
    Ok(Wanted { read_only: shared.read_only, id_map, inert: true, ..Wanted::open(&shared.source, recursive)? })
}

impl Wanted {
    /// Clones the mount of one file, which can be executed but not written.
    fn open_file(file: &OwnedFd) -> Result<Self, MountError> {
        let descriptor = PathBuf::from(sys::descriptor_path(file));
        let path = fs::read_link(&descriptor).unwrap_or_else(|_| Path::new("the binary").to_owned());
        Ok(Self { path, read_only: true, inert: true, ..Self::open(&descriptor, false)? })
    }
}

/// Opens a program, normally `/proc/self/exe`, for [`SandboxSpec::binary`].
///
/// Only a mount of this mount namespace can be cloned, and `/proc/self/exe` is of the one in which the process was executed; so it is
/// opened by its name. If that means another file by now, or none, the program is copied to `copy`, which must be on a file system that
/// allows execution: a file without a name cannot be mounted.
pub fn open_program(path: &Path, copy: &Path) -> io::Result<OwnedFd> {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    if let Ok(named) = fs::canonicalize(path).and_then(fs::File::open)
        && identity(named.metadata()?) == identity(fs::metadata(path)?)
    {
        return Ok(named.into());
    }
    fs::copy(path, copy)?;
    fs::File::open(copy).map(Into::into)
}

fn expect<T>(id: &str, control: &OwnedFd, wanted: impl Fn(&Progress) -> Option<T>) -> Result<(T, Vec<OwnedFd>), SpawnError> {
    let (progress, descriptors) =
        launch::receive(control).map_err(|source| SpawnError::Exchange { id: id.to_owned(), source: Box::new(source) })?;
    if let Some(value) = wanted(&progress) {
        return Ok((value, descriptors));
    }
    match progress {
        Progress::Failed { step, reason } => Err(SpawnError::Inside { id: id.to_owned(), step, reason }),
        _ => Err(early_end(id)),
    }
}

fn early_end(id: &str) -> SpawnError {
    SpawnError::Exchange { id: id.to_owned(), source: "unexpected message".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_program_is_copied() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        fs::write(&path, "old").unwrap();
        let running = fs::File::open(&path).unwrap();
        // Such a link leads to the file itself, as `/proc/self/exe` does.
        let link = PathBuf::from(sys::descriptor_path(&running));
        let copy = directory.path().join("copy");
        let contents = || io::read_to_string(fs::File::from(open_program(&link, &copy).unwrap())).unwrap();
        assert_eq!(contents(), "old");
        assert!(!copy.exists());
        fs::write(directory.path().join("new"), "new").unwrap();
        fs::rename(directory.path().join("new"), &path).unwrap();
        assert_eq!(contents(), "old");
        fs::remove_file(&path).unwrap();
        assert_eq!(contents(), "old");
        assert!(copy.exists());
    }

    #[test]
    fn identity_of_a_mapped_namespace() {
        assert_eq!(identity("         0       1000          1\n         1     100000      65536\n"), "0 0 1\n1 1 65536\n");
    }

    #[test]
    fn names_cannot_be_paths() {
        for good in ["a", "job-1", "a_b.c"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", ".hidden", "a b", "a,b", "é"] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
