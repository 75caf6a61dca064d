//! The build cache: results of build steps by key.
//!
//! A scope (project, and whether the ref is protected) is part of every key, so that what an untrusted job writes is never read by a
//! trusted one. Key and value are the builder's business; the store only knows which content an entry needs, keeps it, and answers as if
//! the entry did not exist once any of it is gone.

use rusqlite::{OptionalExtension, Transaction};

use crate::{
    digest::{DiffId, Digest, ImageId},
    lease::{Kind, touch},
    store::{Store, StoreError},
};

/// The content a cache entry is worthless without.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheRefs {
    /// Images.
    pub images: Vec<ImageId>,
    /// Layers.
    pub layers: Vec<DiffId>,
    /// Blobs.
    pub blobs: Vec<Digest>,
}

impl CacheRefs {
    fn iter(&self) -> impl Iterator<Item = (Kind, Digest)> {
        let images = self.images.iter().map(|image| (Kind::Image, image.0));
        let layers = self.layers.iter().map(|layer| (Kind::Layer, layer.0));
        let blobs = self.blobs.iter().map(|blob| (Kind::Blob, *blob));
        images.chain(layers).chain(blobs)
    }
}

impl Store {
    /// Keeps a result, replacing the one of the same key. The content it refers to must be in the store.
    pub fn cache_put(&self, scope: &str, key: &Digest, value: &[u8], refs: &CacheRefs) -> Result<(), StoreError> {
        const DOING: &str = "put into the build cache";
        self.db().write(DOING, |transaction| {
            let failed = StoreError::sql(DOING);
            transaction
                .execute("INSERT OR REPLACE INTO cache (scope, key, value, used_at) VALUES (?1, ?2, ?3, unixepoch())", (scope, key, value))
                .map_err(&failed)?;
            for (kind, digest) in refs.iter() {
                if !touch(transaction, kind, &digest)? {
                    return Err(StoreError::Missing { what: format!("{kind:?} {digest} of a build cache entry").to_lowercase() });
                }
                transaction
                    .execute(
                        "INSERT OR IGNORE INTO cache_refs (scope, key, kind, digest) VALUES (?1, ?2, ?3, ?4)",
                        (scope, key, kind as i64, digest),
                    )
                    .map_err(&failed)?;
            }
            Ok(())
        })
    }

    /// Returns the result of this key, if everything it needs is there.
    pub fn cache_get(&self, scope: &str, key: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        const DOING: &str = "look into the build cache";
        self.db().write_volatile(DOING, |transaction| {
            let failed = StoreError::sql(DOING);
            let value: Option<Vec<u8>> = transaction
                .query_row("UPDATE cache SET used_at = unixepoch() WHERE scope = ?1 AND key = ?2 RETURNING value", (scope, key), |row| {
                    row.get(0)
                })
                .optional()
                .map_err(&failed)?;
            let complete = references(transaction, scope, key)
                .map_err(&failed)?
                .into_iter()
                .map(|(kind, digest)| touch(transaction, kind, &digest))
                .try_fold(true, |complete, there| there.map(|there| complete && there))?;
            Ok(value.filter(|_| complete))
        })
    }

    /// Forgets all results of a scope and returns how many there were.
    pub fn cache_clear(&self, scope: &str) -> Result<usize, StoreError> {
        self.db().write("clear the build cache", |transaction| {
            transaction.execute("DELETE FROM cache WHERE scope = ?1", [scope]).map_err(StoreError::sql("clear the build cache"))
        })
    }
}

fn references(transaction: &Transaction<'_>, scope: &str, key: &Digest) -> rusqlite::Result<Vec<(Kind, Digest)>> {
    let mut statement = transaction.prepare_cached("SELECT kind, digest FROM cache_refs WHERE scope = ?1 AND key = ?2")?;
    let rows = statement.query_map((scope, key), |row| {
        let kind = match row.get::<_, i64>(0)? {
            0 => Kind::Blob,
            1 => Kind::Layer,
            _ => Kind::Image,
        };
        Ok((kind, row.get(1)?))
    })?;
    rows.collect()
}
