//! Stage 3 of 5, track: answers that an originator may disown in a moment, or has just disowned, so that an old duplicate SYN is known
//! for what it is (RFC 9293 figures 8 and 11).
//!
//! A fixed array by keyed hash, shared by all packet threads; the latest takes the place. No clock but the time handed in.

use super::flow::Flow;
use crate::decode::segment::SeqNumber;
use crate::time::Timestamp;
use ahash::RandomState;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Two kilobytes: enough for what happens within [`LIVES`], small enough to stay in the nearest cache.
const SLOTS: usize = 256;

/// An answer is disowned, and the next SYN follows, within a round trip and the first retransmission (1 s): seconds.
const LIVES: u32 = 3;

/// Numbers that the answers of a moment ago acknowledged. A slot holds 24 bits of fingerprint, 8 of seconds, 32 of number: one
/// chance in 2^24 of a wrong name for an exchange, which nothing hangs on.
pub(super) struct Disowned {
    slots: Box<[AtomicU64]>,
    /// When the last was noted, seconds of network time; spares the SYNs of a flood the look.
    latest: AtomicU32,
    hasher: RandomState,
}

impl Disowned {
    pub(super) fn new(hasher: RandomState) -> Self {
        let slots = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        Self { slots, latest: AtomicU32::new(0), hasher }
    }

    fn slot(&self, flow: &Flow) -> (&AtomicU64, u64) {
        let hash = self.hasher.hash_one(flow);
        (&self.slots[hash as usize % SLOTS], hash >> 40)
    }

    /// An answer to `flow`'s SYN acknowledged this number.
    pub(super) fn note(&self, flow: &Flow, number: SeqNumber, now: Timestamp) {
        let (slot, fingerprint) = self.slot(flow);
        let seconds = seconds(now);
        slot.store(
            fingerprint << 40 | u64::from(seconds & 0xff) << 32 | u64::from(number.0),
            Ordering::Relaxed,
        );
        self.latest.store(seconds, Ordering::Relaxed);
    }

    /// The number noted of `flow` a moment ago, if any.
    #[inline]
    pub(super) fn find(&self, flow: &Flow, now: Timestamp) -> Option<SeqNumber> {
        let seconds = seconds(now);
        if seconds.wrapping_sub(self.latest.load(Ordering::Relaxed)) > LIVES {
            return None;
        }
        let (slot, fingerprint) = self.slot(flow);
        let noted = slot.load(Ordering::Relaxed);
        let age = seconds.wrapping_sub((noted >> 32) as u32) & 0xff;
        (noted != 0 && noted >> 40 == fingerprint && age <= LIVES).then_some(SeqNumber(noted as u32))
    }

    /// What was noted of `flow` has been told.
    pub(super) fn forget(&self, flow: &Flow) {
        self.slot(flow).0.store(0, Ordering::Relaxed);
    }
}

fn seconds(at: Timestamp) -> u32 {
    at.as_nanos().div_euclid(1_000_000_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::segment::Endpoint;
    use std::net::{IpAddr, Ipv4Addr};

    #[test]
    fn a_moment_is_remembered_and_no_longer() {
        let end = |host| Endpoint::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, host)), 80);
        let (flow, other) = (Flow { orig: end(1), resp: end(2) }, Flow { orig: end(2), resp: end(1) });
        let memory = Disowned::new(RandomState::with_seeds(1, 2, 3, 4));
        let at = |seconds: i64| Timestamp::from_parts(1_750_000_000 + seconds, 0);
        assert_eq!(memory.find(&flow, at(0)), None);
        memory.note(&flow, SeqNumber(91), at(0));
        assert_eq!(memory.find(&flow, at(3)), Some(SeqNumber(91)));
        assert_eq!(memory.find(&other, at(0)), None);
        assert_eq!(memory.find(&flow, at(4)), None);
        memory.forget(&flow);
        assert_eq!(memory.find(&flow, at(0)), None);
    }
}
