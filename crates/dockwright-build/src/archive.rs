//! Tar archives, plain or compressed: the build context itself, and what ADD unpacks.

use std::{
    io::{self, BufRead, BufReader, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use crate::tree::{Kind, Metadata, Modified, SpoolTree, normalize};

/// Longest path of an entry; the kernel refuses longer ones later anyway.
const MAX_PATH_BYTES: usize = 4096;
const TAR_BLOCK_BYTES: usize = 512;

/// Why an archive could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadArchiveError {
    #[error("read the archive")]
    Read(#[source] io::Error),
    #[error("{compression} archives are not supported; use gzip or zstd, or no compression")]
    Compression { compression: &'static str },
    #[error("entry `{path}` of the archive")]
    Entry {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

impl Compression {
    fn detect(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, 0x08, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [b'B', b'Z', b'h', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            _ => Self::None,
        }
    }
}

/// Whether a file is an archive that ADD unpacks: compressed or not, its first tar header must be sound.
pub(crate) fn is_archive(file: &mut dyn Read) -> io::Result<bool> {
    let mut file = BufReader::new(file);
    let compression = Compression::detect(file.fill_buf()?);
    if matches!(compression, Compression::Bzip2 | Compression::Xz) {
        return Ok(true);
    }
    let Ok(mut tar) = decompress(file) else { return Ok(false) };
    let mut block = [0; TAR_BLOCK_BYTES];
    // What only looks compressed is an ordinary file.
    Ok(tar.read_exact(&mut block).is_ok() && is_tar_header(&block))
}

fn is_tar_header(block: &[u8; TAR_BLOCK_BYTES]) -> bool {
    const CHECKSUM: std::ops::Range<usize> = 148..156;
    if block.iter().all(|byte| *byte == 0) {
        return false;
    }
    let header = tar::Header::from_byte_slice(block);
    let sum: u32 = block.iter().enumerate().map(|(at, byte)| if CHECKSUM.contains(&at) { 32 } else { u32::from(*byte) }).sum();
    header.cksum().is_ok_and(|expected| expected == sum)
}

fn decompress<'r>(mut file: impl BufRead + 'r) -> Result<Box<dyn Read + 'r>, ReadArchiveError> {
    match Compression::detect(file.fill_buf().map_err(ReadArchiveError::Read)?) {
        Compression::None => Ok(Box::new(file)),
        Compression::Gzip => Ok(Box::new(flate2::bufread::MultiGzDecoder::new(file))),
        Compression::Zstd => Ok(Box::new(zstd::Decoder::with_buffer(file).map_err(ReadArchiveError::Read)?)),
        Compression::Bzip2 => Err(ReadArchiveError::Compression { compression: "bzip2" }),
        Compression::Xz => Err(ReadArchiveError::Compression { compression: "xz" }),
    }
}

/// Whose files the archive's are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owners {
    /// As the archive says.
    Kept,
    /// Root's: what a client's ids mean here is nobody's business.
    Root,
}

/// Reads an archive into a tree.
pub(crate) fn read(file: &mut dyn Read, owners: Owners, scratch: &Path) -> Result<SpoolTree, ReadArchiveError> {
    let mut archive = tar::Archive::new(decompress(BufReader::new(file))?);
    let mut tree = SpoolTree::new(scratch).map_err(ReadArchiveError::Read)?;
    for entry in archive.entries().map_err(ReadArchiveError::Read)? {
        let mut entry = entry.map_err(ReadArchiveError::Read)?;
        let path = entry.path().map_err(ReadArchiveError::Read)?.into_owned();
        add_entry(&mut tree, &path, &mut entry, owners).map_err(|source| ReadArchiveError::Entry { path, source })?;
    }
    Ok(tree)
}

fn add_entry(tree: &mut SpoolTree, path: &Path, entry: &mut tar::Entry<'_, impl Read>, owners: Owners) -> io::Result<()> {
    if path.as_os_str().len() > MAX_PATH_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidFilename, "the name is too long"));
    }
    let link = || entry.link_name()?.map(|target| target.into_owned()).ok_or_else(|| io::Error::other("a link without a target"));
    let header = entry.header();
    let device = || io::Result::Ok((header.device_major()?.unwrap_or_default(), header.device_minor()?.unwrap_or_default()));
    let kind = match header.entry_type() {
        tar::EntryType::Directory => Kind::Directory,
        tar::EntryType::Symlink => Kind::Symlink(link()?),
        tar::EntryType::Link => return tree.link(path, &normalize(&link()?)),
        tar::EntryType::Char => device().map(|(major, minor)| Kind::CharDevice { major, minor })?,
        tar::EntryType::Block => device().map(|(major, minor)| Kind::BlockDevice { major, minor })?,
        tar::EntryType::Fifo => Kind::Fifo,
        tar::EntryType::XGlobalHeader => return Ok(()),
        // Old archives mark directories by a slash only.
        _ if path.as_os_str().as_bytes().ends_with(b"/") => Kind::Directory,
        _ => Kind::File,
    };
    let (uid, gid) = match owners {
        Owners::Root => (0, 0),
        Owners::Kept => (id(header.uid()?)?, id(header.gid()?)?),
    };
    let mut metadata = Metadata {
        kind,
        permissions: header.mode()? & 0o7777,
        uid,
        gid,
        size: entry.size(),
        modified: Modified { seconds: i64::try_from(header.mtime()?).unwrap_or_default(), nanos: 0 },
        attributes: Vec::new(),
        link_id: None,
    };
    read_extensions(entry, &mut metadata, owners)?;
    tree.add(path, metadata, entry)
}

