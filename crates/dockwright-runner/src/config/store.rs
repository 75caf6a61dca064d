//! The file `config.toml` on disk: read whole, written atomically, by one writer at a time.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, fchown},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

/// The file holds tokens.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// A configuration file by its path. It need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigStore {
    path: PathBuf,
}

/// A configuration file that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("read the configuration file `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("write the configuration file `{path}`")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("lock the directory of the configuration file `{path}`")]
    Lock {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl ConfigStore {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the directory of the file, which also holds the system id and certificates.
    pub fn directory(&self) -> &Path {
        self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// Returns the text, or `None` when there is no such file.
    pub fn read(&self) -> Result<Option<String>, StoreError> {
        match fs::read_to_string(&self.path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::Read { path: self.path.clone(), source }),
        }
    }

    /// Waits until no other writer is at work. Makes the directory when it is missing.
    ///
    /// The lock is on the directory: the file itself is replaced by every write.
    pub fn lock(&self) -> Result<LockedConfig<'_>, StoreError> {
        let lock = || -> io::Result<File> {
            fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(self.directory())?;
            let directory = File::open(self.directory())?;
            flock(&directory, FlockOperation::LockExclusive)?;
            Ok(directory)
        };
        match lock() {
            Ok(directory) => Ok(LockedConfig { store: self, directory }),
            Err(source) => Err(StoreError::Lock { path: self.path.clone(), source }),
        }
    }
}

/// A configuration file that nobody else writes while this lives.
#[derive(Debug)]
pub struct LockedConfig<'store> {
    store: &'store ConfigStore,
    directory: File,
}

impl LockedConfig<'_> {
    /// Returns the text, or `None` when there is no such file.
    pub fn read(&self) -> Result<Option<String>, StoreError> {
        self.store.read()
    }

    /// Replaces the text. A reader sees the old or the new one, also after a crash.
    pub fn write(&self, text: &str) -> Result<(), StoreError> {
        self.replace(text).map_err(|source| StoreError::Write { path: self.store.path.clone(), source })
    }

    fn replace(&self, text: &str) -> io::Result<()> {
        // A link stays a link.
        let target = fs::canonicalize(&self.store.path).unwrap_or_else(|_| self.store.path.clone());
        let directory = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut new = tempfile::Builder::new().prefix(".config.toml.").tempfile_in(directory)?;
        new.write_all(text.as_bytes())?;
        new.as_file().set_permissions(fs::Permissions::from_mode(FILE_MODE))?;
        keep_owner(&target, new.as_file())?;
        new.as_file().sync_all()?;
        match new.persist(&target) {
            Ok(_) => self.directory.sync_all(),
            // A file mounted into a container cannot be replaced, only written.
            Err(error) if error.error.kind() == io::ErrorKind::ResourceBusy => write_in_place(&target, text),
            Err(error) => Err(error.error),
        }
    }
}

/// Root writes other users' files, too.
fn keep_owner(old: &Path, new: &File) -> io::Result<()> {
    match (fs::metadata(old), new.metadata()?) {
        (Ok(old), made) if (old.uid(), old.gid()) != (made.uid(), made.gid()) => fchown(new, Some(old.uid()), Some(old.gid())),
        _ => Ok(()),
    }
}

fn write_in_place(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::options().write(true).truncate(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    fn store(directory: &tempfile::TempDir) -> ConfigStore {
        ConfigStore::new(directory.path().join("etc/config.toml"))
    }

    fn write(store: &ConfigStore, text: &str) {
        store.lock().and_then(|locked| locked.write(text)).expect("the file is written");
    }

    #[test]
    fn a_written_file_is_its_owners_alone() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let store = store(&directory);
        assert_eq!(store.read().expect("no file is no error"), None);
        write(&store, "concurrent = 1\n");
        assert_eq!(store.read().expect("the file is there").as_deref(), Some("concurrent = 1\n"));
        let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
        assert_eq!((mode(store.path()), mode(store.directory())), (FILE_MODE, DIRECTORY_MODE));
        let names: Vec<_> = fs::read_dir(store.directory()).expect("directory").map(|entry| entry.expect("entry").file_name()).collect();
        assert_eq!(names, ["config.toml"]);
    }

    #[test]
    fn a_link_stays_and_its_target_changes() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let (target, link) = (directory.path().join("real.toml"), directory.path().join("config.toml"));
        fs::write(&target, "old").expect("file");
        std::os::unix::fs::symlink(&target, &link).expect("link");
        write(&ConfigStore::new(&link), "new");
        assert!(fs::symlink_metadata(&link).expect("link").is_symlink());
        assert_eq!(fs::read_to_string(&target).expect("file"), "new");
    }

    #[test]
    fn a_second_writer_waits() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let store = store(&directory);
        write(&store, "0");
        let locked = store.lock().expect("the lock is free");
        let (began, begun) = mpsc::channel();
        thread::scope(|scope| {
            let other = scope.spawn(|| {
                began.send(()).expect("the test listens");
                let locked = store.lock().expect("the lock becomes free");
                let text = locked.read().expect("the file is there").unwrap_or_default();
                locked.write(&format!("{text}2")).expect("the file is written");
            });
            begun.recv().expect("the other begins");
            let text = locked.read().expect("the file is there").unwrap_or_default();
            locked.write(&format!("{text}1")).expect("the file is written");
            drop(locked);
            other.join().expect("the other ends");
        });
        assert_eq!(store.read().expect("the file is there").as_deref(), Some("012"));
    }
}
