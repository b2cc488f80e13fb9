//! Real captures, held against counts that an independent tracker made of them.
//!
//! The captures lie beside the project, in ../shared/corpus; where that folder is not, the test says so and passes. Every
//! exception is listed below by file, with its reason; a file that agrees although it is listed fails too.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::wildcard_enum_match_arm,
    reason = "a test that fails should say so at once, and one that is skipped too"
)]

use halfopen::capture::replay::ReplaySource;
use halfopen::config::Config;
use halfopen::pipeline::Sensor;
use halfopen::report::snapshot::{Snapshot, SnapshotSource};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Where and why we differ: file, figure, our value less the truth's.
const EXCEPTIONS: &[(&str, &str, i64, &str)] = &[
    ("activeosfingerprinting.pcapng", "syn", -4, ODD),
    ("tests+cfgs+default+pcap+ip_fragmented_garbage.pcap", "syn", -2, ODD),
    ("tests+cfgs+default+pcap+ip_fragmented_garbage.pcap", "synack", -1, ODD),
    ("tests+cfgs+default+pcap+ip_fragmented_garbage.pcap", "rst", -1, ODD),
    ("tcp_eight_lowest_weight_flags_set.pcap", "synack", -1, ODD),
    ("tcp_eight_lowest_weight_flags_set.pcap", "rst", -1, ODD),
    ("gnutella.pcap", "refused", -5, LATE),
    ("gnutella.pcap", "never acknowledged", 5, LATE),
    ("alexa-app.pcapng", "reset", -2, LATE),
    ("alexa-app.pcapng", "never answered", 2, LATE),
    ("tcp_handshake_synthetic.pcap", "completed", -6, FORGED),
    ("tcp_handshake_synthetic.pcap", "never acknowledged", 3, FORGED),
    (
        "tcp_handshake_synthetic.pcap",
        "never answered",
        2,
        "port 40012's SYN-ACK comes before its SYN, and from a server whose SYN-ACKs are seen an ACK alone proves nothing; and one of the two superseded attempts had been answered, so this figure takes one too many off the truth",
    ),
    (
        "tcp_handshake_synthetic.pcap",
        "reset",
        1,
        "after an ACK that acknowledges nothing the client resets at ISN + 1; the truth has it completed before",
    ),
    (
        "tfo-5c1fa7f9ae91.pcap",
        "completed",
        -1,
        "a FIN acknowledging 0 without a SYN-ACK seen, from a server whose SYN-ACKs are seen, proves nothing",
    ),
    ("tfo-5c1fa7f9ae91.pcap", "never answered", 1, "as above"),
    ("cisco-fabric-path.pcap", "syn", 16, BEHIND),
    ("cisco-fabric-path.pcap", "tcp", 16, BEHIND),
    ("pbb.pcap", "tcp", 8, BEHIND),
    ("pbb.pcap", "syn", 1, BEHIND),
    ("pbb.pcap", "synack", 1, BEHIND),
    ("pbb.pcap", "attempts", 1, BEHIND),
    ("pbb.pcap", "completed", 1, BEHIND),
    (
        "fuzz-2006-09-29-28586.pcap",
        "completed",
        1,
        "damage set SYN in the middle of a connection; the data after it continues at that ISN + 1, which the truth does not accept",
    ),
    ("fuzz-2006-09-29-28586.pcap", "never answered", -1, "as above"),
    ("ip-discarder-truncated-tcp-oob.pcapng", "tcp", -1, CUT),
    ("tcp_header_heapoverflow.pcap", "tcp", -1, CUT),
    ("pcapng-example.pcapng", "completed", -1, STAMPS),
    ("pcapng-example.pcapng", "never answered", 1, STAMPS),
    ("timestamp_invalid_micro.pcap", "completed", -1, STAMPS),
    ("timestamp_invalid_micro.pcap", "never acknowledged", 1, STAMPS),
];

const ODD: &str = "the truth counts SYN with FIN or RST under these flags; the contract calls them odd";
const LATE: &str =
    "the truth times nothing out; the resets came more than 63 s after the SYN, when the attempt had expired";
const FORGED: &str = "the file's ACKs carry numbers that acknowledge nothing (999999, 123456789, 517000); RFC 9293 section 3.10.7.4 answers such an ACK with a reset, and so would a forger be counted as a client";
const STAMPS: &str =
    "the file's stamps leap further than an attempt lives between SYN and ACK; the truth times nothing out";
const BEHIND: &str = "the truth does not look behind this header; tshark and Zeek do";
const CUT: &str = "cut before the flags, so it is undecoded rather than a segment";

/// Half-open connections in these captures: file, `[reconnect, reset_on_data, suspicions]`, and what happens there.
const HALF_OPEN: &[(&str, [u64; 3], &str)] = &[(
    "MSDP+10-0.0-1491834305.pcap",
    [0, 0, 1],
    "a path is down for 36 s: a router repeats a keepalive of 3 bytes after 0.8, 3.5 and 7.1 s and hears nothing; then it resets, and what the other one sends later meets that reset, which is no discovery",
)];

fn corpus() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    if folder.join("truth.json").exists() {
        return Some(folder);
    }
    eprintln!("SKIPPED: no captures at {}", folder.display());
    None
}

