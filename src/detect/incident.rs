//! Stage 4 of 5, detect: the types that leave it. An incident with its evidence, and the view of one server.
//!
//! No I/O, no clock, no decisions. Serialised as the contract has it.

use crate::decode::segment::Endpoint;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use std::time::Duration;

/// What an incident is (contract: `kind`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentKind {
    /// Many forged sources, nothing completes.
    SpoofedFlood,
    /// Few, real sources.
    DirectFlood,
    /// A prefix, with no single server over its threshold.
    CarpetFlood,
    /// The server stopped answering.
    Outage,
    /// One source, many ports.
    PortScan,
    /// One source, many hosts.
    HostScan,
    /// Our servers answer one forged victim.
    Reflection,
    /// Others answer forgeries of our addresses.
    Backscatter,
    /// SYN-ACKs again after the ACK: the accept queue is full.
    AcceptOverflow,
    /// Completions rise with the SYNs; never pages.
    FlashCrowd,
}

impl IncidentKind {
    /// Every kind, in the contract's order; series exist for all of them from the start.
    pub const ALL: [Self; 10] = [
        Self::SpoofedFlood,
        Self::DirectFlood,
        Self::CarpetFlood,
        Self::Outage,
        Self::PortScan,
        Self::HostScan,
        Self::Reflection,
        Self::Backscatter,
        Self::AcceptOverflow,
        Self::FlashCrowd,
    ];

    /// The label in metrics and JSON.
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::SpoofedFlood => "spoofed_flood",
            Self::DirectFlood => "direct_flood",
            Self::CarpetFlood => "carpet_flood",
            Self::Outage => "outage",
            Self::PortScan => "port_scan",
            Self::HostScan => "host_scan",
            Self::Reflection => "reflection",
            Self::Backscatter => "backscatter",
            Self::AcceptOverflow => "accept_overflow",
            Self::FlashCrowd => "flash_crowd",
        }
    }
}

/// What an incident is about (contract: `scope`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// One address and port.
    Server,
    /// One address.
    Host,
    /// One /24 or /48.
    Prefix,
    /// Everything the sensor sees.
    Sensor,
}

/// Who should hear of it, and how soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Never pages.
    Info,
    /// Look at it today.
    Warning,
    /// Look at it now.
    Critical,
}

/// How a server treats SYNs, as the wire shows it (contract: `server_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerMode {
    /// It queues them: SYN-ACKs are repeated.
    Queue,
    /// It sends cookies: SYN-ACKs stay unanswered and are never repeated.
    Cookie,
    /// It drops them while it lives.
    Drop,
    /// Its accept queue is full: SYN-ACKs come again after the ACK.
    AcceptOverflow,
    /// Too little seen to say.
    #[default]
    Unknown,
}

impl ServerMode {
    /// Every mode.
    pub const ALL: [Self; 5] = [Self::Queue, Self::Cookie, Self::Drop, Self::AcceptOverflow, Self::Unknown];

    /// The label in metrics and JSON.
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Cookie => "cookie",
            Self::Drop => "drop",
            Self::AcceptOverflow => "accept_overflow",
            Self::Unknown => "unknown",
        }
    }
}

/// One signal behind a verdict: its value, the threshold it is held against, and one plain sentence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evidence {
    /// The signal's name, for example `cusum`.
    pub signal: &'static str,
    /// Its value.
    pub value: f64,
    /// What it is compared with.
    pub threshold: f64,
    /// What that means, in one sentence.
    pub text: String,
}

/// One episode, from its estimated onset to its end (contract: incident).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Incident {
    /// The same in the journal, the API, metrics and logs.
    pub id: String,
    /// What it is.
    pub kind: IncidentKind,
    /// What it is about.
    pub scope: Scope,
    /// Name from the configuration, `address:port`, a prefix, a source for scans, or `sensor`.
    pub server: String,
    /// Who should hear of it.
    pub severity: Severity,
    /// When it began, estimated.
    #[serde(serialize_with = "seconds")]
    pub onset: Timestamp,
    /// When it was raised.
    #[serde(serialize_with = "seconds")]
    pub detected_at: Timestamp,
    /// When it ended; none while it runs.
    #[serde(serialize_with = "optional_seconds")]
    pub ended_at: Option<Timestamp>,
    /// Why it ended; none while it runs.
    pub end_reason: Option<&'static str>,
    /// How the server treats SYNs.
    pub server_mode: ServerMode,
    /// How sure that is, 0 to 1.
    pub server_mode_confidence: f64,
    /// Highest rate of attempts in a second.
    pub syn_rate_peak: f64,
    /// Attempts since the onset.
    pub attempts: u64,
    /// Completions since the onset.
    pub completed: u64,
    /// Most embryonic connections at once.
    pub embryonic_peak: u64,
    /// Highest estimated share of the server's SYN queue, 0 to 1; 0 of whatever never sent a SYN-ACK, and of hosts and prefixes.
    pub backlog_occupancy_peak: f64,
    /// No model of its queue stood behind that, or its size was assumed or learned.
    pub backlog_occupancy_estimated: bool,
    /// Distinct sources of unresolved attempts, estimated.
    pub distinct_sources: u64,
    /// Share of frames lost before us meanwhile, 0 to 1.
    pub capture_loss: f64,
    /// Why.
    pub evidence: Vec<Evidence>,
}

