//! Uploads: what registry clients have sent of a blob so far.
//!
//! An upload outlives the request, the connection and the process; only the running hash does not, and is made again from the file. The
//! identifier cannot be guessed and is bound to the repository and to who started it.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use rusqlite::{OptionalExtension, Transaction};

use crate::{
    blob::CommitError,
    digest::{Digest, Hashing},
    repository,
    store::{Inner, Store, StoreError, file_names, random_id, remove_all},
};

/// A blob that is being received.
pub struct Upload {
    store: Store,
    id: String,
    repository: String,
    principal: String,
    path: PathBuf,
    file: Hashing<File>,
}

impl Store {
    /// Starts an upload into a repository.
    pub fn start_upload(&self, repository: &str, principal: &str) -> Result<Upload, StoreError> {
        const DOING: &str = "start an upload";
        let id = random_id();
        let path = self.inner.upload_path(&id);
        self.db().write(DOING, |transaction| {
            transaction
                .execute(
                    "INSERT INTO uploads (upload, repository, principal, touched_at) VALUES (?1, ?2, ?3, unixepoch())",
                    (&id, repository, principal),
                )
                .map_err(StoreError::sql(DOING))
        })?;
        let file = File::create_new(&path).map_err(StoreError::io("create", &path))?;
        let (repository, principal) = (repository.to_owned(), principal.to_owned());
        Ok(Upload { store: self.clone(), id, repository, principal, path, file: Hashing::new(file) })
    }

    /// Continues an upload after its handle was lost; `None` if this principal has no such upload in this repository.
    pub fn resume_upload(&self, id: &str, repository: &str, principal: &str) -> Result<Option<Upload>, StoreError> {
        const DOING: &str = "continue an upload";
        let known = self.db().write(DOING, |transaction| {
            let touch = "UPDATE uploads SET touched_at = unixepoch() WHERE upload = ?1 AND repository = ?2 AND principal = ?3 RETURNING 1";
            let row = transaction.query_row(touch, (id, repository, principal), |row| row.get::<_, i64>(0)).optional();
            row.map_err(StoreError::sql(DOING))
        })?;
        if known.is_none() {
            return Ok(None);
        }
        let path = self.inner.upload_path(id);
        let (repository, principal) = (repository.to_owned(), principal.to_owned());
        let file = rehash(&path).map_err(StoreError::io("read the upload", &path))?;
        Ok(Some(Upload { store: self.clone(), id: id.to_owned(), repository, principal, path, file }))
    }
}

/// Opens an upload's file for appending, with the hash of what it has.
fn rehash(path: &Path) -> io::Result<Hashing<File>> {
    let mut hashing = Hashing::new(io::sink());
    io::copy(&mut File::open(path)?, &mut hashing)?;
    let file = File::options().append(true).open(path)?;
    Ok(hashing.map(|_| file))
}

impl Upload {
    /// Returns the identifier.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the repository it goes to.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Returns who started it.
    pub fn principal(&self) -> &str {
        &self.principal
    }

    /// Returns how many bytes were received.
    pub fn offset(&self) -> u64 {
        self.file.length()
    }

    /// Receives more bytes.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let written = self.store.inner.step("write to an upload").and_then(|()| self.file.write_all(bytes));
        written.map_err(StoreError::io("write", &self.path))
    }

    /// Makes the bytes a blob that is visible in the repository. Whatever the outcome, the upload is over.
    pub fn finish(self, expected: &Digest) -> Result<u64, CommitError> {
        let (digest, size) = (self.file.digest(), self.file.length());
        if digest != *expected {
            self.cancel()?;
            return Err(CommitError::Mismatch { expected: *expected, actual: digest });
        }
        let synced = self.store.inner.step("sync an upload").and_then(|()| self.file.get_ref().sync_data());
        synced.map_err(StoreError::io("sync", &self.path))?;
        self.store.adopt_blob(&self.path, &digest, size)?;
        self.store.db().write("finish an upload", |transaction| {
            if !repository::link_blob(transaction, &self.repository, &digest)? {
                return Err(StoreError::Missing { what: format!("blob {digest}") });
            }
            forget(transaction, &self.id)
        })?;
        // Still there when the store had the blob already.
        remove_all(&self.path)?;
        Ok(size)
    }

    /// Gives the upload up.
    pub fn cancel(self) -> Result<(), StoreError> {
        self.store.db().write("cancel an upload", |transaction| forget(transaction, &self.id))?;
        remove_all(&self.path)
    }
}

