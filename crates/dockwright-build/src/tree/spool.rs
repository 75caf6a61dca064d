//! A tree kept as one file and an index.
//!
//! The bytes of all files lie in one unnamed temporary file; names, modes and sums in memory. Nothing is unpacked, so nothing can be
//! unpacked to a wrong place, a build that finds everything in its cache writes no file, and there is nothing to clean up.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use sha2::Digest as _;

use super::{Kind, Metadata, Tree, begin_sum, finish_sum, normalize};

/// A tree kept as one file and an index.
pub struct SpoolTree {
    bytes: File,
    length: u64,
    nodes: BTreeMap<PathBuf, Node>,
    /// Names in each directory, so that listing one does not look at the others.
    children: BTreeMap<PathBuf, Vec<OsString>>,
    /// One for all files: contexts have many small ones.
    buffer: Vec<u8>,
}

const BUFFER_BYTES: usize = 64 * 1024;

struct Node {
    metadata: Metadata,
    offset: u64,
    sum: String,
}

impl SpoolTree {
    /// Makes an empty tree whose bytes lie in an unnamed file in `scratch`.
    pub fn new(scratch: &Path) -> io::Result<Self> {
        let root = Node { metadata: Metadata::implied_directory(), offset: 0, sum: String::new() };
        let nodes = BTreeMap::from([(PathBuf::new(), root)]);
        Ok(Self { bytes: tempfile::tempfile_in(scratch)?, length: 0, nodes, children: BTreeMap::new(), buffer: vec![0; BUFFER_BYTES] })
    }

    /// Adds a path, or replaces it. `content` is read to its end for a file and not at all otherwise.
    pub fn add(&mut self, path: &Path, mut metadata: Metadata, content: &mut dyn Read) -> io::Result<()> {
        let path = normalize(path);
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        self.make_parents(&path)?;
        let offset = self.length;
        let mut sum_of_bytes = None;
        if metadata.kind == Kind::File {
            // The size comes first in the sum, so bytes are hashed as they pass only when the size was right.
            let mut sum = begin_sum(&path, &metadata);
            let written = self.append(content, &mut sum)?;
            if written == metadata.size {
                sum_of_bytes = Some(sum);
            }
            metadata.size = written;
        }
        let sum = match sum_of_bytes {
            Some(sum) => finish_sum(sum),
            None => self.sum_again(&path, &metadata, offset)?,
        };
        self.insert(path, Node { metadata, offset, sum });
        Ok(())
    }

    /// Gives a file a second name.
    pub fn link(&mut self, path: &Path, target: &Path) -> io::Result<()> {
        let (path, target) = (normalize(path), normalize(target));
        let Some(node) = self.nodes.get_mut(&target).filter(|node| node.metadata.kind == Kind::File) else {
            let message = format!("`{}` is a link to `{}`, which is no earlier file", path.display(), target.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        };
        node.metadata.link_id = Some(node.offset);
        let (metadata, offset) = (node.metadata.clone(), node.offset);
        self.make_parents(&path)?;
        let sum = self.sum_again(&path, &metadata, offset)?;
        self.insert(path, Node { metadata, offset, sum });
        Ok(())
    }

    /// Takes a path and what is below it away.
    pub fn remove(&mut self, path: &Path) {
        let path = normalize(path);
        let below: Vec<PathBuf> =
            self.nodes.range(path.clone()..).map(|(other, _)| other.clone()).take_while(|other| other.starts_with(&path)).collect();
        for other in below {
            self.nodes.remove(&other);
            self.children.remove(&other);
        }
        if let (Some(parent), Some(name)) = (path.parent(), path.file_name()) {
            self.children.entry(parent.to_owned()).or_default().retain(|other| other != name);
        }
    }

    /// The number of paths, the root not counted.
    pub fn len(&self) -> usize {
        self.nodes.len() - 1
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn append(&mut self, content: &mut dyn Read, sum: &mut sha2::Sha256) -> io::Result<u64> {
        let start = self.length;
        loop {
            let length = content.read(&mut self.buffer)?;
            if length == 0 {
                return Ok(self.length - start);
            }
            sum.update(&self.buffer[..length]);
            self.bytes.write_all(&self.buffer[..length])?;
            self.length += length as u64;
        }
    }

    fn sum_again(&self, path: &Path, metadata: &Metadata, offset: u64) -> io::Result<String> {
        let mut sum = begin_sum(path, metadata);
        if metadata.kind == Kind::File {
            let mut content = Vec::new();
            let mut reader = self.reader(offset, metadata.size);
            const CHUNK_BYTES: u64 = 1 << 20;
            while reader.by_ref().take(CHUNK_BYTES).read_to_end(&mut content)? > 0 {
                sum.update(&content);
                content.clear();
            }
        }
        Ok(finish_sum(sum))
    }

    fn make_parents(&mut self, path: &Path) -> io::Result<()> {
        let mut missing = Vec::new();
        let mut parent = path.parent();
        while let Some(directory) = parent {
            match self.nodes.get(directory) {
                Some(node) if node.metadata.is_directory() => break,
                Some(_) => {
                    let message = format!("`{}` lies below `{}`, which is no directory", path.display(), directory.display());
                    return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                }
                None => missing.push(directory.to_owned()),
            }
            parent = directory.parent();
        }
        for directory in missing.into_iter().rev() {
            // As in Docker: nobody described it, so its name is all there is to it.
            let sum = directory.display().to_string();
            self.insert(directory, Node { metadata: Metadata::implied_directory(), offset: 0, sum });
        }
        Ok(())
    }

    fn insert(&mut self, path: PathBuf, node: Node) {
        let replaces_directory = self.nodes.get(&path).is_some_and(|old| old.metadata.is_directory()) && !node.metadata.is_directory();
        if replaces_directory {
            self.remove(&path);
        }
        let (parent, name) = (path.parent().map(Path::to_owned).unwrap_or_default(), path.file_name().map(OsString::from));
        if self.nodes.insert(path, node).is_none()
            && let Some(name) = name
        {
            self.children.entry(parent).or_default().push(name);
        }
    }

    fn reader(&self, offset: u64, length: u64) -> Part<'_> {
        Part { bytes: &self.bytes, offset, left: length }
    }
}

/// A stretch of the file, read without moving its position.
struct Part<'s> {
    bytes: &'s File,
    offset: u64,
    left: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let length = self.bytes.read_at(&mut buffer[..wanted], self.offset)?;
        self.offset += length as u64;
        self.left -= length as u64;
        Ok(length)
    }
}

impl Tree for SpoolTree {
    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>> {
        Ok(self.nodes.get(path).map(|node| node.metadata.clone()))
    }

    fn names(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let mut names = self.children.get(path).cloned().unwrap_or_default();
        names.sort();
        Ok(names)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + '_>> {
        let node = self.nodes.get(path).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(Box::new(self.reader(node.offset, node.metadata.size)))
    }

    fn sum(&self, path: &Path) -> io::Result<String> {
        let node = self.nodes.get(path).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(node.sum.clone())
    }
}
