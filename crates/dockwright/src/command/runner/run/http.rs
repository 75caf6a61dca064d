//! Metrics and health over HTTP.

use std::{convert::Infallible, sync::Arc};

use dockwright_runner::manager::Metrics;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::Semaphore};

use crate::error::{CommandError, ErrorKind, Explain as _};

const DEFAULT_PORT: u16 = 9252;
/// Connections at once; who watches needs one.
const MAX_CONNECTIONS: usize = 64;
const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Listens and serves for as long as the process lives.
pub(super) async fn serve(address: &str, metrics: Arc<Metrics>) -> Result<(), CommandError> {
    let address = with_port(address);
    let listener = TcpListener::bind(&address).await.explain(ErrorKind::Environment, || format!("serve metrics on `{address}`"))?;
    let address = listener.local_addr().explain(ErrorKind::Environment, || "find out the port".to_owned())?;
    tracing::info!(%address, "Metrics server listening");
    tokio::spawn(accept(listener, metrics));
    Ok(())
}

fn with_port(address: &str) -> String {
    let has_port = address.rsplit_once(':').is_some_and(|(host, port)| !host.ends_with(':') && port.parse::<u16>().is_ok());
    let host = if address.starts_with(':') { format!("[::]{address}") } else { address.to_owned() };
    if has_port { host } else { format!("{host}:{DEFAULT_PORT}") }
}

async fn accept(listener: TcpListener, metrics: Arc<Metrics>) {
    let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else { return };
        let Ok((connection, _)) = listener.accept().await else { continue };
        let metrics = Arc::clone(&metrics);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let answer = answer(&request, &metrics);
                async move { Ok::<_, Infallible>(answer) }
            });
            // A client that went away is no matter of the service.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(connection), service).await;
            drop(permit);
        });
    }
}

fn answer(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".to_owned());
    }
    match request.uri().path() {
        "/metrics" => text(StatusCode::OK, PROMETHEUS, metrics.render()),
        "/-/healthy" | "/-/ready" | "/health/ready" => text(StatusCode::OK, TEXT, "ready\n".to_owned()),
        _ => text(StatusCode::NOT_FOUND, TEXT, "not found\n".to_owned()),
    }
}

fn text(status: StatusCode, kind: &str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    if let Ok(kind) = kind.parse() {
        response.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::with_port;

    #[test]
    fn the_port_has_a_default() {
        let cases = [
            ("localhost", "localhost:9252"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            (":9252", "[::]:9252"),
            ("[::1]", "[::1]:9252"),
            ("[::1]:80", "[::1]:80"),
        ];
        for (address, expected) in cases {
            assert_eq!(with_port(address), expected);
        }
    }
}
