//! Credentials: `POST /auth`, and the headers in which clients send them along.

use std::collections::HashMap;

use base64::{
    Engine as _,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::HeaderMap;
use serde::{Deserialize, Serialize};

use crate::{
    api::{
        Request, Response,
        router::{Route, route},
        stream,
    },
    broker::Credentials,
    error::{EngineError, Result},
};

pub(super) const ROUTES: &[Route] = &[route!(POST "/auth" => login)];

/// Clients differ in whether they pad.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&URL_SAFE, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// Docker's `AuthConfig`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AuthConfig {
    username: Option<String>,
    password: Option<String>,
    /// `base64(user:password)`, in place of the two.
    auth: Option<String>,
    serveraddress: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct LoginAnswer {
    identity_token: String,
    status: &'static str,
}

async fn login(mut request: Request) -> Result<Response> {
    let config: Option<AuthConfig> = request.json().await?;
    let credentials = config.unwrap_or_default().into_credentials();
    let logged_in = request.engine.images().broker().login(credentials).await?;
    Ok(stream::ok(&LoginAnswer { identity_token: logged_in.identity_token, status: "Login Succeeded" }))
}

impl AuthConfig {
    fn into_credentials(self) -> Credentials {
        let (mut username, mut password) = (self.username.unwrap_or_default(), self.password.unwrap_or_default());
        let decoded = self.auth.and_then(|auth| decode(&auth).and_then(|bytes| String::from_utf8(bytes).ok()));
        if username.is_empty()
            && let Some((user, secret)) = decoded.as_deref().and_then(|pair| pair.split_once(':'))
        {
            (username, password) = (user.to_owned(), secret.to_owned());
        }
        Credentials {
            username,
            password,
            identity_token: self.identitytoken.unwrap_or_default(),
            registry_token: self.registrytoken.unwrap_or_default(),
            server: self.serveraddress.unwrap_or_default(),
        }
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let url_safe: String = text
        .trim()
        .chars()
        .map(|digit| {
            if digit == '+' {
                '-'
            } else if digit == '/' {
                '_'
            } else {
                digit
            }
        })
        .collect();
    BASE64.decode(url_safe).ok()
}

/// Reads `X-Registry-Auth`. As with Docker, a value that cannot be read counts as none, and so does one without a name.
pub(super) fn registry_auth(headers: &HeaderMap) -> Option<Credentials> {
    let bytes = decode(headers.get("X-Registry-Auth")?.to_str().ok()?)?;
    let config: AuthConfig = serde_json::from_slice(&bytes).ok()?;
    let credentials = config.into_credentials();
    let is_empty = credentials.username.is_empty() && credentials.identity_token.is_empty() && credentials.registry_token.is_empty();
    (!is_empty).then_some(credentials)
}

/// Reads `X-Registry-Config`: credentials by registry, which a build sends because it may need several.
pub(super) fn registry_config(headers: &HeaderMap) -> Result<Vec<Credentials>> {
    let Some(header) = headers.get("X-Registry-Config") else { return Ok(Vec::new()) };
    let invalid = || EngineError::invalid("the header X-Registry-Config is not base64 of a JSON object");
    let bytes = decode(header.to_str().map_err(|_| invalid())?).ok_or_else(invalid)?;
    let configs: HashMap<String, AuthConfig> = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
    let with_server = |(server, config): (String, AuthConfig)| Credentials { server, ..config.into_credentials() };
    Ok(configs.into_iter().map(with_server).collect())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(name: &'static str, json: &str) -> HeaderMap {
        let value = base64::engine::general_purpose::URL_SAFE.encode(json);
        HeaderMap::from_iter([(name.parse().expect("a header name"), HeaderValue::from_str(&value).expect("ASCII"))])
    }

    #[test]
    fn credentials_come_in_two_forms() {
        let plain = headers("x-registry-auth", r#"{"username":"u","password":"p?","serveraddress":"r:5000"}"#);
        let joined = headers("x-registry-auth", r#"{"auth":"dTpwPw==","serveraddress":"r:5000"}"#);
        for headers in [plain, joined] {
            let credentials = registry_auth(&headers).expect("credentials");
            assert_eq!((credentials.username.as_str(), credentials.password.as_str(), credentials.server.as_str()), ("u", "p?", "r:5000"));
        }
    }

    #[test]
    fn unreadable_credentials_are_none() {
        assert_eq!(registry_auth(&headers("x-registry-auth", "{}")), None);
        assert_eq!(registry_auth(&headers("x-registry-auth", "not json")), None);
        let broken = HeaderMap::from_iter([("x-registry-auth".parse().expect("a name"), HeaderValue::from_static("!!"))]);
        assert_eq!(registry_auth(&broken), None);
    }

    #[test]
    fn a_build_brings_credentials_by_registry() {
        let sent = headers("x-registry-config", r#"{"r:5000":{"username":"u","password":"p"}}"#);
        let credentials = registry_config(&sent).expect("credentials");
        assert_eq!((credentials[0].server.as_str(), credentials[0].username.as_str()), ("r:5000", "u"));
        assert!(registry_config(&headers("x-registry-config", "[]")).is_err());
    }
}
