//! One request: its token, its attempts, its redirects, and what its answer must be.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use jiff::Timestamp;
use reqwest::RequestBuilder;
use serde::{Serialize, de::DeserializeOwned};
use url::{Position, Url};

use super::{
    ApiError, Client,
    artifacts::Multipart,
    retry::{self, ATTEMPTS},
};

const REDIRECTS_MAX: usize = 10;
const ERROR_BODY_MAX_BYTES: usize = 64 * 1024;
const JSON: &str = "application/json";

/// Which token goes where.
#[derive(Clone, Copy)]
pub(super) enum Token<'a> {
    Runner(&'a str),
    Job(&'a str),
    Private(&'a str),
}

impl<'a> Token<'a> {
    fn header(self) -> &'static str {
        match self {
            Self::Runner(_) => "runner-token",
            Self::Job(_) => "job-token",
            Self::Private(_) => "private-token",
        }
    }

    fn expose(self) -> &'a str {
        match self {
            Self::Runner(token) | Self::Job(token) | Self::Private(token) => token,
        }
    }
}

pub(super) enum Body<'a> {
    None,
    Json(Bytes),
    /// A piece of a trace.
    Text(Bytes),
    Multipart(Multipart<'a>),
}

impl Body<'_> {
    pub(super) fn json(value: &impl Serialize) -> Self {
        Self::Json(serde_json::to_vec(value).expect("plain data is valid JSON").into())
    }
}

/// A request to send, as often as it takes.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    /// Below `/api/v4/`.
    pub(super) path: String,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) token: Token<'a>,
    pub(super) headers: HeaderMap,
    pub(super) body: Body<'a>,
    /// For one attempt; absent where the server may take its time.
    pub(super) timeout: Option<Duration>,
}

impl<'a> Call<'a> {
    pub(super) fn new(method: Method, path: impl Into<String>, token: Token<'a>, body: Body<'a>) -> Self {
        Self { method, path: path.into(), query: Vec::new(), token, headers: HeaderMap::new(), body, timeout: None }
    }

    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }
}

/// An answer, whatever its status.
pub(super) struct Answer {
    pub(super) method: Method,
    /// Without query and credentials.
    pub(super) url: String,
    pub(super) response: reqwest::Response,
}

impl Client {
    /// Sends a request, again while the answer says that it is worth it. The last answer counts, whatever it says.
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<Answer, ApiError> {
        let mut attempt = 1;
        loop {
            let answer = self.send_once(call).await?;
            if attempt == ATTEMPTS || !retry::is_worthwhile(answer.status()) {
                return Ok(answer);
            }
            let delay = retry::delay(answer.response.headers(), attempt, Timestamp::now(), retry::jitter());
            tracing::debug!(url = answer.url, status = %answer.status(), ?delay, "the coordinator wants the request again");
            tokio::time::sleep(delay).await;
            attempt += 1;
        }
    }

    /// Sends a request once, to wherever the server sends it.
    pub(super) async fn send_once(&self, call: &Call<'_>) -> Result<Answer, ApiError> {
        let mut url = self.transport.url(&call.path);
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.query);
        }
        let home = url.origin();
        for _ in 0..REDIRECTS_MAX {
            let takes_token = call.method != Method::GET || url.origin() == home;
            let answer = self.attempt(call, &url, takes_token).await?;
            let Some(next) = answer.redirect(&url) else { return Ok(answer) };
            if url.scheme() == "https" && next.scheme() != "https" {
                return Err(answer.protocol("the coordinator redirects from https to http"));
            }
            url = next;
        }
        Err(ApiError::Protocol { method: call.method.clone(), url: shown(&url), reason: "too many redirects".to_owned() })
    }

    async fn attempt(&self, call: &Call<'_>, url: &Url, takes_token: bool) -> Result<Answer, ApiError> {
        let request_id = request_id();
        let mut request = self.transport.client()?.request(call.method.clone(), url.clone());
        request = request.header("x-request-id", &request_id).headers(call.headers.clone());
        if takes_token {
            let mut token = HeaderValue::from_str(call.token.expose()).map_err(|_| ApiError::Protocol {
                method: call.method.clone(),
                url: shown(url),
                reason: "the token holds characters that no token has".to_owned(),
            })?;
            token.set_sensitive(true);
            request = request.header(call.token.header(), token);
        }
        if let Some(timeout) = call.timeout {
            request = request.timeout(timeout);
        }
        let began = Instant::now();
        let sent = with_body(request, &call.body).await?.send().await;
        let response =
            sent.map_err(|source| ApiError::Unreachable { method: call.method.clone(), url: shown(url), source: source.without_url() })?;
        let answered_id = response.headers().get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or(&request_id);
        let status = response.status();
        tracing::debug!(method = %call.method, url = shown(url), %status, request_id = answered_id, took = ?began.elapsed(), "request");
        Ok(Answer { method: call.method.clone(), url: shown(url), response })
    }

    /// Sends a request whose answer is JSON with a certain status.
    pub(super) async fn send_for_json<T: DeserializeOwned>(&self, call: &Call<'_>, expected: StatusCode) -> Result<T, ApiError> {
        let answer = self.send(call).await?;
        if answer.status() != expected {
            return Err(answer.refusal(call.token).await);
        }
        answer.json().await
    }
}

