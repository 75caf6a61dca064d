//! A clone of PID 1 that becomes a container: namespaces, root directory, mounts, masks, and finally the process.
//!
//! The clone works with the sandbox's root still visible; every path of the container is resolved below its root's descriptor, and only
//! the last step makes it the root. So a source never resolves in the container, nor a target outside it.

use std::{
    fs,
    io::{self, Write as _},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, ResolveFlags, openat2},
    mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space},
};

use super::{
    ContainerSpec, Interface, Mount, MountSource, NamespaceMode, NetworkMode, Refusal, Reporter,
    execute::{Streams, execute, given_streams, open_terminal, shown},
    join::open_sockets,
    report::Doing,
    root::{Make, is_directory, normal, open_in_root, open_without_links},
};
use crate::{
    cgroup::{Group, Hierarchy, Version},
    mount::{self, DEVICE_LINKS},
    network::Links,
    sys::{self, MountAttributes},
};

const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;
const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;

/// Hidden from containers that are not privileged, as Docker hides them.
const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

/// Read-only in containers that are not privileged.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Devices of every container; the terminal comes on top.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// What a clone needs beside the specification.
pub(crate) struct ContainerTask<'a> {
    pub spec: &'a ContainerSpec,
    /// The root directory in the sandbox.
    pub root: PathBuf,
    pub group: &'a Group,
    pub hierarchies: &'a [Hierarchy],
    /// Namespaces of other containers to join.
    pub joins: Vec<(LinkNameSpaceType, OwnedFd)>,
    /// Standard streams, then mounts.
    pub descriptors: Vec<OwnedFd>,
}

/// Becomes the container's first process.
pub(crate) fn run_container(task: ContainerTask<'_>, reporter: Reporter) -> ! {
    let spec = task.spec;
    match build(task, &reporter) {
        Ok((streams, init)) => execute(&spec.process, &streams, init, reporter),
        Err(refusal) => {
            reporter.failed(refusal);
            sys::exit_now(127)
        }
    }
}

/// Furnishes the container; returns its streams and, if it wants one, the binary to be its PID 1.
fn build(task: ContainerTask<'_>, reporter: &Reporter) -> Result<(Streams, Option<OwnedFd>), Refusal> {
    let ContainerTask { spec, root, group, hierarchies, joins, mut descriptors } = task;
    let given = if spec.process.terminal.is_some() { None } else { Some(given_streams(&mut descriptors)?) };
    group.enter(0).doing(|| "enter the container's cgroup".to_owned())?;
    sys::unshare(UnshareFlags::NEWCGROUP).doing(|| "make a cgroup namespace".to_owned())?;
    for (kind, namespace) in &joins {
        move_into_link_name_space(namespace.as_fd(), Some(*kind)).doing(|| "join a container's namespace".to_owned())?;
    }
    if let NetworkMode::Own { interfaces } = &spec.network {
        make_network(interfaces)?;
    }
    let sockets = open_sockets(&spec.sockets)?;
    set_names(spec)?;

    let mut root = Root::attach(&root, hierarchies)?;
    let devpts = root.default_mounts(spec)?;
    root.set_sysctls(spec)?;
    let terminal = spec.process.terminal.map(|size| open_terminal(&devpts, size)).transpose()?;
    if let Some((_, own_end)) = &terminal {
        root.bind_console(own_end)?;
    }
    root.devices(spec)?;
    for mount in &spec.mounts {
        root.mount(mount, &mut descriptors)?;
    }
    root.hide(spec)?;
    if spec.read_only_rootfs {
        root.make_read_only()?;
    }
    let init = spec.init.then(open_init).transpose()?;
    root.enter()?;

    let engine_ends = terminal.iter().map(|(engine_end, _)| engine_end.as_fd()).chain(sockets.iter().map(AsFd::as_fd));
    let engine_ends: Vec<BorrowedFd<'_>> = engine_ends.collect();
    if !engine_ends.is_empty() {
        reporter.opened(terminal.is_some(), &engine_ends)?;
    }
    drop(engine_ends);
    match (terminal, given) {
        (Some((_, own_end)), _) => Ok((Streams::Terminal(own_end), init)),
        (None, Some(given)) => Ok((given, init)),
        (None, None) => unreachable!("streams were given if there is no terminal"),
    }
}

