//! Images: a configuration and the layers it names. And the host's own names for them.
//!
//! The names here are those of `dockwright image`; an engine keeps names of its own.

use rusqlite::{OptionalExtension, Transaction};

use crate::{
    blob::touch_blob,
    config::{ImageConfig, ParseConfigError},
    digest::{DiffId, ImageId},
    layer::touch_layer,
    reference::ImageRef,
    store::{Store, StoreError},
};

/// An image of the store.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its identity: the digest of `config_bytes`.
    pub id: ImageId,
    /// The configuration as it was given.
    pub config_bytes: Vec<u8>,
    /// The configuration, parsed.
    pub config: ImageConfig,
    /// The layers, base first.
    pub layers: Vec<DiffId>,
    /// The sum of the layers' uncompressed tars.
    pub size: u64,
}

/// Why a configuration did not become an image.
#[derive(Debug, thiserror::Error)]
pub enum PutImageError {
    /// It is none.
    #[error(transparent)]
    Parse(#[from] ParseConfigError),
    /// A layer it names is not there.
    #[error("the image needs layer {0}, which is not in the store")]
    MissingLayer(DiffId),
    /// It could not be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An image that cannot be read although its row is there.
#[derive(Debug, thiserror::Error)]
#[error("read the configuration of image {id}")]
struct UnreadableImage {
    id: ImageId,
    #[source]
    source: ParseConfigError,
}

impl Store {
    /// Makes an image of a configuration whose layers are in the store.
    pub fn put_image(&self, config: &[u8]) -> Result<ImageId, PutImageError> {
        let layers = ImageConfig::parse(config)?.rootfs.diff_ids;
        let mut size = 0;
        for layer in &layers {
            size += self.layer_size(layer)?.ok_or(PutImageError::MissingLayer(*layer))?;
        }
        let id = ImageId(self.put_blob(config)?);
        let missing = self.db().write("record an image", |transaction| {
            for layer in &layers {
                if !touch_layer(transaction, layer)? {
                    return Ok(Some(*layer));
                }
            }
            // Collected between the two transactions: cannot happen within the grace period, but must not go unnoticed.
            if !touch_blob(transaction, &id.0)? {
                return Err(StoreError::Missing { what: format!("blob {id}") });
            }
            insert_image(transaction, &id, size, &layers).map_err(StoreError::sql("record an image"))?;
            Ok(None)
        })?;
        missing.map_or(Ok(id), |layer| Err(PutImageError::MissingLayer(layer)))
    }

    /// Returns the image, or `None` if it is not there.
    pub fn image(&self, id: &ImageId) -> Result<Option<Image>, StoreError> {
        let row = self.db().read("look up an image", |db| {
            let size: Option<i64> =
                db.prepare_cached("SELECT size FROM images WHERE image = ?1")?.query_row([id], |row| row.get(0)).optional()?;
            let Some(size) = size else { return Ok(None) };
            let mut statement = db.prepare_cached("SELECT diff_id FROM image_layers WHERE image = ?1 ORDER BY position")?;
            let layers: Vec<DiffId> = statement.query_map([id], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
            Ok(Some((size as u64, layers)))
        })?;
        let Some((size, layers)) = row else { return Ok(None) };
        let Some(config_bytes) = self.read_blob(&id.0)? else { return Ok(None) };
        let config = ImageConfig::parse(&config_bytes).map_err(|source| StoreError::Io {
            doing: "parse the configuration",
            path: self.inner.blob_path(&id.0),
            source: std::io::Error::other(UnreadableImage { id: *id, source }),
        })?;
        Ok(Some(Image { id: *id, config_bytes, config, layers, size }))
    }

    /// Returns all images.
    pub fn images(&self) -> Result<Vec<ImageId>, StoreError> {
        self.db().read("list images", |db| {
            db.prepare_cached("SELECT image FROM images ORDER BY image")?.query_map([], |row| row.get(0))?.collect()
        })
    }

    /// Gives an image a name, taking it from the image that had it.
    pub fn set_name(&self, name: &ImageRef, image: &ImageId) -> Result<(), StoreError> {
        self.db().write("set a name", |transaction| {
            touch_image(transaction, image)?;
            transaction
                .prepare_cached("INSERT OR REPLACE INTO names (name, image) VALUES (?1, ?2)")
                .and_then(|mut statement| statement.execute((name.to_string(), image)))
                .map_err(StoreError::sql("set a name"))
                .map(drop)
        })
    }

    /// Returns the image of this name.
    pub fn resolve_name(&self, name: &ImageRef) -> Result<Option<ImageId>, StoreError> {
        self.db().read("look up a name", |db| {
            db.prepare_cached("SELECT image FROM names WHERE name = ?1")?.query_row([name.to_string()], |row| row.get(0)).optional()
        })
    }

    /// Returns all names and their images, sorted by name.
    pub fn list_names(&self) -> Result<Vec<(ImageRef, ImageId)>, StoreError> {
        let rows: Vec<(String, ImageId)> = self.db().read("list names", |db| {
            let mut statement = db.prepare_cached("SELECT name, image FROM names ORDER BY name")?;
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })?;
        Ok(rows.into_iter().filter_map(|(name, image)| Some((name.parse().ok()?, image))).collect())
    }

    /// Takes a name away. False if there was none. The image goes when it is next collected, if nothing else refers to it.
    pub fn remove_name(&self, name: &ImageRef) -> Result<bool, StoreError> {
        self.db().write("remove a name", |transaction| {
            let changed = transaction.execute("DELETE FROM names WHERE name = ?1", [name.to_string()]);
            Ok(changed.map_err(StoreError::sql("remove a name"))? == 1)
        })
    }
}

fn insert_image(transaction: &Transaction<'_>, id: &ImageId, size: u64, layers: &[DiffId]) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO images (image, size, used_at) VALUES (?1, ?2, unixepoch()) ON CONFLICT DO UPDATE SET used_at = excluded.used_at",
        )?
        .execute((id, size as i64))?;
    let mut insert = transaction.prepare_cached("INSERT OR IGNORE INTO image_layers (image, position, diff_id) VALUES (?1, ?2, ?3)")?;
    for (position, layer) in layers.iter().enumerate() {
        insert.execute((id, position as i64, layer))?;
    }
    Ok(())
}

/// Marks the image as used now; an error if it is not there.
pub(crate) fn touch_image(transaction: &Transaction<'_>, image: &ImageId) -> Result<(), StoreError> {
    let changed = transaction
        .prepare_cached("UPDATE images SET used_at = unixepoch() WHERE image = ?1")
        .and_then(|mut statement| statement.execute([image]))
        .map_err(StoreError::sql("mark an image as used"))?;
    if changed == 1 { Ok(()) } else { Err(StoreError::Missing { what: format!("image {image}") }) }
}
