//! Real captures, held against what their collectors say they are: floods raise a flood, nothing else does.
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

/// What a class says about floods; none where it says nothing.
fn expects_a_flood(class: &str) -> Option<bool> {
    match class {
        "syn-flood-real" | "syn-flood-synthetic" => Some(true),
        "benign-burst" | "normal" | "port-scan" => Some(false),
        _ => None,
    }
}

/// The floods a capture raises; none where it is no capture.
fn floods(path: &Path) -> Option<Vec<IncidentKind>> {
    let sensor = Sensor::new(&Config::default(), Box::new(|_| {}));
    let source = ReplaySource::open(&[path.to_owned()], None).ok()?;
    // A file cut in the middle of a packet counts up to there.
    let _ = sensor.run_source(source);
    let flood = |kind: &IncidentKind| {
        use IncidentKind::{CarpetFlood, DirectFlood, SpoofedFlood};
        matches!(kind, SpoofedFlood | DirectFlood | CarpetFlood)
    };
    Some(sensor.snapshot().incidents.iter().map(|incident| incident.kind).filter(flood).collect())
}

#[test]
fn floods_raise_a_flood_and_nothing_else_does() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    let Ok(text) = std::fs::read_to_string(corpus.join("truth.json")) else {
        eprintln!("SKIPPED: no captures in {}", corpus.display());
        return;
    };
    let truth: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let (mut judged, mut wrong) = ([0, 0], Vec::new());
    for entry in &truth {
        let (file, class) = (entry["file"].as_str().unwrap(), entry["class"].as_str().unwrap());
        let Some(expected) = expects_a_flood(class) else { continue };
        let found = floods(&corpus.join(file)).unwrap_or_else(|| panic!("{file} cannot be opened"));
        judged[usize::from(expected)] += 1;
        let listed = EXCEPTIONS.iter().any(|(name, _)| file.ends_with(name));
        if (found.is_empty() == expected) != listed {
            wrong.push(format!("{file} ({class}): {found:?}"));
        }
    }
    assert!(judged[0] >= 20 && judged[1] >= 10, "only {judged:?} captures judged");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
