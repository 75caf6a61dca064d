//! Ranges of user and group ids, one per engine.
//!
//! A range is held by a lock on a file named after it, so that engine hosts of several processes share one pool. The lock belongs to an
//! open file description; a copy of the descriptor given to the sandbox keeps the range taken for as long as anything of the sandbox
//! runs, even when the engine host is gone.

use std::{
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use dockwright_container::sandbox::RANGE_IDS;
use rustix::fs::{FlockOperation, flock};

/// Where engines get their ids from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdPool {
    /// Every engine has the engine host's own ids: the host is root of a user namespace, which is all that its user can have.
    Shared,
    /// Every engine has a range of its own, out of `ranges` many that begin with the id `first`.
    Ranges { first: u32, ranges: u32 },
}

impl Default for IdPool {
    /// Ranges far above what `useradd` (up to about 600 million) and systemd (up to 0x7000_0000 at other places) hand out.
    fn default() -> Self {
        Self::Ranges { first: 0x4000_0000, ranges: 4096 }
    }
}

/// A range that is in use. Free again when dropped and no sandbox holds its lock.
#[derive(Debug)]
pub(super) struct IdRange {
    /// What id 0 of the sandbox is outside; `None` when ids are shared.
    pub(super) first: Option<u32>,
    pub(super) lock: Option<File>,
}

/// Failure to get a range.
#[derive(Debug, thiserror::Error)]
pub enum TakeIdsError {
    #[error("open the lock file `{}`", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("all {0} ranges of user ids are in use")]
    Exhausted(u32),
}

impl IdPool {
    /// Takes a free range. `dir` holds the lock files.
    pub(super) fn take(self, dir: &Path) -> Result<IdRange, TakeIdsError> {
        let Self::Ranges { first, ranges } = self else { return Ok(IdRange { first: None, lock: None }) };
        for number in 0..ranges {
            let path = dir.join(number.to_string());
            if let Some(lock) = try_lock(&path).map_err(|source| TakeIdsError::Open { path, source })? {
                return Ok(IdRange { first: Some(first + number * RANGE_IDS), lock: Some(lock) });
            }
        }
        Err(TakeIdsError::Exhausted(ranges))
    }
}

/// Opens and locks a file; `None` when somebody else has it.
pub(super) fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_distinct_and_come_back() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let pool = IdPool::Ranges { first: 100_000, ranges: 2 };
        let first = pool.take(dir.path()).expect("first range");
        let second = pool.take(dir.path()).expect("second range");
        assert_eq!((first.first, second.first), (Some(100_000), Some(165_536)));
        assert!(matches!(pool.take(dir.path()), Err(TakeIdsError::Exhausted(2))));
        drop(first);
        assert_eq!(pool.take(dir.path()).expect("the freed range").first, Some(100_000));
    }

    #[test]
    fn a_copied_lock_keeps_the_range() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let pool = IdPool::Ranges { first: 0, ranges: 1 };
        let range = pool.take(dir.path()).expect("the range");
        let held_by_sandbox = range.lock.as_ref().expect("a lock").try_clone().expect("a copy");
        drop(range);
        assert!(pool.take(dir.path()).is_err());
        drop(held_by_sandbox);
        assert!(pool.take(dir.path()).is_ok());
    }
}
