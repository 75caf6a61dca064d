//! Extraction of a layer's tar into a directory.
//!
//! The tar is hostile until proven otherwise: names are cleaned and refused when they climb out, every parent is resolved by the kernel
//! below the root (see [`tree`]), and nothing is ever opened through a symlink in the last place. The result is in overlayfs's form.
//!
//! Order matters: owner, then mode (changing the owner clears set-uid), then attributes (it clears capabilities too), then times; the
//! times of directories come last, because filling a directory changes its own.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Write as _},
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};
use tar::EntryType;

use super::tree;

const WHITEOUT_PREFIX: &[u8] = b".wh.";
const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";
/// Names with this prefix are notes of aufs, not deletions.
const RESERVED_PREFIX: &[u8] = b".wh..wh.";
const BUFFER_BYTES: usize = 128 * 1024;
/// Up to this many files each is synced by itself; beyond, the whole file system once is cheaper.
const SYNC_EACH_MAX: usize = 64;

/// Why an entry of a layer was refused.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// The stream is no tar, or ends in the middle.
    #[error("read the layer's tar")]
    Read(#[source] io::Error),
    /// The name, or the target of a hard link, climbs out of the root.
    #[error("entry `{path}` in the layer leaves the root")]
    EscapesRoot {
        /// As written in the tar.
        path: String,
    },
    /// The name has a NUL byte, or is empty where it may not be.
    #[error("entry `{path}` in the layer has no valid name")]
    InvalidName {
        /// As written in the tar.
        path: String,
    },
    /// A parent of the entry is a file, or a symlink that leads nowhere.
    #[error("entry `{path}` in the layer lies below something that is not a directory")]
    ParentNotDirectory {
        /// As written in the tar.
        path: String,
    },
    /// A hard link to something the layer does not contain.
    #[error("entry `{path}` in the layer is a hard link to `{target}`, which is not in the layer")]
    MissingLinkTarget {
        /// The link.
        path: String,
        /// What it should be the same as.
        target: String,
    },
    /// A type of entry that has no place in a layer.
    #[error("entry `{path}` in the layer has the unknown type `{kind}`")]
    UnknownType {
        /// As written in the tar.
        path: String,
        /// The type's letter.
        kind: char,
    },
    /// The system refused.
    #[error("{doing} `{path}` of the layer")]
    System {
        /// The step.
        doing: &'static str,
        /// As written in the tar.
        path: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// Extracts into the empty directory `root` and syncs it. Returns what could not be made on this machine. Reads up to the end mark.
pub(super) fn extract(root: &Path, tar: &mut dyn Read, step: &dyn Fn(&'static str) -> io::Result<()>) -> Result<Vec<String>, EntryError> {
    let root = rustix::fs::open(root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let root = root.map_err(|error| EntryError::System { doing: "open the root", path: String::new(), source: error.into() })?;
    let mut extractor = Extractor {
        root,
        step,
        parent: None,
        dir_times: BTreeMap::new(),
        sync: ToSync::default(),
        buffer: vec![0; BUFFER_BYTES],
        omitted: Vec::new(),
    };
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries().map_err(EntryError::Read)? {
        let mut entry = entry.map_err(EntryError::Read)?;
        if let Some(header) = Header::of(&mut entry)? {
            extractor.entry(&header, &mut entry)?;
        }
    }
    extractor.finish()
}

/// What an entry says about itself.
struct Header {
    /// As written, for messages.
    name: String,
    path: CleanPath,
    kind: EntryType,
    link: Vec<u8>,
    mode: u32,
    owner: (u32, u32),
    mtime: Timespec,
    device: (u32, u32),
    xattrs: Vec<(String, Vec<u8>)>,
}

impl Header {
    /// Reads the header; `None` for global headers, which concern nobody.
    fn of(entry: &mut tar::Entry<'_, impl Read>) -> Result<Option<Self>, EntryError> {
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            return Ok(None);
        }
        let raw = entry.path_bytes().into_owned();
        let name = String::from_utf8_lossy(&raw).into_owned();
        let path = CleanPath::parse(&raw, &name)?;
        let link = entry.link_name_bytes().map(|link| link.into_owned()).unwrap_or_default();
        let header = entry.header();
        let fields = header.as_old();
        let id = |field: &[u8], id: io::Result<u64>| {
            let id = zero_if_blank(field, id);
            id.and_then(|id| u32::try_from(id).map_err(io::Error::other)).map_err(EntryError::Read)
        };
        let mtime = zero_if_blank(&fields.mtime, header.mtime()).map_err(EntryError::Read)?;
        let mut parsed = Self {
            mode: header.mode().map_err(EntryError::Read)? & 0o7777,
            owner: (id(&fields.uid, header.uid())?, id(&fields.gid, header.gid())?),
            mtime: Timespec { tv_sec: mtime.cast_signed(), tv_nsec: 0 },
            device: (header.device_major().ok().flatten().unwrap_or(0), header.device_minor().ok().flatten().unwrap_or(0)),
            xattrs: Vec::new(),
            name,
            path,
            kind,
            link,
        };
        parsed.read_extensions(entry)?;
        Ok(Some(parsed))
    }

    fn read_extensions(&mut self, entry: &mut tar::Entry<'_, impl Read>) -> Result<(), EntryError> {
        let Some(extensions) = entry.pax_extensions().map_err(EntryError::Read)? else { return Ok(()) };
        for extension in extensions {
            let extension = extension.map_err(EntryError::Read)?;
            let Ok(key) = extension.key() else { continue };
            if key == "mtime"
                && let Some(mtime) = extension.value().ok().and_then(parse_time)
            {
                self.mtime = mtime;
            }
            if let Some(name) = key.strip_prefix("SCHILY.xattr.").filter(|name| tree::is_layer_xattr(name)) {
                self.xattrs.push((name.to_owned(), extension.value_bytes().to_owned()));
            }
        }
        Ok(())
    }

    fn system(&self, doing: &'static str) -> impl FnOnce(io::Error) -> EntryError + use<> {
        let path = self.name.clone();
        move |source| EntryError::System { doing, path, source }
    }
}

/// Some writers leave fields blank that are zero, and Docker, whose reader takes them for that, keeps layers as they were written.
fn zero_if_blank(field: &[u8], number: io::Result<u64>) -> io::Result<u64> {
    let is_blank = field.iter().all(|&byte| matches!(byte, 0 | b' '));
    if is_blank { Ok(0) } else { number }
}

/// `1234.5678`, possibly negative.
fn parse_time(text: &str) -> Option<Timespec> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let tv_sec: i64 = seconds.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: i64 = digits.parse().ok()?;
    // `-1.25` is 0.75 s after -2.
    Some(match (seconds.starts_with('-'), nanoseconds) {
        (true, 1..) => Timespec { tv_sec: tv_sec - 1, tv_nsec: 1_000_000_000 - nanoseconds },
        _ => Timespec { tv_sec, tv_nsec: nanoseconds },
    })
}

/// A path below the root without `.` and `..`.
struct CleanPath(Vec<Vec<u8>>);

impl CleanPath {
    fn parse(raw: &[u8], name: &str) -> Result<Self, EntryError> {
        if raw.contains(&0) {
            return Err(EntryError::InvalidName { path: name.to_owned() });
        }
        let mut components: Vec<Vec<u8>> = Vec::new();
        for component in raw.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => {
                    components.pop().ok_or_else(|| EntryError::EscapesRoot { path: name.to_owned() })?;
                }
                _ => components.push(component.to_owned()),
            }
        }
        Ok(Self(components))
    }

    fn split_last(&self) -> Option<(&[u8], &[Vec<u8>])> {
        self.0.split_last().map(|(last, parents)| (last.as_slice(), parents))
    }
}

