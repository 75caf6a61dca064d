//! How requests reach a bucket: through the HTTP client that everything else here uses, with its TLS.

use std::time::Duration;

use object_store::{
    ClientOptions,
    client::{HttpClient, HttpConnector},
};

use crate::api::tls_client_config;

/// Buckets answer at once; the machine's own metadata service, which credentials may come from, need not exist.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        let failed = |source| object_store::Error::Generic { store: "cache", source };
        let tls = tls_client_config().map_err(|error| failed(error.into()))?;
        let client = reqwest::Client::builder()
            .user_agent(concat!("dockwright/", env!("CARGO_PKG_VERSION")))
            .tls_backend_preconfigured(tls)
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .build()
            .map_err(|error| failed(error.into()))?;
        Ok(HttpClient::new(client))
    }
}
