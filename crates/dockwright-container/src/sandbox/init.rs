//! The inside of a sandbox: from the freshly executed process to PID 1 with the engine running.

use std::{
    collections::HashMap,
    ffi::{CString, OsStr},
    fs, io,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    process::ExitCode,
    sync::{Mutex, OnceLock, PoisonError},
};

use rustix::{
    io::FdFlags,
    mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount},
    process::{Signal, set_parent_process_death_signal},
    thread::UnshareFlags,
};

use super::launch::{self, Launch, Mapped, Progress};
use crate::{
    cgroup::{self, Group, Hierarchy, Version},
    mount::{self, Tmpfs},
    network, socket,
    spawner::server::Server,
    sys::{self, Fork},
};

/// Names the engine's descriptors in its environment: `name:number,…`.
const DESCRIPTORS_VARIABLE: &str = "DOCKWRIGHT_DESCRIPTORS";

/// Devices of the host that every sandbox shows, as Docker shows them in containers.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Devices that are shown where the host has them and its permissions allow their use.
const OPTIONAL_DEVICES: [&str; 2] = ["fuse", "net/tun"];

/// A step that failed, and why.
pub(crate) struct Failure {
    pub step: String,
    pub reason: io::Error,
}

/// Names the step that an error belongs to.
pub(crate) trait During<T> {
    fn during(self, step: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, step: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| Failure { step: step.into(), reason: error.into() })
    }
}

/// Returns a descriptor that the engine was given under a name (`spawner` or one of [`super::SandboxSpec::descriptors`]). Each can be
/// taken once.
pub fn inherited(name: &str) -> Option<OwnedFd> {
    static DESCRIPTORS: OnceLock<Mutex<HashMap<String, OwnedFd>>> = OnceLock::new();
    let descriptors = DESCRIPTORS.get_or_init(|| {
        let variable = std::env::var(DESCRIPTORS_VARIABLE).unwrap_or_default();
        let entries = variable.split(',').filter_map(|entry| entry.split_once(':'));
        let adopted = entries.filter_map(|(name, number)| {
            let number = number.parse().ok().filter(|number| *number > 2)?;
            // SAFETY: the sandbox's PID 1 opened these for the engine and named them in a variable nobody else writes; they are adopted
            // here once, before anything else in the process could have guessed their numbers.
            let descriptor = unsafe { sys::adopt(number) };
            rustix::io::fcntl_setfd(&descriptor, FdFlags::CLOEXEC).ok()?;
            Some((name.to_owned(), descriptor))
        });
        Mutex::new(adopted.collect())
    });
    descriptors.lock().unwrap_or_else(PoisonError::into_inner).remove(name)
}

/// Runs `internal sandbox`. Standard input is the connection to the engine host.
pub(crate) fn run() -> ExitCode {
    let Ok(control) = take_connection() else { return ExitCode::FAILURE };
    match launch_pid_1(&control) {
        Ok(code) => code,
        Err(failure) => {
            report(&control, failure);
            ExitCode::FAILURE
        }
    }
}

/// Moves the connection from standard input, which becomes `/dev/null`: number 0 must not be given to another descriptor.
fn take_connection() -> io::Result<OwnedFd> {
    let control = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    rustix::stdio::dup2_stdin(fs::File::open("/dev/null")?)?;
    Ok(control)
}

fn report(control: &OwnedFd, failure: Failure) {
    // If the engine host is gone, nobody is left to tell.
    let _ = launch::send(control, &Progress::Failed { step: failure.step, reason: failure.reason.to_string() }, &[]);
}

