//! The images of one engine: a table of configurations and names.
//!
//! Names belong to the engine: a new one starts empty, as a new Docker does. What the names point at (layers, configurations) belongs
//! to the engine host, so that pulling what another job pulled costs a question rather than a download.
//!
//! ```text
//! name:tag ──┐
//! name@sha256:… ─┴─► image (id = digest of its configuration) ─► layers
//! ```
//!
//! An image without names is *dangling*, unless it is an intermediate result of a build, which is shown only on request.

pub(crate) mod load;
pub mod remove;
pub(crate) mod save;
pub(crate) mod spool;
pub mod stand_in;
pub mod transfer;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use dockwright_store::{DiffId, Digest, ImageConfig, ImageId, ImageRef, reference::ParseImageRefError};
use jiff::Timestamp;

use crate::{
    broker::{HostFacts, ImageRecord, LayerRecord},
    error::{EngineError, Result},
};

pub use transfer::{Images, Pulled};

/// An image: what the host told about it, with its configuration read.
#[derive(Debug, Clone)]
pub struct Image {
    record: ImageRecord,
    config: ImageConfig,
    raw: serde_json::Value,
    stand_in: bool,
}

impl Image {
    /// Reads an image's configuration.
    pub fn new(record: ImageRecord) -> Result<Self> {
        let unreadable =
            |error: &dyn std::fmt::Display| EngineError::invalid(format!("read the configuration of image {}: {error}", record.id));
        let config = ImageConfig::parse(record.config.as_bytes()).map_err(|error| unreadable(&error))?;
        let raw = serde_json::from_str(&record.config).map_err(|error| unreadable(&error))?;
        Ok(Self { record, config, raw, stand_in: false })
    }

    /// Returns the digest of the configuration.
    pub fn id(&self) -> ImageId {
        self.record.id
    }

    /// Returns the configuration.
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// Returns the configuration's bytes, whose digest is the id.
    pub fn config_text(&self) -> &str {
        &self.record.config
    }

    /// Returns the configuration with everything that an unknown tool wrote into it.
    pub fn raw_config(&self) -> &serde_json::Value {
        &self.raw
    }

    /// Returns the layers with their sizes, lowest first.
    pub fn layers(&self) -> &[LayerRecord] {
        &self.record.layers
    }

    /// Returns the layers' identities, lowest first.
    pub fn diff_ids(&self) -> Vec<DiffId> {
        self.record.layers.iter().map(|layer| layer.diff_id).collect()
    }

    /// Returns the sum of the layers' sizes.
    pub fn size_bytes(&self) -> u64 {
        self.record.layers.iter().map(|layer| layer.size_bytes).sum()
    }

    /// Whether the engine itself stands in for this image, which is one of Docker in Docker.
    pub fn is_stand_in(&self) -> bool {
        self.stand_in
    }

