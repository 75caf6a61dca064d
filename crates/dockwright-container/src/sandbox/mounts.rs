//! Detached mounts that a sandbox may have but not change.
//!
//! A mount that was only made read-only can be made writable again by whoever is root in the mount namespace it gets attached to; for a
//! layer shared by all jobs that would be fatal. The kernel locks the flags of mounts when a namespace is copied for a *less privileged
//! user namespace*. So a short-lived child attaches the mounts in a namespace of its own, enters the sandbox's user namespace, copies the
//! mount namespace there, and clones the now locked mounts out of the copy:
//!
//! ```text
//! engine host   open_tree(CLONE) of each source
//! child         unshare(mount) → idmap, read-only → attach below a tmpfs → setns(user) → unshare(mount): locked
//!               → open_tree(CLONE) → descriptors back to the engine host → exit
//! ```

use std::{
    fs::File,
    io::{self, Write as _},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{CWD, Mode, OFlags},
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsmount, fsopen,
        mount_change, move_mount, open_tree,
    },
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
    process::{WaitId, WaitIdOptions, waitid},
    thread::UnshareFlags,
};

use super::IdMapping;
use crate::{
    socket,
    sys::{self, Fork, MountAttributes},
};

/// The most mounts handled by one child; their names have one letter each.
const BATCH: usize = 52;

/// Making detached mounts failed.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The source cannot be opened.
    #[error("open `{path}` as the source of a mount")]
    Open {
        /// The source.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The child that makes them failed.
    #[error("{step} for a mount of `{path}`")]
    Make {
        /// What it was doing.
        step: &'static str,
        /// The first source of the batch it failed in.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

/// One mount to make.
pub(crate) struct Wanted {
    pub path: PathBuf,
    /// The cloned tree.
    pub tree: OwnedFd,
    pub read_only: bool,
    pub recursive: bool,
    /// The user namespace whose mapping the mount gets; the kernel's ids are the disk's otherwise.
    pub id_map: Option<Arc<OwnedFd>>,
    /// Whether set-uid programs in it gain nothing and devices do not work.
    pub inert: bool,
}

impl Wanted {
    /// Clones the tree at a path.
    pub(crate) fn open(path: &Path, recursive: bool) -> Result<Self, MountError> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let flags = if recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags };
        let tree =
            open_tree(CWD, path, flags).map_err(|errno| MountError::Open { path: path.to_owned(), source: io::Error::from(errno) })?;
        Ok(Self { path: path.to_owned(), tree, read_only: false, recursive, id_map: None, inert: false })
    }
}

/// Makes mounts for one sandbox, from the engine host. Cloning shares it; it holds no more than a descriptor of the namespace.
#[derive(Debug, Clone)]
pub struct MountSource {
    user_namespace: Arc<OwnedFd>,
    ids: IdMapping,
}

impl MountSource {
    pub(crate) fn new(user_namespace: Arc<OwnedFd>, ids: IdMapping) -> Self {
        Self { user_namespace, ids }
    }

    /// Returns the id mapping of the sandbox.
    pub fn ids(&self) -> IdMapping {
        self.ids
    }

    /// Returns detached, read-only mounts of layer directories, in their order: files of the disk's root appear as the sandbox's root's,
    /// and nobody in the sandbox can make them writable.
    pub fn layer_mounts(&self, directories: &[&Path]) -> Result<Vec<OwnedFd>, MountError> {
        let wanted: Result<Vec<Wanted>, MountError> = directories
            .iter()
            .map(|directory| {
                let wanted = Wanted::open(directory, false)?;
                Ok(Wanted { read_only: true, id_map: self.own_map(), ..wanted })
            })
            .collect();
        self.make(&wanted?)
    }

    /// Returns the id map that shows the disk's root as the sandbox's, or nothing where they are the same.
    pub(crate) fn own_map(&self) -> Option<Arc<OwnedFd>> {
        match self.ids {
            IdMapping::Range { .. } => Some(Arc::clone(&self.user_namespace)),
            IdMapping::Identity => None,
        }
    }

