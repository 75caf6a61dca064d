//! Archives and reports, up and down.

use std::path::Path;

use dockwright_job::{Artifact, ArtifactFormat, JobId, JobToken};
use futures_util::TryStreamExt as _;
use http::{Method, StatusCode, header};
use reqwest::RequestBuilder;
use tokio::{fs::File, io::AsyncWriteExt as _};
use tokio_util::io::ReaderStream;

use super::{
    ApiError, Client,
    request::{Body, Call, Token},
};

const BUFFER_BYTES: usize = 256 * 1024;

/// How the server is to keep an upload.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UploadQuery<'a> {
    pub artifact: &'a Artifact,
    /// Name of the file.
    pub filename: &'a str,
}

/// Answer to an upload.
#[derive(Debug)]
pub enum UploadAnswer {
    Stored,
    /// Larger than the server takes.
    TooLarge(ApiError),
    /// This job may not upload.
    Forbidden(ApiError),
}

/// A form with one file, made anew for each attempt.
pub(super) struct Multipart<'a> {
    file: &'a Path,
    filename: &'a str,
    boundary: String,
}

impl Multipart<'_> {
    /// Puts the form into a request; the file is read while it is sent.
    pub(super) async fn put_into(&self, request: RequestBuilder) -> Result<RequestBuilder, ApiError> {
        let unreadable = |source| ApiError::File { path: self.file.to_owned(), source };
        let file = File::open(self.file).await.map_err(unreadable)?;
        let size = file.metadata().await.map_err(unreadable)?.len();
        let (head, tail) = (self.head(), format!("\r\n--{}--\r\n", self.boundary));
        let length = head.len() as u64 + size + tail.len() as u64;
        let head = futures_util::stream::once(std::future::ready(Ok(bytes::Bytes::from(head))));
        let tail = futures_util::stream::once(std::future::ready(Ok(bytes::Bytes::from(tail))));
        let content = ReaderStream::with_capacity(tokio::io::AsyncReadExt::take(file, size), BUFFER_BYTES);
        let body = futures_util::StreamExt::chain(futures_util::StreamExt::chain(head, content), tail);
        Ok(request
            .header(header::CONTENT_TYPE, format!("multipart/form-data; boundary={}", self.boundary))
            .header(header::CONTENT_LENGTH, length)
            .body(reqwest::Body::wrap_stream(body)))
    }

    fn head(&self) -> String {
        let name: String = self.filename.chars().map(|next| if matches!(next, '"' | '\\' | '\r' | '\n') { '_' } else { next }).collect();
        format!(
            "--{}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: application/octet-stream\r\n\r\n",
            self.boundary
        )
    }
}

fn boundary() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    format!("dockwright-{}", hex::encode(bytes))
}

fn format_name(format: ArtifactFormat) -> &'static str {
    match format {
        ArtifactFormat::Zip => "zip",
        ArtifactFormat::Gzip => "gzip",
        ArtifactFormat::Raw => "raw",
    }
}

impl Client {
    /// Uploads a file once. An `Err` may be worth another attempt.
    pub async fn upload_artifacts(
        &self,
        job: JobId,
        token: &JobToken,
        query: UploadQuery<'_>,
        file: &Path,
    ) -> Result<UploadAnswer, ApiError> {
        let multipart = Multipart { file, filename: query.filename, boundary: boundary() };
        let mut call = Call::new(Method::POST, format!("jobs/{job}/artifacts"), Token::Job(token.expose()), Body::Multipart(multipart));
        let artifact = query.artifact;
        if !artifact.expire_in.is_empty() {
            call.query.push(("expire_in", artifact.expire_in.clone()));
        }
        call.query.push(("artifact_format", format_name(artifact.artifact_format).to_owned()));
        if !artifact.artifact_type.is_empty() {
            call.query.push(("artifact_type", artifact.artifact_type.clone()));
        }
        let answer = self.send_once(&call).await?;
        let status = answer.status();
        if status == StatusCode::CREATED {
            return Ok(UploadAnswer::Stored);
        }
        let error = answer.refusal(call.token).await;
        match status {
            StatusCode::PAYLOAD_TOO_LARGE => Ok(UploadAnswer::TooLarge(error)),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Ok(UploadAnswer::Forbidden(error)),
            _ => Err(error),
        }
    }

    /// Writes the archive of a job to a new file. With `direct`, the server may send us to where it is kept; the token stays here then.
    pub async fn download_artifacts(&self, job: JobId, token: &JobToken, direct: bool, to: &Path) -> Result<(), ApiError> {
        let mut call = Call::new(Method::GET, format!("jobs/{job}/artifacts"), Token::Job(token.expose()), Body::None);
        if direct {
            call.query.push(("direct_download", "true".to_owned()));
        }
        let answer = self.send(&call).await?;
        if answer.status() != StatusCode::OK {
            return Err(answer.refusal(call.token).await);
        }
        let (method, url) = (answer.method.clone(), answer.url.clone());
        let file_error = |source| ApiError::File { path: to.to_owned(), source };
        let mut file = File::create(to).await.map_err(file_error)?;
        let mut chunks = answer.response.bytes_stream();
        loop {
            let chunk = chunks.try_next().await.map_err(|source| ApiError::Unreachable {
                method: method.clone(),
                url: url.clone(),
                source: source.without_url(),
            })?;
            let Some(chunk) = chunk else { break };
            file.write_all(&chunk).await.map_err(file_error)?;
        }
        file.flush().await.map_err(file_error)
    }
}
