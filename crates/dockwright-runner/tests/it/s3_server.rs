//! A bucket that speaks S3 and looks at every signature: Signature Version 4, made again from the request as it came.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    fmt::Write as _,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use sha2::{Digest as _, Sha256};
use tokio::{net::TcpListener, task::AbortHandle};

pub(crate) const ACCESS_KEY: &str = "AKIDEXAMPLE";
pub(crate) const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const HASH_BLOCK_BYTES: usize = 64;

#[derive(Default)]
pub(crate) struct Bucket {
    pub(crate) objects: BTreeMap<String, Bytes>,
    uploads: HashMap<String, BTreeMap<u32, Bytes>>,
    /// `GET /bucket/key 200`.
    pub(crate) log: Vec<String>,
    /// Headers of what was stored.
    pub(crate) headers: Vec<HeaderMap>,
    /// So many requests are answered with 503.
    pub(crate) failures: u32,
    ignores_signatures: bool,
}

pub(crate) struct S3Server {
    pub(crate) address: SocketAddr,
    bucket: Arc<Mutex<Bucket>>,
    task: AbortHandle,
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl S3Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let bucket = Arc::<Mutex<Bucket>>::default();
        let served = Arc::clone(&bucket);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let served = Arc::clone(&served);
                let service = service_fn(move |request| answer(Arc::clone(&served), request));
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, bucket, task: task.abort_handle() }
    }

    pub(crate) async fn start_without_signatures() -> Self {
        let server = Self::start().await;
        server.bucket().ignores_signatures = true;
        server
    }

    pub(crate) fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().expect("not poisoned")
    }
}

async fn answer(bucket: Arc<Mutex<Bucket>>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let mut bucket = bucket.lock().expect("not poisoned");
    let refusal = if bucket.ignores_signatures { None } else { check_signature(&parts, &body).err() };
    let response = match refusal {
        Some(reason) => error(StatusCode::FORBIDDEN, "SignatureDoesNotMatch", &reason),
        None if bucket.failures > 0 => {
            bucket.failures -= 1;
            error(StatusCode::SERVICE_UNAVAILABLE, "SlowDown", "later")
        }
        None => bucket.answer(&parts, body),
    };
    let (method, path) = (&parts.method, parts.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str));
    bucket.log.push(format!("{method} {path} {}", response.status().as_u16()));
    Ok(response)
}

