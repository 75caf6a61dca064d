//! Blobs: bytes named by their digest.
//!
//! A blob is either wholly there, synced and verified, or not there. Only SHA-256 names exist.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    path::PathBuf,
};

use rusqlite::{OptionalExtension, Transaction};

use crate::{
    digest::{Digest, Hashing},
    store::{Store, StoreError},
};

const BUFFER_BYTES: usize = 256 * 1024;

/// Takes the bytes of a blob whose digest is not known yet, or not verified. Dropped without [`commit`](Self::commit), it leaves nothing.
pub struct BlobWriter {
    store: Store,
    path: PathBuf,
    file: Hashing<BufWriter<File>>,
    committed: bool,
}

/// Why written bytes did not become a blob.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The bytes are not what the sender announced.
    #[error("expected content {expected} but got {actual}")]
    Mismatch {
        /// What was announced.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// They could not be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Starts a blob.
    pub fn blob_writer(&self) -> Result<BlobWriter, StoreError> {
        let path = self.inner.temp_path("blob");
        let created = self.inner.step("create a blob file").and_then(|()| File::create_new(&path));
        let file = created.map_err(StoreError::io("create", &path))?;
        let file = Hashing::new(BufWriter::with_capacity(BUFFER_BYTES, file));
        Ok(BlobWriter { store: self.clone(), path, file, committed: false })
    }

    /// Keeps these bytes as a blob.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let mut writer = self.blob_writer()?;
        writer.write_all(bytes).map_err(StoreError::io("write", writer.path.clone()))?;
        match writer.commit(None) {
            Ok(digest) => Ok(digest),
            Err(CommitError::Store(error)) => Err(error),
            Err(CommitError::Mismatch { .. }) => unreachable!("no digest was expected"),
        }
    }

    /// Tells whether the blob is there.
    pub fn has_blob(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.blob_size(digest)?.is_some())
    }

    /// Returns the blob's size, or `None` if it is not there.
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        let size = self.db().read("look up a blob", |db| {
            db.prepare_cached("SELECT size FROM blobs WHERE digest = ?1 AND state = 0")?
                .query_row([digest], |row| row.get::<_, i64>(0))
                .optional()
        })?;
        Ok(size.map(|size| size as u64))
    }

    /// Opens the blob for reading, or returns `None` if it is not there.
    pub fn open_blob(&self, digest: &Digest) -> Result<Option<File>, StoreError> {
        if !self.has_blob(digest)? {
            return Ok(None);
        }
        let path = self.inner.blob_path(digest);
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            // Collected between the two looks.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.has_blob(digest)? => Ok(None),
            Err(source) => Err(StoreError::Io { doing: "open the blob", path, source }),
        }
    }

    /// Returns the blob's bytes, or `None` if it is not there. For documents; layers are read through [`open_blob`](Self::open_blob).
    pub fn read_blob(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(mut file) = self.open_blob(digest)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(StoreError::io("read the blob", self.inner.blob_path(digest)))?;
        Ok(Some(bytes))
    }

    /// Keeps a finished file, already synced and hashed, as a blob.
    pub(crate) fn adopt_blob(&self, path: &std::path::Path, digest: &Digest, size: u64) -> Result<(), StoreError> {
        self.db().write("record a blob", |transaction| {
            if !touch_blob(transaction, digest)? {
                self.inner.place(path, &self.inner.blob_path(digest))?;
                self.inner.step("insert a blob row").map_err(StoreError::io("record", path))?;
                insert_blob(transaction, digest, size)?;
            }
            Ok(())
        })
    }
}

/// Marks the blob as used now. False if it is not there.
pub(crate) fn touch_blob(transaction: &Transaction<'_>, digest: &Digest) -> Result<bool, StoreError> {
    let changed = transaction
        .prepare_cached("UPDATE blobs SET used_at = unixepoch() WHERE digest = ?1 AND state = 0")
        .and_then(|mut statement| statement.execute([digest]))
        .map_err(StoreError::sql("mark a blob as used"))?;
    Ok(changed == 1)
}

fn insert_blob(transaction: &Transaction<'_>, digest: &Digest, size: u64) -> Result<(), StoreError> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO blobs (digest, size, state, used_at) VALUES (?1, ?2, 0, unixepoch())")
        .and_then(|mut statement| statement.execute((digest, size as i64)))
        .map_err(StoreError::sql("record a blob"))
        .map(drop)
}

impl BlobWriter {
    /// Returns the digest of what was written so far.
    pub fn digest(&self) -> Digest {
        self.file.digest()
    }

    /// Returns the number of bytes written so far.
    pub fn size(&self) -> u64 {
        self.file.length()
    }

    /// Makes the blob visible. When this returns, the blob survives a crash.
    pub fn commit(mut self, expected: Option<&Digest>) -> Result<Digest, CommitError> {
        let (digest, size) = (self.digest(), self.size());
        if let Some(expected) = expected.filter(|expected| **expected != digest) {
            return Err(CommitError::Mismatch { expected: *expected, actual: digest });
        }
        let synced =
            self.file.flush().and_then(|()| self.store.inner.step("sync a blob")).and_then(|()| self.file.get_ref().get_ref().sync_data());
        synced.map_err(StoreError::io("sync", &self.path))?;
        self.store.adopt_blob(&self.path, &digest, size)?;
        // Adopted means renamed away, unless the same blob was there already.
        self.committed = !self.path.exists();
        Ok(digest)
    }
}

impl Write for BlobWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.store.inner.step("write to a blob")?;
        self.file.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if !self.committed {
            // The next one to open the store removes what cannot be removed now.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{faults::fail_each_step, store::file_names};

    #[test]
    fn a_blob_is_kept_once_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let digest = store.put_blob(b"content").unwrap();
        assert_eq!(store.put_blob(b"content").unwrap(), digest);
        assert_eq!(store.read_blob(&digest).unwrap().unwrap(), b"content");
        assert_eq!(store.blob_size(&digest).unwrap(), Some(7));
        assert_eq!(store.blob_size(&Digest::of(b"other")).unwrap(), None);
    }

    #[test]
    fn unexpected_content_is_refused_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let mut writer = store.blob_writer().unwrap();
        writer.write_all(b"wrong").unwrap();
        let expected = Digest::of(b"right");
        assert!(matches!(writer.commit(Some(&expected)), Err(CommitError::Mismatch { actual, .. }) if actual == Digest::of(b"wrong")));
        assert!(!store.has_blob(&Digest::of(b"wrong")).unwrap());
        assert!(file_names(&dir.path().join("tmp").join(&store.inner.owner.id)).unwrap().is_empty());
    }

    #[test]
    fn a_failed_write_shows_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let digest = Digest::of(b"content");
        fail_each_step(
            &store,
            || store.put_blob(b"content"),
            |outcome| {
                assert_eq!(store.read_blob(&digest).unwrap().is_some(), outcome.is_some());
                drop(Store::open(dir.path()).unwrap());
                assert_eq!(store.verify(crate::Depth::Digests).unwrap(), []);
            },
        );
        assert_eq!(store.read_blob(&digest).unwrap().unwrap(), b"content");
    }
}
