//! Leases: what keeps content from being collected while somebody works with it.
//!
//! A lease is rows in the database under the name of the process's lock (see `store`), so it ends with the process, however that ends.

use rusqlite::Transaction;

use crate::{
    blob::touch_blob,
    digest::{DiffId, Digest, ImageId},
    image::touch_image,
    layer::touch_layer,
    store::{Store, StoreError},
};

/// The kinds of content in `leases` and `cache_refs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Blob = 0,
    Layer = 1,
    Image = 2,
}

/// Keeps what was put under it until it is dropped.
pub struct Lease {
    store: Store,
    number: u64,
}

impl Store {
    /// Starts an empty lease.
    pub fn lease(&self) -> Lease {
        Lease { store: self.clone(), number: self.inner.next_number() }
    }
}

impl Lease {
    /// Keeps a blob. False if it is not in the store.
    pub fn hold_blob(&self, digest: &Digest) -> Result<bool, StoreError> {
        self.hold(Kind::Blob, digest)
    }

    /// Keeps a layer and its compressed form. False if it is not in the store.
    pub fn hold_layer(&self, diff_id: &DiffId) -> Result<bool, StoreError> {
        self.hold(Kind::Layer, &diff_id.0)
    }

    /// Keeps an image with its layers. False if it is not in the store.
    pub fn hold_image(&self, image: &ImageId) -> Result<bool, StoreError> {
        self.hold(Kind::Image, &image.0)
    }

    fn hold(&self, kind: Kind, digest: &Digest) -> Result<bool, StoreError> {
        const DOING: &str = "hold content";
        self.store.db().write_volatile(DOING, |transaction| {
            let there = touch(transaction, kind, digest)?;
            if there {
                transaction
                    .prepare_cached("INSERT OR IGNORE INTO leases (owner, lease, kind, digest) VALUES (?1, ?2, ?3, ?4)")
                    .and_then(|mut insert| insert.execute((&self.store.inner.owner.id, self.number as i64, kind as i64, digest)))
                    .map_err(StoreError::sql(DOING))?;
            }
            Ok(there)
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A lease that cannot be ended now ends with the process.
        let _ = self.store.db().write_volatile("end a lease", |transaction| {
            transaction
                .execute("DELETE FROM leases WHERE owner = ?1 AND lease = ?2", (&self.store.inner.owner.id, self.number as i64))
                .map_err(StoreError::sql("end a lease"))
        });
    }
}

/// Marks content as used now. False if it is not there.
pub(crate) fn touch(transaction: &Transaction<'_>, kind: Kind, digest: &Digest) -> Result<bool, StoreError> {
    match kind {
        Kind::Blob => touch_blob(transaction, digest),
        Kind::Layer => touch_layer(transaction, &DiffId(*digest)),
        Kind::Image => match touch_image(transaction, &ImageId(*digest)) {
            Err(StoreError::Missing { .. }) => Ok(false),
            outcome => outcome.map(|()| true),
        },
    }
}
