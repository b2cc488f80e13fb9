//! The sensor on a real link, between a real kernel's listener, real clients and forged SYNs; scraped by a real Prometheus.
//!
//! Needs root, for it makes its own network namespaces; elsewhere each test says that it was skipped. Nothing is sent outside them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test binary"
)]
#![allow(unreachable_pub, reason = "its modules are its own")]

mod support;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use support::namespaces::{Namespaces, SERVER, SERVER_LINK};
use support::process::{Process, Signal};
use support::{has_tools, helper, run, wait_for};

const REAL: u64 = 500;
const REFUSED: u64 = 50;
const FORGED: u64 = 5_000;
const OPENED: u64 = REAL + REFUSED + FORGED;

/// How long anything on this machine may take to start or to answer, on a loaded one with two cores.
const PATIENCE: Duration = Duration::from_secs(30);

const WEB: &str = "127.0.0.1:10793";
const PROMETHEUS: &str = "127.0.0.1:9090";

/// Not a test: what the parties inside the namespaces run.
#[test]
fn helper() {
    helper::main();
}

/// The traffic of these tests is what it claims to be; tcpdump and the kernel are the judges, the sensor has no part in it.
#[test]
fn traffic_is_as_announced() {
    if !has_tools(&[("tcpdump", "--version")]) {
        return;
    }
    let Some(namespaces) = Namespaces::make() else { return };
    let capture = Tcpdump::start(&namespaces);
    let _listener = send_everything(&namespaces);
    let counters = kernel_counters(&namespaces.servers);
    let file = capture.stop_after("tcp[13] & 0x17 == 0x02", OPENED);
    assert_eq!(file.count("tcp[13] & 0x17 == 0x02"), OPENED, "SYNs");
    assert_eq!(file.count("tcp[13] & 0x17 == 0x02 and src net 198.18.0.0/15"), FORGED, "forged SYNs");
    assert_eq!(file.count("tcp[13] & 0x04 != 0 and src port 81"), REFUSED, "refusals");
    // The kernel counts a connection as opened passively when the ACK arrives.
    assert_eq!(counters["PassiveOpens"], REAL);
    // Answers to forged sources are on the wire, at least one each unless the queue shed some, and nobody replies to them.
    assert!(file.count("tcp[13] & 0x17 == 0x12 and dst net 198.18.0.0/15") >= FORGED, "SYN-ACKs");
    assert_eq!(
        file.count("src net 198.18.0.0/15 and tcp[13] & 0x17 != 0x02"),
        0,
        "replies of forged sources"
    );
}

#[test]
fn what_was_sent_is_what_is_counted() {
    if !has_tools(&[("prometheus", "--version")]) {
        return;
    }
    let Some(namespaces) = Namespaces::make() else { return };
    let namespace = namespaces.servers.as_str();
    let mut sensor = Sensor::start(namespace);
    let mut prometheus = Prometheus::start(namespace);
    let _listener = send_everything(&namespaces);

    let metrics = wait_for("every SYN counted", PATIENCE, || {
        let metrics = sensor.metrics()?;
        let opened = metrics.value("halfopen_handshakes_opened_total");
        if opened == Some(OPENED as f64) { Ok(metrics) } else { Err(format!("opened {opened:?}")) }
    });
    let closed =
        |outcome: &str| metrics.value(&format!("halfopen_handshakes_closed_total{{outcome=\"{outcome}\"}}"));
    assert_eq!(closed("completed"), Some(REAL as f64));
    assert_eq!(closed("refused"), Some(REFUSED as f64));
    for outcome in ["reset", "superseded", "evicted"] {
        assert_eq!(closed(outcome), Some(0.0), "{outcome}");
    }
    assert_eq!(metrics.value("halfopen_handshakes_untracked_total"), Some(0.0));
    assert_eq!(metrics.sum("halfopen_capture_drops_total"), 0.0);
    assert_eq!(metrics.sum("halfopen_decode_errors_total"), 0.0);
    // The closing law, on what is exposed.
    let ended = metrics.sum("halfopen_handshakes_closed_total");
    assert_eq!(ended + metrics.sum("halfopen_embryonic_connections"), OPENED as f64);
    // What is counted by server arrives with the next half second of network time.
    let server = format!("halfopen_server_attempts_total{{server=\"{SERVER}:80\"}}");
    wait_for("every attempt counted by its server", PATIENCE, || {
        let attempts = sensor.metrics()?.value(&server);
        if attempts == Some((REAL + FORGED) as f64) { Ok(()) } else { Err(format!("attempts {attempts:?}")) }
    });

    prometheus.wait_for_value("up{job=\"halfopen\"}", "1");
    prometheus.wait_for_value("halfopen_handshakes_opened_total", &OPENED.to_string());
    prometheus.wait_for_value("halfopen_handshakes_closed_total{outcome=\"completed\"}", &REAL.to_string());

    // Nothing more came while all of that was asked.
    assert_eq!(sensor.metrics().unwrap().value("halfopen_handshakes_opened_total"), Some(OPENED as f64));
    sensor.stop();
}

