//! Stage 3 of 5, track: what became of the attempts that wait for their grace age.
//!
//! One word an attempt in a ring, in the order they opened. Looking there costs nothing; looking into the table for every
//! attempt of a flood would cost two cache misses each. No clock.

mod word;

pub(crate) use self::word::StillOpen;
use self::word::{BARE, COPIES, ENDED, TOLD, still_open, word};
use super::event::SOONEST_COPY;
use super::grace::GRACE;
use super::handshake::Attempt;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Bits of a ticket that count attempts.
const SEQUENCE_BITS: u32 = 24;
const SEQUENCE_MASK: u32 = (1 << SEQUENCE_BITS) - 1;

/// Lanes there can be (8 bits less the three of the grace class): two for each packet thread. Further ones work without a ring.
const LANES: usize = 31;

/// An attempt this much older than its grace age has surely passed it: its ring may have come round since.
const SURELY: Duration = Duration::from_secs(2);

/// Where an attempt's word lies. The default is nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket(pub(crate) u32);

impl Ticket {
    /// No ring has a word for it.
    pub(crate) const NONE: Self = Self(u32::MAX);

    fn new(lane: usize, class: usize, sequence: u32) -> Self {
        Self(((lane * 8 + class) as u32) << SEQUENCE_BITS | (sequence & SEQUENCE_MASK))
    }

    fn lane(self) -> usize {
        (self.0 >> (SEQUENCE_BITS + 3)) as usize
    }

    fn class(self) -> usize {
        (self.0 >> SEQUENCE_BITS & 7) as usize
    }

    fn sequence(self) -> u32 {
        self.0 & SEQUENCE_MASK
    }
}

/// Words of a ring that come into being together, when the first of them is needed.
const CHUNK: usize = 4096;

/// One grace class of one lane.
struct Ring {
    chunks: Box<[OnceLock<Box<[AtomicU16]>>]>,
    /// The next attempt to open, and the next to reach its grace age; modulo 2^24.
    tail: AtomicU32,
    head: AtomicU32,
}

impl Ring {
    fn new(size: usize) -> Self {
        let chunks = (0..size.div_ceil(CHUNK)).map(|_| OnceLock::new()).collect();
        Self { chunks, tail: AtomicU32::new(0), head: AtomicU32::new(0) }
    }

    fn len(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    #[inline]
    fn word(&self, sequence: u32) -> &AtomicU16 {
        let place = sequence as usize & (self.len() - 1);
        let chunk =
            self.chunks[place / CHUNK].get_or_init(|| (0..CHUNK).map(|_| AtomicU16::new(0)).collect());
        &chunk[place % CHUNK]
    }

    fn waits(&self, sequence: u32) -> bool {
        let ahead = sequence.wrapping_sub(self.head.load(Ordering::Relaxed)) & SEQUENCE_MASK;
        (ahead as usize) < self.len()
    }
}

/// The rings of all lanes, shared by all threads: one may end what another opened.
pub(crate) struct Waiting {
    lanes: Box<[OnceLock<Arc<[Ring; GRACE.len()]>>]>,
    taken: AtomicUsize,
    size: usize,
}

impl Waiting {
    /// Rings for so many attempts in each class: a power of two, a chunk or more, and no more than half as many as tickets tell apart.
    pub(crate) fn new(size: usize) -> Self {
        let size = size.next_power_of_two().clamp(CHUNK, 1 << (SEQUENCE_BITS - 1));
        let lanes = (0..LANES).map(|_| OnceLock::new()).collect();
        Self { lanes, taken: AtomicUsize::new(0), size }
    }

    /// The rings of a lane of one's own; none where all are taken.
    pub(crate) fn lane(&self) -> Option<LaneRings> {
        let lane = self.taken.fetch_add(1, Ordering::Relaxed);
        let rings = self.lanes.get(lane)?;
        let rings = rings.get_or_init(|| Arc::new(std::array::from_fn(|_| Ring::new(self.size))));
        Some(LaneRings { lane, rings: Arc::clone(rings) })
    }

    /// Attempts a class can keep waiting.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Bytes of the words that came into being.
    pub(crate) fn bytes(&self) -> usize {
        let rings = self.lanes.iter().filter_map(OnceLock::get).flat_map(|rings| rings.iter());
        let chunks = rings.flat_map(|ring| &ring.chunks).filter(|chunk| chunk.get().is_some());
        chunks.count() * CHUNK * size_of::<AtomicU16>()
    }

    fn ring(&self, lane: usize, class: usize) -> Option<&Ring> {
        self.lanes.get(lane)?.get()?.get(class)
    }

