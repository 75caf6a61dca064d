//! The paths in a git index, so that untracked files can be told without git: helper containers have none.
//!
//! Versions 2 to 4 of the format, as in git's `Documentation/gitformat-index.txt`. Extensions and the checksum are not looked at.

use std::{collections::BTreeSet, ffi::OsStr, io, os::unix::ffi::OsStrExt as _, path::PathBuf};

/// Bytes of an entry before its flags: times, device, inode, mode, owner, size, and a SHA-1.
const ENTRY_HEAD_BYTES: usize = 60;
const EXTENDED_FLAG: u16 = 0x4000;

/// Returns the tracked paths.
pub(super) fn paths(bytes: &[u8]) -> io::Result<BTreeSet<PathBuf>> {
    let mut reader = Reader { bytes, at: 0 };
    if reader.take(4)? != b"DIRC" {
        return Err(invalid("no index"));
    }
    let version = reader.u32()?;
    if !(2..=4).contains(&version) {
        return Err(invalid("an unknown version of the index"));
    }
    let count = reader.u32()?;
    let mut paths = BTreeSet::new();
    let mut previous = Vec::new();
    for _ in 0..count {
        let name = read_entry(&mut reader, version, &previous)?;
        paths.insert(PathBuf::from(OsStr::from_bytes(&name)));
        previous = name;
    }
    Ok(paths)
}

fn read_entry(reader: &mut Reader<'_>, version: u32, previous: &[u8]) -> io::Result<Vec<u8>> {
    let start = reader.at;
    reader.take(ENTRY_HEAD_BYTES)?;
    let flags = reader.take(2)?;
    if u16::from_be_bytes([flags[0], flags[1]]) & EXTENDED_FLAG != 0 {
        reader.take(2)?;
    }
    if version == 4 {
        let strip = reader.offset_varint()?;
        let keep = previous.len().checked_sub(strip).ok_or_else(|| invalid("a path that strips too much"))?;
        return Ok([&previous[..keep], reader.until_nul()?].concat());
    }
    let name = reader.until_nul()?.to_vec();
    // Entries are padded with NULs to a multiple of eight; the one that ended the name is the first of them.
    let padding = (8 - (reader.at - start) % 8) % 8;
    reader.take(padding)?;
    Ok(name)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> io::Result<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at + length).ok_or_else(|| invalid("the index ends early"))?;
        self.at += length;
        Ok(taken)
    }

    fn u32(&mut self) -> io::Result<u32> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn until_nul(&mut self) -> io::Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|&byte| byte == 0).ok_or_else(|| invalid("the index ends early"))?;
        self.at += length + 1;
        Ok(&rest[..length])
    }

    /// The integer encoding of pack offsets.
    fn offset_varint(&mut self) -> io::Result<usize> {
        let mut byte = self.take(1)?[0];
        let mut value = usize::from(byte & 0x7f);
        while byte & 0x80 != 0 {
            byte = self.take(1)?[0];
            value = (value + 1)
                .checked_mul(128)
                .and_then(|shifted| shifted.checked_add(usize::from(byte & 0x7f)))
                .ok_or_else(|| invalid("a path that strips too much"))?;
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    #[test]
    fn reads_what_git_writes() {
        let root = tempfile::tempdir().expect("a temporary directory");
        for path in ["a", "dir/b c", "dir/longer-name-than-the-others", "é"] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("below the root")).expect("a directory");
            fs::write(&path, "x").expect("a file");
        }
        for version in ["2", "4"] {
            for arguments in [vec!["init", "-q"], vec!["add", "."], vec!["update-index", "--index-version", version]] {
                let status = Command::new("git").args(&arguments).current_dir(root.path()).status().expect("git runs");
                assert!(status.success(), "{arguments:?}");
            }
            let bytes = fs::read(root.path().join(".git/index")).expect("an index");
            let paths = paths(&bytes).expect("the index is read");
            let expected = ["a", "dir/b c", "dir/longer-name-than-the-others", "é"].map(PathBuf::from);
            assert_eq!(paths, BTreeSet::from(expected), "version {version}");
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        assert!(paths(b"").is_err());
        assert!(paths(b"DIRC\0\0\0\x02\xff\xff\xff\xffabc").is_err());
        assert!(paths(b"DIRC\0\0\0\x09\0\0\0\0").is_err());
    }
}
