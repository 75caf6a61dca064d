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

/// Masked bytes in a file without a name.
#[derive(Debug)]
pub(super) struct Spool {
    file: File,
    written: Mutex<Written>,
}

#[derive(Debug, Default)]
struct Written {
    length: u64,
    checksum: crc32fast::Hasher,
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
        self.file.write_all_at(&bytes, written.length)?;
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
        let rest = usize::try_from(self.length().saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; rest.min(limit)];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.into())
    }
}