fn id(number: u64) -> io::Result<u32> {
    u32::try_from(number).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("{number} is no user or group id")))
}

/// Takes times and attributes from the PAX records.
fn read_extensions(entry: &mut tar::Entry<'_, impl Read>, metadata: &mut Metadata, owners: Owners) -> io::Result<()> {
    let Some(extensions) = entry.pax_extensions()? else { return Ok(()) };
    for extension in extensions {
        let extension = extension?;
        let Ok(key) = extension.key() else { continue };
        if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
            if name == "security.capability" || (name.starts_with("user.") && !name.starts_with("user.overlay.")) {
                metadata.attributes.push((name.to_owned(), extension.value_bytes().to_vec()));
            }
            continue;
        }
        let Ok(value) = extension.value() else { continue };
        match key {
            "mtime" => metadata.modified = pax_time(value).unwrap_or(metadata.modified),
            "uid" if owners == Owners::Kept => metadata.uid = value.parse().unwrap_or(metadata.uid),
            "gid" if owners == Owners::Kept => metadata.gid = value.parse().unwrap_or(metadata.gid),
            _ => {}
        }
    }
    Ok(())
}

/// `1700000000.123456789`
fn pax_time(text: &str) -> Option<Modified> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction = fraction.get(..9.min(fraction.len()))?;
    let nanos: u32 = format!("{fraction:0<9}").parse().ok()?;
    let seconds: i64 = seconds.parse().ok()?;
    if text.starts_with('-') && nanos > 0 {
        return Some(Modified { seconds: seconds - 1, nanos: 1_000_000_000 - nanos });
    }
    Some(Modified { seconds, nanos })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;
    use crate::tree::Tree as _;

    fn archive() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o640);
        header.set_uid(5);
        header.set_gid(6);
        header.set_mtime(1_700_000_000);
        header.set_size(2);
        builder.append_pax_extensions([("mtime", &b"1700000000.25"[..])]).unwrap();
        builder.append_data(&mut header.clone(), "d/f", &b"hi"[..]).unwrap();
        header.set_size(0);
        header.set_entry_type(tar::EntryType::Link);
        builder.append_link(&mut header.clone(), "hard", "d/f").unwrap();
        header.set_entry_type(tar::EntryType::Symlink);
        builder.append_link(&mut header, "soft", "../../etc").unwrap();
        builder.into_inner().unwrap()
    }

    fn read_all(bytes: &[u8], owners: Owners) -> SpoolTree {
        read(&mut &bytes[..], owners, Path::new("/tmp")).unwrap()
    }

    #[test]
    fn entries_become_paths() {
        let tree = read_all(&archive(), Owners::Kept);
        let file = tree.metadata(Path::new("d/f")).unwrap().unwrap();
        assert_eq!((file.permissions, file.uid, file.gid, file.size), (0o640, 5, 6, 2));
        assert_eq!(file.modified, Modified { seconds: 1_700_000_000, nanos: 250_000_000 });
        assert_eq!(tree.metadata(Path::new("hard")).unwrap().unwrap().link_id, file.link_id);
        assert_eq!(tree.metadata(Path::new("soft")).unwrap().unwrap().kind, Kind::Symlink("../../etc".into()));
        assert_eq!(read_all(&archive(), Owners::Root).metadata(Path::new("d/f")).unwrap().unwrap().uid, 0);
    }

    #[test]
    fn compressions() {
        let plain = archive();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(&plain).unwrap();
        let gzip = gzip.finish().unwrap();
        let zstd = zstd::encode_all(&plain[..], 1).unwrap();
        for bytes in [&plain, &gzip, &zstd] {
            assert!(is_archive(&mut &bytes[..]).unwrap());
            assert_eq!(read_all(bytes, Owners::Root).len(), 4);
        }
        assert!(!is_archive(&mut &b"hello"[..]).unwrap());
        assert!(!is_archive(&mut &[0_u8; 1024][..]).unwrap());
        assert!(!is_archive(&mut &b"\x1f\x8b\x08 only looks like it"[..]).unwrap());
    }

    #[test]
    fn a_cut_archive_is_an_error() {
        let bytes = archive();
        let cut = &bytes[..bytes.len() / 3];
        assert!(read(&mut &cut[..], Owners::Root, Path::new("/tmp")).is_err());
        let text = read(&mut &b"BZh91AY"[..], Owners::Root, Path::new("/tmp")).err().unwrap().to_string();
        assert_eq!(text, "bzip2 archives are not supported; use gzip or zstd, or no compression");
    }

    #[test]
    fn times() {
        assert_eq!(pax_time("5"), Some(Modified { seconds: 5, nanos: 0 }));
        assert_eq!(pax_time("5.1234567891"), Some(Modified { seconds: 5, nanos: 123_456_789 }));
        assert_eq!(pax_time("-1.5"), Some(Modified { seconds: -2, nanos: 500_000_000 }));
        assert_eq!(pax_time("é.é"), None);
    }

    proptest! {
        #[test]
        fn damaged_archives_never_panic(at in 0_usize..3000, byte in any::<u8>(), end in 0_usize..4000) {
            let mut bytes = archive();
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(end);
            let _ = is_archive(&mut &bytes[..]);
            let _ = read(&mut &bytes[..], Owners::Kept, Path::new("/tmp"));
        }
    }
}
