//! Soak: mixed traffic for a long time through what a live sensor runs, with everything around it that a live sensor does: the
//! journal, the state, evidence on disk, scrapes, listings, reloads. `make test` does little of it; `make soak` a hundred million frames.
//!
//! After the first tenth the whole process must hold no more memory than in it, after its spring tide; and every law must hold whenever
//! somebody asks.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test that fails should say so at once; how long it took is measured by the wall clock"
)]
#![allow(unreachable_pub, reason = "shared with other tests")]

mod support;

use halfopen::capture::{CaptureError, FrameSource, InterfaceCounters, SourceEvent};
use halfopen::config::{Config, StateConfig};
use halfopen::pipeline::Sensor;
use halfopen::report::evidence::{DiskWriter, FrameStore};
use halfopen::report::journal::{Journal, JournalCounts};
use halfopen::report::metrics::Metrics;
use halfopen::report::snapshot::{Snapshot, SnapshotSource};
use halfopen::report::state::{Found, StateFile, StateWriter};
use halfopen::synth::Scenario;
use halfopen::synth::source::SynthSource;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::laws::counted;

/// Frames: 200,000, or what the environment says; `make soak` says 100,000,000.
fn frames() -> u64 {
    std::env::var("HALFOPEN_SOAK").ok().and_then(|text| text.parse().ok()).unwrap_or(200_000)
}

/// About so many frames a second of network time come of `MIX`.
const FRAMES_A_SECOND: u64 = 55_000;

/// When the spring tide is over and what it left has expired; what the process holds is compared with what it holds from here on.
const AFTER_THE_SPRING_TIDE: Duration = Duration::from_secs(130);

/// As far the first tenth must reach for the comparison to mean something: two tides more.
const TWO_TIDES: Duration = Duration::from_secs(235);

/// A minute's tide: the same comes again every 60 s. Before it one of both families, larger than those that follow, opens every shard of
/// the table as far as it will ever be: a shard that is more than half full when removals have worn it out doubles, and never shrinks
/// (hashbrown's `reserve_rehash`), and which of them are worn out when is chance, for hours. After the spring tide none is more than
/// half full again. What still grows are the rings of those that wait for their grace age (`track/waiting.rs`): two bytes an attempt
/// until each has come round once, after 2,097,152 attempts, at 4 MiB. The comparison bears that.
const MIX: &str = r#"
seed = 11
[[traffic]]                   # ordinary load, with everything that ends a handshake otherwise
kind = "handshakes"
servers = "192.0.2.0/28:80"
rate = 2500
up = 0
down = 0
dispersion = 2
refused = 0.03
unanswered = 0.01
abandoned = 0.01
reset = 0.02
fast_open = 0.02
simultaneous = 0.01
accept_overflow = 0.005
reset_on_data = 0.002
ecn = 0.1
[[traffic]]
kind = "handshakes"
servers = "[2001:db8::10]:443"
clients = "2001:db8:2::/64"
rate = 500
up = 1
down = 2
[[traffic]]
kind = "handshakes"
servers = "198.51.100.200:443"
clients = "203.0.113.0/24"
rate = 100
encapsulation = { vxlan = 7 }
[[traffic]]                   # a flood that comes every minute
kind = "flood"
servers = "192.0.2.10:80"
rate = 1
pulse = { count = 200000, width = 20, period = 60 }
syn_acks = 3
[[traffic]]                   # the spring tide
kind = "flood"
servers = "192.0.2.20:80"
sources = "198.19.0.0/16"
rate = 10000
start = 10
duration = 50
answers = "drop"
[[traffic]]
kind = "flood"
servers = "[2001:db8::30]:443"
sources = "2001:db8:3::/48"
rate = 600
start = 10
duration = 50
answers = "drop"
[[traffic]]                   # one that never ends
kind = "flood"
servers = "[2001:db8::20]:443"
sources = "2001:db8:1::/48"
rate = 300
[[traffic]]
kind = "flood"
servers = "192.0.2.128/25:80"
rate = 500
[[traffic]]
kind = "scan"
targets = "192.0.2.10:1-60000"
rate = 100
open = 0.01
silent = 0.5
[[traffic]]
kind = "backscatter"
rate = 50
copies = 3
"#;

