//! The store as a directory: where things lie, who has it open, and what failed operations leave behind.
//!
//! ```text
//! db.sqlite                 all metadata (see `db/0001.sql`)
//! blobs/sha256/ab/abcd…     blobs by digest
//! layers/<hex>/fs           extracted layers by DiffId
//! uploads/<id>              what registry clients have sent so far
//! owners/<id>               one locked file per process (and handle) that has the store open
//! tmp/<id>/                 what that owner is writing
//! ```
//!
//! **Becoming visible.** Everything is written below `tmp/<owner>/`, synced, and then renamed into place inside the write transaction that
//! inserts its row. A crash before the commit leaves a file without a row, which collection removes; a row without its file cannot occur.
//!
//! **Owners.** The lock on `owners/<id>` ends with the process, however it ends. Whoever opens the store, or collects, takes the locks that
//! are free, and removes what their owners left: temporary files and leases.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rusqlite::Transaction;
use rustix::fs::FlockOperation;

use crate::{
    db::{Database, FormatError},
    digest::{DiffId, Digest},
};

/// A handle on a store directory. Cheap to clone; usable from several threads.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    dir: PathBuf,
    pub(crate) db: Database,
    pub(crate) owner: Owner,
    next_number: AtomicU64,
    #[cfg(test)]
    pub(crate) faults: crate::faults::Faults,
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A directory or lock could not be made.
    #[error("{doing} `{path}`")]
    Io {
        /// The step.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The database is of another format or damaged.
    #[error("open the store at `{dir}`")]
    Format {
        /// The store's directory.
        dir: PathBuf,
        /// What is wrong with it.
        #[source]
        source: FormatError,
    },
    /// What dead processes left could not be removed.
    #[error("clear what earlier processes left in the store")]
    Sweep(#[from] StoreError),
}

/// Why an operation on an open store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused.
    #[error("{doing} in the store's database")]
    Database {
        /// The operation.
        doing: &'static str,
        /// SQLite's answer.
        #[source]
        source: rusqlite::Error,
    },
    /// The file system refused.
    #[error("{doing} `{path}`")]
    Io {
        /// The operation.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Something referred to is not in the store.
    #[error("{what} is not in the store")]
    Missing {
        /// For instance `layer sha256:…`.
        what: String,
    },
}

impl StoreError {
    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }

    pub(crate) fn sql(doing: &'static str) -> impl Fn(rusqlite::Error) -> Self {
        move |source| Self::Database { doing, source }
    }
}

impl Store {
    /// Opens the store in `dir`, making it when there is none, and clears what dead processes left.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        for path in [dir.to_owned(), dir.join("blobs/sha256"), dir.join("layers"), dir.join("uploads"), dir.join("owners"), dir.join("tmp")]
        {
            fs::create_dir_all(&path).map_err(|source| OpenError::Io { doing: "make the directory", path, source })?;
        }
        // Layers hold set-uid files of any image; nobody but the owner may walk to them.
        fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).map_err(|source| OpenError::Io {
            doing: "protect the directory",
            path: dir.to_owned(),
            source,
        })?;
        let dir = dir.canonicalize().map_err(|source| OpenError::Io { doing: "resolve", path: dir.to_owned(), source })?;
        let db = Database::open(&dir.join("db.sqlite")).map_err(|source| OpenError::Format { dir: dir.clone(), source })?;
        let owner = Owner::register(&dir)?;
        let inner = Inner {
            dir,
            db,
            owner,
            next_number: AtomicU64::new(0),
            #[cfg(test)]
            faults: crate::faults::Faults::default(),
        };
        let store = Self { inner: Arc::new(inner) };
        store.inner.sweep_dead_owners()?;
        Ok(store)
    }

    /// Returns the store's directory.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    pub(crate) fn db(&self) -> &Database {
        &self.inner.db
    }
}

