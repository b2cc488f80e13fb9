//! What each fuzz target does with bytes, and what must hold whatever they are. Shared by the targets of cargo-fuzz and by the plain
//! test that runs them over the corpus.

#![allow(dead_code, reason = "each target uses its own")]

use halfopen::capture::memory::MemorySource;
use halfopen::capture::replay::ReplaySource;
use halfopen::capture::{Frame, LinkType};
use halfopen::config::{Config, WebFile};
use halfopen::decode::{Decoded, decode as decode_frame};
use halfopen::pipeline::Sensor;
use halfopen::report::metrics::Metrics;
use halfopen::report::snapshot::SnapshotSource;
use halfopen::report::state::{Found, examine};
use halfopen::time::Timestamp;
use std::io::Cursor;
use std::path::Path;

/// Every link type that is decoded, and one that is not.
const LINKS: [u16; 13] = [0, 1, 9, 50, 51, 101, 104, 108, 113, 228, 229, 276, 4242];

/// One frame: its link type by the first byte, then its bytes.
pub fn decode(bytes: &[u8]) {
    let Some((&link, data)) = bytes.split_first() else { return };
    let link = LinkType(LINKS[usize::from(link) % LINKS.len()]);
    let ts = Timestamp::from_parts(1_750_000_000, 0);
    // Captured whole, and cut off.
    for orig_len in [data.len() as u32, data.len() as u32 + 1000] {
        let frame = Frame { ts, link, orig_len, data };
        if let Decoded::Tcp(segment) = decode_frame(&frame) {
            assert_eq!(segment.ts, ts);
            assert_eq!(segment.src.addr.is_ipv4(), segment.dst.addr.is_ipv4());
            assert!(data.len() >= 20, "a TCP header does not fit in {} bytes", data.len());
        }
    }
}

/// The bytes of a capture file, through everything; and, as one frame after the other, through the same without a file.
pub fn pipeline(bytes: &[u8]) {
    if let Ok(source) = ReplaySource::from_reader("fuzz", Cursor::new(bytes.to_vec()), None) {
        let sensor = Sensor::repeatable(&small(), Box::new(|_| {}));
        let _ = sensor.run_source(source);
        laws(&sensor);
    }

    let mut source = MemorySource::new("fuzz");
    let (mut ts, mut rest) = (1_750_000_000_000_000_000_i64, bytes);
    // A byte of link type, three of time, one of length, then the frame.
    while let Some((&[link, scale, a, b, len], after)) = rest.split_first_chunk() {
        let step = i64::from(i16::from_be_bytes([a, b])) << (scale % 48);
        ts = ts.wrapping_add(step);
        let (data, after) = after.split_at(usize::from(len).min(after.len()));
        let at = Timestamp::from_nanos(ts);
        if scale >= 200 {
            source.push_idle(at);
        }
        source.push(at, LinkType(LINKS[usize::from(link) % LINKS.len()]), data.len() as u32, data);
        rest = after;
    }
    let sensor = Sensor::repeatable(&small(), Box::new(|_| {}));
    sensor.run_source(source).unwrap();
    laws(&sensor);
}

/// The closing law, the frames' law, and that whoever asks gets an answer.
fn laws(sensor: &Sensor) {
    let snapshot = sensor.snapshot();
    let counts = &snapshot.handshakes;
    let open = counts.open_syn_sent + counts.open_syn_received;
    assert_eq!(counts.attempts, counts.closed.iter().sum::<u64>() + open, "the closing law");
    let undecoded: u64 = snapshot.frames.undecoded.iter().map(|(_, count)| count).sum();
    assert_eq!(snapshot.frames.read, snapshot.frames.tcp + snapshot.frames.not_tcp + undecoded);
    assert_eq!(snapshot.frames.tcp, snapshot.segments.iter().sum::<u64>());
    assert!(!Metrics::new(5).render(&snapshot).is_empty());
    sensor.embryonic(None, 10);
    let again = Sensor::repeatable(&small(), Box::new(|_| {}));
    again.recall(&sensor.remembered()).unwrap();
}

/// The smallest tables: what is full sooner is tried sooner.
fn small() -> Config {
    let mut config = Config::default();
    (config.table.entries, config.table.remembered) = (1024, 64);
    (config.detect.max_servers, config.detect.max_hosts, config.detect.max_prefixes) = (16, 16, 16);
    config.evidence.memory_bytes = 0;
    config
}

/// A configuration file.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Config::parse("f", text) {
        Ok(mut config) => {
            let _ = config.fit(1);
            assert_eq!(Config::parse("f", text).unwrap().servers.len(), config.servers.len());
        }
        Err(problems) => told(problems.lines()),
    }
}

/// A web configuration file.
pub fn web_config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(problems) = WebFile::parse("f", text, Path::new("/nowhere")) {
        told(problems.lines());
    }
}

/// Each problem is one line that a terminal can be shown.
fn told(lines: impl Iterator<Item = String>) {
    let mut some = false;
    for line in lines {
        some = true;
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
    assert!(some, "refused, and nothing said");
}

/// A state file, and what is in one.
pub fn state(bytes: &[u8]) {
    let body = match examine(bytes) {
        Found::State(body, _) => body,
        Found::Unusable(why) => {
            told(std::iter::once(why));
            bytes.to_vec()
        }
        Found::Nothing => return,
    };
    let sensor = Sensor::repeatable(&small(), Box::new(|_| {}));
    if sensor.recall(&body).is_ok() {
        let mut source = MemorySource::new("fuzz");
        for second in 0..40 {
            source.push_idle(Timestamp::from_parts(1_750_000_000 + second, 0));
        }
        sensor.run_source(source).unwrap();
        laws(&sensor);
    }
}
