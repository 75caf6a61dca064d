//! Directory trees that other people fill: reached by descriptor, never by a path that a link could bend.
//!
//! A container's root is such a tree. Every path is resolved by the kernel below the root's descriptor (`RESOLVE_IN_ROOT`), so `..` and
//! links, absolute ones too, stay inside, however they change meanwhile.

use std::{
    ffi::{CStr, CString, OsStr},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use rustix::{
    fs::{
        AtFlags, Dir, FileType, Mode, OFlags, RawMode, ResolveFlags, Stat, Timespec, Timestamps, chownat, fchmod, fchown, fstat, fstatfs,
        mkdirat, mknodat, openat, openat2, readlinkat, statat, symlinkat, utimensat,
    },
    io::Errno,
};

/// Opens a path in a root. Links are followed unless `flags` say otherwise for the last one.
pub(crate) fn open(root: impl AsFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let relative = relative(path);
    Ok(openat2(root, relative, flags | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)?)
}

/// Opens a directory in a root, made with all its parents where missing.
pub(crate) fn open_or_make_dir(root: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    make_dirs(root.as_fd(), path)
}

fn make_dirs(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    match open(root, path, OFlags::PATH | OFlags::DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    let parent = match path.parent() {
        Some(parent) => make_dirs(root, parent)?,
        None => return Err(io::ErrorKind::NotFound.into()),
    };
    if let Some(name) = path.file_name() {
        match mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    open(root, path, OFlags::PATH | OFlags::DIRECTORY)
}

/// Returns a path as the kernel wants it below a descriptor; the root itself is `.`.
fn relative(path: &Path) -> &Path {
    let stripped = path.strip_prefix("/").unwrap_or(path);
    if stripped.as_os_str().is_empty() { Path::new(".") } else { stripped }
}

/// Opens a directory that a path-only descriptor refers to, for reading its entries.
pub(crate) fn read_dir(directory: impl AsFd) -> io::Result<Dir> {
    let opened = openat(directory, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(Dir::new(opened)?)
}

/// Returns the names in a directory, sorted, so that what is made of them is the same every time.
pub(crate) fn names(directory: impl AsFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in read_dir(directory)? {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Returns what an entry of a directory is, without following it.
pub(crate) fn stat_entry(directory: impl AsFd, name: &CStr) -> io::Result<Stat> {
    Ok(statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Returns where a link points.
pub(crate) fn link_target(directory: impl AsFd, name: &CStr) -> io::Result<CString> {
    Ok(readlinkat(directory, name, Vec::new())?)
}

/// Opens a directory's entry that is a directory itself.
pub(crate) fn enter(directory: impl AsFd, name: &CStr) -> io::Result<OwnedFd> {
    Ok(openat(directory, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens a regular file for reading.
pub(crate) fn open_file(directory: impl AsFd, name: &CStr) -> io::Result<std::fs::File> {
    // A file can be swapped for a pipe after it was looked at; without NONBLOCK the open would then wait for ever.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(openat(directory, name, flags, Mode::empty())?.into())
}

/// Whether a directory has no entries.
pub(crate) fn is_empty(directory: impl AsFd) -> io::Result<bool> {
    Ok(names(directory)?.is_empty())
}

/// Copies what is in one directory into another, with owners, modes and times. Special files other than pipes and devices are left out.
pub(crate) fn copy_contents(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    for name in names(from)? {
        copy_entry(from, to, &name)?;
    }
    copy_attributes(&fstat(from)?, to)
}

fn copy_entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let stat = stat_entry(from, name)?;
    let mode = Mode::from_raw_mode(stat.st_mode);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            mkdirat(to, name, Mode::from_raw_mode(0o700))?;
            return copy_contents(enter(from, name)?.as_fd(), enter(to, name)?.as_fd());
        }
        FileType::RegularFile => {
            let mut source = open_file(from, name)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut target = std::fs::File::from(openat(to, name, flags, Mode::from_raw_mode(0o600))?);
            io::copy(&mut source, &mut target)?;
            return copy_attributes(&stat, target.as_fd());
        }
        FileType::Symlink => symlinkat(&link_target(from, name)?, to, name)?,
        kind @ (FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice) => match mknodat(to, name, kind, mode, stat.st_rdev) {
            // Devices cannot be made in a user namespace.
            Err(Errno::PERM) => return Ok(()),
            other => other?,
        },
        _ => return Ok(()),
    }
    set_owner_and_times(to, name, &stat)
}

fn copy_attributes(stat: &Stat, to: BorrowedFd<'_>) -> io::Result<()> {
    fchown(to, Some(rustix::fs::Uid::from_raw(stat.st_uid)), Some(rustix::fs::Gid::from_raw(stat.st_gid)))?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode))?;
    Ok(rustix::fs::futimens(to, &times(stat))?)
}

fn set_owner_and_times(directory: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
    chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(utimensat(directory, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |tv_sec: i64, tv_nsec: u64| Timespec { tv_sec, tv_nsec: tv_nsec as _ };
    Timestamps { last_access: time(stat.st_atime, stat.st_atime_nsec), last_modification: time(stat.st_mtime, stat.st_mtime_nsec) }
}

/// Returns the permission bits with set-uid, set-gid and sticky.
pub(crate) fn permissions(mode: RawMode) -> RawMode {
    mode & 0o7777
}

/// Whether a descriptor's file system is mounted read-only.
pub(crate) fn is_read_only(descriptor: impl AsFd) -> bool {
    const READ_ONLY: i64 = 1;
    fstatfs(descriptor).is_ok_and(|stat| stat.f_flags & READ_ONLY != 0)
}

/// Makes a C string of a file name; names from the kernel and from paths have no zero byte.
pub(crate) fn c_name(name: &OsStr) -> io::Result<CString> {
    CString::new(name.as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;

    #[test]
    fn links_stay_in_the_root() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        fs::write(dir.path().join("etc/passwd"), "inside").unwrap();
        symlink("/etc/passwd", dir.path().join("absolute")).unwrap();
        symlink("../../../../etc/passwd", dir.path().join("upwards")).unwrap();
        let root = fs::File::open(dir.path()).unwrap();
        for name in ["/absolute", "/upwards", "/../etc/passwd"] {
            let file = fs::File::from(open(&root, Path::new(name), OFlags::RDONLY).unwrap());
            assert_eq!(io::read_to_string(file).unwrap(), "inside", "{name}");
        }
    }

    #[test]
    fn directories_are_made_behind_links_of_the_root() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("real")).unwrap();
        symlink("/real", dir.path().join("link")).unwrap();
        let root = fs::File::open(dir.path()).unwrap();
        open_or_make_dir(&root, Path::new("/link/a/b")).unwrap();
        assert!(dir.path().join("real/a/b").is_dir());
    }

    #[test]
    fn a_copy_has_modes_and_links() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(from.path().join("d")).unwrap();
        fs::write(from.path().join("d/f"), "text").unwrap();
        fs::set_permissions(from.path().join("d/f"), fs::Permissions::from_mode(0o640)).unwrap();
        symlink("d/f", from.path().join("l")).unwrap();
        let (source, target) = (fs::File::open(from.path()).unwrap(), fs::File::open(to.path()).unwrap());
        copy_contents(source.as_fd(), target.as_fd()).unwrap();
        assert_eq!(fs::read_to_string(to.path().join("l")).unwrap(), "text");
        assert_eq!(fs::metadata(to.path().join("d/f")).unwrap().permissions().mode() & 0o7777, 0o640);
    }
}
