//! Writing files into a root file system, as COPY, ADD and WORKDIR do.
//!
//! Everything goes through the descriptor of the root: a link that the image or the context holds resolves inside it. Two things differ
//! from Docker on purpose. A directory that already existed gets its modification time back, so that the same copy gives the same layer;
//! and a directory copied onto a link to a directory is merged into it instead of replacing the link, which would break images whose
//! `/lib` is a link.

mod mode;
mod owner;

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsStr,
    fs::File,
    io::{self, Write as _},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

pub use mode::{ModeChange, ParseModeError};
pub use owner::{FindOwnerError, Owner};
use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use crate::tree::{Kind, Metadata, Modified, RootTree, Tree, resolve};

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("write `/{path}`")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("read `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot replace directory `/{0}` with a file")]
    FileOverDirectory(PathBuf),
    #[error("cannot replace file `/{0}` with a directory")]
    DirectoryOverFile(PathBuf),
}

/// What copied files look like.
#[derive(Debug, Clone, Default)]
pub struct Appearance {
    pub owner: Ownership,
    pub mode: Option<ModeChange>,
}

/// Whose the copied files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ownership {
    #[default]
    Root,
    /// As in the source.
    Kept,
    Given(Owner),
}

impl Appearance {
    fn owner_of(&self, metadata: &Metadata) -> Owner {
        match self.owner {
            Ownership::Root => Owner { uid: 0, gid: 0 },
            Ownership::Kept => Owner { uid: metadata.uid, gid: metadata.gid },
            Ownership::Given(owner) => owner,
        }
    }

    /// Directories that had to be made on the way.
    fn owner_of_parents(&self) -> Owner {
        match self.owner {
            Ownership::Given(owner) => owner,
            Ownership::Root | Ownership::Kept => Owner { uid: 0, gid: 0 },
        }
    }

    fn permissions_of(&self, metadata: &Metadata) -> u32 {
        self.mode.as_ref().map_or(metadata.permissions, |change| change.apply(metadata.permissions, metadata.is_directory()))
    }
}

/// A root file system that is being written to. [`Self::finish`] sets the times of directories.
pub struct RootWriter<'r> {
    root: BorrowedFd<'r>,
    tree: RootTree<BorrowedFd<'r>>,
    /// Time of directories made on the way; now when absent.
    new_directory_time: Option<Modified>,
    directory_times: BTreeMap<PathBuf, Modified>,
    /// Where the first name of a file with several was written.
    links: HashMap<u64, PathBuf>,
    buffer: Vec<u8>,
}

const BUFFER_BYTES: usize = 128 * 1024;

impl<'r> RootWriter<'r> {
    pub fn new(root: BorrowedFd<'r>, new_directory_time: Option<Modified>) -> Self {
        Self {
            root,
            tree: RootTree::new(root),
            new_directory_time,
            directory_times: BTreeMap::new(),
            links: HashMap::new(),
            buffer: vec![0; BUFFER_BYTES],
        }
    }

    /// Follows links in a path of the root.
    pub fn resolve(&self, path: &Path) -> Result<PathBuf, WriteError> {
        resolve(&self.tree, path).map_err(|source| WriteError::Read { path: path.to_owned(), source })
    }

    pub fn metadata(&self, path: &Path) -> Result<Option<Metadata>, WriteError> {
        self.tree.metadata(path).map_err(|source| WriteError::Read { path: path.to_owned(), source })
    }

    /// Makes a directory and those above it, where missing. `path` is resolved.
    pub fn make_directories(&mut self, path: &Path, appearance: &Appearance) -> Result<(), WriteError> {
        let mut missing = Vec::new();
        let mut current = Some(path);
        while let Some(directory) = current.filter(|directory| !directory.as_os_str().is_empty()) {
            match self.metadata(directory)? {
                Some(metadata) if metadata.is_directory() => break,
                Some(_) => return Err(WriteError::DirectoryOverFile(directory.to_owned())),
                None => missing.push(directory),
            }
            current = directory.parent();
        }
        const NEW_DIRECTORY_MODE: u32 = 0o755;
        for directory in missing.into_iter().rev() {
            let made = self.make_directory(directory, NEW_DIRECTORY_MODE, appearance.owner_of_parents());
            made.map_err(|source| WriteError::Write { path: directory.to_owned(), source })?;
            if let Some(time) = self.new_directory_time {
                self.directory_times.insert(directory.to_owned(), time);
            }
        }
        Ok(())
    }

