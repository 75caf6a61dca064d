//! Azure Blob Storage.

use object_store::azure::{MicrosoftAzure, MicrosoftAzureBuilder};

use super::{CacheSetupError, connection::Connector, required, retries};
use crate::config::Secret;

const DEFAULT_DOMAIN: &str = "blob.core.windows.net";

/// `[runners.cache.azure]`.
#[derive(Debug, Clone, Default)]
pub struct AzureSettings {
    pub account_name: String,
    /// Without it, the credentials are those of this machine.
    pub account_key: Secret,
    pub container: String,
    /// Empty for `blob.core.windows.net`. With a scheme it is the address of an emulator, whose accounts are in the path.
    pub storage_domain: String,
}

impl AzureSettings {
    pub(super) fn open(&self) -> Result<MicrosoftAzure, CacheSetupError> {
        let account = required("AccountName", &self.account_name)?;
        let builder = match self.account_key.expose() {
            // Managed and workload identities are described by the environment.
            "" => MicrosoftAzureBuilder::from_env(),
            key => MicrosoftAzureBuilder::new().with_access_key(key),
        };
        let endpoint = match self.storage_domain.as_str() {
            "" => format!("https://{account}.{DEFAULT_DOMAIN}"),
            address if address.contains("://") => format!("{}/{account}", address.trim_end_matches('/')),
            domain => format!("https://{account}.{domain}"),
        };
        let builder = builder
            .with_account(account)
            .with_container_name(required("ContainerName", &self.container)?)
            .with_endpoint(endpoint)
            .with_allow_http(true)
            .with_http_connector(Connector)
            .with_retry(retries());
        Ok(builder.build()?)
    }
}
