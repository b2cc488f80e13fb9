//! Stage 5 of 5, report: the Prometheus exposition, built from a snapshot when it is asked for.
//!
//! Nothing is kept between scrapes but what keeps `server="other"` a counter. No source address is ever a label.

mod family;
mod fold;
pub mod names;
mod trust;

use super::evidence::EvidenceCounts;
use super::http::ConnectionCounters;
use super::journal::JournalCounts;
use super::snapshot::{InterfaceView, Snapshot};
use super::state::StateCounts;
use crate::detect::incident::{Evidence, Incident, IncidentKind, Scope, ServerMode, ServerView, Severity};
use family::Family;
use fold::{Fold, Folded, OTHER};
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{TextEncoder, proto};
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use trust::Trust;

/// What the exposition is, for the `Content-Type` header.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `HandshakeCounts::closed`, in its order.
pub const OUTCOMES: [&str; 7] =
    ["completed", "refused", "reset", "unanswered", "abandoned", "superseded", "evicted"];

/// `Snapshot::segments`, in its order.
pub const SEGMENT_KINDS: [&str; 6] = ["syn", "syn_ack", "ack", "fin", "rst", "odd"];

/// The signal among a server's evidence that decides.
const STATISTIC: &str = "cusum";

/// Turns snapshots into expositions.
pub struct Metrics {
    top_servers: AtomicUsize,
    fold: Mutex<Fold>,
    process: ProcessCollector,
    connections: Arc<ConnectionCounters>,
    journal: Arc<JournalCounts>,
    evidence: Arc<EvidenceCounts>,
    trust: Trust,
}

impl Metrics {
    /// At most `top_servers` servers that are not configured get series of their own.
    pub fn new(top_servers: usize) -> Self {
        Self {
            top_servers: AtomicUsize::new(top_servers),
            fold: Mutex::default(),
            process: ProcessCollector::for_self(),
            connections: Arc::default(),
            journal: Arc::default(),
            evidence: Arc::default(),
            trust: Trust::default(),
        }
    }

    /// What the HTTP side counts, for it to count into.
    pub fn connections(&self) -> Arc<ConnectionCounters> {
        Arc::clone(&self.connections)
    }

    /// Shows what becomes of the journal as well; without one its series stay at zero.
    #[must_use]
    pub fn with_journal(self, journal: Arc<JournalCounts>) -> Self {
        Self { journal, ..self }
    }

    /// Shows what becomes of the evidence as well; without any its series stay at zero.
    #[must_use]
    pub fn with_evidence(self, evidence: Arc<EvidenceCounts>) -> Self {
        Self { evidence, ..self }
    }

    /// Shows which layers of confinement hold, each by its label.
    #[must_use]
    pub fn with_confinement(self, layers: Vec<(&'static str, bool)>) -> Self {
        Self { trust: Trust { layers, ..self.trust }, ..self }
    }

    /// Shows what becomes of the state file as well; without one its series stay at zero.
    #[must_use]
    pub fn with_state(self, state: Arc<StateCounts>) -> Self {
        Self { trust: Trust { state, ..self.trust }, ..self }
    }

    /// Shows how often a failed capture was started again.
    #[must_use]
    pub fn with_restarts(self, restarts: Arc<AtomicU64>) -> Self {
        Self { trust: Trust { restarts, ..self.trust }, ..self }
    }

    /// Shows the ceiling for memory, and what the caps add up to.
    #[must_use]
    pub fn with_memory(self, limit: u64, reckoned: u64) -> Self {
        Self { trust: Trust { memory: [limit, reckoned], ..self.trust }, ..self }
    }

    fn records(&self, families: &mut Families) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        one(families, names::JOURNAL_WRITTEN, load(&self.journal.written));
        one(families, names::JOURNAL_ERRORS, load(&self.journal.errors));
        one(families, names::JOURNAL_DROPPED, load(&self.journal.dropped));
        one(families, names::EVIDENCE_FRAMES, load(&self.evidence.frames));
        let mut left_out = Family::new(families, names::EVIDENCE_LEFT_OUT, &["reason"]);
        let EvidenceCounts { full, link_type, burst, .. } = &*self.evidence;
        for (reason, count) in [("full", full), ("link_type", link_type), ("burst", burst)] {
            left_out.sample(&[reason], load(count) as f64);
        }
        drop(left_out);
        one(families, names::EVIDENCE_ERRORS, load(&self.evidence.errors));
        one(families, names::EVIDENCE_BYTES, load(&self.evidence.bytes));
    }

    /// Changes the bound from the next scrape on.
    pub fn limit_servers(&self, top_servers: usize) {
        self.top_servers.store(top_servers, Ordering::Relaxed);
    }

