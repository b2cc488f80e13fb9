//! Stage 3 of 5, track: attempts that ended, so that a late copy of a segment is not taken for something new.
//!
//! A set-associative cache of fixed size: the oldest of a set makes room. No clock but the time handed in.

use super::flow::Flow;
use super::handshake::Attempt;
use crate::decode::segment::SeqNumber;
use crate::time::Timestamp;
use ahash::RandomState;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Ways of a set: with its lock a set fills two cache lines.
const WAYS: usize = 5;

/// How an attempt ended, as far as late copies of its segments are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum End {
    /// The handshake was complete: a SYN-ACK again means that the accept queue did not take it.
    #[default]
    Completed,
    /// It timed out: the SYN again is its copy.
    Expired,
    /// Reset or refused: its SYN-ACK may still come, but the same SYN again is another attempt.
    Reset,
}

impl End {
    /// Whether the handshake was complete.
    pub(crate) fn is_completed(self) -> bool {
        self == Self::Completed
    }
}

/// What is kept of an attempt that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Ended {
    /// The originator's ISN.
    pub(crate) isn: SeqNumber,
    /// Data its SYN carried, bytes.
    pub(crate) syn_payload: u16,
    /// How.
    pub(crate) end: End,
    /// When it opened: milliseconds of network time, modulo 2^32.
    pub(crate) opened_millis: u32,
    /// It stood for 2^level attempts.
    pub(crate) level: u8,
    /// Whether `Overdue` had been said of it.
    pub(crate) overdue: bool,
    /// The responder's timers that its repeated SYN-ACKs showed, a bit each.
    pub(crate) timers: u8,
}

impl Ended {
    /// An attempt that ended.
    pub(crate) fn of(attempt: &Attempt, end: End, now: Timestamp) -> Self {
        let timers = match attempt.syn_ack_copies {
            0 => 0,
            // One at least, as far as its age allows: a tap that captures twice copies the first at once.
            _ => timer(now.since(attempt.opened_at)),
        };
        Self {
            isn: attempt.isn,
            syn_payload: attempt.syn_payload,
            end,
            opened_millis: millis(attempt.opened_at),
            level: attempt.level,
            overdue: attempt.overdue,
            timers,
        }
    }

    /// Whether a SYN-ACK acknowledges it.
    fn acknowledged_by(&self, ack: SeqNumber) -> bool {
        ack.distance_from(self.isn.plus(1)) <= u32::from(self.syn_payload)
    }

    /// How long ago it opened.
    pub(crate) fn age(&self, now: Timestamp) -> Duration {
        // Another thread's time may lie a little behind.
        let ago = millis(now).wrapping_sub(self.opened_millis) as i32;
        Duration::from_millis(u64::from(ago.max(0).unsigned_abs()))
    }
}

/// A SYN-ACK that comes again sooner was copied by a tap or asked for by a SYN: half of the shortest first timer of a stack, 1 s.
const SHORTEST_REPETITION: Duration = Duration::from_millis(500);

/// The timer that a SYN-ACK sent again at this age shows, as a bit; 0 where none. Timers that double end at 2^n - 1 seconds; halfway
/// between, by their logarithm, one ends and the next begins, so that copies of one repetition show one timer.
fn timer(age: Duration) -> u8 {
    if age < SHORTEST_REPETITION {
        return 0;
    }
    // Rounds log2(age + 1 s): 2x^2 has twice the logarithm and one more.
    let seconds = age.as_secs_f64().min(127.0) + 1.0;
    1 << (((2.0 * seconds * seconds) as u32).ilog2() / 2)
}

fn millis(at: Timestamp) -> u32 {
    at.as_nanos().div_euclid(1_000_000) as u32
}

