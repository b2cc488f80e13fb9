//! Stage 3 of 5, track: the grace age of each server, past which an open attempt counts as unresolved.
//!
//! A fixed array of classes; detection learns the ages and the pipeline writes them here. No clock.

use crate::time::Timestamp;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The ages there are. Between 0.25 s, under which a slow path looks like an attack, and 3 s, over which an attack has done its
/// harm; one queue each.
pub(crate) const GRACE: [Duration; 6] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(1500),
    Duration::from_secs(2),
    Duration::from_secs(3),
];

/// For a server nobody has learned yet: 1.5 s. Every stack has sent its SYN or SYN-ACK a second time after 1 s (RFC 6298 section
/// 2.1); at that very age the copy may still be on its way.
const UNLEARNED: u8 = 3;

/// One for each place that `shares` gives servers; they share a class by chance of 1 in 65,536.
const CLASSES: usize = 1 << 16;

/// Grace ages by the place of a server: the one in force, and the one that takes its place from a stated time on, so that what an
/// attempt gets hangs on when it opened and not on when somebody learned.
pub(crate) struct GraceAges(Box<[AtomicU64]>);

/// Network time is kept in milliseconds here.
const MILLI: i64 = 1_000_000;

impl GraceAges {
    pub(crate) fn new() -> Self {
        let unlearned = word(UNLEARNED, UNLEARNED, Timestamp::EPOCH);
        Self((0..CLASSES).map(|_| AtomicU64::new(unlearned)).collect())
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.0)
    }

    /// Index into [`GRACE`], for an attempt that opens now.
    #[inline]
    pub(crate) fn class(&self, place: u16, now: Timestamp) -> usize {
        class(self.0[usize::from(place)].load(Ordering::Relaxed), now)
    }

    /// Sets a server's grace age from a time on, to the millisecond; rounded up to one of [`GRACE`].
    pub(crate) fn learn(&self, place: u16, age: Duration, from: Timestamp) {
        let new = GRACE.iter().position(|&step| step >= age).unwrap_or(GRACE.len() - 1);
        let place = &self.0[usize::from(place)];
        let before = class(place.load(Ordering::Relaxed), from);
        place.store(word(before as u8, new as u8, from), Ordering::Relaxed);
    }
}

/// Both classes in six bits, the time above them.
fn word(before: u8, after: u8, from: Timestamp) -> u64 {
    (from.as_nanos().div_euclid(MILLI) as u64) << 6 | u64::from(before) << 3 | u64::from(after)
}

fn class(word: u64, now: Timestamp) -> usize {
    let from = word as i64 >> 6;
    let shift = if now.as_nanos().div_euclid(MILLI) < from { 3 } else { 0 };
    (word >> shift & 7) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_learned_counts_from_the_time_stated() {
        let ages = GraceAges::new();
        let at = |seconds| Timestamp::from_parts(seconds, 0);
        let before = |seconds| at(seconds).minus(Duration::from_millis(1));
        assert_eq!(GRACE[ages.class(7, at(5))], Duration::from_millis(1500));
        ages.learn(7, Duration::from_millis(300), at(10));
        assert_eq!(GRACE[ages.class(7, before(10))], Duration::from_millis(1500));
        assert_eq!(GRACE[ages.class(7, at(10))], Duration::from_millis(500));
        assert_eq!(GRACE[ages.class(8, at(10))], Duration::from_millis(1500));
        ages.learn(7, Duration::from_secs(60), at(4_000_000_000));
        assert_eq!(GRACE[ages.class(7, before(4_000_000_000))], Duration::from_millis(500));
        assert_eq!(GRACE[ages.class(7, at(4_000_000_000))], Duration::from_secs(3));
        // Before 1970 as well: a capture's clock may say anything.
        ages.learn(7, Duration::ZERO, at(-100));
        assert_eq!(GRACE[ages.class(7, at(-100))], Duration::from_millis(250));
    }
}
