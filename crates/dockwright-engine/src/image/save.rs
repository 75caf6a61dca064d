//! `docker save`: images as one archive that both `docker load` and readers of OCI image layouts understand.
//!
//! ```text
//! blobs/sha256/<hex>   layers (uncompressed), configurations, manifests
//! index.json           OCI: the manifests with their names
//! manifest.json        Docker: configurations, layers and names as paths into the archive
//! oci-layout           OCI: the version
//! repositories         Docker of old: names
//! ```
//!
//! Times and owners are fixed, so that the same images give the same bytes.

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io::{self, Write},
    os::fd::OwnedFd,
    path::PathBuf,
    sync::Arc,
};

use dockwright_store::{
    Descriptor, DiffId, Digest, ImageRef, Manifest,
    manifest::{Family, media_type},
};
use serde_json::json;
use tokio::runtime::Handle;

use super::{Image, Images};
use crate::{
    broker::Client,
    error::{Context as _, EngineError, Result},
};

/// An image to save, with the names it shall have in the archive.
#[derive(Debug, Clone)]
pub(crate) struct Chosen {
    pub(crate) image: Arc<Image>,
    pub(crate) names: Vec<ImageRef>,
}

impl Images {
    /// Finds the images to save. One that was asked for by id has no name in the archive.
    pub(crate) fn choose(&self, names: &[String]) -> Result<Vec<Chosen>> {
        let mut chosen: Vec<Chosen> = Vec::new();
        for text in names {
            let image = self.table().find(text)?;
            if image.is_stand_in() {
                let message = format!("image {text} cannot be saved: it stands in for Docker in Docker and has no files");
                return Err(EngineError::invalid(message));
            }
            let named = self.table().describe(text)?.tags.into_iter().filter_map(|tag| tag.parse::<ImageRef>().ok());
            let asked_for = text.parse::<ImageRef>().ok();
            let name = named.into_iter().find(|name| Some(name) == asked_for.as_ref());
            match chosen.iter_mut().find(|known| known.image.id() == image.id()) {
                Some(known) => known.names.extend(name),
                None => chosen.push(Chosen { image, names: name.into_iter().collect() }),
            }
        }
        Ok(chosen)
    }
}

/// Writes an archive. Blocks; call it on a thread that may.
pub(crate) fn write_archive(chosen: &[Chosen], broker: &Client, runtime: &Handle, scratch: PathBuf, to: impl Write) -> Result<()> {
    let mut writer = Writer { broker, runtime, scratch, archive: tar::Builder::new(to), written: HashSet::new() };
    writer.directory("blobs/").context("write the archive")?;
    writer.directory("blobs/sha256/").context("write the archive")?;
    let mut index = Vec::new();
    let mut saved = Vec::new();
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for one in chosen {
        let manifest = writer.image(&one.image)?;
        index.extend(index_entries(&manifest, &one.names));
        saved.push(saved_image(one));
        for name in &one.names {
            let top = one.image.layers().last().map(|layer| layer.diff_id.hex()).unwrap_or_default();
            repositories.entry(name.familiar_name()).or_default().insert(name.tag().unwrap_or_default().to_owned(), top);
        }
    }
    let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": index});
    writer.file("index.json", index.to_string().as_bytes()).context("write the archive")?;
    writer.file("manifest.json", json!(saved).to_string().as_bytes()).context("write the archive")?;
    writer.file("oci-layout", br#"{"imageLayoutVersion": "1.0.0"}"#).context("write the archive")?;
    writer.file("repositories", json!(repositories).to_string().as_bytes()).context("write the archive")?;
    writer.archive.into_inner().and_then(|mut to| to.flush()).context("write the archive")
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn saved_image(chosen: &Chosen) -> serde_json::Value {
    let names: Vec<String> = chosen.names.iter().map(ImageRef::familiar).collect();
    let layers: Vec<String> = chosen.image.layers().iter().map(|layer| blob_path(&layer.diff_id.0)).collect();
    json!({"Config": blob_path(&chosen.image.id().0), "RepoTags": (!names.is_empty()).then_some(names), "Layers": layers})
}

/// One entry per name, or one without.
fn index_entries(manifest: &Manifest, names: &[ImageRef]) -> Vec<serde_json::Value> {
    let entry = json!({"mediaType": manifest.media_type(), "digest": manifest.digest(), "size": manifest.raw().len()});
    let named = |name: &ImageRef| {
        let mut entry = entry.clone();
        let tag = name.tag().unwrap_or_default();
        entry["annotations"] = json!({"io.containerd.image.name": name.to_string(), "org.opencontainers.image.ref.name": tag});
        entry
    };
    if names.is_empty() { vec![entry] } else { names.iter().map(named).collect() }
}

struct Writer<'a, W: Write> {
    broker: &'a Client,
    runtime: &'a Handle,
    scratch: PathBuf,
    archive: tar::Builder<W>,
    /// Layers are often shared.
    written: HashSet<Digest>,
}

impl<W: Write> Writer<'_, W> {
    fn image(&mut self, image: &Image) -> Result<Manifest> {
        let mut layers = Vec::new();
        for layer in image.layers() {
            let size_bytes = self.layer(layer.diff_id)?;
            layers.push(Descriptor::new(media_type::OCI_LAYER, layer.diff_id.0, size_bytes));
        }
        let config = image.config_text().as_bytes();
        self.blob(image.id().0, config)?;
        let config = Descriptor::new(media_type::OCI_CONFIG, image.id().0, config.len() as u64);
        let manifest = Manifest::build(Family::Oci, config, layers);
        self.blob(manifest.digest(), manifest.raw())?;
        Ok(manifest)
    }

    /// The archive needs the length before the content, so a layer goes through a file.
    fn layer(&mut self, diff_id: DiffId) -> Result<u64> {
        let mut file = self.receive(diff_id).context("receive a layer from the engine host")?;
        let length = file.metadata().context("receive a layer from the engine host")?.len();
        if self.written.insert(diff_id.0) {
            let mut header = header(length, tar::EntryType::Regular);
            io::Seek::rewind(&mut file).context("read a layer")?;
            self.archive.append_data(&mut header, blob_path(&diff_id.0), file).context("write the archive")?;
        }
        Ok(length)
    }

    fn receive(&self, diff_id: DiffId) -> io::Result<File> {
        std::fs::create_dir_all(&self.scratch)?;
        let mut file = tempfile::tempfile_in(&self.scratch)?;
        let (mut reader, writer) = io::pipe()?;
        let broker = self.broker.clone();
        let sent = self.runtime.spawn(async move { broker.read_layer(diff_id, OwnedFd::from(writer)).await });
        io::copy(&mut reader, &mut file)?;
        self.runtime.block_on(sent).map_err(io::Error::other)?.map_err(io::Error::other)?;
        Ok(file)
    }

    fn blob(&mut self, digest: Digest, bytes: &[u8]) -> Result<()> {
        if !self.written.insert(digest) {
            return Ok(());
        }
        self.file(&blob_path(&digest), bytes).context("write the archive")
    }

    fn file(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.archive.append_data(&mut header(bytes.len() as u64, tar::EntryType::Regular), path, bytes)
    }

    fn directory(&mut self, path: &str) -> io::Result<()> {
        self.archive.append_data(&mut header(0, tar::EntryType::Directory), path, io::empty())
    }
}

fn header(size: u64, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(if kind == tar::EntryType::Directory { 0o755 } else { 0o644 });
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}