    /// Returns the time in the configuration; images without one, or with one that is no time, are from 1970.
    pub fn created(&self) -> Timestamp {
        self.config.created.as_deref().and_then(|text| text.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// An image with what the table knows about it.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The image.
    pub image: Arc<Image>,
    /// `name:tag`, in the short form that Docker shows.
    pub tags: Vec<String>,
    /// `name@sha256:…`, in the short form.
    pub digests: Vec<String>,
    /// When a name was last given to it.
    pub tagged: Option<Timestamp>,
    /// A result of a build step which is not the end of a build.
    pub intermediate: bool,
}

impl Listed {
    /// Whether it is nobody's: no name, and no step of a build.
    pub fn is_dangling(&self) -> bool {
        self.tags.is_empty() && self.digests.is_empty() && !self.intermediate
    }
}

/// The images of one engine.
#[derive(Debug, Default)]
pub struct ImageTable {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    images: HashMap<ImageId, Entry>,
    /// By full reference: a name with a tag, or a name with a digest.
    names: BTreeMap<ImageRef, ImageId>,
}

#[derive(Debug)]
struct Entry {
    image: Arc<Image>,
    tagged: Option<Timestamp>,
    intermediate: bool,
    /// Not the user's: found by name, but in no list, and kept by `prune`.
    hidden: bool,
}

/// Shortest prefix of an id that is taken for one.
const ID_PREFIX_MIN_DIGITS: usize = 1;

impl ImageTable {
    /// Makes a table with the images that the host grants to every engine. They are found by name but not listed: a new engine's list
    /// is empty, as a new Docker's.
    pub fn new(facts: &HostFacts) -> Result<Self> {
        let table = Self::default();
        for (record, name) in facts.granted_images.iter().zip(&facts.granted_names) {
            let image = table.insert(record.clone())?;
            table.tag(image.id(), &parse_reference(name)?);
            table.hide(image.id());
        }
        Ok(table)
    }

    /// Adds an image. One that is there stays as it is, except that it is no longer only a build's intermediate result.
    pub fn insert(&self, record: ImageRecord) -> Result<Arc<Image>> {
        self.insert_as(record, false)
    }

    /// Adds the result of a build step; hidden from lists until it is [kept](Self::keep) or named.
    pub fn insert_intermediate(&self, record: ImageRecord) -> Result<Arc<Image>> {
        self.insert_as(record, true)
    }

    fn insert_as(&self, record: ImageRecord, intermediate: bool) -> Result<Arc<Image>> {
        self.insert_image(Image::new(record)?, intermediate)
    }

    fn insert_image(&self, image: Image, intermediate: bool) -> Result<Arc<Image>> {
        let mut state = self.state();
        let fresh = || Entry { image: Arc::new(image.clone()), tagged: None, intermediate, hidden: false };
        let entry = state.images.entry(image.id()).or_insert_with(fresh);
        entry.intermediate &= intermediate;
        Ok(Arc::clone(&entry.image))
    }

    /// Makes a build's result visible though it may have no name.
    pub fn keep(&self, id: ImageId) {
        if let Some(entry) = self.state().images.get_mut(&id) {
            entry.intermediate = false;
        }
    }

    fn hide(&self, id: ImageId) {
        if let Some(entry) = self.state().images.get_mut(&id) {
            entry.hidden = true;
        }
    }

    /// Gives an image a name, taking it away from the image that had it.
    pub fn tag(&self, id: ImageId, name: &ImageRef) {
        let mut state = self.state();
        state.names.insert(name.clone(), id);
        if let Some(entry) = state.images.get_mut(&id) {
            entry.tagged = Some(Timestamp::now());
            entry.intermediate = false;
        }
    }

    /// Finds an image by name, by id, or by a prefix of its id. The error is the one that makes `docker run` pull.
    pub fn find(&self, name: &str) -> Result<Arc<Image>> {
        let state = self.state();
        let (id, _) = state.resolve(name)?;
        Ok(Arc::clone(&state.images[&id].image))
    }

    /// Returns an image with its names.
    pub fn describe(&self, name: &str) -> Result<Listed> {
        let state = self.state();
        let (id, _) = state.resolve(name)?;
        Ok(state.listed(&state.images[&id]))
    }

    /// Returns all images of the engine's user, newest first.
    pub fn list(&self) -> Vec<Listed> {
        let mut listed = self.state().all_listed();
        listed.sort_by_key(|listed| (std::cmp::Reverse(listed.image.created()), listed.image.id()));
        listed
    }

    /// Returns the number of images that are shown without being asked for.
    pub fn count(&self) -> usize {
        self.state().images.values().filter(|entry| !entry.intermediate && !entry.hidden).count()
    }

    /// The state is changed in single steps, so a panic elsewhere does not spoil it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns the image that a text means, and the name if it was one.
    fn resolve(&self, text: &str) -> Result<(ImageId, Option<ImageRef>)> {
        let missing = || EngineError::not_found(format!("No such image: {}", shown(text)));
        if let Ok(id) = text.parse::<ImageId>() {
            return if self.images.contains_key(&id) { Ok((id, None)) } else { Err(missing()) };
        }
        match text.parse::<ImageRef>() {
            Ok(name) => {
                if let Some(id) = self.by_name(&name) {
                    return Ok((id, Some(name)));
                }
            }
            Err(_) if Digest::from_hex(text).is_ok() => {}
            Err(error @ ParseImageRefError::Uppercase(_)) => return Err(EngineError::invalid(error.to_string())),
            Err(_) => return Err(EngineError::invalid("invalid reference format")),
        }
        self.by_id_prefix(text)?.map(|id| (id, None)).ok_or_else(missing)
    }

    fn by_name(&self, name: &ImageRef) -> Option<ImageId> {
        // With a digest the tag says nothing: `busybox:latest@sha256:…` is what has that digest.
        let key = match name.digest() {
            Some(digest) => name.with_digest(*digest),
            None => name.clone(),
        };
        self.names.get(&key).copied().or_else(|| {
            let id = ImageId(*name.digest()?);
            let same_repository = |known: &ImageRef| known.name() == name.name();
            let named = self.names.iter().any(|(known, owner)| *owner == id && same_repository(known));
            named.then_some(id)
        })
    }

    fn by_id_prefix(&self, text: &str) -> Result<Option<ImageId>> {
        let prefix = text.strip_prefix("sha256:").unwrap_or(text);
        let is_hex = prefix.len() >= ID_PREFIX_MIN_DIGITS && prefix.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_hex {
            return Ok(None);
        }
        let mut matching = self.images.keys().filter(|id| id.hex().starts_with(prefix));
        match (matching.next(), matching.next()) {
            (Some(_), Some(_)) => Err(EngineError::invalid(format!("multiple IDs found with provided prefix: {prefix}"))),
            (found, _) => Ok(found.copied()),
        }
    }

    fn all_listed(&self) -> Vec<Listed> {
        self.images.values().filter(|entry| !entry.hidden).map(|entry| self.listed(entry)).collect()
    }

    fn names_of(&self, id: ImageId) -> impl Iterator<Item = &ImageRef> {
        self.names.iter().filter(move |(_, owner)| **owner == id).map(|(name, _)| name)
    }

    fn listed(&self, entry: &Entry) -> Listed {
        let id = entry.image.id();
        let (digests, tags): (Vec<_>, Vec<_>) = self.names_of(id).partition(|name| name.digest().is_some());
        let familiar = |names: Vec<&ImageRef>| names.into_iter().map(ImageRef::familiar).collect();
        Listed {
            image: Arc::clone(&entry.image),
            tags: familiar(tags),
            digests: familiar(digests),
            tagged: entry.tagged,
            intermediate: entry.intermediate,
        }
    }
}

/// A missing image is named as Docker does: with its tag, without the default host.
fn shown(text: &str) -> String {
    text.parse::<ImageRef>().map_or_else(|_| text.to_owned(), |name| name.familiar())
}

/// Reads a name that a client sent; the error begins as Docker's does.
pub fn parse_reference(text: &str) -> Result<ImageRef> {
    text.parse().map_err(|error: dockwright_store::reference::ParseImageRefError| EngineError::invalid(error.to_string()))
}

#[cfg(test)]
mod tests;
