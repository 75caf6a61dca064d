//! Unpacking archives. Paths never leave the directory, also not through symbolic links that are there or in the archive.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{OpenOptionsExt as _, PermissionsExt as _, symlink},
    },
    path::{Component, Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jiff::{civil, tz::TimeZone};
use zip::ZipArchive;

use super::HelperError;

/// Unpacks sources. As with GitLab's helper, everybody may write to the result: jobs run as the user of their image.
pub(super) fn tar(directory: &Path, input: &mut dyn Read) -> Result<(), HelperError> {
    super::prepare(directory)?;
    let mut target = Target::new(directory)?;
    let mut archive = tar::Archive::new(input);
    for entry in archive.entries().map_err(HelperError::ReadArchive)? {
        let mut entry = entry.map_err(HelperError::ReadArchive)?;
        let path = entry.path().map_err(HelperError::ReadArchive)?.into_owned();
        let executable = entry.header().mode().unwrap_or(0o644) & 0o100 != 0;
        match entry.header().entry_type() {
            tar::EntryType::Directory => target.directory(&path, 0o777)?,
            tar::EntryType::Symlink => {
                let link = entry.link_name().map_err(HelperError::ReadArchive)?.unwrap_or_default().into_owned();
                target.link_later(&path, link);
            }
            tar::EntryType::Regular => {
                let modified = UNIX_EPOCH + Duration::from_secs(entry.header().mtime().unwrap_or_default());
                target.file(&path, if executable { 0o777 } else { 0o666 }, Some(modified), &mut entry)?;
            }
            // git has nothing else.
            _ => {}
        }
    }
    target.make_links()
}

/// Unpacks a cache or artifacts over what is there.
pub(super) fn zip(directory: &Path, input: &mut dyn Read) -> Result<(), HelperError> {
    fs::create_dir_all(directory).map_err(HelperError::file("create", directory))?;
    let mut spool = tempfile::tempfile_in(directory).map_err(HelperError::file("create a file in", directory))?;
    io::copy(input, &mut spool).and_then(|_| spool.rewind()).map_err(HelperError::ReadArchive)?;
    let mut archive = ZipArchive::new(spool).map_err(|error| HelperError::ReadArchive(error.into()))?;
    let mut target = Target::new(directory)?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|error| HelperError::ReadArchive(error.into()))?;
        let path = PathBuf::from(entry.name().map_err(|error| HelperError::ReadArchive(error.into()))?.into_owned());
        let mode = entry.unix_mode();
        if entry.is_dir() {
            target.directory(&path, mode.unwrap_or(0o755) & 0o7777)?;
        } else if entry.is_symlink() {
            let mut link = Vec::new();
            entry.read_to_end(&mut link).map_err(HelperError::ReadArchive)?;
            target.link_later(&path, PathBuf::from(std::ffi::OsStr::from_bytes(&link)));
        } else {
            let modified = entry.last_modified().and_then(modified_time);
            target.file(&path, mode.unwrap_or(0o644) & 0o7777, modified, &mut entry)?;
        }
    }
    target.make_links()
}

fn modified_time(time: zip::DateTime) -> Option<SystemTime> {
    let part = |value: u8| i8::try_from(value).ok();
    let date = civil::DateTime::new(
        i16::try_from(time.year()).ok()?,
        part(time.month())?,
        part(time.day())?,
        part(time.hour())?,
        part(time.minute())?,
        part(time.second())?,
        0,
    );
    SystemTime::try_from(date.ok()?.to_zoned_datetime(TimeZone::UTC).ok()?.timestamp()).ok()
}

/// Writes entries below a directory. Links are made last, so that no entry can be written through one of the same archive.
struct Target {
    /// Without links in it.
    root: PathBuf,
    links: Vec<(PathBuf, PathBuf)>,
}

impl Target {
    fn new(directory: &Path) -> Result<Self, HelperError> {
        let root = directory.canonicalize().map_err(HelperError::file("open", directory))?;
        Ok(Self { root, links: Vec::new() })
    }

    fn directory(&mut self, path: &Path, mode: u32) -> Result<(), HelperError> {
        let place = self.place(path)?;
        if place != self.root && !place.is_dir() {
            fs::create_dir(&place).map_err(HelperError::file("create", &place))?;
        }
        // Whatever the archive says, its own content has to fit in.
        fs::set_permissions(&place, fs::Permissions::from_mode(mode | 0o700)).map_err(HelperError::file("set the mode of", &place))
    }

    fn file(&mut self, path: &Path, mode: u32, modified: Option<SystemTime>, content: &mut dyn Read) -> Result<(), HelperError> {
        let place = self.place(path)?;
        // A link in the way is replaced, not followed; a read-only file is replaced, too.
        remove_file(&place)?;
        let mut file: File =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&place).map_err(HelperError::file("create", &place))?;
        io::copy(content, &mut file).map_err(HelperError::file("write", &place))?;
        if let Some(modified) = modified {
            file.set_modified(modified).map_err(HelperError::file("set the time of", &place))?;
        }
        file.set_permissions(fs::Permissions::from_mode(mode)).map_err(HelperError::file("set the mode of", &place))
    }

    fn link_later(&mut self, path: &Path, link: PathBuf) {
        self.links.push((path.to_owned(), link));
    }

    fn make_links(mut self) -> Result<(), HelperError> {
        for (path, link) in std::mem::take(&mut self.links) {
            let place = self.place(&path)?;
            remove_file(&place)?;
            symlink(&link, &place).map_err(HelperError::file("create", &place))?;
        }
        Ok(())
    }

    /// Returns where an entry goes, its parent directories made.
    fn place(&self, path: &Path) -> Result<PathBuf, HelperError> {
        let escapes = || HelperError::Escapes { path: path.to_owned(), directory: self.root.clone() };
        let mut names = Vec::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => names.push(name),
                Component::CurDir => {}
                _ => return Err(escapes()),
            }
        }
        let Some(last) = names.pop() else { return Ok(self.root.clone()) };
        let mut parent = self.root.clone();
        for name in names {
            parent.push(name);
            if fs::symlink_metadata(&parent).is_err() {
                fs::create_dir(&parent).map_err(HelperError::file("create", &parent))?;
                fs::set_permissions(&parent, fs::Permissions::from_mode(0o777)).map_err(HelperError::file("open up", &parent))?;
            }
        }
        let real = parent.canonicalize().map_err(HelperError::file("open", &parent))?;
        if !real.starts_with(&self.root) {
            return Err(escapes());
        }
        Ok(real.join(last))
    }
}

fn remove_file(path: &Path) -> Result<(), HelperError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(HelperError::file("replace", path)(error)),
        _ => Ok(()),
    }
}
