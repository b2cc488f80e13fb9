//! Stage 4 of 5, detect: the side of a packet thread. Events become small sums, handed over on every tick.
//!
//! Decides nothing. One table lookup an event, saved where the server is the same as last time; sketches are touched only by
//! attempts that failed. Nothing allocates once the sketches that the traffic needs have been made.

use super::discovery::Found;
use super::hash::KeyedHash;
use super::heavy::Heavy;
use super::probe::{Destination, Failure, Probe, Stray};
use super::queues::Notes;
use super::served::Noted;
use super::slots::Slots;
use super::sources::{SketchPool, SourceHash};
use super::subnets::Completions;
use super::tally::{Count, Gauge, PATIENCE, Tally};
use crate::config::ServerConfig;
use crate::config::detect::{Allowance, DetectConfig, Side};
use crate::decode::segment::Endpoint;
use crate::time::Timestamp;
use crate::track::event::{EventKind, EventSink, HandshakeEvent, HandshakeState, Outcome, SOONEST_COPY};
use crate::track::flow::Flow;
use std::net::Ipv4Addr;

/// Servers a thread can count apart within one tick beyond the known ones; what is more is counted by prefix.
pub(super) const UNKNOWN_SLOTS: usize = 4096;
/// Prefixes that take what found no slot.
pub(super) const FOLD_SLOTS: usize = 1024;
/// Source sketches of a thread, two kilobytes each.
pub(super) const THREAD_SKETCHES: usize = 512;
/// Sets of eight sources followed for scans.
pub(super) const PROBE_SETS: usize = 256;
/// Sets of eight addresses followed for unsolicited answers.
pub(super) const STRAY_SETS: usize = 64;

/// A copy of a SYN beyond this many was not sent by a stack within the first 4 s, which sends two besides the first (science 3.1), also
/// where a tap captures each of them three times.
const COPIES_OF_A_STACK: u8 = 8;
/// From which of a server's timers on a SYN-ACK that comes after its ACK was not taken. One is explained otherwise: the ACK was lost
/// behind the sensor, or the server waits for data (`TCP_DEFER_ACCEPT`), asks once more at the end of that, and takes the answer
/// (net/ipv4/inet_connection_sock.c, `syn_ack_recalc`).
const TURNED_AWAY: u8 = 2;

/// What one packet thread saw since the last tick.
#[derive(Debug)]
pub struct Observations {
    pub(super) hash: KeyedHash,
    pub(super) slots: Slots,
    pub(super) folds: Slots,
    /// What found no place in `folds` either.
    pub(super) other: Tally,
    /// Events that found no slot of their own.
    pub(super) folded: u64,
    pub(super) sketches: SketchPool,
    pub(super) probes: Heavy<Probe>,
    pub(super) strays: Heavy<Stray>,
    /// Completed handshakes by the /64 of who opened them.
    pub(super) completions: Completions,
    /// Solicited SYN-ACKs, and unsolicited ones: what share of the conversation the tap sees.
    pub(super) answers: (u64, u64),
    /// The list of known servers it works by.
    pub(super) generation: u64,
    pub(super) allow: Vec<Allowance>,
    /// How often each allowance applied.
    pub(super) allowed: Vec<u64>,
    /// Events for the queue models.
    pub(super) notes: Notes,
    /// Half-open connections and oddities that showed.
    pub(super) discoveries: Found,
    /// Sources that completed, and those known to have done so.
    pub(super) served: Noted,
    /// The last server that something failed at, which in a flood is the next one as well.
    last: (Endpoint, Destination),
}

