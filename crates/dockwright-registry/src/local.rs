//! Push and pull between an engine and the registry of the same host: links instead of bytes.
//!
//! Plain functions over the store. The caller has checked that the identity may push or pull, and that the engine may read the image.

use dockwright_store::{
    ApplyLayerError, CompressError, DiffId, Document, ImageConfig, ImageId, Manifest, ManifestReference, PutImageError, PutManifestError,
    Store, StoreError,
    config::ParseConfigError,
    digest::Digest,
    manifest::{Descriptor, ManifestError, Platform},
};

use crate::manifest;

/// What a push made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// The manifest.
    pub digest: Digest,
    /// The manifest's size.
    pub size: u64,
}

/// What a push within the store made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedLocally {
    /// The manifest.
    pub manifest: Pushed,
    /// Layers that the repository did not have yet, lowest first.
    pub added: Vec<DiffId>,
}

/// What a pull found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pulled {
    /// The image.
    pub image: ImageId,
    /// What the reference named: a manifest or an index.
    pub digest: Digest,
    /// Whether anything had to be fetched or unpacked.
    pub changed: bool,
}

/// Why an image was not pushed.
#[derive(Debug, thiserror::Error)]
pub enum PushLocalError {
    /// A layer cannot be compressed.
    #[error("compress a layer")]
    Compress(#[from] CompressError),
    /// The manifest was refused.
    #[error(transparent)]
    Manifest(#[from] PutManifestError),
    /// The store failed, or does not have the image.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why an image was not pulled.
#[derive(Debug, thiserror::Error)]
pub enum PullLocalError {
    /// What is stored is no image that runs here.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The configuration cannot be read.
    #[error(transparent)]
    Config(#[from] ParseConfigError),
    /// A layer cannot be unpacked.
    #[error("unpack a layer")]
    Layer(#[from] ApplyLayerError),
    /// Manifest and configuration do not fit together.
    #[error("the manifest has {layers} layers, but the image's configuration names {claimed}")]
    LayerCount {
        /// Layers of the manifest.
        layers: usize,
        /// Layers of the configuration.
        claimed: usize,
    },
    /// A layer is not the one the configuration names.
    #[error("layer {blob} is {actual}, but the image's configuration wants {claimed}")]
    WrongLayer {
        /// The compressed layer.
        blob: Digest,
        /// What it is.
        actual: DiffId,
        /// What it should be.
        claimed: DiffId,
    },
    /// The image could not be kept.
    #[error(transparent)]
    Image(#[from] PutImageError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes an image of the store available in a repository.
pub fn push_local(store: &Store, image: &ImageId, repository: &str, tag: &str) -> Result<PushedLocally, PushLocalError> {
    let missing = || StoreError::Missing { what: format!("image {image}") };
    let lease = store.lease();
    lease.hold_image(image)?;
    let found = store.image(image)?.ok_or_else(missing)?;
    let (mut layers, mut added) = (Vec::new(), Vec::new());
    for layer in &found.layers {
        let blob = store.compressed_layer(layer)?;
        if store.repository_blob(repository, &blob.digest)?.is_none() {
            added.push(*layer);
        }
        layers.push(blob);
    }
    let manifest = manifest::for_image(image, found.config_bytes.len() as u64, layers);
    for descriptor in manifest.layers.iter().chain([&manifest.config]) {
        if !store.link_blob(repository, &descriptor.digest)? {
            return Err(StoreError::Missing { what: format!("blob {}", descriptor.digest) }.into());
        }
    }
    let size = manifest.raw().len() as u64;
    let digest = store.put_manifest(repository, &Document::Manifest(manifest), &[tag.to_owned()])?;
    Ok(PushedLocally { manifest: Pushed { digest, size }, added })
}

/// Finds an image in a repository of the same store, unpacking layers that another host pushed. `None` if there is no such manifest.
///
/// Whoever may pull from the repository is given the layers that its *blobs* hold. What the configuration claims is checked against them,
/// even if the image and all its layers are in the store already: otherwise a configuration that names somebody else's layers, pushed with
/// harmless blobs, would give them away.
pub fn pull_local(store: &Store, repository: &str, reference: &ManifestReference) -> Result<Option<Pulled>, PullLocalError> {
    let Some(top) = document(store, repository, reference)? else { return Ok(None) };
    let digest = top.digest();
    let Some(manifest) = manifest_for_host(store, repository, top)? else { return Ok(None) };
    let image = ImageId(manifest.config.digest);
    let Some(config) = store.read_blob(&manifest.config.digest)? else { return Ok(None) };
    let claimed = ImageConfig::parse(&config)?.rootfs.diff_ids;
    if claimed.len() != manifest.layers.len() {
        return Err(PullLocalError::LayerCount { layers: manifest.layers.len(), claimed: claimed.len() });
    }
    for (layer, claimed) in manifest.layers.iter().zip(claimed) {
        let actual = unpack(store, layer)?;
        if actual != claimed {
            return Err(PullLocalError::WrongLayer { blob: layer.digest, actual, claimed });
        }
    }
    let changed = store.image(&image)?.is_none();
    if changed {
        store.put_image(&config)?;
    }
    Ok(Some(Pulled { image, digest, changed }))
}

/// Unpacks a layer unless that was done, and returns its identity.
fn unpack(store: &Store, layer: &Descriptor) -> Result<DiffId, PullLocalError> {
    match store.layer_of_blob(&layer.digest)? {
        Some(known) => Ok(known),
        None => Ok(store.apply_layer_blob(&layer.digest, &layer.media_type)?.diff_id),
    }
}

fn manifest_for_host(store: &Store, repository: &str, top: Document) -> Result<Option<Manifest>, PullLocalError> {
    match top {
        Document::Manifest(manifest) => Ok(Some(manifest)),
        Document::Index(index) => {
            let entry = index.for_platform(&Platform::host())?;
            match document(store, repository, &ManifestReference::Digest(entry.digest))? {
                Some(Document::Manifest(manifest)) => Ok(Some(manifest)),
                _ => Ok(None),
            }
        }
    }
}

fn document(store: &Store, repository: &str, reference: &ManifestReference) -> Result<Option<Document>, PullLocalError> {
    let Some(stored) = store.manifest(repository, reference)? else { return Ok(None) };
    let Some(raw) = store.read_blob(&stored.digest)? else { return Ok(None) };
    Ok(Some(Document::parse(raw, Some(&stored.media_type))?))
}
