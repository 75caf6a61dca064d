//! Links, addresses and routes.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsRawFd as _, BorrowedFd},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::netlink::{Connection, Message, NLM_F_CREATE, NLM_F_EXCL};
use crate::process::Interface;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const IFF_UP: u32 = 1;
const IFA_F_NODAD: u8 = 2;
/// Longest name the kernel takes.
const NAME_MAX_BYTES: usize = 15;

/// Links of the network namespace it was opened in.
pub(crate) struct Links {
    connection: Connection,
}

impl Links {
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self { connection: Connection::open(None)? })
    }

    /// Returns an interface's index in the namespace of the *thread*.
    pub(crate) fn index(&self, name: &str) -> io::Result<u32> {
        check_name(name)?;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        Ok(rustix::net::netdevice::name_to_index(socket, name)?)
    }

    pub(crate) fn loopback_up(&mut self) -> io::Result<()> {
        let index = self.index("lo")?;
        self.set_up(index)
    }

    pub(crate) fn set_up(&mut self, index: u32) -> io::Result<()> {
        self.connection.request(Message::new(RTM_NEWLINK, 0).body(&link_header(index, IFF_UP)))
    }

    pub(crate) fn add_bridge(&mut self, name: &str, mtu: Option<u32>) -> io::Result<()> {
        check_name(name)?;
        let message = Message::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL).body(&link_header(0, 0)).string(IFLA_IFNAME, name);
        let message = with_mtu(message, mtu).nested(IFLA_LINKINFO, |info| info.string(IFLA_INFO_KIND, "bridge"));
        self.connection.request(message)
    }

    pub(crate) fn delete(&mut self, name: &str) -> io::Result<()> {
        check_name(name)?;
        self.connection.request(Message::new(RTM_DELLINK, 0).body(&link_header(0, 0)).string(IFLA_IFNAME, name))
    }

    /// Makes a veth pair: the port here, up and in the bridge; the interface in the other namespace.
    pub(crate) fn add_veth(&mut self, interface: &Interface, bridge: u32, peer_namespace: BorrowedFd<'_>) -> io::Result<()> {
        check_name(&interface.name)?;
        check_name(&interface.port)?;
        let peer = |message: Message| {
            let message = message.body(&link_header(0, 0)).string(IFLA_IFNAME, &interface.name);
            let message = message.attribute(IFLA_NET_NS_FD, &peer_namespace.as_raw_fd().to_ne_bytes());
            let message = with_mtu(message, interface.mtu);
            match &interface.mac {
                Some(mac) => message.attribute(IFLA_ADDRESS, mac),
                None => message,
            }
        };
        let message = Message::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL)
            .body(&link_header(0, IFF_UP))
            .string(IFLA_IFNAME, &interface.port)
            .attribute(IFLA_MASTER, &bridge.to_ne_bytes());
        let message = with_mtu(message, interface.mtu).nested(IFLA_LINKINFO, |info| {
            info.string(IFLA_INFO_KIND, "veth").nested(IFLA_INFO_DATA, |data| data.nested(VETH_INFO_PEER, peer))
        });
        self.connection.request(message)
    }

    pub(crate) fn add_address(&mut self, index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        let bytes = octets(address);
        if usize::from(prefix) > bytes.len() * 8 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("prefix length {prefix}")));
        }
        // Addresses are assigned, so asking the network whether another has them would only cost a second.
        let flags = if address.is_ipv6() { IFA_F_NODAD } else { 0 };
        let mut header = vec![family(address), prefix, flags, 0];
        header.extend(index.to_ne_bytes());
        let message =
            Message::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL).body(&header).attribute(IFA_LOCAL, &bytes).attribute(IFA_ADDRESS, &bytes);
        let message = match address {
            IpAddr::V4(address) if prefix < 31 => message.attribute(IFA_BROADCAST, &broadcast(address, prefix).octets()),
            _ => message,
        };
        self.connection.request(message)
    }

    pub(crate) fn add_default_route(&mut self, index: u32, gateway: IpAddr) -> io::Result<()> {
        // Family, no prefix, table main, protocol boot, scope universe, unicast.
        let header = [family(gateway), 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0];
        let message = Message::new(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL)
            .body(&header)
            .attribute(RTA_GATEWAY, &octets(gateway))
            .attribute(RTA_OIF, &index.to_ne_bytes());
        self.connection.request(message)
    }

    /// Gives a moved interface its addresses and routes. The thread is in the namespace that this was opened in.
    pub(crate) fn configure(&mut self, interface: &Interface) -> io::Result<()> {
        let index = self.index(&interface.name)?;
        interface.addresses.iter().try_for_each(|(address, prefix)| self.add_address(index, *address, *prefix))?;
        self.set_up(index)?;
        interface.gateways.iter().try_for_each(|gateway| self.add_default_route(index, *gateway))
    }
}

fn with_mtu(message: Message, mtu: Option<u32>) -> Message {
    match mtu {
        Some(mtu) => message.attribute(IFLA_MTU, &mtu.to_ne_bytes()),
        None => message,
    }
}

fn check_name(name: &str) -> io::Result<()> {
    let usable = !name.is_empty() && name.len() <= NAME_MAX_BYTES && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    if usable { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, format!("`{name}` cannot name an interface"))) }
}

/// `struct ifinfomsg`, changing no flag but those given.
fn link_header(index: u32, flags: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&flags.to_ne_bytes());
    header
}

fn family(address: IpAddr) -> u8 {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    u8::try_from(family.as_raw()).expect("address families are small")
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn broadcast(address: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(address) | u32::MAX.checked_shr(prefix.into()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcast_addresses() {
        assert_eq!(broadcast(Ipv4Addr::new(172, 17, 0, 2), 16), Ipv4Addr::new(172, 17, 255, 255));
        assert_eq!(broadcast(Ipv4Addr::new(10, 0, 0, 1), 30), Ipv4Addr::new(10, 0, 0, 3));
    }

    #[test]
    fn names_the_kernel_would_refuse_or_misread() {
        for bad in ["", "a/b", "a b", "sixteen-byte-nam"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        assert!(check_name("br-0123456789ab").is_ok());
    }
}
