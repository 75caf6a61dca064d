//! Tells whether files are still those of an archive, without reading either.
//!
//! GitLab Runner makes an archive anew when a file is newer than the last one; what was deleted, or is no longer selected, it does not
//! notice. Here an archive ends with a fingerprint of its selection, which goes along wherever the archive does. What enters:
//!
//! | | files | links | directories |
//! |---|---|---|---|
//! | name, kind, permissions | yes | yes | yes |
//! | size, modification time in seconds | yes | – | – (unpacking changes it) |
//! | target | – | yes | – |
//!
//! and the format and level of the archive. It cannot notice a file that was changed within the second of its last change and kept its
//! size, so a selection with files from the last seconds has no fingerprint.

use std::{
    fs::File,
    io,
    os::unix::{ffi::OsStrExt as _, fs::FileExt as _},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sha2::{Digest as _, Sha256};

use super::{
    ArchiveOptions,
    plan::{Kind, Plan},
};

const PREFIX: &[u8] = b"dockwright-selection:";
const HEX_BYTES: usize = 64;
/// A file this old does not change unnoticed: times are kept in seconds, and clocks of file systems tick a little late.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// Returns the fingerprint of a selection; `None` while it is too fresh for one.
pub(super) fn of(plan: &Plan, options: &ArchiveOptions) -> Option<String> {
    let settled = SystemTime::now().checked_sub(SETTLED_AFTER)?.duration_since(UNIX_EPOCH).ok()?.as_secs();
    let mut hash = Sha256::new();
    hash.update(format!("{:?} {:?}\0", options.format, options.level));
    for entry in &plan.entries {
        hash.update(entry.name.as_os_str().as_bytes());
        hash.update(format!("\0{:o}\0", entry.mode));
        match &entry.kind {
            Kind::Directory | Kind::Made { .. } => {}
            Kind::Link { target } => hash.update(target.as_os_str().as_bytes()),
            Kind::File => {
                if u64::try_from(entry.modified_secs).is_ok_and(|modified| modified >= settled) {
                    return None;
                }
                hash.update(format!("{} {}", entry.size, entry.modified_secs));
            }
        }
        hash.update(b"\0\n");
    }
    Some(hex::encode(hash.finalize()))
}

/// Returns the bytes that an archive ends with.
pub(super) fn mark(fingerprint: &str) -> Vec<u8> {
    [PREFIX, fingerprint.as_bytes()].concat()
}

/// Reads the fingerprint at the end of an archive, if there is one.
pub(crate) fn read(archive: &Path) -> io::Result<Option<String>> {
    let file = File::open(archive)?;
    let length = PREFIX.len() + HEX_BYTES;
    let Some(at) = file.metadata()?.len().checked_sub(length as u64) else { return Ok(None) };
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, at)?;
    let hex = bytes.strip_prefix(PREFIX).filter(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    Ok(hex.map(|hex| String::from_utf8_lossy(hex).into_owned()))
}