    /// The exposition in text format 0.0.4. Takes milliseconds at any load; locks the fold for a part of one.
    pub fn render(&self, snapshot: &Snapshot) -> String {
        let top = self.top_servers.load(Ordering::Relaxed);
        let folded = {
            let mut fold = self.fold.lock().unwrap_or_else(PoisonError::into_inner);
            fold.fold(&snapshot.servers, top)
        };
        let mut families = Vec::with_capacity(names::ALL.len());
        capture(&mut families, &snapshot.interfaces);
        frames(&mut families, snapshot);
        handshakes(&mut families, snapshot);
        table(&mut families, snapshot);
        servers(&mut families, &folded);
        incidents(&mut families, snapshot, &folded.shown, top);
        self.records(&mut families);
        sensor(&mut families, snapshot);
        self.trust.collect(&mut families);
        one(&mut families, names::HTTP_REFUSED, self.connections.refused.load(Ordering::Relaxed));
        one(&mut families, names::HTTP_EVICTED, self.connections.evicted.load(Ordering::Relaxed));
        families.extend(self.process.collect());
        let mut text = String::with_capacity(64 << 10);
        // Only a family without samples can fail, and `Family` leaves those out.
        if let Err(error) = TextEncoder::new().encode_utf8(&families, &mut text) {
            tracing::error!(msg = "exposition incomplete", %error);
        }
        text
    }
}

type Families = Vec<proto::MetricFamily>;

fn one(families: &mut Families, desc: names::Desc, number: u64) {
    Family::new(families, desc, &[]).sample(&[], number as f64);
}

fn capture(families: &mut Families, interfaces: &[InterfaceView]) {
    // The same file may be replayed twice; a series may not be there twice.
    let mut merged: BTreeMap<&str, InterfaceView> = BTreeMap::new();
    for view in interfaces {
        let sum = merged
            .entry(&view.name)
            .or_insert_with(|| InterfaceView { up: true, ..InterfaceView::default() });
        sum.frames = sum.frames.saturating_add(view.frames);
        sum.bytes = sum.bytes.saturating_add(view.bytes);
        sum.drops_kernel = sum.drops_kernel.saturating_add(view.drops_kernel);
        sum.drops_interface = sum.drops_interface.saturating_add(view.drops_interface);
        sum.reopened = sum.reopened.saturating_add(view.reopened);
        sum.up &= view.up;
    }
    let mut each = |desc: names::Desc, number: fn(&InterfaceView) -> u64| {
        let mut family = Family::new(families, desc, &["interface"]);
        for (name, view) in &merged {
            family.sample(&[name], number(view) as f64);
        }
    };
    each(names::CAPTURE_FRAMES, |view| view.frames);
    each(names::CAPTURE_BYTES, |view| view.bytes);
    each(names::CAPTURE_REOPENED, |view| view.reopened);
    each(names::CAPTURE_UP, |view| u64::from(view.up));
    let mut drops = Family::new(families, names::CAPTURE_DROPS, &["interface", "by"]);
    for (name, view) in &merged {
        drops.sample(&[name, "kernel"], view.drops_kernel as f64);
        drops.sample(&[name, "interface"], view.drops_interface as f64);
    }
}

fn frames(families: &mut Families, snapshot: &Snapshot) {
    let frames = &snapshot.frames;
    let undecoded: u64 = frames.undecoded.iter().map(|(_, count)| count).sum();
    let mut results = Family::new(families, names::FRAMES, &["result"]);
    for (result, count) in [("tcp", frames.tcp), ("not_tcp", frames.not_tcp), ("undecoded", undecoded)] {
        results.sample(&[result], count as f64);
    }
    drop(results);
    let mut errors = Family::new(families, names::DECODE_ERRORS, &["reason"]);
    for (reason, count) in &frames.undecoded {
        errors.sample(&[reason], *count as f64);
    }
    drop(errors);
    one(families, names::LATER_FRAGMENTS, frames.later_fragments);
    let mut segments = Family::new(families, names::SEGMENTS, &["kind"]);
    for (kind, count) in SEGMENT_KINDS.iter().zip(snapshot.segments) {
        segments.sample(&[kind], count as f64);
    }
}

