//! Netlink messages, written and acknowledged one after another: all that bridges, addresses, routes and one firewall table need.
//!
//! Own code rather than a crate, because half of what is sent is nfnetlink, for which there is none under a licence we can use, and the
//! rest is six messages.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, netlink::SocketAddrNetlink, recv, send, socket_with,
};

const HEADER_BYTES: usize = 16;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
pub(super) const NLM_F_EXCL: u16 = 0x200;
pub(super) const NLM_F_CREATE: u16 = 0x400;
const NLA_F_NESTED: u16 = 0x8000;
const NLMSG_ERROR: u16 = 2;

/// One message under construction.
pub(super) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// Starts a message that the kernel acknowledges.
    pub(super) fn new(kind: u16, flags: u16) -> Self {
        Self::with_flags(kind, flags | NLM_F_REQUEST | NLM_F_ACK)
    }

    /// Starts a message that is only acknowledged as part of a batch.
    pub(super) fn unacknowledged(kind: u16, flags: u16) -> Self {
        Self::with_flags(kind, flags | NLM_F_REQUEST)
    }

    fn with_flags(kind: u16, flags: u16) -> Self {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        Self { bytes }
    }

    /// Appends the fixed part of a message, or of a nested one.
    pub(super) fn body(mut self, body: &[u8]) -> Self {
        self.bytes.extend_from_slice(body);
        self.pad();
        self
    }

    /// Appends an attribute.
    pub(super) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(4 + value.len()).expect("attributes are short");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.body(value)
    }

    /// Appends a string attribute with its terminator.
    pub(super) fn string(self, kind: u16, value: &str) -> Self {
        self.attribute(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// Appends an attribute made of others.
    pub(super) fn nested(mut self, kind: u16, content: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self = content(self);
        let length = u16::try_from(self.bytes.len() - start).expect("attributes are short");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes[start + 2..start + 4].copy_from_slice(&(kind | NLA_F_NESTED).to_ne_bytes());
        self
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).expect("messages are short");
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// A netlink socket in the network namespace it was opened in.
pub(super) struct Connection {
    socket: OwnedFd,
    sequence: u32,
}

impl Connection {
    /// `None` is the routing protocol.
    pub(super) fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends one message and waits for its acknowledgement.
    pub(super) fn request(&mut self, message: Message) -> io::Result<()> {
        self.batch(vec![message])
    }

    /// Sends messages in one datagram and waits until the kernel acknowledged those that ask for it, in order.
    pub(super) fn batch(&mut self, messages: Vec<Message>) -> io::Result<()> {
        let mut expected = Vec::new();
        let mut datagram = Vec::new();
        for message in messages {
            self.sequence += 1;
            if u16::from_ne_bytes([message.bytes[6], message.bytes[7]]) & NLM_F_ACK != 0 {
                expected.push(self.sequence);
            }
            datagram.extend(message.finish(self.sequence));
        }
        send(self.socket.as_fd(), &datagram, SendFlags::empty())?;
        let mut buffer = vec![0; 32 * 1024];
        while !expected.is_empty() {
            let (received, _) = rustix::io::retry_on_intr(|| recv(self.socket.as_fd(), buffer.as_mut_slice(), RecvFlags::empty()))?;
            for (sequence, code) in acknowledgements(&buffer[..received]) {
                if code != 0 {
                    return Err(io::Error::from_raw_os_error(-code));
                }
                expected.retain(|waiting| *waiting != sequence);
            }
        }
        Ok(())
    }
}

/// Returns the sequence numbers and codes of the error messages in a datagram; code 0 acknowledges.
fn acknowledgements(mut bytes: &[u8]) -> Vec<(u32, i32)> {
    let word = |bytes: &[u8], at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let mut found = Vec::new();
    while bytes.len() >= HEADER_BYTES {
        let length = (word(bytes, 0) as usize).max(HEADER_BYTES);
        if u16::from_ne_bytes([bytes[4], bytes[5]]) == NLMSG_ERROR && bytes.len() >= HEADER_BYTES + 4 {
            found.push((word(bytes, 8), word(bytes, HEADER_BYTES).cast_signed()));
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_attributes_are_padded_and_measured() {
        let message = Message::new(16, NLM_F_CREATE).body(&[1, 2, 3, 4]).nested(18, |link| link.string(1, "veth").attribute(2, &[9]));
        let bytes = message.finish(7);
        assert_eq!(bytes.len(), 44);
        assert_eq!(bytes[..4], 44_u32.to_ne_bytes());
        assert_eq!(bytes[4..8], [16, 0, 5, 4]);
        // The nested attribute, with the string's terminator and padding, and the padded byte.
        assert_eq!(bytes[20..24], [24, 0, 18, 0x80]);
        assert_eq!(bytes[24..36], *b"\x09\0\x01\0veth\0\0\0\0");
        assert_eq!(bytes[36..], [5, 0, 2, 0, 9, 0, 0, 0]);
    }

    #[test]
    fn damaged_datagrams_are_not_followed() {
        assert!(acknowledgements(&[0; 40]).is_empty());
        assert!(acknowledgements(&[255; 17]).is_empty());
        assert!(acknowledgements(&[]).is_empty());
    }
}
