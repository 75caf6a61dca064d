//! Tokens, by GitLab's rules: `/jwt/auth` gives whoever has a name and a password a signed list of what they may do, for five minutes.
//!
//! An answer grants what of the asked-for scopes is allowed, possibly nothing; that is no error. Wrong credentials are one, and so is
//! asking without a name for something that is not for anybody. No refresh tokens are given.

use std::time::{SystemTime, UNIX_EPOCH};

use http::{Method, Request, StatusCode, header};
use hyper::body::Incoming;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::{
    Identity, Registry,
    access::SERVICE,
    respond::{self, Failure, Response},
};
use crate::{
    credentials::Credentials,
    protocol::{Action, ErrorCode, Scope},
};

const ISSUER: &str = "dockwright";
const LIFE_SECS: u64 = 5 * 60;
/// Clocks of the containers and ours are the same; GitLab allows this much all the same.
const NOT_BEFORE_SECS: u64 = 5;
const FORM_MAX_BYTES: usize = 64 * 1024;

/// No key for signing tokens could be made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No key pair.
    #[error("make a key for signing registry tokens")]
    Generate(#[from] rcgen::Error),
}

/// Signs and verifies tokens with a key of its own.
pub(super) struct TokenService {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: String,
    exp: u64,
    nbf: u64,
    iat: u64,
    jti: String,
    access: Vec<Access>,
}

#[derive(Serialize, Deserialize)]
struct Access {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    actions: Vec<String>,
}

#[derive(Serialize)]
struct TokenAnswer<'a> {
    token: &'a str,
    access_token: &'a str,
    expires_in: u64,
    issued_at: String,
}

impl TokenService {
    pub(super) fn new() -> Result<Self, KeyError> {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&[SERVICE]);
        validation.set_issuer(&[ISSUER]);
        validation.validate_nbf = true;
        Ok(Self {
            encoding: EncodingKey::from_ec_der(&pair.serialize_der()),
            decoding: DecodingKey::from_ec_der(pair.public_key_raw()),
            validation,
        })
    }

    fn sign(&self, identity: &Identity, granted: &[Scope]) -> Result<String, jsonwebtoken::errors::Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let access = granted.iter().map(|scope| Access {
            kind: "repository".to_owned(),
            name: scope.repository.clone(),
            actions: scope.actions.iter().map(|action| action.as_str().to_owned()).collect(),
        });
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: identity.name.clone(),
            aud: SERVICE.to_owned(),
            exp: now + LIFE_SECS,
            nbf: now.saturating_sub(NOT_BEFORE_SECS),
            iat: now,
            jti: random_id(),
            access: access.collect(),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &self.encoding)
    }

    /// Returns whose token it is and what it grants, if it is one of ours and still good.
    pub(super) fn verify(&self, token: &str) -> Option<(Identity, Vec<Scope>)> {
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation).ok()?.claims;
        let granted = claims.access.into_iter().map(|access| Scope {
            actions: Action::ALL.into_iter().filter(|action| access.actions.iter().any(|granted| granted == action.as_str())).collect(),
            repository: access.name,
        });
        Some((Identity { name: claims.sub }, granted.collect()))
    }
}

fn random_id() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    hex::encode(bytes)
}

/// What a request for a token says.
#[derive(Default)]
struct TokenRequest {
    credentials: Option<Credentials>,
    scopes: Vec<Scope>,
}

impl TokenRequest {
    /// Several parameters, or several words in one.
    fn add_scopes(&mut self, text: &str) {
        // Types other than `repository` are dropped silently, as GitLab does.
        self.scopes.extend(text.split(' ').filter_map(|scope| scope.parse::<Scope>().ok()));
    }
}

impl Registry {
    /// Answers a request for a token.
    pub(super) async fn token(&self, request: Request<Incoming>) -> Result<Response, Failure> {
        let asked = match *request.method() {
            Method::GET => read_get(&request)?,
            Method::POST => read_post(request).await?,
            _ => return Err(Failure::new(ErrorCode::Unsupported, "a token is asked for with GET or POST")),
        };
        let identity = match &asked.credentials {
            Some(credentials) => self
                .authority
                .authenticate(&credentials.username, &credentials.password)
                .ok_or_else(|| Failure::new(ErrorCode::Unauthorized, "HTTP Basic: Access denied"))?,
            None => Identity::anonymous(),
        };
        let granted = self.grant(&identity, &asked.scopes);
        let nothing_for_anybody = identity.is_anonymous() && granted.iter().all(|scope| scope.actions.is_empty());
        if nothing_for_anybody {
            return Err(Failure::new(ErrorCode::Denied, "access forbidden"));
        }
        let token = self.tokens.sign(&identity, &granted).map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "sign a registry token");
            Failure::new(ErrorCode::Unknown, "the token could not be signed")
        })?;
        let issued_at = jiff::Timestamp::now().to_string();
        let answer = TokenAnswer { token: &token, access_token: &token, expires_in: LIFE_SECS, issued_at };
        let mut response = respond::json(StatusCode::OK, &answer);
        respond::set(&mut response, header::CACHE_CONTROL, "no-store");
        Ok(response)
    }

    fn grant(&self, identity: &Identity, asked: &[Scope]) -> Vec<Scope> {
        let allowed = |scope: &Scope| Scope {
            repository: scope.repository.clone(),
            actions: scope.actions.iter().copied().filter(|action| self.authority.access(identity, &scope.repository, *action)).collect(),
        };
        asked.iter().map(allowed).collect()
    }
}

fn read_get(request: &Request<Incoming>) -> Result<TokenRequest, Failure> {
    let mut asked = TokenRequest::default();
    if let Some(value) = request.headers().get(header::AUTHORIZATION) {
        let credentials = value.to_str().ok().and_then(Credentials::from_basic_header);
        asked.credentials = Some(credentials.ok_or_else(|| Failure::new(ErrorCode::Unauthorized, "HTTP Basic: Access denied"))?);
    }
    for (key, value) in respond::query(request.uri()) {
        if key == "scope" {
            asked.add_scopes(&value);
        }
    }
    Ok(asked)
}

/// containerd asks this way first.
async fn read_post(request: Request<Incoming>) -> Result<TokenRequest, Failure> {
    let body = respond::read_body(request.into_body(), FORM_MAX_BYTES, "the form").await?;
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&body).into_owned().collect();
    let field = |name: &str| respond::parameter(&form, name).unwrap_or_default();
    if field("grant_type") != "password" {
        let message = "only `grant_type=password` is supported; refresh tokens are never given";
        return Err(Failure::new(ErrorCode::Unsupported, message).with_status(StatusCode::BAD_REQUEST));
    }
    let mut asked = TokenRequest { credentials: Some(Credentials::basic(field("username"), field("password"))), ..TokenRequest::default() };
    asked.add_scopes(field("scope"));
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_read_back_and_others_do_not() {
        let service = TokenService::new().unwrap();
        let identity = Identity { name: "job".to_owned() };
        let token = service.sign(&identity, &[Scope::push("a/b")]).unwrap();
        assert_eq!(service.verify(&token), Some((identity, vec![Scope::push("a/b")])));
        assert_eq!(TokenService::new().unwrap().verify(&token), None, "another key");
        let mut changed = token.clone();
        changed.insert(token.find('.').unwrap() + 3, 'x');
        assert_eq!(service.verify(&changed), None);
    }
}
