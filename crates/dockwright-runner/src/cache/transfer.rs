//! Fetching and storing archives.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use object_store::{
    Attribute, AttributeValue, Attributes, GetOptions, GetResult, MultipartUpload, ObjectStoreExt as _, PutMultipartOptions, PutOptions,
    PutPayload, PutResult,
};
use tempfile::NamedTempFile;
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinSet,
};

use super::{ObjectName, RemoteCache, kept};

/// Larger archives are stored in parts, several at a time.
const PART_BYTES: u64 = 16 * 1024 * 1024;
const PARTS_AT_ONCE: usize = 4;
/// S3 takes ten thousand.
const PARTS_MAX: u64 = 9_000;

/// What came of fetching an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fetched {
    /// There is none.
    Missing,
    /// The one on this machine is it.
    Unchanged,
    Downloaded {
        bytes: u64,
    },
}

/// A transfer that did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransferError {
    #[error("download {address}")]
    Download {
        address: String,
        #[source]
        source: object_store::Error,
    },
    #[error("download {address}: it ended after {received} of {expected} bytes")]
    Short { address: String, received: u64, expected: u64 },
    #[error("upload {address}")]
    Upload {
        address: String,
        #[source]
        source: object_store::Error,
    },
    #[error("{action} `{path}`")]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl TransferError {
    fn file(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::File { action, path: path.to_owned(), source }
    }
}

impl RemoteCache {
    /// Makes the file `archive` what the bucket has. Its directory exists.
    pub(crate) async fn fetch(&self, name: &ObjectName, archive: &Path) -> Result<Fetched, TransferError> {
        let known = kept::version(archive, &name.address);
        let options = GetOptions { if_none_match: known, ..GetOptions::default() };
        match self.store.get_opts(&name.path, options).await {
            Ok(object) => self.receive(name, object, archive).await,
            Err(object_store::Error::NotModified { .. }) => Ok(Fetched::Unchanged),
            Err(object_store::Error::NotFound { .. }) => Ok(Fetched::Missing),
            Err(source) => Err(TransferError::Download { address: name.address.clone(), source }),
        }
    }

    /// The file gets its name when it is complete: readers see the old one or the new one.
    async fn receive(&self, name: &ObjectName, object: GetResult, archive: &Path) -> Result<Fetched, TransferError> {
        let failed = TransferError::file("write", archive);
        let (expected, version) = (object.meta.size, object.meta.e_tag.clone());
        let new = NamedTempFile::new_in(archive.parent().unwrap_or(Path::new("/"))).map_err(&failed)?;
        let mut file = File::from_std(new.reopen().map_err(&failed)?);
        let mut received = 0;
        let mut stream = object.into_stream();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|source| TransferError::Download { address: name.address.clone(), source })?;
            received += chunk.len() as u64;
            file.write_all(&chunk).await.map_err(&failed)?;
        }
        file.flush().await.map_err(&failed)?;
        if received != expected {
            return Err(TransferError::Short { address: name.address.clone(), received, expected });
        }
        note(new.as_file(), name, version.as_deref());
        new.persist(archive).map_err(|error| failed(error.error))?;
        Ok(Fetched::Downloaded { bytes: received })
    }

    /// Stores the file `archive`.
    pub(crate) async fn store(&self, name: &ObjectName, archive: &Path) -> Result<(), TransferError> {
        let mut file = File::open(archive).await.map_err(TransferError::file("open", archive))?;
        let size = file.metadata().await.map_err(TransferError::file("open", archive))?.len();
        let stored = if size <= PART_BYTES {
            let content = read(&mut file, size).await.map_err(TransferError::file("read", archive))?;
            let options = PutOptions { attributes: attributes(), ..PutOptions::default() };
            self.store.put_opts(&name.path, PutPayload::from(content), options).await
        } else {
            self.store_parts(name, &mut file, size, archive).await?
        };
        let stored = stored.map_err(|source| TransferError::Upload { address: name.address.clone(), source })?;
        note(&file.into_std().await, name, stored.e_tag.as_deref());
        Ok(())
    }

    async fn store_parts(
        &self,
        name: &ObjectName,
        file: &mut File,
        size: u64,
        archive: &Path,
    ) -> Result<object_store::Result<PutResult>, TransferError> {
        let options = PutMultipartOptions { attributes: attributes(), ..PutMultipartOptions::default() };
        let mut upload = match self.store.put_multipart_opts(&name.path, options).await {
            Ok(upload) => upload,
            Err(error) => return Ok(Err(error)),
        };
        let sent = send_parts(upload.as_mut(), file, size).await.map_err(TransferError::file("read", archive))?;
        if let Err(error) = sent {
            // Parts that are left over cost money; that they are there is no reason to fail twice.
            if let Err(error) = upload.abort().await {
                tracing::warn!(object = name.address, %error, "parts of an upload are left in the bucket");
            }
            return Ok(Err(error));
        }
        Ok(upload.complete().await)
    }

    /// Tells whether the bucket has what is in the file `archive`.
    pub(crate) async fn is_stored(&self, name: &ObjectName, archive: &Path) -> bool {
        let Some(known) = kept::version(archive, &name.address) else { return false };
        self.store.head(&name.path).await.is_ok_and(|object| object.e_tag == Some(known))
    }
}

async fn send_parts(upload: &mut dyn MultipartUpload, file: &mut File, size: u64) -> io::Result<object_store::Result<()>> {
    let part_bytes = PART_BYTES.max(size.div_ceil(PARTS_MAX));
    let mut running = JoinSet::new();
    let mut left = size;
    let mut result = Ok(());
    while left > 0 && result.is_ok() {
        if running.len() >= PARTS_AT_ONCE {
            result = joined(running.join_next().await);
            continue;
        }
        let part = read(file, left.min(part_bytes)).await?;
        left -= part.len() as u64;
        running.spawn(upload.put_part(PutPayload::from(part)));
    }
    while result.is_ok() && !running.is_empty() {
        result = joined(running.join_next().await);
    }
    Ok(result)
}

fn joined(ended: Option<Result<object_store::Result<()>, tokio::task::JoinError>>) -> object_store::Result<()> {
    match ended {
        Some(Ok(result)) => result,
        Some(Err(error)) => Err(error.into()),
        None => Ok(()),
    }
}

async fn read(file: &mut File, length: u64) -> io::Result<Bytes> {
    let length = usize::try_from(length).map_err(io::Error::other)?;
    let mut content = BytesMut::zeroed(length);
    file.read_exact(&mut content).await?;
    Ok(content.freeze())
}

fn attributes() -> Attributes {
    let mut attributes = Attributes::new();
    attributes.insert(Attribute::ContentType, AttributeValue::from("application/octet-stream"));
    attributes
}

fn note(file: &std::fs::File, name: &ObjectName, version: Option<&str>) {
    let Some(version) = version else { return };
    if let Err(error) = kept::note(file, &name.address, version) {
        tracing::debug!(object = name.address, %error, "the version of the cache is not kept");
    }
}