/// A scenario, counted, that ends after so many frames.
struct Tide {
    source: SynthSource,
    left: u64,
    fed: Arc<AtomicU64>,
}

impl FrameSource for Tide {
    fn next_event(&mut self) -> Result<SourceEvent<'_>, CaptureError> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(SourceEvent::End) };
        let event = self.source.next_event()?;
        if matches!(event, SourceEvent::Frame(_)) {
            self.left = left;
            self.fed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(event)
    }

    fn publish(&mut self) {
        self.source.publish();
    }

    fn counters(&self) -> Vec<Arc<InterfaceCounters>> {
        self.source.counters()
    }
}

/// Bytes resident now, by the kernel's count; none where it does not say.
fn resident() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// What must hold whenever somebody asks.
fn laws(snapshot: &Snapshot, config: &Config) {
    let open = counted(snapshot);
    assert!(open <= snapshot.table.limit, "{open} of {}", snapshot.table.limit);
    assert!(snapshot.table.bytes <= config.limits.memory);
    assert!(snapshot.half_open.suspected <= snapshot.half_open.suspected_limit);
    // Those that ended are kept up to the cap; at most 256 run.
    assert!(snapshot.incidents.len() <= config.detect.max_incidents + 256, "{}", snapshot.incidents.len());
}

/// A folder of this test's own, deleted with the value.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn configured(folder: &Path) -> Config {
    let mut config = Config::default();
    config.journal.path = Some(folder.join("incidents.jsonl"));
    config.evidence.path = Some(folder.join("evidence"));
    config.state = StateConfig {
        path: Some(folder.join("state.json")),
        every: Duration::from_secs(10),
        ..config.state.clone()
    };
    fs::create_dir_all(folder.join("evidence")).unwrap();
    // Small, so that the first tenth reaches these caps too; the defaults take some 1,500 s of such incidents.
    (config.detect.max_incidents, config.evidence.memory_bytes) = (48, 1 << 20);
    config.fit(1).unwrap();
    config
}

