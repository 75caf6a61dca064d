//! The root of an image, below a directory descriptor.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Dir, FileType, Mode, OFlags, ResolveFlags, Stat},
    io::Errno,
};
use sha2::Digest as _;

use super::{Kind, Metadata, Modified, Tree, begin_sum, finish_sum};

/// The root of an image, below a directory descriptor. Links met on the way resolve inside it.
pub struct RootTree<F> {
    root: F,
}

impl<F: AsFd> RootTree<F> {
    pub fn new(root: F) -> Self {
        Self { root }
    }

    fn open_path(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        open_below(self.root.as_fd(), path, flags, Mode::empty())
    }
}

/// Opens a path below a directory; nothing outside it can be reached.
pub(crate) fn open_below(root: BorrowedFd<'_>, path: &Path, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, mode, resolve) {
            // The kernel asks to try again when a rename raced with `..`.
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
}

impl<F: AsFd> Tree for RootTree<F> {
    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>> {
        let file = match self.open_path(path, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let stat = rustix::fs::fstat(&file)?;
        let kind = kind_of(&file, &stat)?;
        let attributes = match kind {
            Kind::File | Kind::Directory => read_attributes(self.open_path(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK)?)?,
            _ => Vec::new(),
        };
        #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "sizes are not negative, nanoseconds fit")]
        Ok(Some(Metadata {
            link_id: (stat.st_nlink > 1 && kind == Kind::File).then_some(stat.st_ino),
            kind,
            permissions: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: stat.st_size as u64,
            modified: Modified { seconds: stat.st_mtime, nanos: stat.st_mtime_nsec as u32 },
            attributes,
        }))
    }

    fn names(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let directory = self.open_path(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        for entry in Dir::new(directory)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name));
            }
        }
        names.sort();
        Ok(names)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + '_>> {
        let file = self.open_path(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK)?;
        Ok(Box::new(File::from(file)))
    }

    fn sum(&self, path: &Path) -> io::Result<String> {
        let metadata = self.metadata(path)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        // Docker looks at file capabilities only.
        let attributes = metadata.attributes.iter().filter(|(name, _)| name == "security.capability").cloned().collect();
        let metadata = Metadata { attributes, ..metadata };
        let mut sum = begin_sum(path, &metadata);
        if metadata.kind == Kind::File {
            const BUFFER_BYTES: usize = 64 * 1024;
            let mut buffer = vec![0; BUFFER_BYTES];
            let mut file = self.open(path)?;
            loop {
                match file.read(&mut buffer)? {
                    0 => break,
                    length => sum.update(&buffer[..length]),
                }
            }
        }
        Ok(finish_sum(sum))
    }
}

fn kind_of(file: &OwnedFd, stat: &Stat) -> io::Result<Kind> {
    let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Kind::Directory,
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(file, "", Vec::new())?;
            Kind::Symlink(PathBuf::from(OsString::from_vec(target.into_bytes())))
        }
        FileType::CharacterDevice => Kind::CharDevice { major, minor },
        FileType::BlockDevice => Kind::BlockDevice { major, minor },
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        _ => Kind::File,
    })
}

/// Reads what belongs to a file's content: capabilities and `user.` attributes other than overlayfs' own.
fn read_attributes(file: OwnedFd) -> io::Result<Vec<(String, Vec<u8>)>> {
    const LIST_BYTES: usize = 64 * 1024;
    let mut list = vec![0_u8; 1024];
    let length = match rustix::fs::flistxattr(&file, &mut list) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(Errno::RANGE) => {
            list.resize(LIST_BYTES, 0);
            rustix::fs::flistxattr(&file, &mut list)?
        }
        Err(error) => return Err(error.into()),
    };
    let mut attributes = Vec::new();
    for name in list[..length].split(|byte| *byte == 0) {
        let Ok(name) = std::str::from_utf8(name) else { continue };
        let kept = name == "security.capability" || (name.starts_with("user.") && !name.starts_with("user.overlay."));
        if !kept {
            continue;
        }
        let mut value = vec![0_u8; LIST_BYTES];
        let length = rustix::fs::fgetxattr(&file, name, &mut value)?;
        value.truncate(length);
        attributes.push((name.to_owned(), value));
    }
    attributes.sort();
    Ok(attributes)
}
