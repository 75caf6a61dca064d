//! Endpoints about the engine as a whole.

use http::{HeaderValue, StatusCode, header};

use crate::{
    api::{
        Request, Response,
        router::{Route, route},
        stream,
        version::ApiVersion,
    },
    error::Result,
};

pub(super) const ROUTES: &[Route] = &[route!(GET "/_ping" => ping)];

/// Version of Docker that clients are told; scripts parse it, so it has to look like one that speaks [`ApiVersion::MAX`].
pub(crate) const DOCKER_VERSION: &str = "28.3.3";

async fn ping(_request: Request) -> Result<Response> {
    let mut response = stream::full(StatusCode::OK, "text/plain; charset=utf-8", "OK");
    let version = HeaderValue::from_str(&ApiVersion::MAX.to_string()).expect("a version is ASCII");
    let server = HeaderValue::from_str(&format!("Docker/{DOCKER_VERSION} (linux)")).expect("a version is ASCII");
    let headers = response.headers_mut();
    headers.insert("Api-Version", version);
    headers.insert("Docker-Experimental", HeaderValue::from_static("false"));
    headers.insert("Ostype", HeaderValue::from_static("linux"));
    // 1 is the classic builder: clients with buildx would otherwise speak gRPC.
    headers.insert("Builder-Version", HeaderValue::from_static("1"));
    headers.insert("Swarm", HeaderValue::from_static("inactive"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(header::SERVER, server);
    Ok(response)
}
