//! Bodies of answers: whole ones, and ones written while the answer is under way.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Full, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use serde::Serialize;
use tokio::sync::mpsc;

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;
/// An answer.
pub type Response = http::Response<Body>;

/// Chunks that wait for a slow client before the writer is held back.
const CHANNEL_CHUNKS: usize = 16;

/// Makes an answer without a body.
pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response
}

/// Makes the answer `204 No Content`.
pub fn no_content() -> Response {
    empty(StatusCode::NO_CONTENT)
}

/// Makes an answer of a given type from bytes at hand.
pub fn full(status: StatusCode, content_type: &'static str, bytes: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Makes a JSON answer.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let mut bytes = serde_json::to_vec(value).expect("API types have string keys and always serialize");
    bytes.push(b'\n');
    full(status, "application/json", bytes)
}

/// Makes the answer `200 OK` with JSON.
pub fn ok(value: &impl Serialize) -> Response {
    json(StatusCode::OK, value)
}

/// Makes a streaming answer: what is sent into the sender reaches the client at once. Dropping the sender ends the body.
pub fn channel(content_type: &'static str) -> (Sender, Response) {
    let (sender, receiver) = mpsc::channel(CHANNEL_CHUNKS);
    let mut response = Response::new(ChannelBody { receiver }.boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    (Sender { sender }, response)
}

/// The client went away while an answer was being written.
#[derive(Debug, thiserror::Error)]
#[error("the client closed the connection")]
pub struct Disconnected;

/// Writing end of a streaming answer.
#[derive(Debug, Clone)]
pub struct Sender {
    sender: mpsc::Sender<io::Result<Bytes>>,
}

impl Sender {
    /// Sends one chunk, waiting for a slow client.
    pub async fn send(&self, chunk: impl Into<Bytes>) -> Result<(), Disconnected> {
        self.sender.send(Ok(chunk.into())).await.map_err(|_| Disconnected)
    }

    /// Sends one chunk from a thread that may block.
    pub fn blocking_send(&self, chunk: impl Into<Bytes>) -> Result<(), Disconnected> {
        self.sender.blocking_send(Ok(chunk.into())).map_err(|_| Disconnected)
    }

    /// Sends one JSON object on its own line.
    pub async fn send_json(&self, value: &impl Serialize) -> Result<(), Disconnected> {
        self.send(json_line(value)).await
    }

    /// As [`Sender::send_json`], from a thread that may block.
    pub fn blocking_send_json(&self, value: &impl Serialize) -> Result<(), Disconnected> {
        self.blocking_send(json_line(value))
    }

    /// Ends the body as broken: the client sees a cut connection rather than a complete answer.
    pub async fn fail(&self, error: io::Error) {
        let _ = self.sender.send(Err(error)).await;
    }

    /// As [`Sender::fail`], from a thread that may block.
    pub fn blocking_fail(&self, error: io::Error) {
        let _ = self.sender.blocking_send(Err(error));
    }

    /// Waits until the client has gone.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }
}

fn json_line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("API types have string keys and always serialize");
    line.extend_from_slice(b"\r\n");
    line
}

/// Lets code that writes to an `io::Write` on a blocking thread fill a streaming answer.
pub struct BlockingWriter {
    sender: Sender,
    buffer: Vec<u8>,
}

/// Bytes gathered before a chunk of a blocking writer is sent.
const WRITER_CHUNK_BYTES: usize = 32 * 1024;

impl BlockingWriter {
    /// Wraps a sender.
    pub fn new(sender: Sender) -> Self {
        Self { sender, buffer: Vec::new() }
    }
}

impl io::Write for BlockingWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= WRITER_CHUNK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::take(&mut self.buffer);
        self.sender.blocking_send(chunk).map_err(|error| io::Error::new(io::ErrorKind::BrokenPipe, error))
    }
}

struct ChannelBody {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
}

impl hyper::body::Body for ChannelBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.receiver.poll_recv(context).map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }
}
