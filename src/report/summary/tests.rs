//! The summary against the contract's schema and numbers written by hand.

use super::*;
use crate::report::snapshot::Snapshot;
use serde_json::{Value, json};

fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot { segments: [1, 2, 3, 4, 5, 6], ..Snapshot::default() };
    snapshot.frames.read = 30;
    snapshot.frames.tcp = 21;
    snapshot.frames.not_tcp = 8;
    snapshot.frames.undecoded = vec![("truncated_link", 1), ("bad_version", 0)];
    snapshot.handshakes.attempts = 31;
    snapshot.handshakes.closed = [1, 2, 3, 4, 5, 6, 7];
    snapshot.handshakes.open_syn_sent = 1;
    snapshot.handshakes.open_syn_received = 2;
    snapshot
}

fn replay() -> Replay {
    Replay {
        files: vec!["a\u{1b}.pcap".to_owned()],
        link_types: vec!["EN10MB".to_owned()],
        first: Some(Timestamp::from_parts(1_750_000_000, 1000)),
        last: Some(Timestamp::from_parts(1_750_000_059, 500_000_000)),
        performance: Performance { wall: Duration::from_millis(500), peak_rss: 1 << 20 },
    }
}

#[test]
fn the_document_has_the_contracts_keys() {
    let text = document(&snapshot(), &replay()).unwrap();
    let expected = json!({
        "schema": 1,
        "source": { "files": ["a\u{1b}.pcap"], "link_types": ["EN10MB"], "first_timestamp": 1_750_000_000.000001,
                    "last_timestamp": 1_750_000_059.5, "duration_seconds": 59.499999 },
        "frames": { "read": 30, "tcp": 21, "not_tcp": 8, "undecoded": { "truncated_link": 1, "bad_version": 0 } },
        "segments": { "syn": 1, "syn_ack": 2, "ack": 3, "fin": 4, "rst": 5, "odd": 6 },
        "handshakes": { "attempts": 31, "syn_retransmissions": 0, "syn_ack_retransmissions": 0,
                        "completed": 1, "refused": 2, "reset": 3, "unanswered": 4, "abandoned": 5,
                        "superseded": 6, "evicted": 7, "untracked": 0,
                        "open": { "syn_sent": 1, "syn_received": 2 } },
        "backscatter": { "syn_ack": 0, "rst": 0 },
        "half_open": { "discovered": { "reconnect": 0, "reset_on_data": 0 }, "suspected": 0 },
        "incidents": [],
        "performance": { "wall_seconds": 0.5, "frames_per_second": 60.0, "peak_rss_bytes": 1_048_576 },
    });
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
    let order: Vec<_> = [
        "schema",
        "source",
        "frames",
        "segments",
        "handshakes",
        "backscatter",
        "half_open",
        "incidents",
        "performance",
    ]
    .map(|key| text.find(&format!("\n  \"{key}\"")).unwrap_or_else(|| panic!("no {key}")))
    .into();
    assert!(order.is_sorted(), "keys in the contract's order");
}

#[test]
fn an_empty_replay_has_null_times() {
    let value: Value =
        serde_json::from_str(&document(&Snapshot::default(), &Replay::default()).unwrap()).unwrap();
    assert_eq!(value["source"]["first_timestamp"], Value::Null);
    assert_eq!(value["performance"]["frames_per_second"], 0.0);
}

#[test]
fn the_table_states_the_closing_law_and_hides_controls() {
    let text = table(&snapshot(), &replay());
    assert!(text.contains(
        "31 attempts = 1 completed + 2 refused + 3 reset + 4 unanswered + 5 abandoned + 6 superseded + 7 evicted\n"
    ));
    assert!(text.contains("+ 1 open in syn_sent + 2 open in syn_received\n"));
    assert!(text.contains("30 read = 21 TCP + 8 not TCP + 1 undecoded\n"));
    assert!(text.contains("undecoded: 1 truncated_link\n"), "reasons at zero are left out");
    assert!(text.contains("2025-06-15 15:06:40.000001 to 2025-06-15 15:07:39.500000 UTC, 59.5 s\n"));
    assert!(!text.contains('\u{1b}'));
    assert!(text.lines().all(|line| line.chars().count() <= 120 && !line.ends_with(' ')), "{text}");
}

#[test]
fn memory_is_what_the_kernel_says() {
    assert!(peak_rss() > 1 << 20);
}

#[test]
fn latency_is_told_as_exactly_as_it_is_known() {
    let mut snapshot = snapshot();
    // 90 within 100 us, 9 within 10 ms, one beyond every bound.
    snapshot.syn_ack_latency.buckets[0] = 90;
    snapshot.syn_ack_latency.buckets[6] = 9;
    snapshot.handshake_duration.buckets[17] = 1;
    let text = table(&snapshot, &replay());
    assert!(
        text.contains("SYN to SYN-ACK  p50 <= 100 \u{b5}s  p90 <= 100 \u{b5}s  p99 <= 10 ms   of 99\n"),
        "{text}"
    );
    assert!(text.contains("SYN to ACK      p50 > 63 s     p90 > 63 s     p99 > 63 s     of 1\n"), "{text}");
}