fn join(components: &[Vec<u8>]) -> Vec<u8> {
    components.join(&b'/')
}

struct Extractor<'a> {
    root: OwnedFd,
    step: &'a dyn Fn(&'static str) -> io::Result<()>,
    /// The last parent directory, because a directory's entries come together.
    parent: Option<(Vec<u8>, OwnedFd)>,
    dir_times: BTreeMap<Vec<u8>, Timespec>,
    sync: ToSync,
    buffer: Vec<u8>,
    omitted: Vec<String>,
}

impl Extractor<'_> {
    fn entry(&mut self, header: &Header, content: &mut dyn Read) -> Result<(), EntryError> {
        (self.step)("extract an entry").map_err(header.system("extract"))?;
        let Some((name, parents)) = header.path.split_last() else { return self.root_entry(header) };
        let parent = self.parent(parents, header)?;
        let made = match name {
            OPAQUE_MARKER => self.opaque(&parent).map_err(header.system("hide what lies below")),
            _ if name.starts_with(RESERVED_PREFIX) => Ok(()),
            _ => match name.strip_prefix(WHITEOUT_PREFIX) {
                Some(deleted) => self.whiteout(&parent, deleted, header),
                None => self.node(&parent, name, header, content),
            },
        };
        self.parent.get_or_insert((join(parents), parent));
        made
    }

    /// The root itself: only its metadata count.
    fn root_entry(&mut self, header: &Header) -> Result<(), EntryError> {
        if !header.kind.is_dir() {
            return Err(EntryError::InvalidName { path: header.name.clone() });
        }
        let root = self.root.try_clone().map_err(header.system("open"))?;
        self.metadata(&root, header)?;
        self.dir_times.insert(Vec::new(), header.mtime);
        Ok(())
    }

    fn node(&mut self, parent: &OwnedFd, name: &[u8], header: &Header, content: &mut dyn Read) -> Result<(), EntryError> {
        let hides_lower = self.make_room(parent, name, header)?;
        match header.kind {
            EntryType::Directory => self.directory(parent, name, header, hides_lower),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => self.file(parent, name, header, content),
            EntryType::Symlink => self.symlink(parent, name, header),
            EntryType::Link => self.hard_link(parent, name, header),
            EntryType::Char => self.device(parent, name, header, FileType::CharacterDevice),
            EntryType::Block => self.device(parent, name, header, FileType::BlockDevice),
            EntryType::Fifo => self.device(parent, name, header, FileType::Fifo),
            other => Err(EntryError::UnknownType { path: header.name.clone(), kind: other.as_byte() as char }),
        }
    }

    /// Removes what is in the entry's place, unless both are directories. True if a whiteout was there.
    fn make_room(&mut self, parent: &OwnedFd, name: &[u8], header: &Header) -> Result<bool, EntryError> {
        let failed = || header.system("replace");
        let Some(stat) = tree::stat_child(parent, name).map_err(failed())? else { return Ok(false) };
        if tree::kind(&stat) == FileType::Directory && header.kind.is_dir() {
            return Ok(false);
        }
        let was_whiteout = tree::is_whiteout_device(&stat);
        tree::remove_child(parent, name).map_err(failed())?;
        self.parent = None;
        Ok(was_whiteout)
    }

    fn directory(&mut self, parent: &OwnedFd, name: &[u8], header: &Header, hides_lower: bool) -> Result<(), EntryError> {
        match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(header.system("make the directory")(error.into())),
        }
        let dir = tree::open_child(parent, name, OFlags::RDONLY | OFlags::DIRECTORY).map_err(header.system("open"))?;
        if hides_lower {
            tree::set_opaque(&dir).map_err(header.system("hide what lies below"))?;
        }
        self.metadata(&dir, header)?;
        self.dir_times.insert(join(&header.path.0), header.mtime);
        Ok(())
    }

    fn file(&mut self, parent: &OwnedFd, name: &[u8], header: &Header, content: &mut dyn Read) -> Result<(), EntryError> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR);
        let mut file = File::from(file.map_err(|error| header.system("create")(error.into()))?);
        copy(content, &mut file, &mut self.buffer).map_err(header.system("write"))?;
        self.metadata(&file, header)?;
        rustix::fs::futimens(&file, &times(header.mtime)).map_err(|error| header.system("set the time of")(error.into()))?;
        self.sync.add(file);
        Ok(())
    }

    fn symlink(&mut self, parent: &OwnedFd, name: &[u8], header: &Header) -> Result<(), EntryError> {
        rustix::fs::symlinkat(header.link.as_slice(), parent, name).map_err(|error| header.system("make the symlink")(error.into()))?;
        self.node_metadata(parent, name, header)
    }

    fn hard_link(&mut self, parent: &OwnedFd, name: &[u8], header: &Header) -> Result<(), EntryError> {
        let target = String::from_utf8_lossy(&header.link).into_owned();
        let missing = || EntryError::MissingLinkTarget { path: header.name.clone(), target: target.clone() };
        let path = CleanPath::parse(&header.link, &header.name)?;
        let (target_name, target_parents) = path.split_last().ok_or_else(missing)?;
        let target_dir = match tree::open_in_root(&self.root, &join(target_parents), OFlags::PATH | OFlags::DIRECTORY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
            outcome => outcome.map_err(header.system("open the target of"))?,
        };
        match rustix::fs::linkat(target_dir, target_name, parent, name, AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::NOENT) => Err(missing()),
            Err(error) => Err(header.system("make the hard link")(error.into())),
        }
    }

    fn device(&mut self, parent: &OwnedFd, name: &[u8], header: &Header, kind: FileType) -> Result<(), EntryError> {
        let (major, minor) = header.device;
        let device = if kind == FileType::Fifo { 0 } else { rustix::fs::makedev(major, minor) };
        match rustix::fs::mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, device) {
            Ok(()) => {}
            Err(Errno::PERM) => {
                self.omitted.push(format!("device {} ({major}:{minor})", header.name));
                return Ok(());
            }
            Err(error) => return Err(header.system("make the device")(error.into())),
        }
        self.node_metadata(parent, name, header)
    }

    /// Owner, mode and time of something that cannot be opened.
    fn node_metadata(&mut self, parent: &OwnedFd, name: &[u8], header: &Header) -> Result<(), EntryError> {
        let (user, group) = header.owner;
        rustix::fs::chownat(parent, name, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| header.system("set the owner of")(error.into()))?;
        if header.kind != EntryType::Symlink {
            // Just made by us in a directory nobody else writes to, so it is no symlink.
            rustix::fs::chmodat(parent, name, Mode::from_raw_mode(header.mode), AtFlags::empty())
                .map_err(|error| header.system("set the mode of")(error.into()))?;
        }
        rustix::fs::utimensat(parent, name, &times(header.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| header.system("set the time of")(error.into()))
    }

    /// Owner, mode and attributes of an open file or directory.
    fn metadata(&mut self, file: &impl AsFd, header: &Header) -> Result<(), EntryError> {
        let (user, group) = header.owner;
        rustix::fs::fchown(file, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))
            .map_err(|error| header.system("set the owner of")(error.into()))?;
        rustix::fs::fchmod(file, Mode::from_raw_mode(header.mode)).map_err(|error| header.system("set the mode of")(error.into()))?;
        for (name, value) in &header.xattrs {
            match rustix::fs::fsetxattr(file, name.as_str(), value, XattrFlags::empty()) {
                Ok(()) => {}
                Err(Errno::PERM | Errno::OPNOTSUPP) => self.omitted.push(format!("attribute {name} of {}", header.name)),
                Err(error) => return Err(header.system("set an attribute of")(error.into())),
            }
        }
        Ok(())
    }

    fn opaque(&self, dir: &OwnedFd) -> io::Result<()> {
        tree::set_opaque(tree::open_child(dir, b".", OFlags::RDONLY | OFlags::DIRECTORY)?)
    }

    /// A deletion concerns the layers below only: what this layer itself has in the place stays, and hides them if it is a directory.
    fn whiteout(&mut self, parent: &OwnedFd, name: &[u8], header: &Header) -> Result<(), EntryError> {
        if name.is_empty() || name == b"." || name == b".." {
            return Err(EntryError::InvalidName { path: header.name.clone() });
        }
        let failed = || header.system("mark as deleted");
        match tree::stat_child(parent, name).map_err(failed())? {
            None => tree::make_whiteout(parent, name).map_err(failed()),
            Some(stat) if tree::kind(&stat) == FileType::Directory => {
                let dir = tree::open_child(parent, name, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed())?;
                tree::set_opaque(dir).map_err(failed())
            }
            Some(_) => Ok(()),
        }
    }

    /// Opens the parent directory, making what is missing.
    fn parent(&mut self, components: &[Vec<u8>], header: &Header) -> Result<OwnedFd, EntryError> {
        let path = join(components);
        if let Some((_, fd)) = self.parent.take_if(|(cached, _)| *cached == path) {
            return Ok(fd);
        }
        self.parent = None;
        match tree::open_in_root(&self.root, &path, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(fd) => Ok(fd),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                self.make_parents(components, header)
            }
            Err(source) => Err(header.system("open the parent of")(source)),
        }
    }

    fn make_parents(&mut self, components: &[Vec<u8>], header: &Header) -> Result<OwnedFd, EntryError> {
        let mut dir = self.root.try_clone().map_err(header.system("open"))?;
        for depth in 1..=components.len() {
            let (path, name) = (&components[..depth], components[depth - 1].as_slice());
            dir = match tree::open_in_root(&self.root, &join(path), OFlags::PATH | OFlags::DIRECTORY) {
                Ok(existing) => existing,
                Err(_) => self.make_parent(&dir, path, name, header)?,
            };
        }
        Ok(dir)
    }

    fn make_parent(&mut self, dir: &OwnedFd, path: &[Vec<u8>], name: &[u8], header: &Header) -> Result<OwnedFd, EntryError> {
        let failed = || header.system("make the parent of");
        let hides_lower = match tree::stat_child(dir, name).map_err(failed())? {
            None => false,
            Some(stat) if tree::is_whiteout_device(&stat) => {
                tree::remove_child(dir, name).map_err(failed())?;
                true
            }
            Some(_) => return Err(EntryError::ParentNotDirectory { path: header.name.clone() }),
        };
        rustix::fs::mkdirat(dir, name, Mode::RWXU).map_err(|error| failed()(error.into()))?;
        let made = tree::open_child(dir, name, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed())?;
        rustix::fs::fchmod(&made, implied_mode(path)).map_err(|error| failed()(error.into()))?;
        if hides_lower {
            tree::set_opaque(&made).map_err(failed())?;
        }
        self.dir_times.entry(join(path)).or_insert(Timespec { tv_sec: 0, tv_nsec: 0 });
        Ok(made)
    }

    fn finish(mut self) -> Result<Vec<String>, EntryError> {
        let failed = |doing, path: &[u8]| {
            let path = String::from_utf8_lossy(path).into_owned();
            move |source: io::Error| EntryError::System { doing, path, source }
        };
        for (path, mtime) in std::mem::take(&mut self.dir_times) {
            // Replaced by something else later in the tar, or no longer reachable by this name.
            let Ok(dir) = tree::open_in_root(&self.root, &path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW) else { continue };
            rustix::fs::futimens(&dir, &times(mtime)).map_err(|error| failed("set the time of", &path)(error.into()))?;
        }
        (self.step)("sync a layer").and_then(|()| self.sync.run(&self.root)).map_err(failed("sync", b"/"))?;
        Ok(self.omitted)
    }
}

