//! Notices that a file has changed, by looking at it.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// What tells one state of a file from another. A file that was replaced has another inode, also within one tick of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    modified: (i64, i64),
    inode: u64,
    size: u64,
}

/// A file under observation.
#[derive(Debug)]
pub(super) struct Watch {
    path: PathBuf,
    seen: Option<State>,
}

impl Watch {
    pub(super) fn begin(path: &Path) -> Self {
        Self { path: path.to_owned(), seen: look(path).ok() }
    }

    /// Tells whether the file has changed since the last time. One that is gone for the moment has not.
    pub(super) fn has_changed(&mut self) -> bool {
        let Ok(state) = look(&self.path) else { return false };
        self.seen.replace(state) != Some(state)
    }
}

fn look(path: &Path) -> io::Result<State> {
    let metadata = fs::metadata(path)?;
    Ok(State { modified: (metadata.mtime(), metadata.mtime_nsec()), inode: metadata.ino(), size: metadata.size() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_is_noticed_once() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let (path, new) = (directory.path().join("a"), directory.path().join("b"));
        fs::write(&path, "1").expect("file");
        let mut watch = Watch::begin(&path);
        assert!(!watch.has_changed());
        fs::write(&new, "2").expect("file");
        fs::rename(&new, &path).expect("rename");
        assert!(watch.has_changed() && !watch.has_changed());
        fs::remove_file(&path).expect("file");
        assert!(!watch.has_changed());
    }
}
