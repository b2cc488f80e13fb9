//! Stage 3 of 5, track: the type that leaves it. What happened to one handshake, as one small `Copy` value.
//!
//! No state, no clock, no I/O. Detection sees these and nothing else of what lies before it.

use super::flow::Flow;
use crate::time::Timestamp;
use std::time::Duration;

/// A copy that comes sooner after the first SYN is no retransmission of a stack, whose first timer is 1 s (RFC 6298 section 2, rule 2.1; a
/// quarter of it for those that know better): a tap captured the SYN twice, or a tool sends each of its SYNs so. Such a copy does not make
/// its sender a real client.
pub(crate) const SOONEST_COPY: Duration = Duration::from_millis(250);

/// Where an embryonic connection stands, in the words of RFC 9293 section 3.3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HandshakeState {
    /// SYN seen, no SYN-ACK yet.
    SynSent,
    /// SYN-ACK seen, the originator's ACK not yet. This one occupies a slot of the server's SYN queue.
    SynReceived,
}

impl HandshakeState {
    /// The label in metrics and JSON.
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::SynSent => "syn_sent",
            Self::SynReceived => "syn_received",
        }
    }
}

/// How an attempt ended. The seven of the closing law in the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The originator acknowledged the SYN-ACK.
    Completed,
    /// Reset by the responder.
    Refused,
    /// Reset by the originator.
    Reset,
    /// Expired without a SYN-ACK.
    Unanswered,
    /// Expired after a SYN-ACK.
    Abandoned,
    /// A SYN with another initial sequence number took the tuple.
    Superseded,
    /// Removed to make room, before its time.
    Evicted,
}

impl Outcome {
    /// Every outcome, in the order of the closing law.
    pub const ALL: [Self; 7] = [
        Self::Completed,
        Self::Refused,
        Self::Reset,
        Self::Unanswered,
        Self::Abandoned,
        Self::Superseded,
        Self::Evicted,
    ];

    /// The label in metrics and JSON.
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Unanswered => "unanswered",
            Self::Abandoned => "abandoned",
            Self::Superseded => "superseded",
            Self::Evicted => "evicted",
        }
    }
}

/// What happened. `weight` on an event is how many attempts one tracked entry stands for: 1, or 1/p where the table
/// samples with probability p (Horvitz-Thompson estimate); every sum that uses a weight above 1 is an estimate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum EventKind {
    /// A new attempt entered the table.
    Opened,
    /// A SYN that the table could not hold: counted, not followed. Retransmissions cannot be told apart here.
    Untracked,
    /// The same SYN again (same tuple, same ISN), whether its attempt is open or was completed or has expired.
    SynRetransmitted {
        /// The state of the open attempt; none where it is no longer open.
        state: Option<HandshakeState>,
        /// Copies seen so far, saturating at 15; where the attempt is no longer open, 255 if this is later than any stack's last, else 0.
        count: u8,
        /// Since the first SYN; zero where the attempt is no longer open.
        after: Duration,
    },
    /// The first SYN-ACK of an open attempt.
    Answered {
        /// From the first SYN to this SYN-ACK.
        after: Duration,
        /// Whether `Overdue` had been said of it.
        overdue: bool,
    },
    /// A SYN-ACK again.
    SynAckRetransmitted {
        /// The originator had already completed the handshake: the server's accept queue did not take it.
        after_ack: bool,
        /// How long after the attempt opened.
        age: Duration,
        /// Copies seen so far, saturating at 7. After the ACK: how many of the responder's timers have sent it again, those before the
        /// ACK included; 0 where this copy shows none that had not shown. 0 where the attempt ended otherwise.
        count: u8,
    },
    /// The responder did not take the ACK that completed an attempt: two of its timers sent the SYN-ACK again. Said once, and of an
    /// attempt that stays counted as completed: the originator acknowledged, only with a wrong checksum or timestamp, or into a full
    /// accept queue. The responder holds its entry all the while.
    NotTaken {
        /// Whether `Overdue` had been said of it.
        overdue: bool,
    },
    /// The grace age passed and nobody completed, refused or reset the attempt: *unresolved* from now on.
    Overdue {
        /// Its state at that moment.
        state: HandshakeState,
        /// Copies of its SYN seen so far, no sooner than a stack may send one.
        syn_retransmissions: u8,
        /// Copies of its SYN-ACK seen so far.
        syn_ack_retransmissions: u8,
        /// Its SYN had no option at all, as no stack sends it, and was noted as such.
        bare: bool,
    },
    /// The capture ended before the grace age, and the SYN had no answer though longer than nearly any round trip. Said of its
    /// originator only: the attempt is open as before, neither overdue nor ended.
    Unfinished,
    /// The attempt ended and left the table.
    Closed {
        /// How.
        outcome: Outcome,
        /// The state it left.
        state: HandshakeState,
        /// Its age.
        after: Duration,
        /// Whether `Overdue` had been said of it.
        overdue: bool,
    },
    /// A SYN-ACK for which no SYN was seen. `flow.orig` is whom it was sent to, `flow.resp` who sent it.
    UnsolicitedSynAck,
    /// A refusal (RST with ACK) for which no SYN was seen. `flow.orig` is whom it was sent to, `flow.resp` who sent it.
    UnsolicitedRst,
    /// An ACK or RST whose numbers fit no open attempt of its tuple: forged, or old. It changed nothing.
    Mismatched {
        /// A reset, else an acknowledgement or SYN-ACK.
        reset: bool,
    },
    /// A SYN crossed another SYN on the same tuple (RFC 9293 figure 7).
    SimultaneousOpen,
    /// Something else that RFC 9293 knows and handshakes rarely show. `flow` is that of the SYN it began with.
    Oddity(Oddity),
    /// An established connection lost one of its ends, or seems to have. `flow` is that of the connection.
    HalfOpen {
        /// How it showed.
        case: HalfOpenCase,
        /// Whether the end that is gone is the originator; the other one is stale: it still holds the connection.
        originator_is_gone: bool,
        /// `Reconnect`: from the first SYN to its copy that got through. `ResetOnData`: from the first segment that went
        /// unanswered to the reset. `Suspected`: from that segment until now.
        after: Duration,
    },
}

