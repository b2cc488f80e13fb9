//! The binary's own part: the live sensor. Threads for packets, tokio for everything else.

use super::notify::Notifier;
use super::reload::Reloader;
use super::sources::{self, LiveSource};
use super::{Failure, Status, captures, confine, files, state};
use crate::cli::RunArgs;
use crate::shutdown::{Asked, Signals};
use halfopen::capture::FrameSource;
use halfopen::capture::stop::StopHandle;
use halfopen::config::{CaptureConfig, Config, WebConfig};
use halfopen::detect::incident::JournalEntry;
use halfopen::os_error;
use halfopen::pipeline::Sensor;
use halfopen::report::evidence::{DiskWriter, FrameStore};
use halfopen::report::http::{Guard, Listeners, Web};
use halfopen::report::journal::Journal;
use halfopen::report::logs;
use halfopen::report::metrics::Metrics;
use halfopen::report::snapshot::SnapshotSource;
use halfopen::report::state::Nudge;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};

/// HTTP and signals need little; packets have threads of their own.
const WORKERS: usize = 2;

/// Within this the packet threads end after they are told: live sources look at the flag every 100 ms. With the farewell of the
/// HTTP side it stays below the two seconds of the contract.
const PATIENCE: Duration = Duration::from_millis(800);

/// Within this the journal and the evidence each write what still waits; a disk that hangs is not waited for.
const FLUSH: Duration = Duration::from_millis(100);

