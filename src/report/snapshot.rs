//! Stage 5 of 5, report: what it reads. Plain numbers that the pipeline fills in; everything reported is made of them.
//!
//! No logic beyond sums.

pub use crate::histogram::{Histogram, LATENCY_BOUNDS};

use super::history::Sample;
use crate::detect::incident::{Discovery, Incident, ServerView};
use crate::time::Timestamp;
use serde::Serialize;

/// One interface or file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceView {
    /// Interface name or file path.
    pub name: String,
    /// Frames delivered.
    pub frames: u64,
    /// Bytes on the wire.
    pub bytes: u64,
    /// Lost in the kernel's buffer.
    pub drops_kernel: u64,
    /// Lost in the interface.
    pub drops_interface: u64,
    /// Times opened again after a failure.
    pub reopened: u64,
    /// Capturing now.
    pub up: bool,
}

/// Frames by what became of them: `read = tcp + not_tcp + sum(undecoded)`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FrameCounts {
    /// Frames read.
    pub read: u64,
    /// TCP segments.
    pub tcp: u64,
    /// Everything decoded that is not TCP.
    pub not_tcp: u64,
    /// Of these, fragments that are not the first of a TCP packet.
    pub later_fragments: u64,
    /// Not decoded, by reason; every reason is there.
    pub undecoded: Vec<(&'static str, u64)>,
}

/// The closing law's two sides: `attempts = sum(closed) + open`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HandshakeCounts {
    /// Attempts that entered the table.
    pub attempts: u64,
    /// SYNs seen again.
    pub syn_retransmissions: u64,
    /// SYN-ACKs seen again.
    pub syn_ack_retransmissions: u64,
    /// Ended, in the order of `track::event::Outcome::ALL`: completed, refused, reset, unanswered, abandoned, superseded, evicted.
    pub closed: [u64; 7],
    /// Completed, and the responder went on as if the ACK had not come.
    pub not_taken: u64,
    /// SYNs that the full table could only count.
    pub untracked: u64,
    /// Open now, SYN-ACK not seen.
    pub open_syn_sent: u64,
    /// Open now, SYN-ACK seen.
    pub open_syn_received: u64,
    /// ACKs and resets that fit no open attempt of their tuple and changed nothing.
    pub mismatched: u64,
    /// SYNs that crossed on one tuple.
    pub simultaneous_opens: u64,
    /// SYNs whose originator disowned another one before them (RFC 9293 figure 8).
    pub old_duplicate_syns: u64,
    /// SYNs whose answer their originator reset (RFC 9293 figure 11; scanners and forged sources look the same).
    pub disowned_syns: u64,
    /// Acknowledgements of an established connection that answered a SYN (RFC 5961 section 4).
    pub challenge_acks: u64,
    /// Of these four, counted and not told, so that nobody can fill the journal.
    pub oddities_untold: u64,
    /// SYN-ACKs nobody asked for.
    pub backscatter_syn_ack: u64,
    /// Refusals nobody asked for.
    pub backscatter_rst: u64,
}

/// How full the half-open table is and what it does about it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TableView {
    /// Most entries it may hold.
    pub limit: u64,
    /// Shortened timeouts are in force.
    pub emergency: bool,
    /// How often they came into force.
    pub emergencies: u64,
    /// Entries tracked as a sample (each stands for more than one attempt).
    pub sampled: u64,
    /// How far expiry lags behind network time, seconds.
    pub expiry_lag: f64,
    /// Bytes the table and its timers hold, reckoned from their sizes.
    pub bytes: u64,
}

/// RFC 9293 section 3.5.1 discoveries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HalfOpenCounts {
    /// A peer that crashed came back on the same tuple.
    pub reconnect: u64,
    /// A peer that crashed answered data with a reset.
    pub reset_on_data: u64,
    /// Suspected now.
    pub suspected: u64,
    /// Most that are counted as suspected at once.
    pub suspected_limit: u64,
    /// Suspected so far.
    pub suspicions: u64,
    /// Discoveries and suspicions that were counted and not told, so that nobody can fill the journal.
    pub untold: u64,
}

