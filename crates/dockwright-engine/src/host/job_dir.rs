//! The directory of one engine, and the sweep of those whose engine is gone.
//!
//! ```text
//! jobs/<id>/lock           locked while the engine lives; the sandbox holds a copy of the lock
//! jobs/<id>/journal.json   what else must be undone: control groups, the store's lease
//! jobs/<id>/scratch/       the sandbox's /var/lib/docker
//! jobs/.ids/<number>       locks of id ranges
//! ```
//!
//! Creation writes the journal before the thing that it names exists, so that a crash at any moment leaves a directory from which
//! everything can be undone.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::id_range::try_lock;

const LOCK: &str = "lock";
const JOURNAL: &str = "journal.json";
const SCRATCH: &str = "scratch";
/// Locks of id ranges. The leading dot cannot begin an engine's id.
pub(super) const ID_LOCKS: &str = ".ids";

/// What to undo besides the directory itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Journal {
    pub(super) cgroups: Vec<PathBuf>,
    pub(super) lease: Option<String>,
}

/// Failure to make or sweep a directory below `jobs/`.
#[derive(Debug, thiserror::Error)]
pub enum JobDirError {
    #[error("create the directory `{}`", path.display())]
    Create { path: PathBuf, #[source] source: io::Error },
    #[error("lock `{}`", path.display())]
    Lock { path: PathBuf, #[source] source: io::Error },
    #[error("the engine `{0}` exists already")]
    Exists(String),
    #[error("write the journal `{}`", path.display())]
    WriteJournal { path: PathBuf, #[source] source: io::Error },
    #[error("list `{}`", path.display())]
    List { path: PathBuf, #[source] source: io::Error },
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

    pub(super) fn lock(&self) -> &File {
        &self.lock
    }

    pub(super) fn write_journal(&self, journal: &Journal) -> Result<(), JobDirError> {
        let path = self.path.join(JOURNAL);
        let write = || {
            let unfinished = self.path.join("journal.new");
            fs::write(&unfinished, serde_json::to_vec(journal)?)?;
            fs::rename(&unfinished, &path)
        };
        write().map_err(|source| JobDirError::WriteJournal { path, source })
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
    pub(super) journal: Journal,
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
            Ok(Some(lock)) => found.push(Abandoned { journal: read_journal(&path), path, _lock: lock }),
            Ok(None) => {}
            // Removed by its owner since the listing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(JobDirError::Lock { path: lock_path, source }),
        }
    }
    Ok(found)
}

/// A journal that is missing or cannot be read names nothing: it was being written when the host died, before what it would name.
fn read_journal(dir: &Path) -> Journal {
    fs::read(dir.join(JOURNAL)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
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
        let journal = Journal { cgroups: vec!["/sys/fs/cgroup/dockwright/dead".into()], lease: Some("engine/dead".into()) };
        dead.write_journal(&journal).expect("the journal");
        fs::write(dead.scratch().join("file"), "x").expect("a file");
        drop(dead);

        let found = abandoned(jobs.path()).expect("a sweep");
        assert_eq!(found.len(), 1);
        for job in found {
            assert_eq!(job.journal, journal);
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
