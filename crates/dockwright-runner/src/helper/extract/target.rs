//! Where entries go: below one directory, whatever their paths say.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink},
    path::{Component, Path, PathBuf},
    time::SystemTime,
};

use super::super::HelperError;

const BUFFER_BYTES: usize = 128 * 1024;

/// Writes entries below a directory. Links are made last, so that no entry can be written through one of the same archive; a link that
/// was there before is followed as far as it stays inside.
pub(super) struct Target {
    /// Without links in it.
    root: PathBuf,
    /// Directories that entries are in, by their path in the archive: looked at once.
    parents: HashMap<Vec<OsString>, PathBuf>,
    links: Vec<(PathBuf, PathBuf)>,
    /// Modes of directories, set when nothing is left to be written in them.
    modes: Vec<(PathBuf, u32)>,
}

impl Target {
    pub(super) fn new(directory: &Path) -> Result<Self, HelperError> {
        let root = directory.canonicalize().map_err(HelperError::file("open", directory))?;
        Ok(Self { root, parents: HashMap::new(), links: Vec::new(), modes: Vec::new() })
    }

    /// Makes a directory.
    pub(super) fn directory(&mut self, path: &Path, mode: u32) -> Result<(), HelperError> {
        let place = self.place(path)?;
        if place != self.root && !place.is_dir() {
            fs::create_dir(&place).map_err(HelperError::file("create", &place))?;
        }
        self.modes.push((place, mode));
        Ok(())
    }

    pub(super) fn link_later(&mut self, path: &Path, link: PathBuf) {
        self.links.push((path.to_owned(), link));
    }

    /// Makes the links, then gives the directories their modes.
    pub(super) fn finish(mut self) -> Result<(), HelperError> {
        for (path, link) in std::mem::take(&mut self.links) {
            // Links that were just made may be in the way, so nothing that was known of directories holds any more.
            self.parents.clear();
            let place = self.place(&path)?;
            remove_file(&place)?;
            symlink(&link, &place).map_err(HelperError::file("create", &place))?;
        }
        for (place, mode) in self.modes.iter().rev() {
            // A link that took the place of a directory points at somebody else's.
            if fs::symlink_metadata(place).is_ok_and(|metadata| metadata.is_dir()) {
                // Whatever the archive says, the next one has to fit in.
                let permissions = fs::Permissions::from_mode(mode | 0o700);
                fs::set_permissions(place, permissions).map_err(HelperError::file("set the mode of", place))?;
            }
        }
        Ok(())
    }

    /// Returns where an entry goes, its parent directories made.
    pub(super) fn place(&mut self, path: &Path) -> Result<PathBuf, HelperError> {
        let mut names = Vec::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => names.push(name.to_owned()),
                Component::CurDir => {}
                _ => return Err(self.escapes(path)),
            }
        }
        let Some(last) = names.pop() else { return Ok(self.root.clone()) };
        if let Some(parent) = self.parents.get(&names) {
            return Ok(parent.join(last));
        }
        let mut parent = self.root.clone();
        for name in &names {
            parent.push(name);
            if fs::symlink_metadata(&parent).is_err() {
                fs::create_dir(&parent).map_err(HelperError::file("create", &parent))?;
                fs::set_permissions(&parent, fs::Permissions::from_mode(0o777)).map_err(HelperError::file("open up", &parent))?;
            }
            // Before anything is made in it: a link may lead out half-way.
            parent = parent.canonicalize().map_err(HelperError::file("open", &parent))?;
            if !parent.starts_with(&self.root) {
                return Err(self.escapes(path));
            }
        }
        let place = parent.join(last);
        self.parents.insert(names, parent);
        Ok(place)
    }

    fn escapes(&self, path: &Path) -> HelperError {
        HelperError::Escapes { path: path.to_owned(), directory: self.root.clone() }
    }
}

/// A file that is about to be written.
pub(super) struct FileTarget {
    pub(super) place: PathBuf,
    pub(super) mode: u32,
    pub(super) modified: Option<SystemTime>,
}

impl FileTarget {
    /// Writes the file. A link in its place is replaced, not followed; a read-only file is replaced, too.
    pub(super) fn write(&self, content: &mut dyn Read) -> Result<(), HelperError> {
        let place = &self.place;
        let create = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(place);
        let mut file: File = match create() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => remove_file(place).map(|()| create())?,
            created => created,
        }
        .map_err(HelperError::file("create", place))?;
        copy(content, &mut file).map_err(HelperError::file("write", place))?;
        if let Some(modified) = self.modified {
            file.set_modified(modified).map_err(HelperError::file("set the time of", place))?;
        }
        file.set_permissions(fs::Permissions::from_mode(self.mode)).map_err(HelperError::file("set the mode of", place))
    }
}

/// As `io::copy`, in larger pieces: decoders return little at a time.
fn copy(content: &mut dyn Read, file: &mut File) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    loop {
        buffer.clear();
        content.take(BUFFER_BYTES as u64).read_to_end(&mut buffer)?;
        if buffer.is_empty() {
            return Ok(());
        }
        file.write_all(&buffer)?;
        if buffer.len() < BUFFER_BYTES {
            return Ok(());
        }
    }
}

fn remove_file(path: &Path) -> Result<(), HelperError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(HelperError::file("replace", path)(error)),
        _ => Ok(()),
    }
}