    pub(crate) fn make(&self, wanted: &[Wanted]) -> Result<Vec<OwnedFd>, MountError> {
        let mut made = Vec::with_capacity(wanted.len());
        for batch in wanted.chunks(BATCH) {
            made.extend(make_batch(self.user_namespace.as_fd(), batch)?);
        }
        Ok(made)
    }
}

fn make_batch(user_namespace: BorrowedFd<'_>, wanted: &[Wanted]) -> Result<Vec<OwnedFd>, MountError> {
    let failed = |step, source| MountError::Make { step, path: wanted[0].path.clone(), source };
    let (ours, theirs) = socket::pair().map_err(|source| failed("make a socket pair", source))?;
    // SAFETY: until it exits, the child only makes system calls through rustix's raw backend: no allocation, no lock.
    match unsafe { sys::fork(0) }.map_err(|source| failed("fork", source))? {
        Fork::Child => {
            let report = make_in_child(user_namespace, wanted, theirs.as_fd());
            if let Err((step, errno)) = report {
                // A failed report leaves the parent with an early end, which it reports itself.
                let _ = rustix::io::write(&theirs, &[b'!', step as u8, errno.raw_os_error() as u8]);
            }
            sys::exit_now(0)
        }
        Fork::Parent(_, pidfd) => {
            drop(theirs);
            let received = receive(&ours, wanted.len());
            // Reaped whatever it said; it cannot outlive its last message by much.
            let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
            received.map_err(|(step, source)| failed(step, source))
        }
    }
}

/// The steps of the child, as the byte in its report.
#[derive(Clone, Copy)]
enum Step {
    Namespace,
    Tmpfs,
    ReadOnly,
    IdMap,
    Attach,
    User,
    Copy,
    Clone,
    Send,
}

const STEPS: [(Step, &str); 9] = [
    (Step::Namespace, "make a mount namespace"),
    (Step::Tmpfs, "mount a tmpfs"),
    (Step::ReadOnly, "set mount flags"),
    (Step::IdMap, "map ids (the file system may not support idmapped mounts)"),
    (Step::Attach, "attach the tree"),
    (Step::User, "enter the sandbox's user namespace"),
    (Step::Copy, "copy the mount namespace"),
    (Step::Clone, "clone the locked mount"),
    (Step::Send, "hand over the mount"),
];

fn receive(ours: &OwnedFd, expected: usize) -> Result<Vec<OwnedFd>, (&'static str, io::Error)> {
    let mut mounts = Vec::with_capacity(expected);
    let mut buffer = [0; 3];
    while mounts.len() < expected {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = rustix::net::RecvAncillaryBuffer::new(&mut space);
        let mut vector = [io::IoSliceMut::new(&mut buffer)];
        let received =
            rustix::io::retry_on_intr(|| rustix::net::recvmsg(ours, &mut vector, &mut control, rustix::net::RecvFlags::CMSG_CLOEXEC))
                .map_err(|errno| ("receive mounts", io::Error::from(errno)))?;
        for message in control.drain() {
            if let rustix::net::RecvAncillaryMessage::ScmRights(arrived) = message {
                mounts.extend(arrived);
            }
        }
        match (received.bytes, buffer[0]) {
            (0, _) => return Err(("receive mounts", io::Error::from(io::ErrorKind::UnexpectedEof))),
            (3, b'!') => {
                let step = STEPS.iter().find(|(step, _)| *step as u8 == buffer[1]).map_or("make mounts", |(_, text)| text);
                return Err((step, io::Error::from_raw_os_error(buffer[2].into())));
            }
            _ => {}
        }
    }
    Ok(mounts)
}