/// What is known of one server, with or without an incident.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct ServerView {
    /// Name from the configuration, or `address:port`, or `other` for what was folded.
    pub server: String,
    /// Its address and port; none for `other` and for configured prefixes.
    #[serde(skip)]
    pub endpoint: Option<Endpoint>,
    /// Whether the configuration names it.
    pub configured: bool,
    /// Attempts, exact (untracked SYNs included).
    pub attempts: u64,
    /// Completed attempts.
    pub completed: u64,
    /// Attempts that passed the grace age unresolved; an estimate where the table sampled.
    pub unresolved: u64,
    /// Embryonic, SYN-ACK not seen.
    pub embryonic_syn_sent: u64,
    /// Embryonic, SYN-ACK seen.
    pub embryonic_syn_received: u64,
    /// Entries the server's own SYN queue is reckoned to hold.
    pub backlog_occupancy: f64,
    /// There is no model of its queue: these are the embryonic connections with a SYN-ACK, of which the server may hold fewer.
    pub backlog_occupancy_estimated: bool,
    /// Entries that fit into it, so that the occupancy never exceeds it: one more than the configured backlog where the host is Linux,
    /// which takes another for as long as it does not hold more than the backlog (include/net/inet_connection_sock.h,
    /// `inet_csk_reqsk_queue_is_full`). None where neither configured nor learned.
    pub backlog_limit: Option<u64>,
    /// The size was learned from when the server sent cookies or dropped.
    pub backlog_limit_estimated: bool,
    /// Seconds until it is full at the present growth, 0 where it is; none where it does not fill within two minutes, or
    /// nobody knows its size.
    pub backlog_time_to_full_seconds: Option<f64>,
    /// How its host keeps entries, by its name in the configuration; none where neither configured nor to be told yet.
    pub profile: Option<String>,
    /// That was told by when its SYN-ACKs come again.
    pub profile_inferred: bool,
    /// Sources of unresolved attempts in the last minute, estimated.
    pub distinct_sources: u64,
    /// How it treats SYNs.
    pub mode: ServerMode,
    /// How sure that is, 0 to 1.
    pub mode_confidence: f64,
    /// Each signal with its threshold: why it was, or was not, flagged.
    pub evidence: Vec<Evidence>,
}

/// What the configuration of one server should say, with the figures behind it. Rates are those of peace, a second.
#[derive(Debug, Clone, PartialEq)]
pub struct Recommendation {
    /// The server.
    pub server: Endpoint,
    /// Its name, where the configuration has one.
    pub name: Option<String>,
    /// Its profile, likewise.
    pub profile: Option<String>,
    /// Size of its SYN queue, where known.
    pub backlog: Option<u64>,
    /// Attempts seen.
    pub attempts: u64,
    /// Of them completed.
    pub completed: u64,
    /// Usual attempts.
    pub attempt_rate: f64,
    /// Usual completions.
    pub completed_rate: f64,
    /// Usual attempts that stay unresolved.
    pub unresolved_rate: f64,
    /// Their variance over their mean; 1 where they are independent.
    pub dispersion: f64,
    /// Unresolved attempts that peace brings within ten seconds at most: the mean and four deviations.
    pub reach: f64,
    /// Most entries past the grace age.
    pub occupancy: f64,
    /// Its grace age.
    pub grace: Duration,
    /// Long enough seen for these figures to be its own.
    pub settled: bool,
    /// A floor, where the general one is not the right one.
    pub floor: Option<u64>,
    /// A critical rate, where the general one is not the right one.
    pub critical_rate: Option<f64>,
}

fn seconds<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(at.as_secs_f64())
}

fn optional_seconds<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => serializer.serialize_some(&at.as_secs_f64()),
        None => serializer.serialize_none(),
    }
}

/// What changed about an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It began.
    Raised,
    /// Its kind, severity or figures changed enough to say so.
    Updated,
    /// It is over.
    Ended,
}

/// One line of the journal: what changed, and the incident as it is now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JournalEntry {
    /// Network time of the change.
    #[serde(serialize_with = "seconds")]
    pub ts: Timestamp,
    /// What changed.
    pub event: Change,
    /// The incident.
    pub incident: Incident,
}

/// A half-open connection that came to light, or seems to (RFC 9293 section 3.5.1).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Discovery {
    /// Network time when it showed.
    #[serde(rename = "detected_at", serialize_with = "seconds")]
    pub ts: Timestamp,
    /// `reconnect`, `reset_on_data` or `suspected`.
    pub case: &'static str,
    /// `address:port` of who opened the connection.
    pub originator: String,
    /// `address:port` of whom to.
    pub responder: String,
    /// The end that lost the connection; where it is suspected, the silent one.
    pub crashed: String,
    /// The end that still held it.
    pub stale: String,
    /// `reconnect`: from the first SYN to its copy that got through; otherwise from the first segment that went unanswered.
    #[serde(rename = "duration_seconds", serialize_with = "duration_seconds")]
    pub duration: Duration,
}

/// An exchange that RFC 9293 and RFC 5961 describe and no handshake needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Exchange {
    /// Network time when it showed.
    #[serde(rename = "detected_at", serialize_with = "seconds")]
    pub ts: Timestamp,
    /// `simultaneous_open`, `old_duplicate_syn`, `disowned_syn` or `challenge_ack`.
    pub kind: &'static str,
    /// `address:port` of who sent the SYN it began with.
    pub originator: String,
    /// `address:port` of whom to.
    pub responder: String,
}

/// What showed on one connection.
#[derive(Debug, Clone, PartialEq)]
pub enum Sighting {
    /// It is half-open, or seems to be.
    HalfOpen(Discovery),
    /// An exchange with a name.
    Oddity(Exchange),
}

fn duration_seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}