fn launch_pid_1(control: &OwnedFd) -> Result<ExitCode, Failure> {
    set_parent_process_death_signal(Some(Signal::KILL)).during("tie the process to its parent")?;
    let (launch, descriptors): (Launch, _) = launch::receive(control).map_err(io::Error::other).during("receive the specification")?;
    if descriptors.len() != launch.descriptor_names.len() {
        return Err(io::Error::from(io::ErrorKind::InvalidData)).during("receive the engine's descriptors");
    }
    sys::unshare(UnshareFlags::NEWUSER).during("make a user namespace")?;
    let tell = |progress: &Progress, attached: &[BorrowedFd<'_>]| {
        launch::send(control, progress, attached).map_err(io::Error::other).during("talk to the engine host")
    };
    tell(&Progress::Unshared, &[])?;
    let (mapped, mounts): (Mapped, _) = launch::receive(control).map_err(io::Error::other).during("receive the mounts")?;
    become_root().during("become root of the user namespace")?;
    let namespaces = UnshareFlags::NEWNS | UnshareFlags::NEWNET | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS | UnshareFlags::NEWCGROUP;
    sys::unshare(namespaces).during("make namespaces")?;
    let (go, gone) = io::pipe().during("make a pipe")?;
    // SAFETY: this process has one thread.
    match unsafe { sys::fork(libc::CLONE_NEWPID | libc::CLONE_PARENT) }.during("clone PID 1")? {
        Fork::Parent(pid, pidfd) => {
            let pid = pid.as_raw_nonzero().get().unsigned_abs();
            tell(&Progress::Cloned { pid }, &[pidfd.as_fd()])?;
            drop((go, gone));
            Ok(ExitCode::SUCCESS)
        }
        Fork::Child => {
            drop(gone);
            // PID 1 speaks only after its descriptor was handed over.
            let _ = rustix::io::read(&go, &mut [0_u8; 1]);
            Ok(pid_1(control, &launch, descriptors, &mapped, mounts))
        }
    }
}

pub(crate) fn become_root() -> rustix::io::Result<()> {
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
    let (uid, gid) = (rustix::process::Uid::ROOT, rustix::process::Gid::ROOT);
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}

fn pid_1(control: &OwnedFd, launch: &Launch, descriptors: Vec<OwnedFd>, mapped: &Mapped, mounts: Vec<OwnedFd>) -> ExitCode {
    match prepare(control, launch, descriptors, mapped, mounts) {
        // The end of this process is the end of everything in the sandbox, so the loop runs until that is due.
        Ok(server) => ExitCode::from(server.run(control)),
        Err(failure) => {
            report(control, failure);
            ExitCode::FAILURE
        }
    }
}

fn prepare(
    control: &OwnedFd,
    launch: &Launch,
    descriptors: Vec<OwnedFd>,
    mapped: &Mapped,
    mounts: Vec<OwnedFd>,
) -> Result<Server, Failure> {
    // After the last change of credentials, which would clear it.
    set_parent_process_death_signal(Some(Signal::KILL)).during("tie PID 1 to the engine host")?;
    let signals = sys::child_signals().during("receive signals")?;
    build_root(launch, mapped, mounts)?;
    rustix::system::sethostname(launch.hostname.as_bytes()).during("set the host name")?;
    let no_firewall = network::prepare_sandbox();
    let (hierarchies, mut warnings) = mount_cgroups(&mapped.hierarchies);
    warnings.extend(no_firewall);
    let (spawner, engine_end) = socket::pair().during("make the spawner's socket pair")?;
    let engine = start_engine(launch, descriptors, engine_end)?;
    launch::send(control, &Progress::Ready { warnings }, &[]).map_err(io::Error::other).during("talk to the engine host")?;
    Ok(Server::new(spawner, signals, engine, hierarchies))
}

/// Builds the tmpfs described in the module of sandboxes and makes it the root.
fn build_root(launch: &Launch, mapped: &Mapped, mounts: Vec<OwnedFd>) -> Result<(), Failure> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).during("make mounts private")?;
    let devices = clone_devices()?;
    // Any directory will do to attach the new root before it becomes the root; the host's /proc stays uncovered, because the kernel
    // gives a user namespace a new /proc only where it sees an old one.
    let root = mount::new(b"tmpfs", &[("mode", "755")], 0).during("make the root file system")?;
    mount::attach(root.as_fd(), Path::new("/sys")).during("attach the root file system")?;
    rustix::process::fchdir(&root).during("enter the root file system")?;

    for directory in ["proc", "sys", "dev", "run", "tmp", "etc", "var/lib/docker", ".layers", "run/dockwright/rootfs"] {
        fs::create_dir_all(directory).during(format!("make `/{directory}`"))?;
    }
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions("tmp", fs::Permissions::from_mode(0o1777)).during("open `/tmp`")?;
    mount_kernel_file_systems()?;
    attach_devices(devices)?;
    attach_given(mapped, mounts)?;
    write_etc(launch).during("write `/etc`")?;

    sys::pivot_into_working_directory().during("change the root")?;
    unmount(".", UnmountFlags::DETACH).during("leave the host's files")?;
    rustix::process::chdir("/").during("enter the new root")
}

