//! A job's trace on this machine, until the server has taken all of it, and longer: a server may want it again from the start.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use dockwright_job::TraceChecksum;

use crate::trace::STORE_ATTEMPTS;

/// Room in memory for what the runner has to say on a job whose trace has no room on disk.
const LAST_WORDS_MAX_BYTES: usize = 64 * 1024;

/// Masked bytes in a file without a name.
#[derive(Debug)]
pub(super) struct Spool {
    file: File,
    written: Mutex<Written>,
}

#[derive(Debug, Default)]
struct Written {
    /// With the last words.
    length: u64,
    checksum: crc32fast::Hasher,
    /// Attempts in a row to write to a full disk. Whoever writes gives up after [`STORE_ATTEMPTS`].
    failures: u32,
    last_words: Vec<u8>,
}

impl Spool {
    pub(super) fn create(directory: &Path) -> io::Result<Arc<Self>> {
        std::fs::create_dir_all(directory)?;
        Ok(Arc::new(Self { file: tempfile::tempfile_in(directory)?, written: Mutex::default() }))
    }

    /// Writes bytes that belong at `offset`. Those that are there already are skipped.
    pub(super) fn append(&self, offset: u64, mut bytes: Bytes) -> io::Result<()> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let known = written.length.checked_sub(offset).ok_or_else(|| io::Error::other("the trace has a gap"))?;
        let known = usize::try_from(known).unwrap_or(usize::MAX).min(bytes.len());
        let _ = bytes.split_to(known);
        if written.failures < STORE_ATTEMPTS {
            let result = self.file.write_all_at(&bytes, written.length);
            written.failures = if result.is_ok() { 0 } else { written.failures + 1 };
            result?;
        } else if written.last_words.len() + bytes.len() <= LAST_WORDS_MAX_BYTES {
            written.last_words.extend_from_slice(&bytes);
        } else {
            return Err(io::ErrorKind::StorageFull.into());
        }
        written.checksum.update(&bytes);
        written.length += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn length(&self) -> u64 {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).length
    }

    /// Returns length and checksum of what there is by now.
    pub(super) fn checksum(&self) -> TraceChecksum {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let checksum = written.checksum.clone().finalize();
        TraceChecksum { checksum: Some(format!("crc32:{checksum:08x}")), bytesize: Some(written.length) }
    }

    /// Returns bytes from an offset on, at most `limit` of them; none at the end.
    pub(super) fn read(&self, offset: u64, limit: usize) -> io::Result<Bytes> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let on_disk = written.length - written.last_words.len() as u64;
        if offset >= on_disk {
            let from = usize::try_from(offset - on_disk).unwrap_or(usize::MAX).min(written.last_words.len());
            let rest = &written.last_words[from..];
            return Ok(Bytes::copy_from_slice(&rest[..rest.len().min(limit)]));
        }
        drop(written);
        let rest = usize::try_from(on_disk - offset).unwrap_or(usize::MAX);
        let mut bytes = vec![0; rest.min(limit)];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that nobody may write to stands for a full disk.
    #[test]
    fn the_last_words_have_room_when_the_disk_has_none() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("trace");
        std::fs::write(&path, "on disk, ").expect("a file");
        let written = Mutex::new(Written { length: 9, ..Written::default() });
        let spool = Spool { file: File::open(&path).expect("it can be read"), written };
        for _ in 0..STORE_ATTEMPTS {
            spool.append(9, Bytes::from_static(b"no room")).expect_err("it cannot be written");
        }
        spool.append(9, Bytes::from_static(b"last ")).expect("there is room in memory");
        spool.append(14, Bytes::from_static(b"words")).expect("there is room in memory");
        spool.append(19, vec![b'x'; LAST_WORDS_MAX_BYTES].into()).expect_err("not for ever");
        assert_eq!(spool.length(), 19);
        assert_eq!(spool.read(3, 100).expect("a piece"), "disk, ");
        assert_eq!(spool.read(9, 7).expect("a piece"), "last wo");
        assert_eq!(spool.read(16, 100).expect("a piece"), "rds");
        assert!(spool.read(19, 100).expect("the end").is_empty());
    }
}
