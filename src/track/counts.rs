//! Stage 3 of 5, track: what one packet thread has counted. Plain numbers; the closing law is a method.
//!
//! No atomics: a thread owns its counts and publishes copies on ticks.

use super::event::{HalfOpenCase, HandshakeState, Oddity, Outcome};
use crate::histogram::Histogram;

/// One thread's ledger. With several threads `open` of one may be negative (another opened what it closed); their sum is not.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LedgerCounts {
    /// Attempts that entered the table.
    pub attempts: u64,
    /// SYNs seen again.
    pub syn_retransmissions: u64,
    /// SYN-ACKs seen again.
    pub syn_ack_retransmissions: u64,
    /// Attempts ended, in the order of [`Outcome::ALL`].
    pub closed: [u64; 7],
    /// Completed attempts whose responder went on as if it had not seen the ACK.
    pub not_taken: u64,
    /// SYNs that could only be counted.
    pub untracked: u64,
    /// Open now: `SynSent`, `SynReceived`.
    pub open: [i64; 2],
    /// ACKs and resets that fit no open attempt of their tuple.
    pub mismatched: u64,
    /// SYNs that crossed on one tuple.
    pub simultaneous_opens: u64,
    /// Other oddities, in the order of [`Oddity::ALL`].
    pub oddities: [u64; 3],
    /// Established connections that lost an end or seem to have, in the order of [`HalfOpenCase::ALL`].
    pub half_open: [u64; 3],
    /// SYN-ACKs nobody asked for.
    pub unsolicited_syn_ack: u64,
    /// Refusals nobody asked for.
    pub unsolicited_rst: u64,
    /// Entries that stand for more than one attempt.
    pub sampled: u64,
    /// SYN to SYN-ACK.
    pub syn_ack_latency: Histogram,
    /// SYN to ACK.
    pub handshake_duration: Histogram,
}

impl LedgerCounts {
    pub(crate) fn opened(&mut self) {
        self.attempts += 1;
        self.open[index(HandshakeState::SynSent)] += 1;
    }

    pub(crate) fn answered(&mut self) {
        self.open[index(HandshakeState::SynSent)] -= 1;
        self.open[index(HandshakeState::SynReceived)] += 1;
    }

    pub(crate) fn closed(&mut self, outcome: Outcome, state: HandshakeState) {
        self.closed[outcome as usize] += 1;
        self.open[index(state)] -= 1;
    }

    /// Ended with this outcome.
    pub fn outcome(&self, outcome: Outcome) -> u64 {
        self.closed[outcome as usize]
    }

    pub(crate) fn odd(&mut self, oddity: Oddity) {
        self.oddities[oddity as usize] += 1;
    }

    pub(crate) fn half_open(&mut self, case: HalfOpenCase) {
        self.half_open[case as usize] += 1;
    }

    /// The closing law: every attempt is open or ended in exactly one way.
    pub fn closing_law_holds(&self) -> bool {
        let ended: u64 = self.closed.iter().sum();
        self.attempts as i64 == ended as i64 + self.open.iter().sum::<i64>()
    }

    /// Adds another thread's counts.
    pub fn merge(&mut self, other: &Self) {
        self.attempts += other.attempts;
        self.syn_retransmissions += other.syn_retransmissions;
        self.syn_ack_retransmissions += other.syn_ack_retransmissions;
        for (mine, theirs) in self.closed.iter_mut().zip(other.closed) {
            *mine += theirs;
        }
        self.not_taken += other.not_taken;
        self.untracked += other.untracked;
        for (mine, theirs) in self.open.iter_mut().zip(other.open) {
            *mine += theirs;
        }
        self.mismatched += other.mismatched;
        self.simultaneous_opens += other.simultaneous_opens;
        for (mine, theirs) in self.oddities.iter_mut().zip(other.oddities) {
            *mine += theirs;
        }
        for (mine, theirs) in self.half_open.iter_mut().zip(other.half_open) {
            *mine += theirs;
        }
        self.unsolicited_syn_ack += other.unsolicited_syn_ack;
        self.unsolicited_rst += other.unsolicited_rst;
        self.sampled += other.sampled;
        self.syn_ack_latency.merge(&other.syn_ack_latency);
        self.handshake_duration.merge(&other.handshake_duration);
    }
}

fn index(state: HandshakeState) -> usize {
    match state {
        HandshakeState::SynSent => 0,
        HandshakeState::SynReceived => 1,
    }
}