fn mount_kernel_file_systems() -> Result<(), Failure> {
    const PLAIN: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    let proc = mount::new(b"proc", &[], PLAIN).during(
        "mount /proc (a container around the engine host hides parts of its own: it needs `--security-opt systempaths=unconfined`)",
    )?;
    mount::attach(proc.as_fd(), Path::new("proc")).during("attach /proc")?;
    let sys = mount::new(b"sysfs", &[], PLAIN | libc::MOUNT_ATTR_RDONLY).during("mount /sys")?;
    mount::attach(sys.as_fd(), Path::new("sys")).during("attach /sys")?;
    mount::tmpfs(Path::new("dev"), &Tmpfs { size: "64k", mode: "755", attributes: libc::MOUNT_ATTR_NOSUID }).during("mount /dev")?;
    for directory in ["pts", "shm", "mqueue", "net"] {
        fs::create_dir(format!("dev/{directory}")).during("make directories of /dev")?;
    }
    let pts = mount::new(
        b"devpts",
        &[("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")],
        PLAIN & !libc::MOUNT_ATTR_NODEV,
    );
    mount::attach(pts.during("mount /dev/pts")?.as_fd(), Path::new("dev/pts")).during("attach /dev/pts")?;
    mount::tmpfs(Path::new("dev/shm"), &Tmpfs { size: "64m", mode: "1777", attributes: PLAIN }).during("mount /dev/shm")?;
    let mqueue = mount::new(b"mqueue", &[], PLAIN).during("mount /dev/mqueue")?;
    mount::attach(mqueue.as_fd(), Path::new("dev/mqueue")).during("attach /dev/mqueue")?;
    for (link, target) in mount::DEVICE_LINKS {
        std::os::unix::fs::symlink(target, Path::new("dev").join(link)).during("make links of /dev")?;
    }
    Ok(())
}

fn clone_devices() -> Result<Vec<(&'static str, OwnedFd)>, Failure> {
    let mut devices = Vec::new();
    for name in DEVICES {
        let path = Path::new("/dev").join(name);
        devices.push((name, mount::clone(&path, false).during(format!("find the device `{}`", path.display()))?));
    }
    devices.extend(OPTIONAL_DEVICES.iter().filter_map(|name| Some((*name, mount::clone(&Path::new("/dev").join(name), false).ok()?))));
    Ok(devices)
}

fn attach_devices(devices: Vec<(&str, OwnedFd)>) -> Result<(), Failure> {
    for (name, device) in devices {
        let target = Path::new("dev").join(name);
        fs::File::create(&target).during("make a device's file")?;
        mount::attach(device.as_fd(), &target).during(format!("attach the device `{name}`"))?;
    }
    Ok(())
}

/// Attaches what the engine host sent: the binary, the scratch directory, the shared paths.
fn attach_given(mapped: &Mapped, mounts: Vec<OwnedFd>) -> Result<(), Failure> {
    let mut mounts = mounts.into_iter();
    let mut next = || mounts.next().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData)).during("receive the mounts");
    fs::File::create(".dockwright").during("make `/.dockwright`")?;
    mount::attach(next()?.as_fd(), Path::new(".dockwright")).during("attach the binary")?;
    mount::attach(next()?.as_fd(), Path::new("var/lib/docker")).during("attach the scratch directory")?;
    for target in &mapped.shared_targets {
        let step = format!("attach the shared path `{}`", target.display());
        let below = target.strip_prefix("/").map_err(io::Error::other).during(&*step)?;
        fs::create_dir_all(below).during(&*step)?;
        mount::attach(next()?.as_fd(), below).during(step)?;
    }
    Ok(())
}

fn write_etc(launch: &Launch) -> io::Result<()> {
    fs::write("etc/passwd", "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")?;
    fs::write("etc/group", "root:x:0:\nnogroup:x:65534:\n")?;
    fs::write("etc/hosts", format!("127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.1.1\t{}\n", launch.hostname))?;
    fs::write("etc/hostname", format!("{}\n", launch.hostname))?;
    fs::write("etc/resolv.conf", &launch.resolv_conf)
}

