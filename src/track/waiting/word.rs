//! Stage 3 of 5, track: what the ring keeps of an attempt, in 16 bits.
//!
//! Packing only: nothing is looked up, counted or timed here.

use crate::track::event::HandshakeState;
use crate::track::handshake::Attempt;

/// Set in a word whose attempt ended.
pub(super) const ENDED: u16 = 1 << 15;

/// Set in a word whose attempt has a SYN without any option.
pub(super) const BARE: u16 = 1 << 13;

/// Set in a word whose attempt was told as overdue before its grace age, at the end of a capture.
pub(super) const TOLD: u16 = 1 << 14;

/// Of a word: copies of the SYN that a stack may have sent.
pub(super) const COPIES: u16 = 15 << 1;

/// What a word says of an attempt that is still open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StillOpen {
    pub(crate) state: HandshakeState,
    /// That a stack may have sent.
    pub(crate) syn_copies: u8,
    pub(crate) syn_ack_copies: u8,
    pub(crate) level: u8,
    pub(crate) originator_is_low: bool,
    /// Its SYN had no option at all, as no stack sends it; known only while it waits for its grace age.
    pub(crate) bare: bool,
    /// It was told as overdue before its time.
    pub(crate) told: bool,
}

impl From<&Attempt> for StillOpen {
    fn from(attempt: &Attempt) -> Self {
        Self {
            state: attempt.state,
            syn_copies: attempt.syn_copies,
            syn_ack_copies: attempt.syn_ack_copies,
            level: attempt.level,
            originator_is_low: attempt.originator_is_low,
            bare: false,
            told: false,
        }
    }
}

/// Without the copies.
pub(super) fn word(attempt: &Attempt) -> u16 {
    u16::from(attempt.state == HandshakeState::SynReceived)
        | u16::from(attempt.syn_ack_copies.min(7)) << 5
        | u16::from(attempt.level.min(15)) << 8
        | u16::from(attempt.originator_is_low) << 12
}

pub(super) fn still_open(word: u16) -> Option<StillOpen> {
    let state = if word & 1 == 1 { HandshakeState::SynReceived } else { HandshakeState::SynSent };
    let open = StillOpen {
        state,
        syn_copies: (word >> 1 & 15) as u8,
        syn_ack_copies: (word >> 5 & 7) as u8,
        level: (word >> 8 & 15) as u8,
        originator_is_low: word >> 12 & 1 == 1,
        bare: word & BARE != 0,
        told: word & TOLD != 0,
    };
    (word & ENDED == 0).then_some(open)
}