/// Exchanges that RFC 9293 and RFC 5961 describe and no handshake needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Oddity {
    /// The originator reset the answer to a SYN it had sent earlier and goes on with another one (RFC 9293 figure 8).
    OldDuplicateSyn,
    /// The originator reset the answer to its SYN and goes on with none: RFC 9293 figure 11, but also a scanner, or the owner of
    /// a forged address; the segments are the same.
    DisownedSyn,
    /// A SYN met an established connection: its other end answered with an empty acknowledgement (RFC 5961 section 4).
    ChallengeAck,
}

impl Oddity {
    /// Every oddity, in the order they are counted in.
    pub const ALL: [Self; 3] = [Self::OldDuplicateSyn, Self::DisownedSyn, Self::ChallengeAck];

    /// The label in metrics.
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::OldDuplicateSyn => "old_duplicate_syn",
            Self::DisownedSyn => "disowned_syn",
            Self::ChallengeAck => "challenge_ack",
        }
    }
}

/// How a half-open connection shows (RFC 9293 section 3.5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HalfOpenCase {
    /// The end that is gone connects again from the same port: its SYN meets the old connection, it resets that and sends the same
    /// SYN again (figure 9).
    Reconnect,
    /// It answers data or a keepalive with a bare reset (figure 10).
    ResetOnData,
    /// One end repeats data or probes, and the other is silent.
    Suspected,
}

impl HalfOpenCase {
    /// Every case, in the order they are counted in.
    pub const ALL: [Self; 3] = [Self::Reconnect, Self::ResetOnData, Self::Suspected];

    /// The label in metrics and JSON.
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Reconnect => "reconnect",
            Self::ResetOnData => "reset_on_data",
            Self::Suspected => "suspected",
        }
    }
}

/// One thing that happened to one handshake.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HandshakeEvent {
    /// Network time.
    pub ts: Timestamp,
    /// Originator and responder.
    pub flow: Flow,
    /// How many attempts this one stands for: 1 unless sampled, then a power of two.
    pub weight: u32,
    /// What happened.
    pub kind: EventKind,
}

/// Takes events as they happen. Implementations may not allocate per event or lock across calls.
pub trait EventSink {
    /// Takes one event.
    fn on_event(&mut self, event: &HandshakeEvent);
}

/// Drops every event; for measurements of the stages before.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoSink;

impl EventSink for NoSink {
    fn on_event(&mut self, _event: &HandshakeEvent) {}
}

impl EventSink for Vec<HandshakeEvent> {
    fn on_event(&mut self, event: &HandshakeEvent) {
        self.push(*event);
    }
}
