//! Stage 4 of 5, detect: what a queue model needs of an event, in 24 bytes.
//!
//! Most events say nothing about a queue; the others are kept from the packet thread to the end of a bin.

use crate::detect::hash::KeyedHash;
use crate::time::Timestamp;
use crate::track::event::{EventKind, HandshakeEvent, HandshakeState, Outcome};
use std::time::Duration;

/// What happened, as far as a queue is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

impl Note {
    /// What an event says about a queue, if anything.
    #[inline]
    pub(in crate::detect) fn of(event: &HandshakeEvent, hash: &KeyedHash, seat: u16) -> Option<Self> {
        let (what, age, number) = match event.kind {
            EventKind::Opened { .. } => (What::Asked, Duration::ZERO, 0),
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
            | EventKind::Untracked { .. }
            | EventKind::SynRetransmitted { .. }
            | EventKind::Overdue { .. }
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

    /// When its attempt opened, to the microsecond: the same by every note of one attempt.
    pub(super) fn opened(&self) -> Timestamp {
        let opened = self.ts.minus(self.age());
        // Attempts open on a whole microsecond; what is over is what the age was cut short by.
        opened.minus(Duration::from_nanos(opened.as_nanos().rem_euclid(1000).unsigned_abs()))
    }

    /// How many attempts it stands for.
    pub(super) fn weight(&self) -> u32 {
        1 << u32::from(self.level)
    }

    /// Age of the attempt.
    pub(super) fn age(&self) -> Duration {
        Duration::from_micros(u64::from(self.age))
    }
}
