//! Frames on a stream socket: a length, a number of descriptors, a payload.
//!
//! ```text
//! 4 bytes payload length │ 4 bytes number of descriptors │ payload        (big endian)
//! ```
//!
//! The descriptors travel with the frame's first bytes, so they are at hand when its header is. Both numbers are checked before
//! anything is kept for them, and a peer that sends descriptors which no frame asks for is cut off.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use tokio::{io::Interest, net::UnixStream, sync::mpsc};

/// Longest payload of one frame. The largest message holds an image configuration.
pub(crate) const PAYLOAD_LIMIT_BYTES: usize = 8 << 20;
/// Most descriptors with one frame; the kernel's own limit for one message.
pub(crate) const DESCRIPTOR_LIMIT: usize = 253;
/// Frames that may wait to be written before senders wait.
const WRITE_QUEUE_FRAMES: usize = 64;
const HEADER_BYTES: usize = 8;
const READ_CHUNK_BYTES: usize = 64 << 10;

/// One message on the socket.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    pub(crate) payload: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// Why the peer was cut off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("read a frame")]
    Read(#[source] io::Error),
    #[error("a frame of {0} bytes is longer than {PAYLOAD_LIMIT_BYTES} bytes")]
    PayloadTooLong(usize),
    #[error("a frame with {0} descriptors, more than {DESCRIPTOR_LIMIT}")]
    TooManyDescriptors(usize),
    #[error("a frame announces {announced} descriptors, {arrived} arrived")]
    MissingDescriptors { announced: usize, arrived: usize },
    #[error("descriptors arrived that no frame announces")]
    StrayDescriptors,
    #[error("the peer closed the socket in the middle of a frame")]
    Truncated,
}

/// Splits a connected socket into its two directions. Writing happens in a task of its own, so that a sender that is dropped in the
/// middle never leaves half a frame.
pub(crate) fn split(socket: OwnedFd) -> io::Result<(FrameReader, mpsc::Sender<Frame>)> {
    let socket = std::os::unix::net::UnixStream::from(socket);
    socket.set_nonblocking(true)?;
    let socket = Arc::new(UnixStream::from_std(socket)?);
    let (sender, mut queue) = mpsc::channel::<Frame>(WRITE_QUEUE_FRAMES);
    let writer = Arc::clone(&socket);
    tokio::spawn(async move {
        while let Some(frame) = queue.recv().await {
            if let Err(error) = write(&writer, frame).await {
                tracing::debug!(%error, "broker: write a frame");
                break;
            }
        }
        // The peer learns that nothing more will come even while our reading half is still held somewhere.
        let _ = rustix::net::shutdown(writer.as_fd(), rustix::net::Shutdown::Write);
    });
    Ok((FrameReader { socket, buffer: Vec::new(), descriptors: VecDeque::new() }, sender))
}

async fn write(socket: &UnixStream, frame: Frame) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + frame.payload.len());
    bytes.extend_from_slice(&length_header(frame.payload.len())?);
    bytes.extend_from_slice(&length_header(frame.descriptors.len())?);
    bytes.extend_from_slice(&frame.payload);
    let mut sent = 0;
    let mut descriptors = frame.descriptors;
    while sent < bytes.len() {
        sent += socket.async_io(Interest::WRITABLE, || send_with(socket, &bytes[sent..], &descriptors)).await?;
        descriptors.clear();
    }
    Ok(())
}

fn length_header(length: usize) -> io::Result<[u8; 4]> {
    u32::try_from(length).map(u32::to_be_bytes).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn send_with(socket: &UnixStream, bytes: &[u8], descriptors: &[OwnedFd]) -> io::Result<usize> {
    let borrowed: Vec<_> = descriptors.iter().map(|descriptor| descriptor.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTOR_LIMIT))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(rustix::net::sendmsg(socket.as_fd(), &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

/// The reading direction.
#[derive(Debug)]
pub(crate) struct FrameReader {
    socket: Arc<UnixStream>,
    buffer: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl FrameReader {
    /// Returns the next frame, or `None` when the peer closed its end between two frames.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            if let Some(frame) = self.take_frame()? {
                return Ok(Some(frame));
            }
            if self.fill().await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(FrameError::Truncated) };
            }
        }
    }

    fn take_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some((payload_length, announced)) = self.header() else { return Ok(None) };
        if payload_length > PAYLOAD_LIMIT_BYTES {
            return Err(FrameError::PayloadTooLong(payload_length));
        }
        if announced > DESCRIPTOR_LIMIT {
            return Err(FrameError::TooManyDescriptors(announced));
        }
        let end = HEADER_BYTES + payload_length;
        if self.buffer.len() < end {
            return Ok(None);
        }
        if self.descriptors.len() < announced {
            return Err(FrameError::MissingDescriptors { announced, arrived: self.descriptors.len() });
        }
        let payload = self.buffer[HEADER_BYTES..end].to_vec();
        self.buffer.drain(..end);
        let descriptors = self.descriptors.drain(..announced).collect();
        if self.buffer.is_empty() && !self.descriptors.is_empty() {
            return Err(FrameError::StrayDescriptors);
        }
        Ok(Some(Frame { payload, descriptors }))
    }

    fn header(&self) -> Option<(usize, usize)> {
        let (payload_length, rest) = self.buffer.split_first_chunk::<4>()?;
        let (announced, _) = rest.split_first_chunk::<4>()?;
        Some((u32::from_be_bytes(*payload_length) as usize, u32::from_be_bytes(*announced) as usize))
    }

    async fn fill(&mut self) -> Result<usize, FrameError> {
        let Self { socket, buffer, descriptors } = self;
        let read = socket.async_io(Interest::READABLE, || receive_into(socket, buffer, descriptors)).await.map_err(FrameError::Read)?;
        // One frame's worth may wait here while a longer one before it is still arriving.
        if self.descriptors.len() > 2 * DESCRIPTOR_LIMIT {
            return Err(FrameError::StrayDescriptors);
        }
        Ok(read)
    }
}

fn receive_into(socket: &UnixStream, buffer: &mut Vec<u8>, descriptors: &mut VecDeque<OwnedFd>) -> io::Result<usize> {
    let mut chunk = [0; READ_CHUNK_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTOR_LIMIT))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(socket.as_fd(), &mut [IoSliceMut::new(&mut chunk)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(arrived) = message {
            descriptors.extend(arrived);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "descriptors were lost on the way: too many open files"));
    }
    buffer.extend_from_slice(&chunk[..received.bytes]);
    Ok(received.bytes)
}
