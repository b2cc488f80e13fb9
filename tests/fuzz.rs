//! The fuzz targets' bodies without a fuzzer: over their corpus, and over inputs made of it by a fixed generator.
//!
//! `HALFOPEN_FUZZ=N` says how many inputs a target gets (default 2,000); `make fuzz` asks cargo-fuzz, where there is a nightly.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that fails should say so at once"
)]
#![allow(unreachable_pub, reason = "shared with the fuzz targets")]

#[path = "../fuzz/bodies.rs"]
mod bodies;

use halfopen::capture::LinkType;
use halfopen::config::Config;
use halfopen::pipeline::Sensor;
use halfopen::report::state::StateFile;
use halfopen::synth::Scenario;
use halfopen::synth::pcapfile::PcapWriter;
use halfopen::synth::random::SplitMix64;
use halfopen::synth::source::SynthSource;
use std::fs;
use std::path::{Path, PathBuf};

fn inputs() -> u64 {
    std::env::var("HALFOPEN_FUZZ").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000)
}

/// The committed inputs of a target, by name.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    // What a fuzzer learns lies beside them, bears its SHA-1 for a name, and may vanish under a test while it runs.
    let committed = |path: &PathBuf| {
        let name = path.file_name().unwrap().as_encoded_bytes();
        name.len() != 40 || !name.iter().all(u8::is_ascii_hexdigit)
    };
    let mut files: Vec<PathBuf> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).filter(committed).collect();
    files.sort();
    assert!(!files.is_empty(), "{target} has no corpus");
    files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Another input made of two: cut, joined, and with a few bytes changed to those that mean something somewhere.
fn mutated(seeds: &[(PathBuf, Vec<u8>)], random: &mut SplitMix64, out: &mut Vec<u8>) {
    const TELLING: [u8; 14] = [0, 1, 4, 5, 6, 0x0f, 0x40, 0x45, 0x60, 0x7f, 0x80, 0xff, b'\n', b'"'];
    let mut pick = || &seeds[random.below(seeds.len() as u64) as usize].1;
    let (first, second) = (pick(), pick());
    out.clear();
    out.extend_from_slice(first);
    if random.chance(0.3) {
        let at = random.below(second.len() as u64 + 1) as usize;
        out.truncate(random.below(first.len() as u64 + 1) as usize);
        out.extend_from_slice(&second[at..]);
    }
    if random.chance(0.2) {
        out.truncate(random.below(out.len() as u64 + 1) as usize);
    }
    for _ in 0..random.below(6) {
        let Some(last) = out.len().checked_sub(1) else { break };
        let at = random.below(last as u64 + 1) as usize;
        out[at] = match random.below(3) {
            0 => TELLING[random.below(TELLING.len() as u64) as usize],
            1 => out[at] ^ 1 << random.below(8),
            _ => random.next_u32() as u8,
        };
    }
}

fn run(target: &str, share: u64, body: fn(&[u8])) {
    let seeds = corpus(target);
    for (name, bytes) in &seeds {
        let caught = std::panic::catch_unwind(|| body(bytes));
        assert!(caught.is_ok(), "{}", name.display());
    }
    let (mut random, mut input) = (SplitMix64::split(7, share), Vec::new());
    let count = (inputs() / share).max(1);
    for number in 0..count {
        mutated(&seeds, &mut random, &mut input);
        let caught = std::panic::catch_unwind(|| body(&input));
        assert!(caught.is_ok(), "{target}: input {number}: {}", input.escape_ascii());
    }
    println!("{target}: {} of the corpus and {count} made of it", seeds.len());
}

#[test]
fn decode_of_any_bytes() {
    run("decode", 1, bodies::decode);
}

#[test]
fn the_pipeline_of_any_capture_file() {
    // Each makes tables of its own: a hundredth as many.
    run("pipeline", 100, bodies::pipeline);
}

#[test]
fn any_configuration() {
    run("config", 2, bodies::config);
}

#[test]
fn any_web_configuration() {
    run("web_config", 2, bodies::web_config);
}

#[test]
fn any_state() {
    run("state", 50, bodies::state);
}

#[test]
fn any_journal_read_back() {
    run("journal", 2, bodies::journal);
}

#[test]
fn any_journal_left_behind() {
    run("rotation", 2, bodies::rotation);
}

/// The pipeline's corpus has captures of our own making; this makes them where `HALFOPEN_FUZZ_SEEDS` names a folder.
#[test]
fn seeds_are_made_again() {
    let Some(folder) = std::env::var_os("HALFOPEN_FUZZ_SEEDS").map(PathBuf::from) else { return };
    let scenario = |traffic: &str| {
        let text = format!("seed = 1\nduration = 20\n[[traffic]]\n{traffic}");
        Scenario::from_toml(&text).unwrap().stream()
    };
    for (name, traffic) in [
        ("handshakes", "kind = \"handshakes\"\nrate = 2\ncount = 12\n"),
        ("flood", "kind = \"flood\"\nrate = 10\ncount = 40\n"),
        (
            "ipv6-flood",
            "kind = \"flood\"\nservers = \"[2001:db8::10]:443\"\nsources = \"2001:db8:1::/48\"\nrate = 10\ncount = 20\n",
        ),
        ("vxlan-flood", "kind = \"flood\"\nrate = 10\ncount = 20\nencapsulation = { vxlan = 7 }\n"),
    ] {
        let mut writer = PcapWriter::new(Vec::new(), LinkType::ETHERNET).unwrap();
        let mut first = Vec::new();
        scenario(traffic).for_each(|ts, frame| {
            writer.write(ts, frame).unwrap();
            if first.is_empty() {
                first = [&[1], frame].concat();
            }
        });
        fs::write(folder.join("pipeline").join(format!("{name}.pcap")), writer.finish().unwrap()).unwrap();
        fs::write(folder.join("decode").join(format!("ethernet-{name}")), first).unwrap();
    }
    let sensor = Sensor::repeatable(&Config::default(), Box::new(|_| {}));
    let peace_and_flood =
        "kind = \"handshakes\"\nrate = 20\n[[traffic]]\nkind = \"flood\"\nrate = 200\nstart = 10\n";
    sensor.run_source(SynthSource::new(scenario(peace_and_flood))).unwrap();
    let body = sensor.remembered();
    fs::write(folder.join("state/body-with-an-incident"), &body).unwrap();
    StateFile::new(folder.join("state/whole-file-with-an-incident")).write(&body).unwrap();
}