#[test]
fn a_long_day_of_mixed_traffic_costs_no_more_memory_than_its_first_tenth() {
    let frames = frames();
    let scratch = Scratch(std::env::temp_dir().join(format!("halfopen-soak-{}", std::process::id())));
    fs::create_dir_all(&scratch.0).unwrap();
    let config = configured(&scratch.0);

    let written: Arc<JournalCounts> = Arc::default();
    let journal = Journal::start(&config.journal, &written).unwrap().unwrap();
    let (recorder, found) = (journal.recorder(), journal.recorder());
    let recorded: Arc<AtomicU64> = Arc::default();
    let (entries, discoveries) = (Arc::clone(&recorded), Arc::clone(&recorded));
    let sensor = Sensor::new(
        &config,
        Box::new(move |entry| {
            entries.fetch_add(1, Ordering::Relaxed);
            recorder.record(entry);
        }),
    );
    sensor.on_discovery(Box::new(move |discovery| {
        discoveries.fetch_add(1, Ordering::Relaxed);
        found.record_sighting(discovery);
    }));
    let (states, evidence) = (Arc::default(), Arc::default());
    let state = config.state.path.clone().unwrap();
    let remembering = Arc::clone(&sensor);
    let keeper = StateWriter::start(
        StateFile::new(state.clone()),
        &config.state,
        Box::new(move || remembering.remembered()),
        &states,
    )
    .unwrap();
    let store = FrameStore::new(&config.evidence, &evidence).unwrap();
    let disk = DiskWriter::start(&store).unwrap().unwrap();
    sensor.keep_evidence(store);

    let scenario = format!("duration = {}\n{MIX}", (frames / FRAMES_A_SECOND * 2).max(30));
    let fed: Arc<AtomicU64> = Arc::default();
    let scenario = Scenario::from_toml(&scenario).unwrap();
    let begin = scenario.start();
    let source = SynthSource::new(scenario.stream());
    let tide = Tide { source, left: frames, fed: Arc::clone(&fed) };
    let over = AtomicBool::new(false);
    let began = Instant::now();
    // Most held in each tenth, of the first since the spring tide; most of all; and how far the first tenth came, network time.
    let (tenths, most, first) = std::thread::scope(|scope| {
        let beside = scope.spawn(|| {
            let metrics = Metrics::new(config.web.top_servers);
            let (mut tenths, mut most, mut tenth, mut first) = ([0; 10], 0, 0, Duration::ZERO);
            while !over.load(Ordering::Relaxed) {
                let snapshot = sensor.snapshot();
                laws(&snapshot, &config);
                assert!(metrics.render(&snapshot).len() > 1000);
                assert!(sensor.embryonic(None, 100).len() <= 100);
                assert!(sensor.history().len() <= 10_000);
                sensor.half_open(100);
                let (now, held) = (fed.load(Ordering::Relaxed), resident().unwrap_or(0));
                let reached = snapshot.network_time.map_or(Duration::ZERO, |time| time.since(begin));
                most = held.max(most);
                let at = ((now * 10 / frames) as usize).min(9);
                if reached >= AFTER_THE_SPRING_TIDE {
                    tenths[at] = held.max(tenths[at]);
                }
                if at == 0 {
                    first = reached;
                }
                if at > tenth {
                    tenth = at;
                    sensor.reload(&config);
                    let (seconds, counts) = (began.elapsed().as_secs_f64(), &snapshot.handshakes);
                    println!(
                        "{now} frames, {seconds:.0} s: {:.1} MiB; {} attempts open, the table {:.1} MiB",
                        mib(held),
                        counts.open_syn_sent + counts.open_syn_received,
                        mib(snapshot.table.bytes)
                    );
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            (tenths, most, first)
        });
        sensor.run_source(tide).unwrap();
        over.store(true, Ordering::Relaxed);
        beside.join().unwrap()
    });
    let seconds = began.elapsed().as_secs_f64();
    let at_the_end = resident().unwrap_or(0);

    let snapshot = sensor.snapshot();
    laws(&snapshot, &config);
    assert_eq!(fed.load(Ordering::Relaxed), frames, "the scenario is too short");
    assert_eq!(snapshot.frames.read, frames, "every frame is counted once");
    assert!(snapshot.incidents.iter().any(|incident| incident.server == "192.0.2.10:80"), "no flood found");
    let closed = snapshot.handshakes.closed;
    assert!(closed[..5].iter().all(|&count| count > 0) || frames < 1_000_000, "outcomes missing: {closed:?}");

    assert!(journal.finish(Duration::from_secs(5)) && keeper.finish(Duration::from_secs(5)));
    assert!(disk.finish(Duration::from_secs(5)));
    let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
    assert_eq!((count(&written.errors), count(&written.dropped)), (0, 0));
    assert_eq!(count(&written.written), count(&recorded), "every change is in the journal");
    for line in fs::read_to_string(config.journal.path.as_ref().unwrap()).unwrap().lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
    assert!(matches!(StateFile::new(state).read(), Found::State(..)), "the state cannot be read back");

    let span = snapshot.network_time.unwrap().since(begin).as_secs_f64();
    println!(
        "{frames} frames in {seconds:.0} s ({:.2} million a second), {span:.0} s of network time; {} attempts, {} changes of incidents; \
         memory: at most {:.1} MiB, {:.1} MiB at the end; most in each tenth, after the spring tide: {}",
        frames as f64 / seconds / 1e6,
        snapshot.handshakes.attempts,
        count(&recorded),
        mib(most),
        mib(at_the_end),
        tenths.map(|held| format!("{:.1}", mib(held))).join(" ")
    );
    let ceiling = config.limits.memory - u64::from(config.capture.buffer);
    assert!(most <= ceiling, "{:.0} MiB of {:.0}", mib(most), mib(ceiling));
    if first >= TWO_TIDES {
        let (early, late) = (tenths[0], tenths[1..].iter().copied().max().unwrap_or(0));
        assert!(late as f64 <= early as f64 * 1.05, "from {:.1} to {:.1} MiB", mib(early), mib(late));
    }
}