/// Runs until told to stop, or until no source is left.
pub(super) fn run(args: RunArgs) -> Result<Status, Failure> {
    let file = files::config_file(args.config_file.clone());
    let mut config = files::config(file.as_deref(), &args.log)?;
    args.override_config(&mut config);
    logs::start(config.log);
    CaptureConfig::check_interfaces(&config.capture.interfaces)
        .map_err(|why| Failure::Usage(format!("--interface: {why}")))?;
    tracing::info!(msg = "starting halfopen", version = env!("CARGO_PKG_VERSION"));

    // Everything that takes a right is opened before it is given up, and that before any thread is started.
    let running = |error: &dyn std::fmt::Display| Failure::Running(error.to_string());
    let listeners =
        Listeners::bind(&config.web.listen, &config.web.hosts).map_err(|error| running(&error))?;
    let stop = StopHandle::new();
    let opened = sources::live(&config.capture, &stop)?;
    // Before the table is made, and after the captures are known.
    let fit = config.fit(opened.len()).map_err(Failure::Usage)?;
    if let Some(was) = fit.table_was {
        let (is, limit) = (config.table.entries, config.limits.memory);
        tracing::warn!(
            msg = "half-open table made smaller, to stay under limits.memory",
            entries = is,
            configured = was,
            limit
        );
    }
    let guard = guard(&config.web)?;
    let notifier = Notifier::from_environment();
    let confined = confine::confine(&config, file.as_deref())?;

    let runtime = Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    let runtime = runtime.map_err(|error| {
        Failure::Running(format!("cannot start: {}; the host may be out of threads", os_error::words(&error)))
    })?;
    let open = Open { reckoned: fit.reckoned, listeners, guard, notifier, stop, sources: opened, confined };
    let result = start(&runtime, open, file, args, config);
    // Whatever still waits for a client is not waited for.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

/// What was opened with the rights the process no longer has.
struct Open {
    /// Most bytes of memory by the configuration.
    reckoned: u64,
    listeners: Listeners,
    guard: Guard,
    notifier: Option<Notifier>,
    stop: StopHandle,
    sources: Vec<(String, LiveSource)>,
    /// Which layers of confinement hold.
    confined: Vec<(&'static str, bool)>,
}

fn start(
    runtime: &Runtime,
    open: Open,
    file: Option<std::path::PathBuf>,
    args: RunArgs,
    config: Config,
) -> Result<Status, Failure> {
    let running = |error: &dyn std::fmt::Display| Failure::Running(error.to_string());
    let Open { reckoned, listeners, guard, notifier, stop, sources: opened, confined } = open;
    let restarts: Arc<AtomicU64> = Arc::default();
    let signals = runtime.block_on(async { Signals::listen() }).map_err(|error| running(&error))?;

    let counts = Arc::default();
    let journal = Journal::start(&config.journal, &counts).map_err(|error| running(&error))?;
    let recorder = journal.as_ref().map(Journal::recorder);
    let nudge: Arc<OnceLock<Nudge>> = Arc::default();
    let news = Arc::clone(&nudge);
    let hear = move |entry: &JournalEntry| {
        logs::incident(entry);
        if let Some(nudge) = news.get() {
            nudge.news();
        }
        if let Some(recorder) = &recorder {
            recorder.record(entry);
        }
    };
    let sensor = Sensor::new(&config, Box::new(hear));
    let recorder = journal.as_ref().map(Journal::recorder);
    sensor.on_discovery(Box::new(move |found| {
        logs::sighting(found);
        if let Some(recorder) = &recorder {
            recorder.record_sighting(found);
        }
    }));
    let states = Arc::default();
    let keeper = state::keep(&config.state, &sensor, &states).map_err(|error| running(&error))?;
    if let Some(keeper) = &keeper {
        let _ = nudge.set(keeper.nudge());
    }
    let evidence = Arc::default();
    let store = FrameStore::new(&config.evidence, &evidence);
    let writer =
        store.as_ref().map(DiskWriter::start).transpose().map_err(|error| running(&error))?.flatten();
    if let Some(store) = store {
        sensor.keep_evidence(store);
    }
    let metrics = Metrics::new(config.web.top_servers)
        .with_journal(counts)
        .with_evidence(evidence)
        .with_state(states)
        .with_confinement(confined)
        .with_restarts(Arc::clone(&restarts))
        .with_memory(config.limits.memory, reckoned);
    let metrics = Arc::new(metrics);
    let reloader =
        Reloader::new(file, args, (config.clone(), opened.len()), Arc::clone(&sensor), Arc::clone(&metrics));
    let for_web = Arc::clone(&reloader);
    let connections = metrics.connections();
    let web = Web::showing(
        Arc::clone(&sensor) as Arc<dyn SnapshotSource>,
        metrics,
        config.web.telemetry_path.clone(),
        Box::new(move || for_web.reload()),
        config.web.addresses,
    );
    let (quit, quitting) = watch::channel(false);
    announce(&listeners, &config.web, &guard);
    let serving = runtime.spawn(listeners.serve(web.router(), Arc::new(guard), connections, quitting));

    let ended = packet_threads(&sensor, opened, &config.capture, &stop, &restarts)?;
    let status = runtime.block_on(async {
        let watch = async {
            if let Some(notifier) = &notifier {
                notifier.tell("READY=1");
                notifier.watch(&sensor).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            status = supervise(signals, ended, &stop, &reloader, notifier.as_ref()) => status,
            () = watch => Ok(Status::Done),
        }
    });
    let _ = quit.send(true);
    // Answers that take longer than the farewell are cut off with the runtime.
    let _ = runtime.block_on(serving);
    if keeper.is_some_and(|keeper| !keeper.finish(FLUSH)) {
        tracing::warn!(
            msg = "the state as of the stop is not written, an older one is; see what its disk does"
        );
    }
    if journal.is_some_and(|journal| !journal.finish(FLUSH)) {
        tracing::warn!(msg = "the journal's last lines are not written; see what its disk does");
    }
    if writer.is_some_and(|writer| !writer.finish(FLUSH)) {
        tracing::warn!(msg = "the evidence's last frames are not written; see what its disk does");
    }
    tracing::info!(msg = "stopped");
    status
}

/// One thread for each source, supervised; each says in the end that it ended.
fn packet_threads(
    sensor: &Arc<Sensor>,
    opened: Vec<(String, LiveSource)>,
    config: &CaptureConfig,
    stop: &StopHandle,
    restarts: &Arc<AtomicU64>,
) -> Result<mpsc::UnboundedReceiver<String>, Failure> {
    let (tell, ended) = mpsc::unbounded_channel();
    for (name, source) in opened {
        tracing::info!(msg = "capturing", interface = name);
        let (sensor, restarts, tell) = (Arc::clone(sensor), Arc::clone(restarts), tell.clone());
        let (config, stop) = (config.clone(), stop.clone());
        let thread = std::thread::Builder::new().name(format!("capture-{name}"));
        let work = move || {
            let counters = source.counters();
            let again = || {
                let counters = counters.first().cloned().unwrap_or_default();
                LiveSource::resume(&config, stop.clone(), counters)
            };
            captures::run(&sensor, &name, source, again, &stop, &restarts);
            let _ = tell.send(name);
        };
        thread.spawn(work).map_err(|error| {
            Failure::Running(format!(
                "cannot start a capture thread: {}; the host may be out of threads",
                os_error::words(&error)
            ))
        })?;
    }
    Ok(ended)
}

/// Waits for signals and for sources that end; returns when all have ended or were told to.
async fn supervise(
    mut signals: Signals,
    mut ended: mpsc::UnboundedReceiver<String>,
    stop: &StopHandle,
    reloader: &Arc<Reloader>,
    notifier: Option<&Notifier>,
) -> Result<Status, Failure> {
    loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Stop => break,
                Asked::Reload => {
                    let reloader = Arc::clone(reloader);
                    tokio::task::spawn_blocking(move || reloader.reload());
                }
            },
            end = ended.recv() => match end {
                Some(interface) => tracing::warn!(msg = "capture ended", interface),
                None => return Err(Failure::Running("every capture ended; see the log".to_owned())),
            }
        }
    }
    tracing::info!(msg = "stopping");
    if let Some(notifier) = notifier {
        notifier.tell("STOPPING=1");
    }
    stop.stop();
    let all = async { while ended.recv().await.is_some() {} };
    if tokio::time::timeout(PATIENCE, all).await.is_err() {
        tracing::warn!(msg = "a capture did not end in time");
    }
    Ok(Status::Done)
}

/// Who gets in, as the web configuration says where there is one. Read while every file can still be.
fn guard(web: &WebConfig) -> Result<Guard, Failure> {
    let Some(file) = &web.config_file else { return Ok(Guard::open()) };
    Guard::load(file).map_err(|problems| Failure::Usage(problems.join(" | ")))
}

/// Says where everything is, and when it can be reached from elsewhere.
fn announce(listeners: &Listeners, web: &WebConfig, guard: &Guard) {
    let (encrypted, asks) = guard.demands();
    let scheme = if encrypted { "https" } else { "http" };
    for address in listeners.addresses() {
        let url = format!("{scheme}://{address}/");
        let metrics = format!("{scheme}://{address}{}", web.telemetry_path);
        tracing::info!(msg = "listening", url, metrics);
        if address.ip().to_canonical().is_loopback() {
            continue;
        }
        if !asks {
            tracing::warn!(
                msg = "reachable from other hosts without a password: whoever reaches it sees who talks to your servers; set web.config_file",
                %address
            );
        } else if !encrypted {
            tracing::warn!(msg = "passwords cross the network unencrypted; add tls_server_config to the web configuration", %address);
        }
    }
}
