//! Unpacking a tar stream in a directory of a container.
//!
//! The archive comes from a client and the directory belongs to a container that may be running, so neither is trusted: names are
//! resolved below the directory's descriptor, and nothing that exists is written through, links least of all.

use std::{
    ffi::OsStr,
    io::{self, Read},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, chmodat, chownat, fchmod, linkat, makedev, mkdirat, mknodat,
        openat, symlinkat, unlinkat, utimensat,
    },
    io::Errno,
};
use tar::{Archive, Entry, EntryType};

use crate::tree;

/// Failure to unpack.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnpackError {
    #[error("read the archive")]
    Archive(#[source] io::Error),
    #[error("the archive's entry `{path}` has a name that leaves the directory")]
    Name { path: String },
    #[error("cannot overwrite {existing} \"{path}\" with {new}")]
    KindDiffers { path: String, existing: &'static str, new: &'static str },
    #[error("write `{path}`")]
    Write {
        path: String,
        #[source]
        source: io::Error,
    },
}

/// Whose files are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ids {
    /// Those the archive names.
    OfArchive,
    /// Root's.
    Root,
}

/// How to unpack.
#[derive(Debug)]
pub(super) struct Unpacking {
    /// Refuse to put a file where a directory is, and the other way round.
    pub(super) keep_kinds: bool,
    pub(super) ids: Ids,
}

/// Unpacks a stream.
pub(super) fn unpack(directory: &OwnedFd, stream: impl Read, options: &Unpacking) -> Result<(), UnpackError> {
    let mut archive = Archive::new(stream);
    // Times of directories are set last, because every file put into one changes it.
    let mut directories = Vec::new();
    for entry in archive.entries().map_err(UnpackError::Archive)? {
        let mut entry = entry.map_err(UnpackError::Archive)?;
        let path = clean(&entry.path().map_err(UnpackError::Archive)?)?;
        let failed = |source| UnpackError::Write { path: path.display().to_string(), source };
        if path.as_os_str().is_empty() {
            continue;
        }
        let parent = tree::open_or_make_dir(directory, path.parent().unwrap_or(Path::new(""))).map_err(failed)?;
        let name = path.file_name().unwrap_or_default().to_owned();
        let place = Place { root: directory, parent: &parent, name: &name };
        make_room(&place, &path, entry.header().entry_type(), options)?;
        place.write(&mut entry, options.ids).map_err(failed)?;
        if entry.header().entry_type() == EntryType::Directory {
            directories.push((parent, name, times(&entry)));
        }
    }
    for (parent, name, times) in directories.into_iter().rev() {
        // Somebody may have removed it meanwhile.
        let _ = utimensat(&parent, &name, &times, AtFlags::SYMLINK_NOFOLLOW);
    }
    Ok(())
}

/// Returns a path without `.` and leading slashes; `..` is refused.
fn clean(path: &Path) -> Result<PathBuf, UnpackError> {
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => cleaned.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(UnpackError::Name { path: path.display().to_string() }),
        }
    }
    Ok(cleaned)
}

/// Removes what is in the way, unless that is a directory that stays one.
fn make_room(place: &Place<'_>, path: &Path, new: EntryType, options: &Unpacking) -> Result<(), UnpackError> {
    let failed = |source| UnpackError::Write { path: path.display().to_string(), source };
    let name = tree::c_name(place.name).map_err(failed)?;
    let Ok(stat) = tree::stat_entry(place.parent, &name) else { return Ok(()) };
    let was_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let is_directory = new == EntryType::Directory;
    if options.keep_kinds && was_directory != is_directory {
        let (existing, new) = if was_directory { ("directory", "non-directory") } else { ("non-directory", "directory") };
        return Err(UnpackError::KindDiffers { path: path.display().to_string(), existing, new });
    }
    match (was_directory, is_directory) {
        (true, true) => Ok(()),
        (true, false) => remove_directory(place.parent, &name).map_err(failed),
        (false, _) => unlinkat(place.parent, &name, AtFlags::empty()).map_err(|error| failed(error.into())),
    }
}