async fn with_body(request: RequestBuilder, body: &Body<'_>) -> Result<RequestBuilder, ApiError> {
    Ok(match body {
        Body::None => request,
        Body::Json(bytes) => request.header(header::CONTENT_TYPE, JSON).header(header::ACCEPT, JSON).body(bytes.clone()),
        Body::Text(bytes) => request.header(header::CONTENT_TYPE, "text/plain").body(bytes.clone()),
        Body::Multipart(multipart) => multipart.put_into(request).await?,
    })
}

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// Returns a header's text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    fn redirect(&self, from: &Url) -> Option<Url> {
        let follows = match self.status().as_u16() {
            307 | 308 => true,
            301 | 302 => self.method == Method::GET,
            _ => false,
        };
        let location = self.header("location").filter(|_| follows)?;
        from.join(location).ok().filter(|url| matches!(url.scheme(), "http" | "https"))
    }

    pub(super) fn protocol(&self, reason: impl Into<String>) -> ApiError {
        ApiError::Protocol { method: self.method.clone(), url: self.url.clone(), reason: reason.into() }
    }

    /// Reads the answer, which must be declared as JSON.
    pub(super) async fn json<T: DeserializeOwned>(self) -> Result<T, ApiError> {
        let media_type = self.header("content-type").and_then(|text| text.split(';').next()).unwrap_or_default().trim().to_owned();
        if !media_type.eq_ignore_ascii_case(JSON) {
            return Err(self.protocol(format!("the answer's type is `{media_type}` instead of `{JSON}`")));
        }
        let (method, url) = (self.method, self.url);
        let unreachable =
            |source: reqwest::Error| ApiError::Unreachable { method: method.clone(), url: url.clone(), source: source.without_url() };
        let bytes = self.response.bytes().await.map_err(unreachable)?;
        // The parser's message may quote what it read, so only its place is told.
        serde_json::from_slice(&bytes).map_err(|error| ApiError::Protocol {
            reason: format!("the answer cannot be understood, at line {} column {}", error.line(), error.column()),
            method,
            url,
        })
    }

    /// Makes an error of an answer, with the server's words. A server that repeats the token does not get it printed.
    pub(super) async fn refusal(self, token: Token<'_>) -> ApiError {
        let status = self.status();
        let (method, url) = (self.method, self.url);
        let mut response = self.response;
        let mut body = Vec::new();
        while body.len() < ERROR_BODY_MAX_BYTES
            && let Ok(Some(chunk)) = response.chunk().await
        {
            body.extend_from_slice(&chunk);
        }
        let mut message = message(&body);
        if !token.expose().is_empty() {
            message = message.replace(token.expose(), "[redacted]");
        }
        ApiError::Refused { method, url, status, message }
    }
}

/// Reads `{"message": "text"}`, `{"message": {"field": ["reason"]}}` or `{"error": "text"}`.
fn message(body: &[u8]) -> String {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) else { return String::new() };
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match value.get("message").or_else(|| value.get("error")) {
        Some(serde_json::Value::Object(fields)) => {
            let field = |(name, reasons): (&String, &serde_json::Value)| {
                let reasons: Vec<String> = reasons.as_array().map_or_else(|| vec![text(reasons)], |list| list.iter().map(text).collect());
                format!("{name}: {}", reasons.join(", "))
            };
            fields.iter().map(field).collect::<Vec<_>>().join("; ")
        }
        Some(other) => text(other),
        None => String::new(),
    }
}

/// Without query, fragment and credentials.
fn shown(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), &url[Position::BeforeHost..Position::AfterPort], url.path())
}

fn request_id() -> String {
    let mut bytes = [0; 16];
    // An id that is not random is still an id.
    let _ = getrandom::fill(&mut bytes);
    hex::encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_servers() {
        for (body, expected) in [
            (r#"{"message":"403 Forbidden"}"#, "403 Forbidden"),
            (r#"{"message":{"tag_list":["is too long","is odd"],"x":["bad"]}}"#, "tag_list: is too long, is odd; x: bad"),
            (r#"{"error":"invalid_token"}"#, "invalid_token"),
            ("<html>", ""),
            ("[]", ""),
        ] {
            assert_eq!(message(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn addresses_are_shown_without_secrets() {
        let url = Url::parse("https://user:pass@host:8/a/b?token=x#y").expect("an address");
        assert_eq!(shown(&url), "https://host:8/a/b");
    }
}
