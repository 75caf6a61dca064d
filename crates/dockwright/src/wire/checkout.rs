//! Where the repository is made that jobs would fetch from, for commands that run none.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::{CommandError, ErrorKind, Explain as _};

/// A place that is gone when dropped.
pub(crate) struct Checkout {
    path: PathBuf,
    _directory: TempDir,
}

impl Checkout {
    pub(crate) fn temporary() -> Result<Self, CommandError> {
        let made = tempfile::Builder::new().prefix("dockwright-").tempdir();
        let directory = made.explain(ErrorKind::Environment, || "make a temporary directory".to_owned())?;
        Ok(Self { path: directory.path().join("sources.git"), _directory: directory })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}
