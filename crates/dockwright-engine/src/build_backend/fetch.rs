//! Downloads of `ADD`: plain HTTP and HTTPS, out of the sandbox's own network, so that a build reaches what its job reaches.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use dockwright_build::backend::Fetched;
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use url::Url;

use crate::body::BlockingBody;

/// Redirects that are followed, as many as Go's client does.
const REDIRECT_LIMIT: usize = 10;
/// How long a server may take to accept a connection and to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Failure to fetch a URL.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("`{0}` is not a URL that can be fetched: only http and https are")]
    UnsupportedUrl(String),
    #[error("connect to {host}")]
    Connect {
        host: String,
        #[source]
        source: io::Error,
    },
    #[error("ask {host}")]
    Ask {
        host: String,
        #[source]
        source: hyper::Error,
    },
    #[error("{host} does not answer")]
    Timeout { host: String },
    #[error("{url} answers {status}")]
    Status { url: Url, status: StatusCode },
    #[error("{0} redirects more than {REDIRECT_LIMIT} times")]
    TooManyRedirects(Url),
    #[error("{url} redirects to `{location}`, which is not a URL")]
    BadRedirect { url: Url, location: String },
}

/// Opens a URL.
pub(super) async fn fetch(text: &str) -> Result<Fetched, FetchError> {
    let mut url = Url::parse(text).map_err(|_| FetchError::UnsupportedUrl(text.to_owned()))?;
    for _ in 0..=REDIRECT_LIMIT {
        let response = tokio::time::timeout(ANSWER_TIMEOUT, get(&url)).await;
        let response = response.map_err(|_| FetchError::Timeout { host: host(&url) })??;
        let status = response.status();
        if status.is_success() {
            return Ok(fetched(response));
        }
        let location = response.headers().get(header::LOCATION).filter(|_| status.is_redirection());
        let Some(location) = location else { return Err(FetchError::Status { url, status }) };
        let location = String::from_utf8_lossy(location.as_bytes()).into_owned();
        url = url.join(&location).map_err(|_| FetchError::BadRedirect { url: url.clone(), location })?;
    }
    Err(FetchError::TooManyRedirects(url))
}

fn host(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_owned()
}

async fn get(url: &Url) -> Result<Response<Incoming>, FetchError> {
    let unsupported = || FetchError::UnsupportedUrl(url.to_string());
    let is_tls = match url.scheme() {
        "http" => false,
        "https" => true,
        _ => return Err(unsupported()),
    };
    let port = url.port_or_known_default().ok_or_else(unsupported)?;
    let name = url.host_str().ok_or_else(unsupported)?;
    let connect = |source| FetchError::Connect { host: host(url), source };
    let stream = TcpStream::connect((name.trim_matches(['[', ']']), port)).await.map_err(connect)?;
    if !is_tls {
        return send(url, stream).await;
    }
    let server = ServerName::try_from(name.to_owned()).map_err(|_| unsupported())?;
    let stream = tls().connect(server, stream).await.map_err(connect)?;
    send(url, stream).await
}

fn tls() -> TlsConnector {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("the provider has the default protocol versions").with_root_certificates(roots).with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

async fn send(url: &Url, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Response<Incoming>, FetchError> {
    let ask = |source| FetchError::Ask { host: host(url), source };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(ask)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a download's connection");
        }
    });
    let target: Uri =
        url[url::Position::BeforePath..url::Position::AfterQuery].parse().map_err(|_| FetchError::UnsupportedUrl(url.to_string()))?;
    let request = Request::get(target)
        .header(header::HOST, &url[url::Position::BeforeHost..url::Position::AfterPort])
        .header(header::USER_AGENT, concat!("dockwright/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|_| FetchError::UnsupportedUrl(url.to_string()))?;
    sender.send_request(request).await.map_err(ask)
}

fn fetched(response: Response<Incoming>) -> Fetched {
    let (parts, body) = response.into_parts();
    Fetched {
        reader: Box::new(BlockingBody::new(body)),
        last_modified: last_modified(&parts.headers),
        file_name: file_name(&parts.headers),
    }
}

fn last_modified(headers: &HeaderMap) -> Option<i64> {
    let text = headers.get(header::LAST_MODIFIED)?.to_str().ok()?;
    jiff::fmt::rfc2822::parse(text).ok().map(|time| time.timestamp().as_second())
}

fn file_name(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(header::CONTENT_DISPOSITION)?.to_str().ok()?;
    let parameter = |part: &str| part.trim().strip_prefix("filename=").map(|name| name.trim_matches('"').to_owned());
    let name = text.split(';').find_map(parameter)?;
    // Only the last part: the server does not choose directories.
    name.rsplit('/').next().filter(|name| !name.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{SocketAddr, TcpListener},
    };

    use super::*;

    /// Serves each connection the next answer, and returns where.
    fn server(answers: Vec<String>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().expect("a connection");
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).expect("a request");
                    request.push(byte[0]);
                }
                stream.write_all(answer.as_bytes()).expect("an answer");
            }
        });
        address
    }

    async fn fetch_from(answers: Vec<String>) -> Result<(String, Fetched), FetchError> {
        let address = server(answers);
        let mut fetched = fetch(&format!("http://{address}/file?x=1")).await?;
        let read = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            fetched.reader.read_to_string(&mut text).map(|_| (text, fetched))
        });
        Ok(read.await.expect("a thread").expect("a body"))
    }

    #[tokio::test]
    async fn a_file_has_a_time_and_a_name() {
        let headers = "Last-Modified: Thu, 01 Jan 1970 00:16:40 GMT\r\nContent-Disposition: attachment; filename=\"../a.txt\"\r\n";
        let answer = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: 5\r\n\r\nhello");
        let (text, fetched) = fetch_from(vec![answer]).await.expect("a file");
        assert_eq!((text.as_str(), fetched.last_modified, fetched.file_name.as_deref()), ("hello", Some(1000), Some("a.txt")));
    }

    #[tokio::test]
    async fn redirects_are_followed() {
        let moved = "HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned();
        let found = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned();
        assert_eq!(fetch_from(vec![moved, found]).await.expect("a file").0, "ok");
    }

    #[tokio::test]
    async fn what_is_no_file_is_an_error() {
        let missing = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned();
        let error = fetch_from(vec![missing]).await.map(drop).expect_err("missing");
        assert!(error.to_string().ends_with("answers 404 Not Found"), "{error}");
        assert!(matches!(fetch("ftp://example.com/x").await, Err(FetchError::UnsupportedUrl(_))));
    }
}
