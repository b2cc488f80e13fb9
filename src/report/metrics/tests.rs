//! The exposition, held against the format and the contract by hand.

use super::*;
use crate::report::snapshot::{FrameCounts, Histogram};
use crate::time::Timestamp;

fn view(server: &str, configured: bool) -> ServerView {
    ServerView {
        server: server.to_owned(),
        endpoint: None,
        configured,
        attempts: 10,
        completed: 4,
        unresolved: 5,
        embryonic_syn_sent: 1,
        embryonic_syn_received: 2,
        backlog_occupancy: 2.5,
        backlog_occupancy_estimated: false,
        backlog_limit: configured.then_some(511),
        backlog_limit_estimated: false,
        backlog_time_to_full_seconds: configured.then_some(12.5),
        profile: None,
        profile_inferred: false,
        distinct_sources: 7,
        mode: ServerMode::Queue,
        mode_confidence: 1.0,
        evidence: Vec::new(),
    }
}

fn incident(kind: IncidentKind, scope: Scope, server: &str) -> Incident {
    Incident {
        id: "1".to_owned(),
        kind,
        scope,
        server: server.to_owned(),
        severity: Severity::Critical,
        onset: Timestamp::EPOCH,
        detected_at: Timestamp::EPOCH,
        ended_at: None,
        end_reason: None,
        server_mode: ServerMode::Queue,
        server_mode_confidence: 1.0,
        syn_rate_peak: 0.0,
        attempts: 0,
        completed: 0,
        embryonic_peak: 0,
        backlog_occupancy_peak: 0.0,
        backlog_occupancy_estimated: false,
        distinct_sources: 0,
        capture_loss: 0.0,
        evidence: Vec::new(),
    }
}

fn lines(snapshot: &Snapshot) -> Vec<String> {
    Metrics::new(50).render(snapshot).lines().map(str::to_owned).collect()
}

#[track_caller]
fn has(lines: &[String], line: &str) {
    let name = line.split(['{', ' ']).next().unwrap();
    let near: Vec<_> = lines.iter().filter(|l| l.starts_with(name)).collect();
    assert!(lines.iter().any(|l| l == line), "no line {line}; there are {near:#?}");
}

#[test]
fn known_series_start_at_zero() {
    let lines = lines(&Snapshot {
        servers: vec![ServerView { attempts: 0, ..view("shop", true) }],
        ..Snapshot::default()
    });
    for outcome in OUTCOMES {
        has(&lines, &format!("halfopen_handshakes_closed_total{{outcome=\"{outcome}\"}} 0"));
    }
    for kind in IncidentKind::ALL.map(IncidentKind::as_label) {
        has(&lines, &format!("halfopen_incidents_total{{kind=\"{kind}\"}} 0"));
        has(&lines, &format!("halfopen_incidents_active{{kind=\"{kind}\"}} 0"));
        has(&lines, &format!("halfopen_incident_active{{server=\"shop\",kind=\"{kind}\"}} 0"));
        has(&lines, &format!("halfopen_incident_severity{{server=\"shop\",kind=\"{kind}\"}} 0"));
    }
    has(&lines, "halfopen_server_attempts_total{server=\"shop\"} 0");
    has(&lines, "halfopen_server_attempts_total{server=\"other\"} 0");
    has(&lines, "halfopen_server_mode{server=\"shop\",mode=\"queue\"} 1");
    has(&lines, "halfopen_server_mode{server=\"shop\",mode=\"cookie\"} 0");
    has(&lines, "halfopen_backscatter_total{kind=\"rst\"} 0");
    has(&lines, "halfopen_half_open_discovered_total{case=\"reset_on_data\"} 0");
    has(&lines, "halfopen_network_timestamp_seconds 0");
}

#[test]
fn histograms_are_cumulative() {
    let mut histogram = Histogram { sum: 1.25, ..Histogram::default() };
    histogram.buckets[0] = 3;
    histogram.buckets[3] = 2;
    histogram.buckets[LAST] = 1;
    const LAST: usize = crate::report::snapshot::LATENCY_BOUNDS.len();
    let lines = lines(&Snapshot { syn_ack_latency: histogram, ..Snapshot::default() });
    has(&lines, "halfopen_syn_ack_latency_seconds_bucket{le=\"0.0001\"} 3");
    has(&lines, "halfopen_syn_ack_latency_seconds_bucket{le=\"0.0005\"} 3");
    has(&lines, "halfopen_syn_ack_latency_seconds_bucket{le=\"0.001\"} 5");
    has(&lines, "halfopen_syn_ack_latency_seconds_bucket{le=\"63\"} 5");
    has(&lines, "halfopen_syn_ack_latency_seconds_bucket{le=\"+Inf\"} 6");
    has(&lines, "halfopen_syn_ack_latency_seconds_sum 1.25");
    has(&lines, "halfopen_syn_ack_latency_seconds_count 6");
}

