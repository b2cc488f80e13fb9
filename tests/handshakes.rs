//! Handshakes told segment by segment, as RFC 9293 tells them, and what becomes of them.
//!
//! Each file of tests/handshakes is one story: a sentence where it comes from, segments, and the outcome written by hand.
//! The notation is explained in tests/handshakes/README.md.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::wildcard_enum_match_arm,
    reason = "a test that fails should say so at once, and one that is skipped too"
)]

use halfopen::config::TableConfig;
use halfopen::decode::segment::{Endpoint, Segment, SegmentKind, SeqNumber, TcpFlags};
use halfopen::time::Timestamp;
use halfopen::track::event::{EventKind, HalfOpenCase, HandshakeEvent, Oddity, Outcome};
use halfopen::track::table::HalfOpenTable;
use halfopen::track::tracker::Tracker;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

const NAMES: [(&str, u8); 8] = [
    ("fin", TcpFlags::FIN),
    ("syn", TcpFlags::SYN),
    ("rst", TcpFlags::RST),
    ("psh", TcpFlags::PSH),
    ("ack", TcpFlags::ACK),
    ("urg", TcpFlags::URG),
    ("ece", TcpFlags::ECE),
    ("cwr", TcpFlags::CWR),
];

struct Story {
    tracker: Tracker,
    events: Vec<HandshakeEvent>,
    now: Timestamp,
}

impl Story {
    fn new() -> Self {
        let config = TableConfig { entries: 1000, ..TableConfig::default() };
        let table = Arc::new(HalfOpenTable::new(&config, 1));
        Self { tracker: Tracker::new(table, &config, usize::MAX), events: Vec::new(), now: Timestamp::EPOCH }
    }

    fn at(&mut self, seconds: f64) {
        self.now = Timestamp::from_nanos((seconds * 1e9).round() as i64);
        self.tracker.advance(self.now, &mut self.events);
        assert!(self.tracker.counts().closing_law_holds());
    }

    fn send(&mut self, from: &str, to: &str, words: &[&str]) {
        let mut segment = Segment {
            ts: self.now,
            src: endpoint(from),
            dst: endpoint(to),
            seq: SeqNumber(0),
            ack: SeqNumber(0),
            flags: TcpFlags(0),
            kind: SegmentKind::Odd,
            payload_len: 0,
            window: 65_535,
            ttl: 64,
            options_len: 4,
        };
        for word in words {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            match name {
                "seq" => segment.seq = SeqNumber(value.parse().expect(word)),
                "len" => segment.payload_len = value.parse().expect(word),
                "ttl" => segment.ttl = value.parse().expect(word),
                _ => {
                    let bit =
                        NAMES.iter().find(|(flag, _)| *flag == name).unwrap_or_else(|| panic!("{word}")).1;
                    segment.flags.0 |= bit;
                    if !value.is_empty() {
                        segment.ack = SeqNumber(value.parse().expect(word));
                    }
                }
            }
        }
        segment.kind = SegmentKind::of(segment.flags);
        self.tracker.on_segment(&segment, &mut self.events);
        assert!(self.tracker.counts().closing_law_holds());
    }

    fn figures(&self) -> BTreeMap<&'static str, i64> {
        let counts = self.tracker.counts();
        let mut figures = BTreeMap::from([
            ("attempts", counts.attempts as i64),
            ("syn_retransmissions", counts.syn_retransmissions as i64),
            ("syn_ack_retransmissions", counts.syn_ack_retransmissions as i64),
            ("syn_sent", counts.open[0]),
            ("syn_received", counts.open[1]),
            ("mismatched", counts.mismatched as i64),
            ("simultaneous_opens", counts.simultaneous_opens as i64),
            ("unsolicited_syn_ack", counts.unsolicited_syn_ack as i64),
            ("unsolicited_rst", counts.unsolicited_rst as i64),
            ("not_taken", counts.not_taken as i64),
            ("overdue", self.count(|kind| matches!(kind, EventKind::Overdue { .. }))),
            (
                "after_ack",
                self.count(|kind| matches!(kind, EventKind::SynAckRetransmitted { after_ack: true, .. })),
            ),
        ]);
        for oddity in Oddity::ALL {
            figures.insert(oddity.as_label(), counts.oddities[oddity as usize] as i64);
        }
        for case in HalfOpenCase::ALL {
            figures.insert(case.as_label(), counts.half_open[case as usize] as i64);
        }
        let gone = |originator| move |kind: &EventKind| matches!(kind, EventKind::HalfOpen { originator_is_gone, .. } if *originator_is_gone == originator);
        figures.insert("originator_gone", self.count(gone(true)));
        figures.insert("responder_gone", self.count(gone(false)));
        for outcome in Outcome::ALL {
            figures.insert(outcome.as_label(), counts.outcome(outcome) as i64);
        }
        figures
    }

    fn count(&self, wanted: impl Fn(&EventKind) -> bool) -> i64 {
        self.events.iter().filter(|event| wanted(&event.kind)).count() as i64
    }
}

/// `A`, `B`: one host each, one port each; `A2`: host A with another port.
fn endpoint(name: &str) -> Endpoint {
    let host = name.as_bytes()[0] - b'A';
    let port = name[1..].parse::<u16>().unwrap_or(0);
    Endpoint::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10 + host)), 1000 + port)
}

/// Runs a story; every figure that an `expect` line does not name must be zero. Returns what differs.
fn tell(text: &str) -> String {
    let mut story = Story::new();
    let mut differences = String::new();
    for line in text.lines().map(|line| line.split('#').next().unwrap_or("").trim()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            ["expect", figures @ ..] => {
                let mut expected: BTreeMap<&str, i64> = story.figures().keys().map(|&key| (key, 0)).collect();
                for figure in figures {
                    let (name, value) = figure.split_once('=').expect(line);
                    assert!(
                        expected.insert(name, value.parse().expect(line)).is_some(),
                        "unknown figure: {line}"
                    );
                }
                for (name, value) in story.figures() {
                    if expected[name] != value {
                        writeln!(differences, "  {line}\n    {name} is {value}, not {}", expected[name])
                            .unwrap();
                    }
                }
            }
            [time, "wait"] => story.at(time.parse().expect(line)),
            [time, from, ">", to, segment @ ..] => {
                story.at(time.parse().expect(line));
                story.send(from, to, segment);
            }
            _ => panic!("not understood: {line}"),
        }
    }
    differences
}

#[test]
fn every_story_ends_as_told() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/handshakes");
    let mut failures = String::new();
    let mut told = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("expect "), "{}: expects nothing", path.display());
        let differences = tell(&text);
        if !differences.is_empty() {
            writeln!(failures, "{}:\n{differences}", path.file_name().unwrap().to_string_lossy()).unwrap();
        }
        told += 1;
    }
    assert!(failures.is_empty(), "\n{failures}");
    assert!(told >= 30, "only {told} stories found");
}
