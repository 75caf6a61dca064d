//! A directory in overlayfs's form as a layer's tar, always in the same bytes.
//!
//! | | Rule |
//! |---|---|
//! | order | by name, bytewise, a directory before its content |
//! | whiteouts | device 0:0 or attribute → `.wh.<name>`; opaque directory → `.wh..wh..opq` first in it |
//! | hard links | the first path in order has the content, the others link to it |
//! | times | seconds in the header, a fraction or an early time as PAX `mtime` |
//! | names | owner and group by number only |
//! | attributes | `security.capability` and `user.*`, sorted |
//! | left out | the root itself, sockets |
//!
//! Extraction is the inverse, so a layer's bytes can be made again from its directory. Needs no store: the engine calls it inside a
//! sandbox on a container's upper directory.

use std::{
    collections::HashMap,
    ffi::CString,
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    vec,
};

use rustix::fs::{FileType, OFlags, Stat};

use super::tree::{self, Opacity};

const BLOCK_BYTES: usize = 512;
const BUFFER_BYTES: usize = 128 * 1024;
const NAME_FIELD_BYTES: usize = 100;
const ID_FIELD_MAX: u32 = 0o777_7777;
const NUMBER_FIELD_MAX: u64 = 0o777_7777_7777;
/// Every level holds a descriptor open.
const DEPTH_MAX: usize = 500;

/// What to leave out or change.
#[derive(Debug, Clone, Default)]
pub struct LayerTarOptions {
    /// Paths relative to the root that are left out, with what lies below them.
    pub exclude: Vec<PathBuf>,
    /// Later times are written as this one (`SOURCE_DATE_EPOCH`).
    pub newest_mtime_secs: Option<i64>,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerTarSummary {
    /// Entries, whiteouts included. 0 means that nothing has changed.
    pub entries: u64,
    /// Bytes of file content.
    pub content_bytes: u64,
}

/// Why a directory could not be written as a tar.
#[derive(Debug, thiserror::Error)]
pub enum WriteLayerError {
    /// The directory could not be read.
    #[error("{doing} `{path}`")]
    Read {
        /// The step.
        doing: &'static str,
        /// Relative to the directory.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The receiver failed.
    #[error("write the layer's tar")]
    Write(#[source] io::Error),
    /// Directories are nested too deeply.
    #[error("directory `{path}` is nested more than {DEPTH_MAX} levels deep")]
    TooDeep {
        /// Relative to the directory.
        path: PathBuf,
    },
}

/// Writes the content of `dir` as a layer.
pub fn write_layer_tar(dir: BorrowedFd<'_>, options: &LayerTarOptions, out: &mut dyn Write) -> Result<LayerTarSummary, WriteLayerError> {
    let mut writer = Writer { options, out, links: HashMap::new(), buffer: vec![0; BUFFER_BYTES], summary: LayerTarSummary::default() };
    let root = tree::open_child(dir, b".", OFlags::RDONLY | OFlags::DIRECTORY).map_err(reading("open", b""))?;
    let mut open = vec![writer.enter(root, Vec::new())?];
    while let Some(level) = open.last_mut() {
        let Some(name) = level.names.next() else {
            open.pop();
            continue;
        };
        if let Some((child, path)) = writer.entry(level, name.to_bytes())? {
            if open.len() >= DEPTH_MAX {
                return Err(WriteLayerError::TooDeep { path: to_path(&path) });
            }
            open.push(writer.enter(child, path)?);
        }
    }
    writer.out.write_all(&[0; 2 * BLOCK_BYTES]).map_err(WriteLayerError::Write)?;
    Ok(writer.summary)
}

fn reading(doing: &'static str, path: &[u8]) -> impl FnOnce(io::Error) -> WriteLayerError + use<> {
    let path = to_path(path);
    move |source| WriteLayerError::Read { doing, path, source }
}

fn to_path(path: &[u8]) -> PathBuf {
    let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(path);
    Path::new(name).to_owned()
}

/// A directory being walked.
struct Level {
    dir: OwnedFd,
    path: Vec<u8>,
    names: vec::IntoIter<CString>,
    opacity: Opacity,
}

impl Level {
    fn child_path(&self, name: &[u8]) -> Vec<u8> {
        if self.path.is_empty() { name.to_owned() } else { [&self.path, b"/".as_slice(), name].concat() }
    }
}

struct Writer<'a> {
    options: &'a LayerTarOptions,
    out: &'a mut dyn Write,
    /// Files with several names, by device and inode: the first name.
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
    summary: LayerTarSummary,
}

impl Writer<'_> {
    fn enter(&mut self, dir: OwnedFd, path: Vec<u8>) -> Result<Level, WriteLayerError> {
        let opacity = tree::opacity(&dir).map_err(reading("read the attributes of", &path))?;
        let names = tree::sorted_names(&dir).map_err(reading("list", &path))?.into_iter();
        let level = Level { dir, path, names, opacity };
        if opacity == Opacity::Opaque {
            self.header(&Entry::marker(level.child_path(b".wh..wh..opq")))?;
        }
        Ok(level)
    }

