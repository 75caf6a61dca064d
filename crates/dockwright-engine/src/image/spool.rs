//! Archives on their way in: kept in a nameless file, uncompressed, so that they can be read in any order.
//!
//! `docker load` needs the manifest first, which is often the last file of the archive.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read, Seek as _, SeekFrom, Write},
    os::{fd::OwnedFd, unix::fs::FileExt as _},
    path::{Component, Path},
    thread::JoinHandle,
};

use flate2::{read::MultiGzDecoder, write::MultiGzDecoder as MultiGzWriter};

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const BZIP2_MAGIC: &[u8] = b"BZh";
const XZ_MAGIC: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
const MAGIC_BYTES: usize = 6;
/// Largest document (manifest, configuration) that is read into memory.
const DOCUMENT_LIMIT_BYTES: u64 = 4 << 20;
const COPY_CHUNK_BYTES: usize = 256 << 10;

/// How bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
}

/// Compression that this engine does not read.
#[derive(Debug, thiserror::Error)]
#[error("{0} compression of archives is not supported; use gzip or none")]
pub(crate) struct UnsupportedCompression(&'static str);

impl Compression {
    /// Tells the compression by the first bytes.
    pub(crate) fn detect(start: &[u8]) -> Result<Self, UnsupportedCompression> {
        match start {
            _ if start.starts_with(GZIP_MAGIC) => Ok(Self::Gzip),
            _ if start.starts_with(ZSTD_MAGIC) => Err(UnsupportedCompression("zstd")),
            _ if start.starts_with(BZIP2_MAGIC) => Err(UnsupportedCompression("bzip2")),
            _ if start.starts_with(XZ_MAGIC) => Err(UnsupportedCompression("xz")),
            _ => Ok(Self::None),
        }
    }
}

/// Writes an archive into a nameless file, undoing its compression.
pub(crate) struct Spool {
    state: SpoolState,
}

enum SpoolState {
    /// Too few bytes so far to tell the compression.
    Start(Vec<u8>, File),
    Plain(File),
    Gzip(Box<MultiGzWriter<File>>),
    /// Only within a call.
    Changing,
}

impl Spool {
    /// Makes a spool below a directory, which is created if need be.
    pub(crate) fn new(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        Ok(Self { state: SpoolState::Start(Vec::new(), tempfile::tempfile_in(dir)?) })
    }

    /// Returns the file, with everything written.
    pub(crate) fn finish(mut self) -> io::Result<File> {
        if let SpoolState::Start(..) = self.state {
            self.begin()?;
        }
        let mut file = match self.state {
            SpoolState::Plain(file) => file,
            SpoolState::Gzip(decoder) => decoder.finish()?,
            SpoolState::Start(..) | SpoolState::Changing => return Err(io::ErrorKind::InvalidInput.into()),
        };
        file.seek(SeekFrom::Start(0))?;
        Ok(file)
    }

    fn begin(&mut self) -> io::Result<()> {
        let SpoolState::Start(start, file) = std::mem::replace(&mut self.state, SpoolState::Changing) else { return Ok(()) };
        let compression = Compression::detect(&start).map_err(|error| io::Error::new(io::ErrorKind::Unsupported, error))?;
        self.state = match compression {
            Compression::None => SpoolState::Plain(file),
            Compression::Gzip => SpoolState::Gzip(Box::new(MultiGzWriter::new(file))),
        };
        self.write_all(&start)
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.state {
            SpoolState::Start(start, _) => {
                start.extend_from_slice(bytes);
                if start.len() >= MAGIC_BYTES {
                    self.begin()?;
                }
                Ok(bytes.len())
            }
            SpoolState::Plain(file) => file.write(bytes),
            SpoolState::Gzip(decoder) => decoder.write(bytes),
            SpoolState::Changing => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where the files of a spooled archive are.
#[derive(Debug)]
pub(crate) struct Archive {
    file: File,
    entries: HashMap<String, Entry>,
}

#[derive(Debug, Clone)]
enum Entry {
    File(Section),
    /// Older Docker saves a layer that two images share once, and links to it.
    Link(String),
}

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Section {
    offset: u64,
    pub(crate) length: u64,
}

/// Links followed before they are taken for a loop.
const LINK_LIMIT: usize = 8;

impl Archive {
    /// Lists the files of a tar archive.
    pub(crate) fn index(file: File) -> io::Result<Self> {
        let mut entries = HashMap::new();
        let mut archive = tar::Archive::new(&file);
        for entry in archive.entries_with_seek()? {
            let entry = entry?;
            let Some(name) = normal(&entry.path()?, Path::new("")) else { continue };
            let kind = entry.header().entry_type();
            if kind.is_file() {
                entries.insert(name, Entry::File(Section { offset: entry.raw_file_position(), length: entry.size() }));
            } else if let (true, Some(target)) = (kind.is_symlink() || kind.is_hard_link(), entry.link_name()?) {
                let base = if kind.is_symlink() { Path::new(&name).parent().unwrap_or(Path::new("")) } else { Path::new("") };
                if let Some(target) = normal(&target, base) {
                    entries.insert(name, Entry::Link(target));
                }
            }
        }
        Ok(Self { file, entries })
    }

    /// Finds a file, through links within the archive.
    pub(crate) fn find(&self, name: &str) -> Option<Section> {
        let mut name = normal(Path::new(name), Path::new(""))?;
        for _ in 0..LINK_LIMIT {
            match self.entries.get(&name)? {
                Entry::File(section) => return Some(*section),
                Entry::Link(target) => name.clone_from(target),
            }
        }
        None
    }

    /// Reads a small file.
    pub(crate) fn document(&self, section: Section) -> io::Result<Vec<u8>> {
        if section.length > DOCUMENT_LIMIT_BYTES {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("a document of {} bytes in an image archive", section.length)));
        }
        let mut bytes = vec![0; section.length as usize];
        self.file.read_exact_at(&mut bytes, section.offset)?;
        Ok(bytes)
    }

    /// Opens a layer's uncompressed content. `progress` is told how much of the section was read.
    pub(crate) fn layer(&self, section: Section, progress: impl FnMut(u64) + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
        let mut start = vec![0; MAGIC_BYTES.min(section.length as usize)];
        self.file.read_exact_at(&mut start, section.offset)?;
        let reader = SectionReader { file: self.file.try_clone()?, section, done: 0, progress };
        match Compression::detect(&start).map_err(|error| io::Error::new(io::ErrorKind::Unsupported, error))? {
            Compression::None => Ok(Box::new(reader)),
            Compression::Gzip => Ok(Box::new(MultiGzDecoder::new(reader))),
        }
    }
}

/// Brings a path into one form, `a/b/c`; `None` for one that leaves the archive.
fn normal(path: &Path, base: &Path) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    let joined = base.join(path.strip_prefix("/").unwrap_or(path));
    for component in joined.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::ParentDir => {
                parts.pop()?;
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Some(parts.join("/"))
}

struct SectionReader<F> {
    file: File,
    section: Section,
    done: u64,
    progress: F,
}

impl<F: FnMut(u64)> Read for SectionReader<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.section.length - self.done;
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = self.file.read_at(&mut buffer[..wanted], self.section.offset + self.done)?;
        if read == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.done += read as u64;
        (self.progress)(self.done);
        Ok(read)
    }
}

