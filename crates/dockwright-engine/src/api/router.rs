//! From a request's path to its handler.
//!
//! Patterns are written as in Docker's own tables: `{id}` matches one path segment, `{name*}` any number of them, because image names
//! contain slashes. A path that no pattern matches and a method that the path does not have are answered alike, 404, as Docker does.

use std::{collections::HashMap, net::SocketAddr};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method};
use http_body_util::{BodyExt as _, Limited};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use serde::de::DeserializeOwned;

use crate::{
    Engine,
    api::{
        Response, error_response,
        version::{self, ApiVersion},
    },
    error::{EngineError, Result},
};

/// Largest JSON body that is read.
const JSON_BODY_BYTES: usize = 4 * 1024 * 1024;

/// An endpoint.
pub struct Route {
    /// The HTTP method; `GET` answers `HEAD` too unless that has a route of its own.
    pub method: Method,
    /// The path, with parameters in braces.
    pub pattern: &'static str,
    /// What answers.
    pub handler: fn(Request) -> BoxFuture<'static, Result<Response>>,
}

/// Writes one line of a table of routes: `route!(GET "/containers/json" => list)`.
macro_rules! route {
    ($method:ident $pattern:literal => $handler:path) => {
        $crate::api::router::Route { method: http::Method::$method, pattern: $pattern, handler: |request| Box::pin($handler(request)) }
    };
}
pub(crate) use route;

/// Who sent a request, as the kernel tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// A process that connected to the unix socket.
    Process(i32),
    /// A peer on TCP.
    Address(SocketAddr),
    /// Not known, for example a process outside of the sandbox.
    Outside,
}

/// A request on its way to a handler.
pub struct Request {
    /// The engine that is asked.
    pub engine: Engine,
    /// The API version the path asks for.
    pub version: ApiVersion,
    /// Who asks.
    pub caller: Caller,
    /// The HTTP headers.
    pub headers: HeaderMap,
    /// The query string.
    pub query: Query,
    /// The HTTP method, for handlers that serve two.
    pub method: Method,
    params: Vec<(&'static str, String)>,
    body: Incoming,
    upgrade: OnUpgrade,
}

impl Request {
    /// Whether lists and prunes of this caller take in the container, network or volume of that id or name.
    pub(crate) fn sees(&self, id: &str) -> bool {
        !self.engine.owners().are_hidden(id, self.caller)
    }

    /// Returns a parameter of the path, percent-decoded. The pattern of the route has it.
    pub fn param(&self, name: &str) -> &str {
        let found = self.params.iter().find(|(known, _)| *known == name);
        &found.expect("the route's pattern names this parameter").1
    }

    /// Reads the whole body as JSON; an empty body is `null`.
    pub async fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        let bytes = self.bytes().await?;
        let bytes: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        serde_json::from_slice(bytes).map_err(|error| EngineError::invalid(format!("invalid JSON: {error}")))
    }

    /// Reads the whole of a small body, after checking that it claims to be JSON.
    pub async fn bytes(&mut self) -> Result<Bytes> {
        let limited = Limited::new(&mut self.body, JSON_BODY_BYTES);
        let collected = limited.collect().await.map_err(|error| EngineError::invalid(format!("read the request body: {error}")))?;
        let bytes = collected.to_bytes();
        if !bytes.is_empty() {
            self.check_json_type()?;
        }
        Ok(bytes)
    }

    fn check_json_type(&self) -> Result<()> {
        let Some(value) = self.headers.get(http::header::CONTENT_TYPE) else { return Ok(()) };
        let text = String::from_utf8_lossy(value.as_bytes());
        let kind = text.split(';').next().unwrap_or_default().trim();
        if kind.eq_ignore_ascii_case("application/json") || kind.is_empty() {
            return Ok(());
        }
        Err(EngineError::invalid(format!("unsupported Content-Type header ({text}): must be 'application/json'")))
    }

    /// Takes the body, for handlers that read it as it arrives.
    pub fn into_body(self) -> Incoming {
        self.body
    }

    /// Takes the connection, for handlers that answer `101 UPGRADED`, if the client asked for that.
    pub fn into_upgrade(self) -> Option<OnUpgrade> {
        let asked = self.headers.contains_key(http::header::UPGRADE);
        asked.then_some(self.upgrade)
    }
}

