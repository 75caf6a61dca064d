//! Tokens: answering a registry's challenge, and remembering what was given.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use reqwest::{Method, StatusCode, header};
use serde::Deserialize;
use url::{Url, form_urlencoded};

use super::{
    ClientError, LoggedIn,
    transport::{Endpoint, Transport},
};
use crate::{
    credentials::Credentials,
    protocol::{Challenge, ErrorBody, Scope},
};

const CLIENT_ID: &str = "dockwright";
/// Clients take no life shorter than this.
const LIFE_MIN_SECS: u64 = 60;
/// Tokens are used for three quarters of their life, so that a long request ends within it.
const LIFE_USED_PERCENT: u64 = 75;

/// `Authorization` headers by what they are good for.
#[derive(Default)]
pub(super) struct TokenCache {
    headers: Mutex<HashMap<Key, Cached>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) registry: String,
    pub(super) scope: Scope,
    pub(super) credentials: Credentials,
}

struct Cached {
    header: String,
    good_until: Instant,
}

/// What a token service answers.
#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    expires_in: u64,
    #[serde(default)]
    refresh_token: String,
}

impl TokenCache {
    /// Returns the header to send, if it is known already or needs no question.
    pub(super) fn known(&self, key: &Key, endpoint: &Endpoint) -> Option<String> {
        let headers = self.headers.lock().expect("no holder of this lock panics");
        if let Some(cached) = headers.get(key).filter(|cached| cached.good_until > Instant::now()) {
            return Some(cached.header.clone());
        }
        if !key.credentials.registry_token.is_empty() {
            return Some(format!("Bearer {}", key.credentials.registry_token));
        }
        let wants_basic = endpoint.challenges.iter().any(|challenge| challenge.scheme == "basic");
        (wants_basic && key.credentials.has_password()).then(|| key.credentials.basic_header())
    }

    /// Answers a challenge and remembers the result.
    pub(super) async fn answer(
        &self,
        transport: &Transport,
        endpoint: &Endpoint,
        challenges: &[Challenge],
        key: &Key,
    ) -> Result<String, ClientError> {
        let Some(challenge) = challenges.iter().find(|challenge| challenge.scheme == "bearer") else {
            let offers_basic = challenges.iter().any(|challenge| challenge.scheme == "basic");
            if offers_basic && key.credentials.has_password() {
                return Ok(key.credentials.basic_header());
            }
            // In the words of Docker, which know no code here.
            return Err(ClientError::Unauthorized { message: "no basic auth credentials".to_owned() });
        };
        let asked = challenge.get("scope").map_or_else(|| key.scope.to_string(), ToOwned::to_owned);
        let answer = fetch(transport, endpoint, challenge, Some(&asked), &key.credentials, false).await?;
        let header = answer.header(&endpoint.registry)?;
        let life = Duration::from_secs(answer.expires_in.max(LIFE_MIN_SECS) * LIFE_USED_PERCENT / 100);
        let cached = Cached { header: header.clone(), good_until: Instant::now() + life };
        self.headers.lock().expect("no holder of this lock panics").insert(key.clone(), cached);
        Ok(header)
    }

    /// Forgets a header that was refused.
    pub(super) fn forget(&self, key: &Key) {
        self.headers.lock().expect("no holder of this lock panics").remove(key);
    }

    /// Checks credentials: gets a token that is good for nothing in particular, and shows it.
    pub(super) async fn login(
        &self,
        transport: &Transport,
        endpoint: &Endpoint,
        credentials: &Credentials,
    ) -> Result<LoggedIn, ClientError> {
        let mut identity_token = String::new();
        let header = match endpoint.challenges.iter().find(|challenge| challenge.scheme == "bearer") {
            Some(challenge) => {
                let answer = fetch(transport, endpoint, challenge, None, credentials, true).await?;
                identity_token.clone_from(&answer.refresh_token);
                answer.header(&endpoint.registry)?
            }
            None => credentials.basic_header(),
        };
        let request = transport.request(endpoint, Method::GET, endpoint.url("v2/")).header(header::AUTHORIZATION, header);
        let response = request.send().await.map_err(|source| ClientError::unreachable(&endpoint.registry, source))?;
        match response.status() {
            status if status.is_success() => Ok(LoggedIn { identity_token }),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(wrong_password()),
            status => Err(ClientError::Refused { registry: endpoint.registry.clone(), status, message: message_of(response).await }),
        }
    }
}