/// From frames on a wire to a raised and an ended line in the journal, the API with the same id, and a capture that others open.
#[test]
fn a_flood_is_found_told_kept_and_ended() {
    if !has_tools(&[("tcpdump", "--version"), ("tshark", "--version")]) {
        return;
    }
    let Some(namespaces) = Namespaces::make() else { return };
    let namespace = namespaces.servers.as_str();
    let directory = Directory::make("journal");
    let place = |name: &str| directory.0.join(name).display().to_string();
    let (journal, evidence, config) = (place("incidents.jsonl"), place("evidence"), place("halfopen.toml"));
    let text = format!(
        "[detect]\ncalm = \"2s\"\n\
         [journal]\npath = \"{journal}\"\n[evidence]\npath = \"{evidence}\"\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut sensor = Sensor::start_with(namespace, &["--config.file", &config]);
    let _listener = helper::listener(namespace, &format!("{SERVER}:80"));
    helper::run(&namespaces.originators, &format!("forge {SERVER}:80 {FORGED}"));

    let lines = || -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(&journal).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let change = |what: &str| {
        wait_for(&format!("a line '{what}'"), PATIENCE, || {
            let lines = lines();
            let found = lines.iter().find(|line| line["event"] == what).cloned();
            found.ok_or_else(|| format!("{lines:#?}"))
        })
    };
    let (raised, ended) = (change("raised"), change("ended"));
    let id = raised["incident"]["id"].as_str().unwrap();
    assert_eq!(raised["incident"]["server"], format!("{SERVER}:80"));
    assert_eq!(ended["incident"]["kind"], "spoofed_flood");
    assert_eq!(ended["incident"]["id"], id, "one incident for one episode");
    assert!(ended["incident"]["end_reason"].is_string(), "{ended}");
    let listed = helper::get(namespace, WEB, "/api/v1/incidents").unwrap();
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["incidents"][0]["id"], id);
    assert_eq!(listed["incidents"].as_array().map(Vec::len), Some(1), "{listed:#}");
    let metrics = sensor.metrics().unwrap();
    assert_eq!(metrics.value("halfopen_journal_written_total"), Some(lines().len() as f64));
    assert!(metrics.value("halfopen_evidence_frames_total").is_some_and(|frames| frames > 100.0));
    sensor.stop();

    let file = directory.0.join("evidence").join(format!("{id}.pcap"));
    let read = |tool: &str, arguments: &[&str]| run(Command::new(tool).arg("-n").args(arguments).arg(&file));
    let forged = read("tcpdump", &["-t", "-q", "src net 198.18.0.0/15 and tcp[13] & 0x17 == 0x02", "-r"]);
    // The flood is over within half a second, before it is found: what is remembered is a SYN every 8 ms.
    assert!(forged.lines().count() > 30, "{forged}");
    let other = read("tcpdump", &["-t", "-q", &format!("not (host {SERVER} and port 80)"), "-r"]);
    assert_eq!(other, "", "frames of the incident only");
    let stamps = read("tshark", &["-T", "fields", "-e", "frame.time_epoch", "-r"]);
    let first: f64 = stamps.lines().next().unwrap().parse().unwrap();
    assert!(first < raised["incident"]["detected_at"].as_f64().unwrap(), "frames from before it was found");
    assert!(std::fs::metadata(&file).unwrap().len() <= 64 << 10);
}

