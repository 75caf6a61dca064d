//! From `[runners.cache]` to a bucket.

use std::sync::Arc;

use super::{
    decide::{DecideError, positive},
    file::{AzureTable, CacheTable, GcsTable, S3Table},
};
use crate::{
    cache::{AzureSettings, CacheLocation, CacheSettings, Encryption, GcsSettings, RemoteCache, S3Settings},
    outcome,
};

impl CacheTable {
    /// Decides where caches go beside this machine. Without a type, nowhere.
    pub(super) fn decide(&self) -> Result<Option<Arc<RemoteCache>>, DecideError> {
        let location = match self.kind.as_str() {
            "" => return Ok(None),
            "s3" => CacheLocation::S3(self.s3.decide()?),
            "gcs" => CacheLocation::Gcs(self.gcs.decide()),
            "azure" => CacheLocation::Azure(self.azure.decide()),
            other => return Err(value("runners.cache.Type", other, "there are s3, gcs and azure")),
        };
        let settings = CacheSettings {
            location,
            path: self.path.clone(),
            is_shared: self.shared,
            max_archive_bytes: positive(self.max_uploaded_archive_size),
        };
        let cache = RemoteCache::new(settings);
        let cache =
            cache.map_err(|error| DecideError::Cache { reason: format!("[runners.cache.{}]: {}", self.kind, outcome::chain(&error)) })?;
        Ok(Some(Arc::new(cache)))
    }
}

impl S3Table {
    fn decide(&self) -> Result<S3Settings, DecideError> {
        let uses_iam = match self.authentication_type.as_str() {
            "" | "access-key" => false,
            "iam" => true,
            other => return Err(value("runners.cache.s3.AuthenticationType", other, "there are access-key and iam")),
        };
        let encryption = match self.server_side_encryption.as_str() {
            "" => None,
            word => Some(
                Encryption::parse(word)
                    .ok_or_else(|| value("runners.cache.s3.ServerSideEncryption", word, "there are S3, KMS and DSSE-KMS"))?,
            ),
        };
        Ok(S3Settings {
            server_address: self.server_address.clone(),
            access_key: self.access_key.clone(),
            secret_key: self.secret_key.clone(),
            session_token: self.session_token.clone(),
            uses_iam,
            bucket: self.bucket_name.clone(),
            region: self.bucket_location.clone(),
            is_insecure: self.insecure,
            encryption,
            encryption_key_id: self.server_side_encryption_key_id.clone(),
            dual_stack: self.dual_stack.unwrap_or(true),
            path_style: self.path_style,
            accelerate: self.accelerate,
        })
    }
}

impl GcsTable {
    fn decide(&self) -> GcsSettings {
        GcsSettings {
            access_id: self.access_id.clone(),
            private_key: self.private_key.clone(),
            credentials_file: self.credentials_file.clone(),
            bucket: self.bucket_name.clone(),
            universe_domain: self.universe_domain.clone(),
        }
    }
}

impl AzureTable {
    fn decide(&self) -> AzureSettings {
        AzureSettings {
            account_name: self.account_name.clone(),
            account_key: self.account_key.clone(),
            container: self.container_name.clone(),
            storage_domain: self.storage_domain.clone(),
        }
    }
}

fn value(key: &'static str, value: &str, expected: &'static str) -> DecideError {
    DecideError::Value { key, value: value.to_owned(), expected }
}
