//! Layers: change sets, extracted once and shared by every image that has them.
//!
//! A layer is keyed by the digest of its uncompressed tar and does not depend on what lies below it. Its directory is in overlayfs's
//! form. The bytes a registry wants are kept or made as follows:
//!
//! | The layer came | Its compressed form |
//! |---|---|
//! | from a registry | is the blob that was pulled |
//! | from an archive or import | is kept while it is extracted, because a foreign tar cannot be made again from the directory |
//! | from us ([`write_layer_tar`]) | is made from the directory when first asked for, and kept |

mod apply;
mod tree;
mod write;

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use rusqlite::{OptionalExtension, Transaction};

pub use apply::EntryError;
pub use write::{LayerTarOptions, LayerTarSummary, WriteLayerError, write_layer_tar};

use crate::{
    blob::{BlobWriter, CommitError},
    compression::{self, Compression, DecompressError},
    digest::{DiffId, Digest, Hashing},
    manifest::{Descriptor, media_type},
    store::{Store, StoreError, remove_all},
};

/// Who made a layer's tar, which decides whether its bytes must be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerOrigin {
    /// [`write_layer_tar`].
    Own,
    /// Anybody else.
    Foreign,
}

/// A layer that was taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedLayer {
    /// Its identity.
    pub diff_id: DiffId,
    /// The size of its uncompressed tar.
    pub size: u64,
    /// Its compressed form, if one was kept.
    pub blob: Option<Digest>,
    /// Entries and attributes that this machine does not let us make, such as device nodes without privilege.
    pub omitted: Vec<String>,
}

