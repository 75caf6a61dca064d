//! Connections to one server.
//!
//! They are made anew when the certificates on disk change, and after `connection_max_age`. Redirects are not followed here: whether the
//! token goes along is decided for each request.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use reqwest::redirect;
use url::Url;

use super::{
    ServerSettings, SetupError, TlsFiles, details,
    tls::{self, Stamp},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Longer than any server holds a request for a job.
const READ_TIMEOUT: Duration = Duration::from_secs(600);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3600);
const REPORT_TIMEOUT: Duration = Duration::from_secs(60);
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

#[derive(Debug)]
pub(super) struct Transport {
    settings: ServerSettings,
    base: Url,
    connections: Mutex<Connections>,
}

#[derive(Debug)]
struct Connections {
    client: reqwest::Client,
    stamp: Stamp,
    made: Instant,
}

impl Transport {
    pub(super) fn new(settings: ServerSettings) -> Result<Self, SetupError> {
        let base = settings.api_base()?;
        let files = settings.tls_files(base.host_str().unwrap_or_default());
        let connections = Mutex::new(connect(&files)?);
        Ok(Self { settings, base, connections })
    }

    pub(super) fn settings(&self) -> &ServerSettings {
        &self.settings
    }

    /// Returns the files in use.
    pub(super) fn tls_files(&self) -> TlsFiles {
        self.settings.tls_files(self.base.host_str().unwrap_or_default())
    }

    /// Returns how long a report may wait for its answer.
    pub(super) fn report_timeout(&self) -> Duration {
        self.settings.report_timeout.unwrap_or(REPORT_TIMEOUT)
    }

    /// Returns an address below the API's root.
    pub(super) fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path()));
        url
    }

    /// Returns a client with the certificates as they are now.
    pub(super) fn client(&self) -> Result<reqwest::Client, SetupError> {
        let files = self.tls_files();
        let stamp = Stamp::of(&files);
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = self.settings.connection_max_age.is_some_and(|age| connections.made.elapsed() > age);
        if is_old || connections.stamp != stamp {
            *connections = connect(&files)?;
        }
        Ok(connections.client.clone())
    }
}

fn connect(files: &TlsFiles) -> Result<Connections, SetupError> {
    let client = reqwest::Client::builder()
        .user_agent(details::user_agent())
        .tls_backend_preconfigured(tls::client_config(files)?)
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .timeout(REQUEST_TIMEOUT)
        .tcp_keepalive(KEEP_ALIVE)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .build()
        .map_err(SetupError::Http)?;
    Ok(Connections { client, stamp: Stamp::of(files), made: Instant::now() })
}
