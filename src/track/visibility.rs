//! Stage 3 of 5, track: whose SYN-ACKs this sensor has seen lately.
//!
//! Two generations of bits, shared by all packet threads because a tap's two directions arrive on two interfaces. Approximate:
//! a responder never seen is taken for seen by chance of 1 in 1,048,576 for each responder seen.

use crate::decode::segment::Endpoint;
use crate::time::Timestamp;
use ahash::RandomState;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Bits a generation, 128 kB: a thousand responders are told apart with one mistake in a thousand.
const BITS: usize = 1 << 20;

/// A generation lives this long, so that a route that changed is noticed within twice that.
const GENERATION: Duration = Duration::from_secs(600);

/// Responders whose SYN-ACKs were seen in this generation or the last.
pub(crate) struct Visibility {
    generations: [Box<[AtomicU64]>; 2],
    /// Network time in nanoseconds when the present generation began.
    began: AtomicI64,
    present: AtomicU64,
    hasher: RandomState,
}

impl Visibility {
    pub(crate) fn new(hasher: RandomState) -> Self {
        let words = || (0..BITS / 64).map(|_| AtomicU64::new(0)).collect();
        Self {
            generations: [words(), words()],
            began: AtomicI64::new(i64::MIN),
            present: AtomicU64::new(0),
            hasher,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        2 * BITS / 8
    }

    fn place(&self, responder: Endpoint) -> (usize, u64) {
        let bit = self.hasher.hash_one(responder) as usize % BITS;
        (bit / 64, 1 << (bit % 64))
    }

    /// Remembers that a SYN-ACK of `responder` answered an attempt.
    #[inline]
    pub(crate) fn saw(&self, responder: Endpoint) {
        let (word, mask) = self.place(responder);
        let present = self.present.load(Ordering::Relaxed) as usize & 1;
        let word = &self.generations[present][word];
        if word.load(Ordering::Relaxed) & mask == 0 {
            word.fetch_or(mask, Ordering::Relaxed);
        }
    }

    /// Whether SYN-ACKs of `responder` are to be expected here.
    #[inline]
    pub(crate) fn sees(&self, responder: Endpoint) -> bool {
        let (word, mask) = self.place(responder);
        self.generations.iter().any(|generation| generation[word].load(Ordering::Relaxed) & mask != 0)
    }

    /// Starts a new generation where the present one is old enough. Called on ticks, not per packet.
    pub(crate) fn age(&self, now: Timestamp) {
        let began = self.began.load(Ordering::Relaxed);
        if began == i64::MIN {
            self.began.store(now.as_nanos(), Ordering::Relaxed);
            return;
        }
        if now.since(Timestamp::from_nanos(began)) < GENERATION {
            return;
        }
        let won =
            self.began.compare_exchange(began, now.as_nanos(), Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if won {
            let next = (self.present.load(Ordering::Relaxed) as usize + 1) & 1;
            for word in &self.generations[next] {
                word.store(0, Ordering::Relaxed);
            }
            self.present.store(next as u64, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    #[test]
    fn forgets_after_two_generations() {
        let visibility = Visibility::new(RandomState::with_seeds(1, 2, 3, 4));
        let server = Endpoint::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 80);
        let at = |seconds| Timestamp::from_parts(seconds, 0);
        visibility.age(at(0));
        assert!(!visibility.sees(server));
        visibility.saw(server);
        visibility.age(at(599));
        visibility.age(at(601));
        assert!(visibility.sees(server));
        visibility.age(at(1300));
        assert!(!visibility.sees(server));
    }
}