impl Bucket {
    fn answer(&mut self, request: &http::request::Parts, body: Bytes) -> Response<Full<Bytes>> {
        let key = request.uri.path().to_owned();
        let query: HashMap<String, String> =
            url::form_urlencoded::parse(request.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        let upload = query.get("uploadId");
        match (&request.method, upload) {
            (&Method::GET | &Method::HEAD, _) => self.get(&key, request),
            (&Method::PUT, Some(upload)) => {
                let number = query["partNumber"].parse().expect("a number");
                let tag = tag(&body);
                self.uploads.get_mut(upload).expect("a known upload").insert(number, body);
                reply(StatusCode::OK, &tag, Bytes::new())
            }
            (&Method::PUT, None) => {
                self.headers.push(request.headers.clone());
                let tag = tag(&body);
                self.objects.insert(key, body);
                reply(StatusCode::OK, &tag, Bytes::new())
            }
            (&Method::POST, None) if query.contains_key("uploads") => {
                self.headers.push(request.headers.clone());
                let id = format!("upload-{}", self.uploads.len());
                let xml = format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>");
                self.uploads.insert(id, BTreeMap::new());
                reply(StatusCode::OK, "", xml.into())
            }
            (&Method::POST, Some(upload)) => {
                let parts = self.uploads.remove(upload).expect("a known upload");
                let content: Vec<u8> = parts.into_values().flatten().collect();
                let tag = tag(&content);
                let xml = format!("<CompleteMultipartUploadResult><ETag>{tag}</ETag></CompleteMultipartUploadResult>");
                self.objects.insert(key, content.into());
                reply(StatusCode::OK, &tag, xml.into())
            }
            _ => error(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "not here"),
        }
    }

    fn get(&self, key: &str, request: &http::request::Parts) -> Response<Full<Bytes>> {
        let Some(content) = self.objects.get(key) else { return error(StatusCode::NOT_FOUND, "NoSuchKey", key) };
        let tag = tag(content);
        if request.headers.get("if-none-match").is_some_and(|known| known == tag.as_str()) {
            return reply(StatusCode::NOT_MODIFIED, &tag, Bytes::new());
        }
        let mut response = reply(StatusCode::OK, &tag, content.clone());
        response.headers_mut().insert("last-modified", "Sat, 22 Aug 2026 10:00:07 GMT".parse().expect("a value"));
        if request.method == Method::HEAD {
            response.headers_mut().insert("content-length", content.len().into());
            *response.body_mut() = Full::default();
        }
        response
    }
}

fn tag(content: &[u8]) -> String {
    format!("\"{}\"", &hex::encode(Sha256::digest(content))[..32])
}

fn reply(status: StatusCode, tag: &str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    if !tag.is_empty() {
        response.headers_mut().insert("etag", tag.parse().expect("a value"));
    }
    response
}

fn error(status: StatusCode, code: &str, message: &str) -> Response<Full<Bytes>> {
    reply(status, "", format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>").into())
}

/// Makes the signature of a request and compares it with the one that came along.
fn check_signature(request: &http::request::Parts, body: &[u8]) -> Result<(), String> {
    let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let authorization = header("authorization");
    let field = |name: &str| {
        let rest = authorization.split_once(&format!("{name}="))?.1;
        Some(rest.split(',').next().unwrap_or_default().trim().to_owned())
    };
    let (Some(credential), Some(signed), Some(signature)) = (field("Credential"), field("SignedHeaders"), field("Signature")) else {
        return Err(format!("no signature in {authorization:?}"));
    };
    let content_hash = header("x-amz-content-sha256");
    if content_hash != "UNSIGNED-PAYLOAD" && content_hash != hex::encode(Sha256::digest(body)) {
        return Err("the content is another one".to_owned());
    }
    let mut canonical =
        format!("{}\n{}\n{}\n", request.method, request.uri.path(), canonical_query(request.uri.query().unwrap_or_default()));
    for name in signed.split(';') {
        let _ = writeln!(canonical, "{name}:{}", header(name).trim());
    }
    let _ = write!(canonical, "\n{signed}\n{content_hash}");
    let (key_id, scope) = credential.split_once('/').unwrap_or_default();
    if key_id != ACCESS_KEY || !signed.split(';').any(|name| name == "host") {
        return Err("another key, or no host".to_owned());
    }
    let digest = hex::encode(Sha256::digest(canonical.as_bytes()));
    let to_sign = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{digest}", header("x-amz-date"));
    let mut key = format!("AWS4{SECRET_KEY}").into_bytes();
    for part in scope.split('/') {
        key = hmac(&key, part.as_bytes());
    }
    let expected = hex::encode(hmac(&key, to_sign.as_bytes()));
    if expected == signature { Ok(()) } else { Err(format!("signature {signature}, but expected {expected} for\n{canonical}")) }
}

/// Pairs in order; a name alone has an empty value.
fn canonical_query(query: &str) -> String {
    let mut pairs: Vec<String> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| if pair.contains('=') { pair.to_owned() } else { format!("{pair}=") })
        .collect();
    pairs.sort();
    pairs.join("&")
}

/// HMAC with SHA-256.
pub(crate) fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut block = [0; HASH_BLOCK_BYTES];
    match key.len() > HASH_BLOCK_BYTES {
        true => block[..32].copy_from_slice(&Sha256::digest(key)),
        false => block[..key.len()].copy_from_slice(key),
    }
    let pad = |byte: u8| block.map(|key| key ^ byte);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}
