//! Directories for the checkouts of shell jobs.
//!
//! They are kept from run to run, so that sources are fetched rather than cloned. Each run takes one that no other run has.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// Runs at once of one user.
const MAX_DIRECTORIES: usize = 1000;

/// A directory that belongs to this process until dropped.
#[derive(Debug)]
pub(crate) struct BuildsDirectory {
    path: PathBuf,
    sockets: PathBuf,
    /// Held, never read: the lock is the point.
    _lock: File,
}

impl BuildsDirectory {
    /// Takes the first free directory below `parent`.
    pub(crate) fn take(parent: &Path) -> io::Result<Self> {
        fs::create_dir_all(parent)?;
        for number in 0..MAX_DIRECTORIES {
            let lock = File::options().create(true).truncate(false).write(true).open(parent.join(format!("{number}.lock")))?;
            match lock.try_lock() {
                Ok(()) => return Self::locked(parent, number, lock),
                Err(fs::TryLockError::WouldBlock) => {}
                Err(fs::TryLockError::Error(error)) => return Err(error),
            }
        }
        Err(io::Error::other(format!("all {MAX_DIRECTORIES} directories are in use")))
    }

    fn locked(parent: &Path, number: usize, lock: File) -> io::Result<Self> {
        let sockets = parent.join(format!("{number}.run"));
        // Those of a run that was killed.
        match fs::remove_dir_all(&sockets) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Self { path: parent.join(number.to_string()), sockets, _lock: lock })
    }

    /// Where sockets for the jobs of this run can be made; empty at first.
    pub(crate) fn sockets(&self) -> &Path {
        &self.sockets
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_at_once_get_different_directories_and_later_ones_the_same() {
        let parent = tempfile::tempdir().expect("temporary directory");
        let take = || BuildsDirectory::take(parent.path()).expect("a directory");
        let (first, second) = (take(), take());
        assert_ne!(first.path(), second.path());
        let path = first.path().to_owned();
        drop(first);
        assert_eq!(take().path(), path);
    }
}