    /// Whether the attempt still waits; the ring to write to if so.
    #[inline]
    fn waiting(&self, attempt: &Attempt, age: Duration) -> Option<&Ring> {
        let class = attempt.ticket.class();
        if attempt.ticket == Ticket::NONE || age >= GRACE.get(class)?.saturating_add(SURELY) {
            return None;
        }
        self.ring(attempt.ticket.lane(), class).filter(|ring| ring.waits(attempt.ticket.sequence()))
    }

    /// Whether `Overdue` has been said of an attempt of this age.
    #[inline]
    pub(crate) fn overdue(&self, attempt: &Attempt, age: Duration) -> bool {
        if attempt.ticket == Ticket::NONE {
            return attempt.overdue;
        }
        let told = |ring: &Ring| ring.word(attempt.ticket.sequence()).load(Ordering::Relaxed) & TOLD != 0;
        self.waiting(attempt, age).is_none_or(told)
    }

    /// Copies what changed about an open attempt, its SYN apart.
    #[inline]
    pub(crate) fn changed(&self, attempt: &Attempt, age: Duration) {
        if let Some(ring) = self.waiting(attempt, age) {
            let kept = ring.word(attempt.ticket.sequence());
            let besides = kept.load(Ordering::Relaxed) & (BARE | TOLD | COPIES);
            kept.store(word(attempt) | besides, Ordering::Relaxed);
        }
    }

    /// The SYN of an open attempt came again.
    #[inline]
    pub(crate) fn came_again(&self, attempt: &Attempt, age: Duration) {
        if age >= SOONEST_COPY
            && let Some(ring) = self.waiting(attempt, age)
        {
            let kept = ring.word(attempt.ticket.sequence());
            let besides = kept.load(Ordering::Relaxed) & !COPIES;
            kept.store(besides | u16::from(attempt.syn_copies.min(15)) << 1, Ordering::Relaxed);
        }
    }

    /// An attempt ended.
    #[inline]
    pub(crate) fn ended(&self, attempt: &Attempt, age: Duration) {
        if let Some(ring) = self.waiting(attempt, age) {
            ring.word(attempt.ticket.sequence()).store(ENDED, Ordering::Relaxed);
        }
    }
}

/// Open attempts that have not reached their grace age.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Young {
    /// With a SYN that had no option at all.
    pub(crate) bare: u64,
    /// The others.
    pub(crate) other: u64,
}

/// The rings of one lane, for the thread that opens attempts in it.
pub(crate) struct LaneRings {
    lane: usize,
    rings: Arc<[Ring; GRACE.len()]>,
}

impl LaneRings {
    /// The ticket the next attempt of this class will have.
    #[inline]
    pub(crate) fn next_ticket(&self, class: usize) -> Ticket {
        let ring = self.rings.get(class);
        ring.map_or(Ticket::NONE, |ring| Ticket::new(self.lane, class, ring.tail.load(Ordering::Relaxed)))
    }

    /// An attempt opened with the ticket last given.
    #[inline]
    pub(crate) fn opened(&self, ticket: Ticket, level: u8, originator_is_low: bool, bare: bool) {
        if let Some(ring) = self.rings.get(ticket.class()) {
            let sequence = ticket.sequence();
            let fresh = u16::from(level.min(15)) << 8
                | u16::from(originator_is_low) << 12
                | if bare { BARE } else { 0 };
            ring.word(sequence).store(fresh, Ordering::Relaxed);
            ring.tail.store((sequence + 1) & SEQUENCE_MASK, Ordering::Relaxed);
        }
    }

    /// Attempts of all classes that are open and were not told as overdue, each for as many as it stands for; those with a
    /// bare SYN apart.
    pub(crate) fn young(&self) -> Young {
        let mut young = Young::default();
        for ring in self.rings.iter() {
            let (head, tail) = (ring.head.load(Ordering::Relaxed), ring.tail.load(Ordering::Relaxed));
            for ahead in 0..tail.wrapping_sub(head) & SEQUENCE_MASK {
                let word = ring.word(head.wrapping_add(ahead) & SEQUENCE_MASK).load(Ordering::Relaxed);
                if let Some(open) = still_open(word).filter(|open| !open.told) {
                    let count = if open.bare { &mut young.bare } else { &mut young.other };
                    *count += 1 << open.level;
                }
            }
        }
        young
    }

    fn ahead(&self, class: usize, ahead: u32) -> Option<&AtomicU16> {
        let ring = self.rings.get(class)?;
        Some(ring.word(ring.head.load(Ordering::Relaxed).wrapping_add(ahead) & SEQUENCE_MASK))
    }

    /// The attempt that many places behind the oldest of a class, where it is still open and was not told as overdue.
    pub(crate) fn look(&self, class: usize, ahead: u32) -> Option<StillOpen> {
        let word = self.ahead(class, ahead)?;
        still_open(word.load(Ordering::Relaxed)).filter(|open| !open.told)
    }

