//! What one engine may ask of its host, and the answers.
//!
//! *Presence is not permission.* The store holds the layers of every engine and every image that ever came by; an engine is given one
//! only out of its grants. Grants come from four places and no others:
//!
//! | Granted | Because |
//! |---|---|
//! | the layers of an image | this engine pulled it, and the registry let its credentials (or the owner of the host gave the image a name) |
//! | a layer | this engine sent its content |
//! | the layers of a cached step | an engine of the same trust scope, to which they were granted, put it into the cache |
//! | the helper image | it holds nothing but this program |
//!
//! Guessing a digest therefore yields nothing, not even whether the store has it: both answers read the same.

mod image;
#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use dockwright_store::{CacheRefs, DiffId, Digest, ImageId, LayerOrigin, Lease, StoreError};
use serde::{Deserialize, Serialize};

use super::{
    message::{BrokerError, BrokerErrorKind, HostFacts, ImageRecord, LayerRecord, LogLevel, Pruned, Request, TarOrigin},
    server::{Done, Outlet},
};
use crate::{
    error::chain,
    host::{EngineSpec, Shared},
};

/// The host's view of one engine.
pub(crate) struct Session {
    shared: Arc<Shared>,
    spec: EngineSpec,
    scope: String,
    grants: Mutex<Grants>,
    /// Keeps what is granted from being collected.
    lease: Lease,
    /// Set once the sandbox exists, which is before the engine can ask.
    mounts: OnceLock<Box<dyn LayerMounts>>,
}

/// Makes mounts that the engine's sandbox can use.
pub(crate) trait LayerMounts: Send + Sync {
    /// Returns detached, read-only mounts of layer directories, in their order.
    fn mount(&self, directories: &[&Path]) -> Result<Vec<OwnedFd>, Box<dyn std::error::Error + Send + Sync>>;
}

#[derive(Debug, Default)]
struct Grants {
    layers: HashSet<DiffId>,
    images: HashSet<ImageId>,
}

/// What the store keeps under a key of the build cache.
#[derive(Debug, Serialize, Deserialize)]
struct CacheEntry {
    value: String,
    layers: Vec<DiffId>,
}

/// Layers mounted by one request: as many as descriptors fit into one message.
const MOUNT_LIMIT_LAYERS: usize = 250;

impl Session {
    /// Starts a session for an engine that is about to be made.
    pub(crate) fn new(shared: Arc<Shared>, spec: EngineSpec) -> Self {
        let lease = shared.store.lease();
        let scope = spec.scope.key();
        Self { shared, spec, scope, grants: Mutex::default(), lease, mounts: OnceLock::new() }
    }

    /// Returns the engine's id.
    pub(crate) fn engine(&self) -> &str {
        &self.spec.id
    }

    /// Provides the mounts of the engine's sandbox.
    pub(crate) fn set_mounts(&self, mounts: Box<dyn LayerMounts>) {
        // A sandbox is made once per session.
        let _ = self.mounts.set(mounts);
    }

    /// Answers a request.
    pub(super) async fn perform(
        self: &Arc<Self>,
        request: Request,
        descriptors: Vec<OwnedFd>,
        outlet: &Outlet,
    ) -> Result<Done, BrokerError> {
        match request {
            Request::Facts {} => value(&self.blocking(Self::facts).await?),
            Request::Pull { reference, credentials, platform } => value(&self.pull(&reference, credentials, platform, outlet).await?),
            Request::Push { image, reference, credentials } => value(&self.push(image, &reference, credentials, outlet).await?),
            Request::Login { credentials } => value(&self.login(credentials).await?),
            Request::Inspect { reference, credentials } => value(&self.inspect(&reference, credentials).await?),
            Request::Mount { layers } => {
                let mounts = self.blocking(move |session| session.mount(&layers)).await?;
                value(&()).map(|(value, _)| (value, mounts))
            }
            Request::CommitLayer { origin } => {
                let pipe = only_pipe(descriptors)?;
                value(&self.blocking(move |session| session.commit_layer(pipe, origin)).await?)
            }
            Request::PutImage { config } => value(&self.blocking(move |session| session.put_image(&config)).await?),
            Request::ReadLayer { layer } => {
                let pipe = only_pipe(descriptors)?;
                value(&self.blocking(move |session| session.read_layer(layer, pipe)).await?)
            }
            Request::CacheGet { key } => value(&self.blocking(move |session| session.cache_get(&key)).await?),
            Request::CachePut { key, value: text, layers } => {
                value(&self.blocking(move |session| session.cache_put(&key, text, layers)).await?)
            }
            Request::CachePrune {} => value(&self.blocking(Self::cache_prune).await?),
            Request::DialRegistry {} => {
                let socket = self.dial_registry().await?;
                value(&()).map(|(value, _)| (value, vec![socket]))
            }
            Request::Log { level, message } => {
                self.log(level, &message);
                value(&())
            }
            // The server's, which has the tasks.
            Request::Cancel { .. } => value(&()),
        }
    }

