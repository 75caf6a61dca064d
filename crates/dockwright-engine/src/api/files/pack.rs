//! Making a tar stream of a file or directory.

use std::{
    collections::HashMap,
    ffi::{CStr, OsStr},
    io::{self, Read as _, Write},
    os::{fd::BorrowedFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FileType, Stat, fstat, major, minor};
use tar::{Builder, EntryType, Header};

use crate::tree;

/// Writes an entry of a directory and everything below it, under the name `top`. What is a link is written as one. Changes while it is
/// read show in the archive, but never make it invalid.
pub(super) fn pack(directory: BorrowedFd<'_>, name: &CStr, top: &Path, writer: impl Write) -> io::Result<()> {
    let mut packer = Packer { builder: Builder::new(writer), linked: HashMap::new() };
    packer.entry(directory, name, top)?;
    packer.builder.into_inner()?.flush()
}

struct Packer<W: Write> {
    builder: Builder<W>,
    /// Files with several names, by device and inode.
    linked: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Packer<W> {
    fn entry(&mut self, directory: BorrowedFd<'_>, name: &CStr, path: &Path) -> io::Result<()> {
        use std::os::fd::AsFd as _;
        let stat = tree::stat_entry(directory, name)?;
        let mut header = header(&stat);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                header.set_entry_type(EntryType::Directory);
                self.append(&mut header, path, io::empty())?;
                let opened = tree::enter(directory, name)?;
                for child in tree::names(&opened)? {
                    match self.entry(opened.as_fd(), &child, &path.join(OsStr::from_bytes(child.to_bytes()))) {
                        // It was removed meanwhile.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        other => other?,
                    }
                }
                Ok(())
            }
            FileType::RegularFile => self.file(directory, name, path, &stat, header),
            FileType::Symlink => {
                header.set_entry_type(EntryType::Symlink);
                let target = tree::link_target(directory, name)?;
                self.builder.append_link(&mut header, path, OsStr::from_bytes(target.to_bytes()))
            }
            FileType::CharacterDevice => self.special(header, EntryType::Char, path, &stat),
            FileType::BlockDevice => self.special(header, EntryType::Block, path, &stat),
            FileType::Fifo => self.special(header, EntryType::Fifo, path, &stat),
            // Sockets mean nothing outside of the machine.
            _ => Ok(()),
        }
    }

    fn file(&mut self, directory: BorrowedFd<'_>, name: &CStr, path: &Path, stat: &Stat, mut header: Header) -> io::Result<()> {
        let identity = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1
            && let Some(first) = self.linked.get(&identity)
        {
            header.set_entry_type(EntryType::Link);
            return self.builder.append_link(&mut header, path, first);
        }
        let file = tree::open_file(directory, name)?;
        // What was opened may be another file than the one looked at.
        let opened = fstat(&file)?;
        if FileType::from_raw_mode(opened.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        let size = u64::try_from(opened.st_size).unwrap_or_default();
        header.set_entry_type(EntryType::Regular);
        header.set_size(size);
        // The header promises a size; a file that shrinks is filled up, one that grows is cut.
        let exact = file.chain(io::repeat(0)).take(size);
        self.append(&mut header, path, exact)?;
        if stat.st_nlink > 1 {
            self.linked.insert(identity, path.to_owned());
        }
        Ok(())
    }

    fn special(&mut self, mut header: Header, kind: EntryType, path: &Path, stat: &Stat) -> io::Result<()> {
        header.set_entry_type(kind);
        header.set_device_major(major(stat.st_rdev))?;
        header.set_device_minor(minor(stat.st_rdev))?;
        self.append(&mut header, path, io::empty())
    }

    fn append(&mut self, header: &mut Header, path: &Path, data: impl io::Read) -> io::Result<()> {
        if path == Path::new("/") {
            header.set_path("./")?;
            header.set_cksum();
            return self.builder.append(header, data);
        }
        let path = path.strip_prefix("/").unwrap_or(path);
        self.builder.append_data(header, path, data)
    }
}

fn header(stat: &Stat) -> Header {
    let mut header = Header::new_gnu();
    header.set_size(0);
    header.set_mode(tree::permissions(stat.st_mode));
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or_default());
    header
}

#[cfg(test)]
mod tests {
    use std::{fs, os::fd::AsFd as _};

    use super::*;

    #[test]
    fn a_directory_is_packed_with_links() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("top")).unwrap();
        fs::write(dir.path().join("top/a"), "text").unwrap();
        fs::hard_link(dir.path().join("top/a"), dir.path().join("top/b")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("top/c")).unwrap();
        let mut bytes = Vec::new();
        let opened = fs::File::open(dir.path()).unwrap();
        pack(opened.as_fd(), c"top", Path::new("top"), &mut bytes).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let entries: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let link = entry.link_name().unwrap().map_or_else(String::new, |link| format!(" -> {}", link.display()));
                format!("{}{link}", entry.path().unwrap().display())
            })
            .collect();
        assert_eq!(entries, ["top", "top/a", "top/b -> top/a", "top/c -> /etc/passwd"]);
    }
}
