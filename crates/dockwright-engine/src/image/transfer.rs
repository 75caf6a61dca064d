//! Images between the engine's table and registries, through the engine host.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use dockwright_store::{ImageId, ImageRef};
use tokio::sync::mpsc;

use super::{
    Image, ImageTable, Listed,
    remove::{ImageUser, Removed},
    stand_in,
};
use crate::{
    broker::{Client, Credentials, HostFacts, Progress, Pushed},
    error::{EngineError, Result},
    event::{EventType, Events},
};

/// The images of an engine together with the way to get more. Everything about images goes through here.
#[derive(Debug)]
pub struct Images {
    table: ImageTable,
    broker: Client,
    events: Events,
    scratch: PathBuf,
}

/// An image that was asked for by name.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The image.
    pub image: Arc<Image>,
    /// Digest of its manifest, when it came from a registry.
    pub manifest: Option<dockwright_store::Digest>,
    /// The name meant another image, or none, before.
    pub is_new: bool,
}

impl Images {
    /// Makes the images of a new engine. `scratch` is a directory on disk for archives that are being read.
    pub fn new(broker: Client, facts: &HostFacts, events: Events, scratch: PathBuf) -> Result<Self> {
        Ok(Self { table: ImageTable::new(facts)?, broker, events, scratch })
    }

    /// Returns the table.
    pub fn table(&self) -> &ImageTable {
        &self.table
    }

    /// Returns the connection to the engine host.
    pub fn broker(&self) -> &Client {
        &self.broker
    }

    /// Returns the directory for archives that are being read.
    pub fn scratch(&self) -> &std::path::Path {
        &self.scratch
    }

    /// Pulls an image and gives it the name it was asked for by. The names of Docker in Docker give a stand-in.
    pub async fn pull(
        &self,
        name: &ImageRef,
        credentials: Option<Credentials>,
        platform: Option<String>,
        progress: mpsc::Sender<Progress>,
    ) -> Result<Pulled> {
        if !stand_in::is_dind(name) {
            return self.pull_real(name, credentials, platform, progress).await;
        }
        let before = self.named(name);
        let image = stand_in::add(&self.table, &self.broker, name).await?;
        self.emit("pull", name.familiar());
        Ok(Pulled { is_new: before != Some(image.id()), image, manifest: None })
    }

    /// As [`Images::pull`], without stand-ins: a build that begins with `FROM docker:dind` needs its files.
    pub async fn pull_real(
        &self,
        name: &ImageRef,
        credentials: Option<Credentials>,
        platform: Option<String>,
        progress: mpsc::Sender<Progress>,
    ) -> Result<Pulled> {
        let before = self.named(name);
        let record = self.broker.pull(&name.to_string(), credentials, platform, progress).await?;
        let manifest = record.manifest;
        let image = self.table.insert(record)?;
        if let Some(digest) = manifest {
            self.table.tag(image.id(), &name.with_digest(digest));
        }
        if name.tag().is_some() && name.digest().is_none() {
            self.table.tag(image.id(), name);
        }
        self.emit("pull", name.familiar());
        Ok(Pulled { is_new: before != Some(image.id()), image, manifest })
    }

    fn named(&self, name: &ImageRef) -> Option<ImageId> {
        self.table.find(&name.familiar()).ok().map(|image| image.id())
    }

    /// Pushes an image under a name that it has.
    pub async fn push(&self, name: &ImageRef, credentials: Option<Credentials>, progress: mpsc::Sender<Progress>) -> Result<Pushed> {
        let missing = |_| EngineError::not_found(format!("An image does not exist locally with the tag: {}", name.familiar_name()));
        let image = self.table.find(&name.familiar()).map_err(missing)?;
        let pushed = self.broker.push(image.id(), &name.to_string(), credentials, progress).await?;
        self.table.tag(image.id(), &name.with_digest(pushed.digest));
        self.emit("push", name.familiar());
        Ok(pushed)
    }

    /// Gives an image a further name.
    pub fn tag(&self, source: &str, name: &ImageRef) -> Result<()> {
        let image = self.table.find(source)?;
        self.tag_image(image.id(), name);
        Ok(())
    }

    /// Gives an image a name by its id.
    pub fn tag_image(&self, id: ImageId, name: &ImageRef) {
        self.table.tag(id, name);
        self.emit_about("tag", id.to_string(), name.familiar());
    }

    /// Removes a name, or an image with all its names.
    pub fn remove(&self, text: &str, force: bool, users: &[ImageUser]) -> Result<Vec<Removed>> {
        let removed = self.table.remove(text, force, users)?;
        self.emit_removed(&removed);
        Ok(removed)
    }

    /// Removes the images that `unwanted` picks and no container uses. Returns what was removed and the bytes of their layers.
    pub fn prune(&self, users: &[ImageUser], unwanted: impl Fn(&Listed) -> bool) -> (Vec<Removed>, u64) {
        let (removed, freed_bytes) = self.table.prune(users, unwanted);
        self.emit_removed(&removed);
        (removed, freed_bytes)
    }

    fn emit_removed(&self, removed: &[Removed]) {
        for one in removed {
            match one {
                Removed::Untagged(name) => self.emit("untag", name.clone()),
                Removed::Deleted(id) => self.emit("delete", id.clone()),
            }
        }
    }

    /// Records an event about an image known by name.
    pub(super) fn emit(&self, action: &str, name: String) {
        self.emit_about(action, name.clone(), name);
    }

    /// Records an event about an image known by id.
    pub(crate) fn emit_about(&self, action: &str, actor: String, name: String) {
        self.events.emit(EventType::Image, action, actor, BTreeMap::from([("name".to_owned(), name)]));
    }
}
