//! What goes into an archive: one look at each entry.

use std::{
    collections::BTreeSet,
    fs, io,
    io::Write,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use super::super::{HelperError, Selection};

/// Entries in the order of the archive, parents before their content.
pub(super) struct Plan {
    pub(super) entries: Vec<Entry>,
}

/// A directory, link or file as it was when it was looked at.
pub(super) struct Entry {
    /// Relative to the root of the archive, without a slash at the end.
    pub(super) name: PathBuf,
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    /// Type and permissions.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Bytes of a file.
    pub(super) size: u64,
    /// Seconds since 1970.
    pub(super) modified_secs: i64,
}

pub(super) enum Kind {
    Directory,
    Link {
        target: PathBuf,
    },
    File,
    /// Not on the disk.
    Made {
        content: Vec<u8>,
    },
}

impl Plan {
    pub(super) fn new(selection: &Selection, names: &BTreeSet<PathBuf>, log: &mut dyn Write) -> Result<Self, HelperError> {
        let mut entries = Vec::with_capacity(names.len());
        for name in names {
            let path = selection.directory.join(name);
            match look(name, path)? {
                Look::Entry(entry) => entries.push(entry),
                // Removed since it was listed, by a process that the job left behind.
                Look::Gone => {}
                Look::Special => {
                    let _ = writeln!(log, "WARNING: {}: neither a file, a directory nor a link; it is left out", name.display());
                }
            }
        }
        Ok(Self { entries })
    }
}

enum Look {
    Entry(Entry),
    Gone,
    /// A socket, pipe or device.
    Special,
}

fn look(name: &Path, path: PathBuf) -> Result<Look, HelperError> {
    let metadata = match fs::symlink_metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Look::Gone),
        Err(error) => return Err(HelperError::file("read", path)(error)),
    };
    let kind = if metadata.is_dir() {
        Kind::Directory
    } else if metadata.is_symlink() {
        match fs::read_link(&path) {
            Ok(target) => Kind::Link { target },
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Look::Gone),
            Err(error) => return Err(HelperError::file("read", path)(error)),
        }
    } else if metadata.is_file() {
        Kind::File
    } else {
        return Ok(Look::Special);
    };
    let size = if matches!(kind, Kind::File) { metadata.len() } else { 0 };
    Ok(Look::Entry(Entry {
        name: name.to_owned(),
        path,
        kind,
        mode: metadata.mode(),
        uid: metadata.uid(),
        gid: metadata.gid(),
        size,
        modified_secs: metadata.mtime(),
    }))
}

impl Entry {
    pub(super) fn is_file(&self) -> bool {
        matches!(self.kind, Kind::File)
    }

    /// Name in a zip: those of directories end in a slash.
    pub(super) fn zip_name(&self) -> Vec<u8> {
        let mut name = self.name.as_os_str().as_bytes().to_vec();
        if matches!(self.kind, Kind::Directory) {
            name.push(b'/');
        }
        name
    }
}
