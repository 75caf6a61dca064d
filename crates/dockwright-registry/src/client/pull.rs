//! Pull: manifest, configuration, then all layers at once, each verified before it is visible.

use std::sync::Arc;

use dockwright_store::{
    BlobWriter, DiffId, Digest, Document, ImageConfig, ImageId, ImageRef, Lease, Manifest, Store,
    manifest::{Descriptor, Platform, media_type},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::{Method, Response, StatusCode, header};
use std::io::Write as _;

use super::{
    Client, ClientError, OnProgress, Progress, Pulled,
    session::{Payload, Session},
};
use crate::{
    blocking::blocking,
    credentials::Credentials,
    protocol::{MANIFEST_MAX_BYTES, Scope},
};

/// Layers of one image that are fetched at once.
const LAYERS_AT_ONCE: usize = 4;
/// How often a download that breaks off is continued.
const RESUMES_MAX: usize = 4;
/// Progress of a layer is told each time this much more has come.
const PROGRESS_STEP_BYTES: u64 = 512 * 1024;

impl Client {
    /// Pulls an image into the store. The caller gives it a name, and takes a lease on it within the store's grace period.
    pub async fn pull(
        &self,
        store: &Store,
        reference: &ImageRef,
        platform: Option<&Platform>,
        credentials: Option<&Credentials>,
        on_progress: &OnProgress,
    ) -> Result<Pulled, ClientError> {
        let session = self.session(reference, Scope::pull(reference.repository()), credentials).await?;
        let top = session.document(&reference.manifest_reference()).await?;
        let digest = top.digest();
        let tag = reference.manifest_reference();
        // Docker leaves the host out here.
        tell(on_progress, &tag, format!("Pulling from {}", reference.repository()));
        let manifest = match top {
            Document::Manifest(manifest) => manifest,
            Document::Index(index) => {
                let host = Platform::host();
                let entry = index.for_platform(platform.unwrap_or(&host))?;
                session.manifest(&entry.digest).await?
            }
        };
        let pull = Pull { client: self, session: &session, store, reference, lease: Arc::new(store.lease()), on_progress };
        let (image, changed) = pull.image(&manifest).await?;
        tell(on_progress, "", format!("Digest: {digest}"));
        Ok(Pulled { image, digest, changed })
    }
}

fn tell(on_progress: &OnProgress, id: &str, status: impl Into<String>) {
    on_progress(Progress { id: id.to_owned(), status: status.into(), amount: None });
}

impl Session<'_> {
    async fn manifest(&self, digest: &Digest) -> Result<Manifest, ClientError> {
        match self.document(&digest.to_string()).await? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => Err(ClientError::protocol(self.registry(), "an index lists an index for this platform")),
        }
    }
}

struct Pull<'a> {
    client: &'a Client,
    session: &'a Session<'a>,
    store: &'a Store,
    reference: &'a ImageRef,
    /// Keeps what is there already from being collected meanwhile.
    lease: Arc<Lease>,
    on_progress: &'a OnProgress,
}

