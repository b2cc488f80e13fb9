//! Pools of addresses and ports that traffic is drawn from: prefixes, and prefixes with ports.

use super::random::SplitMix64;
use crate::decode::segment::Endpoint;
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address prefix; a single address is one of full length. Written `198.18.0.0/15` or `2001:db8::1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Prefix {
    base: IpAddr,
    /// How many bits vary: 0 to 128.
    free_bits: u32,
}

impl Prefix {
    /// The prefix of this length; bits beyond it are cleared. A length above the address's is its full length.
    pub fn new(addr: IpAddr, length: u8) -> Self {
        let width: u32 = if addr.is_ipv4() { 32 } else { 128 };
        let free_bits = width.saturating_sub(u32::from(length));
        let keep = |bits: u128| if free_bits >= 128 { 0 } else { bits >> free_bits << free_bits };
        let base = match addr {
            IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from(keep(u128::from(u32::from(v4))) as u32)),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(keep(u128::from(v6)))),
        };
        Self { base, free_bits }
    }

    /// How many bits vary: 0 for one address.
    pub const fn free_bits(self) -> u32 {
        self.free_bits
    }

    /// How many addresses, saturating.
    pub const fn size(self) -> u64 {
        if self.free_bits >= 64 { u64::MAX } else { 1 << self.free_bits }
    }

    /// The address number `index` of the prefix, counting from its base and round again.
    pub fn nth(self, index: u64) -> IpAddr {
        let offset = if self.free_bits >= 64 { index } else { index & (self.size() - 1) };
        match self.base {
            IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from(u32::from(v4) | offset as u32)),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) | u128::from(offset))),
        }
    }

    /// Any of its addresses (of the first 2^64, where it holds more).
    pub fn pick(self, random: &mut SplitMix64) -> IpAddr {
        self.nth(random.next_u64())
    }
}

impl TryFrom<String> for Prefix {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        parse_prefix(&text)
            .ok_or_else(|| format!("'{text}' is not an address or prefix such as 198.18.0.0/15"))
    }
}

/// Servers: a prefix and a range of ports. Written `192.0.2.10:80`, `203.0.113.0/24:443`, `[2001:db8::1]:80`, `192.0.2.7:1-1024`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Targets {
    /// The addresses.
    pub prefix: Prefix,
    /// The first port.
    pub first_port: u16,
    /// The last port.
    pub last_port: u16,
}

impl Targets {
    /// How many address and port pairs, saturating.
    pub fn size(self) -> u64 {
        self.prefix.size().saturating_mul(self.ports())
    }

    /// Pair number `index`: all addresses on the first port, then on the next, and round again.
    pub fn nth(self, index: u64) -> Endpoint {
        let port = self.first_port + ((index / self.prefix.size()) % self.ports()) as u16;
        Endpoint::new(self.prefix.nth(index % self.prefix.size()), port)
    }

    /// Any of them.
    pub fn pick(self, random: &mut SplitMix64) -> Endpoint {
        let port = self.first_port + random.below(self.ports()) as u16;
        Endpoint::new(self.prefix.pick(random), port)
    }

    fn ports(self) -> u64 {
        u64::from(self.last_port - self.first_port) + 1
    }
}

impl TryFrom<String> for Targets {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        parse_targets(&text).ok_or_else(|| {
            format!("'{text}' is not a server such as 192.0.2.10:80, 203.0.113.0/24:80 or 192.0.2.7:1-1024")
        })
    }
}

fn parse_prefix(text: &str) -> Option<Prefix> {
    let (addr, length) = match text.split_once('/') {
        Some((addr, length)) => (addr, Some(length.parse::<u8>().ok()?)),
        None => (text, None),
    };
    let addr: IpAddr = addr.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    let width = if addr.is_ipv4() { 32 } else { 128 };
    let length = length.unwrap_or(width);
    (length <= width).then(|| Prefix::new(addr, length))
}

fn parse_targets(text: &str) -> Option<Targets> {
    let (prefix, ports) = text.rsplit_once(':')?;
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first_port, last_port) = (first.parse().ok()?, last.parse().ok()?);
    // An IPv6 address needs its brackets: without them the last group would be taken for a port.
    if first_port > last_port || (prefix.contains(':') && !prefix.starts_with('[')) {
        return None;
    }
    Some(Targets { prefix: parse_prefix(prefix)?, first_port, last_port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(text: &str) -> Targets {
        Targets::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn prefixes_count_their_addresses() {
        let prefix = Prefix::try_from("198.18.0.0/15".to_owned()).unwrap();
        assert_eq!(prefix.size(), 131_072);
        assert_eq!(prefix.nth(0).to_string(), "198.18.0.0");
        assert_eq!(prefix.nth(131_071).to_string(), "198.19.255.255");
        assert_eq!(prefix.nth(131_072).to_string(), "198.18.0.0");
        let host = Prefix::try_from("192.0.2.77/24".to_owned()).unwrap();
        assert_eq!(host.nth(1).to_string(), "192.0.2.1");
        let v6 = Prefix::try_from("2001:db8:1:2::/64".to_owned()).unwrap();
        assert_eq!(v6.nth(u64::MAX).to_string(), "2001:db8:1:2:ffff:ffff:ffff:ffff");
    }

    #[test]
    fn targets_are_read_as_written() {
        assert_eq!(targets("192.0.2.10:80").nth(5).to_string(), "192.0.2.10:80");
        assert_eq!(targets("203.0.113.0/24:443").size(), 256);
        let scan = targets("192.0.2.7:1-1024");
        assert_eq!((scan.size(), scan.nth(1023).port), (1024, 1024));
        assert_eq!(targets("[2001:db8::1]:80").nth(0).to_string(), "[2001:db8::1]:80");
        assert_eq!(targets("[2001:db8::]/48:80").prefix.free_bits(), 80);
        for wrong in
            ["192.0.2.10", "192.0.2.10:99999", "2001:db8::1", "192.0.2.7:9-1", "198.18.0.0/33:1", "x:1"]
        {
            assert!(Targets::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
