//! Collection of what nothing refers to, while others read and write.
//!
//! ```text
//! names, leases, build cache, repositories ──► images ──► layers ──► compressed forms, configurations (blobs)
//! ```
//!
//! Two transactions. The first drops expired build cache entries and repository links, decides what is alive, and marks the rest as going:
//! readers no longer see it. The second moves the files of what is still going into this owner's temporary directory and deletes the rows.
//! A writer that brings the same content back in between makes the row live again, under the same write lock. A crash at any point leaves
//! either marked rows, which the next collection finishes, or files without rows, which it removes.
//!
//! Whatever was written or referred to within the grace period stays, so that a writer need not hold a lease between two calls.

use std::{collections::BTreeSet, fs, path::PathBuf};

use rusqlite::Transaction;

use crate::{
    digest::{DiffId, Digest},
    store::{Inner, Store, StoreError, file_names, remove_all},
};

const DAY_SECS: u64 = 24 * 60 * 60;

/// What a collection may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GcPolicy {
    /// Content used within this time stays whatever refers to it. Jobs refer to what they use only while they run, so this is also how
    /// long a pulled image waits for the next job. It must not be shorter than the longest pause between two calls of one writer.
    pub grace_secs: u64,
    /// Build cache entries not used for this long go.
    pub cache_idle_secs: u64,
    /// Registry uploads not continued for this long go.
    pub upload_idle_secs: u64,
}

impl Default for GcPolicy {
    fn default() -> Self {
        Self { grace_secs: 7 * DAY_SECS, cache_idle_secs: 30 * DAY_SECS, upload_idle_secs: DAY_SECS }
    }
}

/// What a collection took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GcReport {
    /// Images.
    pub images: u64,
    /// Layers.
    pub layers: u64,
    /// Blobs.
    pub blobs: u64,
    /// Bytes of these blobs and of these layers' tars.
    pub bytes: u64,
    /// Files that crashes had left.
    pub leftovers: u64,
}

/// Runs in the first transaction, in this order. `?1` is the time before which unused content may go.
const MARK: &[&str] = &[
    // A blob is needed by a repository while a manifest of it names it, or while its upload is recent.
    "DELETE FROM repository_blobs WHERE linked_at < ?1
        AND NOT EXISTS (SELECT 1 FROM manifest_refs m WHERE m.repository = repository_blobs.repository AND m.digest = repository_blobs.digest)",
    "DELETE FROM images WHERE used_at < ?1
        AND image NOT IN (SELECT image FROM names)
        AND image NOT IN (SELECT digest FROM leases WHERE kind = 2)
        AND image NOT IN (SELECT digest FROM cache_refs WHERE kind = 2)",
    "UPDATE layers SET state = 1 WHERE used_at < ?1 AND state = 0
        AND diff_id NOT IN (SELECT diff_id FROM image_layers)
        AND diff_id NOT IN (SELECT digest FROM leases WHERE kind = 1)
        AND diff_id NOT IN (SELECT digest FROM cache_refs WHERE kind = 1)",
    "UPDATE blobs SET state = 1 WHERE used_at < ?1 AND state = 0
        AND digest NOT IN (SELECT image FROM images)
        AND digest NOT IN (SELECT blob FROM layer_blobs JOIN layers USING (diff_id) WHERE layers.state = 0)
        AND digest NOT IN (SELECT digest FROM leases WHERE kind = 0)
        AND digest NOT IN (SELECT digest FROM cache_refs WHERE kind = 0)
        AND digest NOT IN (SELECT digest FROM repository_blobs)
        AND digest NOT IN (SELECT digest FROM manifests)",
];

impl Store {
    /// Removes what nothing refers to. Safe while other processes use the store.
    pub fn gc(&self, policy: &GcPolicy) -> Result<GcReport, StoreError> {
        self.inner.sweep_dead_owners()?;
        let mut report = GcReport { images: self.mark(policy)?, ..GcReport::default() };

        self.inner.expire_uploads(policy.upload_idle_secs)?;
        let mut trash = Trash { inner: &self.inner, moved: false };
        self.db().write("remove what was collected", |transaction| trash.take_marked(transaction, &mut report))?;
        self.db().write("remove leftovers", |transaction| trash.take_leftovers(transaction, &mut report))?;
        trash.empty()?;
        Ok(report)
    }

