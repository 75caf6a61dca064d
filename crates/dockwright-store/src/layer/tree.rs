//! Walking below a directory handle, and the marks of overlayfs.
//!
//! Every path here comes from an image. It is resolved by the kernel below the root it belongs to, so that no symlink, however it got
//! there, leads outside.

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, XattrFlags},
    io::Errno,
};

/// Marks a directory that hides what lies below it (`y`), or that contains attribute whiteouts (`x`).
pub(super) const OPAQUE: &str = "user.overlay.opaque";
/// Marks an empty file that stands for a deletion, where device nodes cannot be made.
pub(super) const WHITEOUT: &str = "user.overlay.whiteout";
const TRUSTED_OPAQUE: &str = "trusted.overlay.opaque";
const TRUSTED_WHITEOUT: &str = "trusted.overlay.whiteout";
/// The kernel's limit for one attribute's value.
const XATTR_MAX_BYTES: usize = 64 * 1024;
/// `openat2` asks to be called again when anything on the system was renamed while it resolved `..` below a root.
const RESOLVE_ATTEMPTS: usize = 128;

/// Opens a path below `root`; symlinks resolve as they would after a chroot.
pub(super) fn open_in_root(root: impl AsFd, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    for _ in 1..RESOLVE_ATTEMPTS {
        match rustix::fs::openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            outcome => return Ok(outcome?),
        }
    }
    Ok(rustix::fs::openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}

/// Opens a name in a directory without following a symlink.
pub(super) fn open_child(dir: impl AsFd, name: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(dir, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

/// Describes a name in a directory, not following a symlink; `None` if there is nothing.
pub(super) fn stat_child(dir: impl AsFd, name: &[u8]) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Returns the names in a directory in bytewise order.
pub(super) fn sorted_names(dir: impl AsFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Removes a name from a directory, with everything below it.
pub(super) fn remove_child(dir: impl AsFd, name: &[u8]) -> io::Result<()> {
    match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
        // Linux says EISDIR, POSIX EPERM.
        Err(Errno::ISDIR | Errno::PERM) => {}
        outcome => return Ok(outcome?),
    }
    let child = open_child(&dir, name, OFlags::RDONLY | OFlags::DIRECTORY)?;
    for entry in sorted_names(&child)? {
        remove_child(&child, entry.to_bytes())?;
    }
    Ok(rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?)
}

/// Tells whether this entry stands for a deletion.
pub(super) fn is_whiteout_device(stat: &Stat) -> bool {
    kind(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Tells whether this open file stands for a deletion by attribute.
pub(super) fn is_whiteout_file(file: impl AsFd, stat: &Stat) -> io::Result<bool> {
    if kind(stat) != FileType::RegularFile || stat.st_size != 0 {
        return Ok(false);
    }
    Ok(get_xattr(&file, WHITEOUT)?.is_some() || get_xattr(&file, TRUSTED_WHITEOUT)?.is_some())
}

/// How a directory hides what lies below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opacity {
    /// Not at all.
    Transparent,
    /// Not at all, but attribute whiteouts count in it.
    HasWhiteoutFiles,
    /// Wholly.
    Opaque,
}

pub(super) fn opacity(dir: impl AsFd) -> io::Result<Opacity> {
    let value = match get_xattr(&dir, OPAQUE)? {
        Some(value) => Some(value),
        None => get_xattr(&dir, TRUSTED_OPAQUE)?,
    };
    Ok(match value.as_deref() {
        Some(b"y") => Opacity::Opaque,
        Some(b"x") => Opacity::HasWhiteoutFiles,
        _ => Opacity::Transparent,
    })
}

pub(super) fn set_opaque(dir: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(dir, OPAQUE, b"y", XattrFlags::empty())?)
}

/// Makes the mark of a deletion: a device where the kernel allows it (0:0 needs no privilege since 5.8), else an attribute.
pub(super) fn make_whiteout(dir: impl AsFd, name: &[u8]) -> io::Result<()> {
    match rustix::fs::mknodat(&dir, name, FileType::CharacterDevice, Mode::empty(), 0) {
        Err(Errno::PERM) => make_whiteout_file(dir, name),
        outcome => Ok(outcome?),
    }
}

pub(super) fn make_whiteout_file(dir: impl AsFd, name: &[u8]) -> io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&dir, name, flags, Mode::empty())?;
    rustix::fs::fsetxattr(&file, WHITEOUT, b"y", XattrFlags::empty())?;
    let dir = open_child(&dir, b".", OFlags::RDONLY | OFlags::DIRECTORY)?;
    if opacity(&dir)? == Opacity::Transparent {
        rustix::fs::fsetxattr(&dir, OPAQUE, b"x", XattrFlags::empty())?;
    }
    Ok(())
}

/// Tells whether an attribute belongs into a layer: file capabilities and the user's own, but not overlayfs's notes.
pub(super) fn is_layer_xattr(name: &str) -> bool {
    name == "security.capability" || (name.starts_with("user.") && !name.starts_with("user.overlay."))
}

pub(super) fn get_xattr(file: impl AsFd, name: &str) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; 256];
    loop {
        match rustix::fs::fgetxattr(&file, name, value.as_mut_slice()) {
            Ok(length) => {
                value.truncate(length);
                return Ok(Some(value));
            }
            Err(Errno::RANGE) if value.len() < XATTR_MAX_BYTES => value.resize(XATTR_MAX_BYTES, 0),
            // NODATA: not set. OPNOTSUPP: the file system has none. PERM, ACCESS: `trusted.` without privilege.
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Returns the attributes that belong into a layer, sorted by name.
pub(super) fn layer_xattrs(file: impl AsFd) -> io::Result<Vec<(String, Vec<u8>)>> {
    let list = list_xattrs(&file)?;
    let names = list.split(|byte| *byte == 0).filter_map(|name| std::str::from_utf8(name).ok());
    let mut found = Vec::new();
    for name in names.filter(|name| is_layer_xattr(name)) {
        if let Some(value) = get_xattr(&file, name)? {
            found.push((name.to_owned(), value));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Returns the names of all attributes, each followed by a NUL byte.
fn list_xattrs(file: impl AsFd) -> io::Result<Vec<u8>> {
    let mut list = vec![0; 256];
    loop {
        match rustix::fs::flistxattr(&file, list.as_mut_slice()) {
            Ok(length) => {
                list.truncate(length);
                return Ok(list);
            }
            Err(Errno::RANGE) if list.len() < XATTR_MAX_BYTES => list.resize(XATTR_MAX_BYTES, 0),
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
    }
}