/// The query string of a request.
#[derive(Debug, Clone, Default)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Parses a query string.
    pub fn parse(text: &str) -> Self {
        Self { pairs: url::form_urlencoded::parse(text.as_bytes()).into_owned().collect() }
    }

    /// Returns the first value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns the first value of a parameter unless that is empty.
    pub fn non_empty(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// Returns all values of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Reads a boolean as Docker does: everything but nothing, `0`, `no`, `false` and `none` is true.
    pub fn bool(&self, name: &str) -> bool {
        self.bool_or(name, false)
    }

    /// As [`Query::bool`], with a value for an absent parameter.
    pub fn bool_or(&self, name: &str, absent: bool) -> bool {
        let Some(value) = self.get(name) else { return absent };
        !matches!(value.trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// Reads a number.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>> {
        let Some(text) = self.non_empty(name) else { return Ok(None) };
        let parsed = text.parse().map_err(|_| EngineError::invalid(format!("invalid value for `{name}`: {text:?} is not a number")))?;
        Ok(Some(parsed))
    }

    /// Reads a parameter that holds JSON.
    pub fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let Some(text) = self.non_empty(name) else { return Ok(None) };
        let parsed = serde_json::from_str(text).map_err(|error| EngineError::invalid(format!("invalid value for `{name}`: {error}")))?;
        Ok(Some(parsed))
    }

    /// Reads the `filters` parameter.
    pub fn filters(&self) -> Result<Filters> {
        self.get("filters").map_or_else(|| Ok(Filters::default()), Filters::parse)
    }
}

/// The `filters` parameter: names with the values asked for.
#[derive(Debug, Clone, Default)]
pub struct Filters {
    fields: HashMap<String, Vec<String>>,
}

impl Filters {
    /// Parses `{"label": ["a=b"]}` or the older `{"label": {"a=b": true}}`.
    pub fn parse(text: &str) -> Result<Self> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let invalid = || EngineError::invalid(format!("invalid filter: {text}"));
        let value: serde_json::Value = serde_json::from_str(text).map_err(|_| invalid())?;
        let mut fields = HashMap::new();
        for (name, values) in value.as_object().ok_or_else(invalid)? {
            let values = match values {
                serde_json::Value::Array(list) => list.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect(),
                serde_json::Value::Object(set) => {
                    set.iter().filter(|(_, on)| on.as_bool() == Some(true)).map(|(key, _)| key.clone()).collect()
                }
                _ => return Err(invalid()),
            };
            fields.insert(name.clone(), values);
        }
        Ok(Self { fields })
    }

    /// Refuses filters that an endpoint does not know, in Docker's words.
    pub fn check(&self, known: &[&str]) -> Result<()> {
        match self.fields.keys().find(|name| !known.contains(&name.as_str())) {
            Some(unknown) => Err(EngineError::invalid(format!("invalid filter '{unknown}'"))),
            None => Ok(()),
        }
    }

    /// Returns the values of a filter; nothing when it was not given.
    pub fn values(&self, name: &str) -> &[String] {
        self.fields.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether a filter is absent or one of its values satisfies the test.
    pub fn any(&self, name: &str, test: impl FnMut(&String) -> bool) -> bool {
        let values = self.values(name);
        values.is_empty() || values.iter().any(test)
    }

    /// Whether all `label` filters (`key` or `key=value`) hold, and no `label!` filter does.
    pub fn labels_match<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        let holds = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => label(key) == Some(value),
            None => label(wanted).is_some(),
        };
        self.values("label").iter().all(holds) && !self.values("label!").iter().any(holds)
    }

    /// Reads a filter that is a boolean, such as `dangling`.
    pub fn bool(&self, name: &str) -> Result<Option<bool>> {
        match self.values(name) {
            [] => Ok(None),
            [one] => match one.to_ascii_lowercase().as_str() {
                "1" | "true" => Ok(Some(true)),
                "0" | "false" => Ok(Some(false)),
                _ => Err(EngineError::invalid(format!("invalid filter '{name}={one}'"))),
            },
            many => Err(EngineError::invalid(format!("invalid filter '{name}={many:?}'"))),
        }
    }
}

/// What the kernel and HTTP said about a request, before the router sees it.
pub(crate) struct Arrived {
    pub(crate) engine: Engine,
    pub(crate) caller: Caller,
    pub(crate) request: http::Request<Incoming>,
}

/// Finds the handler of a request and runs it; errors become answers.
pub(crate) async fn dispatch(arrived: Arrived) -> Response {
    match route_request(arrived) {
        Ok((handler, request)) => match handler(request).await {
            Ok(response) => response,
            Err(error) => error_response(&error),
        },
        Err(error) => error_response(&error),
    }
}