fn handshakes(families: &mut Families, snapshot: &Snapshot) {
    let counts = &snapshot.handshakes;
    one(families, names::HANDSHAKES_OPENED, counts.attempts);
    let mut closed = Family::new(families, names::HANDSHAKES_CLOSED, &["outcome"]);
    for (outcome, count) in OUTCOMES.iter().zip(counts.closed) {
        closed.sample(&[outcome], count as f64);
    }
    drop(closed);
    one(families, names::HANDSHAKES_NOT_TAKEN, counts.not_taken);
    one(families, names::HANDSHAKES_UNTRACKED, counts.untracked);
    one(families, names::SYN_RETRANSMISSIONS, counts.syn_retransmissions);
    one(families, names::SYN_ACK_RETRANSMISSIONS, counts.syn_ack_retransmissions);
    one(families, names::MISMATCHED_SEGMENTS, counts.mismatched);
    one(families, names::SIMULTANEOUS_OPENS, counts.simultaneous_opens);
    let mut oddities = Family::new(families, names::ODDITIES, &["kind"]);
    for (kind, count) in [
        ("simultaneous_open", counts.simultaneous_opens),
        ("old_duplicate_syn", counts.old_duplicate_syns),
        ("disowned_syn", counts.disowned_syns),
        ("challenge_ack", counts.challenge_acks),
    ] {
        oddities.sample(&[kind], count as f64);
    }
    drop(oddities);
    one(families, names::ODDITIES_UNTOLD, counts.oddities_untold);
    let mut open = Family::new(families, names::EMBRYONIC, &["state"]);
    open.sample(&["syn_sent"], counts.open_syn_sent as f64);
    open.sample(&["syn_received"], counts.open_syn_received as f64);
    drop(open);
    one(families, names::EMBRYONIC_LIMIT, snapshot.table.limit);
    Family::new(families, names::SYN_ACK_LATENCY, &[]).histogram(&snapshot.syn_ack_latency);
    Family::new(families, names::HANDSHAKE_DURATION, &[]).histogram(&snapshot.handshake_duration);
    let mut backscatter = Family::new(families, names::BACKSCATTER, &["kind"]);
    backscatter.sample(&["syn_ack"], counts.backscatter_syn_ack as f64);
    backscatter.sample(&["rst"], counts.backscatter_rst as f64);
}

fn table(families: &mut Families, snapshot: &Snapshot) {
    let table = &snapshot.table;
    one(families, names::TABLE_EMERGENCY, u64::from(table.emergency));
    one(families, names::TABLE_EMERGENCIES, table.emergencies);
    one(families, names::TABLE_SAMPLED, table.sampled);
    one(families, names::TABLE_BYTES, table.bytes);
    Family::new(families, names::TABLE_EXPIRY_LAG, &[]).sample(&[], table.expiry_lag);
}

fn servers(families: &mut Families, folded: &Folded) {
    let Folded { shown, other } = folded;
    let all = || shown.iter().chain(std::iter::once(other));
    let mut each = |desc: names::Desc, number: fn(&ServerView) -> f64| {
        let mut family = Family::new(families, desc, &["server"]);
        for view in all() {
            family.sample(&[&view.server], number(view));
        }
    };
    each(names::SERVER_ATTEMPTS, |view| view.attempts as f64);
    each(names::SERVER_COMPLETED, |view| view.completed as f64);
    each(names::SERVER_UNRESOLVED, |view| view.unresolved as f64);
    each(names::SERVER_DISTINCT_SOURCES, |view| view.distinct_sources as f64);
    each(names::SERVER_BACKLOG_OCCUPANCY, |view| view.backlog_occupancy);
    let mut embryonic = Family::new(families, names::SERVER_EMBRYONIC, &["server", "state"]);
    for view in all() {
        embryonic.sample(&[&view.server, "syn_sent"], view.embryonic_syn_sent as f64);
        embryonic.sample(&[&view.server, "syn_received"], view.embryonic_syn_received as f64);
    }
    drop(embryonic);
    // Neither a size nor a mode can be summed: `other` has none.
    let mut limits = Family::new(families, names::SERVER_BACKLOG_LIMIT, &["server"]);
    for (view, limit) in shown.iter().filter_map(|view| Some((view, view.backlog_limit?))) {
        limits.sample(&[&view.server], limit as f64);
    }
    drop(limits);
    let mut full = Family::new(families, names::SERVER_BACKLOG_TIME_TO_FULL, &["server"]);
    for (view, seconds) in shown.iter().filter_map(|view| Some((view, view.backlog_time_to_full_seconds?))) {
        full.sample(&[&view.server], seconds);
    }
    drop(full);
    for (desc, number) in [
        (names::SERVER_STATISTIC, (|signal| signal.value) as fn(&Evidence) -> f64),
        (names::SERVER_STATISTIC_THRESHOLD, |signal| signal.threshold),
    ] {
        let mut family = Family::new(families, desc, &["server"]);
        for view in shown {
            if let Some(signal) = view.evidence.iter().find(|signal| signal.signal == STATISTIC) {
                family.sample(&[&view.server], number(signal));
            }
        }
    }
    let mut modes = Family::new(families, names::SERVER_MODE, &["server", "mode"]);
    for view in shown {
        for mode in ServerMode::ALL {
            modes.sample(&[&view.server, mode.as_label()], f64::from(u8::from(view.mode == mode)));
        }
    }
}

