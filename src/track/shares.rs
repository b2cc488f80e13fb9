//! Stage 3 of 5, track: who may have how much of the table.
//!
//! A fixed array of counters; knows servers by a keyed hash only. No allocation after the start, no clock.

use crate::decode::segment::Endpoint;
use crate::time::Timestamp;
use ahash::RandomState;
use std::sync::atomic::{AtomicU32, Ordering};

/// Counters. A server shares its counter with another by chance of 1 in 65,536 and is then held to their sum.
const COUNTERS: usize = 1 << 16;

/// A server may hold this many times the free part of the table: dynamic thresholds (Choudhury and Hahne, IEEE/ACM Trans.
/// Networking 6(2), 1998). One flooded server alone comes to rest at 8/9 of the table and leaves 1/9 to everybody else; n of
/// them share 8n/(1+8n) evenly, without anybody being counted or named.
const ALPHA: u64 = 8;

/// All ports of a host together may hold twice as much, so that one flooded port leaves its neighbours at least every other
/// attempt.
const HOST_ALPHA: u64 = 16;

/// Beyond this level a sample stands for too much to be worth its place: 1 in 4,096.
pub(crate) const MAX_LEVEL: u8 = 12;

/// A refused SYN's answers may come this long after: six SYN-ACKs of a Linux server, the last 31 s after the first.
const ANSWERS_FOR: u32 = 64;

/// How many entries each server holds, within the error of a hashed counter.
pub(crate) struct Shares {
    counters: Box<[AtomicU32]>,
    /// When an attempt towards each was last refused or evicted: seconds of network time modulo 2^32, 0 for never.
    refused: Box<[AtomicU32]>,
    hasher: RandomState,
}

/// Where the figures of a server and of its host lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Places {
    /// The server's; its grace age lies at the same place.
    pub(crate) server: u16,
    host: u16,
}

/// What the table does with a new attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Track 1 in 2^level of that server's attempts; 0: all.
    Sample(u8),
    /// Count it only.
    Refuse,
}

impl Shares {
    pub(crate) fn new(hasher: RandomState) -> Self {
        let zeros = || (0..COUNTERS).map(|_| AtomicU32::new(0)).collect();
        Self { counters: zeros(), refused: zeros(), hasher }
    }

    pub(crate) fn bytes(&self) -> usize {
        2 * COUNTERS * size_of::<AtomicU32>()
    }

    /// Where a server's figures lie. Three hashes of an address are worth keeping for the next packet to the same server.
    #[inline]
    pub(crate) fn places(&self, server: Endpoint) -> Places {
        Places { server: self.place(server), host: self.place(host(server)) }
    }

    #[inline]
    fn place(&self, whose: Endpoint) -> u16 {
        self.hasher.hash_one(whose) as u16
    }

    #[inline]
    fn counter(&self, place: u16) -> &AtomicU32 {
        &self.counters[usize::from(place)]
    }

    /// Notes that an attempt towards `server` is not in the table though its answers may be seen.
    pub(crate) fn refused(&self, server: Endpoint, now: Timestamp) {
        self.refused[usize::from(self.place(server))].store(seconds(now), Ordering::Relaxed);
    }

    /// Whether an answer of `server` may be to an attempt that is not in the table.
    pub(crate) fn refused_lately(&self, server: Endpoint, now: Timestamp) -> bool {
        let refused = self.refused[usize::from(self.place(server))].load(Ordering::Relaxed);
        refused != 0 && seconds(now).wrapping_sub(refused) <= ANSWERS_FOR
    }

    /// Judges a new attempt towards a server while `free` places are left: by what the server holds and by what its whole host
    /// does, or a flood over all ports of one host would be nobody's share.
    #[inline]
    pub(crate) fn admit(&self, at: Places, free: usize) -> Admission {
        let held = |place| u64::from(self.counter(place).load(Ordering::Relaxed));
        let by_server = admission(held(at.server), ALPHA, free as u64);
        let by_host = admission(held(at.host), HOST_ALPHA, free as u64);
        match (by_server, by_host) {
            (Admission::Sample(server), Admission::Sample(host)) => Admission::Sample(server.max(host)),
            (Admission::Refuse, _) | (_, Admission::Refuse) => Admission::Refuse,
        }
    }

    #[inline]
    pub(crate) fn entered(&self, at: Places) {
        self.counter(at.server).fetch_add(1, Ordering::Relaxed);
        self.counter(at.host).fetch_add(1, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn left(&self, at: Places) {
        self.counter(at.server).fetch_sub(1, Ordering::Relaxed);
        self.counter(at.host).fetch_sub(1, Ordering::Relaxed);
    }
}

fn seconds(now: Timestamp) -> u32 {
    now.as_nanos().div_euclid(1_000_000_000) as u32
}

/// The whole of a server's host, under a key that no server has: port 0 is counted with it, which harms nobody.
fn host(server: Endpoint) -> Endpoint {
    Endpoint::new(server.addr, 0)
}

/// Below half its threshold a server is tracked whole; each halving of what is left to it halves its sample.
#[inline]
fn admission(share: u64, alpha: u64, free: u64) -> Admission {
    let threshold = alpha * free;
    if free == 0 || share >= threshold {
        return Admission::Refuse;
    }
    // Mostly, and then without the division.
    if share < threshold / 2 {
        return Admission::Sample(0);
    }
    let level = (threshold / (threshold - share)).ilog2();
    Admission::Sample((level as u8).min(MAX_LEVEL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_rise_as_the_share_nears_its_threshold() {
        // 100 free places: threshold 800.
        assert_eq!(admission(0, ALPHA, 100), Admission::Sample(0));
        assert_eq!(admission(399, ALPHA, 100), Admission::Sample(0));
        assert_eq!(admission(400, ALPHA, 100), Admission::Sample(1));
        assert_eq!(admission(600, ALPHA, 100), Admission::Sample(2));
        assert_eq!(admission(799, ALPHA, 100), Admission::Sample(9));
        assert_eq!(admission(800, ALPHA, 100), Admission::Refuse);
        assert_eq!(admission(0, ALPHA, 0), Admission::Refuse);
    }

    #[test]
    fn one_flooded_server_leaves_a_ninth_to_the_others() {
        let limit = 90_000u64;
        let mut held = 0u64;
        while admission(held, ALPHA, limit - held) != Admission::Refuse {
            held += 1;
        }
        assert_eq!(held, 80_000);
        assert_eq!(admission(10, ALPHA, limit - held), Admission::Sample(0));
    }
}
