//! Asking the GitLab of an entry.

use std::path::Path;

use dockwright_job::RegisteredRunner;
use dockwright_runner::{
    api::{Client, ServerSettings},
    config::file::RunnerEntry,
};
use jiff::Timestamp;
use tokio::runtime::Runtime;

use crate::{
    error::{CommandError, ErrorKind, Explain as _},
    wire::host_setup,
};

/// Makes what asking needs.
pub(super) fn runtime() -> Result<Runtime, CommandError> {
    host_setup::runtime().explain(ErrorKind::Environment, || "start the async runtime".to_owned())
}

/// Makes a client for the server of an entry.
pub(super) fn client(entry: &RunnerEntry, certificates: &Path) -> Result<Client, CommandError> {
    Client::new(settings(entry, certificates)).map_err(|error| CommandError::new(ErrorKind::Configuration, error))
}

/// Returns where the server of an entry is.
pub(super) fn settings(entry: &RunnerEntry, certificates: &Path) -> ServerSettings {
    ServerSettings { tls: entry.tls_files(), certificates_dir: Some(certificates.to_owned()), ..ServerSettings::new(entry.url.clone()) }
}

/// Returns now, in whole seconds, as config.toml has it.
pub(super) fn obtained_now() -> toml::Value {
    time(Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string().as_str())
}

/// Returns when a token ends, as config.toml has it; Go's zero time when it does not.
pub(super) fn expiry(runner: &RegisteredRunner) -> toml::Value {
    let expires = runner.token_expires_at.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
    expires.map_or_else(zero_time, |time_| time(&time_.to_string()))
}

/// Go's zero time, which stands for none.
pub(super) fn zero_time() -> toml::Value {
    time("0001-01-01T00:00:00Z")
}

fn time(text: &str) -> toml::Value {
    text.parse().map_or_else(|_| toml::Value::String(text.to_owned()), toml::Value::Datetime)
}
