//! Raw connections: after `101 UPGRADED` (or, for clients that did not ask for an upgrade, in the body of a `200 OK`) the bytes of a
//! process flow in both directions.
//!
//! With a terminal they flow as they are. Without one, output is cut into frames: the stream's number, three zero bytes, the length in
//! big endian, the payload. The end of the client's input is the end of the process's input; output goes on.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderValue, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

use crate::api::{
    Response,
    stream::{self},
    version::ApiVersion,
};

/// Content type of bytes as they are.
pub(crate) const RAW_STREAM: &str = "application/vnd.docker.raw-stream";
/// Content type of frames.
pub(crate) const MULTIPLEXED_STREAM: &str = "application/vnd.docker.multiplexed-stream";

/// Where bytes of a process came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output; all output of a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Returns the name used in log files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Puts bytes into a frame.
pub(crate) fn frame(source: Stream, payload: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(payload.len() + 8);
    bytes.put_u8(match source {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    });
    bytes.put_bytes(0, 3);
    bytes.put_u32(u32::try_from(payload.len()).expect("a chunk is far below 4 GiB"));
    bytes.put_slice(payload);
    bytes.freeze()
}

/// Returns the content type of a process's output. Clients before 1.42 know only one name for both forms.
pub(crate) fn content_type(tty: bool, version: ApiVersion) -> &'static str {
    if tty || !version.at_least(42) { RAW_STREAM } else { MULTIPLEXED_STREAM }
}

/// A client's connection after the upgrade.
pub(crate) type Connection = TokioIo<Upgraded>;

/// Answers `101 UPGRADED` and runs `converse` on the raw connection.
pub(crate) fn upgrade<F>(
    upgrade: OnUpgrade,
    content_type: &'static str,
    converse: impl FnOnce(Connection) -> F + Send + 'static,
) -> Response
where
    F: Future<Output = ()> + Send,
{
    tokio::spawn(async move {
        match upgrade.await {
            Ok(connection) => converse(TokioIo::new(connection)).await,
            Err(error) => tracing::debug!(%error, "client left before the connection was upgraded"),
        }
    });
    let mut response = stream::empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("tcp"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_carry_stream_and_length() {
        assert_eq!(&frame(Stream::Stderr, b"hi")[..], b"\x02\0\0\0\0\0\0\x02hi");
        assert_eq!(&frame(Stream::Stdout, b"")[..], b"\x01\0\0\0\0\0\0\0");
    }
}