fn open_init() -> Result<OwnedFd, Refusal> {
    rustix::fs::openat(rustix::fs::CWD, "/.dockwright", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .doing(|| "open the init binary".to_owned())
}

/// Makes the network namespace, with its interfaces, whose other ends are ports of the sandbox's bridges.
fn make_network(interfaces: &[Interface]) -> Result<(), Refusal> {
    let mut sandbox = Links::open().doing(|| "open a netlink socket".to_owned())?;
    // Indexes are looked up by the thread's namespace, so before leaving the sandbox's.
    let bridges: Vec<u32> = interfaces
        .iter()
        .map(|interface| sandbox.index(&interface.bridge).doing(|| format!("find the bridge {}", interface.bridge)))
        .collect::<Result<_, _>>()?;
    sys::unshare(UnshareFlags::NEWNET).doing(|| "make a network namespace".to_owned())?;
    let mut own = Links::open().and_then(|mut own| own.loopback_up().map(|()| own)).doing(|| "bring up loopback".to_owned())?;
    if interfaces.is_empty() {
        return Ok(());
    }
    let namespace = fs::File::open("/proc/thread-self/ns/net").doing(|| "open the network namespace".to_owned())?;
    for (interface, bridge) in interfaces.iter().zip(bridges) {
        sandbox
            .add_veth(interface, bridge, namespace.as_fd())
            .and_then(|()| own.configure(interface))
            .doing(|| format!("connect {} to {}", interface.name, interface.bridge))?;
    }
    Ok(())
}

fn set_names(spec: &ContainerSpec) -> Result<(), Refusal> {
    if spec.uts != NamespaceMode::Private {
        return Ok(());
    }
    if !spec.hostname.is_empty() {
        rustix::system::sethostname(spec.hostname.as_bytes()).doing(|| format!("set the host name {}", spec.hostname))?;
    }
    if !spec.domainname.is_empty() {
        sys::set_domain_name(&spec.domainname).doing(|| format!("set the domain name {}", spec.domainname))?;
    }
    Ok(())
}

/// The container's root directory while it is being furnished.
struct Root<'a> {
    root: OwnedFd,
    hierarchies: &'a [Hierarchy],
    /// The container's own procfs, reached past whatever its image mounts or links.
    proc: Option<OwnedFd>,
}