    /// Writes one entry. Returns the directory to walk next, if it is one.
    fn entry(&mut self, level: &Level, name: &[u8]) -> Result<Option<(OwnedFd, Vec<u8>)>, WriteLayerError> {
        let path = level.child_path(name);
        if self.options.exclude.iter().any(|excluded| to_path(&path) == *excluded) {
            return Ok(None);
        }
        // The directory may belong to a running container, where files come and go.
        let Some(stat) = tree::stat_child(&level.dir, name).map_err(reading("look at", &path))? else { return Ok(None) };
        if tree::is_whiteout_device(&stat) {
            return self.header(&Entry::marker(level.child_path(&[b".wh.", name].concat()))).map(|()| None);
        }
        let mut entry = Entry::of(path, &stat, self.options.newest_mtime_secs);
        match tree::kind(&stat) {
            FileType::Directory => {
                let dir = tree::open_child(&level.dir, name, OFlags::RDONLY | OFlags::DIRECTORY).map_err(reading("open", &entry.path))?;
                entry.xattrs = tree::layer_xattrs(&dir).map_err(reading("read the attributes of", &entry.path))?;
                self.header(&entry)?;
                return Ok(Some((dir, entry.path)));
            }
            FileType::RegularFile => self.file(level, name, entry)?,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&level.dir, name, Vec::new());
                entry.link = target.map_err(|error| reading("read the symlink", &entry.path)(error.into()))?.into_bytes();
                self.header(&entry)?;
            }
            FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo => self.header(&entry)?,
            FileType::Socket | FileType::Unknown => {}
        }
        Ok(None)
    }

    fn file(&mut self, level: &Level, name: &[u8], mut entry: Entry) -> Result<(), WriteLayerError> {
        let file = match tree::open_child(&level.dir, name, OFlags::RDONLY | OFlags::NONBLOCK) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            outcome => outcome.map_err(reading("open", &entry.path))?,
        };
        let stat = rustix::fs::fstat(&file).map_err(|error| reading("look at", &entry.path)(error.into()))?;
        let may_be_whiteout = level.opacity == Opacity::HasWhiteoutFiles;
        if may_be_whiteout && tree::is_whiteout_file(&file, &stat).map_err(reading("read the attributes of", &entry.path))? {
            return self.header(&Entry::marker(level.child_path(&[b".wh.", name].concat())));
        }
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                entry.become_link(first.clone());
                return self.header(&entry);
            }
            self.links.insert((stat.st_dev, stat.st_ino), entry.path.clone());
        }
        entry.size = stat.st_size.cast_unsigned();
        entry.xattrs = tree::layer_xattrs(file.as_fd()).map_err(reading("read the attributes of", &entry.path))?;
        self.header(&entry)?;
        self.content(File::from(file), &entry)
    }

    /// Copies exactly as many bytes as the header promised: a file may grow or shrink while it is read.
    fn content(&mut self, file: File, entry: &Entry) -> Result<(), WriteLayerError> {
        let mut left = entry.size;
        let mut file = file.take(entry.size);
        while left > 0 {
            let read = match file.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(reading("read", &entry.path)(error)),
            };
            self.out.write_all(&self.buffer[..read]).map_err(WriteLayerError::Write)?;
            left -= read as u64;
        }
        let padding = left + padding_of(entry.size);
        io::copy(&mut io::repeat(0).take(padding), self.out).map_err(WriteLayerError::Write)?;
        self.summary.content_bytes += entry.size;
        Ok(())
    }

    fn header(&mut self, entry: &Entry) -> Result<(), WriteLayerError> {
        self.summary.entries += 1;
        self.out.write_all(&entry.encode()).map_err(WriteLayerError::Write)
    }
}

fn padding_of(size: u64) -> u64 {
    size.next_multiple_of(BLOCK_BYTES as u64) - size
}

/// One entry's header.
#[derive(Default)]
struct Entry {
    path: Vec<u8>,
    link: Vec<u8>,
    kind: u8,
    mode: u32,
    owner: (u32, u32),
    size: u64,
    mtime: (i64, u32),
    device: (u32, u32),
    xattrs: Vec<(String, Vec<u8>)>,
}

