//! Stage 3 of 5, track: established connections, followed so that a half-open one shows (RFC 9293 section 3.5.1).
//!
//! A set-associative table of fixed size, shared by all packet threads: the connection longest silent makes room, one that nobody has
//! used before one that both ends have, and none for a handshake of one direction. Tuples are known by the keyed hash that the ledger
//! finds their attempts with. A segment visits one set, two adjacent cache lines; nothing allocates. What a segment means is decided
//! in [`connection`], who is suspected is kept in [`suspects`]. No clock, no events.

mod connection;
mod loss;
pub(crate) mod suspects;

pub(crate) use connection::{Finding, Found};
pub(crate) use loss::Loss;

use super::prefetch;
use crate::config::EstablishedConfig;
use crate::decode::segment::{Segment, SegmentKind, SeqNumber};
use crate::time::Timestamp;
use ahash::RandomState;
use connection::{Connection, Context};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use suspects::Suspects;

/// Ways of a set: with its lock and fingerprints a set fills the 128 bytes of two lines that are fetched together.
const WAYS: usize = 3;

#[derive(Debug)]
struct Set {
    /// Keyed fingerprints of the tuples; 0 is an empty way.
    fingerprints: [u32; WAYS],
    ways: [Connection; WAYS],
}

/// A set on cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Line(Mutex<Set>);

impl Line {
    const fn empty() -> Self {
        Self(Mutex::new(Set { fingerprints: [0; WAYS], ways: [Connection::NONE; WAYS] }))
    }
}

/// Where a tuple belongs.
#[derive(Debug, Clone, Copy)]
struct Place {
    set: usize,
    fingerprint: u32,
}

/// What a handshake left behind, for the connection it opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opening {
    /// The number after the originator's SYN and what of its data was acknowledged.
    pub(crate) originator_next: SeqNumber,
    /// The number after the responder's SYN.
    pub(crate) responder_next: SeqNumber,
    /// The originator's ISN.
    pub(crate) isn: SeqNumber,
    /// Whether the originator's endpoint is the lower one of the tuple.
    pub(crate) originator_is_low: bool,
    /// Whether both directions took part. One alone may be a forger's: it displaces no connection.
    pub(crate) both_seen: bool,
}

/// The established connections of all packet threads.
pub(crate) struct Established {
    lines: Box<[Line]>,
    /// One bit a set: has it ever held anything? Spares segments of connections not followed the way to an empty set.
    used: Box<[AtomicU64]>,
    /// One tuple in this many is followed.
    sample: u32,
    /// Milliseconds.
    suspect_after: AtomicU32,
    entries: AtomicUsize,
    evicted: AtomicU64,
    /// Connections reset from the other side of a SYN, which wait for the same SYN again.
    reconnecting: AtomicUsize,
    /// When the last of them was reset, milliseconds: spares the copies of SYNs the look where all have waited too long.
    last_reconnecting: AtomicU32,
    pub(crate) suspects: Suspects,
}

impl Established {
    pub(crate) fn new(config: &EstablishedConfig, hasher: RandomState) -> Self {
        let sets = config.memory / size_of::<Line>();
        let suspects = if sets == 0 { 0 } else { suspects::LIMIT };
        Self {
            lines: std::iter::repeat_with(Line::empty).take(sets).collect(),
            used: (0..sets.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            suspects: Suspects::new(suspects, hasher),
            sample: config.sample.max(1),
            suspect_after: AtomicU32::new(as_millis(config.suspect_after)),
            entries: AtomicUsize::new(0),
            evicted: AtomicU64::new(0),
            reconnecting: AtomicUsize::new(0),
            last_reconnecting: AtomicU32::new(0),
        }
    }

    /// Applies what can change while running.
    pub(crate) fn reconfigure(&self, config: &EstablishedConfig) {
        self.suspect_after.store(as_millis(config.suspect_after), Ordering::Relaxed);
    }

    /// Connections held.
    pub(crate) fn len(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    /// Most connections held.
    pub(crate) fn limit(&self) -> usize {
        self.lines.len() * WAYS
    }

    /// Connections that made room for others.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.lines.len() * size_of::<Line>() + self.used.len() * 8 + self.suspects.bytes()
    }

    /// Whether any connection waits for the SYN that reset it to come again.
    #[inline]
    pub(crate) fn has_reconnecting(&self, now: Timestamp) -> bool {
        self.reconnecting.load(Ordering::Relaxed) != 0
            && connection::may_come_again(self.last_reconnecting.load(Ordering::Relaxed), millis(now))
    }

    #[inline]
    fn place(&self, hash: u64) -> Option<Place> {
        if self.lines.is_empty() {
            return None;
        }
        let (low, high) = (hash as u32, (hash >> 32) as u32);
        if self.sample > 1 && !high.is_multiple_of(self.sample) {
            return None;
        }
        // The high half of a product is uniform over any number of sets (Lemire 2019); a division takes ten times as long.
        let set = ((u64::from(low) * self.lines.len() as u64) >> 32) as usize;
        Some(Place { set, fingerprint: high.rotate_left(16) | 1 })
    }

    #[inline]
    fn used(&self, set: usize) -> bool {
        self.used[set / 64].load(Ordering::Relaxed) & (1 << (set % 64)) != 0
    }

    #[inline]
    fn lock(&self, set: usize) -> MutexGuard<'_, Set> {
        // A thread that panicked left plain numbers behind.
        self.lines[set].0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests the memory that a segment of this kind will be looked for in. Costs one load where that was never used.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64, kind: SegmentKind) {
        if matches!(kind, SegmentKind::Ack | SegmentKind::Fin | SegmentKind::Rst)
            && let Some(place) = self.place(hash).filter(|place| self.used(place.set))
        {
            let line = &raw const self.lines[place.set];
            prefetch::line(line);
            // Its second half.
            prefetch::line(line.cast::<u8>().wrapping_add(size_of::<Line>() / 2));
        }
    }

