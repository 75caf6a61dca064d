//! Credentials as the docker client keeps them: `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`.
//!
//! Only what `docker login` writes into the file itself is read. Credential helpers are programs of the user's desktop; where one is
//! configured for a registry, the error says so.

use std::{collections::HashMap, fs, io, path::PathBuf};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;

use crate::environment;

/// The client keeps Docker Hub under the address of its first API.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";
const DOCKER_HUB_HOST: &str = "docker.io";

/// What is needed of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct DockerConfig {
    auths: HashMap<String, Auth>,
    creds_store: String,
    cred_helpers: HashMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
}

/// The secret does not print.
impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Name and password for a registry.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) username: String,
    pub(crate) password: String,
}

/// The password does not print.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.username)
    }
}

/// Failure to get credentials out of the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DockerConfigError {
    #[error("read the docker client's settings `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the docker client's settings `{}` are not valid", path.display())]
    Parse {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("credentials for `{host}` in the docker client's settings are not `user:password` in base64")]
    BadAuth { host: String },
    #[error("credentials for `{host}` are kept by the program `docker-credential-{helper}`, which dockwright does not call")]
    Helper { host: String, helper: String },
}

impl DockerConfig {
    /// Reads the user's file; without one nobody is logged in anywhere.
    pub(crate) fn read() -> Result<Self, DockerConfigError> {
        let directory = environment::read("DOCKER_CONFIG").map(PathBuf::from);
        let Some(directory) = directory.or_else(|| Some(environment::absolute_path("HOME")?.join(".docker"))) else {
            return Ok(Self::default());
        };
        let path = directory.join("config.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| DockerConfigError::Parse { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(DockerConfigError::Read { path, source }),
        }
    }

    /// Returns the login for the registry at `host`.
    pub(crate) fn login(&self, host: &str) -> Result<Option<Login>, DockerConfigError> {
        let key = if host == DOCKER_HUB_HOST { DOCKER_HUB_KEY } else { host };
        let helper = self.cred_helpers.get(key).or(Some(&self.creds_store).filter(|store| !store.is_empty()));
        let auth = self.auths.iter().find(|(written, _)| *written == key || bare(written) == bare(key)).map(|(_, auth)| auth);
        match (auth, helper) {
            (Some(auth), _) if !auth.auth.is_empty() => decode(&auth.auth, host).map(Some),
            (Some(auth), _) if !auth.username.is_empty() => {
                Ok(Some(Login { username: auth.username.clone(), password: auth.password.clone() }))
            }
            (Some(_), Some(helper)) => Err(DockerConfigError::Helper { host: host.to_owned(), helper: helper.clone() }),
            _ => Ok(None),
        }
    }
}

/// Host and port of a registry that may be written as an address.
fn bare(written: &str) -> &str {
    let without_scheme = written.split_once("://").map_or(written, |(_, rest)| rest);
    without_scheme.split('/').next().unwrap_or_default()
}

fn decode(auth: &str, host: &str) -> Result<Login, DockerConfigError> {
    let bad = || DockerConfigError::BadAuth { host: host.to_owned() };
    let bytes = BASE64_STANDARD.decode(auth).map_err(|_| bad())?;
    let text = String::from_utf8(bytes).map_err(|_| bad())?;
    let (username, password) = text.split_once(':').ok_or_else(bad)?;
    // Old clients pad the password with zero bytes.
    Ok(Login { username: username.to_owned(), password: password.trim_end_matches('\0').to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> DockerConfig {
        serde_json::from_str(text).expect("the file parses")
    }

    #[test]
    fn what_docker_login_writes_is_found() {
        let config = config(
            r#"{"auths": {"registry.example.com:5000": {"auth": "YW5uOnNlOmNyZXQ="}, "https://index.docker.io/v1/": {"auth": "aHViOnB3"}},
                "HttpHeaders": {}}"#,
        );
        let login = config.login("registry.example.com:5000").expect("readable").expect("logged in");
        assert_eq!((login.username.as_str(), login.password.as_str()), ("ann", "se:cret"));
        assert_eq!(config.login("docker.io").expect("readable").expect("logged in").username, "hub");
        assert_eq!(config.login("other.example.com").expect("readable"), None);
    }

    #[test]
    fn helpers_are_named() {
        let config = config(r#"{"auths": {"r.example.com": {}}, "credsStore": "desktop"}"#);
        let error = config.login("r.example.com").expect_err("kept elsewhere").to_string();
        assert!(error.contains("docker-credential-desktop"), "{error}");
        assert_eq!(config.login("public.example.com").expect("readable"), None);
    }

    #[test]
    fn nonsense_is_an_error() {
        for auth in ["%%%", "bm8gY29sb24=", "/w=="] {
            assert!(config(&format!(r#"{{"auths": {{"r": {{"auth": "{auth}"}}}}}}"#)).login("r").is_err(), "{auth}");
        }
    }
}