impl Observations {
    /// Empty, with all its memory but the sketches. `seed` must be that of the [`Detector`](super::Detector).
    pub fn new(config: &DetectConfig, servers: &[ServerConfig], seed: u64) -> Self {
        let known = config.max_servers.max(servers.len());
        let (hash, nobody) = (KeyedHash::new(seed), Endpoint::new(Ipv4Addr::UNSPECIFIED.into(), 0));
        Self {
            hash,
            slots: Slots::new(known + UNKNOWN_SLOTS),
            folds: Slots::new(FOLD_SLOTS),
            other: Tally::default(),
            folded: 0,
            sketches: SketchPool::new(THREAD_SKETCHES),
            probes: Heavy::new(PROBE_SETS),
            strays: Heavy::new(STRAY_SETS),
            completions: Completions::default(),
            answers: (0, 0),
            generation: 0,
            allow: config.allow.clone(),
            allowed: vec![0; config.allow.len()],
            notes: Notes::new(servers, &hash),
            discoveries: Found::default(),
            served: Noted::new(),
            last: (nobody, destination(&hash, nobody)),
        }
    }

    /// Whether an allowance covers the attempt; counts that it applied.
    fn is_allowed(&mut self, flow: &Flow) -> bool {
        let found = self.allow.iter().position(|allowance| allows(allowance, flow));
        if let Some(counter) = found.and_then(|at| self.allowed.get_mut(at)) {
            *counter += 1;
        }
        found.is_some()
    }

    /// Notes a failed attempt with its source, whose hash is given.
    #[inline]
    fn note_failure(&mut self, flow: &Flow, source: u64, failure: Failure, weight: u32) {
        if self.last.0 != flow.resp {
            self.last = (flow.resp, destination(&self.hash, flow.resp));
        }
        let to = self.last.1;
        let (_, probe) = self.probes.touch(source, flow.orig.addr, u64::from(weight), 0);
        let count = &mut probe.failures[failure as usize];
        *count = count.saturating_add(weight);
        probe.reach(to);
        probe.meet(flow.resp.addr);
    }

    fn note_stray(&mut self, flow: &Flow, reset: bool) {
        let hash = self.hash;
        for (side, addr, peer) in [(0, flow.resp.addr, flow.orig.addr), (1, flow.orig.addr, flow.resp.addr)] {
            let (_, stray) = self.strays.touch(hash.addr(addr), addr, 1, 0);
            let counts = if reset { &mut stray.resets } else { &mut stray.syn_acks };
            counts[side] = counts[side].saturating_add(1);
            stray.peers.insert(hash.addr(peer));
        }
    }
}

fn destination(hash: &KeyedHash, server: Endpoint) -> Destination {
    Destination { server: hash.endpoint(server), host: hash.addr(server.addr), port: hash.port(server.port) }
}

/// Whether an allowance covers an attempt.
fn allows(allowance: &Allowance, flow: &Flow) -> bool {
    let addr = match allowance.side {
        Side::Source => flow.orig.addr,
        Side::Server => flow.resp.addr,
    };
    allowance.port.is_none_or(|port| port == flow.resp.port) && allowance.prefix.contains(addr)
}

/// The prefix that takes what a server without a slot of its own saw, as a key.
pub(super) fn fold_key(server: Endpoint) -> Endpoint {
    Endpoint::new(super::ledger::site(server.addr).addr(), 0)
}

