//! Credentials for pulling a job's images: `DOCKER_AUTH_CONFIG` first, then what the coordinator sent.

use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bollard::auth::DockerCredentials;
use dockwright_job::Credentials;
use serde::Deserialize;

use super::image_name::{credential_keys, normalise_registry};

/// Credentials and where they came from, as the trace says it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) credentials: DockerCredentials,
    pub(super) source: &'static str,
}

/// All credentials of a job, by registry path.
#[derive(Debug, Default)]
pub(super) struct Keyring {
    from_variable: HashMap<String, (String, String)>,
    from_payload: HashMap<String, (String, String)>,
}

#[derive(Deserialize)]
struct AuthConfig {
    #[serde(default)]
    auths: HashMap<String, AuthEntry>,
}

#[derive(Deserialize)]
struct AuthEntry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

impl Keyring {
    /// Reads a job's credentials. Returns a warning, too, when `DOCKER_AUTH_CONFIG` cannot be read.
    pub(super) fn new(auth_config: &str, payload: &[Credentials]) -> (Self, Option<String>) {
        let parsed = match auth_config.trim() {
            "" => Ok(AuthConfig { auths: HashMap::new() }),
            text => serde_json::from_str::<AuthConfig>(text),
        };
        let (config, warning) = match parsed {
            Ok(config) => (config, None),
            Err(error) => {
                (AuthConfig { auths: HashMap::new() }, Some(format!("DOCKER_AUTH_CONFIG is not used, it cannot be read: {error}")))
            }
        };
        let from_variable =
            config.auths.into_iter().filter_map(|(key, entry)| Some((normalise_registry(&key), entry.user_and_password()?))).collect();
        let from_payload = payload
            .iter()
            .filter(|credentials| credentials.kind == "registry")
            .map(|credentials| (normalise_registry(&credentials.url), (credentials.username.clone(), credentials.password.clone())))
            .collect();
        (Self { from_variable, from_payload }, warning)
    }

    /// Returns what fits an image best.
    pub(super) fn find(&self, image: &str) -> Option<Found> {
        let keys = credential_keys(image);
        let sources = [(&self.from_variable, "$DOCKER_AUTH_CONFIG"), (&self.from_payload, "job payload (GitLab Registry)")];
        sources.into_iter().find_map(|(entries, source)| {
            let (key, (username, password)) = keys.iter().find_map(|key| entries.get_key_value(key))?;
            let credentials = DockerCredentials {
                username: Some(username.clone()),
                password: Some(password.clone()),
                serveraddress: Some(key.split('/').next().unwrap_or(key).to_owned()),
                ..DockerCredentials::default()
            };
            Some(Found { credentials, source })
        })
    }
}

impl AuthEntry {
    fn user_and_password(&self) -> Option<(String, String)> {
        if !self.username.is_empty() {
            return Some((self.username.clone(), self.password.clone()));
        }
        let decoded = String::from_utf8(STANDARD.decode(self.auth.trim()).ok()?).ok()?;
        let (user, password) = decoded.split_once(':')?;
        Some((user.to_owned(), password.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload() -> Vec<Credentials> {
        let registry = |kind: &str, url: &str, username: &str| Credentials {
            kind: kind.to_owned(),
            url: url.to_owned(),
            username: username.to_owned(),
            password: "p".to_owned(),
        };
        vec![registry("registry", "reg.tld:5000", "job"), registry("other", "x.tld", "nobody")]
    }

    #[test]
    fn the_variable_goes_before_the_payload_and_the_longest_path_first() {
        let config =
            r#"{"auths":{"reg.tld:5000/ns":{"auth":"bnM6c2VjcmV0"},"https://index.docker.io/v1/":{"username":"hub","password":"h"}}}"#;
        let (keyring, warning) = Keyring::new(config, &payload());
        assert_eq!(warning, None);
        let user = |image: &str| keyring.find(image).and_then(|found| found.credentials.username);
        assert_eq!(user("reg.tld:5000/ns/image:1").as_deref(), Some("ns"));
        assert_eq!(user("reg.tld:5000/other/image").as_deref(), Some("job"));
        assert_eq!(user("busybox").as_deref(), Some("hub"));
        assert_eq!(user("x.tld/image"), None);
    }

    #[test]
    fn an_unreadable_variable_is_a_warning() {
        let (keyring, warning) = Keyring::new("{", &payload());
        assert!(warning.is_some_and(|text| text.contains("DOCKER_AUTH_CONFIG")));
        assert!(keyring.find("reg.tld:5000/x").is_some());
    }
}
