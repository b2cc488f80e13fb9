//! How fast the whole pipeline is, beside bare libpcap and tcpdump on the same files; how much memory an entry takes; whether
//! a frame costs more when millions of entries are open. Prints Markdown tables: `cargo bench --bench throughput`.
//!
//! Every figure is a ratio or a median of alternating repeats within one run, so that a busy machine changes all of them alike; both
//! as time that passes and as processor time of all threads. What is bound by memory still suffers more from neighbours than what
//! is not, and the sensor uses a second processor where there is one: measure on a quiet machine.
//! `-- --small` does it all with a fiftieth of the frames, to see that it works.

#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement: speaks, and stops at once"
)]
#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]

mod readers;
mod turns;

use halfopen::capture::LinkType;
use halfopen::capture::memory::MemorySource;
use halfopen::config::Config;
use halfopen::pipeline::Sensor;
use halfopen::report::metrics::Metrics;
use halfopen::report::snapshot::SnapshotSource;
use halfopen::synth::kinds::{Answers, Flood, Handshakes};
use halfopen::synth::pcapfile::PcapWriter;
use halfopen::synth::scenario::Traffic;
use halfopen::synth::source::SynthSource;
use halfopen::synth::{Scenario, Stream};
use readers::{bare, hashed, open, replay, tcpdump, track};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use turns::{Took, Turns, in_turns};

/// Repeats of everything timed; odd, so that the median is one of them.
const REPEATS: usize = 5;

/// Rounds in which two readers take turns, and the other begins in each; even.
const ROUNDS: usize = 8;

/// Frames of one turn: some 30 ms, one bin and more of network time.
const TURN: u64 = 100_000;

/// Table size for the runs in which every SYN of the flood must be tracked: five million are below its emergency mark.
const ROOM: usize = 8_000_000;

/// Flags of TCP (RFC 9293 section 3.1).
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// Set in the environment of the process that measures memory: the number of open entries.
const CHILD: &str = "HALFOPEN_BENCH_OPEN";

/// Forged SYNs a second: five million within the 63 s for which an attempt stays open.
const FLOOD_RATE: f64 = 100_000.0;

fn main() {
    if let Ok(open) = std::env::var(CHILD) {
        return measure_memory(open.parse().expect("a number"));
    }
    let small = std::env::args().any(|argument| argument == "--small");
    let scale = if small { 50 } else { 1 };
    let open = 5_000_000 / scale;
    println!("{}\n", machine());
    throughput(open, 45 / scale.min(15));
    memory(open);
    crowding(open, 10_000);
    scrape(open);
}

