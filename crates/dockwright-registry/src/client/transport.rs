//! Which address and scheme a registry is spoken to, found out once per registry.
//!
//! | Registry | Tried |
//! |---|---|
//! | an alias | plain HTTP at the alias's address, under the registry's own name |
//! | `docker.io` | HTTPS at `registry-1.docker.io` |
//! | loopback, or listed as insecure | HTTPS without verification, then plain HTTP |
//! | any other | HTTPS |

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use http::HeaderValue;
use reqwest::{Method, RequestBuilder, redirect};
use url::Url;

use super::{ClientError, ClientOptions, tls};
use crate::protocol::{Challenge, parse_challenges};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Between two pieces of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_ADDRESS: &str = "registry-1.docker.io";

/// Connections to registries.
pub(super) struct Transport {
    options: ClientOptions,
    verified: reqwest::Client,
    unverified: reqwest::Client,
    /// For aliases: no proxy of the environment applies to ourselves.
    direct: reqwest::Client,
    endpoints: Mutex<HashMap<String, Arc<Endpoint>>>,
}

/// A registry that has answered.
pub(super) struct Endpoint {
    /// As users call it.
    pub(super) registry: String,
    /// With a final slash.
    base: Url,
    via: Via,
    /// What it wanted to see at `/v2/`; empty if it lets anybody in.
    pub(super) challenges: Vec<Challenge>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Via {
    Verified,
    Unverified,
    Alias,
}

/// Returns a client that is bound to no registry.
pub(super) fn web_client() -> Result<reqwest::Client, ClientError> {
    let builder = reqwest::Client::builder().user_agent(concat!("dockwright/", env!("CARGO_PKG_VERSION")));
    builder.connect_timeout(CONNECT_TIMEOUT).tls_backend_preconfigured(tls::verified()?).build().map_err(ClientError::Setup)
}

impl Transport {
    pub(super) fn new(options: ClientOptions) -> Result<Self, ClientError> {
        let builder = || {
            reqwest::Client::builder()
                .user_agent(concat!("dockwright/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT_TIMEOUT)
                .read_timeout(READ_TIMEOUT)
        };
        let build = |builder: reqwest::ClientBuilder| builder.build().map_err(ClientError::Setup);
        Ok(Self {
            verified: build(builder().tls_backend_preconfigured(tls::verified()?))?,
            unverified: build(builder().tls_backend_preconfigured(tls::unverified()?))?,
            direct: build(builder().tls_backend_preconfigured(tls::unverified()?).no_proxy().redirect(redirect::Policy::none()))?,
            endpoints: Mutex::default(),
            options,
        })
    }

    /// Returns the registry's endpoint, trying what may answer.
    pub(super) async fn endpoint(&self, registry: &str) -> Result<Arc<Endpoint>, ClientError> {
        if let Some(known) = self.endpoints.lock().expect("no holder of this lock panics").get(registry) {
            return Ok(known.clone());
        }
        let mut last_failure = None;
        for (base, via) in self.candidates(registry)? {
            let mut endpoint = Endpoint { registry: registry.to_owned(), base, via, challenges: Vec::new() };
            match self.request(&endpoint, Method::GET, endpoint.url("v2/")).send().await {
                Ok(response) => {
                    let headers = response.headers().get_all(http::header::WWW_AUTHENTICATE);
                    endpoint.challenges = headers.iter().filter_map(|value| value.to_str().ok()).flat_map(parse_challenges).collect();
                    let endpoint = Arc::new(endpoint);
                    self.endpoints.lock().expect("no holder of this lock panics").insert(registry.to_owned(), endpoint.clone());
                    return Ok(endpoint);
                }
                Err(error) => last_failure = Some(error),
            }
        }
        let source = last_failure.expect("every registry has a candidate");
        Err(ClientError::unreachable(registry, source))
    }

    /// Forgets an endpoint whose connection failed, so that the next request looks again.
    pub(super) fn forget(&self, registry: &str) {
        self.endpoints.lock().expect("no holder of this lock panics").remove(registry);
    }

    fn candidates(&self, registry: &str) -> Result<Vec<(Url, Via)>, ClientError> {
        let address = |scheme: &str, host: &str| {
            Url::parse(&format!("{scheme}://{host}/")).map_err(|error| ClientError::protocol(registry, error.to_string()))
        };
        if let Some(alias) = self.alias(registry) {
            return Ok(vec![(address("http", &alias.to_string())?, Via::Alias)]);
        }
        let host = if registry == DOCKER_HUB { DOCKER_HUB_ADDRESS } else { registry };
        if self.is_insecure(registry) {
            return Ok(vec![(address("https", host)?, Via::Unverified), (address("http", host)?, Via::Unverified)]);
        }
        Ok(vec![(address("https", host)?, Via::Verified)])
    }

    fn alias(&self, registry: &str) -> Option<SocketAddr> {
        self.options.aliases.get(registry).copied()
    }

    fn is_insecure(&self, registry: &str) -> bool {
        self.options.insecure.iter().any(|insecure| insecure == registry) || is_loopback(registry)
    }

    /// Starts a request to a URL of the endpoint, or to one that the endpoint named.
    pub(super) fn request(&self, endpoint: &Endpoint, method: Method, url: Url) -> RequestBuilder {
        // A token service or an upload may live under an alias too, whatever the endpoint is.
        let authority = authority(&url);
        if let Some(alias) = self.alias(&authority) {
            let mut at_alias = url;
            let moved = at_alias
                .set_scheme("http")
                .and_then(|()| at_alias.set_ip_host(alias.ip()))
                .and_then(|()| at_alias.set_port(Some(alias.port())));
            debug_assert!(moved.is_ok(), "an HTTP URL takes an address and a port");
            return with_host(self.direct.request(method, at_alias), &authority);
        }
        match endpoint.via {
            Via::Alias if authority == self::authority(&endpoint.base) => with_host(self.direct.request(method, url), &endpoint.registry),
            Via::Unverified => self.unverified.request(method, url),
            Via::Verified | Via::Alias => self.verified.request(method, url),
        }
    }
}

impl Endpoint {
    /// Returns a URL below the registry's root.
    pub(super) fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        url.set_path(path);
        url.set_query(query);
        url
    }

    /// Tells whether a URL leads to this registry, which may then see its credentials.
    pub(super) fn owns(&self, url: &Url) -> bool {
        url.origin() == self.base.origin() || authority(url) == self.registry
    }
}

fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn with_host(request: RequestBuilder, host: &str) -> RequestBuilder {
    match HeaderValue::from_str(host) {
        Ok(host) => request.header(http::header::HOST, host),
        Err(_) => request,
    }
}

fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => registry.split(':').next().unwrap_or(registry),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_registry_has_its_candidates() {
        let options = ClientOptions {
            aliases: HashMap::from([("registry.test:5000".to_owned(), "127.0.0.1:4000".parse().unwrap())]),
            insecure: vec!["plain.test".to_owned()],
        };
        let transport = Transport::new(options).unwrap();
        let check = |registry: &str, expected: &[(&str, Via)]| {
            let candidates = transport.candidates(registry).unwrap();
            let candidates: Vec<_> = candidates.iter().map(|(url, via)| (url.as_str(), *via)).collect();
            assert_eq!(candidates, expected, "{registry}");
        };
        check("registry.test:5000", &[("http://127.0.0.1:4000/", Via::Alias)]);
        check("docker.io", &[("https://registry-1.docker.io/", Via::Verified)]);
        check("example.com", &[("https://example.com/", Via::Verified)]);
        check("plain.test", &[("https://plain.test/", Via::Unverified), ("http://plain.test/", Via::Unverified)]);
        check("localhost:1", &[("https://localhost:1/", Via::Unverified), ("http://localhost:1/", Via::Unverified)]);
        check("[::1]:1", &[("https://[::1]:1/", Via::Unverified), ("http://[::1]:1/", Via::Unverified)]);
    }
}
