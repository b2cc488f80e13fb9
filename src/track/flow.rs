//! Stage 3 of 5, track: the keys. Who opened a connection to whom, and the tuple both directions share.
//!
//! No state, no clock, no I/O.

use crate::decode::segment::Endpoint;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A connection attempt's two ends, by role. Eq and Hash are by both ends and the direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The originator: who sent the SYN.
    pub orig: Endpoint,
    /// The responder, also called the server: whom the SYN was sent to.
    pub resp: Endpoint,
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.orig, self.resp)
    }
}

/// An unordered 4-tuple: the lower endpoint first, so that both directions find the same entry with one lookup.
pub(crate) trait Tuple: Copy + Eq + Hash + fmt::Debug {
    /// The lower and the higher endpoint.
    fn endpoints(&self) -> (Endpoint, Endpoint);

    /// Originator and responder, where `originator_is_low` says which is which.
    fn flow(&self, originator_is_low: bool) -> Flow {
        let (low, high) = self.endpoints();
        if originator_is_low { Flow { orig: low, resp: high } } else { Flow { orig: high, resp: low } }
    }
}

/// An IPv4 tuple in 12 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TupleV4([u32; 3]);

impl Hash for TupleV4 {
    /// Two words; the derived one takes the array for a slice, length and all.
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [low, high, ports] = self.0;
        state.write_u64(u64::from(low) << 32 | u64::from(high));
        state.write_u32(ports);
    }
}

/// An IPv6 tuple in 36 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TupleV6([u32; 9]);

/// A tuple of either family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AnyTuple {
    V4(TupleV4),
    V6(TupleV6),
}

/// The tuple of a segment, and whether its source is the lower endpoint.
#[inline(always)]
pub(crate) fn tuple(src: Endpoint, dst: Endpoint) -> (AnyTuple, bool) {
    match (src.addr, dst.addr) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            // Address and port as one number: one comparison orders the ends.
            let number = |addr: Ipv4Addr, port: u16| u64::from(addr.to_bits()) << 16 | u64::from(port);
            let (from, to) = (number(from, src.port), number(to, dst.port));
            let src_is_low = from <= to;
            let (low, high) = (from.min(to), from.max(to));
            let both = (low as u32) << 16 | (high as u32 & 0xffff);
            (AnyTuple::V4(TupleV4([(low >> 16) as u32, (high >> 16) as u32, both])), src_is_low)
        }
        (from, to) => {
            let (from, to) = (v6(from).to_bits(), v6(to).to_bits());
            let src_is_low = (from, src.port) <= (to, dst.port);
            let words = if src_is_low {
                wide(from, to, ports(src.port, dst.port))
            } else {
                wide(to, from, ports(dst.port, src.port))
            };
            (AnyTuple::V6(TupleV6(words)), src_is_low)
        }
    }
}

fn ports(low: u16, high: u16) -> u32 {
    u32::from(low) << 16 | u32::from(high)
}

fn split(ports: u32) -> (u16, u16) {
    ((ports >> 16) as u16, ports as u16)
}

fn wide(low: u128, high: u128, ports: u32) -> [u32; 9] {
    let word = |bits: u128, i: u32| (bits >> (96 - 32 * i)) as u32;
    [
        word(low, 0),
        word(low, 1),
        word(low, 2),
        word(low, 3),
        word(high, 0),
        word(high, 1),
        word(high, 2),
        word(high, 3),
        ports,
    ]
}

fn v6(addr: IpAddr) -> Ipv6Addr {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped(),
        IpAddr::V6(addr) => addr,
    }
}

impl Tuple for TupleV4 {
    fn endpoints(&self) -> (Endpoint, Endpoint) {
        let [low, high, both] = self.0;
        let (low_port, high_port) = split(both);
        (
            Endpoint::new(IpAddr::V4(Ipv4Addr::from_bits(low)), low_port),
            Endpoint::new(IpAddr::V4(Ipv4Addr::from_bits(high)), high_port),
        )
    }
}

impl Tuple for TupleV6 {
    fn endpoints(&self) -> (Endpoint, Endpoint) {
        let [a, b, c, d, e, f, g, h, both] = self.0;
        let join = |w: [u32; 4]| w.iter().fold(0u128, |bits, &word| bits << 32 | u128::from(word));
        let (low_port, high_port) = split(both);
        (
            Endpoint::new(IpAddr::V6(Ipv6Addr::from_bits(join([a, b, c, d]))), low_port),
            Endpoint::new(IpAddr::V6(Ipv6Addr::from_bits(join([e, f, g, h]))), high_port),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn endpoint(v6: bool) -> impl Strategy<Value = Endpoint> {
        (any::<u128>(), any::<u16>()).prop_map(move |(bits, port)| {
            let addr = if v6 {
                IpAddr::V6(Ipv6Addr::from_bits(bits))
            } else {
                IpAddr::V4(Ipv4Addr::from_bits(bits as u32))
            };
            Endpoint::new(addr, port)
        })
    }

    proptest! {
        #[test]
        fn both_directions_share_a_tuple_that_gives_the_ends_back(
            (src, dst) in any::<bool>().prop_flat_map(|v6| (endpoint(v6), endpoint(v6)))
        ) {
            let (there, src_is_low) = tuple(src, dst);
            let (back, dst_is_low) = tuple(dst, src);
            prop_assert_eq!(there, back);
            prop_assert!(src == dst || src_is_low != dst_is_low);
            let flow = match there {
                AnyTuple::V4(tuple) => tuple.flow(src_is_low),
                AnyTuple::V6(tuple) => tuple.flow(src_is_low),
            };
            prop_assert_eq!(flow, Flow { orig: src, resp: dst });
        }
    }
}