    /// Runs work on the store, which blocks.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, BrokerError> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let session = Arc::clone(self);
        let outcome = tokio::task::spawn_blocking(move || work(&session)).await;
        outcome.unwrap_or_else(|error| Err(internal("run a request", &error)))
    }

    fn facts(&self) -> Result<HostFacts, BrokerError> {
        let mut facts = HostFacts {
            engine_name: self.spec.name.clone(),
            owner_apart: self.spec.owner_apart,
            registry: self.shared.registry_name.clone(),
            granted_images: Vec::new(),
            granted_names: Vec::new(),
        };
        if let Some((name, image)) = &self.shared.helper_image {
            facts.granted_images.push(self.grant_image(*image, None)?);
            facts.granted_names.push(name.clone());
        }
        Ok(facts)
    }

    fn mount(&self, layers: &[DiffId]) -> Result<Vec<OwnedFd>, BrokerError> {
        if layers.len() > MOUNT_LIMIT_LAYERS {
            let message = format!("{} layers are more than the {MOUNT_LIMIT_LAYERS} that can be mounted", layers.len());
            return Err(BrokerError::new(BrokerErrorKind::Invalid, message));
        }
        let directories = layers.iter().map(|layer| self.layer_dir(layer)).collect::<Result<Vec<PathBuf>, _>>()?;
        let paths: Vec<_> = directories.iter().map(PathBuf::as_path).collect();
        let no_sandbox = || BrokerError::new(BrokerErrorKind::Internal, "the engine has no sandbox to mount layers for");
        let mounts = self.mounts.get().ok_or_else(no_sandbox)?;
        mounts.mount(&paths).map_err(|error| internal("mount layers", &*error))
    }

    fn layer_dir(&self, layer: &DiffId) -> Result<PathBuf, BrokerError> {
        self.check_layer(layer)?;
        let found = self.shared.store.layer_dir(layer).map_err(|error| internal("find a layer", &error))?;
        found.ok_or_else(|| no_such_layer(layer))
    }

    fn commit_layer(&self, pipe: File, origin: TarOrigin) -> Result<LayerRecord, BrokerError> {
        let origin = match origin {
            TarOrigin::Build => LayerOrigin::Own,
            TarOrigin::Archive => LayerOrigin::Foreign,
        };
        let applied = self.shared.store.apply_layer(pipe, origin);
        let applied = applied.map_err(|error| BrokerError::new(BrokerErrorKind::Invalid, chain(&error)))?;
        if !applied.omitted.is_empty() {
            let omitted = applied.omitted.join(", ");
            tracing::info!(engine = self.engine(), layer = %applied.diff_id, omitted, "a layer has entries that cannot be made here");
        }
        self.grant_layer(applied.diff_id)?;
        Ok(LayerRecord { diff_id: applied.diff_id, size_bytes: applied.size })
    }

    fn put_image(&self, config: &str) -> Result<ImageRecord, BrokerError> {
        let invalid = |error: &(dyn std::error::Error + 'static)| BrokerError::new(BrokerErrorKind::Invalid, chain(error));
        let parsed = dockwright_store::ImageConfig::parse(config.as_bytes()).map_err(|error| invalid(&error))?;
        for layer in &parsed.rootfs.diff_ids {
            self.check_layer(layer)?;
        }
        let id = self.shared.store.put_image(config.as_bytes()).map_err(|error| invalid(&error))?;
        self.grant_image(id, None)
    }

    fn read_layer(&self, layer: DiffId, pipe: File) -> Result<(), BrokerError> {
        self.check_layer(&layer)?;
        let mut out = io::BufWriter::with_capacity(PIPE_BUFFER_BYTES, pipe);
        self.shared.store.copy_layer_tar(&layer, &mut out).map_err(|error| internal("read a layer", &error))?;
        io::Write::flush(&mut out).map_err(|error| internal("write a layer to the engine", &error))
    }

    fn cache_get(&self, key: &Digest) -> Result<Option<String>, BrokerError> {
        let found = self.shared.store.cache_get(&self.scope, key).map_err(|error| internal("look into the build cache", &error))?;
        let Some(entry) = found.and_then(|bytes| serde_json::from_slice::<CacheEntry>(&bytes).ok()) else { return Ok(None) };
        for layer in &entry.layers {
            // Collected since the look-up: a miss like any other.
            if !self.hold(|lease| lease.hold_layer(layer))? {
                return Ok(None);
            }
        }
        self.grants().layers.extend(&entry.layers);
        Ok(Some(entry.value))
    }

    fn cache_put(&self, key: &Digest, value: String, layers: Vec<DiffId>) -> Result<(), BrokerError> {
        for layer in &layers {
            self.check_layer(layer)?;
        }
        let refs = CacheRefs { layers: layers.clone(), ..CacheRefs::default() };
        let entry = serde_json::to_vec(&CacheEntry { value, layers }).map_err(|error| internal("write a cache entry", &error))?;
        self.shared.store.cache_put(&self.scope, key, &entry, &refs).map_err(|error| internal("put into the build cache", &error))
    }

    fn cache_prune(&self) -> Result<Pruned, BrokerError> {
        let records = self.shared.store.cache_clear(&self.scope).map_err(|error| internal("clear the build cache", &error))?;
        Ok(Pruned { records: records as u64 })
    }

    async fn dial_registry(&self) -> Result<OwnedFd, BrokerError> {
        let unavailable = |message: &str| BrokerError::new(BrokerErrorKind::Unavailable, message);
        let address = self.shared.registry_address().ok_or_else(|| unavailable("the engine host has no registry"))?;
        let stream =
            tokio::net::TcpStream::connect(address).await.map_err(|_| unavailable("the engine host's registry does not answer"))?;
        let stream = stream.into_std().map_err(|error| internal("connect to the registry", &error))?;
        stream.set_nonblocking(false).map_err(|error| internal("connect to the registry", &error))?;
        Ok(stream.into())
    }

    fn log(&self, level: LogLevel, message: &str) {
        let engine = self.engine();
        match level {
            LogLevel::Debug => tracing::debug!(engine, "{message}"),
            LogLevel::Info => tracing::info!(engine, "{message}"),
            LogLevel::Warn => tracing::warn!(engine, "{message}"),
            LogLevel::Error => tracing::error!(engine, "{message}"),
        }
    }

    fn check_layer(&self, layer: &DiffId) -> Result<(), BrokerError> {
        if self.grants().layers.contains(layer) { Ok(()) } else { Err(no_such_layer(layer)) }
    }

    fn check_image(&self, image: &ImageId) -> Result<(), BrokerError> {
        let granted = self.grants().images.contains(image);
        if granted { Ok(()) } else { Err(BrokerError::new(BrokerErrorKind::NotFound, format!("No such image: {image}"))) }
    }

    fn grant_layer(&self, layer: DiffId) -> Result<(), BrokerError> {
        if !self.hold(|lease| lease.hold_layer(&layer))? {
            return Err(no_such_layer(&layer));
        }
        self.grants().layers.insert(layer);
        Ok(())
    }

    /// Grants an image with its layers, and describes it.
    fn grant_image(&self, id: ImageId, manifest: Option<Digest>) -> Result<ImageRecord, BrokerError> {
        let gone = || BrokerError::new(BrokerErrorKind::NotFound, format!("No such image: {id}"));
        if !self.hold(|lease| lease.hold_image(&id))? {
            return Err(gone());
        }
        let failed = |error: StoreError| internal("read an image", &error);
        let image = self.shared.store.image(&id).map_err(failed)?.ok_or_else(gone)?;
        let mut layers = Vec::with_capacity(image.layers.len());
        for diff_id in image.layers {
            let size_bytes = self.shared.store.layer_size(&diff_id).map_err(failed)?.ok_or_else(gone)?;
            layers.push(LayerRecord { diff_id, size_bytes });
        }
        let config = String::from_utf8(image.config_bytes).map_err(|error| internal("read an image", &error))?;
        let mut grants = self.grants();
        grants.images.insert(id);
        grants.layers.extend(layers.iter().map(|layer| layer.diff_id));
        Ok(ImageRecord { id, config, layers, manifest })
    }

    fn hold(&self, hold: impl FnOnce(&Lease) -> Result<bool, StoreError>) -> Result<bool, BrokerError> {
        hold(&self.lease).map_err(|error| internal("keep content from being collected", &error))
    }

    /// Grants are only added, so a panic elsewhere does not spoil them.
    fn grants(&self) -> MutexGuard<'_, Grants> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes gathered before they go into a pipe; the usual size of one.
const PIPE_BUFFER_BYTES: usize = 64 << 10;

fn value<T: Serialize>(value: &T) -> Result<Done, BrokerError> {
    let value = serde_json::value::to_raw_value(value).map_err(|error| internal("write an answer", &error))?;
    Ok((value, Vec::new()))
}

/// The host writes with more rights than the engine has, so it takes pipes only: with a file of `/proc`, say, the engine could make it
/// write what the engine itself may not.
fn only_pipe(descriptors: Vec<OwnedFd>) -> Result<File, BrokerError> {
    let invalid = || BrokerError::new(BrokerErrorKind::Invalid, "the request needs exactly one descriptor, which is a pipe");
    let [descriptor] = <[OwnedFd; 1]>::try_from(descriptors).map_err(|_| invalid())?;
    let kind = rustix::fs::fstat(descriptor.as_fd()).map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode));
    if kind != Ok(rustix::fs::FileType::Fifo) {
        return Err(invalid());
    }
    // The engine may have made it non-blocking, which would look like an error here.
    rustix::fs::fcntl_setfl(&descriptor, rustix::fs::OFlags::empty()).map_err(|_| invalid())?;
    Ok(File::from(descriptor))
}

fn no_such_layer(layer: &DiffId) -> BrokerError {
    BrokerError::new(BrokerErrorKind::NotFound, format!("layer {layer} does not exist"))
}

fn internal(what: &str, error: &(dyn std::error::Error + 'static)) -> BrokerError {
    BrokerError::new(BrokerErrorKind::Internal, format!("{what}: {}", chain(error)))
}
