//! Tar archives: sources, and caches in their second form.

use std::{
    io::Read,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    super::HelperError,
    target::{FileTarget, Target},
};

/// Which permissions entries get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Modes {
    AsArchived,
    OpenToAll,
}

impl Modes {
    fn directory(self, archived: u32) -> u32 {
        match self {
            Self::AsArchived => archived & 0o7777,
            Self::OpenToAll => 0o777,
        }
    }

    fn file(self, archived: u32) -> u32 {
        match self {
            Self::AsArchived => archived & 0o7777,
            Self::OpenToAll if archived & 0o100 != 0 => 0o777,
            Self::OpenToAll => 0o666,
        }
    }
}

pub(super) fn extract(mut target: Target, input: impl Read, modes: Modes) -> Result<(), HelperError> {
    let mut archive = tar::Archive::new(input);
    for entry in archive.entries().map_err(HelperError::ReadArchive)? {
        let mut entry = entry.map_err(HelperError::ReadArchive)?;
        let path = entry.path().map_err(HelperError::ReadArchive)?.into_owned();
        let mode = entry.header().mode().unwrap_or(0o644);
        match entry.header().entry_type() {
            tar::EntryType::Directory => target.directory(&path, modes.directory(mode))?,
            tar::EntryType::Symlink => {
                let link: PathBuf = entry.link_name().map_err(HelperError::ReadArchive)?.unwrap_or_default().into_owned();
                target.link_later(&path, link);
            }
            tar::EntryType::Regular => {
                let place = target.place(&path)?;
                let modified = modified(entry.header());
                FileTarget { place, mode: modes.file(mode), modified }.write(&mut entry)?;
            }
            // Neither git nor we write anything else.
            _ => {}
        }
    }
    target.finish()
}

fn modified(header: &tar::Header) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_secs(header.mtime().ok()?))
}
