//! Google Cloud Storage.

use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder};

use super::{CacheSetupError, connection::Connector, required, retries};
use crate::config::Secret;

/// `[runners.cache.gcs]`.
#[derive(Debug, Clone, Default)]
pub struct GcsSettings {
    /// E-mail address of a service account, and its key in PEM form.
    pub access_id: String,
    pub private_key: Secret,
    /// A file with both, in JSON; it wins. Without either, the credentials are those of this machine.
    pub credentials_file: String,
    pub bucket: String,
    /// Empty for `googleapis.com`.
    pub universe_domain: String,
}

impl GcsSettings {
    pub(super) fn open(&self) -> Result<GoogleCloudStorage, CacheSetupError> {
        let builder = GoogleCloudStorageBuilder::new()
            .with_bucket_name(required("BucketName", &self.bucket)?)
            .with_http_connector(Connector)
            .with_retry(retries());
        let builder = match self.universe_domain.as_str() {
            "" => builder,
            domain => builder.with_base_url(&format!("https://storage.{domain}")),
        };
        let builder = match (self.credentials_file.as_str(), self.access_id.as_str()) {
            ("", "") => builder,
            ("", access_id) => {
                let private_key = required("PrivateKey", self.private_key.expose())?;
                // Lines of a key are often written as `\n` in one line.
                let private_key = private_key.replace("\\n", "\n");
                let key = serde_json::json!({ "client_email": access_id, "private_key": private_key, "private_key_id": "" });
                builder.with_service_account_key(key.to_string())
            }
            (file, _) => builder.with_service_account_path(file),
        };
        Ok(builder.build()?)
    }
}