/// Tars that leave out the parents of what they change mean directories of a lower layer. Overlayfs cannot express "as below", so the
/// parent gets the mode that directory has in every distribution.
fn implied_mode(path: &[Vec<u8>]) -> Mode {
    match join(path).as_slice() {
        b"tmp" | b"var/tmp" => Mode::from_raw_mode(0o1777),
        b"root" => Mode::from_raw_mode(0o700),
        _ => Mode::from_raw_mode(0o755),
    }
}

/// As `io::copy`, which has a buffer of 8 KiB, but with ours.
fn copy(from: &mut dyn Read, to: &mut File, buffer: &mut [u8]) -> io::Result<()> {
    loop {
        match from.read(buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => to.write_all(&buffer[..read])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn times(mtime: Timespec) -> Timestamps {
    Timestamps { last_access: mtime, last_modification: mtime }
}

/// Files whose content must reach the disk before the layer becomes visible.
#[derive(Default)]
struct ToSync {
    files: Vec<File>,
    too_many: bool,
}

impl ToSync {
    fn add(&mut self, file: File) {
        if self.files.len() >= SYNC_EACH_MAX {
            self.files.clear();
            self.too_many = true;
        }
        if !self.too_many {
            self.files.push(file);
        }
    }

    fn run(&self, root: &OwnedFd) -> io::Result<()> {
        if self.too_many {
            return Ok(rustix::fs::syncfs(root)?);
        }
        for file in &self.files {
            file.sync_all()?;
        }
        Ok(rustix::fs::fsync(root)?)
    }
}
