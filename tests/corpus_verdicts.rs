//! Real captures, held against what their collectors say they are: floods raise a flood, nothing else does; scans raise a scan.
//!
//! The captures lie beside the project, in ../shared/corpus; where that folder is not, the test says so and passes. Every file
//! that differs is listed with its reason; one that agrees although it is listed fails too.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that fails should say so at once"
)]

use halfopen::capture::replay::ReplaySource;
use halfopen::config::Config;
use halfopen::detect::incident::IncidentKind;
use halfopen::pipeline::Sensor;
use halfopen::report::snapshot::SnapshotSource;
use std::path::Path;

/// Files whose verdict differs from their class, and why.
const EXCEPTIONS: &[(&str, &str)] = &[];

/// Files of scans that raise no scan, and why.
const NO_SCANS: &[(&str, &str)] = &[
    ("tcp_scan.pcapng", "four ports of one host, one by one over a minute"),
    ("nmap_tcp_22_ipv4.pcap", "one port of three hosts"),
    ("activeosfingerprinting.pcapng", "two ports of one host: it asks what system that is"),
];

/// What a class says about floods; none where it says nothing.
fn expects_a_flood(class: &str) -> Option<bool> {
    match class {
        "syn-flood-real" | "syn-flood-synthetic" => Some(true),
        "benign-burst" | "normal" | "port-scan" => Some(false),
        _ => None,
    }
}

/// What a capture raises; none where it is no capture.
fn raised(path: &Path) -> Option<Vec<IncidentKind>> {
    let sensor = Sensor::new(&Config::default(), Box::new(|_| {}));
    let source = ReplaySource::open(&[path.to_owned()], None).ok()?;
    // A file cut in the middle of a packet counts up to there.
    let _ = sensor.run_source(source);
    Some(sensor.snapshot().incidents.iter().map(|incident| incident.kind).collect())
}

fn is_flood(kind: &IncidentKind) -> bool {
    matches!(kind, IncidentKind::SpoofedFlood | IncidentKind::DirectFlood | IncidentKind::CarpetFlood)
}

fn is_scan(kind: &IncidentKind) -> bool {
    matches!(kind, IncidentKind::PortScan | IncidentKind::HostScan)
}

#[test]
fn floods_raise_a_flood_and_nothing_else_does_and_scans_a_scan() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    let Ok(text) = std::fs::read_to_string(corpus.join("truth.json")) else {
        eprintln!("SKIPPED: no captures in {}", corpus.display());
        return;
    };
    let truth: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let (mut judged, mut scans, mut wrong) = ([0, 0], 0, Vec::new());
    for entry in &truth {
        let (file, class) = (entry["file"].as_str().unwrap(), entry["class"].as_str().unwrap());
        let Some(expected) = expects_a_flood(class) else { continue };
        let found = raised(&corpus.join(file)).unwrap_or_else(|| panic!("{file} cannot be opened"));
        judged[usize::from(expected)] += 1;
        let is_listed = |list: &[(&str, &str)]| list.iter().any(|(name, _)| file.ends_with(name));
        if (found.iter().any(is_flood) != expected) != is_listed(EXCEPTIONS) {
            wrong.push(format!("{file} ({class}): {found:?}"));
        }
        if class == "port-scan" {
            scans += 1;
            if found.iter().any(is_scan) == is_listed(NO_SCANS) {
                wrong.push(format!("{file} ({class}), whether a scan: {found:?}"));
            }
        }
    }
    assert!(scans >= 5, "only {scans} scans judged");
    assert!(judged[0] >= 20 && judged[1] >= 10, "only {judged:?} captures judged");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