#[test]
fn a_signal_stops_it_on_a_silent_link() {
    let Some(namespaces) = Namespaces::make() else { return };
    for signal in [Signal::Terminate, Signal::Interrupt] {
        let mut sensor = Sensor::start(&namespaces.servers);
        sensor.process.signal(signal);
        let status = sensor.process.wait(Duration::from_secs(2));
        assert_eq!(status.code(), Some(0), "{}", sensor.process.describe());
    }
}

#[test]
fn a_port_in_use_is_told() {
    let Some(namespaces) = Namespaces::make() else { return };
    let _listener = helper::listener(&namespaces.servers, WEB);
    let error = failure(&mut Sensor::command(&namespaces.servers, SERVER_LINK));
    assert!(error.contains(WEB) && error.contains("in use"), "{error}");
}

#[test]
fn a_missing_interface_is_told() {
    let Some(namespaces) = Namespaces::make() else { return };
    let error = failure(&mut Sensor::command(&namespaces.servers, "nosuch0"));
    assert!(error.contains("'nosuch0'") && error.contains("no such interface"), "{error}");
}

/// Runs the sensor to a failure and returns the last line of its standard error, which tells it.
fn failure(command: &mut Command) -> String {
    let mut process = Process::start(command);
    let status = process.wait(PATIENCE);
    assert!(matches!(status.code(), Some(1 | 2)), "{}", process.describe());
    let stderr = process.stderr();
    assert!(!stderr.contains("panicked") && !stderr.contains("backtrace"), "{stderr}");
    stderr.lines().last().unwrap_or_default().to_owned()
}

/// Real connections, then refused ones, then forged SYNs; returns when all were sent. The listener lives on.
fn send_everything(namespaces: &Namespaces) -> Process {
    let listener = helper::listener(&namespaces.servers, &format!("{SERVER}:80"));
    let originators = namespaces.originators.as_str();
    helper::run(originators, &format!("connect {SERVER}:80 {REAL}"));
    helper::run(originators, &format!("refuse {SERVER}:81 {REFUSED}"));
    helper::run(originators, &format!("forge {SERVER}:80 {FORGED}"));
    listener
}

/// The `Tcp` counters of a namespace's kernel.
fn kernel_counters(namespace: &str) -> HashMap<String, u64> {
    let text = run(Namespaces::command(namespace, "cat").arg("/proc/net/snmp"));
    let mut tcp = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (tcp.next().unwrap(), tcp.next().unwrap());
    let values = values.split(' ').map(|value| value.parse().unwrap_or(0));
    names.split(' ').map(str::to_owned).zip(values).collect()
}

struct Sensor {
    process: Process,
    namespace: String,
}

impl Sensor {
    fn command(namespace: &str, link: &str) -> Command {
        let mut command = Namespaces::command(namespace, env!("CARGO_BIN_EXE_halfopen"));
        command.args(["run", "-i", link, "--web.listen-address", WEB]);
        command
    }

    fn start(namespace: &str) -> Self {
        Self::start_with(namespace, &[])
    }

    /// Starts it and waits until it says that it is ready.
    fn start_with(namespace: &str, arguments: &[&str]) -> Self {
        let mut process = Process::start(Self::command(namespace, SERVER_LINK).args(arguments));
        wait_for("a ready sensor", PATIENCE, || {
            assert!(process.is_running(), "{}", process.describe());
            helper::get(namespace, WEB, "/-/ready")
        });
        Self { process, namespace: namespace.to_owned() }
    }

    fn metrics(&mut self) -> Result<Metrics, String> {
        assert!(self.process.is_running(), "{}", self.process.describe());
        helper::get(&self.namespace, WEB, "/metrics").map(|text| Metrics::parse(&text))
    }

    fn stop(&mut self) {
        self.process.signal(Signal::Terminate);
        let status = self.process.wait(Duration::from_secs(2));
        assert_eq!(status.code(), Some(0), "{}", self.process.describe());
    }
}

