//! Stage 4 of 5, detect: the few entries whose timers do not run from their SYN.
//!
//! A SYN that comes again makes the server answer again and begin the running timer anew (net/ipv4/tcp_minisocks.c,
//! `tcp_check_req`); a SYN-ACK that answers the second SYN belongs to an entry younger than the attempt. A cache of fixed size: the
//! oldest of a set makes room, and what is forgotten is corrected when its SYN-ACK comes again, or does not. Where many that are
//! forgotten end otherwise, it says so ([`Displaced::misses`]).

use crate::time::Timestamp;
use std::time::Duration;

/// Sets: with their ways twice the usual backlog.
const SETS: usize = 256;
/// Places of a set: half a cache line.
const WAYS: usize = 4;

/// A birth younger than this that had to make room is still asked for.
const MISSED: u32 = 2000;
/// For so long afterwards, milliseconds, it is reckoned with that births are not known: until who was young then has ended.
const MISSING: u32 = 3000;

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
    /// When a young one last had to make room.
    missed: Option<u32>,
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
        Self { sets: vec![[(0, 0); WAYS]; SETS].into(), latest: Timestamp::EPOCH, used: false, missed: None }
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

    /// Notes it, and returns it as it will be known: to the millisecond.
    pub(super) fn note(&mut self, hash: u64, birth: Timestamp) -> Timestamp {
        self.used = true;
        let birth =
            birth.minus(Duration::from_nanos(birth.as_nanos().rem_euclid(MILLISECOND).unsigned_abs()));
        self.latest = self.latest.max(birth);
        let now = millis(self.latest);
        let Some(set) = self.set(hash) else { return birth };
        let same = set.iter().position(|(holder, _)| *holder == tag(hash));
        let place = match same {
            Some(place) => set.get_mut(place),
            None => set.iter_mut().max_by_key(|(holder, birth)| (*holder == 0, now.wrapping_sub(*birth))),
        };
        if let Some(place) = place {
            let (holder, before) = *place;
            *place = (tag(hash), millis(birth));
            if holder != 0 && holder != tag(hash) && now.wrapping_sub(before) < MISSED {
                self.missed = Some(now);
            }
        }
        birth
    }

    /// Whether births that are not the SYN's may be unknown, because there were too many lately.
    pub(super) fn misses(&self) -> bool {
        self.missed.is_some_and(|missed| millis(self.latest).wrapping_sub(missed) < MISSING)
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
        assert!(!displaced.misses(), "it was 5 s old");
        displaced.forget(hash(5));
        assert_eq!(displaced.birth(hash(5)), None);
        displaced.note(hash(6), at(100));
        assert_eq!(displaced.birth(hash(1)), Some(at(4000)), "there was a free place");
        assert_eq!(displaced.note(hash(7), at(6100)), at(6100));
        assert_eq!(displaced.note(hash(8), at(6200)), at(6200));
        assert!(!displaced.misses());
        for number in 9..=12 {
            displaced.note(hash(number), at(6300));
        }
        assert!(displaced.misses(), "the birth of {} made room after 0.1 s", hash(7));
        displaced.note(hash(13), at(9300));
        assert!(!displaced.misses(), "3 s later nobody asks for it");
    }
}
