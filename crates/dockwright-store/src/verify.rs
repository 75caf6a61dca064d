//! Is the store sound? Used by `dockwright doctor` and by every fault test.
//!
//! Unsound is a row without its file, content that is not what its name says, and a reference to nothing. A file without a row is not:
//! a crash may leave one, and collection removes it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rusqlite::Connection;

use crate::{
    digest::{DiffId, Digest, Hashing},
    store::{Store, StoreError},
};

/// How far to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Rows, references, presence and sizes of files.
    Shallow,
    /// Also the digests of all blobs.
    Digests,
}

/// Something that is wrong with the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// SQLite finds its file damaged.
    #[error("the database is damaged: {0}")]
    Database(String),
    /// A row whose file is not there.
    #[error("`{path}` is missing")]
    MissingFile {
        /// Where it should be.
        path: PathBuf,
    },
    /// A blob of the wrong size.
    #[error("`{path}` has {found} bytes instead of {expected}")]
    WrongSize {
        /// The blob.
        path: PathBuf,
        /// According to its row.
        expected: u64,
        /// On disk.
        found: u64,
    },
    /// A blob whose content is not what its name says.
    #[error("`{path}` has the content {found}")]
    WrongContent {
        /// The blob.
        path: PathBuf,
        /// The digest of its content.
        found: Digest,
    },
    /// A row that refers to nothing.
    #[error("{from} refers to {to}, which is not in the store")]
    Dangling {
        /// The row.
        from: String,
        /// What is not there.
        to: String,
    },
}

/// Queries that find references to nothing: what refers, and to what.
const DANGLING: &[&str] = &[
    "SELECT 'image ' || image, 'layer ' || diff_id FROM image_layers WHERE diff_id NOT IN (SELECT diff_id FROM layers WHERE state = 0)",
    "SELECT 'image ' || image, 'its configuration' FROM images WHERE image NOT IN (SELECT digest FROM blobs WHERE state = 0)",
    "SELECT 'name ' || name, 'image ' || image FROM names WHERE image NOT IN (SELECT image FROM images)",
    "SELECT 'repository ' || name, 'blob ' || digest FROM repository_blobs JOIN repositories ON repository = id
        WHERE digest NOT IN (SELECT digest FROM blobs WHERE state = 0)",
    "SELECT 'repository ' || name, 'manifest ' || digest FROM manifests JOIN repositories ON repository = id
        WHERE digest NOT IN (SELECT digest FROM blobs WHERE state = 0)",
    "SELECT 'tag ' || name || ':' || tag, 'manifest ' || digest FROM tags t JOIN repositories ON repository = id
        WHERE NOT EXISTS (SELECT 1 FROM manifests m WHERE m.repository = t.repository AND m.digest = t.digest)",
];

impl Store {
    /// Returns everything that is wrong; nothing in a sound store. Others may go on using the store meanwhile.
    pub fn verify(&self, depth: Depth) -> Result<Vec<Problem>, StoreError> {
        let (mut problems, blobs, layers) = self.db().read("verify the store", |db| Ok((rows(db)?, blobs(db)?, layers(db)?)))?;
        for (digest, size) in blobs {
            // Collected since we looked: not a problem.
            if let Some(problem) = self.check_blob(&digest, size, depth)?
                && self.has_blob(&digest)?
            {
                problems.push(problem);
            }
        }
        for diff_id in layers {
            let path = self.inner.layer_path(&diff_id).join("fs");
            if !is_there(&path)? && self.has_layer(&diff_id)? {
                problems.push(Problem::MissingFile { path });
            }
        }
        Ok(problems)
    }

    fn check_blob(&self, digest: &Digest, size: u64, depth: Depth) -> Result<Option<Problem>, StoreError> {
        let path = self.inner.blob_path(digest);
        let mut file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(Problem::MissingFile { path })),
            Err(source) => return Err(StoreError::Io { doing: "open the blob", path, source }),
        };
        let found = file.metadata().map_err(StoreError::io("look at", &path))?.len();
        if found != size {
            return Ok(Some(Problem::WrongSize { path, expected: size, found }));
        }
        if depth == Depth::Shallow {
            return Ok(None);
        }
        let mut hashing = Hashing::new(io::sink());
        io::copy(&mut file, &mut hashing).map_err(StoreError::io("read the blob", &path))?;
        let found = hashing.digest();
        Ok((found != *digest).then_some(Problem::WrongContent { path, found }))
    }
}

fn rows(db: &Connection) -> rusqlite::Result<Vec<Problem>> {
    let check: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    let mut problems = Vec::new();
    if check != "ok" {
        problems.push(Problem::Database(check));
    }
    for query in DANGLING {
        let mut statement = db.prepare(query)?;
        let found = statement.query_map([], |row| Ok(Problem::Dangling { from: row.get(0)?, to: row.get(1)? }))?;
        problems.extend(found.collect::<rusqlite::Result<Vec<_>>>()?);
    }
    Ok(problems)
}

fn blobs(db: &Connection) -> rusqlite::Result<Vec<(Digest, u64)>> {
    let mut statement = db.prepare("SELECT digest, size FROM blobs WHERE state = 0")?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)))?.collect()
}

fn layers(db: &Connection) -> rusqlite::Result<Vec<DiffId>> {
    db.prepare("SELECT diff_id FROM layers WHERE state = 0")?.query_map([], |row| row.get(0))?.collect()
}

fn is_there(path: &Path) -> Result<bool, StoreError> {
    path.try_exists().map_err(StoreError::io("look at", path))
}
