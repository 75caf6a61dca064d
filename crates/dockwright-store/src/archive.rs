//! Images in files: what `docker save` writes and `docker load` reads, and OCI layouts.
//!
//! An archive names its parts before or after they come, so the parts are spooled to the store's temporary directory first. Names inside
//! are only ever compared with each other, never used as paths.

mod export;
mod spool;

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

use serde::Deserialize;

pub use export::{ExportError, ExportedImage, export};

use crate::{
    blob::CommitError,
    compression::{self, DecompressError},
    config::ImageConfig,
    config::ParseConfigError,
    digest::{DiffId, Digest, ImageId},
    image::PutImageError,
    layer::{ApplyLayerError, LayerOrigin},
    manifest::{Descriptor, Document, ManifestError, Platform},
    reference::{ImageRef, ParseImageRefError},
    store::{Store, StoreError},
};
use spool::Spool;

/// A document of an archive larger than this is refused.
const DOCUMENT_MAX_BYTES: u64 = 16 * 1024 * 1024;
/// An index may point to an index, but not endlessly.
const INDEX_DEPTH_MAX: usize = 4;
/// In which annotations tools put an image's name, the most precise first.
const NAME_ANNOTATIONS: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// An image that was read from an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedImage {
    /// The image.
    pub id: ImageId,
    /// The names the archive gives it.
    pub names: Vec<ImageRef>,
}

/// Why an archive was not read.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The stream is compressed in an unknown way.
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    /// The stream is no tar, or ends in the middle.
    #[error("read the archive")]
    Read(#[source] io::Error),
    /// It has neither of the two tables of contents.
    #[error("the archive has neither `manifest.json` nor `index.json`, so it is no saved image")]
    NoManifest,
    /// It refers to a part it does not have.
    #[error("the archive refers to `{0}`, which is not in it")]
    MissingPart(String),
    /// A document in it is too large to be one.
    #[error("`{0}` in the archive is larger than {DOCUMENT_MAX_BYTES} bytes")]
    TooLarge(String),
    /// A document in it cannot be understood.
    #[error("parse `{part}` in the archive")]
    Parse {
        /// The document.
        part: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A manifest in it cannot be understood.
    #[error("read a manifest of the archive")]
    Manifest(#[from] ManifestError),
    /// A configuration in it cannot be understood.
    #[error("read a configuration of the archive")]
    Config(#[from] ParseConfigError),
    /// A name in it is none.
    #[error("read an image name of the archive")]
    Name(#[from] ParseImageRefError),
    /// A layer is not the one the configuration names.
    #[error("layer `{part}` of the archive is {actual}, but the configuration wants {expected}")]
    WrongLayer {
        /// The layer's file.
        part: String,
        /// What it is.
        actual: DiffId,
        /// What it should be.
        expected: DiffId,
    },
    /// A part is not what its name says.
    #[error("take in a part of the archive")]
    Content(#[from] CommitError),
    /// A layer was refused.
    #[error("take in layer `{part}` of the archive")]
    Layer {
        /// The layer's file.
        part: String,
        /// Why.
        #[source]
        source: ApplyLayerError,
    },
    /// An image could not be kept.
    #[error(transparent)]
    Image(#[from] PutImageError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One image in `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Reads all images of an archive into the store. Names are returned, not set: whose they are is the caller's business.
pub fn import(store: &Store, reader: impl Read) -> Result<Vec<ImportedImage>, ImportError> {
    let archive = compression::decompress(reader)?;
    let spool = Spool::read(store, archive)?;
    if spool.has("manifest.json") {
        let saved: Vec<SavedImage> = spool.json("manifest.json")?;
        return saved.into_iter().map(|image| import_saved(store, &spool, image)).collect();
    }
    if !spool.has("index.json") {
        return Err(ImportError::NoManifest);
    }
    let mut found = BTreeMap::new();
    import_index(store, &spool, spool.document("index.json")?, None, 0, &mut found)?;
    Ok(found.into_iter().map(|(id, names)| ImportedImage { id, names }).collect())
}

fn import_saved(store: &Store, spool: &Spool, saved: SavedImage) -> Result<ImportedImage, ImportError> {
    let id = import_image(store, spool, &saved.config, &saved.layers)?;
    let names = saved.repo_tags.unwrap_or_default();
    let names = names.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
    Ok(ImportedImage { id, names })
}

fn import_image(store: &Store, spool: &Spool, config_part: &str, layer_parts: &[String]) -> Result<ImageId, ImportError> {
    let config_bytes = spool.document(config_part)?;
    let config = ImageConfig::parse(&config_bytes)?;
    for (index, part) in layer_parts.iter().enumerate() {
        let expected = config.rootfs.diff_ids.get(index).copied();
        if let Some(expected) = expected
            && store.has_layer(&expected)?
        {
            continue;
        }
        let failed = |source| ImportError::Layer { part: part.clone(), source };
        let actual = store.apply_layer(spool.open(part)?, LayerOrigin::Foreign).map_err(failed)?.diff_id;
        if let Some(expected) = expected.filter(|expected| *expected != actual) {
            return Err(ImportError::WrongLayer { part: part.clone(), actual, expected });
        }
    }
    Ok(store.put_image(&config_bytes)?)
}

/// Follows an OCI index to the images that run here. Attestations and images for other machines are passed over.
fn import_index(
    store: &Store,
    spool: &Spool,
    index: Vec<u8>,
    inherited_name: Option<&str>,
    depth: usize,
    found: &mut BTreeMap<ImageId, Vec<ImageRef>>,
) -> Result<(), ImportError> {
    let Document::Index(index) = Document::parse(index, Some(crate::manifest::media_type::OCI_INDEX))? else {
        return Err(ImportError::NoManifest);
    };
    let host = Platform::host();
    let wanted = |entry: &&Descriptor| entry.platform.as_ref().is_none_or(|platform| platform.runs_on(&host));
    for entry in index.manifests.iter().filter(wanted) {
        let name = NAME_ANNOTATIONS.iter().find_map(|key| entry.annotations.get(*key)).map(String::as_str).or(inherited_name);
        let part = blob_part(&entry.digest);
        let bytes = spool.document(&part)?;
        let actual = Digest::of(&bytes);
        if actual != entry.digest {
            return Err(CommitError::Mismatch { expected: entry.digest, actual }.into());
        }
        match Document::parse(bytes, Some(&entry.media_type))? {
            Document::Index(nested) if depth < INDEX_DEPTH_MAX => {
                import_index(store, spool, nested.raw().to_vec(), name, depth + 1, found)?;
            }
            Document::Index(_) => return Err(ImportError::TooLarge(part)),
            Document::Manifest(manifest) => {
                let layers: Vec<String> = manifest.layers.iter().map(|layer| blob_part(&layer.digest)).collect();
                let id = import_image(store, spool, &blob_part(&manifest.config.digest), &layers)?;
                let names = found.entry(id).or_default();
                // A bare `latest` or `1.0` is a tag without a repository: no name.
                names.extend(name.filter(|name| name.contains([':', '/'])).and_then(|name| name.parse().ok()));
            }
        }
    }
    Ok(())
}

fn blob_part(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

#[cfg(test)]
mod tests;
