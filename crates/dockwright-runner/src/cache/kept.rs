//! As which version of an object an archive on this machine was fetched or stored.

use std::{fs::File, io, path::Path};

use rustix::fs::{XattrFlags, fgetxattr, fsetxattr};

const ATTRIBUTE: &str = "user.dockwright.object";
/// An address and a version.
const LENGTH_MAX: usize = 8 * 1024;

/// Returns the version of the object at `address` that a file is, as far as that is known.
pub(super) fn version(file: &Path, address: &str) -> Option<String> {
    let mut value = vec![0; LENGTH_MAX];
    let length = fgetxattr(File::open(file).ok()?, ATTRIBUTE, value.as_mut_slice()).ok()?;
    let value = std::str::from_utf8(value.get(..length)?).ok()?;
    value.strip_prefix(address)?.strip_prefix('\n').map(str::to_owned)
}

/// Notes the version. A file system without attributes only means that the object is fetched once more.
pub(super) fn note(file: &File, address: &str, version: &str) -> io::Result<()> {
    Ok(fsetxattr(file, ATTRIBUTE, format!("{address}\n{version}").as_bytes(), XattrFlags::empty())?)
}