impl Inner {
    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.dir.join("blobs/sha256").join(&hex[..2]).join(hex)
    }

    pub(crate) fn layer_path(&self, diff_id: &DiffId) -> PathBuf {
        self.dir.join("layers").join(diff_id.hex())
    }

    pub(crate) fn upload_path(&self, upload: &str) -> PathBuf {
        self.dir.join("uploads").join(upload)
    }

    pub(crate) fn subdir(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Returns a number that no other temporary file or lease of this handle has.
    pub(crate) fn next_number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns a path below `tmp/` that nobody else uses. Nothing is created.
    pub(crate) fn temp_path(&self, kind: &str) -> PathBuf {
        self.owner.temp_dir(&self.dir).join(format!("{kind}-{}", self.next_number()))
    }

    /// A point where tests let an operation fail.
    #[cfg_attr(not(test), expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "tests make it fail"))]
    pub(crate) fn step(&self, _name: &'static str) -> io::Result<()> {
        #[cfg(test)]
        self.faults.step(_name)?;
        Ok(())
    }

    /// Renames a finished file or directory into place. Called inside the transaction that inserts its row, which makes whatever lies at
    /// the target a leftover.
    pub(crate) fn place(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        let parent = to.parent().expect("content lies below the store's directory");
        fs::create_dir_all(parent).map_err(StoreError::io("make the directory", parent))?;
        self.step("remove a leftover").map_err(StoreError::io("remove the leftover", to))?;
        self.discard_if_there(to)?;
        self.step("rename into place").and_then(|()| fs::rename(from, to)).map_err(StoreError::io("rename into place", to))?;
        self.step("sync the directory").and_then(|()| sync_dir(parent)).map_err(StoreError::io("sync the directory", parent))
    }

    /// Moves a file or directory into this owner's temporary directory. True if it was there.
    pub(crate) fn discard_if_there(&self, path: &Path) -> Result<bool, StoreError> {
        match fs::rename(path, self.temp_path("trash")) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(StoreError::Io { doing: "move away", path: path.to_owned(), source }),
        }
    }

    /// Removes temporary files and leases of owners whose processes are gone.
    pub(crate) fn sweep_dead_owners(&self) -> Result<(), StoreError> {
        let owners = self.dir.join("owners");
        let _gate = Owner::gate(&self.dir).map_err(StoreError::io("lock", &owners))?;
        for id in file_names(&owners)? {
            let lock_path = owners.join(&id);
            let file = match File::open(&lock_path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(StoreError::Io { doing: "open", path: lock_path, source }),
            };
            if id == GATE || rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            remove_all(&self.dir.join("tmp").join(&id))?;
            self.release_owner(&id)?;
            fs::remove_file(&lock_path).map_err(StoreError::io("remove", &lock_path))?;
        }
        Ok(())
    }

    fn release_owner(&self, id: &str) -> Result<(), StoreError> {
        const DOING: &str = "release leases";
        let delete = |transaction: &Transaction<'_>| {
            transaction.execute("DELETE FROM leases WHERE owner = ?1", [id]).map_err(StoreError::sql(DOING)).map(drop)
        };
        self.db.write_volatile(DOING, delete)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // What fails here is done by the next one to open the store.
        let _ = remove_all(&self.owner.temp_dir(&self.dir));
        if self.release_owner(&self.owner.id).is_ok() {
            let _ = fs::remove_file(self.dir.join("owners").join(&self.owner.id));
        }
    }
}

/// The lock that tells others that this process still lives.
pub(crate) struct Owner {
    pub(crate) id: String,
    _lock: File,
}

/// Held while an owner is made or swept, so that nobody sweeps a file between its creation and its lock.
const GATE: &str = "gate";

impl Owner {
    fn register(dir: &Path) -> Result<Self, OpenError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { doing: "register as an owner of the store at", path, source }
        };
        let id = random_id();
        let path = dir.join("owners").join(&id);
        let _gate = Self::gate(dir).map_err(failed(&path))?;
        let lock = File::create_new(&path).map_err(failed(&path))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(io::Error::from).map_err(failed(&path))?;
        let owner = Self { id, _lock: lock };
        let temp = owner.temp_dir(dir);
        fs::create_dir(&temp).map_err(failed(&temp))?;
        Ok(owner)
    }

    fn gate(dir: &Path) -> io::Result<File> {
        let file = File::options().create(true).append(true).open(dir.join("owners").join(GATE))?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    }

    fn temp_dir(&self, dir: &Path) -> PathBuf {
        dir.join("tmp").join(&self.id)
    }
}

/// Returns 128 random bits as hexadecimal digits.
pub(crate) fn random_id() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    hex::encode(bytes)
}

pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Removes a file or a whole directory, never following symlinks; absent is fine.
pub(crate) fn remove_all(path: &Path) -> Result<(), StoreError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(StoreError::Io { doing: "remove", path: path.to_owned(), source }),
        _ => Ok(()),
    }
}

/// Returns the names in a directory, sorted.
pub(crate) fn file_names(dir: &Path) -> Result<Vec<String>, StoreError> {
    let list = || -> io::Result<Vec<String>> {
        let entries: Vec<fs::DirEntry> = fs::read_dir(dir)?.collect::<io::Result<_>>()?;
        Ok(entries.into_iter().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    };
    let mut names = list().map_err(StoreError::io("list", dir))?;
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_owner_left_is_swept_and_the_living_are_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let living = Store::open(dir.path()).unwrap();
        let mine = living.inner.temp_path("blob");
        fs::write(&mine, b"being written").unwrap();
        // An owner file that nobody locks is what a killed process leaves.
        fs::write(dir.path().join("owners/dead"), b"").unwrap();
        fs::create_dir_all(dir.path().join("tmp/dead/half")).unwrap();

        let second = Store::open(dir.path()).unwrap();
        assert!(!dir.path().join("tmp/dead").exists() && !dir.path().join("owners/dead").exists());
        assert_eq!(fs::read(&mine).unwrap(), b"being written");
        drop((living, second));
        assert_eq!(file_names(&dir.path().join("owners")).unwrap(), ["gate"]);
        assert!(file_names(&dir.path().join("tmp")).unwrap().is_empty());
    }
}
