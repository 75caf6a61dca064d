//! What a build needs, given by the engine: images through the host, directories and processes through the sandbox.
//!
//! The solver is synchronous and runs on a thread of its own; what is asynchronous here is waited for on that thread.

mod fetch;
mod run;
mod step;

use std::{
    collections::HashSet,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use dockwright_build::{
    backend::{BackendError, BaseImage, BuildBackend, BuildStep, Fetched, PullPolicy, PullProgress, ResolveImageError},
    cache::{CacheKey, CacheRecord},
};
use dockwright_container::process::OverlaySpec;
use dockwright_store::{DiffId, Digest, ImageConfig, ImageId, ImageRef};
use tokio::runtime::Handle;

use crate::{
    Engine,
    broker::{Credentials, Progress, progress_channel},
    error::{EngineError, ErrorKind},
    id,
    image::{Image, parse_reference},
};

use self::step::Step;

/// The engine as one build sees it.
pub(crate) struct EngineBackend {
    engine: Engine,
    runtime: Handle,
    /// What the client sent along for registries.
    credentials: Vec<Credentials>,
    opened: Mutex<Vec<Overlay>>,
    /// Images that are known to be in the table, so that a cached build need not ask the host about each of its steps again.
    kept: Mutex<HashSet<ImageId>>,
}

/// A mounted overlay and its directory; unmounted and removed when dropped.
struct Overlay {
    engine: Engine,
    id: String,
    dir: PathBuf,
}

impl EngineBackend {
    /// Makes the backend of one build. Call it within a Tokio runtime.
    pub(crate) fn new(engine: Engine, credentials: Vec<Credentials>) -> Self {
        Self { engine, runtime: Handle::current(), credentials, opened: Mutex::default(), kept: Mutex::default() }
    }

    fn find(&self, reference: &str) -> Option<Arc<Image>> {
        self.engine.images().table().find(reference).ok().filter(|image| !image.is_stand_in())
    }

    fn pull(&self, name: &ImageRef, platform: Option<&str>, progress: &mut dyn FnMut(PullProgress)) -> Result<Arc<Image>, EngineError> {
        let credentials = self.credentials.iter().find(|credentials| credentials.are_for(name.registry())).cloned();
        let (told, mut lines) = progress_channel();
        let (engine, name, platform) = (self.engine.clone(), name.clone(), platform.map(str::to_owned));
        let pulling = self.runtime.spawn(async move { engine.images().pull_real(&name, credentials, platform, told).await });
        while let Some(line) = self.runtime.block_on(lines.recv()) {
            progress(pull_progress(line));
        }
        let pulled = self.runtime.block_on(pulling).map_err(|error| EngineError::internal("pull an image", &error))??;
        Ok(pulled.image)
    }

    /// Mounts the merged tree of some layers, writable.
    fn mount(&self, layers: &[DiffId]) -> Result<Overlay, EngineError> {
        let (engine, id) = (&self.engine, id::random());
        let layers = self.runtime.block_on(engine.sandbox().attach_layers(engine.images().broker(), layers))?;
        let dir = engine.settings().data_dir.join("builds").join(&id);
        std::fs::create_dir_all(&dir).map_err(|error| EngineError::internal("make the directory of a build step", &error))?;
        let overlay = Overlay { engine: engine.clone(), id, dir };
        let spec = OverlaySpec { name: overlay.id.clone(), layers, upper: overlay.upper(), work: overlay.dir.join("work") };
        engine.sandbox().spawner().mount_rootfs(&spec)?;
        Ok(overlay)
    }
}

impl BuildBackend for EngineBackend {
    fn resolve_image(
        &self,
        reference: &str,
        platform: Option<&str>,
        pull: PullPolicy,
        progress: &mut dyn FnMut(PullProgress),
    ) -> Result<BaseImage, ResolveImageError> {
        if pull == PullPolicy::IfMissing
            && let Some(image) = self.find(reference)
        {
            return Ok(base(&image));
        }
        let invalid = |source: EngineError| ResolveImageError::InvalidReference { reference: reference.to_owned(), source: source.into() };
        let name = parse_reference(reference).map_err(invalid)?;
        match self.pull(&name, platform, progress) {
            Ok(image) => Ok(base(&image)),
            Err(error) => Err(match error.kind {
                ErrorKind::NotFound => ResolveImageError::NotFound(error.message),
                ErrorKind::Unauthorized | ErrorKind::Forbidden => ResolveImageError::Denied(error.message),
                _ => ResolveImageError::Failed { reference: reference.to_owned(), source: error.into() },
            }),
        }
    }

    fn local_image(&self, reference: &str) -> Result<Option<BaseImage>, BackendError> {
        Ok(self.find(reference).map(|image| base(&image)))
    }

    fn open_root(&self, layers: &[DiffId]) -> Result<OwnedFd, BackendError> {
        let overlay = self.mount(layers)?;
        let root = self.engine.sandbox().spawner().open_rootfs(&overlay.id)?;
        // Files are read from it until the build ends.
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).push(overlay);
        Ok(root)
    }

    fn begin_step(&self, layers: &[DiffId]) -> Result<Box<dyn BuildStep>, BackendError> {
        let overlay = self.mount(layers)?;
        let root = self.engine.sandbox().spawner().open_rootfs(&overlay.id)?;
        Ok(Box::new(Step::new(overlay, root, self.runtime.clone())))
    }

    fn cache_get(&self, key: &CacheKey) -> Result<Option<CacheRecord>, BackendError> {
        let found = self.runtime.block_on(self.engine.images().broker().cache_get(cache_key(key)?))?;
        // A record of another version of this program is a miss.
        Ok(found.and_then(|text| serde_json::from_str(&text).ok()))
    }

    fn cache_put(&self, key: &CacheKey, record: &CacheRecord) -> Result<(), BackendError> {
        let layers: Vec<DiffId> = record.layer.into_iter().collect();
        let text = serde_json::to_string(record)?;
        Ok(self.runtime.block_on(self.engine.images().broker().cache_put(cache_key(key)?, text, &layers))?)
    }

    fn put_image(&self, config: &ImageConfig) -> Result<ImageId, BackendError> {
        let text = String::from_utf8(config.encode())?;
        let id = ImageId(Digest::of(text.as_bytes()));
        if !self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(id) {
            return Ok(id);
        }
        let images = self.engine.images();
        let record = self.runtime.block_on(images.broker().put_image(text))?;
        images.table().insert_intermediate(record)?;
        Ok(id)
    }

    fn tag(&self, image: &ImageId, name: &str) -> Result<(), BackendError> {
        self.engine.images().tag_image(*image, &parse_reference(name)?);
        Ok(())
    }

    fn fetch(&self, url: &str) -> Result<Fetched, BackendError> {
        Ok(self.runtime.block_on(fetch::fetch(url))?)
    }
}

impl Overlay {
    /// Returns the directory of what was written.
    fn upper(&self) -> PathBuf {
        self.dir.join("upper")
    }

    fn unmount(&self) {
        if let Err(error) = self.engine.sandbox().spawner().unmount_rootfs(&self.id) {
            tracing::debug!(%error, "unmount a build step's tree");
        }
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        self.unmount();
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            tracing::warn!(%error, dir = %self.dir.display(), "remove a build step's directory");
        }
    }
}

fn base(image: &Image) -> BaseImage {
    BaseImage { id: image.id(), config: image.config().clone() }
}

fn cache_key(key: &CacheKey) -> Result<Digest, BackendError> {
    Ok(Digest::from_hex(key.as_str())?)
}

fn pull_progress(line: Progress) -> PullProgress {
    let current = line.amount.map(|amount| amount.current_bytes);
    PullProgress { id: line.id, status: line.status, current, total: line.amount.and_then(|amount| amount.total_bytes) }
}
