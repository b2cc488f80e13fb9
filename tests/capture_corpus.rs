//! Replay against tshark, frame by frame, over real captures that lie beside the project (skipped where they do not).

// A test ends by panicking and says on standard error what it skipped; clippy knows that of test functions, not of their helpers.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

use halfopen::capture::replay::ReplaySource;
use halfopen::capture::{CaptureError, FrameSource, SourceEvent};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Files of which tshark makes something else, how many frames they hold (by hand, and by the truth beside the captures), and why.
const EXCEPTIONS: [(&str, usize, &str); 5] = [
    ("pcapgo+tests+be+test202.pcapng", 8, "tshark lists three custom blocks as packets; they hold none"),
    ("PcapExamples+pcapng-example.pcapng", 159, "stamps in the year 2554, beyond our range: they saturate"),
    (
        "tests+timestamp_invalid_micro.pcap",
        3,
        "2^31 microseconds overflow in tshark; ours carries 2147 s over",
    ),
    (
        "tests+timestamp_invalid_nano.pcap",
        3,
        "2^31 nanoseconds turn negative in tshark; ours carries 2 s over",
    ),
    (
        "tests+bug-6875-01+fuzz.pcap",
        1,
        "tshark lists a frame of 1,409,179,648 claimed bytes that is not there",
    ),
];

struct Seen {
    nanos: i64,
    captured: usize,
    on_wire: u32,
}

fn corpus() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("SKIPPED: no captures at {}", path.display());
    None
}

fn captures(under: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(under).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            captures(&path, into);
        } else if !matches!(path.extension().and_then(|e| e.to_str()), Some("json" | "md")) {
            into.push(path);
        }
    }
    into.sort();
}

fn replay(paths: &[PathBuf]) -> (Vec<Seen>, Option<CaptureError>) {
    let mut source = ReplaySource::open(paths, None).unwrap();
    let (mut seen, mut error) = (Vec::new(), None);
    loop {
        match source.next_event() {
            Ok(SourceEvent::Frame(frame)) => seen.push(Seen {
                nanos: frame.ts.as_nanos(),
                captured: frame.data.len(),
                on_wire: frame.orig_len,
            }),
            Ok(SourceEvent::Idle(_)) => panic!("a replay has no idle moments"),
            Ok(SourceEvent::End) => return (seen, error),
            Err(e) => assert!(error.replace(e).is_none(), "an error is told once"),
        }
    }
}

/// What tshark sees: stamp where there is one, captured length, length on the wire.
fn tshark(path: &Path) -> Vec<(Option<i128>, usize, u32)> {
    let fields = ["frame.time_epoch", "frame.cap_len", "frame.len"].iter().flat_map(|field| ["-e", field]);
    let output = Command::new("tshark")
        .arg("-r")
        .arg(path)
        .args(["-n", "-T", "fields"])
        .args(fields)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| {
            let mut fields = line.split('\t');
            let stamp = fields.next().unwrap();
            let stamp = stamp.split_once('.').map(|(seconds, fraction)| {
                let sign = if seconds.starts_with('-') { -1 } else { 1 };
                let fraction: i128 = format!("{fraction:0<9}").parse().unwrap();
                seconds.parse::<i128>().unwrap() * 1_000_000_000 + sign * fraction
            });
            (stamp, fields.next().unwrap().parse().unwrap(), fields.next().unwrap().parse().unwrap())
        })
        .collect()
}

#[test]
fn every_frame_is_what_tshark_reads() {
    let Some(corpus) = corpus() else { return };
    if Command::new("tshark").arg("--version").output().is_err() {
        eprintln!("SKIPPED: no tshark");
        return;
    }
    let mut paths = Vec::new();
    captures(&corpus, &mut paths);
    assert!(paths.len() > 100, "{} captures", paths.len());
    let (mut differing, mut frames) = (String::new(), 0);
    for path in &paths {
        let (ours, error) = replay(std::slice::from_ref(path));
        let name = path.to_string_lossy();
        if let Some((_, expected, why)) = EXCEPTIONS.iter().find(|(end, ..)| name.ends_with(end)) {
            assert_eq!(ours.len(), *expected, "{name}: {why}");
            continue;
        }
        let theirs = tshark(path);
        frames += ours.len();
        if ours.len() != theirs.len() {
            writeln!(
                differing,
                "{}: {} frames, tshark {}; {error:?}",
                path.display(),
                ours.len(),
                theirs.len()
            )
            .unwrap();
            continue;
        }
        let first = ours.iter().zip(&theirs).position(|(a, b)| {
            b.0.is_some_and(|stamp| stamp != i128::from(a.nanos)) || a.captured != b.1 || a.on_wire != b.2
        });
        if let Some(at) = first {
            let (a, b) = (&ours[at], &theirs[at]);
            writeln!(
                differing,
                "{}: frame {}: ({}, {}, {}), tshark {b:?}",
                path.display(),
                at + 1,
                a.nanos,
                a.captured,
                a.on_wire
            )
            .unwrap();
        }
    }
    eprintln!("{} captures, {frames} frames compared", paths.len() - EXCEPTIONS.len());
    assert!(differing.is_empty(), "\n{differing}");
}

const INSIDE: &str = "HALFOPEN_TEST_READS_STANDARD_INPUT";

/// Run twice: the second time as a child whose standard input is a compressed capture.
#[test]
fn standard_input_is_a_file_like_any_other() {
    if std::env::var_os(INSIDE).is_some() {
        let (seen, error) = replay(&["-".into()]);
        assert_eq!((seen.len(), seen[0].nanos), (1, 1_000_002_000));
        assert!(error.is_none());
        return;
    }
    let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
    file.extend([1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 60, 0, 0, 0, 7, 8, 9]);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "standard_input_is_a_file_like_any_other"])
        .env(INSIDE, "1")
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let compressed = zstd::encode_all(file.as_slice(), 0).unwrap();
    child.stdin.take().unwrap().write_all(&compressed).unwrap();
    assert!(child.wait().unwrap().success());
}
