//! Stage 4 of 5, detect: what one source failed at, and what one address was told that it had not asked.
//!
//! Counts and small sketches only; whether that is a scan is decided elsewhere.

use super::heavy::Merge;
use super::sources::Distinct;
use std::net::IpAddr;

/// How an attempt failed, from the point of view of who made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// No SYN-ACK within the grace age.
    Unanswered,
    /// A SYN-ACK, but no ACK of it.
    Unacknowledged,
    /// Reset by the responder.
    Refused,
    /// Reset by the originator after a SYN-ACK, as a scanner's host does.
    Dropped,
}

/// Failed attempts of one source.
#[derive(Debug, Clone, Default)]
pub(super) struct Probe {
    /// By [`Failure`].
    pub(super) failures: [u32; 4],
    /// Different servers (address and port).
    pub(super) servers: Distinct<64>,
    /// Different hosts.
    pub(super) hosts: Distinct<64>,
    /// Different ports.
    pub(super) ports: Distinct<64>,
    /// The lowest address among the hosts: the victim, where there is only one.
    pub(super) lowest: Option<IpAddr>,
}

impl Probe {
    /// Failures of every sort.
    pub(super) fn total(&self) -> u32 {
        self.failures.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// Notes a host.
    pub(super) fn meet(&mut self, host: IpAddr) {
        self.lowest = Some(self.lowest.map_or(host, |lowest| lowest.min(host)));
    }

    /// Failures of one sort.
    pub(super) fn of(&self, failure: Failure) -> u32 {
        self.failures[failure as usize]
    }
}

impl Merge for Probe {
    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.failures.iter_mut().zip(other.failures) {
            *mine = mine.saturating_add(theirs);
        }
        self.servers.union(&other.servers);
        self.hosts.union(&other.hosts);
        self.ports.union(&other.ports);
        if let Some(host) = other.lowest {
            self.meet(host);
        }
    }
}

/// Answers that one address sent, or got, without a question.
#[derive(Debug, Clone, Default)]
pub(super) struct Stray {
    /// SYN-ACKs sent by it, and got by it.
    pub(super) syn_acks: [u32; 2],
    /// Resets sent by it, and got by it.
    pub(super) resets: [u32; 2],
    /// Different addresses at the other end.
    pub(super) peers: Distinct<64>,
}

impl Merge for Stray {
    fn merge(&mut self, other: &Self) {
        for side in 0..2 {
            self.syn_acks[side] = self.syn_acks[side].saturating_add(other.syn_acks[side]);
            self.resets[side] = self.resets[side].saturating_add(other.resets[side]);
        }
        self.peers.union(&other.peers);
    }
}
