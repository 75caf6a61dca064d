//! The docker client's settings: `config.json`, and `.dockercfg` of clients before 1.7.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::Login;

/// What the settings say about registries.
#[derive(Debug, Default)]
pub(super) struct ClientSettings {
    /// Kept in the settings themselves.
    pub(super) logins: Vec<(String, Login)>,
    /// The program that keeps all others; empty for none.
    pub(super) store: String,
    /// Programs by registry.
    pub(super) helpers: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct File {
    auths: BTreeMap<String, Auth>,
    creds_store: String,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

impl ClientSettings {
    /// Reads the text; what is wrong with it is the error.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let value: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let is_new = ["auths", "credsStore", "credHelpers"].iter().any(|key| value.get(key).is_some());
        let is_old = !is_new && value.as_object().is_some_and(|object| object.values().any(|entry| entry.get("auth").is_some()));
        let file = match is_old {
            true => serde_json::from_value(value).map(|auths| File { auths, ..File::default() }),
            false => serde_json::from_value(value),
        };
        let file = file.map_err(|error| error.to_string())?;
        Ok(Self {
            logins: file.auths.into_iter().filter_map(|(key, auth)| Some((key, auth.login()?))).collect(),
            store: file.creds_store,
            helpers: file.cred_helpers,
        })
    }
}

impl Auth {
    fn login(self) -> Option<Login> {
        if !self.identitytoken.is_empty() {
            return Some(Login::IdentityToken(self.identitytoken));
        }
        if !self.username.is_empty() {
            return Some(Login::Password { username: self.username, password: self.password });
        }
        let decoded = String::from_utf8(STANDARD.decode(self.auth.trim()).ok()?).ok()?;
        let (username, password) = decoded.split_once(':')?;
        // Old clients pad the password with zero bytes.
        Some(Login::Password { username: username.to_owned(), password: password.trim_end_matches('\0').to_owned() })
    }
}
