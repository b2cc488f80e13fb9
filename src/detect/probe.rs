//! Stage 4 of 5, detect: what one source failed at, and what one address was told that it had not asked.
//!
//! Counts and small sketches only; whether that is a scan is decided elsewhere.

use super::heavy::Restart;
use super::sources::Distinct;
use std::net::IpAddr;

/// Sums of one key, of two threads or two windows.
pub(super) trait Merge: Default {
    /// Adds the other's part of the same key.
    fn merge(&mut self, other: &Self);
}

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
    /// No SYN-ACK within the grace age, to a SYN without any option, as no stack sends it.
    Bare,
}

/// Kinds of failures.
const FAILURES: usize = 5;

/// Where an attempt went, as hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Destination {
    /// Of the server: address and port.
    pub(super) server: u64,
    /// Of the host.
    pub(super) host: u64,
    /// Of the port.
    pub(super) port: u64,
}

/// Different destinations: the first by itself, because a flood's forged sources have no other; further ones in sketches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Reach {
    #[default]
    Nowhere,
    One(Destination),
    Many,
}

/// Failed attempts of one source. What a forged source needs comes first, together: it has no second destination.
#[derive(Debug, Clone, Default)]
#[repr(C)]
pub(super) struct Probe {
    /// By [`Failure`].
    pub(super) failures: [u32; FAILURES],
    reach: Reach,
    /// The lowest address among the hosts: the victim, where there is only one.
    pub(super) lowest: Option<IpAddr>,
    /// Meaningless unless `reach` is [`Reach::Many`].
    servers: Distinct<64>,
    hosts: Distinct<64>,
    ports: Distinct<64>,
}

impl Probe {
    /// Notes where an attempt went.
    #[inline]
    pub(super) fn reach(&mut self, to: Destination) {
        match self.reach {
            Reach::Nowhere => self.reach = Reach::One(to),
            Reach::One(only) if only == to => {}
            Reach::One(_) => {
                self.spread();
                self.insert(to);
            }
            Reach::Many => self.insert(to),
        }
    }

    fn insert(&mut self, to: Destination) {
        self.servers.insert(to.server);
        self.hosts.insert(to.host);
        self.ports.insert(to.port);
    }

    /// From here on the sketches count.
    fn spread(&mut self) {
        let before = std::mem::replace(&mut self.reach, Reach::Many);
        if before == Reach::Many {
            return;
        }
        self.servers.clear();
        self.hosts.clear();
        self.ports.clear();
        if let Reach::One(only) = before {
            self.insert(only);
        }
    }

    /// Different servers, hosts and ports, each an estimate.
    pub(super) fn reached(&self) -> (f64, f64, f64) {
        match self.reach {
            Reach::Nowhere => (0.0, 0.0, 0.0),
            Reach::One(_) => (1.0, 1.0, 1.0),
            Reach::Many => (self.servers.estimate(), self.hosts.estimate(), self.ports.estimate()),
        }
    }

    /// Failures of every sort.
    pub(super) fn total(&self) -> u32 {
        self.failures.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// Notes a host.
    #[inline]
    pub(super) fn meet(&mut self, host: IpAddr) {
        if self.lowest.is_none_or(|lowest| host < lowest) {
            self.lowest = Some(host);
        }
    }

    /// Failures of one sort.
    pub(super) fn of(&self, failure: Failure) -> u32 {
        self.failures[failure as usize]
    }
}

impl Restart for Probe {
    #[inline]
    fn restart(&mut self) {
        (self.failures, self.lowest, self.reach) = ([0; FAILURES], None, Reach::Nowhere);
    }
}

impl Merge for Probe {
    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.failures.iter_mut().zip(other.failures) {
            *mine = mine.saturating_add(theirs);
        }
        match other.reach {
            Reach::Nowhere => {}
            Reach::One(only) => self.reach(only),
            Reach::Many => {
                self.spread();
                self.servers.union(&other.servers);
                self.hosts.union(&other.hosts);
                self.ports.union(&other.ports);
            }
        }
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

impl Restart for Stray {
    fn restart(&mut self) {
        *self = Self::default();
    }
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
