//! What looking at a sensor costs while it holds a million entries: a scrape with 50 servers, and the page with five viewers.
//! `cargo bench --bench looks` prints a table, and ends with status 1 where a bound of the project is not kept.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)] // a measurement speaks
#![allow(clippy::disallowed_methods)] // and reads clocks

use halfopen::capture::{CaptureError, FrameSource, InterfaceCounters, SourceEvent};
use halfopen::config::{Config, ListenAddress, TelemetryPath};
use halfopen::pipeline::Sensor;
use halfopen::report::http::{Guard, Listeners, Web};
use halfopen::report::metrics::Metrics;
use halfopen::report::overview::Process;
use halfopen::report::snapshot::SnapshotSource;
use halfopen::synth::Scenario;
use halfopen::synth::address::Targets;
use halfopen::synth::kinds::{Answers, Flood, Handshakes};
use halfopen::synth::scenario::Traffic;
use halfopen::synth::source::SynthSource;
use halfopen::time::Timestamp;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Entries held.
const ENTRIES: u64 = 1_000_000;

/// The bounds: bytes and time of a scrape, share of a core for five viewers.
const SCRAPE_BYTES: usize = 300_000;
const SCRAPE_TIME: Duration = Duration::from_millis(20);
const VIEWERS_SHARE: f64 = 0.01;

/// Ordinary traffic before the flood.
const QUIET: Duration = Duration::from_secs(300);

/// Viewers, and how long they look.
const VIEWERS: usize = 5;
const LOOKS: usize = 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--view") {
        view(&arguments[at + 1]);
        return ExitCode::SUCCESS;
    }
    measure()
}

