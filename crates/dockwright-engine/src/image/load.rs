//! `docker load` and `docker import`: images out of archives.
//!
//! Both forms that `docker save` has had are read: a `manifest.json` with paths into the archive, and an OCI image layout. An archive of
//! today's Docker has both; the first is preferred because it names the images as users do.

use std::{collections::HashMap, fs::File, io};

use dockwright_store::{DiffId, Digest, Document, ImageConfig, ImageId, ImageRef, Manifest, manifest::Platform};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::{
    Images, parse_reference,
    spool::{Archive, Section, pump},
};
use crate::{
    broker::{Amount, LayerRecord, Progress, TarOrigin},
    error::{Context as _, EngineError, Result},
};

/// An image that came out of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loaded {
    /// The image.
    pub(crate) id: ImageId,
    /// The names it got.
    pub(crate) names: Vec<ImageRef>,
}

/// An image in an archive, before its layers are taken over.
#[derive(Debug)]
struct Packed {
    config: Section,
    layers: Vec<Section>,
    names: Vec<ImageRef>,
}

/// One image of a `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

/// Annotations that hold an image's name in a layout, the more telling first.
const NAME_ANNOTATIONS: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

impl Images {
    /// Takes over the images of a spooled archive.
    pub(crate) async fn load(&self, file: File, told: mpsc::Sender<Progress>) -> Result<Vec<Loaded>> {
        let (archive, packed) = tokio::task::spawn_blocking(move || read_archive(file)).await.context("read the archive")??;
        let mut loaded = Vec::new();
        for image in packed {
            loaded.push(self.load_image(&archive, image, &told).await?);
        }
        Ok(loaded)
    }

    async fn load_image(&self, archive: &Archive, packed: Packed, told: &mpsc::Sender<Progress>) -> Result<Loaded> {
        let text = String::from_utf8(archive.document(packed.config).context("read an image configuration")?);
        let text = text.map_err(|_| EngineError::invalid("an image configuration is not UTF-8"))?;
        let config = ImageConfig::parse(text.as_bytes()).map_err(|error| EngineError::invalid(crate::error::chain(&error)))?;
        let expected = &config.rootfs.diff_ids;
        if expected.len() != packed.layers.len() {
            let (layers, listed) = (packed.layers.len(), expected.len());
            return Err(EngineError::invalid(format!("invalid manifest, layers length mismatch: expected {listed}, got {layers}")));
        }
        for (number, (section, expected)) in packed.layers.iter().zip(expected).enumerate() {
            let layer = self.load_layer(archive, *section, expected, told).await?;
            if layer.diff_id != *expected {
                let found = layer.diff_id;
                return Err(EngineError::invalid(format!("invalid diffID for layer {number}: expected {expected:?}, got {found:?}")));
            }
        }
        let record = self.broker().put_image(text).await?;
        let image = self.table().insert(record)?;
        for name in &packed.names {
            self.tag_image(image.id(), name);
        }
        self.emit_about("load", image.id().to_string(), image.id().to_string());
        Ok(Loaded { id: image.id(), names: packed.names })
    }

    async fn load_layer(
        &self,
        archive: &Archive,
        section: Section,
        expected: &DiffId,
        told: &mpsc::Sender<Progress>,
    ) -> Result<LayerRecord> {
        let (told, id) = (told.clone(), expected.short());
        let total_bytes = Some(section.length);
        let progress = move |current_bytes| {
            let amount = Some(Amount { current_bytes, total_bytes });
            // For the eye only: a slow reader misses some.
            let _ = told.try_send(Progress { id: id.clone(), status: "Loading layer".to_owned(), amount });
        };
        self.commit_stream(archive.layer(section, progress).context("read a layer")?).await
    }

    /// Hands a layer's uncompressed tar to the host.
    pub(crate) async fn commit_stream(&self, tar: Box<dyn io::Read + Send>) -> Result<LayerRecord> {
        let (reader, thread) = pump(tar).context("start to read a layer")?;
        let committed = self.broker().commit_layer(reader, TarOrigin::Archive).await;
        let copied = tokio::task::spawn_blocking(move || thread.join()).await.context("read a layer")?;
        match (committed, copied) {
            // The host stopped reading, for the reason that it gives.
            (Err(error), _) => Err(error.into()),
            (Ok(_), Ok(Err(error))) => Err(EngineError::invalid(format!("read a layer: {error}"))),
            (Ok(_), Err(_)) => Err(EngineError::new(crate::error::ErrorKind::Internal, "the reader of a layer ended early")),
            (Ok(layer), Ok(Ok(()))) => Ok(layer),
        }
    }
}