/// Why a layer was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum ApplyLayerError {
    /// The stream is compressed in an unknown way.
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    /// An entry is malicious, malformed or cannot be made here.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The stream fails, or is no tar.
    #[error("read the layer")]
    Read(#[source] io::Error),
    /// The compressed form could not be kept.
    #[error("keep the layer's compressed form")]
    Keep(#[source] io::Error),
    /// The layer could not be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a layer's bytes cannot be produced.
#[derive(Debug, thiserror::Error)]
pub enum CompressError {
    /// The directory no longer gives the bytes it was made from.
    #[error("layer {expected} cannot be made again from its directory: the result is {actual}")]
    NotReproducible {
        /// The layer.
        expected: DiffId,
        /// What came out.
        actual: DiffId,
    },
    /// The directory cannot be read.
    #[error("write layer {diff_id} as a tar")]
    Write {
        /// The layer.
        diff_id: DiffId,
        /// What went wrong.
        #[source]
        source: WriteLayerError,
    },
    /// The stored compressed form cannot be read or written.
    #[error("copy layer {diff_id}")]
    Copy {
        /// The layer.
        diff_id: DiffId,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// Another failure of the store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Takes in a layer from a tar stream, compressed or not.
    pub fn apply_layer(&self, tar: impl Read, origin: LayerOrigin) -> Result<AppliedLayer, ApplyLayerError> {
        let (compression, mut stream) = compression::sniff(tar)?;
        if origin == LayerOrigin::Own {
            let decoded = compression::decoder(compression, stream).map_err(ApplyLayerError::Read)?;
            let extracted = self.extract(decoded)?;
            return self.keep_layer(extracted, None);
        }
        let mut blob = self.blob_writer()?;
        let extracted = if compression == Compression::None {
            let mut encoder = compression::gzip(&mut blob);
            let extracted = self.extract(Tee { from: &mut stream, to: &mut encoder })?;
            encoder.try_finish().map_err(ApplyLayerError::Keep)?;
            drop(encoder);
            extracted
        } else {
            let mut tee = Tee { from: &mut stream, to: &mut blob };
            let extracted = self.extract(compression::decoder(compression, &mut tee).map_err(ApplyLayerError::Read)?)?;
            // The blob is the whole stream, including what lies after the compressed data.
            io::copy(&mut tee, &mut io::sink()).map_err(ApplyLayerError::Read)?;
            extracted
        };
        let media_type = if compression == Compression::Zstd { media_type::OCI_LAYER_ZSTD } else { media_type::OCI_LAYER_GZIP };
        let blob = commit_unverified(blob)?;
        self.keep_layer(extracted, Some((blob, media_type)))
    }

    /// Takes in a layer whose compressed form is a blob of this store.
    pub fn apply_layer_blob(&self, blob: &Digest, media_type: &str) -> Result<AppliedLayer, ApplyLayerError> {
        let missing = || StoreError::Missing { what: format!("blob {blob}") };
        let file = self.open_blob(blob)?.ok_or_else(missing)?;
        let (compression, stream) = compression::sniff(file)?;
        let extracted = self.extract(compression::decoder(compression, stream).map_err(ApplyLayerError::Read)?)?;
        self.keep_layer(extracted, Some((*blob, media_type)))
    }

    /// Returns the layer that a blob holds compressed, if that is known and the layer is there.
    pub fn layer_of_blob(&self, blob: &Digest) -> Result<Option<DiffId>, StoreError> {
        self.db().read("look up a compressed layer", |db| {
            db.prepare_cached("SELECT diff_id FROM layer_blobs JOIN layers USING (diff_id) WHERE blob = ?1 AND state = 0")?
                .query_row([blob], |row| row.get(0))
                .optional()
        })
    }

    /// Tells whether the layer is there.
    pub fn has_layer(&self, diff_id: &DiffId) -> Result<bool, StoreError> {
        Ok(self.layer_size(diff_id)?.is_some())
    }

    /// Returns the size of the layer's uncompressed tar, or `None` if it is not there.
    pub fn layer_size(&self, diff_id: &DiffId) -> Result<Option<u64>, StoreError> {
        let size = self.db().read("look up a layer", |db| {
            db.prepare_cached("SELECT size FROM layers WHERE diff_id = ?1 AND state = 0")?
                .query_row([diff_id], |row| row.get::<_, i64>(0))
                .optional()
        })?;
        Ok(size.map(|size| size as u64))
    }

    /// Returns the layer's directory, or `None` if it is not there. Whoever mounts it holds a lease on the layer.
    pub fn layer_dir(&self, diff_id: &DiffId) -> Result<Option<PathBuf>, StoreError> {
        Ok(self.has_layer(diff_id)?.then(|| self.inner.layer_path(diff_id).join("fs")))
    }

    /// Returns the layer's compressed form, making it if there is none.
    pub fn compressed_layer(&self, diff_id: &DiffId) -> Result<Descriptor, CompressError> {
        if let Some(descriptor) = self.existing_compressed_layer(diff_id)? {
            return Ok(descriptor);
        }
        let copy = |source| CompressError::Copy { diff_id: *diff_id, source };
        let mut blob = self.blob_writer()?;
        let mut encoder = compression::gzip(&mut blob);
        self.write_tar_of(diff_id, &mut encoder)?;
        encoder.try_finish().map_err(copy)?;
        drop(encoder);
        let size = blob.size();
        let digest = commit_unverified(blob)?;
        self.db()
            .write("record a compressed layer", |transaction| record_blob(transaction, diff_id, &digest, media_type::OCI_LAYER_GZIP))?;
        Ok(Descriptor::new(media_type::OCI_LAYER_GZIP, digest, size))
    }

    /// Returns the layer's compressed form if there is one already.
    pub fn existing_compressed_layer(&self, diff_id: &DiffId) -> Result<Option<Descriptor>, StoreError> {
        self.db().read("look up a compressed layer", |db| {
            db.prepare_cached(
                "SELECT media_type, blob, size FROM layer_blobs JOIN blobs ON digest = blob WHERE diff_id = ?1 AND state = 0 LIMIT 1",
            )?
            .query_row([diff_id], |row| Ok(Descriptor::new(&row.get::<_, String>(0)?, row.get(1)?, row.get::<_, i64>(2)? as u64)))
            .optional()
        })
    }

    /// Writes the layer's uncompressed tar, byte for byte as its identity says, and returns its size.
    pub fn copy_layer_tar(&self, diff_id: &DiffId, out: &mut dyn Write) -> Result<u64, CompressError> {
        let Some(descriptor) = self.existing_compressed_layer(diff_id)? else { return self.write_tar_of(diff_id, out) };
        let copy = |source| CompressError::Copy { diff_id: *diff_id, source };
        let missing = || StoreError::Missing { what: format!("blob {}", descriptor.digest) };
        let file = self.open_blob(&descriptor.digest)?.ok_or_else(missing)?;
        let (compression, stream) = compression::sniff(file).map_err(|error| copy(io::Error::other(error)))?;
        let mut stream = compression::decoder(compression, stream).map_err(copy)?;
        io::copy(&mut stream, out).map_err(copy)
    }

    /// Makes the tar again from the directory and checks that it is the same.
    fn write_tar_of(&self, diff_id: &DiffId, out: &mut dyn Write) -> Result<u64, CompressError> {
        let missing = || StoreError::Missing { what: format!("layer {diff_id}") };
        let path = self.layer_dir(diff_id)?.ok_or_else(missing)?;
        let dir = File::open(&path).map_err(StoreError::io("open the layer", &path))?;
        let mut out = io::BufWriter::with_capacity(1 << 16, Hashing::new(out));
        let written = write_layer_tar(dir.as_fd(), &LayerTarOptions::default(), &mut out);
        written.map_err(|source| CompressError::Write { diff_id: *diff_id, source })?;
        let hashing = out.into_inner().map_err(|error| CompressError::Copy { diff_id: *diff_id, source: error.into_error() })?;
        let (_, actual, size) = hashing.finish();
        if actual != diff_id.0 {
            return Err(CompressError::NotReproducible { expected: *diff_id, actual: DiffId(actual) });
        }
        Ok(size)
    }

    /// Extracts an uncompressed tar into a directory of its own, synced but not visible.
    fn extract(&self, tar: impl Read) -> Result<Extracted, ApplyLayerError> {
        let dir = TempLayer::create(self)?;
        let mut hashing = Hashing::new(tar);
        let omitted = apply::extract(&dir.fs(), &mut hashing, &|name| self.inner.step(name))?;
        io::copy(&mut hashing, &mut io::sink()).map_err(ApplyLayerError::Read)?;
        let (_, digest, size) = hashing.finish();
        Ok(Extracted { dir, diff_id: DiffId(digest), size, omitted })
    }

    fn keep_layer(&self, extracted: Extracted, blob: Option<(Digest, &str)>) -> Result<AppliedLayer, ApplyLayerError> {
        let Extracted { dir, diff_id, size, omitted } = extracted;
        self.db().write("record a layer", |transaction| {
            if !touch_layer(transaction, &diff_id)? {
                self.inner.place(&dir.path, &self.inner.layer_path(&diff_id))?;
                self.inner.step("insert a layer row").map_err(StoreError::io("record", &dir.path))?;
                insert_layer(transaction, &diff_id, size)?;
            }
            if let Some((digest, media_type)) = &blob {
                record_blob(transaction, &diff_id, digest, media_type)?;
            }
            Ok(())
        })?;
        Ok(AppliedLayer { diff_id, size, blob: blob.map(|(digest, _)| digest), omitted })
    }
}

/// Marks the layer as used now. False if it is not there.
pub(crate) fn touch_layer(transaction: &Transaction<'_>, diff_id: &DiffId) -> Result<bool, StoreError> {
    let changed = transaction
        .prepare_cached("UPDATE layers SET used_at = unixepoch() WHERE diff_id = ?1 AND state = 0")
        .and_then(|mut statement| statement.execute([diff_id]))
        .map_err(StoreError::sql("mark a layer as used"))?;
    Ok(changed == 1)
}

fn insert_layer(transaction: &Transaction<'_>, diff_id: &DiffId, size: u64) -> Result<(), StoreError> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO layers (diff_id, size, state, used_at) VALUES (?1, ?2, 0, unixepoch())")
        .and_then(|mut statement| statement.execute((diff_id, size as i64)))
        .map_err(StoreError::sql("record a layer"))
        .map(drop)
}

fn record_blob(transaction: &Transaction<'_>, diff_id: &DiffId, blob: &Digest, media_type: &str) -> Result<(), StoreError> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO layer_blobs (diff_id, blob, media_type) VALUES (?1, ?2, ?3)")
        .and_then(|mut statement| statement.execute((diff_id, blob, media_type)))
        .map_err(StoreError::sql("record a compressed layer"))
        .map(drop)
}

fn commit_unverified(blob: BlobWriter) -> Result<Digest, StoreError> {
    match blob.commit(None) {
        Ok(digest) => Ok(digest),
        Err(CommitError::Store(error)) => Err(error),
        Err(CommitError::Mismatch { .. }) => unreachable!("no digest was expected"),
    }
}

struct Extracted {
    dir: TempLayer,
    diff_id: DiffId,
    size: u64,
    omitted: Vec<String>,
}

/// A layer directory that is not in place yet; removed on drop unless it was renamed away.
struct TempLayer {
    path: PathBuf,
}

impl TempLayer {
    fn create(store: &Store) -> Result<Self, StoreError> {
        let path = store.inner.temp_path("layer");
        let made = store.inner.step("make a layer directory").and_then(|()| fs::create_dir_all(path.join("fs")));
        made.map_err(StoreError::io("make the directory", &path))?;
        let dir = Self { path };
        // Independent of the umask: this becomes the mode of `/` in containers.
        fs::set_permissions(dir.fs(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .map_err(StoreError::io("set the mode of", dir.fs()))?;
        Ok(dir)
    }

    fn fs(&self) -> PathBuf {
        self.path.join("fs")
    }
}

impl Drop for TempLayer {
    fn drop(&mut self) {
        // The next one to open the store removes what cannot be removed now.
        let _ = remove_all(Path::new(&self.path));
    }
}

/// Copies what is read from one stream to another.
struct Tee<R, W> {
    from: R,
    to: W,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.to.write_all(&buffer[..read])?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