    /// Follows a connection whose handshake is complete. What the one that had its tuple before turns out to have been, if
    /// anything.
    pub(crate) fn enter(&self, hash: u64, opening: &Opening, now: Timestamp) -> Option<Finding> {
        let Place { set: index, fingerprint } = self.place(hash)?;
        if !self.used(index) {
            self.used[index / 64].fetch_or(1 << (index % 64), Ordering::Relaxed);
        }
        let fresh = Connection::new(opening, millis(now));
        let mut set = self.lock(index);
        // A connection of which nothing but its handshake was heard makes room before one that both ends have used.
        let dispensable = |way: usize| match set.fingerprints[way] {
            own if own == fingerprint => (3, 0),
            0 => (2, 0),
            _ => (u8::from(!set.ways[way].both_hold()), set.ways[way].silent_for(millis(now))),
        };
        let way = (0..WAYS).max_by_key(|&way| dispensable(way))?;
        let (held, before) = (set.fingerprints[way], set.ways[way]);
        // One direction alone may be forged, SYN and ACK: it takes no place that anybody has.
        if held != 0 && !opening.both_seen {
            return None;
        }
        set.fingerprints[way] = fingerprint;
        set.ways[way] = fresh;
        drop(set);
        match held {
            0 => {
                self.entries.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            own if own == fingerprint => {}
            _ => {
                self.evicted.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.left(Place { set: index, fingerprint: held }, &before);
        // The SYN that its sender reset the connection for got through, though its second copy was not seen.
        (held == fingerprint).then(|| before.syn_again(opening.isn, millis(now))).flatten()
    }

    /// Takes a segment that opens and ends no handshake. `isn` is that of the attempt which the segment's sender has open on this
    /// tuple and which was not answered yet, with its age. `heard` is called where it is a word of the connection's
    /// responder; `loss` learns what was missed.
    #[inline]
    pub(crate) fn follow(
        &self,
        hash: u64,
        src_is_low: bool,
        segment: &Segment,
        attempt: Option<(SeqNumber, Duration)>,
        loss: &mut Loss,
        heard: impl FnOnce(),
    ) -> Option<Finding> {
        let place = self.place(hash).filter(|place| self.used(place.set))?;
        let mut set = self.lock(place.set);
        let way = set.fingerprints.iter().position(|&own| own == place.fingerprint)?;
        let before = set.ways[way];
        let suspect_after = self.suspect_after.load(Ordering::Relaxed);
        let context = Context { now: millis(segment.ts), suspect_after, attempt };
        let (stays, finding) = set.ways[way].take(usize::from(!src_is_low), segment, &context, loss);
        let after = set.ways[way];
        if !stays {
            set.fingerprints[way] = 0;
        }
        drop(set);
        if before.is_word_of_responder(usize::from(!src_is_low), segment) {
            heard();
        }
        if !stays {
            self.entries.fetch_sub(1, Ordering::Relaxed);
            self.left(place, &before);
            return finding;
        }
        if after.is_reconnecting() && !before.is_reconnecting() {
            self.last_reconnecting.store(millis(segment.ts), Ordering::Relaxed);
            self.reconnecting.fetch_add(1, Ordering::Relaxed);
        } else if before.is_reconnecting() && !after.is_reconnecting() {
            self.reconnecting.fetch_sub(1, Ordering::Relaxed);
        }
        if before.is_suspected() {
            if after.is_suspected() {
                self.suspects.goes_on(suspect(place), segment.ts);
            } else {
                self.suspects.cleared(suspect(place));
            }
        }
        finding
    }

    /// Takes a SYN that came again.
    pub(crate) fn syn_again(&self, hash: u64, isn: SeqNumber, now: Timestamp) -> Option<Finding> {
        let place = self.place(hash).filter(|place| self.used(place.set))?;
        let mut set = self.lock(place.set);
        let way = set.fingerprints.iter().position(|&own| own == place.fingerprint)?;
        let before = set.ways[way];
        let finding = before.syn_again(isn, millis(now))?;
        set.fingerprints[way] = 0;
        drop(set);
        self.entries.fetch_sub(1, Ordering::Relaxed);
        self.left(place, &before);
        Some(finding)
    }

    /// What a tuple's suspicion is kept under.
    pub(crate) fn suspect_key(&self, hash: u64) -> Option<u64> {
        self.place(hash).map(suspect)
    }

    /// Whether an acknowledgement says nothing that its sender has not said before; none where the connection is not followed.
    pub(crate) fn repeats_itself(&self, hash: u64, src_is_low: bool, segment: &Segment) -> Option<bool> {
        let place = self.place(hash).filter(|place| self.used(place.set))?;
        let set = self.lock(place.set);
        let way = set.fingerprints.iter().position(|&own| own == place.fingerprint)?;
        Some(set.ways[way].repeats_itself(usize::from(!src_is_low), segment))
    }

    /// A connection is no longer followed.
    fn left(&self, place: Place, before: &Connection) {
        if before.is_reconnecting() {
            self.reconnecting.fetch_sub(1, Ordering::Relaxed);
        }
        if before.is_suspected() {
            self.suspects.cleared(suspect(place));
        }
    }
}

fn suspect(place: Place) -> u64 {
    (place.set as u64) << 32 | u64::from(place.fingerprint)
}

fn as_millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

/// Network time in milliseconds, modulo 2^32 (49 days).
#[inline]
fn millis(at: Timestamp) -> u32 {
    at.as_nanos().div_euclid(1_000_000) as u32
}

#[cfg(test)]
mod tests;