fn remove_directory(parent: &OwnedFd, name: &std::ffi::CStr) -> io::Result<()> {
    let directory = tree::enter(parent, name)?;
    for child in tree::names(&directory)? {
        match unlinkat(&directory, &child, AtFlags::empty()) {
            Err(Errno::ISDIR) => remove_directory(&directory, &child)?,
            other => other?,
        }
    }
    Ok(unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

struct Place<'a> {
    root: &'a OwnedFd,
    parent: &'a OwnedFd,
    name: &'a OsStr,
}

impl Place<'_> {
    fn write<R: Read>(&self, entry: &mut Entry<'_, R>, ids: Ids) -> io::Result<()> {
        let kind = entry.header().entry_type();
        let mode = Mode::from_raw_mode(entry.header().mode()? & 0o7777);
        match kind {
            EntryType::Directory => match mkdirat(self.parent, self.name, Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            },
            EntryType::Symlink => {
                let target = entry.link_name_bytes().ok_or(io::ErrorKind::InvalidData)?;
                symlinkat(OsStr::from_bytes(&target), self.parent, self.name)?;
            }
            EntryType::Link => return self.hard_link(entry),
            EntryType::Char | EntryType::Block | EntryType::Fifo => self.special(entry, mode)?,
            kind if kind.is_file() => self.file(entry)?,
            // Headers that concern the archive itself.
            _ => return Ok(()),
        }
        let (uid, gid) = match ids {
            Ids::Root => (0, 0),
            Ids::OfArchive => (id(entry.header().uid()?)?, id(entry.header().gid()?)?),
        };
        chownat(self.parent, self.name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::SYMLINK_NOFOLLOW)?;
        // After the owner, because changing that clears set-uid.
        match kind {
            EntryType::Symlink => {}
            EntryType::Directory => fchmod(tree::enter(self.parent, &tree::c_name(self.name)?)?, mode)?,
            EntryType::Char | EntryType::Block | EntryType::Fifo => chmodat(self.parent, self.name, mode, AtFlags::empty())?,
            _ => fchmod(tree::open_file(self.parent.as_fd(), &tree::c_name(self.name)?)?, mode)?,
        }
        Ok(utimensat(self.parent, self.name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn file<R: Read>(&self, entry: &mut Entry<'_, R>) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = std::fs::File::from(openat(self.parent, self.name, flags, Mode::from_raw_mode(0o600))?);
        io::copy(entry, &mut file).map(drop)
    }

    fn hard_link<R: Read>(&self, entry: &Entry<'_, R>) -> io::Result<()> {
        let target = entry.link_name()?.ok_or(io::ErrorKind::InvalidData)?;
        let target = clean(&target).map_err(io::Error::other)?;
        let directory = tree::open(self.root, target.parent().unwrap_or(Path::new("")), OFlags::PATH | OFlags::DIRECTORY)?;
        Ok(linkat(&directory, target.file_name().ok_or(io::ErrorKind::InvalidData)?, self.parent, self.name, AtFlags::empty())?)
    }

    fn special<R: Read>(&self, entry: &Entry<'_, R>, mode: Mode) -> io::Result<()> {
        let kind = match entry.header().entry_type() {
            EntryType::Char => FileType::CharacterDevice,
            EntryType::Block => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let number = |part: Option<u32>| part.unwrap_or_default();
        let device = makedev(number(entry.header().device_major()?), number(entry.header().device_minor()?));
        Ok(mknodat(self.parent, self.name, kind, mode, device)?)
    }
}

fn id(number: u64) -> io::Result<u32> {
    u32::try_from(number).map_err(io::Error::other)
}

fn times<R: Read>(entry: &Entry<'_, R>) -> Timestamps {
    let seconds = entry.header().mtime().ok().and_then(|seconds| i64::try_from(seconds).ok()).unwrap_or_default();
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn archive(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(1_000_000);
            if *kind == EntryType::Symlink {
                header.set_size(0);
                builder.append_link(&mut header, path, content).unwrap();
                continue;
            }
            header.set_size(content.len() as u64);
            // Written as bytes, because the library refuses the names that are tested here.
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn check(dir: &Path, entries: &[(&str, EntryType, &str)], keep_kinds: bool) -> Result<(), UnpackError> {
        let directory = fs::File::open(dir).unwrap().into();
        unpack(&directory, &archive(entries)[..], &Unpacking { keep_kinds, ids: Ids::Root })
    }

    #[test]
    fn links_of_an_archive_cannot_lead_outside() {
        dockwright_testing::requires!(Root);
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let target = outside.path().to_str().unwrap();
        fs::create_dir(dir.path().join("in")).unwrap();
        let entries = [("link", EntryType::Symlink, target), ("link/file", EntryType::Regular, "text")];
        let _ = check(&dir.path().join("in"), &entries, false);
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_existing_link_is_replaced_rather_than_followed() {
        dockwright_testing::requires!(Root);
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("victim"), "old").unwrap();
        fs::create_dir(dir.path().join("in")).unwrap();
        symlink("../victim", dir.path().join("in/file")).unwrap();
        check(&dir.path().join("in"), &[("file", EntryType::Regular, "new")], false).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("victim")).unwrap(), "old");
        assert_eq!(fs::read_to_string(dir.path().join("in/file")).unwrap(), "new");
    }

    #[test]
    fn names_that_leave_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = check(dir.path(), &[("../file", EntryType::Regular, "x")], false).unwrap_err();
        assert!(matches!(error, UnpackError::Name { .. }));
    }

    #[test]
    fn kinds_are_kept_if_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        let error = check(dir.path(), &[("a", EntryType::Regular, "x")], true).unwrap_err();
        assert_eq!(error.to_string(), "cannot overwrite directory \"a\" with non-directory");
    }
}