type Handler = fn(Request) -> BoxFuture<'static, Result<Response>>;

fn route_request(arrived: Arrived) -> Result<(Handler, Request)> {
    let Arrived { engine, caller, mut request } = arrived;
    let upgrade = hyper::upgrade::on(&mut request);
    let (parts, body) = request.into_parts();
    let (version, path) = version::split(parts.uri.path());
    let version = version.check()?;
    let (route, params) = find(&parts.method, path).ok_or_else(|| EngineError::not_found("page not found"))?;
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let request = Request { engine, version, caller, headers: parts.headers, query, method: parts.method, params, body, upgrade };
    Ok((route.handler, request))
}

type Params = Vec<(&'static str, String)>;

fn find(method: &Method, path: &str) -> Option<(&'static Route, Params)> {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let matching = |wanted: &Method| {
        super::routes().filter(|route| route.method == *wanted).find_map(|route| Some((route, match_pattern(route.pattern, &segments)?)))
    };
    matching(method).or_else(|| if method == Method::HEAD { matching(&Method::GET) } else { None })
}

/// Matches the segments of a path; `{name*}` takes as few segments as leave the rest matching.
fn match_pattern(pattern: &'static str, segments: &[&str]) -> Option<Params> {
    let wanted: Vec<&'static str> = pattern.split('/').skip(1).collect();
    match_segments(&wanted, segments)
}

fn match_segments(wanted: &[&'static str], segments: &[&str]) -> Option<Params> {
    let Some((first, rest)) = wanted.split_first() else {
        return segments.is_empty().then(Vec::new);
    };
    let parameter = first.strip_prefix('{').and_then(|name| name.strip_suffix('}'));
    let Some(name) = parameter else {
        return if segments.first()? == first { match_segments(rest, &segments[1..]) } else { None };
    };
    let (name, most) = match name.strip_suffix('*') {
        Some(name) => (name, segments.len()),
        None => (name, 1),
    };
    (1..=most.min(segments.len())).find_map(|taken| {
        let mut params = match_segments(rest, &segments[taken..])?;
        let value = percent_decode(&segments[..taken].join("/"));
        if value.is_empty() {
            return None;
        }
        params.push((name, value));
        Some(params)
    })
}

fn percent_decode(text: &str) -> String {
    let hex = |digit: u8| char::from(digit).to_digit(16);
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = match bytes[at..] {
            [b'%', high, low, ..] => hex(high).zip(hex(low)).map(|(high, low)| (high * 16 + low) as u8),
            _ => None,
        };
        decoded.push(escaped.unwrap_or(bytes[at]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &'static str, path: &str) -> Option<Vec<(&'static str, String)>> {
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        match_pattern(pattern, &segments)
    }

    #[test]
    fn names_keep_their_slashes() {
        let found = check("/images/{name*}/json", "/images/registry:5000/group/app/json").unwrap();
        assert_eq!(found, [("name", "registry:5000/group/app".to_owned())]);
        assert_eq!(check("/images/{name*}/json", "/images/json"), None);
        assert_eq!(check("/containers/{id}/json", "/containers/a/b/json"), None);
    }

    #[test]
    fn parameters_are_percent_decoded() {
        let found = check("/containers/{id}/json", "/containers/a%2Fb+c%/json").unwrap();
        assert_eq!(found, [("id", "a/b+c%".to_owned())]);
    }

    #[test]
    fn both_forms_of_filters_are_read() {
        let list = Filters::parse(r#"{"label":["a=b","c"]}"#).unwrap();
        let set = Filters::parse(r#"{"label":{"a=b":true,"d":false}}"#).unwrap();
        let labels = HashMap::from([("a", "b"), ("c", "")]);
        assert!(list.labels_match(|key| labels.get(key).copied()));
        assert!(set.labels_match(|key| labels.get(key).copied()));
        assert_eq!(set.values("label"), ["a=b"]);
        assert_eq!(list.check(&["id"]).unwrap_err().message, "invalid filter 'label'");
    }

    #[test]
    fn booleans_are_true_unless_said_otherwise() {
        let query = Query::parse("a=1&b=no&c=yes&d=&e=None");
        assert!(query.bool("a") && query.bool("c"));
        assert!(!query.bool("b") && !query.bool("d") && !query.bool("e") && !query.bool("f"));
    }
}