impl Entry {
    fn of(path: Vec<u8>, stat: &Stat, newest_mtime_secs: Option<i64>) -> Self {
        let kind = match tree::kind(stat) {
            FileType::Directory => b'5',
            FileType::Symlink => b'2',
            FileType::CharacterDevice => b'3',
            FileType::BlockDevice => b'4',
            FileType::Fifo => b'6',
            _ => b'0',
        };
        let is_device = matches!(kind, b'3' | b'4');
        let device = if is_device { (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)) } else { (0, 0) };
        let mtime = (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0));
        let mtime = match newest_mtime_secs {
            Some(newest) if mtime.0 >= newest => (newest, 0),
            _ => mtime,
        };
        // A symlink's mode means nothing and differs between file systems.
        let mode = if kind == b'2' { 0o777 } else { stat.st_mode & 0o7777 };
        Self { path, kind, mode, owner: (stat.st_uid, stat.st_gid), mtime, device, ..Self::default() }
    }

    /// The empty file that stands for a deletion.
    fn marker(path: Vec<u8>) -> Self {
        Self { path, kind: b'0', ..Self::default() }
    }

    fn become_link(&mut self, first: Vec<u8>) {
        self.kind = b'1';
        self.link = first;
    }

    fn encode(&self) -> Vec<u8> {
        let mut name = self.path.clone();
        if self.kind == b'5' {
            name.push(b'/');
        }
        let mut encoded = Vec::with_capacity(BLOCK_BYTES);
        let records = self.pax_records(&name);
        if !records.is_empty() {
            let extension = Self { path: b"PaxHeaders.0".to_vec(), kind: b'x', mode: 0o644, size: records.len() as u64, ..Self::default() };
            encoded.extend(extension.block(&extension.path));
            encoded.extend(&records);
            encoded.resize(encoded.len().next_multiple_of(BLOCK_BYTES), 0);
        }
        encoded.extend(self.block(&name));
        encoded
    }

    /// What the fixed fields cannot hold, in the order of the keys.
    fn pax_records(&self, name: &[u8]) -> Vec<u8> {
        let mut records: Vec<(String, Vec<u8>)> = Vec::new();
        let (user, group) = self.owner;
        for (key, id) in [("gid", group), ("uid", user)] {
            if id > ID_FIELD_MAX {
                records.push((key.to_owned(), id.to_string().into_bytes()));
            }
        }
        for (key, value) in [("linkpath", self.link.as_slice()), ("path", name)] {
            if value.len() > NAME_FIELD_BYTES {
                records.push((key.to_owned(), value.to_owned()));
            }
        }
        if self.size > NUMBER_FIELD_MAX {
            records.push(("size".to_owned(), self.size.to_string().into_bytes()));
        }
        if self.header_mtime() != Some(self.mtime) {
            records.push(("mtime".to_owned(), format_time(self.mtime).into_bytes()));
        }
        records.extend(self.xattrs.iter().map(|(key, value)| (format!("SCHILY.xattr.{key}"), value.clone())));
        records.sort_unstable();
        records.iter().flat_map(|(key, value)| pax_record(key, value)).collect()
    }

    /// The part of the time that the header's field can hold.
    fn header_mtime(&self) -> Option<(i64, u32)> {
        let secs = self.mtime.0;
        (0..=NUMBER_FIELD_MAX.cast_signed()).contains(&secs).then_some((secs, 0))
    }

    fn block(&self, name: &[u8]) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        let (user, group) = self.owner;
        let fitting = |id: u32| u64::from(if id > ID_FIELD_MAX { 0 } else { id });
        put_bytes(&mut block[0..100], name);
        put_octal(&mut block[100..108], u64::from(self.mode));
        put_octal(&mut block[108..116], fitting(user));
        put_octal(&mut block[116..124], fitting(group));
        put_octal(&mut block[124..136], if self.size > NUMBER_FIELD_MAX { 0 } else { self.size });
        put_octal(&mut block[136..148], self.header_mtime().map_or(0, |(secs, _)| secs.cast_unsigned()));
        block[148..156].fill(b' ');
        block[156] = self.kind;
        put_bytes(&mut block[157..257], &self.link);
        block[257..265].copy_from_slice(b"ustar\x0000");
        put_octal(&mut block[329..337], u64::from(self.device.0));
        put_octal(&mut block[337..345], u64::from(self.device.1));
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        put_octal(&mut block[148..155], sum);
        block
    }
}

fn put_bytes(field: &mut [u8], value: &[u8]) {
    let length = value.len().min(field.len());
    field[..length].copy_from_slice(&value[..length]);
}

/// Octal digits filling the field but for a closing NUL.
fn put_octal(field: &mut [u8], value: u64) {
    let digits = format!("{value:0width$o}", width = field.len() - 1);
    put_bytes(field, digits.as_bytes());
    field[digits.len()..].fill(0);
}

fn format_time((secs, nanos): (i64, u32)) -> String {
    let (sign, secs, nanos) = match (secs < 0, nanos) {
        (true, 1..) => ("-", (secs + 1).unsigned_abs(), 1_000_000_000 - nanos),
        (true, 0) => ("-", secs.unsigned_abs(), 0),
        (false, _) => ("", secs.unsigned_abs(), nanos),
    };
    let text = format!("{sign}{secs}.{nanos:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `<length> <key>=<value>\n`, where the length counts itself.
fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = 1 + key.len() + 1 + value.len() + 1;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}