fn forget(transaction: &Transaction<'_>, id: &str) -> Result<(), StoreError> {
    transaction.execute("DELETE FROM uploads WHERE upload = ?1", [id]).map_err(StoreError::sql("forget an upload")).map(drop)
}

impl Inner {
    /// Removes uploads that nobody has continued for this long, and files without an upload.
    pub(crate) fn expire_uploads(&self, idle_secs: u64) -> Result<(), StoreError> {
        const DOING: &str = "expire uploads";
        let dir = self.subdir("uploads");
        let files = file_names(&dir)?;
        let known: Vec<String> = self.db.write(DOING, |transaction| {
            let failed = StoreError::sql(DOING);
            transaction.execute("DELETE FROM uploads WHERE touched_at < unixepoch() - ?1", [idle_secs.cast_signed()]).map_err(&failed)?;
            let mut statement = transaction.prepare("SELECT upload FROM uploads").map_err(&failed)?;
            let rows = statement.query_map([], |row| row.get(0)).map_err(&failed)?;
            rows.collect::<rusqlite::Result<_>>().map_err(&failed)
        })?;
        // Listed before the rows were read, and a row is written before its file: no living upload is missed.
        for name in files.iter().filter(|name| !known.contains(name)) {
            let path = self.upload_path(name);
            fs::remove_file(&path)
                .or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
                .map_err(StoreError::io("remove", &path))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Depth, faults::fail_each_step};

    #[test]
    fn an_upload_continues_in_another_process() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let mut upload = store.start_upload("a", "me").unwrap();
        upload.append(b"first ").unwrap();
        let id = upload.id().to_owned();
        drop((upload, store));

        let store = Store::open(dir.path()).unwrap();
        assert!(store.resume_upload(&id, "a", "somebody else").unwrap().is_none());
        assert!(store.resume_upload(&id, "b", "me").unwrap().is_none());
        let mut upload = store.resume_upload(&id, "a", "me").unwrap().unwrap();
        assert_eq!(upload.offset(), 6);
        upload.append(b"second").unwrap();
        let digest = Digest::of(b"first second");
        assert_eq!(upload.finish(&digest).unwrap(), 12);
        assert_eq!(store.repository_blob("a", &digest).unwrap(), Some(12));
        assert_eq!(store.read_blob(&digest).unwrap().unwrap(), b"first second");
        assert!(store.resume_upload(&id, "a", "me").unwrap().is_none());
        assert!(file_names(&dir.path().join("uploads")).unwrap().is_empty());
    }

    #[test]
    fn a_wrong_digest_ends_the_upload() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let mut upload = store.start_upload("a", "me").unwrap();
        upload.append(b"wrong").unwrap();
        let id = upload.id().to_owned();
        assert!(matches!(upload.finish(&Digest::of(b"right")), Err(CommitError::Mismatch { .. })));
        assert!(store.resume_upload(&id, "a", "me").unwrap().is_none());
        assert!(!store.has_blob(&Digest::of(b"wrong")).unwrap());
    }

    #[test]
    fn idle_uploads_expire() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let upload = store.start_upload("a", "me").unwrap();
        store.inner.expire_uploads(1000).unwrap();
        assert!(upload.path.exists());
        store
            .db()
            .write("test", |transaction| transaction.execute("UPDATE uploads SET touched_at = 0", []).map_err(StoreError::sql("test")))
            .unwrap();
        store.inner.expire_uploads(1000).unwrap();
        assert!(!upload.path.exists());
    }

    #[test]
    fn a_failed_step_leaves_nothing_visible() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let digest = Digest::of(b"content");
        let upload = || -> Result<u64, CommitError> {
            let mut upload = store.start_upload("a", "me")?;
            upload.append(b"content")?;
            upload.finish(&digest)
        };
        fail_each_step(&store, upload, |outcome| {
            assert_eq!(store.repository_blob("a", &digest).unwrap(), outcome);
            assert_eq!(store.verify(Depth::Digests).unwrap(), []);
        });
    }
}