#[derive(Debug, Clone, Copy, Default)]
struct Way {
    /// Keyed fingerprint of the flow; 0 is an empty way.
    fingerprint: u64,
    isn: u32,
    /// Milliseconds of network time when it opened, modulo 2^32 (49 days).
    opened: u32,
    /// Seconds of network time when it ended, modulo 2^16 (18 hours): only the order within a set hangs on it.
    ended: u16,
    syn_payload: u16,
    end: End,
    level: u8,
    overdue: bool,
    timers: u8,
}

impl Way {
    fn ended(&self) -> Ended {
        Ended {
            isn: SeqNumber(self.isn),
            syn_payload: self.syn_payload,
            end: self.end,
            opened_millis: self.opened,
            level: self.level,
            overdue: self.overdue,
            timers: self.timers,
        }
    }
}

#[derive(Debug, Default)]
struct Set {
    ways: [Way; WAYS],
}

/// Attempts that ended, by a keyed fingerprint of their flow.
pub(crate) struct Remembered {
    sets: Box<[Mutex<Set>]>,
    /// One bit a set: has it ever held anything? Spares a flood of new tuples the way to an empty set.
    used: Box<[AtomicU64]>,
    hasher: RandomState,
}

impl Remembered {
    /// Room for about `entries`; 0 switches it off.
    pub(crate) fn new(entries: usize, hasher: RandomState) -> Self {
        let sets = if entries == 0 { 0 } else { entries.div_ceil(WAYS).next_power_of_two() };
        Self {
            sets: (0..sets).map(|_| Mutex::new(Set::default())).collect(),
            used: (0..sets.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            hasher,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.sets.len() * size_of::<Mutex<Set>>() + self.used.len() * 8
    }

    #[inline]
    fn place(&self, flow: &Flow) -> Option<(usize, u64)> {
        if self.sets.is_empty() {
            return None;
        }
        let hash = self.hasher.hash_one(flow);
        Some((hash as usize & (self.sets.len() - 1), hash | 1))
    }

    fn is_used(&self, set: usize) -> bool {
        self.used[set / 64].load(Ordering::Relaxed) & (1 << (set % 64)) != 0
    }

    /// What is remembered of the last attempt of `flow`.
    #[inline]
    pub(crate) fn find(&self, flow: &Flow) -> Option<Ended> {
        let (set, fingerprint) = self.place(flow)?;
        if !self.is_used(set) {
            return None;
        }
        let set = self.sets[set].lock().unwrap_or_else(PoisonError::into_inner);
        set.ways.iter().find(|way| way.fingerprint == fingerprint).map(Way::ended)
    }

    /// A SYN-ACK with this acknowledgement came again after the last attempt of `flow` ended: what that was, if the SYN-ACK fits it,
    /// and how many of the responder's timers have shown now; 0 where this one shows none that had not shown before.
    pub(crate) fn repeated(&self, flow: &Flow, ack: SeqNumber, now: Timestamp) -> Option<(Ended, u8)> {
        let (set, fingerprint) = self.place(flow)?;
        if !self.is_used(set) {
            return None;
        }
        let mut set = self.sets[set].lock().unwrap_or_else(PoisonError::into_inner);
        let way = set.ways.iter_mut().find(|way| way.fingerprint == fingerprint)?;
        let ended = way.ended();
        if !ended.acknowledged_by(ack) {
            return None;
        }
        way.timers |= timer(ended.age(now));
        let shown = if way.timers == ended.timers { 0 } else { way.timers.count_ones() as u8 };
        Some((ended, shown))
    }

    /// Remembers the end of an attempt in place of an earlier one of the same flow, or of the oldest of its set.
    pub(crate) fn remember(&self, flow: &Flow, ended: Ended, now: Timestamp) {
        let Some((index, fingerprint)) = self.place(flow) else { return };
        let seconds = (now.as_nanos().div_euclid(1_000_000_000)) as u16;
        if !self.is_used(index) {
            self.used[index / 64].fetch_or(1 << (index % 64), Ordering::Relaxed);
        }
        let mut set = self.sets[index].lock().unwrap_or_else(PoisonError::into_inner);
        let age = |way: &Way| {
            if way.fingerprint == fingerprint {
                u64::MAX
            } else if way.fingerprint == 0 {
                u64::MAX - 1
            } else {
                u64::from(seconds.wrapping_sub(way.ended))
            }
        };
        if let Some(way) = set.ways.iter_mut().max_by_key(|way| age(way)) {
            *way = Way {
                fingerprint,
                isn: ended.isn.0,
                opened: ended.opened_millis,
                ended: seconds,
                syn_payload: ended.syn_payload,
                end: ended.end,
                level: ended.level,
                overdue: ended.overdue,
                timers: ended.timers,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::segment::Endpoint;
    use std::net::{IpAddr, Ipv4Addr};

    fn flow(i: u32) -> Flow {
        let end = |addr: u32, port| Endpoint::new(IpAddr::V4(Ipv4Addr::from_bits(addr)), port);
        Flow { orig: end(0xc612_0000 + i, 1024), resp: end(0xc000_0201, 80) }
    }

    fn ended(isn: u32) -> Ended {
        Ended { isn: SeqNumber(isn), opened_millis: 0, ..Ended::default() }
    }

    #[test]
    fn remembers_and_replaces() {
        let memory = Remembered::new(1000, RandomState::with_seeds(1, 2, 3, 4));
        assert_eq!(memory.find(&flow(1)), None);
        memory.remember(&flow(1), ended(7), Timestamp::from_parts(1, 0));
        memory.remember(&flow(1), ended(8), Timestamp::from_parts(2, 0));
        assert_eq!(memory.find(&flow(1)), Some(ended(8)));
        assert_eq!(memory.find(&flow(2)), None);
    }

    #[test]
    fn the_oldest_makes_room_and_size_never_changes() {
        let memory = Remembered::new(5, RandomState::with_seeds(1, 2, 3, 4));
        let before = memory.bytes();
        for i in 0..10_000 {
            memory.remember(&flow(i), ended(i), Timestamp::from_parts(i64::from(i), 0));
        }
        assert_eq!(memory.bytes(), before);
        let kept: Vec<u32> = (0..10_000).filter(|&i| memory.find(&flow(i)).is_some()).collect();
        assert_eq!(kept, [9995, 9996, 9997, 9998, 9999]);
    }

    #[test]
    fn off_remembers_nothing() {
        let memory = Remembered::new(0, RandomState::with_seeds(1, 2, 3, 4));
        memory.remember(&flow(1), ended(7), Timestamp::EPOCH);
        assert_eq!(memory.find(&flow(1)), None);
    }

    #[test]
    fn a_timer_is_told_once_however_often_its_repetition_is_seen() {
        let memory = Remembered::new(1000, RandomState::with_seeds(1, 2, 3, 4));
        memory.remember(&flow(1), ended(7), Timestamp::EPOCH);
        let mut shown = |millis: i64| {
            let at = Timestamp::from_nanos(millis * 1_000_000);
            memory.repeated(&flow(1), SeqNumber(8), at).unwrap().1
        };
        // Linux, FreeBSD: 1, 3, 7, 15, 31 s, each a little late, and each copied by the tap.
        let seen = [1, 1020, 1021, 3060, 3061, 7200, 15_300, 15_301, 31_500].map(&mut shown);
        assert_eq!(seen, [0, 1, 0, 2, 0, 3, 4, 0, 5]);
        assert_eq!(memory.repeated(&flow(1), SeqNumber(9), Timestamp::EPOCH), None, "another number");
        assert_eq!(memory.repeated(&flow(2), SeqNumber(8), Timestamp::EPOCH), None, "another flow");
        assert_ne!(timer(Duration::from_millis(3010)), timer(Duration::from_millis(9010)), "Windows: 3, 9 s");
        assert_eq!(timer(Duration::MAX), 1 << 7);
    }

    #[test]
    fn a_set_fills_two_cache_lines() {
        assert_eq!(size_of::<Mutex<Set>>(), 128);
    }
}
