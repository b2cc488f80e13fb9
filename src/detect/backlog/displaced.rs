//! Stage 4 of 5, detect: the few entries whose timers do not run from their SYN.
//!
//! A SYN that comes again makes the server answer again and begin the running timer anew (net/ipv4/tcp_minisocks.c,
//! `tcp_check_req`); a SYN-ACK that answers the second SYN belongs to an entry younger than the attempt. A cache of fixed size: the
//! oldest of a set makes room, and what is forgotten is corrected when its SYN-ACK comes again, or does not.

use crate::time::Timestamp;
use std::time::Duration;

/// Sets: with their ways twice the usual backlog.
const SETS: usize = 256;
/// Places of a set: half a cache line.
const WAYS: usize = 4;

/// An entry: the upper half of its hash, 0 in a free place, and from when its timers run, in milliseconds modulo 2^32.
type Place = (u32, u32);

/// From when the timers of an entry run, by a keyed hash of its originator.
#[derive(Debug)]
pub(super) struct Displaced {
    sets: Box<[[Place; WAYS]]>,
    /// The latest birth noted, by which the others are read: they lie less than three weeks from it.
    latest: Timestamp,
    /// Nothing is looked up before the first is noted.
    used: bool,
}

const MILLISECOND: i64 = 1_000_000;

fn millis(at: Timestamp) -> u32 {
    at.as_nanos().div_euclid(MILLISECOND) as u32
}

fn tag(hash: u64) -> u32 {
    ((hash >> 32) as u32).max(1)
}

impl Displaced {
    pub(super) fn new() -> Self {
        Self { sets: vec![[(0, 0); WAYS]; SETS].into(), latest: Timestamp::EPOCH, used: false }
    }

    fn set(&mut self, hash: u64) -> Option<&mut [Place; WAYS]> {
        self.sets.get_mut((hash % SETS as u64) as usize).filter(|_| self.used)
    }

    /// From when this entry's timers run, where that is not its SYN; to the millisecond.
    pub(super) fn birth(&mut self, hash: u64) -> Option<Timestamp> {
        let latest = self.latest;
        let (_, birth) = *self.set(hash)?.iter().find(|(holder, _)| *holder == tag(hash))?;
        let before = millis(latest).wrapping_sub(birth) as i32;
        let off = Duration::from_millis(u64::from(before.unsigned_abs()));
        Some(if before >= 0 { latest.minus(off) } else { latest.plus(off) })
    }

    /// Notes it.
    pub(super) fn note(&mut self, hash: u64, birth: Timestamp) {
        self.used = true;
        self.latest = self.latest.max(birth);
        let now = millis(self.latest);
        let Some(set) = self.set(hash) else { return };
        let same = set.iter().position(|(holder, _)| *holder == tag(hash));
        let place = match same {
            Some(place) => set.get_mut(place),
            None => set.iter_mut().max_by_key(|(holder, birth)| (*holder == 0, now.wrapping_sub(*birth))),
        };
        if let Some(place) = place {
            *place = (tag(hash), millis(birth));
        }
    }

    /// Its entry is gone.
    pub(super) fn forget(&mut self, hash: u64) {
        if let Some(set) = self.set(hash)
            && let Some(place) = set.iter_mut().find(|(holder, _)| *holder == tag(hash))
        {
            *place = (0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn births_are_known_to_the_millisecond_and_the_oldest_makes_room() {
        let at = |millis: i64| Timestamp::from_nanos(1_750_000_000_000_000_000 + millis * MILLISECOND);
        let mut displaced = Displaced::new();
        let hash = |number: u64| number << 32 | 7;
        assert_eq!(displaced.birth(hash(1)), None);
        for number in 1..=4 {
            displaced.note(hash(number), at(5000 - 1000 * number as i64));
        }
        for number in 1..=4 {
            assert_eq!(displaced.birth(hash(number)), Some(at(5000 - 1000 * number as i64)));
        }
        displaced.note(hash(5), at(6000));
        assert_eq!(displaced.birth(hash(4)), None, "the oldest");
        displaced.forget(hash(5));
        assert_eq!(displaced.birth(hash(5)), None);
        displaced.note(hash(6), at(100));
        assert_eq!(displaced.birth(hash(1)), Some(at(4000)), "there was a free place");
    }
}