    /// The same, to be told as overdue now, before its grace age, where it is `wanted`.
    pub(crate) fn tell(
        &self,
        class: usize,
        ahead: u32,
        wanted: impl Fn(&StillOpen) -> bool,
    ) -> Option<StillOpen> {
        let open = self.look(class, ahead).filter(wanted)?;
        self.ahead(class, ahead)?.fetch_or(TOLD, Ordering::Relaxed);
        Some(open)
    }

    /// The oldest attempt of a class reaches its grace age: whether it is still open, and how it stands.
    #[inline]
    pub(crate) fn reached(&self, class: usize) -> Option<StillOpen> {
        let ring = self.rings.get(class)?;
        let sequence = ring.head.load(Ordering::Relaxed);
        let word = ring.word(sequence).load(Ordering::Relaxed);
        ring.head.store((sequence + 1) & SEQUENCE_MASK, Ordering::Relaxed);
        still_open(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;
    use crate::track::event::HandshakeState;

    fn attempt(ticket: Ticket) -> Attempt {
        Attempt {
            opened_at: Timestamp::EPOCH,
            isn: Default::default(),
            responder_isn: Default::default(),
            syn_payload: 0,
            state: HandshakeState::SynReceived,
            syn_copies: 3,
            syn_ack_copies: 2,
            level: 4,
            originator_is_low: true,
            overdue: false,
            early_ack: false,
            contested: false,
            spoken: false,
            crossed: false,
            ticket,
        }
    }

    #[test]
    fn a_word_follows_its_attempt_until_its_grace_age() {
        let waiting = Waiting::new(4);
        let lane = waiting.lane().unwrap();
        let young = Duration::from_millis(10);
        let mut opened = Vec::new();
        for level in [0, 0, 4] {
            let ticket = lane.next_ticket(2);
            lane.opened(ticket, level, true, level == 4);
            opened.push(attempt(ticket));
        }
        assert_eq!(lane.young(), Young { bare: 16, other: 2 });
        waiting.ended(&opened[0], young);
        waiting.came_again(&opened[2], SOONEST_COPY);
        waiting.changed(&opened[2], young);
        assert!(!waiting.overdue(&opened[1], young));
        assert_eq!(lane.reached(2), None);
        assert_eq!(lane.reached(2).map(|open| open.state), Some(HandshakeState::SynSent));
        assert!(waiting.overdue(&opened[1], young), "its turn has passed, however young it looks");
        let changed = StillOpen {
            state: HandshakeState::SynReceived,
            syn_copies: 3,
            syn_ack_copies: 2,
            level: 4,
            originator_is_low: true,
            bare: true,
            told: false,
        };
        assert_eq!(lane.young(), Young { bare: 16, other: 0 });
        assert_eq!(lane.tell(2, 0, |open| !open.bare), None);
        assert!(!waiting.overdue(&opened[2], young));
        assert_eq!(lane.tell(2, 0, |open| open.bare), Some(changed));
        assert_eq!(lane.tell(2, 0, |_| true), None, "once");
        waiting.changed(&opened[2], young);
        assert!(waiting.overdue(&opened[2], young), "also where it changed since");
        assert_eq!(lane.reached(2), Some(StillOpen { told: true, ..changed }));
        assert_eq!(lane.young(), Young::default());
    }

    #[test]
    fn a_copy_sooner_than_a_stack_sends_one_is_none() {
        let waiting = Waiting::new(4);
        let lane = waiting.lane().unwrap();
        let open = attempt(lane.next_ticket(2));
        lane.opened(open.ticket, 0, true, false);
        let copies = |age: u64| {
            waiting.came_again(&open, Duration::from_millis(age));
            waiting.changed(&open, Duration::from_millis(age));
            let ring = waiting.ring(0, 2).unwrap();
            still_open(ring.word(open.ticket.sequence()).load(Ordering::Relaxed)).unwrap().syn_copies
        };
        assert_eq!([0, 1, 249].map(copies), [0, 0, 0]);
        assert_eq!([250, 251].map(copies), [3, 3]);
    }

    #[test]
    fn an_old_attempt_touches_no_word_that_came_round() {
        let waiting = Waiting::new(2);
        let lane = waiting.lane().unwrap();
        let old = attempt(lane.next_ticket(0));
        for _ in 0..=SEQUENCE_MASK {
            lane.opened(lane.next_ticket(0), 0, true, false);
            lane.reached(0);
        }
        lane.opened(lane.next_ticket(0), 0, true, false);
        waiting.ended(&old, Duration::from_secs(63));
        assert!(lane.reached(0).is_some());
    }

    #[test]
    fn beyond_the_last_lane_there_is_none() {
        let waiting = Waiting::new(2);
        let lanes: Vec<_> = (0..40).map(|_| waiting.lane()).collect();
        assert_eq!(lanes.iter().flatten().count(), LANES);
    }
}
