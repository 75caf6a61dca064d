//! Remote caches: archives of `cache:` in a bucket that several runners share.
//!
//! ```text
//! job's files ◄─ helper ─► archive on this machine ◄─ runner ─► bucket
//! ```
//!
//! GitLab Runner signs an address, or obtains temporary credentials, and lets its helper in the job's container talk to the bucket. Here
//! the runner itself does: archives pass through this machine anyway, so that neither credentials nor signed addresses ever come near a
//! job. Where things are is the same, so that both programs can use one bucket:
//! `[<Path>/][runner/<short token>/]project/<id>/<key>`, without the second part when `Shared` is set.
//!
//! The archive on this machine remembers as which version of the object it was fetched or stored (an extended attribute, so that it
//! goes wherever the file does). An object that has not changed is not fetched again.

mod azure;
mod connection;
mod gcs;
mod kept;
mod s3;
mod transfer;

use std::{fmt, sync::Arc};

use object_store::{ObjectStore, RetryConfig, path::Path as ObjectPath};

pub(crate) use self::transfer::{Fetched, TransferError};
pub use self::{
    azure::AzureSettings,
    gcs::GcsSettings,
    s3::{Encryption, S3Settings},
};

/// Attempts after the first, for each request.
const RETRIES: usize = 3;

/// Which bucket, and how archives are named there.
#[derive(Debug, Clone, Default)]
pub struct CacheSettings {
    pub location: CacheLocation,
    /// What names begin with; empty for nothing.
    pub path: String,
    /// Runners share their archives.
    pub is_shared: bool,
    /// Bytes; `None` for no limit.
    pub max_archive_bytes: Option<u64>,
}

/// The bucket.
#[derive(Debug, Clone)]
pub enum CacheLocation {
    S3(S3Settings),
    Gcs(GcsSettings),
    Azure(AzureSettings),
}

impl Default for CacheLocation {
    fn default() -> Self {
        Self::S3(S3Settings::default())
    }
}

/// Settings from which no connection to a bucket can be made.
#[derive(Debug, thiserror::Error)]
pub enum CacheSetupError {
    #[error("`{key}` is missing")]
    Missing { key: &'static str },
    #[error("{key} cannot be {value:?}: {expected}")]
    Value { key: &'static str, value: String, expected: &'static str },
    #[error(transparent)]
    Store(#[from] object_store::Error),
}

/// A bucket with archives.
pub struct RemoteCache {
    store: Arc<dyn ObjectStore>,
    /// `s3://bucket`, for the trace.
    address: String,
    settings: CacheSettings,
}

/// Without the client: it prints more than it should.
impl fmt::Debug for RemoteCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteCache").field("address", &self.address).field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl RemoteCache {
    /// Makes the client of a bucket. Nothing is asked yet.
    pub fn new(settings: CacheSettings) -> Result<Self, CacheSetupError> {
        let (store, address): (Arc<dyn ObjectStore>, String) = match &settings.location {
            CacheLocation::S3(s3) => (Arc::new(s3.open()?), format!("s3://{}", s3.bucket)),
            CacheLocation::Gcs(gcs) => (Arc::new(gcs.open()?), format!("gs://{}", gcs.bucket)),
            CacheLocation::Azure(azure) => (Arc::new(azure.open()?), format!("azblob://{}", azure.container)),
        };
        Ok(Self { store, address, settings })
    }

    /// Returns the name of a key's archive. The key is a clean relative path.
    pub(crate) fn name(&self, short_token: &str, project: u64, key: &str) -> ObjectName {
        let runner = if self.settings.is_shared { String::new() } else { format!("runner/{short_token}/") };
        let path = self.settings.path.trim_matches('/');
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let text = format!("{prefix}{runner}project/{project}/{key}");
        // As it is, unless it holds what no name may: the library's own names have some characters encoded that keys may hold.
        let path = ObjectPath::parse(&text).unwrap_or_else(|_| ObjectPath::from_iter(text.split('/')));
        ObjectName { path, address: format!("{}/{text}", self.address) }
    }

    /// Returns the size from which on archives are not stored.
    pub(crate) fn max_archive_bytes(&self) -> Option<u64> {
        self.settings.max_archive_bytes
    }
}

/// Where an archive is in the bucket.
#[derive(Debug, Clone)]
pub(crate) struct ObjectName {
    path: ObjectPath,
    /// For people: `s3://bucket/project/1/key`.
    pub(crate) address: String,
}

fn retries() -> RetryConfig {
    RetryConfig { max_retries: RETRIES, ..RetryConfig::default() }
}

fn required(key: &'static str, value: &str) -> Result<String, CacheSetupError> {
    if value.is_empty() { Err(CacheSetupError::Missing { key }) } else { Ok(value.to_owned()) }
}

#[cfg(test)]
mod tests;
