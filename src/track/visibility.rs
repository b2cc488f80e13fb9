//! Stage 3 of 5, track: whose answers this sensor sees.
//!
//! When each responder was last heard, in a fixed array by keyed hash, shared by all packet threads because a tap's two directions
//! arrive on two interfaces. Only what a responder says counts. What comes from the originators' side can be forged with any SYN, at
//! any rate, so nothing of it makes a responder look unseen.

use crate::decode::segment::Endpoint;
use crate::time::Timestamp;
use ahash::RandomState;
use std::sync::atomic::{AtomicU32, Ordering};

/// Responders share a place by chance of 1 in 65,536.
const PLACES: usize = 1 << 16;

/// Seconds for which a responder that was heard is to be heard again: the longest pause of a stack that has anything to repeat (Linux
/// TCP_RTO_MAX, 120 s). One with a full SYN queue repeats its SYN-ACKs after 31 s at the latest, and takes a new SYN after 63 s. Who
/// is silent for longer is gone, or answers by another way since a route changed, and then its clients' ACKs are all there is.
const HEARD_FOR: u32 = 120;

/// When responders were last heard.
pub(crate) struct Visibility {
    /// Seconds of network time, modulo 2^32; 0 is never.
    heard: Box<[AtomicU32]>,
    hasher: RandomState,
}

impl Visibility {
    pub(crate) fn new(hasher: RandomState) -> Self {
        Self { heard: (0..PLACES).map(|_| AtomicU32::new(0)).collect(), hasher }
    }

    pub(crate) fn bytes(&self) -> usize {
        PLACES * size_of::<AtomicU32>()
    }

    fn place(&self, responder: Endpoint) -> &AtomicU32 {
        &self.heard[self.hasher.hash_one(responder) as usize % PLACES]
    }

    /// A segment of `responder` fitted what its originator had sent.
    #[inline]
    pub(crate) fn heard(&self, responder: Endpoint, now: Timestamp) {
        let (place, now) = (self.place(responder), seconds(now));
        // Once a second at most, so that threads do not take the line from each other with every packet.
        if place.load(Ordering::Relaxed) != now {
            place.store(now, Ordering::Relaxed);
        }
    }

    /// Whether answers of `responder` are to be expected here.
    #[inline]
    pub(crate) fn sees(&self, responder: Endpoint, now: Timestamp) -> bool {
        let heard = self.place(responder).load(Ordering::Relaxed);
        // Another thread's time may lie a little ahead.
        heard != 0 && (seconds(now).wrapping_sub(heard) as i32).unsigned_abs() <= HEARD_FOR
    }
}

fn seconds(at: Timestamp) -> u32 {
    (at.as_nanos().div_euclid(1_000_000_000) as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    const SERVER: Endpoint = Endpoint::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 80);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_parts(seconds, 0)
    }

    #[test]
    fn whoever_was_heard_is_to_be_heard_for_two_minutes() {
        for first in [0, 1_750_000_000, -5, i64::from(u32::MAX) - 60] {
            let visibility = Visibility::new(RandomState::with_seeds(1, 2, 3, 4));
            assert!(!visibility.sees(SERVER, at(first)));
            visibility.heard(SERVER, at(first));
            assert!(visibility.sees(SERVER, at(first)));
            assert!(visibility.sees(SERVER, at(first + 118)));
            assert!(!visibility.sees(SERVER, at(first + 122)));
            visibility.heard(SERVER, at(first + 130));
            assert!(visibility.sees(SERVER, at(first + 129)), "another thread is a little behind");
            assert!(visibility.sees(SERVER, at(first + 240)));
        }
    }
}
