//! Carrying out requests.

use std::{
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags},
    mount::{UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, unmount},
    process::Pid,
    thread::{LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces},
};

use super::{
    Server, Underway,
    state::{Container, Member, Stat},
};
use crate::{
    cgroup::Group,
    mount,
    network::Links,
    process::{
        ContainerSpec, ContainerTask, ExecSpec, Interface, Limits, Make, NamespaceMode, NetworkMode, OverlaySpec, Refusal, Reporter,
        Rootfs, Target, describe, is_directory, join_network, open_in_root, open_sockets, run_container, run_exec, run_in_mounts,
    },
    sandbox::is_name,
    socket,
    spawner::{Answer, ErrorKind, ProcessInfo, Request, TreeRequest},
    sys::{self, Fork},
};

/// Below this directory the scratch directory of the engine is mounted; overlays write nowhere else.
const SCRATCH: &str = "/var/lib/docker";

/// Parents walked through before a process counts as nobody's.
const MAX_ANCESTORS: usize = 4096;

type Outcome = Result<Option<(Answer, Vec<OwnedFd>)>, Refusal>;

impl Server {
    /// Carries out a request; `None` means that a clone was made which will answer.
    pub(super) fn carry_out(&mut self, number: u64, request: Request, descriptors: Vec<OwnedFd>) -> Outcome {
        match request {
            Request::AttachLayer { name } => self.attach_layer(name, descriptors).map(done),
            Request::DetachLayer { name } => self.detach_layer(&name).map(done),
            Request::AttachMount { path } => attach_mount(&path, descriptors).map(done),
            Request::DetachMount { path } => detach(&path).map(done),
            Request::MountRootfs { overlay } => self.mount_rootfs(&overlay).map(done),
            Request::UnmountRootfs { name } => unmount_rootfs(&name).map(done),
            Request::OpenRootfs { name } => open_directory(&rootfs_path(&name)?).map(with_descriptor),
            Request::OpenRoot { container } => {
                let pid = self.container(&container)?.pid.as_raw_nonzero();
                open_directory(Path::new(&format!("/proc/{pid}/root"))).map(with_descriptor)
            }
            Request::CloneTree { tree } => self.clone_tree(number, tree),
            Request::Start { spec } => self.start(number, *spec, descriptors),
            Request::Exec { spec } => self.exec(number, *spec, descriptors),
            Request::Signal { id, signal, all } => self.signal(&id, signal, all).map(done),
            Request::Freeze { container, frozen } => self.freeze(&container, frozen).map(done),
            Request::Update { container, limits } => self.update(&container, &limits).map(done),
            Request::Usage { container } => Ok(answer(Answer::Usage(self.container(&container)?.group.usage()))),
            Request::Processes { container } => {
                self.container(&container)?;
                Ok(answer(Answer::Processes(self.processes(&container))))
            }
            Request::ContainerOf { pid } => Ok(answer(Answer::Container(self.container_of(pid)))),
            Request::Connect { container, interface } => self.connect(number, &container, interface),
            Request::Disconnect { container, interface } => self.in_network(number, &container, move || {
                Links::open().and_then(|mut links| links.delete(&interface)).map_err(system("disconnect the interface"))?;
                Ok(Vec::new())
            }),
            Request::OpenSockets { container, sockets } => self.in_network(number, &container, move || open_sockets(&sockets)),
        }
    }

    fn attach_layer(&mut self, name: String, descriptors: Vec<OwnedFd>) -> Result<(), Refusal> {
        if self.layers.contains_key(&name) {
            return Ok(());
        }
        let layer = only(descriptors)?;
        self.layers_made += 1;
        let path = layer_path(self.layers_made);
        fs::create_dir(&path).map_err(system("make a layer's mount point"))?;
        mount::attach(layer.as_fd(), &path).map_err(system("attach a layer"))?;
        self.layers.insert(name, self.layers_made);
        Ok(())
    }

    fn detach_layer(&mut self, name: &str) -> Result<(), Refusal> {
        let number = self.layers.remove(name).ok_or_else(|| Refusal::not_found(format!("no such layer: {name}")))?;
        detach(&layer_path(number))
    }

