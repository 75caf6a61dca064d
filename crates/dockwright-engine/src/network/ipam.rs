//! IPv4 subnets and the addresses in them.
//!
//! Every engine has the kernel's network to itself, so the pools are Docker's own and never collide with those of other jobs.

use std::{collections::BTreeSet, fmt, net::Ipv4Addr, str::FromStr};

use crate::error::{EngineError, Result};

/// A range of addresses such as `172.17.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subnet {
    base: u32,
    prefix: u8,
}

impl Subnet {
    pub(crate) const fn new(base: Ipv4Addr, prefix: u8) -> Self {
        Self { base: base.to_bits() & mask(prefix), prefix }
    }

    pub(crate) fn prefix(self) -> u8 {
        self.prefix
    }

    pub(crate) fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.prefix) == self.base
    }

    pub(crate) fn overlaps(self, other: Self) -> bool {
        let shorter = self.prefix.min(other.prefix);
        self.base & mask(shorter) == other.base & mask(shorter)
    }

    /// Returns the n-th address.
    pub(crate) fn address(self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base.wrapping_add(number))
    }

    fn last_usable(self) -> u32 {
        (!mask(self.prefix)).saturating_sub(1)
    }
}

const fn mask(prefix: u8) -> u32 {
    if prefix == 0 { 0 } else { u32::MAX << (32 - prefix) }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from_bits(self.base), self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = || EngineError::invalid(format!("invalid subnet {text}: invalid CIDR address"));
        let (address, prefix) = text.split_once('/').ok_or_else(invalid)?;
        let address: Ipv4Addr = address.parse().map_err(|_| invalid())?;
        let prefix: u8 = prefix.parse().map_err(|_| invalid())?;
        if (1..=30).contains(&prefix) { Ok(Self::new(address, prefix)) } else { Err(invalid()) }
    }
}

/// The subnet of the default network.
pub(crate) const DEFAULT_SUBNET: Subnet = Subnet::new(Ipv4Addr::new(172, 17, 0, 0), 16);

/// Returns the first of Docker's default pools that none of the given subnets overlaps.
pub(crate) fn free_subnet(taken: &[Subnet]) -> Result<Subnet> {
    let sixteen = (17..32).map(|second| Subnet::new(Ipv4Addr::new(172, second, 0, 0), 16));
    let twenty = (0..16).map(|third| Subnet::new(Ipv4Addr::new(192, 168, third * 16, 0), 20));
    let free = |subnet: &Subnet| taken.iter().all(|other| !other.overlaps(*subnet));
    sixteen
        .chain(twenty)
        .find(free)
        .ok_or_else(|| EngineError::new(crate::ErrorKind::Internal, "all predefined address pools have been fully subnetted"))
}

/// The addresses of one network that are in use.
#[derive(Debug)]
pub(crate) struct AddressPool {
    subnet: Subnet,
    /// Addresses are given out of this part.
    range: Subnet,
    used: BTreeSet<u32>,
    last: u32,
}

impl AddressPool {
    /// Makes a pool in which the gateway is taken.
    pub(crate) fn new(subnet: Subnet, range: Option<Subnet>, gateway: Ipv4Addr) -> Self {
        let range = range.unwrap_or(subnet);
        Self { subnet, range, used: BTreeSet::from([gateway.to_bits()]), last: 0 }
    }

    /// Takes an address: the given one, or the next after the one taken last, so that an address is not given again at once.
    pub(crate) fn take(&mut self, wanted: Option<Ipv4Addr>) -> Result<Ipv4Addr> {
        if let Some(address) = wanted {
            if !self.subnet.contains(address) {
                return Err(EngineError::invalid(format!("invalid endpoint settings: no configured subnet contains IP address {address}")));
            }
            if !self.used.insert(address.to_bits()) {
                return Err(EngineError::forbidden("Address already in use"));
            }
            return Ok(address);
        }
        let most = self.range.last_usable();
        for offset in 0..most {
            let number = 1 + (self.last + offset) % most;
            let address = self.range.address(number);
            if self.used.insert(address.to_bits()) {
                self.last = number;
                return Ok(address);
            }
        }
        Err(EngineError::new(
            crate::ErrorKind::Internal,
            format!("no available IPv4 addresses on this network's address pools: {}", self.subnet),
        ))
    }

    /// Gives an address back.
    pub(crate) fn release(&mut self, address: Ipv4Addr) {
        self.used.remove(&address.to_bits());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn subnets_overlap_by_prefix() {
        assert!(subnet("10.0.0.0/8").overlaps(subnet("10.1.2.0/24")));
        assert!(!subnet("10.0.0.0/24").overlaps(subnet("10.0.1.0/24")));
        assert!("10.0.0.0/33".parse::<Subnet>().is_err());
        assert!("10.0.0.0".parse::<Subnet>().is_err());
    }

    #[test]
    fn pools_are_handed_out_in_order() {
        assert_eq!(free_subnet(&[DEFAULT_SUBNET]).unwrap(), subnet("172.18.0.0/16"));
        let taken: Vec<_> = (16..32).map(|second| subnet(&format!("172.{second}.0.0/16"))).collect();
        assert_eq!(free_subnet(&taken).unwrap(), subnet("192.168.0.0/20"));
    }

    #[test]
    fn addresses_are_taken_once() {
        let net = subnet("10.0.0.0/29");
        let mut pool = AddressPool::new(net, None, net.address(1));
        let taken: Vec<_> = (0..5).map(|_| pool.take(None).unwrap()).collect();
        assert_eq!(taken, (2..7).map(|number| net.address(number)).collect::<Vec<_>>());
        assert!(pool.take(None).is_err());
        pool.release(net.address(4));
        assert_eq!(pool.take(None).unwrap(), net.address(4));
        assert!(pool.take(Some(net.address(4))).is_err());
        assert!(pool.take(Some(Ipv4Addr::new(10, 1, 0, 1))).is_err());
    }

    #[test]
    fn an_address_is_not_given_again_at_once() {
        let net = subnet("10.0.0.0/24");
        let mut pool = AddressPool::new(net, None, net.address(1));
        let first = pool.take(None).unwrap();
        pool.release(first);
        assert_ne!(pool.take(None).unwrap(), first);
    }
}