/// Samples of the text exposition format, by name with labels as written.
struct Metrics(HashMap<String, f64>);

impl Metrics {
    fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        Self(
            samples
                .filter_map(|line| line.rsplit_once(' '))
                .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
                .collect(),
        )
    }

    fn value(&self, sample: &str) -> Option<f64> {
        self.0.get(sample).copied()
    }

    /// The sum of a family that must be there.
    fn sum(&self, family: &str) -> f64 {
        let of_family = |name: &str| name.split('{').next() == Some(family);
        let values: Vec<f64> =
            self.0.iter().filter(|(name, _)| of_family(name)).map(|(_, value)| *value).collect();
        assert!(!values.is_empty(), "no sample of {family}");
        values.iter().sum()
    }
}

struct Prometheus {
    process: Process,
    namespace: String,
    /// Its configuration and its storage; deleted when dropped.
    _directory: Directory,
}

impl Prometheus {
    fn start(namespace: &str) -> Self {
        let directory = Directory::make("prometheus");
        let config = directory.0.join("prometheus.yml");
        let text = format!(
            "global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: halfopen\n    static_configs:\n      - targets: ['{WEB}']\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Namespaces::command(namespace, "prometheus");
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", directory.0.join("data").display()));
        command.arg(format!("--web.listen-address={PROMETHEUS}"));
        let mut process = Process::start(&mut command);
        wait_for("a ready Prometheus", PATIENCE, || {
            assert!(process.is_running(), "{}", process.describe());
            helper::get(namespace, PROMETHEUS, "/-/ready")
        });
        Self { process, namespace: namespace.to_owned(), _directory: directory }
    }

    /// Waits until an instant query of one series has this value.
    fn wait_for_value(&mut self, query: &str, value: &str) {
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        wait_for(&format!("{query} = {value} in Prometheus"), PATIENCE, || {
            assert!(self.process.is_running(), "{}", self.process.describe());
            let body = helper::get(&self.namespace, PROMETHEUS, &format!("/api/v1/query?query={escaped}"))?;
            let answer: serde_json::Value =
                serde_json::from_str(&body).map_err(|why| format!("{why}: {body}"))?;
            if answer["data"]["result"][0]["value"][1] == value { Ok(()) } else { Err(body) }
        });
    }
}

struct Tcpdump {
    process: Process,
    directory: Directory,
}

impl Tcpdump {
    fn start(namespaces: &Namespaces) -> Self {
        let directory = Directory::make("tcpdump");
        let mut command = Namespaces::command(&namespaces.servers, "tcpdump");
        command.args([
            "-n",
            "-U",
            "--immediate-mode",
            "-s",
            "128",
            "-B",
            "32768",
            "-Z",
            "root",
            "-i",
            SERVER_LINK,
            "-w",
        ]);
        let mut process = Process::start(command.arg(directory.0.join("all.pcap")));
        process.wait_for_line("listening on", PATIENCE);
        Self { process, directory }
    }

    /// Stops it once it has written so many matching frames (what is still in its buffer then would be lost), and makes sure that
    /// it missed nothing.
    fn stop_after(mut self, filter: &str, count: u64) -> Directory {
        wait_for("every frame written", PATIENCE, || match self.directory.count(filter) {
            enough if enough >= count => Ok(()),
            few => Err(format!("{few} of {count}")),
        });
        self.process.signal(Signal::Interrupt);
        assert!(self.process.wait(PATIENCE).success());
        let stderr = self.process.stderr();
        assert!(stderr.contains("\n0 packets dropped by kernel"), "{stderr}");
        self.directory
    }
}

/// A directory for one process's files; deleted when dropped.
struct Directory(PathBuf);

impl Directory {
    fn make(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("halfopen-live-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// How many frames of the capture match; the file may still be written to, and so end within a frame.
    fn count(&self, filter: &str) -> u64 {
        let mut command = Command::new("tcpdump");
        let command = command.args(["-n", "-t", "-q", "-r"]).arg(self.0.join("all.pcap")).arg(filter);
        command.output().unwrap().stdout.iter().filter(|byte| **byte == b'\n').count() as u64
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