fn incidents(families: &mut Families, snapshot: &Snapshot, shown: &[ServerView], top: usize) {
    let running = || snapshot.incidents.iter().filter(|incident| incident.ended_at.is_none());
    one(families, names::BACKLOG_NOTES_DROPPED, snapshot.backlog_notes_dropped);
    let mut raised = Family::new(families, names::INCIDENTS, &["kind"]);
    for (kind, count) in IncidentKind::ALL.iter().zip(snapshot.incidents_raised) {
        raised.sample(&[kind.as_label()], count as f64);
    }
    drop(raised);
    let mut active = Family::new(families, names::INCIDENTS_ACTIVE, &["kind"]);
    for kind in IncidentKind::ALL {
        active.sample(&[kind.as_label()], running().filter(|incident| incident.kind == kind).count() as f64);
    }
    drop(active);

    let mut labels: BTreeMap<(&str, IncidentKind), (u64, u8)> = BTreeMap::new();
    let known: HashSet<&str> = shown.iter().map(|view| view.server.as_str()).collect();
    for view in shown.iter().filter(|view| view.configured) {
        labels.extend(IncidentKind::ALL.map(|kind| ((view.server.as_str(), kind), (0, 0))));
    }
    let mut strangers: HashSet<&str> = HashSet::new();
    for incident in running() {
        let mut label = about(incident);
        if !known.contains(label) && label != OTHER && !strangers.contains(label) {
            if strangers.len() < top.max(1) {
                strangers.insert(label);
            } else {
                label = OTHER;
            }
        }
        let (count, gravest) = labels.entry((label, incident.kind)).or_default();
        *count += 1;
        *gravest = (*gravest).max(rank(incident.severity));
    }
    let mut active = Family::new(families, names::INCIDENT_ACTIVE, &["server", "kind"]);
    for ((server, kind), (count, _)) in &labels {
        active.sample(&[server, kind.as_label()], *count as f64);
    }
    drop(active);
    let mut severity = Family::new(families, names::INCIDENT_SEVERITY, &["server", "kind"]);
    for ((server, kind), (_, gravest)) in &labels {
        severity.sample(&[server, kind.as_label()], f64::from(*gravest));
    }
}

/// A severity as a number that rules can compare; 0 is left for none.
const fn rank(severity: Severity) -> u8 {
    match severity {
        Severity::Info => 1,
        Severity::Warning => 2,
        Severity::Critical => 3,
    }
}

/// The label of what an incident is about. A scan is named after its source and a reflection after a victim elsewhere: neither
/// is a label.
fn about(incident: &Incident) -> &str {
    let foreign = matches!(
        incident.kind,
        IncidentKind::PortScan
            | IncidentKind::HostScan
            | IncidentKind::Reflection
            | IncidentKind::Backscatter
    );
    match incident.scope {
        Scope::Sensor => "sensor",
        Scope::Server | Scope::Prefix if !foreign => &incident.server,
        Scope::Server | Scope::Prefix | Scope::Host => OTHER,
    }
}

fn sensor(families: &mut Families, snapshot: &Snapshot) {
    let mut discovered = Family::new(families, names::HALF_OPEN_DISCOVERED, &["case"]);
    discovered.sample(&["reconnect"], snapshot.half_open.reconnect as f64);
    discovered.sample(&["reset_on_data"], snapshot.half_open.reset_on_data as f64);
    drop(discovered);
    one(families, names::HALF_OPEN_SUSPECTED, snapshot.half_open.suspected);
    one(families, names::HALF_OPEN_SUSPECTED_LIMIT, snapshot.half_open.suspected_limit);
    one(families, names::HALF_OPEN_SUSPICIONS, snapshot.half_open.suspicions);
    one(families, names::HALF_OPEN_UNTOLD, snapshot.half_open.untold);
    one(families, names::ESTABLISHED, snapshot.established.followed);
    one(families, names::ESTABLISHED_LIMIT, snapshot.established.limit);
    one(families, names::ESTABLISHED_EVICTED, snapshot.established.evicted);
    one(families, names::ESTABLISHED_BYTES, snapshot.established.bytes);
    let now = snapshot.network_time.map_or(0.0, |time| time.as_secs_f64());
    Family::new(families, names::NETWORK_TIMESTAMP, &[]).sample(&[], now);
    one(families, names::TIME_JUMPS, snapshot.time_jumps);
    let mut build = Family::new(families, names::BUILD_INFO, &["version", "os", "arch"]);
    build.sample(&[env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH], 1.0);
}

#[cfg(test)]
mod tests;