    fn mark(&self, policy: &GcPolicy) -> Result<u64, StoreError> {
        const DOING: &str = "decide what to collect";
        self.db().write(DOING, |transaction| {
            let failed = StoreError::sql(DOING);
            let now: i64 = transaction.query_row("SELECT unixepoch()", [], |row| row.get(0)).map_err(&failed)?;
            // `+ 1`: without grace, content of this very second may go too.
            let before = |secs: u64| now + 1 - secs.cast_signed();
            transaction.execute("DELETE FROM cache WHERE used_at < ?1", [before(policy.cache_idle_secs)]).map_err(&failed)?;
            let mut changed = Vec::new();
            for statement in MARK {
                changed.push(transaction.execute(statement, [before(policy.grace_secs)]).map_err(&failed)?);
            }
            Ok(changed[1] as u64)
        })
    }
}

/// Files on their way out: renamed under the write lock, removed after it.
struct Trash<'a> {
    inner: &'a Inner,
    moved: bool,
}

impl Trash<'_> {
    fn take_marked(&mut self, transaction: &Transaction<'_>, report: &mut GcReport) -> Result<(), StoreError> {
        let failed = StoreError::sql("remove what was collected");
        let layers: Vec<(DiffId, i64)> = marked(transaction, "SELECT diff_id, size FROM layers WHERE state = 1").map_err(&failed)?;
        for (diff_id, size) in &layers {
            self.take(self.inner.layer_path(diff_id))?;
            report.bytes += size.cast_unsigned();
        }
        let blobs: Vec<(Digest, i64)> = marked(transaction, "SELECT digest, size FROM blobs WHERE state = 1").map_err(&failed)?;
        for (digest, size) in &blobs {
            self.take(self.inner.blob_path(digest))?;
            report.bytes += size.cast_unsigned();
        }
        report.layers = layers.len() as u64;
        report.blobs = blobs.len() as u64;
        let forget = "DELETE FROM layers WHERE state = 1; DELETE FROM blobs WHERE state = 1;
            DELETE FROM layer_blobs WHERE blob NOT IN (SELECT digest FROM blobs) OR diff_id NOT IN (SELECT diff_id FROM layers);";
        transaction.execute_batch(forget).map_err(&failed)
    }

    /// Files whose row was never written. No writer is between its rename and its row now: both happen under the lock we hold.
    fn take_leftovers(&mut self, transaction: &Transaction<'_>, report: &mut GcReport) -> Result<(), StoreError> {
        let failed = StoreError::sql("list content");
        let known: BTreeSet<PathBuf> = marked::<Digest>(transaction, "SELECT digest, size FROM blobs")
            .map_err(&failed)?
            .into_iter()
            .map(|(digest, _)| self.inner.blob_path(&digest))
            .chain(
                marked::<DiffId>(transaction, "SELECT diff_id, size FROM layers")
                    .map_err(&failed)?
                    .into_iter()
                    .map(|(diff_id, _)| self.inner.layer_path(&diff_id)),
            )
            .collect();
        for path in content_paths(self.inner)?.into_iter().filter(|path| !known.contains(path)) {
            self.take(path)?;
            report.leftovers += 1;
        }
        Ok(())
    }

    fn take(&mut self, path: PathBuf) -> Result<(), StoreError> {
        self.inner.step("collect a file").map_err(StoreError::io("move away", &path))?;
        self.moved |= self.inner.discard_if_there(&path)?;
        Ok(())
    }

    fn empty(self) -> Result<(), StoreError> {
        if !self.moved {
            return Ok(());
        }
        let temp = self.inner.temp_path("trash");
        let dir = temp.parent().expect("temporary files lie in a directory");
        for name in file_names(dir)?.iter().filter(|name| name.starts_with("trash-")) {
            remove_all(&dir.join(name))?;
        }
        Ok(())
    }
}

/// Rows of a digest and a size.
fn marked<D: rusqlite::types::FromSql>(transaction: &Transaction<'_>, query: &str) -> rusqlite::Result<Vec<(D, i64)>> {
    transaction.prepare(query)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Returns every blob file and layer directory.
pub(crate) fn content_paths(inner: &Inner) -> Result<Vec<PathBuf>, StoreError> {
    let blobs = inner.subdir("blobs/sha256");
    let layers = inner.subdir("layers");
    let mut paths: Vec<PathBuf> = file_names(&layers)?.into_iter().map(|name| layers.join(name)).collect();
    for prefix in file_names(&blobs)? {
        let dir = blobs.join(prefix);
        if fs::symlink_metadata(&dir).is_ok_and(|metadata| metadata.is_dir()) {
            paths.extend(file_names(&dir)?.into_iter().map(|name| dir.join(name)));
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests;
