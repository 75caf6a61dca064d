//! The directory of one engine, and the sweep of those whose engine is gone.
//!
//! ```text
//! jobs/<id>/lock       locked while the engine lives; the sandbox holds a copy of the lock
//! jobs/<id>/log        what the engine says about itself
//! jobs/<id>/scratch/   the sandbox's /var/lib/docker
//! jobs/.ids/<number>   locks of id ranges
//! ```
//!
//! The locked directory is the journal: it exists before anything else of the engine and goes last. Control groups and leases in the store
//! are swept by their owners' crates.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use super::id_range::try_lock;

const LOCK: &str = "lock";
const LOG: &str = "log";
const PROGRAM: &str = "program";
const SCRATCH: &str = "scratch";
/// Directory of all engines in the home directory.
pub(super) const JOBS: &str = "jobs";
/// Locks of id ranges. The leading dot cannot begin an engine's id.
pub(super) const ID_LOCKS: &str = ".ids";

/// Failure to make or sweep a directory below `jobs/`.
#[derive(Debug, thiserror::Error)]
pub enum JobDirError {
    #[error("create the directory `{}`", path.display())]
    Create {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("lock `{}`", path.display())]
    Lock {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the engine `{0}` exists already")]
    Exists(String),
    #[error("list `{}`", path.display())]
    List {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The directory of a living engine.
#[derive(Debug)]
pub(super) struct JobDir {
    path: PathBuf,
    lock: File,
}

impl JobDir {
    pub(super) fn create(jobs: &Path, id: &str) -> Result<Self, JobDirError> {
        let path = jobs.join(id);
        match DirBuilder::new().mode(0o711).create(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(JobDirError::Exists(id.to_owned())),
            Err(source) => return Err(JobDirError::Create { path, source }),
        }
        let lock_path = path.join(LOCK);
        let lock = try_lock(&lock_path).map_err(|source| JobDirError::Lock { path: lock_path, source })?;
        // Between the two lines above a sweep may have taken the new directory for an abandoned one.
        let lock = lock.ok_or_else(|| JobDirError::Exists(id.to_owned()))?;
        let scratch = path.join(SCRATCH);
        DirBuilder::new().mode(0o711).create(&scratch).map_err(|source| JobDirError::Create { path: scratch, source })?;
        Ok(Self { path, lock })
    }

    pub(super) fn scratch(&self) -> PathBuf {
        self.path.join(SCRATCH)
    }

    /// Where a copy of the program lies if the original was replaced.
    pub(super) fn program(&self) -> PathBuf {
        self.path.join(PROGRAM)
    }

    pub(super) fn lock(&self) -> &File {
        &self.lock
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join(LOG)
    }

    /// Removes the directory. Logs what cannot be removed; the next sweep tries again.
    pub(super) fn remove(self) {
        remove_tree(&self.path);
    }
}

/// An abandoned directory found by [`abandoned`], locked.
#[derive(Debug)]
pub(super) struct Abandoned {
    path: PathBuf,
    _lock: File,
}

impl Abandoned {
    pub(super) fn remove(self) {
        remove_tree(&self.path);
    }
}

/// Returns the directories whose engine is gone.
pub(super) fn abandoned(jobs: &Path) -> Result<Vec<Abandoned>, JobDirError> {
    let list = |source| JobDirError::List { path: jobs.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(jobs).map_err(list)? {
        let path = entry.map_err(list)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden || !path.is_dir() {
            continue;
        }
        let lock_path = path.join(LOCK);
        match try_lock(&lock_path) {
            Ok(Some(lock)) => found.push(Abandoned { path, _lock: lock }),
            Ok(None) => {}
            // Removed by its owner since the listing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(JobDirError::Lock { path: lock_path, source }),
        }
    }
    Ok(found)
}

/// The lock file goes last, so that a removal that is interrupted is found again.
fn remove_tree(path: &Path) {
    let remove = || {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_name() == LOCK {
                continue;
            }
            if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
        }
        fs::remove_dir_all(path)
    };
    if let Err(error) = remove() {
        tracing::warn!(path = %path.display(), %error, "remove an engine's directory");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_without_an_owner_are_swept() {
        let jobs = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(jobs.path().join(ID_LOCKS)).expect("the directory of id locks");
        let living = JobDir::create(jobs.path(), "living").expect("a directory");
        let dead = JobDir::create(jobs.path(), "dead").expect("a directory");
        fs::write(dead.scratch().join("file"), "x").expect("a file");
        drop(dead);

        let found = abandoned(jobs.path()).expect("a sweep");
        assert_eq!(found.len(), 1);
        for job in found {
            job.remove();
        }
        assert!(!jobs.path().join("dead").exists());
        assert!(living.scratch().is_dir());
        assert!(jobs.path().join(ID_LOCKS).is_dir());
    }

    #[test]
    fn a_name_is_used_once() {
        let jobs = tempfile::tempdir().expect("a temporary directory");
        let _held = JobDir::create(jobs.path(), "1").expect("a directory");
        assert!(matches!(JobDir::create(jobs.path(), "1"), Err(JobDirError::Exists(_))));
    }
}
