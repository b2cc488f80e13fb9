//! The sensor as reports see it: one snapshot made of what the threads published.
//!
//! Runs on the HTTP side. Takes each thread's lock for a copy, the detector's for its listings; never one for long.

use super::packets::FrameTally;
use super::shared::{Sensor, lock};
use crate::capture::InterfaceCounters;
use crate::config::ServerConfig;
use crate::decode::DecodeError;
use crate::decode::segment::Endpoint;
use crate::detect::incident::{Discovery, Recommendation};
use crate::report::history::Sample;
use crate::report::snapshot::{
    EmbryonicView, EstablishedView, FrameCounts, HalfOpenCounts, HalfOpenListing, HandshakeCounts,
    InterfaceView, Snapshot, SnapshotSource, TableView,
};
use crate::track::counts::LedgerCounts;
use crate::track::established::suspects::Suspect;
use crate::track::event::{HalfOpenCase, Oddity};
use crate::track::flow::Flow;
use crate::track::handshake::Attempt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

impl SnapshotSource for Sensor {
    fn history(&self) -> Vec<Sample> {
        lock(&self.history).samples()
    }

    fn snapshot(&self) -> Snapshot {
        let threads = lock(&self.threads).clone();
        let mut ledger = LedgerCounts::default();
        let mut frames = FrameTally::default();
        let mut snapshot = Snapshot::default();
        let (mut lag, mut bytes) = (Duration::ZERO, 0);
        for thread in &threads {
            let published = lock(&thread.published);
            ledger.merge(&published.ledger);
            frames.add(&published.frames);
            snapshot.network_time = snapshot.network_time.max(published.network_time);
            snapshot.time_jumps += published.time_jumps;
            lag = lag.max(published.expiry_lag);
            bytes += published.bytes;
        }
        let interfaces = threads.iter().flat_map(|thread| &thread.interfaces);
        snapshot.interfaces = interfaces.map(interface).collect();
        snapshot.segments = frames.segments;
        snapshot.frames = frames.counts();
        let (emergency, emergencies) = self.table.emergency();
        snapshot.table = TableView {
            limit: self.table.limit() as u64,
            emergency,
            emergencies,
            sampled: ledger.sampled,
            expiry_lag: lag.as_secs_f64(),
            bytes: (self.table.bytes() + bytes) as u64,
        };
        snapshot.handshakes = handshakes(&ledger);
        snapshot.syn_ack_latency = ledger.syn_ack_latency;
        snapshot.handshake_duration = ledger.handshake_duration;
        let established = &self.table.established;
        let [reconnect, reset_on_data, suspicions] = ledger.half_open;
        snapshot.half_open = HalfOpenCounts {
            reconnect,
            reset_on_data,
            suspected: established.suspects.len() as u64,
            suspected_limit: established.suspects.limit() as u64,
            suspicions,
            untold: 0,
        };
        snapshot.established = EstablishedView {
            followed: established.len() as u64,
            limit: established.limit() as u64,
            evicted: established.evicted(),
            bytes: established.bytes() as u64,
        };
        let top = self.config().web.top_servers;
        let judge = lock(&self.judge);
        snapshot.servers = judge.detector.servers(top);
        snapshot.incidents = judge.detector.incidents();
        snapshot.incidents_raised = judge.detector.raised();
        snapshot.backlog_notes_dropped = judge.detector.backlog_notes_dropped();
        snapshot.half_open.untold = judge.detector.discoveries_untold();
        snapshot.handshakes.oddities_untold = judge.detector.oddities_untold();
        snapshot
    }

    fn embryonic(&self, server: Option<&str>, limit: usize) -> Vec<EmbryonicView> {
        let config = self.config();
        let wanted = Wanted::parse(server, &config.servers);
        let wanted = |flow: &Flow| wanted.covers(flow.resp);
        let now = lock(&self.threads).iter().filter_map(|thread| lock(&thread.published).network_time).max();
        let Some(now) = now else { return Vec::new() };
        let aged = |(flow, attempt): (Flow, Attempt)| (now.since(attempt.opened_at), flow, attempt);
        let mut rows: Vec<_> = self.table.list(limit, now, wanted).into_iter().map(aged).collect();
        rows.sort_by(|(a, flow_a, _), (b, flow_b, _)| {
            b.cmp(a).then_with(|| (flow_a.orig, flow_a.resp).cmp(&(flow_b.orig, flow_b.resp)))
        });
        rows.into_iter().map(|(age, flow, attempt)| embryonic(age, &flow, &attempt)).collect()
    }

    fn half_open(&self, limit: usize) -> HalfOpenListing {
        let suspected = self.table.established.suspects.list(limit);
        let discovered = lock(&self.judge).detector.discoveries();
        HalfOpenListing { discovered, suspected: suspected.iter().map(suspect).collect() }
    }

    fn has_pcap(&self, incident: &str) -> bool {
        self.evidence().is_some_and(|store| store.has(incident))
    }