#[test]
fn frames_add_up() {
    let frames = FrameCounts {
        read: 10,
        tcp: 5,
        not_tcp: 2,
        later_fragments: 1,
        undecoded: vec![("bad_version", 3), ("too_deep", 0)],
    };
    let lines = lines(&Snapshot { frames, ..Snapshot::default() });
    has(&lines, "halfopen_frames_total{result=\"tcp\"} 5");
    has(&lines, "halfopen_frames_total{result=\"undecoded\"} 3");
    has(&lines, "halfopen_decode_errors_total{reason=\"bad_version\"} 3");
    has(&lines, "halfopen_decode_errors_total{reason=\"too_deep\"} 0");
}

#[test]
fn the_statistic_stands_beside_its_threshold() {
    let signal = |signal, value| Evidence { signal, value, threshold: 18.8, text: String::new() };
    let flooded =
        ServerView { evidence: vec![signal("verdict", 1.0), signal("cusum", 42.5)], ..view("shop", true) };
    let lines = lines(&Snapshot { servers: vec![flooded, view("mail", true)], ..Snapshot::default() });
    has(&lines, "halfopen_server_statistic{server=\"shop\"} 42.5");
    has(&lines, "halfopen_server_statistic_threshold{server=\"shop\"} 18.8");
    assert!(
        !lines.iter().any(|line| line.starts_with("halfopen_server_statistic{server=\"mail\"")),
        "nothing is known of it"
    );
}

#[test]
fn severity_is_the_gravest() {
    let warning = Incident {
        severity: Severity::Warning,
        ..incident(IncidentKind::DirectFlood, Scope::Server, "shop")
    };
    let critical = Incident { severity: Severity::Critical, ..warning.clone() };
    let lines = lines(&Snapshot {
        incidents: vec![critical, warning],
        servers: vec![view("shop", true)],
        ..Snapshot::default()
    });
    has(&lines, "halfopen_incident_active{server=\"shop\",kind=\"direct_flood\"} 2");
    has(&lines, "halfopen_incident_severity{server=\"shop\",kind=\"direct_flood\"} 3");
    has(&lines, "halfopen_incident_severity{server=\"shop\",kind=\"flash_crowd\"} 0");
}

#[test]
fn no_source_address_is_a_label() {
    let snapshot = Snapshot {
        servers: vec![view("shop", true)],
        incidents: vec![
            incident(IncidentKind::PortScan, Scope::Host, "198.18.0.1"),
            incident(IncidentKind::HostScan, Scope::Server, "198.18.0.2"),
            incident(IncidentKind::Reflection, Scope::Host, "198.18.0.3"),
            incident(IncidentKind::Backscatter, Scope::Prefix, "198.18.0.0/24"),
            incident(IncidentKind::SpoofedFlood, Scope::Server, "shop"),
            incident(IncidentKind::CarpetFlood, Scope::Prefix, "198.51.100.0/24"),
        ],
        ..Snapshot::default()
    };
    let lines = lines(&snapshot);
    assert!(!lines.iter().any(|line| line.contains("198.18.")), "a source is a label");
    has(&lines, "halfopen_incident_active{server=\"other\",kind=\"port_scan\"} 1");
    has(&lines, "halfopen_incident_active{server=\"shop\",kind=\"spoofed_flood\"} 1");
    has(&lines, "halfopen_incident_severity{server=\"shop\",kind=\"spoofed_flood\"} 3");
    has(&lines, "halfopen_incident_active{server=\"198.51.100.0/24\",kind=\"carpet_flood\"} 1");
    has(&lines, "halfopen_incidents_active{kind=\"reflection\"} 1");
}

#[test]
fn incident_labels_are_bounded() {
    let incidents = (0..200)
        .map(|n| incident(IncidentKind::SpoofedFlood, Scope::Server, &format!("203.0.113.{n}:80")))
        .collect();
    let text = Metrics::new(5).render(&Snapshot { incidents, ..Snapshot::default() });
    let labels = text.lines().filter(|line| line.starts_with("halfopen_incident_active{")).count();
    assert_eq!(labels, 6);
    has(
        &text.lines().map(str::to_owned).collect::<Vec<_>>(),
        "halfopen_incident_active{server=\"other\",kind=\"spoofed_flood\"} 195",
    );
}

#[test]
fn label_values_are_escaped() {
    let lines = lines(&Snapshot { servers: vec![view("a\"b\\c\nd", true)], ..Snapshot::default() });
    has(&lines, "halfopen_server_attempts_total{server=\"a\\\"b\\\\c\\nd\"} 10");
}

#[test]
fn the_same_file_twice_is_one_series() {
    let file = InterfaceView { name: "a.pcap".to_owned(), frames: 3, up: true, ..InterfaceView::default() };
    let lines = lines(&Snapshot { interfaces: vec![file.clone(), file], ..Snapshot::default() });
    has(&lines, "halfopen_capture_frames_total{interface=\"a.pcap\"} 6");
}
