//! Stage 3 of 5, track: whose SYN-ACKs this sensor sees.
//!
//! A pair of small counts a responder, in a fixed array by keyed hash, shared by all packet threads because a tap's two directions
//! arrive on two interfaces. A share decides, not one sighting: two forged packets may not blind a tap of one direction.

use crate::decode::segment::Endpoint;
use crate::time::Timestamp;
use ahash::RandomState;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

/// Responders share a pair by chance of 1 in 65,536.
const PAIRS: usize = 1 << 16;

/// Counts are halved this often, so that a route that changed is noticed.
const HALVED_EVERY: Duration = Duration::from_secs(600);

/// A responder is visible while one SYN-ACK was seen for every eight ACKs that came without one. A tap that loses half of its
/// frames sees far more; one of a single direction sees none, and a forger must keep up with an eighth of its clients.
const BLIND_PER_ANSWER: u32 = 8;

/// One more answer, and one more ACK without an answer, in a pair.
const ANSWER: u32 = 1 << 16;
const BLIND: u32 = 1;

/// How often SYN-ACKs of a responder answered attempts, and how often an ACK came without one.
pub(crate) struct Visibility {
    pairs: Box<[AtomicU32]>,
    /// Network time in nanoseconds when the counts were last halved.
    halved: AtomicI64,
    hasher: RandomState,
}

impl Visibility {
    pub(crate) fn new(hasher: RandomState) -> Self {
        let pairs = (0..PAIRS).map(|_| AtomicU32::new(0)).collect();
        Self { pairs, halved: AtomicI64::new(i64::MIN), hasher }
    }

    pub(crate) fn bytes(&self) -> usize {
        PAIRS * size_of::<AtomicU32>()
    }

    fn pair(&self, responder: Endpoint) -> &AtomicU32 {
        &self.pairs[self.hasher.hash_one(responder) as usize % PAIRS]
    }

    /// A SYN-ACK of `responder` answered an attempt.
    #[inline]
    pub(crate) fn saw(&self, responder: Endpoint) {
        count(self.pair(responder), ANSWER);
    }

    /// An ACK went to `responder` for a SYN-ACK that was not seen.
    #[inline]
    pub(crate) fn missed(&self, responder: Endpoint) {
        count(self.pair(responder), BLIND);
    }

    /// Whether SYN-ACKs of `responder` are to be expected here.
    #[inline]
    pub(crate) fn sees(&self, responder: Endpoint) -> bool {
        let pair = self.pair(responder).load(Ordering::Relaxed);
        let (answers, blind) = (pair >> 16, pair & 0xffff);
        answers > 0 && answers * BLIND_PER_ANSWER >= blind
    }

    /// Halves the counts where it is time. Called on ticks, not per packet.
    pub(crate) fn age(&self, now: Timestamp) {
        let halved = self.halved.load(Ordering::Relaxed);
        if halved != i64::MIN && now.since(Timestamp::from_nanos(halved)) < HALVED_EVERY {
            return;
        }
        let won = self
            .halved
            .compare_exchange(halved, now.as_nanos(), Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
        if won && halved != i64::MIN {
            for pair in &self.pairs {
                pair.store(half(pair.load(Ordering::Relaxed)), Ordering::Relaxed);
            }
        }
    }
}

/// Both counts of a pair, halved.
fn half(pair: u32) -> u32 {
    pair >> 1 & 0x7fff_7fff
}

/// Adds to one count of a pair; halves both where it would overflow. A count lost between two threads does no harm.
fn count(pair: &AtomicU32, what: u32) {
    let mut now = pair.load(Ordering::Relaxed);
    if now >> 16 == 0xffff || now & 0xffff == 0xffff {
        now = half(now);
    }
    pair.store(now + what, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn fixture() -> (Visibility, Endpoint) {
        let server = Endpoint::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 80);
        (Visibility::new(RandomState::with_seeds(1, 2, 3, 4)), server)
    }

    #[test]
    fn one_forged_answer_does_not_outweigh_many_clients() {
        let (visibility, server) = fixture();
        assert!(!visibility.sees(server));
        visibility.saw(server);
        assert!(visibility.sees(server));
        for _ in 0..9 {
            visibility.missed(server);
        }
        assert!(!visibility.sees(server));
    }

    #[test]
    fn early_acks_beside_their_answers_change_nothing_however_many() {
        let (visibility, server) = fixture();
        for _ in 0..200_000 {
            visibility.saw(server);
            visibility.missed(server);
            assert!(visibility.sees(server));
        }
    }

    #[test]
    fn what_is_not_renewed_fades() {
        let (visibility, server) = fixture();
        let at = |seconds| Timestamp::from_parts(seconds, 0);
        visibility.age(at(0));
        visibility.saw(server);
        visibility.saw(server);
        visibility.age(at(599));
        visibility.age(at(601));
        assert!(visibility.sees(server));
        visibility.age(at(1300));
        assert!(!visibility.sees(server));
    }
}