    fn pcap(&self, incident: &str) -> Option<Vec<u8>> {
        self.evidence()?.pcap(incident)
    }
}

impl Sensor {
    /// What to configure, by what was seen so far.
    pub fn recommend(&self) -> Vec<Recommendation> {
        let top = self.config().web.top_servers;
        lock(&self.judge).detector.recommend(top)
    }
}

impl FrameTally {
    pub(super) fn add(&mut self, other: &Self) {
        self.read += other.read;
        self.tcp += other.tcp;
        self.not_tcp += other.not_tcp;
        self.later_fragments += other.later_fragments;
        for (mine, theirs) in self.undecoded.iter_mut().zip(other.undecoded) {
            *mine += theirs;
        }
        for (mine, theirs) in self.segments.iter_mut().zip(other.segments) {
            *mine += theirs;
        }
    }

    fn counts(&self) -> FrameCounts {
        let undecoded =
            DecodeError::ALL.iter().map(|&error| (error.as_label(), self.undecoded[error as usize]));
        FrameCounts {
            read: self.read,
            tcp: self.tcp,
            not_tcp: self.not_tcp,
            later_fragments: self.later_fragments,
            undecoded: undecoded.collect(),
        }
    }
}

fn interface(counters: &Arc<InterfaceCounters>) -> InterfaceView {
    let stats = counters.load();
    InterfaceView {
        name: stats.name,
        frames: stats.frames,
        bytes: stats.bytes,
        drops_kernel: stats.drops_kernel,
        drops_interface: stats.drops_interface,
        reopened: stats.reopened,
        up: stats.up,
    }
}

/// The ledger with its law kept. Between two threads' ticks one may have closed or answered what the other has not yet published
/// as opened; both sums only grow, so what is reported as opened never goes back.
pub(super) fn handshakes(ledger: &LedgerCounts) -> HandshakeCounts {
    let ended: u64 = ledger.closed.iter().sum();
    let attempts = ledger.attempts.max(ended);
    let open = attempts - ended;
    let syn_received = (ledger.open[1].max(0) as u64).min(open);
    HandshakeCounts {
        attempts,
        syn_retransmissions: ledger.syn_retransmissions,
        syn_ack_retransmissions: ledger.syn_ack_retransmissions,
        closed: ledger.closed,
        not_taken: ledger.not_taken,
        untracked: ledger.untracked,
        open_syn_sent: open - syn_received,
        open_syn_received: syn_received,
        mismatched: ledger.mismatched,
        simultaneous_opens: ledger.simultaneous_opens,
        old_duplicate_syns: ledger.oddities[Oddity::OldDuplicateSyn as usize],
        disowned_syns: ledger.oddities[Oddity::DisownedSyn as usize],
        challenge_acks: ledger.oddities[Oddity::ChallengeAck as usize],
        oddities_untold: 0,
        backscatter_syn_ack: ledger.unsolicited_syn_ack,
        backscatter_rst: ledger.unsolicited_rst,
    }
}

/// Whom a listing is asked for: read once, so that a million entries are compared as numbers.
enum Wanted {
    All,
    Server(Endpoint),
    Host(IpAddr),
    Configured(Vec<ServerConfig>),
}

impl Wanted {
    fn parse(name: Option<&str>, configured: &[ServerConfig]) -> Self {
        let Some(name) = name else { return Self::All };
        if let Ok(socket) = name.parse::<SocketAddr>() {
            return Self::Server(Endpoint::new(socket.ip(), socket.port()));
        }
        if let Ok(addr) = name.parse() {
            return Self::Host(addr);
        }
        Self::Configured(
            configured.iter().filter(|entry| entry.name.as_deref() == Some(name)).cloned().collect(),
        )
    }

    fn covers(&self, server: Endpoint) -> bool {
        match self {
            Self::All => true,
            Self::Server(wanted) => *wanted == server,
            Self::Host(addr) => *addr == server.addr,
            Self::Configured(entries) => entries.iter().any(|entry| entry.covers(server.addr, server.port)),
        }
    }
}

fn embryonic(age: Duration, flow: &Flow, attempt: &Attempt) -> EmbryonicView {
    EmbryonicView {
        originator: flow.orig.to_string(),
        responder: flow.resp.to_string(),
        state: attempt.state.as_label(),
        age_seconds: age.as_secs_f64(),
        syn_retransmissions: attempt.syn_copies,
        syn_ack_retransmissions: attempt.syn_ack_copies,
        weight: 1 << attempt.level,
    }
}

fn suspect(suspect: &Suspect) -> Discovery {
    let Suspect { flow, gone, since, last } = *suspect;
    let stale = if gone == flow.orig { flow.resp } else { flow.orig };
    Discovery {
        ts: last,
        case: HalfOpenCase::Suspected.as_label(),
        originator: flow.orig.to_string(),
        responder: flow.resp.to_string(),
        crashed: gone.to_string(),
        stale: stale.to_string(),
        duration: last.since(since),
    }
}