/// Starts to copy a stream into a pipe on a thread. Returns the pipe's reading end, and the thread, whose result says whether everything
/// was read: the end of a pipe alone does not tell the end of the stream from its failure.
pub(crate) fn pump(mut from: Box<dyn Read + Send>) -> io::Result<(OwnedFd, JoinHandle<io::Result<()>>)> {
    let (reader, mut writer) = io::pipe()?;
    let copy = move || -> io::Result<()> {
        let mut buffer = vec![0; COPY_CHUNK_BYTES];
        loop {
            match from.read(&mut buffer)? {
                0 => return Ok(()),
                read => writer.write_all(&buffer[..read])?,
            }
        }
    };
    let thread = std::thread::Builder::new().name("layer-pump".to_owned()).spawn(copy)?;
    Ok((reader.into(), thread))
}

#[cfg(test)]
mod tests {
    use flate2::{Compression as Level, write::GzEncoder};

    use super::*;

    fn archive() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut add = |name: &str, content: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, content).expect("a tar entry");
        };
        add("a/layer.tar", b"layer");
        add("./manifest.json", b"[]");
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        builder.append_link(&mut link, "b/layer.tar", "../a/layer.tar").expect("a link");
        let mut outside = tar::Header::new_gnu();
        outside.set_entry_type(tar::EntryType::Symlink);
        outside.set_size(0);
        builder.append_link(&mut outside, "c", "../../etc/passwd").expect("a link");
        builder.into_inner().expect("an archive")
    }

    fn index(bytes: &[u8]) -> Archive {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut spool = Spool::new(dir.path()).expect("a spool");
        for chunk in bytes.chunks(3) {
            spool.write_all(chunk).expect("spooled");
        }
        Archive::index(spool.finish().expect("a file")).expect("an index")
    }

    #[test]
    fn files_are_found_directly_and_through_links() {
        let compressed = {
            let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
            encoder.write_all(&archive()).expect("compressed");
            encoder.finish().expect("compressed")
        };
        for bytes in [archive(), compressed] {
            let archive = index(&bytes);
            assert_eq!(archive.document(archive.find("manifest.json").expect("the manifest")).expect("read"), b"[]");
            let layer = archive.find("b/layer.tar").expect("the linked layer");
            assert_eq!(Some(layer), archive.find("a/layer.tar"));
            let mut content = String::new();
            archive.layer(layer, |_| {}).expect("a layer").read_to_string(&mut content).expect("read");
            assert_eq!(content, "layer");
            assert_eq!(archive.find("c"), None);
            assert_eq!(archive.find("d"), None);
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut spool = Spool::new(dir.path()).expect("a spool");
        let error = spool.write_all(ZSTD_MAGIC).and_then(|()| spool.write_all(b"more")).expect_err("zstd");
        assert_eq!(error.to_string(), "zstd compression of archives is not supported; use gzip or none");
    }
}