fn read_archive(file: File) -> Result<(Archive, Vec<Packed>)> {
    let archive = Archive::index(file).map_err(|error| EngineError::invalid(format!("invalid archive: {error}")))?;
    let packed = if let Some(manifest) = archive.find("manifest.json") {
        read_saved(&archive, manifest)?
    } else if let Some(index) = archive.find("index.json") {
        read_layout(&archive, index)?
    } else {
        return Err(EngineError::invalid("invalid archive: does not contain a manifest.json"));
    };
    Ok((archive, packed))
}

fn read_saved(archive: &Archive, manifest: Section) -> Result<Vec<Packed>> {
    let bytes = archive.document(manifest).context("read manifest.json")?;
    let images: Vec<SavedImage> =
        serde_json::from_slice(&bytes).map_err(|error| EngineError::invalid(format!("invalid manifest.json in the archive: {error}")))?;
    let find = |path: &str| archive.find(path).ok_or_else(|| EngineError::invalid(format!("invalid archive: `{path}` is missing")));
    let packed = |image: SavedImage| {
        Ok(Packed {
            config: find(&image.config)?,
            layers: image.layers.unwrap_or_default().iter().map(|path| find(path)).collect::<Result<_>>()?,
            names: image.repo_tags.unwrap_or_default().iter().map(|name| parse_reference(name)).collect::<Result<_>>()?,
        })
    };
    images.into_iter().map(packed).collect()
}

fn read_layout(archive: &Archive, index: Section) -> Result<Vec<Packed>> {
    let bytes = archive.document(index).context("read index.json")?;
    let Document::Index(index) = parse_document(bytes)? else {
        return Err(EngineError::invalid("invalid archive: index.json lists no manifests"));
    };
    let mut packed: HashMap<Digest, Packed> = HashMap::new();
    let mut order = Vec::new();
    for descriptor in &index.manifests {
        let Some(manifest) = find_manifest(archive, descriptor.digest)? else { continue };
        let name = NAME_ANNOTATIONS.iter().find_map(|key| descriptor.annotations.get(*key)?.parse::<ImageRef>().ok());
        if let Some(known) = packed.get_mut(&descriptor.digest) {
            known.names.extend(name);
            continue;
        }
        let layers = manifest.layers.iter().map(|layer| blob(archive, layer.digest)).collect::<Result<_>>()?;
        let image = Packed { config: blob(archive, manifest.config.digest)?, layers, names: name.into_iter().collect() };
        packed.insert(descriptor.digest, image);
        order.push(descriptor.digest);
    }
    Ok(order.into_iter().filter_map(|digest| packed.remove(&digest)).collect())
}

fn blob(archive: &Archive, digest: Digest) -> Result<Section> {
    let missing = || EngineError::invalid(format!("invalid archive: blob {digest} is missing"));
    archive.find(&format!("blobs/sha256/{}", digest.hex())).ok_or_else(missing)
}

/// A layout's entry is a manifest, or an index of several platforms' manifests, of which this machine's is taken.
fn find_manifest(archive: &Archive, digest: Digest) -> Result<Option<Manifest>> {
    match read_document(archive, digest)? {
        Document::Manifest(manifest) => Ok(Some(manifest)),
        Document::Index(index) => {
            let host = Platform::host();
            let fitting = index.manifests.iter().find(|entry| entry.platform.as_ref().is_some_and(|platform| platform.runs_on(&host)));
            let Some(entry) = fitting else { return Ok(None) };
            match read_document(archive, entry.digest)? {
                Document::Manifest(manifest) => Ok(Some(manifest)),
                Document::Index(_) => Err(EngineError::invalid(format!("invalid archive: index {digest} lists another index"))),
            }
        }
    }
}

fn read_document(archive: &Archive, digest: Digest) -> Result<Document> {
    let bytes = archive.document(blob(archive, digest)?).context("read a manifest")?;
    parse_document(bytes)
}

fn parse_document(bytes: Vec<u8>) -> Result<Document> {
    Document::parse(bytes, None).map_err(|error| EngineError::invalid(format!("invalid archive: {}", crate::error::chain(&error))))
}
