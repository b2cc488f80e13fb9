//! Stage 4 of 5, detect: one keyed hash for every table and sketch of this stage.
//!
//! Addresses and ports are chosen by attackers, so the key is secret where the sensor is live. The function is our own and the
//! same on every machine, so that a replay with a fixed key prints the same estimates everywhere. No state beyond the key.

use crate::decode::segment::Endpoint;
use std::net::IpAddr;

/// Odd constants with an even spread of bits (fractional parts of square roots of primes), so that a zero key still mixes.
const SPREAD: [u64; 4] =
    [0x6A09_E667_F3BC_C909, 0xBB67_AE85_84CA_A73B, 0x3C6E_F372_FE94_F82B, 0xA54F_F53A_5F1D_36F1];

/// A keyed hash: two rounds of 64 by 64 multiplication folded to 64 bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyedHash {
    keys: [u64; 4],
}

impl KeyedHash {
    /// The hash of this key.
    pub(super) fn new(seed: u64) -> Self {
        let mut state = seed;
        Self {
            keys: SPREAD.map(|constant| {
                state = state.wrapping_add(SPREAD[0]);
                finish(state) ^ constant
            }),
        }
    }

    /// Hash of an address.
    #[inline]
    pub(super) fn addr(&self, addr: IpAddr) -> u64 {
        self.pair(bits(addr), 0)
    }

    /// Hash of an address and a port.
    #[inline]
    pub(super) fn endpoint(&self, at: Endpoint) -> u64 {
        self.pair(bits(at.addr), u64::from(at.port) | 1 << 16)
    }

    /// Hash of a port alone.
    #[inline]
    pub(super) fn port(&self, port: u16) -> u64 {
        self.pair(0, u64::from(port) | 1 << 17)
    }

    /// Hash of the site an address belongs to: /24, or /48 of IPv6.
    #[inline]
    pub(super) fn site(&self, addr: IpAddr) -> u64 {
        match addr {
            IpAddr::V4(v4) => self.pair(u128::from(v4.to_bits() >> 8), 1 << 18),
            IpAddr::V6(v6) => self.pair(v6.to_bits() >> 80, 1 << 19),
        }
    }

    /// Hash of what counts as one source: an IPv4 address, or a /64 (one subscriber has 2^64 addresses there).
    #[inline]
    pub(super) fn source(&self, addr: IpAddr) -> u64 {
        self.source_of(addr, self.addr(addr))
    }

    /// The same of an address whose own hash is known.
    #[inline]
    pub(super) fn source_of(&self, addr: IpAddr, hash: u64) -> u64 {
        match addr {
            IpAddr::V4(_) => hash,
            IpAddr::V6(v6) => self.pair(v6.to_bits() >> 64, 1 << 21),
        }
    }

    #[inline]
    fn pair(&self, address: u128, tag: u64) -> u64 {
        let [a, b, c, d] = self.keys;
        let first = fold((address as u64) ^ a, ((address >> 64) as u64) ^ b ^ tag.rotate_left(32));
        finish(fold(first ^ c, tag ^ d ^ (address as u64).rotate_left(23)) ^ first)
    }
}

/// The 128 bits of an address; IPv4 as its IPv6 mapping, so that the families do not collide.
#[inline]
fn bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(v4) => 0xFFFF_0000_0000 | u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a).wrapping_mul(u128::from(b));
    (product as u64) ^ ((product >> 64) as u64)
}

/// Avalanche: every input bit reaches every output bit (the xor-shift-multiply of splitmix64).
#[inline]
pub(super) fn finish(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::net::Ipv4Addr;

    #[test]
    fn counting_addresses_fill_buckets_evenly() {
        // 64 buckets, 64,000 consecutive addresses: chi-square with 63 degrees of freedom, mean 63, standard deviation 11.2.
        for seed in [0, 1, u64::MAX] {
            let hash = KeyedHash::new(seed);
            for shift in [0, 26, 58] {
                let mut counts = [0_f64; 64];
                for n in 0..64_000_u32 {
                    let value = hash.addr(IpAddr::V4(Ipv4Addr::from_bits(0x0A00_0000 + n)));
                    counts[(value >> shift & 63) as usize] += 1.0;
                }
                let chi: f64 = counts.iter().map(|c| (c - 1000.0).powi(2) / 1000.0).sum();
                assert!(chi < 63.0 + 5.0 * 11.2, "seed {seed} shift {shift}: {chi}");
            }
        }
    }

    #[test]
    fn the_key_and_the_kind_matter() {
        let addr: IpAddr = "198.18.0.1".parse().unwrap();
        let (a, b) = (KeyedHash::new(1), KeyedHash::new(2));
        let all: HashSet<u64> =
            [a.addr(addr), b.addr(addr), a.site(addr), a.endpoint(Endpoint::new(addr, 0))]
                .into_iter()
                .collect();
        assert_eq!(all.len(), 4);
        // An IPv4 address is one source.
        assert_eq!(a.addr(addr), a.source(addr));
        let near = |host: &str| a.source(host.parse().unwrap());
        assert_eq!(near("2001:db8::1"), near("2001:db8::ffff"));
        assert_ne!(near("2001:db8::1"), near("2001:db8:0:1::1"));
    }
}