fn replay(path: &Path) -> (Snapshot, Option<String>) {
    let sensor = Sensor::repeatable(&Config::default(), Box::new(|_| {}));
    let source = match ReplaySource::open(&[path.to_owned()], None) {
        Ok(source) => source,
        Err(error) => return (Snapshot::default(), Some(error.to_string())),
    };
    let error = sensor.run_source(source).err();
    (sensor.snapshot(), error.map(|error| error.to_string()))
}

/// Our figures in the truth's words (the corpus README's table).
fn ours(snapshot: &Snapshot) -> BTreeMap<&'static str, i64> {
    let handshakes = &snapshot.handshakes;
    let [completed, refused, reset, unanswered, abandoned, superseded, evicted] = handshakes.closed;
    let [syn, syn_ack, _, _, rst, _] = snapshot.segments;
    let open = handshakes.open_syn_sent + handshakes.open_syn_received;
    let ended: u64 = handshakes.closed.iter().sum();
    assert_eq!(handshakes.attempts, ended + open, "the closing law");
    let undecoded: u64 = snapshot.frames.undecoded.iter().map(|(_, count)| count).sum();
    assert_eq!(snapshot.frames.read, snapshot.frames.tcp + snapshot.frames.not_tcp + undecoded);
    assert_eq!(snapshot.segments.iter().sum::<u64>(), snapshot.frames.tcp);
    assert_eq!((evicted, handshakes.untracked), (0, 0));
    BTreeMap::from([
        ("packets", snapshot.frames.read as i64),
        ("tcp", snapshot.frames.tcp as i64),
        ("syn", syn as i64),
        ("synack", syn_ack as i64),
        ("rst", rst as i64),
        ("attempts", handshakes.attempts as i64),
        ("completed", completed as i64),
        ("refused", refused as i64),
        ("reset", reset as i64),
        ("never answered", (unanswered + handshakes.open_syn_sent) as i64),
        ("never acknowledged", (abandoned + handshakes.open_syn_received) as i64),
        ("superseded", superseded as i64),
    ])
}

fn truth(entry: &serde_json::Value) -> BTreeMap<&'static str, i64> {
    let truth = &entry["truth"];
    let flat = &truth["handshakes"];
    let handshakes = truth.get("handshakes_with_tunnel_decap").unwrap_or(flat);
    let count = |name: &str| handshakes[name].as_i64().unwrap_or(0);
    // The truth counts an attempt that another ISN replaced by how far it came; ours says superseded.
    let superseded = count("replaced_while_half_open");
    BTreeMap::from([
        ("packets", truth["packets"].as_i64().unwrap()),
        ("tcp", truth["tcp"].as_i64().unwrap()),
        ("syn", truth["syn"].as_i64().unwrap()),
        ("synack", truth["synack"].as_i64().unwrap()),
        ("rst", truth["rst"].as_i64().unwrap()),
        ("attempts", count("attempts")),
        (
            "completed",
            count("completed")
                + count("completed_inferred_from_later_segment")
                + count("client_acked_but_no_synack_seen"),
        ),
        ("refused", count("refused_by_rst") + count("reset_by_server_after_synack")),
        ("reset", count("aborted_by_client_before_answer") + count("reset_by_client_after_synack")),
        ("never answered", count("never_answered") - superseded),
        ("never acknowledged", count("answered_never_acked")),
        ("superseded", superseded),
    ])
}

#[test]
fn every_capture_is_counted_as_the_truth_has_it() {
    let Some(folder) = corpus() else { return };
    let text = std::fs::read_to_string(folder.join("truth.json")).unwrap();
    let entries: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let mut failures = String::new();
    let mut excused = Vec::new();
    for entry in &entries {
        let file = entry["file"].as_str().unwrap();
        let (snapshot, error) = replay(&folder.join(file));
        let (ours, truth) = (ours(&snapshot), truth(entry));
        let mut line = String::new();
        let half_open =
            [snapshot.half_open.reconnect, snapshot.half_open.reset_on_data, snapshot.half_open.suspicions];
        let known = HALF_OPEN.iter().find(|(path, ..)| file.ends_with(path));
        if half_open != known.map_or([0; 3], |(_, expected, _)| *expected) {
            write!(line, " half-open {half_open:?};").unwrap();
        }
        for (name, expected) in truth {
            let difference = ours[name] - expected;
            let exception =
                EXCEPTIONS.iter().find(|(path, figure, ..)| file.ends_with(path) && *figure == name);
            match exception {
                Some((.., excepted, _)) if *excepted == difference => excused.push((file, name)),
                _ if difference != 0 => write!(line, " {name} {} for {expected};", ours[name]).unwrap(),
                _ => {}
            }
        }
        if !line.is_empty() {
            let error = error.map(|error| format!(" [{error}]")).unwrap_or_default();
            writeln!(failures, "{file}:{line}{error}").unwrap();
        }
    }
    for (path, figure, ..) in EXCEPTIONS {
        if !excused.iter().any(|(file, name)| file.ends_with(path) && name == figure) {
            writeln!(failures, "{path}: {figure} is listed as an exception and is none").unwrap();
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}
