//! The exposition against the contract and against Prometheus.

use super::*;

/// The families of the contract's table, with their types, copied by hand.
const CONTRACT: [(&str, &str); 33] = [
    ("halfopen_capture_frames_total", "counter"),
    ("halfopen_capture_bytes_total", "counter"),
    ("halfopen_capture_drops_total", "counter"),
    ("halfopen_decode_errors_total", "counter"),
    ("halfopen_segments_total", "counter"),
    ("halfopen_handshakes_opened_total", "counter"),
    ("halfopen_handshakes_closed_total", "counter"),
    ("halfopen_handshakes_untracked_total", "counter"),
    ("halfopen_syn_retransmissions_total", "counter"),
    ("halfopen_syn_ack_retransmissions_total", "counter"),
    ("halfopen_embryonic_connections", "gauge"),
    ("halfopen_embryonic_connections_limit", "gauge"),
    ("halfopen_syn_ack_latency_seconds", "histogram"),
    ("halfopen_handshake_duration_seconds", "histogram"),
    ("halfopen_server_embryonic_connections", "gauge"),
    ("halfopen_server_backlog_occupancy", "gauge"),
    ("halfopen_server_backlog_limit", "gauge"),
    ("halfopen_server_attempts_total", "counter"),
    ("halfopen_server_completed_total", "counter"),
    ("halfopen_server_unresolved_total", "counter"),
    ("halfopen_server_distinct_sources", "gauge"),
    ("halfopen_server_mode", "gauge"),
    ("halfopen_incidents_total", "counter"),
    ("halfopen_incidents_active", "gauge"),
    ("halfopen_incident_active", "gauge"),
    ("halfopen_half_open_discovered_total", "counter"),
    ("halfopen_half_open_suspected", "gauge"),
    ("halfopen_backscatter_total", "counter"),
    ("halfopen_network_timestamp_seconds", "gauge"),
    ("halfopen_build_info", "gauge"),
    ("process_cpu_seconds_total", "counter"),
    ("process_resident_memory_bytes", "gauge"),
    ("process_start_time_seconds", "gauge"),
];

#[test]
fn the_exposition_has_the_contracts_families() {
    let (_, _, body) = Served::start().get("/metrics");
    for (name, kind) in CONTRACT {
        assert!(body.contains(&format!("\n# TYPE {name} {kind}\n")), "{name} as a {kind}");
    }
    for line in [
        "halfopen_capture_drops_total{interface=\"tap0\",by=\"kernel\"} 0",
        "halfopen_capture_drops_total{interface=\"tap0\",by=\"interface\"} 0",
        "halfopen_decode_errors_total{reason=\"truncated_link\"} 0",
        "halfopen_handshakes_closed_total{outcome=\"superseded\"} 0",
        "halfopen_server_embryonic_connections{server=\"shop\",state=\"syn_received\"} 2",
        "halfopen_server_mode{server=\"shop\",mode=\"accept_overflow\"} 0",
        "halfopen_incidents_active{kind=\"spoofed_flood\"} 1",
        "halfopen_incident_active{server=\"shop\",kind=\"outage\"} 0",
        "halfopen_half_open_discovered_total{case=\"reconnect\"} 0",
        "halfopen_backscatter_total{kind=\"syn_ack\"} 0",
        "halfopen_network_timestamp_seconds 1750000000.5",
    ] {
        assert!(body.lines().any(|present| present == line), "{line}");
    }
    // Every name of the list is exposed, and no family of ours is missing from the list.
    let typed = |line: &str| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned);
    let exposed: BTreeSet<String> =
        body.lines().filter_map(typed).filter(|name| name.starts_with("halfopen_")).collect();
    let listed: BTreeSet<String> = names::ALL.iter().map(|desc| desc.name.to_owned()).collect();
    assert_eq!(exposed, listed);
}

#[test]
fn labels_are_in_the_order_of_the_stages() {
    assert_eq!(OUTCOMES, Outcome::ALL.map(Outcome::as_label));
    assert_eq!(SEGMENT_KINDS, SegmentKind::ALL.map(SegmentKind::as_label));
}

#[test]
fn promtool_finds_nothing() {
    let (_, _, body) = Served::start().get("/metrics");
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("skipped: promtool is not installed");
        return;
    };
    child.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}
