//! Writing images as `docker save` of version 20 does, which every tool reads.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read, Write},
};

use serde::Serialize;

use crate::{
    digest::{DiffId, ImageId},
    image::Image,
    layer::CompressError,
    reference::ImageRef,
    store::{Store, StoreError},
};

/// An image to be written, and the names to give it.
#[derive(Debug, Clone)]
pub struct ExportedImage {
    /// The image.
    pub id: ImageId,
    /// The names.
    pub names: Vec<ImageRef>,
}

/// Why images were not written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The receiver failed.
    #[error("write the archive")]
    Write(#[from] io::Error),
    /// A layer's bytes could not be had.
    #[error(transparent)]
    Layer(#[from] CompressError),
    /// The store failed, or does not have the image.
    #[error(transparent)]
    Store(#[from] StoreError),
}

const BLOCK_BYTES: u64 = 512;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Writes images and their layers, each layer once.
pub fn export(store: &Store, images: &[ExportedImage], writer: impl Write) -> Result<(), ExportError> {
    let lease = store.lease();
    let mut archive = tar::Builder::new(writer);
    let mut saved = Vec::new();
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut written = BTreeSet::new();
    for exported in images {
        let missing = || StoreError::Missing { what: format!("image {}", exported.id) };
        lease.hold_image(&exported.id)?;
        let image = store.image(&exported.id)?.ok_or_else(missing)?;
        for layer in &image.layers {
            if written.insert(*layer) {
                write_layer(store, &mut archive, layer)?;
            }
        }
        let config = format!("{}.json", image.id.hex());
        append(&mut archive, &config, &image.config_bytes)?;
        for name in &exported.names {
            let top = image.layers.last().map(|layer| layer.hex()).unwrap_or_default();
            let tag = name.tag().unwrap_or("latest").to_owned();
            repositories.entry(name.familiar_name()).or_default().insert(tag, top);
        }
        saved.push(describe(config, &image, exported));
    }
    append(&mut archive, "manifest.json", &serde_json::to_vec(&saved).expect("plain data is valid JSON"))?;
    append(&mut archive, "repositories", &serde_json::to_vec(&repositories).expect("plain data is valid JSON"))?;
    archive.into_inner()?.flush()?;
    Ok(())
}

fn describe(config: String, image: &Image, exported: &ExportedImage) -> SavedImage {
    let names: Vec<String> = exported.names.iter().map(ImageRef::familiar).collect();
    SavedImage {
        config,
        repo_tags: (!names.is_empty()).then_some(names),
        layers: image.layers.iter().map(|layer| format!("{}/layer.tar", layer.hex())).collect(),
    }
}

/// A layer's bytes come from a writer, so its entry is put together by hand.
fn write_layer<W: Write>(store: &Store, archive: &mut tar::Builder<W>, layer: &DiffId) -> Result<(), ExportError> {
    let missing = || StoreError::Missing { what: format!("layer {layer}") };
    let size = store.layer_size(layer)?.ok_or_else(missing)?;
    let out = archive.get_mut();
    out.write_all(header(&format!("{}/layer.tar", layer.hex()), size)?.as_bytes())?;
    store.copy_layer_tar(layer, out)?;
    let padding = size.next_multiple_of(BLOCK_BYTES) - size;
    io::copy(&mut io::repeat(0).take(padding), out)?;
    Ok(())
}

fn append<W: Write>(archive: &mut tar::Builder<W>, name: &str, content: &[u8]) -> Result<(), ExportError> {
    Ok(archive.append(&header(name, content.len() as u64)?, content)?)
}

fn header(name: &str, size: u64) -> io::Result<tar::Header> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name)?;
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_cksum();
    Ok(header)
}