/// A viewer, in a process of its own: the page each second, as its script asks for it.
fn view(url: &str) {
    let agent = ureq::agent();
    for _ in 0..LOOKS {
        let page = agent.get(url).call().unwrap().body_mut().read_to_string().unwrap();
        assert!(page.ends_with("</html>\n"));
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// A flood on 64 servers: fills the table, then goes on or stands still as it is told.
struct Filler {
    inner: SynthSource,
    /// SYNs of the flood so far.
    given: u64,
    flood_begins: Timestamp,
    full: Option<mpsc::Sender<()>>,
    going: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
}

impl FrameSource for Filler {
    fn next_event(&mut self) -> Result<SourceEvent<'_>, CaptureError> {
        if self.given == ENTRIES
            && let Some(full) = self.full.take()
        {
            let _ = full.send(());
        }
        while self.given >= ENTRIES && !self.going.load(Ordering::Relaxed) {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(SourceEvent::End);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let event = self.inner.next_event();
        if let Ok(SourceEvent::Frame(frame)) = &event {
            self.given += u64::from(frame.ts >= self.flood_begins);
        }
        // 50,000 a second, as the stamps say.
        if self.given > ENTRIES && self.given.is_multiple_of(500) {
            std::thread::sleep(Duration::from_millis(10));
        }
        event
    }

    fn publish(&mut self) {
        self.inner.publish();
    }

    fn is_live(&self) -> bool {
        true
    }

    fn counters(&self) -> Vec<Arc<InterfaceCounters>> {
        self.inner.counters()
    }
}

/// Five minutes of ordinary traffic, so that the page has all it can show, then the flood.
fn flood() -> Scenario {
    let servers = Targets::try_from("192.0.2.0/26:443".to_owned()).unwrap();
    let handshakes = Handshakes { servers, rate: 50.0, duration: Some(QUIET), ..Handshakes::default() };
    // Slow enough that a million are open after 20 seconds and none of them is due for a minute.
    let flood = Flood {
        servers,
        rate: 50_000.0,
        dispersion: 1.0,
        answers: Answers::Drop,
        start: QUIET,
        ..Flood::default()
    };
    let length = QUIET + Duration::from_secs(80);
    Scenario::new(3, length).with(Traffic::Handshakes(handshakes)).with(Traffic::Flood(flood))
}

fn measure() -> ExitCode {
    // Room for the million without the measures of a table nearly full.
    let config = Config::parse("bench", "[table]\nentries = 4_000_000\n").unwrap();
    let sensor = Sensor::new(&config, Box::new(|_| ()));
    let (going, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (full, wait) = mpsc::channel();
    let scenario = flood();
    let filler = Filler {
        inner: SynthSource::new(scenario.stream()),
        given: 0,
        flood_begins: scenario.start().plus(QUIET),
        full: Some(full),
        going: Arc::clone(&going),
        stop: Arc::clone(&stop),
    };
    let running = Arc::clone(&sensor);
    let packets = std::thread::spawn(move || running.run_source(filler));
    wait.recv().unwrap();

    let metrics = Arc::new(Metrics::new(50));
    let scrape = |metrics: &Metrics| {
        let begun = Instant::now();
        let text = metrics.render(&sensor.snapshot());
        (begun.elapsed(), text)
    };
    println!("| what | figure | bound |\n| --- | ---: | ---: |");
    // While the flood goes on.
    going.store(true, Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(200));
    let mut times = Vec::new();
    let mut last = String::new();
    while times.len() < 200 && !packets.is_finished() {
        let (took, text) = scrape(&metrics);
        times.push(took);
        last = text;
        std::thread::sleep(Duration::from_millis(5));
    }
    going.store(false, Ordering::Relaxed);
    times.sort();
    let open = sensor.snapshot().handshakes;
    let open = open.open_syn_sent + open.open_syn_received;
    let servers = last.lines().filter(|line| line.starts_with("halfopen_server_attempts_total{")).count();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    println!("| entries open | {open} | at least {ENTRIES} |");
    println!("| servers with series | {servers} | 51 |");
    println!("| a scrape | {} kB | {} kB |", last.len() / 1000, SCRAPE_BYTES / 1000);
    println!(
        "| a scrape during the flood, median of {} | {:.1} ms | {} ms |",
        times.len(),
        ms(median),
        SCRAPE_TIME.as_millis()
    );
    println!("| the slowest | {:.1} ms | |", ms(worst));

    let share = viewers(&sensor, metrics);
    println!(
        "| the page with {VIEWERS} viewers | {:.2} % of a core | {} % |",
        share * 100.0,
        VIEWERS_SHARE * 100.0
    );
    stop.store(true, Ordering::Relaxed);
    packets.join().unwrap().unwrap();
    let bounds = [
        ("entries open", open >= ENTRIES),
        ("servers with series", servers == 51),
        ("bytes of a scrape", last.len() <= SCRAPE_BYTES),
        ("time of a scrape", median <= SCRAPE_TIME),
        ("the page with viewers", share <= VIEWERS_SHARE),
    ];
    let broken: Vec<&str> = bounds.iter().filter(|(_, kept)| !kept).map(|(what, _)| *what).collect();
    if broken.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("looks: not within its bound: {}", broken.join(", "));
    ExitCode::FAILURE
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The share of a core that this process takes while five others look, less what it takes at rest.
fn viewers(sensor: &Arc<Sensor>, metrics: Arc<Metrics>) -> f64 {
    let connections = metrics.connections();
    let source = Arc::clone(sensor) as Arc<dyn SnapshotSource>;
    let web = Web::new(source, metrics, TelemetryPath::default(), Box::new(|| Ok(String::new())));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let any: ListenAddress = "127.0.0.1:0".parse().unwrap();
    let listeners = Listeners::bind(&[any], &[]).unwrap();
    let url = format!("http://{}/", listeners.addresses()[0]);
    let (_keep, stopping) = tokio::sync::watch::channel(false);
    runtime.spawn(listeners.serve(web.router(), Arc::new(Guard::open()), connections, stopping));

    let share = |during: &dyn Fn()| {
        let (begun, before) = (Instant::now(), Process::now().cpu);
        during();
        (Process::now().cpu - before) / begun.elapsed().as_secs_f64()
    };
    let rest = share(&|| std::thread::sleep(Duration::from_secs(5)));
    let looking = share(&|| {
        let view = |_| Command::new(std::env::current_exe().unwrap()).args(["--view", &url]).spawn().unwrap();
        let viewers: Vec<_> = (0..VIEWERS).map(view).collect();
        for mut viewer in viewers {
            assert!(viewer.wait().unwrap().success());
        }
    });
    (looking - rest).max(0.0)
}
