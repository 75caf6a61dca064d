//! Trees that files are copied from: the build context, the root of an image, a fetched file.
//!
//! A path is relative to the tree's root; the root itself is the empty path. Nothing here leaves the tree: `..` stops at the root, and an
//! absolute link target starts again at it.
//!
//! # Sums
//!
//! The *sum* of a path is Docker's "tarsum v1": SHA-256 over name, mode, owner, size, type, link target, device numbers and attributes,
//! then the bytes. The modification time is not in it, so a fresh checkout of the same commit has the same sums. History texts and cache
//! keys are made of them. Names of owners are left empty; dockerd 20.10 puts the host's in for files of `COPY --from`.

mod root;
mod spool;

use std::{
    ffi::OsString,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

pub use root::RootTree;
pub(crate) use root::open_below;
use sha2::{Digest as _, Sha256};
pub use spool::SpoolTree;

/// A tree that files are copied from.
pub trait Tree {
    /// Returns what a path is, without following it when it is a link; `None` when there is nothing.
    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>>;
    /// Returns the names in a directory, sorted.
    fn names(&self, path: &Path) -> io::Result<Vec<OsString>>;
    /// Opens a regular file.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + '_>>;
    /// Returns the sum of a path, see the module.
    fn sum(&self, path: &Path) -> io::Result<String>;
}

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    pub kind: Kind,
    /// The lower twelve bits.
    pub permissions: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub modified: Modified,
    pub attributes: Vec<(String, Vec<u8>)>,
    /// Equal for names of one file.
    pub link_id: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Symlink(PathBuf),
    CharDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
    Fifo,
    Socket,
}

/// Seconds since 1970 and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Modified {
    pub seconds: i64,
    pub nanos: u32,
}

impl Metadata {
    pub fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }

    /// A directory that nobody described.
    pub(crate) fn implied_directory() -> Self {
        Self {
            kind: Kind::Directory,
            permissions: 0o755,
            uid: 0,
            gid: 0,
            size: 0,
            modified: Modified::default(),
            attributes: Vec::new(),
            link_id: None,
        }
    }
}

/// Follows links in a path, the last component included. What does not exist is taken as it is written.
pub fn resolve(tree: &dyn Tree, path: &Path) -> io::Result<PathBuf> {
    /// As the kernel's.
    const MAX_LINKS: usize = 40;
    let mut resolved = PathBuf::new();
    let mut pending: Vec<OsString> = reversed_components(path);
    let mut links = 0;
    while let Some(component) = pending.pop() {
        if component == ".." {
            resolved.pop();
            continue;
        }
        resolved.push(&component);
        let Some(Metadata { kind: Kind::Symlink(target), .. }) = tree.metadata(&resolved)? else { continue };
        links += 1;
        if links > MAX_LINKS {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("too many links in `{}`", path.display())));
        }
        if target.is_absolute() {
            resolved = PathBuf::new();
        } else {
            resolved.pop();
        }
        pending.extend(reversed_components(&target));
    }
    Ok(resolved)
}

fn reversed_components(path: &Path) -> Vec<OsString> {
    let mut components: Vec<OsString> = path
        .components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect();
    components.reverse();
    components
}

/// Makes a path relative to the root, without `.` and `..`.
pub fn normalize(path: &Path) -> PathBuf {
    let mut result = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => result.push(name),
            Component::ParentDir => drop(result.pop()),
            _ => {}
        }
    }
    result
}

/// Lists everything below a directory, parents first, without following links.
pub fn walk(tree: &dyn Tree, directory: &Path) -> io::Result<Vec<(PathBuf, Metadata)>> {
    let mut found = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        for name in tree.names(&directory)? {
            let path = directory.join(name);
            let Some(metadata) = tree.metadata(&path)? else { continue };
            if metadata.is_directory() {
                pending.push(path.clone());
            }
            found.push((path, metadata));
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found)
}

/// Starts a sum with everything but the bytes.
fn begin_sum(path: &Path, metadata: &Metadata) -> Sha256 {
    let (type_flag, type_bits, link, major, minor) = match &metadata.kind {
        Kind::File => (b'0', 0o100_000, None, 0, 0),
        Kind::Symlink(target) => (b'2', 0o120_000, Some(target), 0, 0),
        Kind::CharDevice { major, minor } => (b'3', 0o020_000, None, *major, *minor),
        Kind::BlockDevice { major, minor } => (b'4', 0o060_000, None, *major, *minor),
        Kind::Directory => (b'5', 0o040_000, None, 0, 0),
        Kind::Fifo => (b'6', 0o010_000, None, 0, 0),
        Kind::Socket => (b'0', 0o140_000, None, 0, 0),
    };
    let mut name = path.as_os_str().as_bytes().to_vec();
    if metadata.is_directory() {
        name.push(b'/');
    }
    let size = if metadata.kind == Kind::File { metadata.size } else { 0 };
    let link = link.map(|target| target.as_os_str().as_bytes()).unwrap_or_default();
    let mut sum = Sha256::new();
    let mut field = |name: &[u8], value: &[u8]| {
        sum.update(name);
        sum.update(value);
    };
    field(b"name", &name);
    field(b"mode", (type_bits | metadata.permissions).to_string().as_bytes());
    field(b"uid", metadata.uid.to_string().as_bytes());
    field(b"gid", metadata.gid.to_string().as_bytes());
    field(b"size", size.to_string().as_bytes());
    field(b"typeflag", &[type_flag]);
    field(b"linkname", link);
    field(b"uname", b"");
    field(b"gname", b"");
    field(b"devmajor", major.to_string().as_bytes());
    field(b"devminor", minor.to_string().as_bytes());
    let mut attributes: Vec<_> = metadata.attributes.iter().collect();
    attributes.sort();
    for (name, value) in attributes {
        field(name.as_bytes(), value);
    }
    sum
}

fn finish_sum(sum: Sha256) -> String {
    hex::encode(sum.finalize())
}

#[cfg(test)]
mod tests;
