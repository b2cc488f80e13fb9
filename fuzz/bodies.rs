//! What each fuzz target does with bytes, and what must hold whatever they are. Shared by the targets of cargo-fuzz and by the plain
//! test that runs them over the corpus.

#![allow(dead_code, reason = "each target uses its own")]

#[path = "../tests/support/laws.rs"]
mod laws;

use halfopen::capture::memory::MemorySource;
use halfopen::capture::replay::ReplaySource;
use halfopen::capture::{Frame, LinkType};
use halfopen::config::{Config, WebFile};
use halfopen::decode::{Decoded, decode as decode_frame};
use halfopen::pipeline::Sensor;
use halfopen::report::journal::{BYTES, Reader, RotatedFile, Wanted, first_stamp};
use halfopen::report::metrics::Metrics;
use halfopen::report::snapshot::SnapshotSource;
use halfopen::report::state::{Found, examine};
use halfopen::time::Timestamp;
use laws::counted;
use std::collections::VecDeque;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

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

/// The bytes of a capture file through everything; where they are none, one frame after the other through the same without a file.
pub fn pipeline(bytes: &[u8]) {
    let sensor = Sensor::repeatable(&small(), Box::new(|_| {}));
    if let Ok(source) = ReplaySource::from_reader("fuzz", Cursor::new(bytes.to_vec()), None) {
        let _ = sensor.run_source(source);
        return laws(&sensor);
    }
    let mut source = MemorySource::new("fuzz");
    let (mut ts, mut rest) = (1_750_000_000_000_000_000_i64, bytes);
    // A byte of link type, three of time, one of length, then the frame.
    while let Some((&[link, scale, a, b, len], after)) = rest.split_first_chunk() {
        // Up to 17 s forwards or back; one step in eight up to 146 years, of which the first two minutes are judged, 240 bins.
        let shift = if scale % 8 == 7 { scale % 48 } else { scale % 20 };
        ts = ts.wrapping_add(i64::from(i16::from_be_bytes([a, b])) << shift);
        let (data, after) = after.split_at(usize::from(len).min(after.len()));
        let at = Timestamp::from_nanos(ts);
        if scale >= 200 {
            source.push_idle(at);
        }
        source.push(at, LinkType(LINKS[usize::from(link) % LINKS.len()]), data.len() as u32, data);
        rest = after;
    }
    sensor.run_source(source).unwrap();
    laws(&sensor);
}

/// The closing law, the frames' law, and that whoever asks gets an answer.
fn laws(sensor: &Sensor) {
    let snapshot = sensor.snapshot();
    counted(&snapshot);
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
    config.table.established.memory = 4096;
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

/// A journal read back: a byte for the most that is kept, then lines, and after a byte 0xff those of the next file.
pub fn journal(bytes: &[u8]) {
    let Some((&limit, rest)) = bytes.split_first() else { return };
    let limit = usize::from(limit % 16) + 1;
    let files: Vec<&[u8]> = rest.split(|&byte| byte == 0xff).collect();
    let mut reader = Reader::new(Wanted::default(), limit);
    for file in &files {
        first_stamp(*file);
        let before = reader.lines();
        let damage = reader.read(*file).told("f");
        assert_eq!(damage.is_some(), reader.lines().damaged > before.damaged);
        if let Some(line) = damage {
            told(std::iter::once(line));
        }
        assert!(reader.bytes() <= BYTES);
    }
    let account = reader.finish();
    let lines = account.lines;
    assert_eq!(lines.read, lines.incidents + lines.half_open + lines.oddities + lines.damaged);
    let shown = account.incidents.len();
    assert!(shown <= limit && shown as u64 + account.left_out <= lines.incidents);
    assert!(!account.table().chars().any(|c| c.is_control() && c != '\n'));

    // What is printed can be read back as lines, and says the same. Of one incident there is one row, so that their order is nothing.
    let document: serde_json::Value = serde_json::from_str(&account.document().unwrap()).unwrap();
    let incidents = document["incidents"].as_array().unwrap();
    let line = |told: &serde_json::Value| {
        format!("{{\"ts\":{},\"event\":\"updated\",\"incident\":{told}}}\n", told["last_told"])
    };
    let again: String = incidents.iter().map(line).collect();
    let mut reader = Reader::new(Wanted::default(), limit);
    assert!(reader.read(again.as_bytes()).told("f").is_none(), "{again}");
    assert_eq!(reader.finish().incidents, account.incidents);

    // Whoever asks for one of them gets it, and nothing that is not like it.
    let Some(one) = account.incidents.first() else { return };
    let wanted = Wanted {
        since: one.ended_at,
        until: Some(one.onset),
        servers: vec![one.server.clone()],
        kinds: vec![one.kind],
    };
    let mut reader = Reader::new(wanted, limit);
    reader.read(again.as_bytes());
    let found = reader.finish().incidents;
    assert!(found.contains(one));
    assert!(found.iter().all(|told| told.kind == one.kind && told.onset <= one.onset));
}

/// A journal that somebody left behind: two bytes of bounds, what is in the file up to the first 0xff, then lines to write, and
/// between them what else somebody does to it. Every file must be what a plain model of it says.
pub fn rotation(bytes: &[u8]) {
    let Some((&[max, keep], rest)) = bytes.split_first_chunk() else { return };
    let (max, keep) = (u64::from(max), usize::from(keep % 4));
    let mut parts = rest.split(|&byte| byte == 0xff);
    let left = parts.next().unwrap_or_default();

    let folder = scratch();
    let path = folder.join("journal.jsonl");
    // The latest file first, and those set aside after it.
    let mut model: VecDeque<Vec<u8>> = VecDeque::from([left.to_vec()]);
    fs::write(&path, left).unwrap();
    let mut file = RotatedFile::new(path.clone(), max, keep as u32);
    // Whether the file is known to end with a whole line: it is looked at when it is opened, and then trusted.
    let mut opened = false;
    for part in parts.take(8) {
        match part {
            // Deleted under it; cut short; opened by another process.
            b"d" => {
                let _ = fs::remove_file(&path);
                model[0].clear();
                opened = false;
                continue;
            }
            b"t" => {
                if let Ok(there) = fs::OpenOptions::new().write(true).open(&path) {
                    there.set_len(0).unwrap();
                }
                model[0].clear();
                continue;
            }
            b"o" => {
                file = RotatedFile::new(path.clone(), max, keep as u32);
                opened = false;
                continue;
            }
            _ => {}
        }
        let line: Vec<u8> = part.iter().copied().filter(|&byte| byte != b'\n').chain([b'\n']).collect();
        file.write(&line).unwrap();
        if !opened && model[0].last().is_some_and(|&last| last != b'\n') {
            model[0].push(b'\n');
        }
        opened = true;
        if !model[0].is_empty() && model[0].len() as u64 + line.len() as u64 > max {
            model.push_front(Vec::new());
            model.truncate(keep + 1);
        }
        model[0].extend_from_slice(&line);
        for (number, expected) in model.iter().enumerate() {
            let name =
                if number == 0 { path.clone() } else { folder.join(format!("journal.jsonl.{number}")) };
            assert_eq!(&fs::read(&name).unwrap(), expected, "file {number}");
        }
        assert!(fs::read_dir(&folder).unwrap().count() <= keep + 1, "more files than are kept");
    }
    fs::remove_dir_all(&folder).unwrap();
}

/// A folder of this process, in memory where the system has such a place.
fn scratch() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let below = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let folder = below.join(format!("halfopen-fuzz-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).unwrap();
    folder
}
