//! The new mount interface in the few forms that sandboxes and containers need.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::CWD,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
        fsmount, fsopen, move_mount, open_tree,
    },
};

/// Links that every `/dev` has.
pub(crate) const DEVICE_LINKS: [(&str, &str); 5] = [
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Options of a tmpfs.
pub(crate) struct Tmpfs<'a> {
    pub size: &'a str,
    pub mode: &'a str,
    pub attributes: u64,
}

/// Makes a file system and returns it as a detached mount. An option with an empty value is a flag. `attributes` are `MOUNT_ATTR_*`.
pub(crate) fn new(kind: &[u8], options: &[(&str, &str)], attributes: u64) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    // What `mount` and `df` show in the first column.
    fsconfig_set_string(&context, "source", kind)?;
    for (key, value) in options {
        if value.is_empty() { fsconfig_set_flag(&context, *key) } else { fsconfig_set_string(&context, *key, *value) }
            .map_err(|errno| io::Error::new(io::Error::from(errno).kind(), format!("option {key}={value}: {errno}")))?;
    }
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::from_bits_retain(u32::try_from(attributes).expect("attributes fit in 32 bits"));
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Attaches a detached mount at a path, whose last link is followed. For paths that a container controls, see [`attach_at`].
pub(crate) fn attach(mount: BorrowedFd<'_>, target: &Path) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    Ok(move_mount(mount, "", CWD, target, flags)?)
}

/// Attaches a detached mount at an opened file or directory.
pub(crate) fn attach_at(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", target, "", flags)?)
}

/// Clones what is mounted at a path into a detached mount.
pub(crate) fn clone(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    Ok(open_tree(CWD, path, clone_flags(recursive))?)
}

/// Clones what an opened file or directory is mounted from, starting there.
pub(crate) fn clone_at(source: impl AsFd, recursive: bool) -> io::Result<OwnedFd> {
    Ok(open_tree(source, "", clone_flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH)?)
}

fn clone_flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags }
}

/// Mounts a tmpfs at a path.
pub(crate) fn tmpfs(target: &Path, options: &Tmpfs<'_>) -> io::Result<()> {
    let mount = new(b"tmpfs", &[("size", options.size), ("mode", options.mode)], options.attributes)?;
    attach(mount.as_fd(), target)
}