    fn mount_rootfs(&self, overlay: &OverlaySpec) -> Result<(), Refusal> {
        let target = rootfs_path(&overlay.name)?;
        let layers: Vec<PathBuf> = overlay
            .layers
            .iter()
            .map(|name| {
                let number = self.layers.get(name).ok_or_else(|| Refusal::not_found(format!("layer {name} is not attached")))?;
                Ok(layer_path(*number))
            })
            .collect::<Result<_, Refusal>>()?;
        for directory in [&overlay.upper, &overlay.work] {
            let inside = directory.starts_with(SCRATCH) && !directory.components().any(|part| part == std::path::Component::ParentDir);
            if !inside {
                return Err(Refusal::invalid(format!("`{}` is not below {SCRATCH}", directory.display())));
            }
            fs::create_dir_all(directory).map_err(system("make an overlay's directory"))?;
        }
        fs::create_dir(&target).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Refusal::conflict(format!("root file system {} is mounted already", overlay.name)),
            _ => system("make a root directory")(error),
        })?;
        let mounted = mount_overlay(&layers, overlay).and_then(|mount| mount::attach(mount.as_fd(), &target));
        mounted.map_err(|error| {
            // So that it can be tried again.
            let _ = fs::remove_dir(&target);
            system("mount the overlay")(error)
        })
    }

    fn clone_tree(&mut self, number: u64, tree: TreeRequest) -> Outcome {
        let TreeRequest { container, path, create } = tree;
        let make = if create { Make::Directory } else { Make::Nothing };
        let clone = move |root: std::os::fd::BorrowedFd<'_>| {
            let source = open_in_root(root, &path, make).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => Refusal::invalid(format!("bind source path does not exist: {}", path.display())),
                _ => system("open a bind mount's source")(error),
            })?;
            let recursive = is_directory(&source).map_err(system("look at a bind mount's source"))?;
            mount::clone_at(source, recursive).map_err(system("clone a bind mount's source"))
        };
        match container {
            None => Ok(with_descriptor(clone(open_directory(Path::new("/"))?.as_fd())?)),
            Some(container) => {
                let target = self.container(&container)?.pidfd.try_clone().map_err(system("copy a descriptor"))?;
                self.task(number, move || run_in_mounts(target.as_fd(), clone))
            }
        }
    }

    fn start(&mut self, number: u64, spec: ContainerSpec, descriptors: Vec<OwnedFd>) -> Outcome {
        if !is_name(&spec.id) {
            return Err(Refusal::invalid(format!("`{}` cannot name a container", spec.id)));
        }
        if self.members.values().any(|member| member.reported_id().as_ref() == Some(&spec.id)) {
            return Err(Refusal::conflict(format!("container {} is running already", spec.id)));
        }
        let root = match &spec.rootfs {
            Rootfs::Mounted(name) => rootfs_path(name)?,
            Rootfs::Directory(path) => path.clone(),
        };
        let joins = self.joins(&spec)?;
        let pids = self.pids_of(&spec.pid)?;
        let (group, _) = Group::create(&self.hierarchies, &spec.id, &spec.limits);
        let mut flags = libc::CLONE_NEWNS;
        for (mode, flag) in [(&spec.pid, libc::CLONE_NEWPID), (&spec.ipc, libc::CLONE_NEWIPC), (&spec.uts, libc::CLONE_NEWUTS)] {
            if *mode == NamespaceMode::Private {
                flags |= flag;
            }
        }
        let hierarchies = self.hierarchies.clone();
        let cloned = self.clone(flags, pids.as_ref(), |reporter| {
            run_container(ContainerTask { spec: &spec, root, group: &group, hierarchies: &hierarchies, joins, descriptors }, reporter)
        });
        let (pid, pidfd, socket) = match cloned {
            Ok(cloned) => cloned,
            Err(refusal) => {
                group.remove();
                return Err(refusal);
            }
        };
        self.containers.insert(spec.id.clone(), Container::new(pid, pidfd, group, &spec.pid));
        self.members.insert(pid, Member::First { container: spec.id });
        self.underway.push(Underway { number, pid, socket, opened: Vec::new(), terminal: false, executes: true });
        Ok(None)
    }

    /// Opens the namespaces of other containers that a new one joins.
    fn joins(&self, spec: &ContainerSpec) -> Result<Vec<(LinkNameSpaceType, OwnedFd)>, Refusal> {
        let mut joins = Vec::new();
        let network = match &spec.network {
            NetworkMode::Container(id) => NamespaceMode::Container(id.clone()),
            NetworkMode::Own { .. } | NetworkMode::Sandbox => NamespaceMode::Sandbox,
        };
        let wanted = [
            (&network, "net", LinkNameSpaceType::Network),
            (&spec.ipc, "ipc", LinkNameSpaceType::InterProcessCommunication),
            (&spec.uts, "uts", LinkNameSpaceType::HostNameAndNISDomainName),
        ];
        for (mode, name, kind) in wanted {
            if let NamespaceMode::Container(id) = mode {
                let path = format!("/proc/{}/ns/{name}", self.container(id)?.pid.as_raw_nonzero());
                joins.push((kind, fs::File::open(path).map_err(system("open a container's namespace"))?.into()));
            }
        }
        Ok(joins)
    }

    fn pids_of(&self, mode: &NamespaceMode) -> Result<Option<OwnedFd>, Refusal> {
        match mode {
            NamespaceMode::Container(id) => Ok(Some(self.container(id)?.pidfd.try_clone().map_err(system("copy a descriptor"))?)),
            NamespaceMode::Private | NamespaceMode::Sandbox => Ok(None),
        }
    }

    fn exec(&mut self, number: u64, spec: ExecSpec, descriptors: Vec<OwnedFd>) -> Outcome {
        if self.members.values().any(|member| member.reported_id().as_ref() == Some(&spec.id)) {
            return Err(Refusal::conflict(format!("process {} is running already", spec.id)));
        }
        let container = self.container(&spec.container)?;
        let pidfd = container.pidfd.try_clone().map_err(system("copy a descriptor"))?;
        let target = Target { pidfd: pidfd.as_fd(), group: &container.group };
        let cloned = self.clone(0, Some(&pidfd), |reporter| run_exec(&spec, &target, descriptors, reporter));
        let (pid, _, socket) = cloned?;
        self.members.insert(pid, Member::Joined { id: spec.id, container: spec.container });
        self.underway.push(Underway { number, pid, socket, opened: Vec::new(), terminal: false, executes: true });
        Ok(None)
    }

    fn signal(&self, id: &str, signal: i32, all: bool) -> Result<(), Refusal> {
        if all {
            self.container(id)?;
            for process in self.processes(id) {
                if let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) {
                    // Gone already is as good.
                    let _ = sys::kill(pid, signal);
                }
            }
            return Ok(());
        }
        let found = self.members.iter().find(|(_, member)| member.reported_id().as_deref() == Some(id));
        let (pid, _) = found.ok_or_else(|| Refusal::not_found(format!("no running process {id}")))?;
        sys::kill(*pid, signal).map_err(|errno| match errno {
            rustix::io::Errno::INVAL => Refusal::invalid(format!("invalid signal: {signal}")),
            errno => system("send a signal")(errno.into()),
        })
    }

    fn freeze(&self, id: &str, frozen: bool) -> Result<(), Refusal> {
        if self.container(id)?.group.freeze(frozen) {
            return Ok(());
        }
        // Without a freezer, stopping every process comes close; those that are just being forked may slip through.
        self.signal(id, if frozen { libc::SIGSTOP } else { libc::SIGCONT }, true)
    }

    fn update(&self, id: &str, limits: &Limits) -> Result<(), Refusal> {
        let refused = self.container(id)?.group.limit(limits);
        if refused.is_empty() { Ok(()) } else { Err(Refusal::conflict(refused.join("; "))) }
    }

    fn connect(&mut self, number: u64, id: &str, interface: Interface) -> Outcome {
        let pid = self.container(id)?.pid.as_raw_nonzero();
        let namespace = fs::File::open(format!("/proc/{pid}/ns/net")).map_err(system("open the container's network"))?;
        let failed = system("connect the interface");
        let mut sandbox = Links::open().map_err(&failed)?;
        let bridge = sandbox.index(&interface.bridge).map_err(&failed)?;
        sandbox.add_veth(&interface, bridge, namespace.as_fd()).map_err(&failed)?;
        self.in_network(number, id, move || {
            let mut own = Links::open().map_err(system("open a netlink socket"))?;
            own.configure(&interface).map_err(|error| {
                // The pair goes when either end goes.
                let _ = own.delete(&interface.name);
                system("configure the interface")(error)
            })?;
            Ok(Vec::new())
        })
    }

    fn in_network(&mut self, number: u64, id: &str, action: impl FnOnce() -> Result<Vec<OwnedFd>, Refusal>) -> Outcome {
        let target = self.container(id)?.pidfd.try_clone().map_err(system("copy a descriptor"))?;
        self.task(number, move || join_network(target.as_fd()).and_then(|()| action()))
    }

    /// Runs something in a clone that reports its outcome and ends.
    fn task(&mut self, number: u64, action: impl FnOnce() -> Result<Vec<OwnedFd>, Refusal>) -> Outcome {
        let cloned = self.clone(0, None, |reporter| {
            reporter.finish(action());
        });
        let (pid, _, socket) = cloned?;
        self.members.insert(pid, Member::Task);
        self.underway.push(Underway { number, pid, socket, opened: Vec::new(), terminal: false, executes: false });
        Ok(None)
    }

    /// Clones PID 1, in another pid namespace if one is given.
    fn clone(&self, flags: libc::c_int, pids: Option<&OwnedFd>, child: impl FnOnce(Reporter)) -> Result<(Pid, OwnedFd, OwnedFd), Refusal> {
        let (ours, theirs) = socket::pair().map_err(system("make a socket pair"))?;
        if let Some(pids) = pids {
            move_into_thread_name_spaces(pids.as_fd(), ThreadNameSpaceType::PROCESS_ID)
                .map_err(|errno| system("enter the container's processes")(errno.into()))?;
        }
        // SAFETY: this process has one thread.
        let forked = unsafe { sys::fork(flags) };
        if matches!(forked, Ok(Fork::Child)) {
            drop(ours);
            child(Reporter::new(theirs));
            sys::exit_now(0)
        }
        if pids.is_some() {
            // Only children are affected by it, and the next ones belong here again.
            let own = fs::File::open("/proc/self/ns/pid").map_err(system("open the own pid namespace"))?;
            move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::ProcessID))
                .map_err(|errno| system("return to the own pid namespace")(errno.into()))?;
        }
        match forked.map_err(system("clone a process"))? {
            Fork::Parent(pid, pidfd) => Ok((pid, pidfd, ours)),
            Fork::Child => sys::exit_now(0),
        }
    }

    fn container(&self, id: &str) -> Result<&Container, Refusal> {
        self.containers.get(id).ok_or_else(|| Refusal::conflict(format!("container {id} is not running")))
    }

    /// Finds whose descendant a process is. Orphans belong to the PID 1 of their namespace, so the walk always gets there.
    fn container_of(&self, pid: u32) -> Option<String> {
        let mut current = pid;
        for _ in 0..MAX_ANCESTORS {
            let member = i32::try_from(current).ok().and_then(Pid::from_raw).and_then(|pid| self.members.get(&pid));
            match member {
                Some(Member::First { container } | Member::Joined { container, .. }) => return Some(container.clone()),
                Some(Member::Task) => return None,
                None => current = Stat::read(current)?.parent,
            }
        }
        None
    }

    fn processes(&self, id: &str) -> Vec<ProcessInfo> {
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let mut found: Vec<ProcessInfo> =
            pids.filter(|pid| self.container_of(*pid).as_deref() == Some(id)).filter_map(process_info).collect();
        found.sort_by_key(|process| process.pid);
        found
    }
}