/// The connections followed after their handshake.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EstablishedView {
    /// Followed now.
    pub followed: u64,
    /// Most that can be.
    pub limit: u64,
    /// Those that made room for others.
    pub evicted: u64,
    /// Bytes they take, reckoned from their sizes; the same at any number.
    pub bytes: u64,
}

/// Half-open connections by name, bounded.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct HalfOpenListing {
    /// The latest discoveries and suspicions, oldest first.
    pub discovered: Vec<Discovery>,
    /// Those suspected now, longest first; `ts` is the last repetition.
    pub suspected: Vec<Discovery>,
}

/// Everything at one moment. Counters are exact; a scrape may see them a tick old: 50 ms of network time, and half a second for
/// what is counted by server.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Network time; none before the first packet.
    pub network_time: Option<Timestamp>,
    /// Times a stamp lay more than a minute behind network time.
    pub time_jumps: u64,
    /// Interfaces or files.
    pub interfaces: Vec<InterfaceView>,
    /// Frames.
    pub frames: FrameCounts,
    /// Segments by kind, in the order of `decode::segment::SegmentKind::ALL`: syn, syn_ack, ack, fin, rst, odd.
    pub segments: [u64; 6],
    /// Handshakes.
    pub handshakes: HandshakeCounts,
    /// SYN to SYN-ACK.
    pub syn_ack_latency: Histogram,
    /// SYN to ACK.
    pub handshake_duration: Histogram,
    /// The table.
    pub table: TableView,
    /// Half-open discoveries.
    pub half_open: HalfOpenCounts,
    /// The connections they are made of.
    pub established: EstablishedView,
    /// Configured servers first, then the busiest others, then `other`.
    pub servers: Vec<ServerView>,
    /// Incidents, running and ended, oldest first, bounded.
    pub incidents: Vec<Incident>,
    /// Incidents raised so far, in the order of `IncidentKind::ALL`.
    pub incidents_raised: [u64; 10],
    /// Events that the model of a server's queue did not hear of for want of room.
    pub backlog_notes_dropped: u64,
}

/// One embryonic connection, for the bounded listing of the API.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EmbryonicView {
    /// `address:port` of who sent the SYN.
    pub originator: String,
    /// `address:port` of the server.
    pub responder: String,
    /// `syn_sent` or `syn_received`.
    pub state: &'static str,
    /// Seconds since its SYN.
    pub age_seconds: f64,
    /// Copies of its SYN.
    pub syn_retransmissions: u8,
    /// Copies of its SYN-ACK.
    pub syn_ack_retransmissions: u8,
    /// How many attempts it stands for.
    pub weight: u32,
}

/// Where reports come from. Implemented by the pipeline; answers within milliseconds at any table size.
pub trait SnapshotSource: Send + Sync {
    /// Everything at this moment.
    fn snapshot(&self) -> Snapshot;

    /// At most `limit` embryonic connections, of one server (`address:port` or a configured name) or of all.
    fn embryonic(&self, server: Option<&str>, limit: usize) -> Vec<EmbryonicView>;

    /// What it was like before: samples, oldest first, of bounded number; none where none are kept.
    fn history(&self) -> Vec<Sample> {
        Vec::new()
    }

    /// Half-open connections by name, at most `limit` of those suspected now.
    fn half_open(&self, limit: usize) -> HalfOpenListing {
        let _ = limit;
        HalfOpenListing::default()
    }

    /// Whether there is such a file; asked once a second for each incident that is shown.
    fn has_pcap(&self, incident: &str) -> bool {
        let _ = incident;
        false
    }

    /// A capture file with a few frames of an incident; none where none are kept.
    fn pcap(&self, incident: &str) -> Option<Vec<u8>> {
        let _ = incident;
        None
    }
}
