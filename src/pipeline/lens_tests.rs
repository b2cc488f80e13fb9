//! Which frames are kept: by hand for the sample and the targets, and end to end over generated floods.

use super::*;
use crate::config::{Config, EvidenceConfig};
use crate::detect::incident::{Change, Incident, IncidentKind, JournalEntry, Scope, ServerMode, Severity};
use crate::pipeline::Sensor;
use crate::pipeline::targets::Roster;
use crate::report::snapshot::SnapshotSource;
use crate::synth::Scenario;
use crate::synth::address::Targets as Addresses;
use crate::synth::kinds::{Answers, Flood};
use crate::synth::scenario::Traffic;
use crate::synth::source::SynthSource;

#[test]
fn the_first_are_kept_and_then_32_of_every_doubling() {
    assert!((1..=200).all(is_sampled));
    let between = |from: u64, to: u64| (from..to).filter(|&n| is_sampled(n)).count();
    assert_eq!(between(201, 256), 13, "every fourth: 204 to 252");
    for doubling in 8..20 {
        assert_eq!(between(1 << doubling, 2 << doubling), 32, "from 2^{doubling}");
    }
    assert!(!is_sampled(u64::MAX));
}

fn entry(event: Change, id: &str, scope: Scope, server: &str) -> JournalEntry {
    let incident = Incident {
        id: id.to_owned(),
        kind: IncidentKind::SpoofedFlood,
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
    };
    JournalEntry { ts: Timestamp::EPOCH, event, incident }
}

#[test]
fn a_segment_belongs_to_the_most_specific_incident() {
    let text = "[[server]]\nname = \"shop\"\naddress = \"198.51.100.10\"\nport = 443";
    let mut roster = Roster::default();
    roster.set_servers(&Config::parse("f", text).unwrap().servers);
    for (id, scope, server) in [
        ("named", Scope::Server, "shop"),
        ("v4", Scope::Server, "198.51.100.10:80"),
        ("v6", Scope::Server, "[2001:db8::1]:80"),
        ("host", Scope::Host, "198.51.100.11"),
        ("prefix", Scope::Prefix, "198.51.100.0/24"),
        ("prefix6", Scope::Prefix, "2001:db8:7::/48"),
        ("sweep", Scope::Prefix, "2001:db8:9:1::/64"),
    ] {
        assert!(roster.hear(&entry(Change::Raised, id, scope, server)), "{id}");
    }
    assert!(!roster.hear(&entry(Change::Raised, "gone", Scope::Server, "no longer configured")));
    assert!(!roster.hear(&entry(Change::Updated, "v4", Scope::Server, "198.51.100.10:80")));
    let whose = |roster: &Roster, src: &str, dst: &str| {
        let end = |text: &str| {
            let at: std::net::SocketAddr = text.parse().unwrap();
            Endpoint::new(at.ip(), at.port())
        };
        let targets = roster.targets();
        targets.find(end(src), end(dst)).map(|at| targets.list[at].id.to_string()).unwrap_or_default()
    };
    for (src, dst, id) in [
        ("198.18.0.1:1", "198.51.100.10:443", "named"),
        ("198.51.100.10:443", "198.18.0.1:1", "named"),
        ("198.18.0.1:1", "198.51.100.10:80", "v4"),
        ("[2001:db8::2]:1", "[2001:db8::1]:80", "v6"),
        ("198.51.100.11:5", "203.0.113.1:80", "host"),
        ("198.18.0.1:1", "198.51.100.12:80", "prefix"),
        ("198.18.0.1:1", "198.51.100.10:81", "prefix"),
        ("[2001:db8::2]:1", "[2001:db8:7:8::1]:80", "prefix6"),
        ("[2001:db8:9:1:a::1]:1", "[2001:db8:7:8::1]:80", "sweep"),
        ("[2001:db8:9:2:a::1]:1", "[2001:db8:8:8::1]:80", ""),
        ("198.18.0.1:1", "203.0.113.1:80", ""),
    ] {
        assert_eq!(whose(&roster, src, dst), id, "{src} > {dst}");
    }
    assert!(roster.hear(&entry(Change::Raised, "all", Scope::Sensor, "sensor")));
    assert_eq!(whose(&roster, "198.18.0.1:1", "203.0.113.1:80"), "all");
    assert!(roster.hear(&entry(Change::Ended, "v4", Scope::Server, "198.51.100.10:80")));
    assert_eq!(whose(&roster, "198.18.0.1:1", "198.51.100.10:80"), "prefix");
}

/// Stamps, and whether each is a SYN to this address and port, of a capture file of Ethernet and IPv4.
fn read(file: &[u8], addr: [u8; 4], port: u16) -> Vec<(f64, bool)> {
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    let mut rest = &file[24..];
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let len = word(&rest[8..12]) as usize;
        let stamp = f64::from(word(&rest[..4])) + f64::from(word(&rest[4..8])) / 1e9;
        let frame = &rest[16..16 + len];
        let to = frame[30..34] == addr && frame[36..38] == port.to_be_bytes();
        frames.push((stamp, to && frame[47] & 0x3f == 0x02));
        rest = &rest[16 + len..];
    }
    frames
}

#[test]
fn a_flood_leaves_frames_from_its_onset_on() {
    for rate in [20.0, 20_000.0] {
        let servers = Addresses::try_from("198.51.100.10:80".to_owned()).unwrap();
        let count = (rate * 8.0) as u64;
        let flood = Flood { servers, rate, count, answers: Answers::Drop, ..Flood::default() };
        let stream = Scenario::new(1, Duration::from_secs(60)).with(Traffic::Flood(flood)).stream();
        let sensor = Sensor::repeatable(&Config::default(), Box::new(|_| {}));
        let counts = Arc::default();
        sensor.keep_evidence(FrameStore::new(&EvidenceConfig::default(), &counts).unwrap());
        sensor.run_source(SynthSource::new(stream)).unwrap();
        let incidents = sensor.snapshot().incidents;
        let [incident] = incidents.as_slice() else { panic!("{incidents:#?}") };
        let frames = read(&sensor.pcap(&incident.id).unwrap(), [198, 51, 100, 10], 80);
        assert!(frames.iter().all(|(_, syn)| *syn), "nothing but SYNs to the server is on this wire");
        assert!(frames.is_sorted_by(|a, b| a.0 <= b.0), "in order");
        let (first, last) = (frames[0].0, frames[frames.len() - 1].0);
        let (onset, found) = (incident.onset.as_secs_f64(), incident.detected_at.as_secs_f64());
        assert!(first <= onset + 0.6 && first < found, "from the onset: {first} {onset} {found}");
        assert!(last > onset + 6.0, "and to its end: {last}");
        assert!((130..900).contains(&frames.len()), "{rate}/s: {}", frames.len());
        assert!(counts.bytes.load(std::sync::atomic::Ordering::Relaxed) <= 66_000);
    }
}

#[test]
fn nothing_is_kept_without_a_store_or_an_incident() {
    let servers = Addresses::try_from("198.51.100.10:80".to_owned()).unwrap();
    let flood = Flood { servers, rate: 1000.0, count: 5000, answers: Answers::Drop, ..Flood::default() };
    let stream = Scenario::new(1, Duration::from_secs(30)).with(Traffic::Flood(flood)).stream();
    let sensor = Sensor::repeatable(&Config::default(), Box::new(|_| {}));
    sensor.run_source(SynthSource::new(stream)).unwrap();
    let incidents = sensor.snapshot().incidents;
    assert!(!incidents.is_empty() && incidents.iter().all(|one| sensor.pcap(&one.id).is_none()));
    assert!(sensor.pcap("x").is_none());
}