fn throughput(syns: u64, seconds: u64) {
    println!(
        "| trace | frames | reader | ns a frame | times bare libpcap | frames a second | processor ns a frame | times bare libpcap |"
    );
    println!("| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |");
    let directory = Directory::make();
    let flood = directory.0.join("flood.pcap");
    let mix = directory.0.join("mix.pcap");
    write(flood_of(syns, Answers::Drop).stream(), &flood);
    write(mix_of(seconds).stream(), &mix);
    let traces = [("random SYN flood", &flood), ("handshakes and flood", &mix)];
    for (name, path) in traces {
        compare(name, path);
    }
    println!(
        "\n| trace | turns of each | detection adds to the time a frame: all turns | lower quartile | median | upper quartile | to the processor time, all turns |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    let turn = (TURN * syns / 5_000_000) as u32;
    for (name, path) in traces {
        added_by_detection(name, path, turn);
    }
    println!();
}

/// The sensor with detection beside the one without, in turns within one trace; each begins as often as the other. What a turn took is
/// held against the other's turn over the same frames.
fn added_by_detection(name: &str, path: &Path, frames: u32) {
    let config = roomy();
    let (without, with) =
        (|turns: &mut Turns| track(turns, &config), |turns: &mut Turns| replay(turns, &config));
    let mut pairs: Vec<[Took; 2]> = Vec::new();
    for round in 0..ROUNDS {
        let [mut plain, mut judged] = if round % 2 == 0 {
            in_turns(path, frames, [&without, &with])
        } else {
            let [judged, plain] = in_turns(path, frames, [&with, &without]);
            [plain, judged]
        };
        pairs.extend(plain.drain(..).zip(judged.drain(..)).map(|(plain, judged)| [plain, judged]));
    }
    let added = |pair: [f64; 2]| (pair[1] / pair[0] - 1.0) * 100.0;
    let in_all = |of: usize| added([0, 1].map(|who| pairs.iter().map(|pair| pair[who][of]).sum()));
    let mut each: Vec<f64> = pairs.iter().map(|pair| added([pair[0][0], pair[1][0]])).collect();
    each.sort_by(f64::total_cmp);
    let at = |quarters: usize| each[(each.len() - 1) * quarters / 4];
    println!(
        "| {name} | {} | {:+.1} % | {:+.1} % | {:+.1} % | {:+.1} % | {:+.1} % |",
        pairs.len(),
        in_all(0),
        at(1),
        at(2),
        at(3),
        in_all(1)
    );
}

fn roomy() -> Config {
    let mut config = Config::default();
    config.table.entries = ROOM;
    config
}

/// One way to read a whole file.
type Reader<'a> = Box<dyn FnMut() + 'a>;

/// Every reader over one file, taking turns.
fn compare(name: &str, path: &Path) {
    let frames = bare(path);
    let syn_filter = "tcp[13]&2!=0";
    let mut readers: [(&str, Reader<'_>); 7] = [
        ("bare libpcap loop", Box::new(|| assert_eq!(bare(path), frames))),
        ("libpcap and a dashmap, nothing else", Box::new(|| hashed(path))),
        ("halfopen, as configured by default", Box::new(|| replay(open(path), &Config::default()))),
        ("halfopen, room for 8,000,000 entries", Box::new(|| replay(open(path), &roomy()))),
        ("the same without detection", Box::new(|| track(open(path), &roomy()))),
        ("tcpdump -w /dev/null", Box::new(|| tcpdump(path, &[]))),
        ("tcpdump -w /dev/null 'tcp[13]&2!=0'", Box::new(|| tcpdump(path, &[syn_filter]))),
    ];
    let mut times = vec![Vec::with_capacity(REPEATS); readers.len()];
    for _ in 0..REPEATS {
        for ((_, read), times) in readers.iter_mut().zip(&mut times) {
            let begun = Instant::now();
            let busy = processor(read);
            times.push((begun.elapsed().as_secs_f64(), busy));
        }
    }
    let median_of = |times: &[(f64, f64)], of: fn(&(f64, f64)) -> f64| median(times.iter().map(of).collect());
    let passed: Vec<f64> = times.iter().map(|times| median_of(times, |both| both.0)).collect();
    let busy: Vec<f64> = times.iter().map(|times| median_of(times, |both| both.1)).collect();
    for (number, (reader, _)) in readers.iter().enumerate() {
        let [each, processor] = [passed[number], busy[number]].map(|seconds| seconds / frames as f64);
        println!(
            "| {name} | {frames} | {reader} | {:.0} | {:.2} | {:.0} | {:.0} | {:.2} |",
            each * 1e9,
            passed[number] / passed[0],
            1.0 / each,
            processor * 1e9,
            busy[number] / busy[0]
        );
    }
}

/// Resident memory of another process, before and after so many entries are open in it.
fn memory(open: u64) {
    let program = std::env::current_exe().expect("a path");
    let output = Command::new(program).env(CHILD, open.to_string()).output().expect("this program, again");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    println!("| open entries | resident before, MiB | after, MiB | bytes an entry |");
    println!("| ---: | ---: | ---: | ---: |");
    println!("{}\n", String::from_utf8_lossy(&output.stdout).trim());
}

fn measure_memory(open: u64) {
    let mut config = Config::default();
    config.table.entries = ROOM;
    let before = resident();
    let sensor = Sensor::new(&config, Box::new(|_| {}));
    sensor.run_source(SynthSource::new(flood_of(open, Answers::Drop).stream())).expect("no errors in memory");
    let after = resident();
    let counts = sensor.snapshot().handshakes;
    let held = counts.open_syn_sent + counts.open_syn_received;
    let each = match held {
        0 => "none held".to_owned(),
        held => format!("{:.1}", (after - before) / held as f64),
    };
    println!("| {held} | {:.1} | {:.1} | {each} |", before / f64::from(1 << 20), after / f64::from(1 << 20));
}

/// Resident set of this process, bytes (proc(5), `VmRSS`).
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a resident set");
    let kib = line.split_whitespace().nth(1).and_then(|word| word.parse::<f64>().ok()).expect("a number");
    kib * 1024.0
}

/// What one and the same frames cost with many entries open, and with few.
fn crowding(many: u64, few: u64) {
    let handshakes = Handshakes {
        rate: 40_000.0,
        start: Duration::from_secs(51),
        up: 0,
        down: 0,
        rtt_min: Duration::from_millis(1),
        rtt_mean: Duration::from_millis(1),
        idle: Duration::from_millis(1),
        clients: "203.0.113.0/24".to_owned().try_into().expect("a prefix"),
        ..Handshakes::default()
    };
    let scenario = Scenario::new(3, Duration::from_secs(55)).with(Traffic::Handshakes(handshakes));
    let mut frames = MemorySource::new("handshakes");
    scenario.stream().for_each(|at, frame| frames.push(at, LinkType::ETHERNET, frame.len() as u32, frame));

    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..REPEATS {
        for (open, times) in [many, few].into_iter().zip(&mut times) {
            let mut config = Config::default();
            config.table.entries = ROOM;
            let sensor = Sensor::new(&config, Box::new(|_| {}));
            sensor.run_source(SynthSource::new(flood_of(open, Answers::Drop).stream())).expect("no errors");
            frames.rewind();
            times.push(processor(|| sensor.run_source(&mut frames).expect("no errors in memory")));
        }
    }
    let [many_time, few_time] = times.map(|times| median(times) / frames.len() as f64 * 1e9);
    println!("| open entries | ns a frame, whole pipeline, frames from memory |");
    println!("| ---: | ---: |");
    println!("| {few} | {few_time:.0} |");
    println!("| {many} | {many_time:.0} ({:.2} times) |", many_time / few_time);
}

/// How long a scrape takes while a flood runs through the sensor and a million entries and more are open.
fn scrape(syns: u64) {
    let config = roomy();
    let sensor = Sensor::new(&config, Box::new(|_| {}));
    let metrics = Metrics::new(config.web.top_servers);
    let done = AtomicBool::new(false);
    let mut times = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            sensor.run_source(SynthSource::new(flood_of(syns, Answers::Drop).stream())).expect("no errors");
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            times.push(timed(|| drop(std::hint::black_box(metrics.render(&sensor.snapshot())))));
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let worst = times.iter().copied().fold(0.0, f64::max) * 1e3;
    println!("\n| scrapes during the flood | median ms | worst ms | bytes |");
    println!("| ---: | ---: | ---: | ---: |");
    let bytes = metrics.render(&sensor.snapshot()).len();
    let count = times.len();
    println!("| {count} | {:.2} | {worst:.2} | {bytes} |", median(times) * 1e3);
}

fn timed(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// Seconds of processor time, of all threads and of children: on a machine with other work, what a frame costs rather than how long
/// it waited for its turn.
fn processor(work: impl FnOnce()) -> f64 {
    let (own, children) = (own_time(), children_time());
    work();
    own_time() - own + children_time() - children
}

/// Processor time of this process, seconds.
fn own_time() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Processor time of the children waited for, seconds (proc(5), `stat`, fields 16 and 17, in hundredths).
fn children_time() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let after_name = text.rsplit(')').next().expect("a name in parentheses");
    let words: Vec<&str> = after_name.split_whitespace().collect();
    [13, 14].iter().filter_map(|&field| words[field].parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn flood_of(count: u64, answers: Answers) -> Scenario {
    let flood = Flood { rate: FLOOD_RATE, count, answers, ..Flood::default() };
    Scenario::new(1, Duration::from_secs(3_600)).with(Traffic::Flood(flood))
}

fn mix_of(seconds: u64) -> Scenario {
    let handshakes = Handshakes { rate: 2_000.0, ..Handshakes::default() };
    let flood = Flood { rate: 20_000.0, dispersion: 1.0, answers: Answers::Cookie, ..Flood::default() };
    Scenario::new(2, Duration::from_secs(seconds))
        .with(Traffic::Handshakes(handshakes))
        .with(Traffic::Flood(flood))
}

fn write(stream: Stream, path: &Path) {
    let mut writer = PcapWriter::create(path).expect("room for a file");
    stream.for_each(|at, frame| writer.write(at, frame).expect("room on the disk"));
    writer.finish().expect("room on the disk");
}

/// Processor and kernel, without which no figure means anything.
fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{}, {cores} cores, Linux {}", model.trim_start_matches([':', ' ', '\t']), kernel.trim())
}

/// Both traces; deleted when dropped.
struct Directory(PathBuf);

impl Directory {
    fn make() -> Self {
        let path = std::env::temp_dir().join(format!("halfopen-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a writable directory for temporary files");
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
