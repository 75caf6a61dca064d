//! Paths inside a root directory that somebody else controls.
//!
//! Every path is resolved by the kernel below a directory descriptor (`openat2` with `RESOLVE_IN_ROOT`), so neither links nor `..` nor a
//! concurrent rename lead out of it, and what is then mounted on or read is the descriptor, never the path again.

use std::{
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2, readlinkat},
    io::Errno,
};

/// What to make where nothing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Make {
    Directory,
    File,
    Nothing,
}

/// Links to nowhere that are followed while making a path.
const MAX_LINKS: usize = 16;

/// Opens a path below a root, as a location only (`O_PATH`), making it and its parents if wanted. `..` is taken out first, as Docker
/// does. Links are followed inside the root, those to nowhere too (an image's `/var/run` may point to a `/run` that it lacks), except
/// those of `/proc` that lead anywhere.
pub(crate) fn open_in_root(root: BorrowedFd<'_>, path: &Path, make: Make) -> io::Result<OwnedFd> {
    open_or_make(root, &normal(path), make, MAX_LINKS)
}

fn open_or_make(root: BorrowedFd<'_>, path: &Path, make: Make, links: usize) -> io::Result<OwnedFd> {
    match open_existing(root, path, ResolveFlags::empty()) {
        Err(Errno::NOENT) if make != Make::Nothing => {}
        other => return Ok(other?),
    }
    let (Some(parent_path), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::NOENT.into());
    };
    let parent = open_or_make(root, parent_path, Make::Directory, links)?;
    let made = match make {
        Make::Directory => mkdirat(&parent, name, Mode::from_raw_mode(0o755)),
        _ => openat(&parent, name, OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC, Mode::from_raw_mode(0o644)).map(drop),
    };
    match made {
        Ok(()) => Ok(open_existing(root, path, ResolveFlags::empty())?),
        Err(Errno::EXIST) if links > 0 => match readlinkat(&parent, name, Vec::new()) {
            Ok(link) => open_or_make(root, &normal(&parent_path.join(OsStr::from_bytes(link.as_bytes()))), make, links - 1),
            // No link after all: somebody was faster.
            Err(_) => Ok(open_existing(root, path, ResolveFlags::empty())?),
        },
        Err(errno) => Err(errno.into()),
    }
}

/// Opens a path that must not contain any link: what the kernel's file systems are mounted on and what hides parts of them.
pub(crate) fn open_without_links(root: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
    open_existing(root, path, ResolveFlags::NO_SYMLINKS)
}

fn open_existing(root: BorrowedFd<'_>, path: &Path, more: ResolveFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new("/") } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
    // The kernel gives up when something is renamed while it walks; that is a race to try again, not an answer.
    for _ in 0..16 {
        match openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// Returns the path without `.`, `..` (which cannot go above the root) and leading slashes.
pub(crate) fn normal(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name),
            Component::ParentDir => {
                parts.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    parts
}

/// Tells whether an opened location is a directory.
pub(crate) fn is_directory(location: impl AsFd) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(fstat(location)?.st_mode).is_dir())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn nothing_leads_out_of_the_root() {
        let directory = tempfile::tempdir().unwrap();
        let root_path = directory.path().join("root");
        fs::create_dir(&root_path).unwrap();
        fs::write(directory.path().join("outside"), "").unwrap();
        symlink("../outside", root_path.join("up")).unwrap();
        symlink("/new", root_path.join("absolute")).unwrap();
        symlink("../../escaped", root_path.join("above")).unwrap();
        symlink("loop", root_path.join("loop")).unwrap();
        let root = fs::File::open(&root_path).unwrap();
        let open = |path: &str, make| open_in_root(root.as_fd(), Path::new(path), make);

        assert!(open("up", Make::Nothing).is_err());
        assert!(open("../../outside", Make::Nothing).is_err());
        open("absolute/deep/er", Make::File).unwrap();
        assert!(root_path.join("new/deep/er").is_file() && !Path::new("/new").exists());
        open("above/x", Make::Directory).unwrap();
        assert!(root_path.join("escaped/x").is_dir() && !directory.path().join("escaped").exists());
        open("/a/../b/./c", Make::Directory).unwrap();
        assert!(root_path.join("b/c").is_dir() && !root_path.join("a").exists());
        open("/b/file", Make::File).unwrap();
        assert!(root_path.join("b/file").is_file());
        open("loop/x", Make::Directory).unwrap_err();
        assert!(is_directory(open("/", Make::Directory).unwrap()).unwrap());
    }
}