fn make_in_child(user_namespace: BorrowedFd<'_>, wanted: &[Wanted], answer: BorrowedFd<'_>) -> Result<(), (Step, Errno)> {
    sys::unshare(UnshareFlags::NEWNS).map_err(|errno| (Step::Namespace, errno))?;
    mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).map_err(|errno| (Step::Namespace, errno))?;
    enter_tmpfs().map_err(|errno| (Step::Tmpfs, errno))?;
    for (index, mount) in wanted.iter().enumerate() {
        prepare(mount)?;
        attach(mount, &name(index)).map_err(|errno| (Step::Attach, errno))?;
    }
    rustix::thread::move_into_link_name_space(user_namespace, Some(rustix::thread::LinkNameSpaceType::User))
        .map_err(|errno| (Step::User, errno))?;
    sys::unshare(UnshareFlags::NEWNS).map_err(|errno| (Step::Copy, errno))?;
    for (index, mount) in wanted.iter().enumerate() {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let flags = if mount.recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags };
        let locked = open_tree(CWD, name(index).as_slice(), flags).map_err(|errno| (Step::Clone, errno))?;
        send(answer, locked.as_fd()).map_err(|errno| (Step::Send, errno))?;
    }
    Ok(())
}

/// Covers `/proc`, which exists everywhere, with a tmpfs and goes there; the copy of the namespace keeps the working directory.
fn enter_tmpfs() -> rustix::io::Result<()> {
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let tmpfs = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    move_mount(&tmpfs, c"", CWD, c"/proc", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    rustix::process::chdir(c"/proc")
}

fn prepare(mount: &Wanted) -> Result<(), (Step, Errno)> {
    let mut set = 0;
    if mount.read_only {
        set |= libc::MOUNT_ATTR_RDONLY;
    }
    if mount.inert {
        set |= libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    }
    let flags = MountAttributes { set, propagation: libc::MS_PRIVATE, ..MountAttributes::default() };
    sys::set_mount_attributes(mount.tree.as_fd(), flags, mount.recursive).map_err(|errno| (Step::ReadOnly, errno))?;
    if let Some(map) = &mount.id_map {
        let mapped = MountAttributes { id_map: Some(map.as_fd()), ..MountAttributes::default() };
        sys::set_mount_attributes(mount.tree.as_fd(), mapped, mount.recursive).map_err(|errno| (Step::IdMap, errno))?;
    }
    Ok(())
}

fn attach(mount: &Wanted, name: &[u8; 1]) -> rustix::io::Result<()> {
    let stat = rustix::fs::statat(&mount.tree, c"", rustix::fs::AtFlags::EMPTY_PATH)?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
        rustix::fs::mkdirat(CWD, name.as_slice(), Mode::RWXU)?;
    } else {
        rustix::fs::openat(CWD, name.as_slice(), OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::RUSR)?;
    }
    move_mount(&mount.tree, c"", CWD, name.as_slice(), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

fn name(index: usize) -> [u8; 1] {
    let index = u8::try_from(index).expect("a batch is small");
    [if index < 26 { b'a' + index } else { b'A' + index - 26 }]
}

fn send(answer: BorrowedFd<'_>, mount: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [mount];
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(Errno::NOBUFS);
    }
    sendmsg(answer, &[io::IoSlice::new(b".")], &mut control, SendFlags::NOSIGNAL).map(drop)
}

/// Returns a user namespace with one extent of ids, made only to map a mount: `disk` ids appear as the kernel's `kernel` ids.
pub(crate) fn mapping_namespace(disk: u32, kernel: u32, count: u32) -> io::Result<OwnedFd> {
    let (ours, theirs) = socket::pair()?;
    // SAFETY: the child makes two system calls and exits.
    match unsafe { sys::fork(libc::CLONE_NEWUSER) }? {
        Fork::Child => {
            // Only this process and the parent hold the sockets; the read ends when the parent closes its end.
            drop(ours);
            let _ = rustix::io::read(&theirs, &mut [0_u8; 1]);
            sys::exit_now(0)
        }
        Fork::Parent(pid, pidfd) => {
            let pid = pid.as_raw_nonzero();
            let map = format!("{disk} {kernel} {count}\n");
            let opened = write_map(&format!("/proc/{pid}/uid_map"), &map)
                .and_then(|()| write_map(&format!("/proc/{pid}/gid_map"), &map))
                .and_then(|()| File::open(format!("/proc/{pid}/ns/user")));
            drop(ours);
            waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)?;
            Ok(opened?.into())
        }
    }
}

/// Writes an id map in one system call, as the kernel demands.
pub(crate) fn write_map(path: &str, map: &str) -> io::Result<()> {
    File::options().write(true).open(path)?.write_all(map.as_bytes())
}
