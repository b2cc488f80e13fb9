//! The demonstration's parties: scripts/demo.sh runs them between two network namespaces, where it may make some. Where it may not, this
//! is a sensor beside a shop that does not exist: it plays examples/demo.toml at real speed, over and over, and serves the page;
//! that needs no right to capture and opens no socket but its own.

#![allow(clippy::print_stdout, clippy::print_stderr)] // a command line tool speaks
#![allow(clippy::disallowed_methods)] // it plays at the speed of the wall's clock

mod parties;

use halfopen::capture::{CaptureError, Frame, FrameSource, InterfaceCounters, LinkType, SourceEvent};
use halfopen::config::{Config, ListenAddress, TelemetryPath};
use halfopen::pipeline::Sensor;
use halfopen::report::http::{Guard, Listeners, Web};
use halfopen::report::metrics::Metrics;
use halfopen::report::snapshot::SnapshotSource;
use halfopen::synth::{Scenario, Stream};
use halfopen::time::Timestamp;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

/// What the sensor of the shop is told about it.
const CONFIG: &str = include_str!("../demo-sensor.toml");

const SCENARIO: &str = include_str!("../demo.toml");

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = match arguments[..] {
        ["serve", ref servers @ ..] => parties::serve(servers),
        ["clients", ref servers @ ..] => parties::clients(servers),
        ["flood", link, seconds] => parties::flood(link, seconds),
        ["scan", host, seconds] => parties::scan(host, seconds),
        ["door", from, to] => parties::door(from, to),
        _ => run(arguments.first().copied()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("demo: {why}");
            ExitCode::FAILURE
        }
    }
}

/// `address` is where the page is; any free port of this host by default.
fn run(address: Option<&str>) -> Result<(), String> {
    let address: ListenAddress = address.unwrap_or("127.0.0.1:10793").parse()?;
    let scenario = Scenario::from_toml(SCENARIO).map_err(|why| format!("examples/demo.toml: {why}"))?;
    let config = Config::parse("examples/demo-sensor.toml", CONFIG)
        .map_err(|problems| problems.lines().collect::<Vec<_>>().join("; "))?;
    let sensor = Sensor::new(&config, Box::new(|_| ()));
    let metrics = Arc::new(Metrics::new(config.web.top_servers));
    let connections = metrics.connections();
    let path = TelemetryPath::default();
    let reload = || Err("the demonstration has no configuration file to read again".to_owned());
    let web = Web::new(Arc::clone(&sensor) as Arc<dyn SnapshotSource>, metrics, path, Box::new(reload));

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|why| why.to_string())?;
    let listeners = Listeners::bind(&[address], &[]).map_err(|why| why.to_string())?;
    for address in listeners.addresses() {
        println!("the page:      http://{address}/");
        println!("in a terminal: cargo run --quiet -- top --url http://{address}");
        println!("the metrics:   http://{address}/metrics");
    }
    println!("{}", scenario.description);
    println!("the flood begins in a minute; all of it takes five, and begins again; Ctrl-C ends it");
    let (_keep, never) = tokio::sync::watch::channel(false);
    runtime.spawn(listeners.serve(web.router(), Arc::new(Guard::open()), connections, never));
    sensor.run_source(Player::new(scenario)).map_err(|why| why.to_string())
}

/// Plays a scenario at real speed, then again with another seed.
struct Player {
    scenario: Scenario,
    stream: Stream,
    frame: Vec<u8>,
    frames: u64,
    bytes: u64,
    counters: Arc<InterfaceCounters>,
}

impl Player {
    fn new(mut scenario: Scenario) -> Self {
        scenario.epoch = unix_time().as_secs() as i64;
        let counters = InterfaceCounters::new("demo");
        counters.up.store(true, Ordering::Relaxed);
        Self {
            stream: scenario.stream(),
            scenario,
            frame: Vec::with_capacity(256),
            frames: 0,
            bytes: 0,
            counters,
        }
    }

    fn next_stamp(&mut self) -> Timestamp {
        loop {
            if let Some(at) = self.stream.next_frame(&mut self.frame) {
                return at;
            }
            // Not before the last one is over: a stream ends with its last frame.
            let end = self.scenario.epoch + self.scenario.duration.as_secs() as i64;
            self.scenario.epoch = end.max(unix_time().as_secs() as i64);
            self.scenario.seed += 1;
            self.stream = self.scenario.stream();
        }
    }
}

impl FrameSource for Player {
    fn next_event(&mut self) -> Result<SourceEvent<'_>, CaptureError> {
        let ts = self.next_stamp();
        let due = Duration::from_nanos(u64::try_from(ts.as_nanos()).unwrap_or(0));
        std::thread::sleep(due.saturating_sub(unix_time()));
        let orig_len = self.frame.len() as u32;
        (self.frames, self.bytes) = (self.frames + 1, self.bytes + u64::from(orig_len));
        Ok(SourceEvent::Frame(Frame { ts, link: LinkType::ETHERNET, orig_len, data: &self.frame }))
    }

    fn publish(&mut self) {
        self.counters.frames.store(self.frames, Ordering::Relaxed);
        self.counters.bytes.store(self.bytes, Ordering::Relaxed);
    }

    fn is_live(&self) -> bool {
        true
    }

    fn counters(&self) -> Vec<Arc<InterfaceCounters>> {
        vec![Arc::clone(&self.counters)]
    }
}

fn unix_time() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