fn process_info(pid: u32) -> Option<ProcessInfo> {
    use std::os::unix::fs::MetadataExt as _;
    let stat = Stat::read(pid)?;
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let text = String::from_utf8_lossy(&arguments).trim_end_matches('\0').replace('\0', " ");
    let name = || fs::read_to_string(format!("/proc/{pid}/comm")).map(|name| format!("[{}]", name.trim_end())).unwrap_or_default();
    Some(ProcessInfo {
        pid,
        parent: stat.parent,
        uid: fs::metadata(format!("/proc/{pid}")).ok()?.uid(),
        cpu_ticks: stat.cpu_ticks,
        started_ticks: stat.started_ticks,
        terminal: stat.terminal,
        command: if text.is_empty() { name() } else { text },
    })
}

fn mount_overlay(layers: &[PathBuf], overlay: &OverlaySpec) -> io::Result<OwnedFd> {
    use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_flag(&context, "userxattr")?;
    // A scratch layer has no directory below it, which overlayfs does not accept; an empty one changes nothing.
    let empty = [PathBuf::from("/.layers/empty")];
    let layers = if layers.is_empty() {
        fs::create_dir_all(&empty[0])?;
        &empty
    } else {
        layers
    };
    add_lower_layers(&context, layers)?;
    fsconfig_set_string(&context, "upperdir", &overlay.upper)?;
    fsconfig_set_string(&context, "workdir", &overlay.work)?;
    fsconfig_create(&context)?;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}