impl TokenAnswer {
    fn header(&self, registry: &str) -> Result<String, ClientError> {
        match (self.token.as_str(), self.access_token.as_str()) {
            ("", "") => Err(ClientError::protocol(registry, "its token service answered without a token")),
            ("", token) | (token, _) => Ok(format!("Bearer {token}")),
        }
    }
}

/// `GET` with the password, or `POST` with an identity token.
async fn fetch(
    transport: &Transport,
    endpoint: &Endpoint,
    challenge: &Challenge,
    scope: Option<&str>,
    credentials: &Credentials,
    for_login: bool,
) -> Result<TokenAnswer, ClientError> {
    let registry = &endpoint.registry;
    let realm = challenge.get("realm").unwrap_or_default();
    let mut realm =
        Url::parse(realm).map_err(|_| ClientError::protocol(registry, format!("`{realm}` is no address of a token service")))?;
    let request = if credentials.identity_token.is_empty() {
        add_query(&mut realm, challenge, scope, credentials, for_login);
        let request = transport.request(endpoint, Method::GET, realm);
        if credentials.has_password() { request.header(header::AUTHORIZATION, credentials.basic_header()) } else { request }
    } else {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token").append_pair("client_id", CLIENT_ID);
        form.append_pair("refresh_token", &credentials.identity_token).append_pair("service", challenge.get("service").unwrap_or_default());
        form.append_pair("scope", scope.unwrap_or_default());
        transport
            .request(endpoint, Method::POST, realm)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.finish())
    };
    let response = request.send().await.map_err(|source| ClientError::unreachable(registry, source))?;
    match response.status() {
        status if status.is_success() => response.json().await.map_err(|source| ClientError::unreadable(registry, source)),
        StatusCode::UNAUTHORIZED => {
            let message = message_of(response).await;
            if for_login { Err(wrong_password()) } else { Err(ClientError::unauthorized(message)) }
        }
        StatusCode::FORBIDDEN => Err(ClientError::denied(message_of(response).await)),
        StatusCode::TOO_MANY_REQUESTS => {
            Err(ClientError::TooManyRequests { registry: registry.clone(), message: message_of(response).await })
        }
        status => Err(ClientError::Refused { registry: registry.clone(), status, message: message_of(response).await }),
    }
}

fn add_query(realm: &mut Url, challenge: &Challenge, scope: Option<&str>, credentials: &Credentials, for_login: bool) {
    let mut query = realm.query_pairs_mut();
    if let Some(service) = challenge.get("service") {
        query.append_pair("service", service);
    }
    for scope in scope.iter().flat_map(|scope| scope.split(' ')).filter(|scope| !scope.is_empty()) {
        query.append_pair("scope", scope);
    }
    if !credentials.username.is_empty() {
        query.append_pair("account", &credentials.username);
    }
    if for_login {
        query.append_pair("client_id", CLIENT_ID).append_pair("offline_token", "true");
    }
}

fn wrong_password() -> ClientError {
    ClientError::unauthorized("incorrect username or password".to_owned())
}

/// Returns what a registry says about its refusal.
pub(super) async fn message_of(response: reqwest::Response) -> String {
    let status = response.status();
    let text = response.text().await.unwrap_or_default();
    match serde_json::from_str::<ErrorBody>(&text) {
        Ok(body) if !body.errors.is_empty() => body.to_string(),
        _ => status.canonical_reason().unwrap_or("no reason given").to_lowercase(),
    }
}