impl EventSink for Observations {
    fn on_event(&mut self, event: &HandshakeEvent) {
        self.notes.take(event, &self.hash);
        let (flow, weight) = (&event.flow, event.weight);
        // What failed: it touches sketches and the sources' table, and an allowance may cover it.
        let failure = match event.kind {
            EventKind::Overdue { state: HandshakeState::SynSent, bare: true, .. } => Some(Failure::Bare),
            EventKind::Overdue { state: HandshakeState::SynSent, .. } => Some(Failure::Unanswered),
            EventKind::Overdue { state: HandshakeState::SynReceived, .. } => Some(Failure::Unacknowledged),
            EventKind::NotTaken { .. } => Some(Failure::Unacknowledged),
            EventKind::Closed { outcome: Outcome::Refused, .. } => Some(Failure::Refused),
            EventKind::Closed {
                outcome: Outcome::Reset,
                state: HandshakeState::SynReceived,
                overdue,
                ..
            } if !overdue => Some(Failure::Dropped),
            // Before an answer anybody can reset a SYN he forged himself, and the server may not take it.
            EventKind::Closed {
                outcome: Outcome::Reset, state: HandshakeState::SynSent, overdue, ..
            } if !overdue => Some(Failure::Unanswered),
            EventKind::UnsolicitedSynAck | EventKind::UnsolicitedRst => {
                let reset = matches!(event.kind, EventKind::UnsolicitedRst);
                self.answers.1 += u64::from(!reset);
                self.note_stray(flow, reset);
                return;
            }
            EventKind::HalfOpen { .. } | EventKind::SimultaneousOpen | EventKind::Oddity(_) => {
                self.discoveries.note(event, &self.hash);
                return;
            }
            // Of its server nothing is known yet.
            EventKind::Unfinished => {
                if self.allow.is_empty() || !self.is_allowed(flow) {
                    let source = self.hash.addr(flow.orig.addr);
                    self.note_failure(flow, source, Failure::Unanswered, weight);
                }
                return;
            }
            EventKind::Mismatched { .. } => return,
            EventKind::Closed { outcome: Outcome::Completed, .. } => {
                let source = self.hash.source(flow.orig.addr);
                self.completions.note(source, flow.orig.addr, weight);
                self.served.note(source);
                None
            }
            EventKind::Opened
            | EventKind::Untracked
            | EventKind::SynRetransmitted { .. }
            | EventKind::Answered { .. }
            | EventKind::SynAckRetransmitted { .. }
            | EventKind::Closed { .. } => None,
        };
        // Whoever takes his own place again and again floods, and is no scanner: one who asks anew asks the same.
        let superseded =
            matches!(event.kind, EventKind::Closed { outcome: Outcome::Superseded, overdue: false, .. });
        self.answers.0 += u64::from(matches!(event.kind, EventKind::Answered { .. }));
        let (mut allowed, mut source) = (false, None);
        if failure.is_some() || superseded {
            allowed = !self.allow.is_empty() && self.is_allowed(flow);
            if !allowed {
                let addr = flow.orig.addr;
                let hash = self.hash.addr(addr);
                if let Some(failure) = failure {
                    self.note_failure(flow, hash, failure, weight);
                }
                if failure != Some(Failure::Refused) {
                    let each = self.hash.source_of(addr, hash);
                    source = Some(SourceHash { each, site: self.hash.site(addr) });
                }
            }
        }
        let slot = match self.slots.get(&self.hash, flow.resp) {
            Some(slot) => Some(slot),
            None => {
                self.folded += 1;
                self.folds.get(&self.hash, fold_key(flow.resp))
            }
        };
        if let Some(slot) = slot {
            if let Some(source) = source {
                slot.sources.insert(source, &mut self.sketches);
                slot.tally.count(Count::Sketched, 1);
                // Only at what never answers does it matter who calls.
                if slot.tally[Count::Answered] == 0 {
                    slot.looks.note(event, || self.served.knows(source.each));
                }
            }
            record(&mut slot.tally, event, allowed);
        } else {
            record(&mut self.other, event, allowed);
        }
    }
}

