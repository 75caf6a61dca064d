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
/// `xz -9` needs 64 MiB; a header may ask for 4 GiB.
const XZ_MEMORY_LIMIT_KIB: u32 = 256 * 1024;

/// Why an archive could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadArchiveError {
    #[error("read the archive")]
    Read(#[source] io::Error),
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
    file.fill_buf()?;
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
        Compression::Bzip2 => Ok(Box::new(bzip2::bufread::MultiBzDecoder::new(file))),
        Compression::Xz => Ok(Box::new(lzma_rust2::XzReader::new_mem_limit(file, true, XZ_MEMORY_LIMIT_KIB))),
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

    /// The same three entries from `tar | xz`.
    #[rustfmt::skip]
    const XZ: &[u8] = &[
        0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x04, 0xe6, 0xd6, 0xb4, 0x46, 0x02, 0x00, 0x21, 0x01, 0x1c, 0x00, 0x00, 0x00, 0x10, 0xcf,
        0x58, 0xcc, 0xe0, 0x27, 0xff, 0x00, 0x99, 0x5d, 0x00, 0x32, 0x0b, 0xc8, 0xc0, 0x0e, 0x50, 0x27, 0x08, 0xfc, 0xe7, 0x05, 0xbe, 0x6f,
        0x72, 0xb7, 0x2f, 0xd8, 0xc7, 0x9b, 0xbc, 0x5e, 0xd9, 0x0e, 0xa9, 0xdb, 0x5f, 0x36, 0x6d, 0x3c, 0x46, 0x1f, 0x1e, 0x2d, 0xcf, 0xb7,
        0x84, 0xd9, 0x8a, 0x50, 0x19, 0x26, 0x73, 0xc5, 0x2e, 0x49, 0x25, 0xae, 0x65, 0x25, 0xf8, 0x80, 0xb8, 0xeb, 0xce, 0x08, 0x99, 0x7a,
        0x82, 0x21, 0x55, 0x13, 0xbb, 0xe0, 0xf1, 0x66, 0x6c, 0x66, 0xff, 0xcf, 0xea, 0xbf, 0x4a, 0xa1, 0x20, 0x66, 0x1c, 0xc8, 0xeb, 0xfa,
        0xc4, 0xcf, 0x2b, 0xd6, 0x95, 0x0f, 0xe2, 0x30, 0x62, 0x00, 0x22, 0x40, 0xaa, 0x61, 0x1a, 0x1e, 0xa5, 0xe9, 0xad, 0xc6, 0x0c, 0x57,
        0xd8, 0x65, 0xb7, 0x23, 0x36, 0xac, 0x2a, 0x24, 0x07, 0x22, 0xb7, 0xac, 0xcd, 0x9e, 0x14, 0x4a, 0xc6, 0x51, 0x02, 0xa6, 0x6f, 0xc3,
        0xf9, 0x62, 0x9d, 0x8c, 0x03, 0x40, 0x17, 0x6d, 0x07, 0xd4, 0x80, 0xbc, 0xb7, 0x1a, 0x33, 0x3b, 0xd4, 0xa6, 0xb5, 0x86, 0xa5, 0xfe,
        0xaa, 0xad, 0xcf, 0x42, 0x9b, 0x82, 0x69, 0x40, 0x00, 0x00, 0x00, 0x00, 0xcc, 0x44, 0xa6, 0x5d, 0x2f, 0xac, 0x5f, 0xe8, 0x00, 0x01,
        0xb5, 0x01, 0x80, 0x50, 0x00, 0x00, 0x20, 0xe7, 0xd7, 0x35, 0xb1, 0xc4, 0x67, 0xfb, 0x02, 0x00, 0x00, 0x00, 0x00, 0x04, 0x59, 0x5a,
    ];

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
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(&plain).unwrap();
        let bzip2 = bzip2.finish().unwrap();
        for bytes in [&plain, &gzip, &zstd, &bzip2, &XZ.to_vec()] {
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
        assert!(read(&mut &XZ[..XZ.len() / 2], Owners::Root, Path::new("/tmp")).is_err());
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
