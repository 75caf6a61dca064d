//! An uploaded file in a form, written to the disk as it comes.

use std::path::Path;

use bytes::BytesMut;
use http::StatusCode;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::{fs::File, io::AsyncWriteExt as _};

use super::respond::Failure;
use crate::server::ServerError;

const HEAD_MAX_BYTES: usize = 16 * 1024;

/// A file that has been written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) filename: String,
    pub(super) size: u64,
}

/// Reads the boundary of `multipart/form-data; boundary=…`.
pub(super) fn boundary(content_type: &str) -> Option<String> {
    let rest = content_type.strip_prefix("multipart/form-data")?;
    let boundary = rest.split(';').find_map(|parameter| parameter.trim().strip_prefix("boundary="))?.trim_matches('"');
    (!boundary.is_empty()).then(|| boundary.to_owned())
}

/// Finds the file in what has come so far.
enum Place {
    Head,
    Content,
    Done,
}

struct Parser {
    place: Place,
    delimiter: Vec<u8>,
    buffer: BytesMut,
    filename: String,
}

impl Parser {
    fn new(boundary: &str) -> Self {
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        // The first delimiter has no line before it.
        Self { place: Place::Head, delimiter, buffer: BytesMut::from("\r\n"), filename: String::new() }
    }

    /// Takes bytes and returns those of the file.
    fn push(&mut self, bytes: &[u8]) -> Result<BytesMut, Failure> {
        self.buffer.extend_from_slice(bytes);
        if matches!(self.place, Place::Head) {
            let Some(end) = find(&self.buffer, b"\r\n\r\n") else {
                let is_long = self.buffer.len() > HEAD_MAX_BYTES;
                return if is_long { Err(Failure::bad_request("the form's head is too long")) } else { Ok(BytesMut::new()) };
            };
            let head = String::from_utf8_lossy(&self.buffer.split_to(end + 4)).into_owned();
            self.filename = filename(&head).ok_or_else(|| Failure::bad_request("the form's part `file` is missing"))?;
            self.place = Place::Content;
        }
        if matches!(self.place, Place::Content) {
            if let Some(end) = find(&self.buffer, &self.delimiter) {
                self.place = Place::Done;
                return Ok(self.buffer.split_to(end));
            }
            // The delimiter may have begun.
            let certain = self.buffer.len().saturating_sub(self.delimiter.len() - 1);
            return Ok(self.buffer.split_to(certain));
        }
        Ok(BytesMut::new())
    }

    fn is_whole(&self) -> bool {
        matches!(self.place, Place::Done)
    }
}

fn filename(head: &str) -> Option<String> {
    let disposition = head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-disposition:"))?;
    let parameter = |name: &str| {
        let value = disposition.split(';').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))?;
        Some(value.trim_matches('"').to_owned())
    };
    let name = parameter("filename").filter(|_| parameter("name").as_deref() == Some("file"))?;
    // Only the last part of a path is a name.
    Some(name.rsplit(['/', '\\']).next().unwrap_or_default().to_owned())
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = haystack.get(from..)?.iter().position(|byte| *byte == needle[0]) {
        if haystack[from + at..].starts_with(needle) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

/// Writes the form's file to a new file.
pub(super) async fn receive(mut body: Incoming, boundary: &str, to: &Path) -> Result<Received, Failure> {
    let broken = || Failure::new(StatusCode::BAD_REQUEST, "the upload broke off");
    let mut parser = Parser::new(boundary);
    let mut file = File::create(to).await.map_err(ServerError::file(to))?;
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        let Ok(bytes) = frame.map_err(|_| broken())?.into_data() else { continue };
        let content = parser.push(&bytes)?;
        file.write_all(&content).await.map_err(ServerError::file(to))?;
        size += content.len() as u64;
    }
    file.flush().await.map_err(ServerError::file(to))?;
    if parser.is_whole() { Ok(Received { filename: parser.filename, size }) } else { Err(broken()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_wherever_the_pieces_are_cut() {
        let form = b"--b0und\r\nContent-Disposition: form-data; name=\"file\"; filename=\"../a/out.zip\"\r\nContent-Type: x/y\r\n\r\n\
                     PK\r\n--b0un\r\n\r\n--b0u\r\n--b0und--\r\n";
        for size in 1..form.len() {
            let mut parser = Parser::new("b0und");
            let mut content = Vec::new();
            for piece in form.chunks(size) {
                content.extend_from_slice(&parser.push(piece).expect("a form"));
            }
            assert!(parser.is_whole(), "pieces of {size}");
            assert_eq!(content, b"PK\r\n--b0un\r\n\r\n--b0u", "pieces of {size}");
            assert_eq!(parser.filename, "out.zip");
        }
    }

    #[test]
    fn boundaries() {
        assert_eq!(boundary("multipart/form-data; boundary=abc").as_deref(), Some("abc"));
        assert_eq!(boundary("multipart/form-data; charset=x; boundary=\"a b\"").as_deref(), Some("a b"));
        assert_eq!(boundary("text/plain"), None);
    }
}