    /// Copies one path, without what is below it, to a resolved destination whose parent exists. Returns where it went, which is elsewhere
    /// when a directory met a link to one.
    pub fn put(
        &mut self,
        from: &dyn Tree,
        source: &Path,
        metadata: &Metadata,
        to: &Path,
        appearance: &Appearance,
    ) -> Result<PathBuf, WriteError> {
        let written = |source| WriteError::Write { path: to.to_owned(), source };
        if metadata.is_directory() {
            return self.put_directory(metadata, to, appearance);
        }
        if metadata.kind == Kind::Socket {
            return Ok(to.to_owned());
        }
        let (parent, name) = self.parent_of(to).map_err(written)?;
        match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                return Err(WriteError::FileOverDirectory(to.to_owned()));
            }
            Ok(_) => rustix::fs::unlinkat(&parent, name, AtFlags::empty()).map_err(io::Error::from).map_err(written)?,
            Err(Errno::NOENT) => {}
            Err(error) => return Err(written(error.into())),
        }
        if let Some(first) = metadata.link_id.and_then(|id| self.links.get(&id)).cloned() {
            let (first_parent, first_name) = self.parent_of(&first).map_err(written)?;
            rustix::fs::linkat(first_parent, first_name, parent, name, AtFlags::empty()).map_err(io::Error::from).map_err(written)?;
            return Ok(to.to_owned());
        }
        match &metadata.kind {
            Kind::File => self.put_file(from, source, metadata, (&parent, name), appearance).map_err(|error| match error {
                FileError::Read(error) => WriteError::Read { path: source.to_owned(), source: error },
                FileError::Write(error) => written(error),
            })?,
            _ => put_special(metadata, &parent, name, appearance).map_err(io::Error::from).map_err(written)?,
        }
        if let Some(id) = metadata.link_id {
            self.links.insert(id, to.to_owned());
        }
        Ok(to.to_owned())
    }

    fn put_directory(&mut self, metadata: &Metadata, to: &Path, appearance: &Appearance) -> Result<PathBuf, WriteError> {
        let to = self.resolve(to)?;
        let written = |source| WriteError::Write { path: to.clone(), source };
        let (permissions, owner) = (appearance.permissions_of(metadata), appearance.owner_of(metadata));
        match self.metadata(&to)? {
            None => self.make_directory(&to, permissions, owner).map_err(written)?,
            Some(existing) if existing.is_directory() => {
                let directory = self.open_directory(&to).map_err(written)?;
                set_owner_and_mode(&directory, permissions, owner).map_err(io::Error::from).map_err(written)?;
            }
            Some(_) => return Err(WriteError::DirectoryOverFile(to)),
        }
        let directory = self.open_directory(&to).map_err(written)?;
        set_attributes(&directory, metadata);
        self.directory_times.insert(to.clone(), metadata.modified);
        Ok(to)
    }

    fn put_file(
        &mut self,
        from: &dyn Tree,
        source: &Path,
        metadata: &Metadata,
        (parent, name): (&OwnedFd, &OsStr),
        appearance: &Appearance,
    ) -> Result<(), FileError> {
        let mut reader = from.open(source).map_err(FileError::Read)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR).map_err(FileError::from)?;
        let mut file = File::from(file);
        copy_bytes(&mut reader, &mut file, &mut self.buffer)?;
        set_owner_and_mode(&file, appearance.permissions_of(metadata), appearance.owner_of(metadata))?;
        set_attributes(&file, metadata);
        rustix::fs::futimens(&file, &times(metadata.modified))?;
        Ok(())
    }

    fn make_directory(&mut self, path: &Path, permissions: u32, owner: Owner) -> io::Result<()> {
        let (parent, name) = self.parent_of(path)?;
        rustix::fs::mkdirat(&parent, name, Mode::RWXU)?;
        let directory = self.open_directory(path)?;
        set_owner_and_mode(&directory, permissions, owner)?;
        Ok(())
    }

    /// Opens the directory above a path and remembers its time, which is about to change.
    fn parent_of<'p>(&mut self, path: &'p Path) -> io::Result<(OwnedFd, &'p OsStr)> {
        let name = path.file_name().ok_or_else(|| io::Error::from(Errno::EXIST))?;
        let parent = path.parent().unwrap_or(Path::new(""));
        let directory = self.open_directory(parent)?;
        if !self.directory_times.contains_key(parent) {
            let stat = rustix::fs::fstat(&directory)?;
            #[expect(clippy::cast_possible_truncation, reason = "nanoseconds fit")]
            let modified = Modified { seconds: stat.st_mtime, nanos: stat.st_mtime_nsec as u32 };
            self.directory_times.insert(parent.to_owned(), modified);
        }
        Ok((directory, name))
    }

    fn open_directory(&self, path: &Path) -> io::Result<OwnedFd> {
        Ok(crate::tree::open_below(self.root, path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?)
    }

    /// Gives every directory that was written in its time.
    pub fn finish(self) -> Result<(), WriteError> {
        for (path, modified) in &self.directory_times {
            let set = self.open_directory(path).and_then(|directory| Ok(rustix::fs::futimens(&directory, &times(*modified))?));
            set.map_err(|source| WriteError::Write { path: path.clone(), source })?;
        }
        Ok(())
    }
}

