//! Credentials for pulling a job's images.
//!
//! | Source | Named in the trace |
//! |---|---|
//! | the job's variable `DOCKER_AUTH_CONFIG` | `$DOCKER_AUTH_CONFIG` |
//! | the docker client's settings of whoever runs the runner | the path of the file |
//! | the coordinator | `job payload (GitLab Registry)` |
//!
//! What fits the image's path best counts, then the order of the sources. The first two may leave credentials to a program.

mod helper;
mod settings;

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

use bollard::auth::DockerCredentials;
use dockwright_job::Credentials;

use self::{
    helper::{Helper, HelperError},
    settings::ClientSettings,
};
use super::image_name::{credential_keys, normalise_registry};
use crate::config::RegistryLogins;

/// Credentials and where they came from, as the trace says it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) credentials: DockerCredentials,
    pub(super) source: String,
}

/// All credentials of a job.
#[derive(Debug, Default)]
pub(super) struct Keyring {
    sources: Vec<Source>,
}

#[derive(Debug)]
struct Source {
    name: String,
    /// By registry path.
    entries: HashMap<String, Entry>,
}

#[derive(Debug, Clone)]
enum Entry {
    Login(Login),
    /// A program gives it when asked for this server.
    Kept {
        helper: Helper,
        server: String,
    },
}

/// What a registry is shown.
#[derive(Clone, PartialEq, Eq)]
enum Login {
    Password { username: String, password: String },
    IdentityToken(String),
}

/// The secrets do not print.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Credentials that cannot be had, for the trace.
#[derive(Debug, thiserror::Error)]
pub(super) enum AuthError {
    #[error("{source_name} is not used, it cannot be read: {reason}")]
    Unreadable { source_name: String, reason: String },
    #[error("{source_name}: {error}")]
    Helper { source_name: String, error: HelperError },
}

impl AuthError {
    /// A helper whose name is a path would be any program: such a job is not run.
    pub(super) fn is_hostile(&self) -> bool {
        matches!(self, Self::Helper { error: HelperError::Path { .. }, .. })
    }
}

impl Keyring {
    /// Reads a job's credentials, as far as they can be read.
    pub(super) async fn new(variable: &str, logins: &RegistryLogins, payload: &[Credentials]) -> (Self, Vec<AuthError>) {
        let (mut keyring, mut problems) = (Self::default(), Vec::new());
        let from_variable = Some(variable.trim()).filter(|text| !text.is_empty());
        let texts = from_variable.map(|text| ("$DOCKER_AUTH_CONFIG".to_owned(), Ok(text.to_owned())));
        for (name, text) in texts.into_iter().chain(read_first(&logins.files)) {
            let settings = text.map_err(|error| error.to_string()).and_then(|text| ClientSettings::parse(&text));
            match settings {
                Ok(settings) => keyring.add_settings(name, settings, &logins.helper_directories, &mut problems).await,
                Err(reason) => problems.push(AuthError::Unreadable { source_name: name, reason }),
            }
        }
        let registries = payload.iter().filter(|credentials| credentials.kind == "registry");
        let entries = registries.map(|credentials| {
            let login = Login::Password { username: credentials.username.clone(), password: credentials.password.clone() };
            (normalise_registry(&credentials.url), Entry::Login(login))
        });
        keyring.sources.push(Source { name: "job payload (GitLab Registry)".to_owned(), entries: entries.collect() });
        (keyring, problems)
    }

    /// As the docker client does: a helper for one registry counts most, then what the store has, then the file itself.
    async fn add_settings(&mut self, name: String, settings: ClientSettings, directories: &[PathBuf], problems: &mut Vec<AuthError>) {
        let mut entries: HashMap<String, Entry> =
            settings.logins.into_iter().map(|(key, login)| (normalise_registry(&key), Entry::Login(login))).collect();
        let mut complain = |error| problems.push(AuthError::Helper { source_name: name.clone(), error });
        if !settings.store.is_empty() {
            match list(&settings.store, directories).await {
                Ok(kept) => entries.extend(kept),
                Err(error) => complain(error),
            }
        }
        for (server, program) in settings.helpers {
            match Helper::find(&program, directories) {
                Ok(helper) => drop(entries.insert(normalise_registry(&server), Entry::Kept { helper, server })),
                Err(error) => complain(error),
            }
        }
        self.sources.push(Source { name, entries });
    }

    /// Returns what fits an image best, and what could not be had on the way there.
    pub(super) async fn find(&self, image: &str) -> (Option<Found>, Vec<AuthError>) {
        let mut problems = Vec::new();
        for key in credential_keys(image) {
            for source in &self.sources {
                let login = match source.entries.get(&key) {
                    None => continue,
                    Some(Entry::Login(login)) => Ok(Some(login.clone())),
                    Some(Entry::Kept { helper, server }) => helper.get(server).await,
                };
                match login {
                    Ok(Some(login)) => return (Some(Found { credentials: login.for_engine(&key), source: source.name.clone() }), problems),
                    Ok(None) => {}
                    Err(error) => problems.push(AuthError::Helper { source_name: source.name.clone(), error }),
                }
            }
        }
        (None, problems)
    }
}

impl Login {
    fn for_engine(&self, key: &str) -> DockerCredentials {
        let serveraddress = Some(key.split('/').next().unwrap_or(key).to_owned());
        match self.clone() {
            Self::Password { username, password } => {
                DockerCredentials { username: Some(username), password: Some(password), serveraddress, ..DockerCredentials::default() }
            }
            Self::IdentityToken(token) => DockerCredentials { identitytoken: Some(token), serveraddress, ..DockerCredentials::default() },
        }
    }
}

/// Reads the first file that is there.
fn read_first(files: &[PathBuf]) -> Option<(String, io::Result<String>)> {
    let read = |path: &PathBuf| match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        result => Some((Path::display(path).to_string(), result)),
    };
    files.iter().find_map(read)
}

async fn list(program: &str, directories: &[PathBuf]) -> Result<Vec<(String, Entry)>, HelperError> {
    let helper = Helper::find(program, directories)?;
    let servers = helper.list().await?;
    let entry = |server: String| (normalise_registry(&server), Entry::Kept { helper: helper.clone(), server });
    Ok(servers.into_iter().map(entry).collect())
}

#[cfg(test)]
mod tests;
