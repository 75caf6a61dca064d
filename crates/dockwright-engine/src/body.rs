//! Bodies of requests and answers for code that blocks.

use std::io;

use bytes::{Buf as _, Bytes};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::mpsc;

/// Chunks that wait for a slow reader.
const QUEUE_CHUNKS: usize = 16;

/// A body that arrives while a thread that may block reads it.
pub(crate) struct BlockingBody {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl BlockingBody {
    /// Starts to receive a body. Call it within a Tokio runtime.
    pub(crate) fn new(mut body: Incoming) -> Self {
        let (sender, chunks) = mpsc::channel(QUEUE_CHUNKS);
        tokio::spawn(async move {
            while let Some(frame) = body.frame().await {
                let chunk = match frame.map(hyper::body::Frame::into_data) {
                    Ok(Ok(chunk)) => Ok(chunk),
                    // Trailers.
                    Ok(Err(_)) => continue,
                    Err(error) => Err(io::Error::other(error)),
                };
                // Nobody reads any more: an archive ends before its stream does, or it is refused. The rest is received all the same,
                // because a connection that is closed while the client sends takes the answer along.
                let _ = sender.send(chunk).await;
            }
        });
        Self { chunks, current: Bytes::new() }
    }
}

impl io::Read for BlockingBody {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.current = chunk?,
                None => return Ok(0),
            }
        }
        let read = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..read]);
        Ok(read)
    }
}
