//! Stage 4 of 5, detect: what a queue model needs of an event, in 24 bytes.
//!
//! Most events say nothing about a queue; the others are kept from the packet thread to the end of a bin, or a share of them that
//! depends on nothing but what they say.

use crate::detect::hash::{KeyedHash, finish};
use crate::time::Timestamp;
use crate::track::event::{EventKind, HandshakeEvent, HandshakeState, Outcome};
use std::time::Duration;

/// What happened, as far as a queue is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::detect) enum What {
    /// A SYN came.
    Asked,
    /// Its SYN-ACK went out.
    Answered,
    /// A SYN-ACK came again.
    Repeated,
    /// The same, though the originator had acknowledged it.
    RepeatedAfterAck,
    /// The handshake was completed.
    Completed,
    /// It was reset by either side.
    Reset,
}

/// One event of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::detect) struct Note {
    pub(in crate::detect) ts: Timestamp,
    /// Keyed hash of the originator.
    pub(in crate::detect) orig: u64,
    /// Age of the attempt, microseconds: 71 minutes at the most.
    age: u32,
    /// Its weight, a power of two.
    level: u8,
    pub(in crate::detect) what: What,
    /// Which repetition it is; after the ACK, which timer's.
    pub(super) number: u8,
    /// Number of the server's model.
    pub(in crate::detect) seat: u8,
}

const _: () = assert!(size_of::<Note>() == 24);

/// The largest level of a weight that 32 bits hold: no count of a queue goes further.
const MOST: u8 = 31;

impl Note {
    /// What an event says about a queue, if anything.
    #[inline]
    pub(in crate::detect) fn of(event: &HandshakeEvent, hash: &KeyedHash, seat: u16) -> Option<Self> {
        let (what, age, number) = match event.kind {
            EventKind::Opened => (What::Asked, Duration::ZERO, 0),
            EventKind::Answered { after, .. } => (What::Answered, after, 0),
            EventKind::SynAckRetransmitted { after_ack: true, age, count } => {
                (What::RepeatedAfterAck, age, count)
            }
            EventKind::SynAckRetransmitted { after_ack: false, age, count } => (What::Repeated, age, count),
            EventKind::Closed { outcome, state: HandshakeState::SynReceived, after, .. } => match outcome {
                Outcome::Completed => (What::Completed, after, 0),
                Outcome::Refused | Outcome::Reset => (What::Reset, after, 0),
                // Our table's doing, or a SYN that the server answers with a challenge and that changes nothing there
                // (net/ipv4/tcp_minisocks.c, `tcp_check_req`).
                Outcome::Superseded | Outcome::Evicted | Outcome::Unanswered | Outcome::Abandoned => {
                    return None;
                }
            },
            EventKind::Closed { .. }
            | EventKind::Untracked
            | EventKind::SynRetransmitted { .. }
            | EventKind::Overdue { .. }
            | EventKind::Unfinished
            // Its SYN-ACKs said it.
            | EventKind::NotTaken { .. }
            | EventKind::UnsolicitedSynAck
            | EventKind::UnsolicitedRst
            | EventKind::Mismatched { .. }
            | EventKind::SimultaneousOpen
            | EventKind::Oddity(_)
            | EventKind::HalfOpen { .. } => return None,
        };
        Some(Self {
            ts: event.ts,
            orig: hash.endpoint(event.flow.orig),
            age: u32::try_from(age.as_micros()).unwrap_or(u32::MAX),
            level: event.weight.max(1).ilog2() as u8,
            what,
            number,
            seat: u8::try_from(seat).ok()?,
        })
    }

    /// Zeros of a fair coin tossed by its attempt: at least n in one of 2^n attempts, and by each note of one the same. By when it opened
    /// as well, because one originator may begin any number from one port. Nobody outside knows the key, so nobody chooses.
    #[inline]
    pub(in crate::detect) fn coin(&self) -> u32 {
        finish(self.orig ^ self.opened().as_nanos() as u64).trailing_zeros()
    }

    /// Puts notes in order of time; where two are of one moment, in one that depends on nothing but what they say.
    pub(in crate::detect) fn rank(&self) -> impl Ord + use<> {
        (self.ts, self.orig, self.what, self.age, self.number, self.level, self.seat)
    }

    /// The same for `2^level` attempts, of which it is the one that was kept.
    pub(in crate::detect) fn standing_for(&self, level: u8) -> Self {
        Self { level: self.level.saturating_add(level).min(MOST), ..*self }
    }

    /// When its attempt opened, to the microsecond: the same by every note of one attempt.
    pub(super) fn opened(&self) -> Timestamp {
        let opened = self.ts.minus(self.age());
        // Attempts open on a whole microsecond; what is over is what the age was cut short by.
        opened.minus(Duration::from_nanos(opened.as_nanos().rem_euclid(1000).unsigned_abs()))
    }

    /// How many attempts it stands for.
    pub(in crate::detect) fn weight(&self) -> u32 {
        1 << u32::from(self.level)
    }

    /// Age of the attempt.
    pub(super) fn age(&self) -> Duration {
        Duration::from_micros(u64::from(self.age))
    }
}