/// Which end of a copy failed.
enum FileError {
    Read(io::Error),
    Write(io::Error),
}

impl From<Errno> for FileError {
    fn from(error: Errno) -> Self {
        Self::Write(error.into())
    }
}

fn copy_bytes(reader: &mut dyn io::Read, file: &mut File, buffer: &mut [u8]) -> Result<(), FileError> {
    loop {
        match reader.read(buffer).map_err(FileError::Read)? {
            0 => return Ok(()),
            length => file.write_all(&buffer[..length]).map_err(FileError::Write)?,
        }
    }
}

/// Links, devices and pipes.
fn put_special(metadata: &Metadata, parent: &OwnedFd, name: &OsStr, appearance: &Appearance) -> rustix::io::Result<()> {
    let permissions = Mode::from_raw_mode(appearance.permissions_of(metadata));
    match &metadata.kind {
        Kind::Symlink(target) => rustix::fs::symlinkat(target, parent, name)?,
        Kind::Fifo => rustix::fs::mknodat(parent, name, FileType::Fifo, permissions, 0)?,
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            let block = matches!(metadata.kind, Kind::BlockDevice { .. });
            let kind = if block { FileType::BlockDevice } else { FileType::CharacterDevice };
            match rustix::fs::mknodat(parent, name, kind, permissions, rustix::fs::makedev(*major, *minor)) {
                Err(Errno::PERM) => {
                    // A user namespace may not make devices; containers get their own `/dev` in any case.
                    tracing::warn!(name = %name.display(), "device left out: not allowed here");
                    return Ok(());
                }
                result => result?,
            }
        }
        Kind::File | Kind::Directory | Kind::Socket => {}
    }
    let owner = appearance.owner_of(metadata);
    rustix::fs::chownat(parent, name, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)), AtFlags::SYMLINK_NOFOLLOW)?;
    if !matches!(metadata.kind, Kind::Symlink(_)) {
        // The umask took bits away.
        rustix::fs::chmodat(parent, name, permissions, AtFlags::empty())?;
    }
    rustix::fs::utimensat(parent, name, &times(metadata.modified), AtFlags::SYMLINK_NOFOLLOW)
}

/// The owner first: changing it clears the set-user-id bit.
fn set_owner_and_mode(file: &impl AsFd, permissions: u32, owner: Owner) -> rustix::io::Result<()> {
    rustix::fs::fchown(file, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(permissions))
}

/// Attributes are kept where the file system takes them; Docker ignores failures too.
fn set_attributes(file: &impl AsFd, metadata: &Metadata) {
    for (name, value) in &metadata.attributes {
        if let Err(error) = rustix::fs::fsetxattr(file, name.as_str(), value, XattrFlags::empty()) {
            tracing::debug!(name, %error, "attribute not kept");
        }
    }
}

fn times(modified: Modified) -> Timestamps {
    let time = Timespec { tv_sec: modified.seconds, tv_nsec: modified.nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// Writes a file with this content, for a step that needs one only while it runs.
pub fn put_script(root: BorrowedFd<'_>, name: &str, content: &str) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(root, name, flags, Mode::RWXU)?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(0o755))?;
    File::from(file).write_all(content.as_bytes())
}

/// Takes it away again, unless it took itself away.
pub fn remove_script(root: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    match rustix::fs::unlinkat(root, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