/// Mounts the hierarchies anew: in the cgroup namespace, a mount shows the sandbox's own group as the root.
fn mount_cgroups(host: &[Hierarchy]) -> (Vec<Hierarchy>, Vec<String>) {
    const FLAGS: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    let root = Path::new("/sys/fs/cgroup");
    let mut mounted = Vec::new();
    let mut warnings = Vec::new();
    if host.first().is_some_and(|hierarchy| hierarchy.version == Version::One)
        && let Err(error) = mount::tmpfs(root, &Tmpfs { size: "64k", mode: "755", attributes: FLAGS })
    {
        warnings.push(format!("no cgroups in the sandbox: {error}"));
        return (mounted, warnings);
    }
    for hierarchy in host {
        match mount_hierarchy(hierarchy, root, FLAGS) {
            Ok(hierarchy) => mounted.push(hierarchy),
            Err(error) => warnings.push(format!("no cgroup {} in the sandbox: {error}", hierarchy.controllers.join(","))),
        }
    }
    (mounted, warnings)
}

fn mount_hierarchy(hierarchy: &Hierarchy, root: &Path, flags: u64) -> io::Result<Hierarchy> {
    let directory = match hierarchy.version {
        Version::One => {
            let directory = root.join(hierarchy.controllers.join(","));
            fs::create_dir(&directory)?;
            let options: Vec<(&str, &str)> = hierarchy.controllers.iter().map(|name| (name.as_str(), "")).collect();
            mount::attach(mount::new(b"cgroup", &options, flags)?.as_fd(), &directory)?;
            directory
        }
        Version::Two => {
            mount::attach(mount::new(b"cgroup2", &[], flags)?.as_fd(), root)?;
            root.to_owned()
        }
    };
    let mut own = Hierarchy { directory, ..hierarchy.clone() };
    if own.version == Version::Two {
        // A group with processes hands no controllers down, so PID 1 and the engine go into one of their own.
        let (group, _) = Group::create(std::slice::from_ref(&own), "init", &crate::process::Limits::default());
        group.enter(0)?;
        let offered = fs::read_to_string(own.directory.join("cgroup.controllers"))?;
        own.controllers = offered.split_whitespace().map(str::to_owned).collect();
        cgroup::hand_down(&own);
    }
    Ok(own)
}

fn start_engine(launch: &Launch, descriptors: Vec<OwnedFd>, spawner: OwnedFd) -> Result<rustix::process::Pid, Failure> {
    let named: Vec<(String, OwnedFd)> =
        launch.descriptor_names.iter().cloned().zip(descriptors).chain([("spawner".to_owned(), spawner)]).collect();
    let list: Vec<String> = named.iter().map(|(name, descriptor)| format!("{name}:{}", descriptor.as_raw_fd())).collect();
    let variable = [DESCRIPTORS_VARIABLE.as_bytes(), b"=", list.join(",").as_bytes()].concat();
    let variables = launch.engine_environment.iter().map(|(name, value)| [name.as_slice(), b"=", value.as_slice()].concat());
    let environment = c_strings(variables.chain([variable])).during("prepare the engine's environment")?;
    let arguments = [b".dockwright".to_vec()].into_iter().chain(launch.engine_arguments.iter().cloned());
    let arguments = c_strings(arguments).during("prepare the engine's arguments")?;
    // SAFETY: this process has one thread.
    match unsafe { sys::fork(0) }.during("fork the engine")? {
        Fork::Parent(pid, _) => Ok(pid),
        Fork::Child => {
            let failure = execute_engine(&named, &arguments, &environment);
            // Standard error is the log; PID 1 ends with the engine.
            let _ = io::Write::write_all(&mut io::stderr(), format!("execute the engine: {failure}\n").as_bytes());
            sys::exit_now(127)
        }
    }
}

fn execute_engine(named: &[(String, OwnedFd)], arguments: &[CString], environment: &[CString]) -> io::Error {
    let prepared = (|| {
        sys::close_on_exec_from(3)?;
        named.iter().try_for_each(|(_, descriptor)| rustix::io::fcntl_setfd(descriptor, FdFlags::empty()))?;
        io::Result::Ok(())
    })();
    sys::reset_signals();
    match prepared {
        Ok(()) => sys::execute(c"/.dockwright", arguments, environment),
        Err(error) => error,
    }
}

/// Makes C strings; a zero byte inside is an error.
pub(crate) fn c_strings(strings: impl IntoIterator<Item = Vec<u8>>) -> io::Result<Vec<CString>> {
    strings.into_iter().map(|string| CString::new(string).map_err(io::Error::from)).collect()
}

/// Returns a path as a C string.
pub(crate) fn c_path(path: impl AsRef<OsStr>) -> io::Result<CString> {
    Ok(CString::new(path.as_ref().as_bytes())?)
}