/// Adds one event to the sums.
#[inline]
fn record(tally: &mut Tally, event: &HandshakeEvent, allowed: bool) {
    let weight = event.weight;
    let by = i64::from(weight);
    match event.kind {
        EventKind::Opened => {
            tally.count(Count::Attempts, 1);
            tally.count(Count::Represented, weight);
            tally.shift(Gauge::Sent, by);
            hear(tally, event.ts);
        }
        EventKind::Untracked => {
            tally.count(Count::Attempts, weight);
            hear(tally, event.ts);
        }
        EventKind::SynRetransmitted { state, count, after } => {
            match count {
                1 if after >= SOONEST_COPY => tally.count(Count::Returned, weight),
                // Whoever goes on so long holds the server's queue without opening anything new.
                u8::MAX => tally.count(Count::Copies, 1),
                n if n > COPIES_OF_A_STACK && state.is_some() => tally.count(Count::Copies, 1),
                _ => {}
            }
            hear(tally, event.ts);
        }
        EventKind::Answered { overdue, .. } => {
            tally.count(Count::Answered, weight);
            tally.shift(Gauge::Sent, -by);
            tally.shift(Gauge::Received, by);
            if overdue {
                tally.shift(Gauge::OverdueSent, -by);
                tally.shift(Gauge::OverdueReceived, by);
            }
            hear(tally, event.ts);
        }
        EventKind::SynAckRetransmitted { after_ack, count, .. } => {
            if after_ack {
                match count {
                    0 => {}
                    TURNED_AWAY.. => tally.count(Count::AnswerAfterAck, 1),
                    1.. => tally.count(Count::AskedAgain, 1),
                }
            } else if count == 1 {
                tally.count(Count::AnswerRepeated, weight);
            }
            hear(tally, event.ts);
        }
        EventKind::Overdue { state, syn_retransmissions, .. } => {
            if allowed {
                tally.count(Count::Allowed, weight);
            } else {
                tally.count(Count::Overdue, weight);
                if syn_retransmissions > 0 {
                    tally.count(Count::OverdueRepeated, weight);
                }
            }
            match state {
                HandshakeState::SynSent => tally.shift(Gauge::OverdueSent, by),
                HandshakeState::SynReceived => {
                    if !allowed {
                        tally.count(Count::OverdueAnswered, weight);
                    }
                    tally.shift(Gauge::OverdueReceived, by);
                }
            }
        }
        EventKind::Closed { outcome, state, after, overdue } => {
            close(tally, outcome, state, overdue, weight, allowed);
            if outcome == Outcome::Completed {
                let class = PATIENCE.iter().position(|bound| after <= *bound).unwrap_or(PATIENCE.len());
                tally.times[class] = tally.times[class].saturating_add(1);
            }
            if !matches!(outcome, Outcome::Unanswered | Outcome::Abandoned | Outcome::Evicted) {
                hear(tally, event.ts);
            }
        }
        EventKind::NotTaken { overdue } => {
            if allowed {
                tally.count(Count::Allowed, weight);
            } else {
                tally.count(Count::NotTaken, weight);
                if !overdue {
                    tally.count(Count::NotTakenInTime, weight);
                }
            }
        }
        EventKind::UnsolicitedSynAck
        | EventKind::UnsolicitedRst
        | EventKind::Mismatched { .. }
        | EventKind::SimultaneousOpen
        | EventKind::Oddity(_)
        | EventKind::HalfOpen { .. }
        | EventKind::Unfinished => {}
    }
}

fn close(
    tally: &mut Tally,
    outcome: Outcome,
    state: HandshakeState,
    overdue: bool,
    weight: u32,
    allowed: bool,
) {
    let by = i64::from(weight);
    let (open, late) = match state {
        HandshakeState::SynSent => (Gauge::Sent, Gauge::OverdueSent),
        HandshakeState::SynReceived => (Gauge::Received, Gauge::OverdueReceived),
    };
    tally.shift(open, -by);
    if overdue {
        tally.shift(late, -by);
    }
    match outcome {
        Outcome::Completed | Outcome::Refused => {
            let what = if outcome == Outcome::Completed { Count::Completed } else { Count::Refused };
            tally.count(what, weight);
            if overdue && !allowed {
                tally.count(Count::Late, weight);
            }
        }
        Outcome::Reset if !overdue && !allowed => {
            tally.count(Count::Abandoned, weight);
        }
        Outcome::Superseded if !overdue && !allowed => tally.count(Count::Superseded, weight),
        Outcome::Evicted if !overdue => tally.count(Count::Evicted, weight),
        Outcome::Reset
        | Outcome::Superseded
        | Outcome::Evicted
        | Outcome::Unanswered
        | Outcome::Abandoned => {}
    }
}

/// A packet, not a timer, said so.
#[inline]
fn hear(tally: &mut Tally, at: Timestamp) {
    tally.heard = tally.heard.max(at);
}