fn add_lower_layers(context: &OwnedFd, layers: &[PathBuf]) -> io::Result<()> {
    let one_by_one = layers.iter().try_for_each(|layer| fsconfig_set_string(context, "lowerdir+", layer));
    match one_by_one {
        Ok(()) => Ok(()),
        // Kernels before 6.7 take one string, of at most 256 bytes by this interface; paths here are a few bytes long.
        Err(_) => {
            let joined: Vec<String> = layers.iter().map(|layer| layer.display().to_string()).collect();
            Ok(fsconfig_set_string(context, "lowerdir", joined.join(":"))?)
        }
    }
}

fn attach_mount(path: &Path, descriptors: Vec<OwnedFd>) -> Result<(), Refusal> {
    let mount = only(descriptors)?;
    let make = if is_directory(&mount).map_err(system("look at a mount"))? { Make::Directory } else { Make::File };
    let target = open_in_root(open_directory(Path::new("/"))?.as_fd(), path, make).map_err(system("make a mount point"))?;
    mount::attach_at(mount.as_fd(), target.as_fd()).map_err(system("attach a mount"))
}

fn unmount_rootfs(name: &str) -> Result<(), Refusal> {
    let path = rootfs_path(name)?;
    if !path.exists() {
        return Err(Refusal::not_found(format!("root file system {name} is not mounted")));
    }
    detach(&path)
}

