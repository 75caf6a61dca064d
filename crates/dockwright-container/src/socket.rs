//! Length-limited messages with descriptors over a stream socket: what the broker and the spawner protocols are made of.
//!
//! A message is a header (body length and number of descriptors, little endian) and a body. Descriptors travel with the header, so a
//! receiver never has to look for them in the middle of a body. A peer that announces more than the limits is cut off: nothing is
//! allocated for a length that was only claimed.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
        SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
};

/// The most descriptors one message may carry; the kernel's own limit is 253.
pub const MAX_DESCRIPTORS: usize = 250;

/// The longest body the protocols of this project use. A whole container specification with a large environment fits many times.
pub const MAX_MESSAGE_BYTES: usize = 8 << 20;

const HEADER_BYTES: usize = 8;

/// What can go wrong when a message is sent or received.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The peer closed the connection between two messages.
    #[error("the peer closed the connection")]
    Closed,
    /// The peer closed the connection in the middle of a message.
    #[error("the connection ended inside a message")]
    Truncated,
    /// The message is longer than the receiver (or this protocol) allows.
    #[error("message of {length} bytes exceeds the limit of {limit}")]
    TooLong {
        /// The announced length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// The number of descriptors that arrived is not the number that was announced, or exceeds [`MAX_DESCRIPTORS`].
    #[error("message carries {received} descriptors, {announced} were announced")]
    Descriptors {
        /// What the header says.
        announced: usize,
        /// What the kernel delivered.
        received: usize,
    },
    /// The system call failed.
    #[error("transfer a message")]
    Io(#[source] io::Error),
}

/// Returns a connected pair of stream sockets, both closed on exec.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

/// Sends one message; blocks until all of it is in the socket.
pub fn send_with_fds(socket: impl AsFd, body: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), SocketError> {
    if body.len() > MAX_MESSAGE_BYTES {
        return Err(SocketError::TooLong { length: body.len(), limit: MAX_MESSAGE_BYTES });
    }
    if descriptors.len() > MAX_DESCRIPTORS {
        return Err(SocketError::Descriptors { announced: descriptors.len(), received: 0 });
    }
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&u32::try_from(body.len()).expect("checked against the limit").to_le_bytes());
    header[4..].copy_from_slice(&u32::try_from(descriptors.len()).expect("checked against the limit").to_le_bytes());
    let mut pending = [header.as_slice(), body].concat();
    let mut attached = descriptors;
    while !pending.is_empty() {
        let sent = send_part(socket.as_fd(), &pending, attached).map_err(SocketError::Io)?;
        attached = &[];
        pending.drain(..sent);
    }
    Ok(())
}

fn send_part(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(descriptors.len()))];
    loop {
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::from(Errno::NOBUFS));
        }
        match sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(socket, rustix::event::PollFlags::OUT)?,
            other => return Ok(other?),
        }
    }
}

/// Receives one message of at most `limit` bytes; blocks until all of it is there, also on a non-blocking socket.
pub fn recv_with_fds(socket: impl AsFd, limit: usize) -> Result<(Vec<u8>, Vec<OwnedFd>), SocketError> {
    let socket = socket.as_fd();
    let mut header = [0; HEADER_BYTES];
    let mut descriptors = Vec::new();
    let mut filled = 0;
    while filled < HEADER_BYTES {
        let received = recv_part(socket, &mut header[filled..], &mut descriptors).map_err(SocketError::Io)?;
        if received == 0 {
            return Err(if filled == 0 { SocketError::Closed } else { SocketError::Truncated });
        }
        filled += received;
    }
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]) as usize;
    let (length, announced) = (word(0), word(4));
    if length > limit {
        return Err(SocketError::TooLong { length, limit });
    }
    if announced != descriptors.len() {
        return Err(SocketError::Descriptors { announced, received: descriptors.len() });
    }
    let mut body = vec![0; length];
    let mut filled = 0;
    while filled < length {
        let received = recv_part(socket, &mut body[filled..], &mut descriptors).map_err(SocketError::Io)?;
        if received == 0 {
            return Err(SocketError::Truncated);
        }
        filled += received;
    }
    if announced != descriptors.len() {
        return Err(SocketError::Descriptors { announced, received: descriptors.len() });
    }
    Ok((body, descriptors))
}

fn recv_part(socket: BorrowedFd<'_>, bytes: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    loop {
        let mut control = RecvAncillaryBuffer::new(&mut space);
        match recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(socket, rustix::event::PollFlags::IN)?,
            Err(other) => return Err(other.into()),
            Ok(received) => {
                for message in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(arrived) = message {
                        descriptors.extend(arrived);
                    }
                }
                return Ok(received.bytes);
            }
        }
    }
}

fn wait(socket: BorrowedFd<'_>, what: rustix::event::PollFlags) -> io::Result<()> {
    let mut polled = [rustix::event::PollFd::from_borrowed_fd(socket, what)];
    match rustix::event::poll(&mut polled, None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(other) => Err(other.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read as _, io::Write as _};

    use super::*;

    #[test]
    fn descriptors_arrive_with_their_message() {
        let (left, right) = pair().unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        send_with_fds(&left, b"first", &[reader.as_fd()]).unwrap();
        send_with_fds(&left, b"", &[]).unwrap();
        drop(left);
        let (body, mut descriptors) = recv_with_fds(&right, 100).unwrap();
        assert_eq!(body, b"first");
        assert_eq!(descriptors.len(), 1);
        writer.write_all(b"through").unwrap();
        drop(writer);
        let mut text = String::new();
        File::from(descriptors.remove(0)).read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        let (body, descriptors) = recv_with_fds(&right, 100).unwrap();
        assert!(body.is_empty() && descriptors.is_empty());
        assert!(matches!(recv_with_fds(&right, 100), Err(SocketError::Closed)));
    }

    #[test]
    fn a_message_over_the_limit_is_refused_before_it_is_read() {
        let (left, right) = pair().unwrap();
        send_with_fds(&left, &[0; 101], &[]).unwrap();
        assert!(matches!(recv_with_fds(&right, 100), Err(SocketError::TooLong { length: 101, limit: 100 })));
        assert!(matches!(send_with_fds(&left, &vec![0; MAX_MESSAGE_BYTES + 1], &[]), Err(SocketError::TooLong { .. })));
    }

    #[test]
    fn a_false_descriptor_count_is_refused() {
        let (left, right) = pair().unwrap();
        rustix::io::write(&left, &[0, 0, 0, 0, 1, 0, 0, 0]).unwrap();
        assert!(matches!(recv_with_fds(&right, 100), Err(SocketError::Descriptors { announced: 1, received: 0 })));
    }

    #[test]
    fn an_end_inside_a_message_is_not_an_orderly_one() {
        let (left, right) = pair().unwrap();
        rustix::io::write(&left, &[4, 0, 0, 0, 0, 0, 0, 0, b'x']).unwrap();
        drop(left);
        assert!(matches!(recv_with_fds(&right, 100), Err(SocketError::Truncated)));
    }
}
