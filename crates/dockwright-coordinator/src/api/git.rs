//! Sources for jobs: Git's smart HTTP protocol, for reading, by `git upload-pack`.

use std::{io::Read as _, path::PathBuf, process::Stdio};

use base64::Engine as _;
use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{Method, Request, StatusCode, header};
use hyper::body::Incoming;
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, Command},
};

use super::{
    Api, header_text,
    respond::{self, Failure, Response, body},
};
use crate::server::ServerError;

/// What a client says that it has and wants.
const REQUEST_MAX_BYTES: usize = 16 * 1024 * 1024;
const SERVICE: &str = "git-upload-pack";

impl Api {
    pub(super) async fn git(&self, path: &str, request: Request<Incoming>) -> Result<Response, Failure> {
        let not_found = || Failure::plain(StatusCode::NOT_FOUND);
        let (project, what) = path.trim_start_matches('/').split_once(".git/").ok_or_else(not_found)?;
        let project = super::decoded(project).ok_or_else(not_found)?;
        let token = basic_password(header_text(request.headers(), header::AUTHORIZATION.as_str()));
        let Some(token) = token else {
            return Err(Failure::plain(StatusCode::UNAUTHORIZED).with_header("www-authenticate", "Basic realm=\"Dockwright\""));
        };
        let repository = self.blocking(move |server| server.repository(&project, &token)).await?;
        let protocol = header_text(request.headers(), "git-protocol").to_owned();
        let is_service = request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "service=git-upload-pack"));
        match (request.method(), what) {
            (&Method::GET, "info/refs") if is_service => advertise(repository, &protocol).await,
            (&Method::POST, SERVICE) => upload_pack(repository, &protocol, request).await,
            _ => Err(Failure::plain(StatusCode::FORBIDDEN)),
        }
    }
}

fn basic_password(authorization: &str) -> Option<String> {
    let encoded = authorization.strip_prefix("Basic ")?;
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded.trim()).ok()?;
    String::from_utf8(decoded).ok()?.split_once(':').map(|(_, password)| password.to_owned())
}

fn start(repository: &PathBuf, protocol: &str, arguments: &[&str]) -> Result<Child, Failure> {
    let mut command = Command::new("git");
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES"] {
        command.env_remove(variable);
    }
    command.args(["-c", "safe.directory=*", "upload-pack", "--stateless-rpc"]).args(arguments).arg(repository);
    let is_version = !protocol.is_empty() && protocol.chars().all(|next| next.is_ascii_alphanumeric() || matches!(next, '=' | ':'));
    if is_version {
        command.env("GIT_PROTOCOL", protocol);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let failed = |source| Failure::from(ServerError::File { path: "git".into(), source });
    command.spawn().map_err(failed)
}

async fn advertise(repository: PathBuf, protocol: &str) -> Result<Response, Failure> {
    let child = start(&repository, protocol, &["--advertise-refs"])?;
    let output = child.wait_with_output().await.map_err(ServerError::file("git"))?;
    let mut body = Vec::new();
    // Only the oldest protocols begin with the service's name.
    if !protocol.contains("version=2") {
        body.extend_from_slice(b"001e# service=git-upload-pack\n0000");
    }
    body.extend_from_slice(&output.stdout);
    let mut response = respond::bytes(StatusCode::OK, "application/x-git-upload-pack-advertisement", body);
    respond::set(&mut response, "cache-control", "no-cache");
    Ok(response)
}

async fn upload_pack(repository: PathBuf, protocol: &str, request: Request<Incoming>) -> Result<Response, Failure> {
    let is_compressed = header_text(request.headers(), "content-encoding") == "gzip";
    let mut asked = body(request, REQUEST_MAX_BYTES).await?;
    if is_compressed {
        asked = decompressed(&asked)?;
    }
    let mut child = start(&repository, protocol, &[])?;
    let (mut stdin, stdout) = (child.stdin.take().expect("stdin is piped"), child.stdout.take().expect("stdout is piped"));
    tokio::spawn(async move {
        // A client that leaves ends the reading, and so the child.
        let _ = stdin.write_all(&asked).await;
        drop(stdin);
        let _ = child.wait().await;
    });
    Ok(respond::stream("application/x-git-upload-pack-result", stdout))
}

fn decompressed(bytes: &Bytes) -> Result<Bytes, Failure> {
    let mut plain = Vec::new();
    let limit = REQUEST_MAX_BYTES as u64 + 1;
    let read = GzDecoder::new(bytes.as_ref()).take(limit).read_to_end(&mut plain);
    match read {
        Ok(_) if plain.len() <= REQUEST_MAX_BYTES => Ok(plain.into()),
        _ => Err(Failure::bad_request("the compressed body is not valid")),
    }
}