/// Unmounts and removes the mount point.
fn detach(path: &Path) -> Result<(), Refusal> {
    unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).map_err(|errno| system("unmount")(errno.into()))?;
    let removed = if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
    removed.map_err(system("remove a mount point"))
}

fn open_directory(path: &Path) -> Result<OwnedFd, Refusal> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| match errno {
        rustix::io::Errno::NOENT => Refusal::not_found(format!("`{}` does not exist", path.display())),
        errno => system("open a root directory")(errno.into()),
    })
}

fn layer_path(number: u64) -> PathBuf {
    PathBuf::from(format!("/.layers/{number}"))
}

fn rootfs_path(name: &str) -> Result<PathBuf, Refusal> {
    if is_name(name) {
        Ok(Path::new("/run/dockwright/rootfs").join(name))
    } else {
        Err(Refusal::invalid(format!("`{name}` cannot name a root file system")))
    }
}

fn only(mut descriptors: Vec<OwnedFd>) -> Result<OwnedFd, Refusal> {
    match (descriptors.pop(), descriptors.is_empty()) {
        (Some(descriptor), true) => Ok(descriptor),
        _ => Err(Refusal::invalid("this request carries one descriptor")),
    }
}

fn system(what: &'static str) -> impl Fn(io::Error) -> Refusal {
    move |error| Refusal { kind: ErrorKind::System, message: format!("{what}: {}", describe(&error)) }
}

fn done(_: ()) -> Option<(Answer, Vec<OwnedFd>)> {
    answer(Answer::Done)
}

fn answer(answer: Answer) -> Option<(Answer, Vec<OwnedFd>)> {
    Some((answer, Vec::new()))
}

fn with_descriptor(descriptor: OwnedFd) -> Option<(Answer, Vec<OwnedFd>)> {
    Some((Answer::Done, vec![descriptor]))
}
