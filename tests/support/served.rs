//! A sensor beside the demonstration's shop, and its page on a port of its own; in the test's own process.

use super::wait_for;
use halfopen::capture::{CaptureError, FrameSource, InterfaceCounters, SourceEvent};
use halfopen::config::{Addresses, Config, ListenAddress, TelemetryPath};
use halfopen::pipeline::Sensor;
use halfopen::report::http::{Guard, Listeners, Web};
use halfopen::report::metrics::Metrics;
use halfopen::report::snapshot::SnapshotSource;
use halfopen::synth::Scenario;
use halfopen::synth::source::SynthSource;
use halfopen::time::Timestamp;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::sync::watch;

/// A source of snapshots, served on a port of its own until the value is dropped.
pub struct Served {
    pub base: String,
    stop: watch::Sender<bool>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Served {
    pub fn start(source: Arc<dyn SnapshotSource>) -> Self {
        Self::start_at(source, "127.0.0.1:0")
    }

    pub fn start_at(source: Arc<dyn SnapshotSource>, address: &str) -> Self {
        Self::showing(source, address, Addresses::Full)
    }

    /// With so much of the addresses of others.
    pub fn showing(source: Arc<dyn SnapshotSource>, address: &str, addresses: Addresses) -> Self {
        Self::behind(source, address, addresses, Guard::open())
    }

    /// For whom this guard lets in.
    pub fn behind(
        source: Arc<dyn SnapshotSource>,
        address: &str,
        addresses: Addresses,
        guard: Guard,
    ) -> Self {
        let metrics = Arc::new(Metrics::new(50));
        let connections = metrics.connections();
        let reload = Box::new(|| Ok(String::new()));
        let web = Web::showing(source, metrics, TelemetryPath::default(), reload, addresses);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let address: ListenAddress = address.parse().unwrap();
        let listeners = Listeners::bind(&[address], &[]).unwrap();
        let base = format!("http://{}/", listeners.addresses()[0]);
        let (stop, stopping) = watch::channel(false);
        runtime.spawn(listeners.serve(web.router(), Arc::new(guard), connections, stopping));
        Self { base, stop, runtime: Some(runtime) }
    }

    pub fn json(&self, path: &str) -> Value {
        ureq::get(format!("{}{path}", self.base)).call().unwrap().body_mut().read_json().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(2));
        }
    }
}

pub fn example(name: &str) -> String {
    std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)).unwrap()
}

/// A scenario that stands still before its end: the link stays up and silent.
struct Held {
    inner: SynthSource,
    counters: Arc<InterfaceCounters>,
    last: Timestamp,
    reached: mpsc::SyncSender<()>,
    told: bool,
    release: mpsc::Receiver<()>,
}

impl FrameSource for Held {
    fn next_event(&mut self) -> Result<SourceEvent<'_>, CaptureError> {
        if self.told {
            let _ = self.release.recv();
            return Ok(SourceEvent::End);
        }
        match self.inner.next_event()? {
            SourceEvent::Frame(frame) => {
                self.last = frame.ts;
                Ok(SourceEvent::Frame(frame))
            }
            SourceEvent::End => {
                self.told = true;
                self.counters.up.store(true, Ordering::Relaxed);
                Ok(SourceEvent::Idle(self.last))
            }
            SourceEvent::Idle(at) => Ok(SourceEvent::Idle(at)),
        }
    }

    fn publish(&mut self) {
        self.inner.publish();
        if self.told {
            let _ = self.reached.try_send(());
        }
    }

    fn counters(&self) -> Vec<Arc<InterfaceCounters>> {
        vec![Arc::clone(&self.counters)]
    }
}

/// The demonstration up to this second, as `make demo` shows it. Runs until the sender is dropped.
pub fn demonstration(seconds: u64) -> (Arc<Sensor>, mpsc::Sender<()>) {
    let mut scenario = Scenario::from_toml(&example("demo.toml")).unwrap();
    scenario.duration = Duration::from_secs(seconds);
    let config = Config::parse("demo-sensor.toml", &example("demo-sensor.toml")).unwrap();
    let sensor = Sensor::new(&config, Box::new(|_| ()));
    let (reached, wait) = mpsc::sync_channel(1);
    let (hold, release) = mpsc::channel();
    let inner = SynthSource::new(scenario.stream());
    let counters = Arc::clone(&inner.counters()[0]);
    let source = Held { inner, counters, last: Timestamp::EPOCH, reached, told: false, release };
    let running = Arc::clone(&sensor);
    std::thread::spawn(move || running.run_source(source));
    wait.recv().unwrap();
    // The counts are published right after the source's own.
    let all = sensor.snapshot().interfaces[0].frames;
    wait_for("every frame published", Duration::from_secs(10), || {
        let read = sensor.snapshot().frames.read;
        if read == all { Ok(()) } else { Err(format!("{read} of {all}")) }
    });
    (sensor, hold)
}