impl Pull<'_> {
    async fn image(&self, manifest: &Manifest) -> Result<(ImageId, bool), ClientError> {
        let config = self.config(&manifest.config).await?;
        let diff_ids = ImageConfig::parse(&config)?.rootfs.diff_ids;
        if diff_ids.len() != manifest.layers.len() {
            let problem = format!("the image has {} layers, its configuration {}", manifest.layers.len(), diff_ids.len());
            return Err(ClientError::protocol(self.session.registry(), problem));
        }
        for layer in &manifest.layers {
            tell(self.on_progress, &layer.digest.short(), "Pulling fs layer");
        }
        // A loop rather than `map`: with a closure the compiler cannot see that the whole future is `Send`.
        let mut layers = Vec::new();
        for (layer, diff_id) in manifest.layers.iter().zip(diff_ids) {
            layers.push(self.layer(layer, diff_id));
        }
        let changed: Vec<bool> = stream::iter(layers).buffer_unordered(LAYERS_AT_ONCE).try_collect().await?;
        let store = self.store.clone();
        let known = store.image(&ImageId(manifest.config.digest))?.is_some();
        let image = blocking(move || store.put_image(&config)).await?;
        Ok((image, !known || changed.contains(&true)))
    }

    /// The configuration is fetched even if it is known: that the registry gives it is what allows this caller to see it.
    async fn config(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ClientError> {
        let url = self.session.path(&format!("blobs/{}", descriptor.digest));
        let response = self.session.send(Method::GET, &url, &[], &Payload::None).await?;
        let bytes = self.session.limited(response, MANIFEST_MAX_BYTES).await?;
        let actual = Digest::of(&bytes);
        if actual != descriptor.digest {
            return Err(dockwright_store::CommitError::Mismatch { expected: descriptor.digest, actual }.into());
        }
        Ok(bytes)
    }

    /// Makes one layer present. False if it was there.
    async fn layer(&self, layer: &Descriptor, diff_id: DiffId) -> Result<bool, ClientError> {
        let id = layer.digest.short();
        let gate = self.client.download_gate(&layer.digest);
        let turn = gate.lock().await;
        let present = self.is_present(layer, diff_id)?;
        if !present {
            self.download(layer).await?;
            tell(self.on_progress, &id, "Extracting");
            self.unpack(layer, diff_id).await?;
        }
        drop(turn);
        self.client.release_gate(&layer.digest);
        self.client.remember_source(self.reference, layer.digest);
        tell(self.on_progress, &id, if present { "Already exists" } else { "Pull complete" });
        Ok(!present)
    }

    /// The layer counts as present only if it is known to be what this blob holds: a manifest that claims somebody else's layer under a
    /// blob of its own must bring the bytes.
    fn is_present(&self, layer: &Descriptor, diff_id: DiffId) -> Result<bool, ClientError> {
        Ok(self.store.layer_of_blob(&layer.digest)? == Some(diff_id) && self.lease.hold_layer(&diff_id)?)
    }

    async fn unpack(&self, layer: &Descriptor, expected: DiffId) -> Result<(), ClientError> {
        let (store, blob, media_type) = (self.store.clone(), layer.digest, layer_type(&layer.media_type).to_owned());
        let lease = self.lease.clone();
        let applied = blocking(move || -> Result<_, ClientError> {
            let applied = store.apply_layer_blob(&blob, &media_type).map_err(|source| ClientError::Layer { blob, source })?;
            lease.hold_layer(&applied.diff_id)?;
            Ok(applied)
        })
        .await?;
        if applied.diff_id != expected {
            return Err(ClientError::WrongLayer { blob, expected, actual: applied.diff_id });
        }
        Ok(())
    }

    async fn download(&self, layer: &Descriptor) -> Result<(), ClientError> {
        let id = layer.digest.short();
        let mut writer = self.store.blob_writer()?;
        for resume in 0.. {
            let response = self.request(layer, writer.size()).await?;
            if writer.size() > 0 && response.status() != StatusCode::PARTIAL_CONTENT {
                writer = self.store.blob_writer()?;
            }
            let (returned, outcome) = self.receive(response, writer, layer).await?;
            writer = returned;
            match outcome {
                Ok(()) => break,
                Err(_) if resume < RESUMES_MAX => {}
                Err(source) => return Err(ClientError::unreadable(self.session.registry(), source)),
            }
        }
        tell(self.on_progress, &id, "Verifying Checksum");
        let expected = layer.digest;
        let lease = self.lease.clone();
        blocking(move || -> Result<(), ClientError> {
            let digest = writer.commit(Some(&expected))?;
            lease.hold_blob(&digest)?;
            Ok(())
        })
        .await?;
        tell(self.on_progress, &id, "Download complete");
        Ok(())
    }

    async fn request(&self, layer: &Descriptor, offset: u64) -> Result<Response, ClientError> {
        let url = self.session.path(&format!("blobs/{}", layer.digest));
        let range = (offset > 0).then(|| (header::RANGE, format!("bytes={offset}-")));
        self.session.send(Method::GET, &url, range.as_slice(), &Payload::None).await
    }

    /// Writes what comes. The outer error is ours and final; the inner one is the connection's.
    async fn receive(
        &self,
        response: Response,
        mut writer: BlobWriter,
        layer: &Descriptor,
    ) -> Result<(BlobWriter, Result<(), reqwest::Error>), ClientError> {
        let mut body = response.bytes_stream();
        let mut told = 0;
        while let Some(chunk) = body.next().await {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => return Ok((writer, Err(error))),
            };
            if writer.size() + chunk.len() as u64 > layer.size {
                return Err(ClientError::protocol(self.session.registry(), format!("blob {} is larger than announced", layer.digest)));
            }
            let written;
            (writer, written) = blocking(move || {
                let written = writer.write_all(&chunk);
                (writer, written)
            })
            .await;
            written.map_err(|source| dockwright_store::StoreError::Io {
                doing: "write a blob below",
                path: self.store.dir().to_owned(),
                source,
            })?;
            if writer.size() - told >= PROGRESS_STEP_BYTES || writer.size() == layer.size {
                told = writer.size();
                let amount = Some((told, layer.size));
                (self.on_progress)(Progress { id: layer.digest.short(), status: "Downloading".to_owned(), amount });
            }
        }
        Ok((writer, Ok(())))
    }
}

/// Layers are recorded under OCI's names.
fn layer_type(media_type: &str) -> &'static str {
    match media_type {
        name if name.ends_with("zstd") => media_type::OCI_LAYER_ZSTD,
        name if name.ends_with("gzip") => media_type::OCI_LAYER_GZIP,
        _ => media_type::OCI_LAYER,
    }
}

impl Client {
    /// Returns the lock that whoever downloads this blob holds.
    fn download_gate(&self, digest: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        self.inner.downloads.lock().expect("no holder of this lock panics").entry(*digest).or_default().clone()
    }

    /// Drops the lock once nobody else waits for it.
    fn release_gate(&self, digest: &Digest) {
        let mut downloads = self.inner.downloads.lock().expect("no holder of this lock panics");
        // One count is the table's, one the caller's.
        if downloads.get(digest).is_some_and(|gate| Arc::strong_count(gate) <= 2) {
            downloads.remove(digest);
        }
    }

    /// Notes where a blob can be mounted from.
    pub(super) fn remember_source(&self, reference: &ImageRef, digest: Digest) {
        let key = (reference.registry().to_owned(), digest);
        self.inner.sources.lock().expect("no holder of this lock panics").insert(key, reference.repository().to_owned());
    }
}
