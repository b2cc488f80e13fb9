//! Stage 5 of 5, report: `replay --json`, schema 1 of the contract. Keys are never renamed.

use super::Replay;
use crate::detect::incident::Incident;
use crate::report::snapshot::Snapshot;
use serde::{Serialize, Serializer};

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    source: Source<'a>,
    frames: Frames<'a>,
    segments: Segments,
    handshakes: Handshakes,
    backscatter: Backscatter,
    half_open: HalfOpen,
    incidents: &'a [Incident],
    performance: Cost,
}

#[derive(Serialize)]
struct Source<'a> {
    files: &'a [String],
    link_types: &'a [String],
    first_timestamp: Option<f64>,
    last_timestamp: Option<f64>,
    duration_seconds: f64,
}

#[derive(Serialize)]
struct Frames<'a> {
    read: u64,
    tcp: u64,
    not_tcp: u64,
    #[serde(serialize_with = "object")]
    undecoded: &'a [(&'static str, u64)],
}

#[derive(Serialize)]
struct Segments {
    syn: u64,
    syn_ack: u64,
    ack: u64,
    fin: u64,
    rst: u64,
    odd: u64,
}

#[derive(Serialize)]
struct Handshakes {
    attempts: u64,
    syn_retransmissions: u64,
    syn_ack_retransmissions: u64,
    completed: u64,
    refused: u64,
    reset: u64,
    unanswered: u64,
    abandoned: u64,
    superseded: u64,
    evicted: u64,
    untracked: u64,
    open: Open,
}

#[derive(Serialize)]
struct Open {
    syn_sent: u64,
    syn_received: u64,
}

#[derive(Serialize)]
struct Backscatter {
    syn_ack: u64,
    rst: u64,
}

#[derive(Serialize)]
struct HalfOpen {
    discovered: Discovered,
    suspected: u64,
}

#[derive(Serialize)]
struct Discovered {
    reconnect: u64,
    reset_on_data: u64,
}

#[derive(Serialize)]
struct Cost {
    wall_seconds: f64,
    frames_per_second: f64,
    peak_rss_bytes: u64,
}

/// Pairs as one object, in their order.
fn object<S: Serializer>(pairs: &&[(&'static str, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().copied())
}

/// The document, indented, without a final newline.
///
/// # Errors
/// A value that JSON cannot hold; none of ours is.
pub fn document(snapshot: &Snapshot, replay: &Replay) -> Result<String, serde_json::Error> {
    let [syn, syn_ack, ack, fin, rst, odd] = snapshot.segments;
    let counts = &snapshot.handshakes;
    let [completed, refused, reset, unanswered, abandoned, superseded, evicted] = counts.closed;
    let performance = &replay.performance;
    serde_json::to_string_pretty(&Document {
        schema: 1,
        source: Source {
            files: &replay.files,
            link_types: &replay.link_types,
            first_timestamp: replay.first.map(|at| at.as_secs_f64()),
            last_timestamp: replay.last.map(|at| at.as_secs_f64()),
            duration_seconds: replay.duration().as_secs_f64(),
        },
        frames: Frames {
            read: snapshot.frames.read,
            tcp: snapshot.frames.tcp,
            not_tcp: snapshot.frames.not_tcp,
            undecoded: &snapshot.frames.undecoded,
        },
        segments: Segments { syn, syn_ack, ack, fin, rst, odd },
        handshakes: Handshakes {
            attempts: counts.attempts,
            syn_retransmissions: counts.syn_retransmissions,
            syn_ack_retransmissions: counts.syn_ack_retransmissions,
            completed,
            refused,
            reset,
            unanswered,
            abandoned,
            superseded,
            evicted,
            untracked: counts.untracked,
            open: Open { syn_sent: counts.open_syn_sent, syn_received: counts.open_syn_received },
        },
        backscatter: Backscatter { syn_ack: counts.backscatter_syn_ack, rst: counts.backscatter_rst },
        half_open: HalfOpen {
            discovered: Discovered {
                reconnect: snapshot.half_open.reconnect,
                reset_on_data: snapshot.half_open.reset_on_data,
            },
            suspected: snapshot.half_open.suspected,
        },
        incidents: &snapshot.incidents,
        performance: Cost {
            wall_seconds: performance.wall.as_secs_f64(),
            frames_per_second: performance.rate(snapshot.frames.read),
            peak_rss_bytes: performance.peak_rss,
        },
    })
}