impl<'a> Root<'a> {
    fn attach(path: &Path, hierarchies: &'a [Hierarchy]) -> Result<Self, Refusal> {
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).doing(|| "make mounts private".to_owned())?;
        let root = mount::clone(path, true).doing(|| format!("find the root directory {}", shown(path)))?;
        mount::attach(root.as_fd(), Path::new("/tmp")).doing(|| "attach the root directory".to_owned())?;
        Ok(Self { root, hierarchies, proc: None })
    }

    /// Mounts what every container has; returns its devpts.
    fn default_mounts(&mut self, spec: &ContainerSpec) -> Result<OwnedFd, Refusal> {
        let proc = self.mount_kernel("proc", "/proc", &[], NOSUID | NODEV | NOEXEC)?;
        self.proc = Some(proc);
        let dev = self.mount_kernel("tmpfs", "/dev", &[("mode", "755"), ("size", "65536k")], NOSUID)?;
        for (link, target) in DEVICE_LINKS {
            rustix::fs::symlinkat(target, &dev, link).doing(|| format!("link /dev/{link}"))?;
        }
        for name in DEVICES {
            let device = mount::clone(&Path::new("/dev").join(name), false).doing(|| format!("find the device {name}"))?;
            self.attach_at(device.as_fd(), &Path::new("/dev").join(name), Make::File)?;
        }
        let options = [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")];
        let devpts = self.mount_kernel("devpts", "/dev/pts", &options, NOSUID | NOEXEC)?;
        self.mount_kernel("mqueue", "/dev/mqueue", &[], NOSUID | NODEV | NOEXEC)?;
        match &spec.ipc {
            NamespaceMode::Sandbox => {
                let shared = mount::clone(Path::new("/dev/shm"), false).doing(|| "find /dev/shm".to_owned())?;
                self.attach_at(shared.as_fd(), Path::new("/dev/shm"), Make::Directory)?;
            }
            NamespaceMode::Private | NamespaceMode::Container(_) => {
                let size = spec.shm_bytes.to_string();
                self.mount_kernel("tmpfs", "/dev/shm", &[("mode", "1777"), ("size", &size)], NOSUID | NODEV | NOEXEC)?;
            }
        }
        let writable = if spec.process.capabilities.privileged { 0 } else { RDONLY };
        self.mount_kernel("sysfs", "/sys", &[], NOSUID | NODEV | NOEXEC | writable)?;
        self.mount_cgroups(writable)?;
        Ok(devpts)
    }

    /// Mounts a file system of the kernel's at a place that no link of the image leads to.
    fn mount_kernel(&self, kind: &str, target: &str, options: &[(&str, &str)], attributes: u64) -> Result<OwnedFd, Refusal> {
        let mount = mount::new(kind.as_bytes(), options, attributes).doing(|| format!("mount {kind} to {target}"))?;
        let made = open_in_root(self.root.as_fd(), Path::new(target), Make::Directory);
        made.doing(|| format!("make the mount point {target}"))?;
        let location = open_without_links(self.root.as_fd(), Path::new(target)).doing(|| format!("open the mount point {target}"))?;
        mount::attach_at(mount.as_fd(), location.as_fd()).doing(|| format!("attach {kind} to {target}"))?;
        Ok(mount)
    }

    /// Shows the container its own groups, read-only unless it is privileged.
    fn mount_cgroups(&self, attributes: u64) -> Result<(), Refusal> {
        let attributes = NOSUID | NODEV | NOEXEC | attributes;
        let Some(first) = self.hierarchies.first() else { return Ok(()) };
        if first.version == Version::Two {
            return self.mount_kernel("cgroup2", "/sys/fs/cgroup", &[], attributes).map(drop);
        }
        let tmpfs = self.mount_kernel("tmpfs", "/sys/fs/cgroup", &[("mode", "755"), ("size", "64k")], NOSUID | NODEV | NOEXEC)?;
        for hierarchy in self.hierarchies {
            let target = format!("/sys/fs/cgroup/{}", hierarchy.controllers.join(","));
            let options: Vec<(&str, &str)> = hierarchy.controllers.iter().map(|name| (name.as_str(), "")).collect();
            self.mount_kernel("cgroup", &target, &options, attributes)?;
        }
        let read_only = MountAttributes { set: attributes & RDONLY, ..MountAttributes::default() };
        sys::set_mount_attributes(tmpfs.as_fd(), read_only, false).doing(|| "make /sys/fs/cgroup read-only".to_owned())
    }

    fn set_sysctls(&self, spec: &ContainerSpec) -> Result<(), Refusal> {
        let own_network = matches!(spec.network, NetworkMode::Own { .. });
        if own_network && !spec.sysctls.contains_key("net.ipv4.ip_unprivileged_port_start") {
            self.set_sysctl("net.ipv4.ip_unprivileged_port_start", "0")?;
        }
        for (name, value) in &spec.sysctls {
            let allowed = match name.split('.').next() {
                Some("net") => own_network,
                Some("kernel") => {
                    let ipc = ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];
                    spec.ipc == NamespaceMode::Private && ipc.iter().any(|known| name.strip_prefix("kernel.") == Some(known))
                }
                Some("fs") => spec.ipc == NamespaceMode::Private && name.starts_with("fs.mqueue."),
                _ => false,
            };
            if !allowed || name.contains('/') || name.contains("..") {
                return Err(Refusal::invalid(format!("sysctl \"{name}\" is not in a separate kernel namespace")));
            }
            self.set_sysctl(name, value)?;
        }
        Ok(())
    }

    fn set_sysctl(&self, name: &str, value: &str) -> Result<(), Refusal> {
        let proc = self.proc.as_ref().expect("procfs is mounted before sysctls are set");
        let path = format!("sys/{}", name.replace('.', "/"));
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        openat2(proc, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), resolve)
            .map_err(io::Error::from)
            .and_then(|file| fs::File::from(file).write_all(value.as_bytes()))
            .doing(|| format!("set the sysctl {name}={value}"))
    }

    fn bind_console(&self, terminal: &OwnedFd) -> Result<(), Refusal> {
        let console = mount::clone_at(terminal, false).doing(|| "find the terminal".to_owned())?;
        self.attach_at(console.as_fd(), Path::new("/dev/console"), Make::File)
    }

    fn devices(&self, spec: &ContainerSpec) -> Result<(), Refusal> {
        for device in &spec.devices {
            let source = mount::clone(&device.source, false)
                .doing(|| format!("error gathering device information while adding custom device {}", shown(&device.source)))?;
            self.attach_at(source.as_fd(), &device.target, Make::File)?;
        }
        Ok(())
    }

    fn mount(&self, mount: &Mount, descriptors: &mut [OwnedFd]) -> Result<(), Refusal> {
        refuse_procfs(&mount.target)?;
        match &mount.source {
            MountSource::Path(path) => {
                let source = mount::clone(path, true).doing(|| format!("bind source path {}", shown(path)))?;
                self.attach_source(source.as_fd(), mount)
            }
            MountSource::Descriptor(index) => {
                let source =
                    descriptors.get(*index).ok_or_else(|| Refusal::invalid(format!("there is no descriptor {index} for a mount")))?;
                self.attach_source(source.as_fd(), mount)
            }
            MountSource::Tmpfs { options } => self.mount_tmpfs(mount, options),
        }
    }

    fn attach_source(&self, source: BorrowedFd<'_>, mount: &Mount) -> Result<(), Refusal> {
        let make = if is_directory(source).doing(|| "look at a mount's source".to_owned())? { Make::Directory } else { Make::File };
        if mount.read_only {
            let read_only = MountAttributes { set: RDONLY, ..MountAttributes::default() };
            sys::set_mount_attributes(source, read_only, true).doing(|| format!("make {} read-only", shown(&mount.target)))?;
        }
        self.attach_at(source, &mount.target, make)
    }

    fn mount_tmpfs(&self, mount: &Mount, options: &[String]) -> Result<(), Refusal> {
        let mut attributes = NOSUID | NODEV | NOEXEC;
        let mut settings = Vec::new();
        for option in options.iter().filter(|option| !option.is_empty()) {
            match (option.as_str(), option.split_once('=')) {
                ("exec", _) => attributes &= !NOEXEC,
                ("suid", _) => attributes &= !NOSUID,
                ("dev", _) => attributes &= !NODEV,
                ("ro", _) => attributes |= RDONLY,
                ("noatime", _) => attributes |= libc::MOUNT_ATTR_NOATIME,
                ("rw" | "noexec" | "nosuid" | "nodev" | "relatime" | "private" | "rprivate" | "tmpcopyup", _) => {}
                (_, Some((key @ ("size" | "mode" | "uid" | "gid" | "nr_inodes"), value))) => settings.push((key, value)),
                _ => return Err(Refusal::invalid(format!("invalid tmpfs option [\"{option}\"]"))),
            }
        }
        let tmpfs = mount::new(b"tmpfs", &settings, attributes | if mount.read_only { RDONLY } else { 0 });
        self.attach_at(tmpfs.doing(|| format!("mount a tmpfs to {}", shown(&mount.target)))?.as_fd(), &mount.target, Make::Directory)
    }

    fn attach_at(&self, source: BorrowedFd<'_>, target: &Path, make: Make) -> Result<(), Refusal> {
        let location = open_in_root(self.root.as_fd(), target, make).doing(|| format!("create mount destination for {}", shown(target)))?;
        if is_directory(&location).doing(|| format!("look at {}", shown(target)))? != (make == Make::Directory) {
            return Err(Refusal::invalid(format!(
                "error mounting to rootfs at \"{}\": not a directory: Are you trying to mount a directory onto a file (or vice-versa)? \
                 Check if the specified host path exists and is the expected type",
                shown(target)
            )));
        }
        mount::attach_at(source, location.as_fd()).doing(|| format!("error mounting to rootfs at \"{}\"", shown(target)))
    }

    /// Covers what must not be seen, and makes read-only what must not be written.
    fn hide(&self, spec: &ContainerSpec) -> Result<(), Refusal> {
        let defaults = |own: &Option<Vec<String>>, defaults: &[&str]| match own {
            Some(paths) => paths.clone(),
            None if spec.process.capabilities.privileged => Vec::new(),
            None => defaults.iter().map(|path| (*path).to_owned()).collect(),
        };
        for path in defaults(&spec.read_only_paths, &READ_ONLY) {
            if let Some(location) = self.existing(&path)? {
                let tree = mount::clone_at(&location, true).doing(|| format!("clone {path}"))?;
                let read_only = MountAttributes { set: RDONLY, ..MountAttributes::default() };
                sys::set_mount_attributes(tree.as_fd(), read_only, true).doing(|| format!("make {path} read-only"))?;
                mount::attach_at(tree.as_fd(), location.as_fd()).doing(|| format!("make {path} read-only"))?;
            }
        }
        let mut empty = None;
        for path in defaults(&spec.masked_paths, &MASKED) {
            let Some(location) = self.existing(&path)? else { continue };
            let cover = if is_directory(&location).doing(|| format!("look at {path}"))? {
                self.empty_directory(&mut empty)?
            } else {
                // The sandbox's own null device: the container's could be something else by now.
                mount::clone(Path::new("/dev/null"), false).doing(|| "find /dev/null".to_owned())?
            };
            mount::attach_at(cover.as_fd(), location.as_fd()).doing(|| format!("mask {path}"))?;
        }
        Ok(())
    }

    /// One empty, read-only tmpfs covers all directories: the kernel takes long to end many.
    fn empty_directory(&self, empty: &mut Option<OwnedFd>) -> Result<OwnedFd, Refusal> {
        match empty {
            Some(first) => mount::clone_at(first, false).doing(|| "clone an empty directory".to_owned()),
            None => {
                let made = mount::new(b"tmpfs", &[("size", "4k"), ("mode", "755")], RDONLY | NOSUID | NODEV | NOEXEC);
                let made = made.doing(|| "make an empty directory".to_owned())?;
                *empty = Some(made.try_clone().doing(|| "copy a descriptor".to_owned())?);
                Ok(made)
            }
        }
    }

    fn existing(&self, path: &str) -> Result<Option<OwnedFd>, Refusal> {
        match open_without_links(self.root.as_fd(), Path::new(path)) {
            Ok(location) => Ok(Some(location)),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(errno).doing(|| format!("open {path}")),
        }
    }

    fn make_read_only(&self) -> Result<(), Refusal> {
        let read_only = MountAttributes { set: RDONLY, ..MountAttributes::default() };
        sys::set_mount_attributes(self.root.as_fd(), read_only, false).doing(|| "make the root directory read-only".to_owned())
    }

    /// Makes it the root of the process and lets go of the sandbox's.
    fn enter(self) -> Result<(), Refusal> {
        let enter = || {
            rustix::process::fchdir(&self.root)?;
            sys::pivot_into_working_directory()?;
            unmount(".", UnmountFlags::DETACH)?;
            rustix::process::chdir("/")
        };
        enter().doing(|| "enter the root directory".to_owned())
    }
}

/// What is mounted over parts of `/proc` could lie to whoever trusts them, so only `/proc` subtrees that other runtimes allow are left.
fn refuse_procfs(target: &Path) -> Result<(), Refusal> {
    let inside = normal(target);
    if inside.as_os_str().is_empty() {
        return Err(Refusal::invalid("invalid specification: destination can't be '/'"));
    }
    match inside.strip_prefix("proc") {
        Ok(_) => Err(Refusal::invalid(format!("\"{}\" cannot be mounted because it is inside /proc", shown(target)))),
        Err(_) => Ok(()),
    }
}
