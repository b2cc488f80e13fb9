//! From a flood on a wire to the message of an Alertmanager, and to the message that it is over: real sensors, real Prometheus, real
//! Alertmanager, with the rules and the configuration that ship. Only their waits are cut short, in a copy.
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

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::namespaces::{Namespaces, SERVER, SERVER_LINK};
use support::process::Process;
use support::{has_tools, helper, wait_for};

/// How long anything on this machine may take, on a loaded one with two cores.
const PATIENCE: Duration = Duration::from_secs(40);

const PROMETHEUS: &str = "127.0.0.1:9090";
const ALERTMANAGER: &str = "127.0.0.1:9093";
const RECEIVER: &str = "127.0.0.1:9094";

/// Not a test: what the parties inside the namespaces run.
#[test]
fn helper() {
    helper::main();
}

/// A folder of this test's own, deleted with the value.
struct Folder(PathBuf);

impl Folder {
    fn make(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("halfopen-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn shipped(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// A line's value replaced wherever its key stands: the waits that operators need and tests do not.
fn with(text: &str, key: &str, value: &str) -> String {
    let line = |line: &str| match line.split_once(key) {
        Some((indent, _)) if indent.trim().is_empty() => format!("{indent}{key}{value}"),
        _ => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n") + "\n"
}

/// Prometheus, Alertmanager and who is told by it, in the servers' namespace.
struct Watch {
    namespace: String,
    receiver: Process,
    _running: [Process; 2],
}

impl Watch {
    fn start(namespaces: &Namespaces, folder: &Folder, sensors: &[String]) -> Option<Self> {
        if !has_tools(&[("prometheus", "--version"), ("prometheus-alertmanager", "--version")]) {
            return None;
        }
        let namespace = namespaces.servers.clone();
        let mut receiver = Process::start(&mut helper::command(&namespace, &format!("receive {RECEIVER}")));
        receiver.wait_for_line(helper::LISTENING, PATIENCE);

        let told = format!("- name: page\n    webhook_configs: [{{ url: 'http://{RECEIVER}/' }}]");
        let mut config = shipped("config/alertmanager.yml").replace("- name: page", &told);
        for key in ["group_wait: ", "group_interval: "] {
            config = with(&config, key, "1s");
        }
        let config = folder.write("alertmanager.yml", &config);
        let mut command = Namespaces::command(&namespace, "prometheus-alertmanager");
        command.arg(format!("--config.file={config}"));
        command.arg(format!("--storage.path={}", folder.0.join("alerts").display()));
        command.args([&format!("--web.listen-address={ALERTMANAGER}"), "--cluster.listen-address="]);
        let alertmanager = Process::start(&mut command);

        for name in ["halfopen-alerts.yml", "halfopen-recording.yml"] {
            let text = shipped(&format!("config/rules/{name}"));
            // Long enough to be pending at least once.
            folder.write(name, &with(&text, "for: ", "3s").replace("[2m]", "[10s]"));
        }
        let targets = sensors.iter().map(|sensor| format!("'{sensor}'")).collect::<Vec<_>>().join(", ");
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: ['{}/halfopen-*.yml']\n\
             alerting: {{ alertmanagers: [{{ static_configs: [{{ targets: ['{ALERTMANAGER}'] }}] }}] }}\n\
             scrape_configs:\n  - job_name: halfopen\n    static_configs:\n      - targets: [{targets}]\n",
            folder.0.display()
        );
        let config = folder.write("prometheus.yml", &config);
        let mut command = Namespaces::command(&namespace, "prometheus");
        command.arg(format!("--config.file={config}"));
        command.arg(format!("--storage.tsdb.path={}", folder.0.join("data").display()));
        command.arg(format!("--web.listen-address={PROMETHEUS}"));
        let prometheus = Process::start(&mut command);
        let this = Self { namespace, receiver, _running: [alertmanager, prometheus] };
        wait_for("every sensor scraped", PATIENCE, || {
            let up = this.query("sum(up)")?;
            let all = sensors.len().to_string();
            if up[0]["value"][1] == all { Ok(()) } else { Err(format!("{up}")) }
        });
        Some(this)
    }

    fn query(&self, expr: &str) -> Result<Value, String> {
        let escaped: String = expr.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let body = helper::get(&self.namespace, PROMETHEUS, &format!("/api/v1/query?query={escaped}"))?;
        let answer: Value = serde_json::from_str(&body).map_err(|why| format!("{why}: {body}"))?;
        Ok(answer["data"]["result"].clone())
    }

    /// Waits for a message on an alert, and gives that alert.
    fn wait_for_message(&self, name: &str, status: &str) -> Value {
        wait_for(&format!("a message: {name} {status}"), PATIENCE, || {
            let stdout = self.receiver.stdout();
            let messages = stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let alerts =
                messages.flat_map(|message| message["alerts"].as_array().cloned().unwrap_or_default());
            let found = alerts
                .into_iter()
                .find(|alert| alert["labels"]["alertname"] == name && alert["status"] == status);
            found.ok_or_else(|| format!("{stdout}\n{:?}", self.query("ALERTS")))
        })
    }

    /// When an alert was in a state: its first and its last sample, by Prometheus's clock.
    fn when(&self, name: &str, state: &str) -> (f64, f64) {
        let alerts =
            self.query(&format!(r#"ALERTS{{alertname="{name}", alertstate="{state}"}}[5m]"#)).unwrap();
        let values =
            alerts[0]["values"].as_array().unwrap_or_else(|| panic!("{name} was never {state}")).clone();
        (values[0][0].as_f64().unwrap(), values[values.len() - 1][0].as_f64().unwrap())
    }
}

fn sensor(namespaces: &Namespaces, config: &str, address: &str, filter: &[&str]) -> Process {
    let mut command = Namespaces::command(&namespaces.servers, env!("CARGO_BIN_EXE_halfopen"));
    command.args(["run", "-i", SERVER_LINK, "--web.listen-address", address, "--config.file", config]);
    let mut process = Process::start(command.args(filter));
    wait_for("a ready sensor", PATIENCE, || {
        assert!(process.is_running(), "{}", process.describe());
        helper::get(&namespaces.servers, address, "/-/ready")
    });
    process
}

#[test]
fn an_alert_goes_pending_fires_and_resolves() {
    let Some(namespaces) = Namespaces::make() else { return };
    let folder = Folder::make("alerts");
    let text = format!(
        "[detect]\ncalm = \"2s\"\n[[server]]\nname = \"shop\"\naddress = \"{SERVER}\"\nport = 80\nbacklog = 128\n"
    );
    let config = folder.write("sensor.toml", &text);
    let address = "127.0.0.1:10793".to_owned();
    let _sensor = sensor(&namespaces, &config, &address, &[]);
    let Some(watch) = Watch::start(&namespaces, &folder, std::slice::from_ref(&address)) else { return };
    let _listener = helper::listener(&namespaces.servers, &format!("{SERVER}:80"));
    helper::run(&namespaces.originators, &format!("connect {SERVER}:80 100"));
    assert_eq!(watch.query(r#"ALERTS{alertname=~"HalfopenFlood.*"}"#).unwrap(), serde_json::json!([]));

    // 2,000 a second for twelve seconds: the incident, the wait for certainty, the message.
    helper::run(&namespaces.originators, &format!("forge {SERVER}:80 24000 10"));
    let fired = watch.wait_for_message("HalfopenFloodCritical", "firing");
    assert_eq!(fired["labels"]["server"], "shop", "{fired}");
    assert_eq!(fired["labels"]["severity"], "critical", "{fired}");
    let description = fired["annotations"]["description"].as_str().unwrap();
    assert!(
        description.starts_with(&format!("shop is seen under a spoofed_flood by {address}.")),
        "{description}"
    );
    assert_eq!(fired["annotations"]["runbook_url"], "docs/runbook.md#halfopenfloodcritical");

    let resolved = watch.wait_for_message("HalfopenFloodCritical", "resolved");
    assert_eq!(resolved["labels"], fired["labels"]);
    let (pending, firing) =
        (watch.when("HalfopenFloodCritical", "pending"), watch.when("HalfopenFloodCritical", "firing"));
    assert!(pending.0 <= pending.1 && pending.1 < firing.0, "pending {pending:?}, then firing {firing:?}");
    assert_eq!(watch.query(r#"ALERTS{alertname="HalfopenFloodCritical"}"#).unwrap(), serde_json::json!([]));
}

/// A third of a flood on each of three taps: no sensor says flood, and their sum does.
#[test]
fn a_flood_too_thin_on_every_tap_is_one_alert() {
    let Some(namespaces) = Namespaces::make() else { return };
    let folder = Folder::make("fleet");
    // What is usual behind these taps: an episode of fewer than 5,000 unresolved attempts is none of their business.
    let text =
        format!("[detect]\nfloor = 5000\n[[server]]\nname = \"shop\"\naddress = \"{SERVER}\"\nport = 80\n");
    let config = folder.write("sensor.toml", &text);
    // Forged sources are given out from all over 198.18.0.0/15; each tap is one part of them.
    let parts = ["net 198.18.0.0/17", "net 198.18.128.0/17", "net 198.19.0.0/16"];
    let addresses: Vec<String> = (0..3).map(|n| format!("127.0.0.1:{}", 10_801 + n)).collect();
    let _sensors: Vec<Process> = parts
        .iter()
        .zip(&addresses)
        .map(|(part, address)| {
            sensor(&namespaces, &config, address, &["-f", &format!("{part} and host {SERVER}")])
        })
        .collect();
    let Some(watch) = Watch::start(&namespaces, &folder, &addresses) else { return };
    let _listener = helper::listener(&namespaces.servers, &format!("{SERVER}:80"));

    // 40 a second for half a minute.
    helper::run(&namespaces.originators, &format!("forge {SERVER}:80 1200 500"));
    let fired = watch.wait_for_message("HalfopenFleetFlood", "firing");
    assert_eq!(fired["labels"]["server"], "shop", "{fired}");
    assert_eq!(fired["labels"]["severity"], "critical");
    let taps = watch
        .query(r#"max_over_time(server:halfopen_server_unresolved_taps:count{server="shop"}[1m])"#)
        .unwrap();
    assert_eq!(taps[0]["value"][1], "3", "{taps}");
    let raised = watch.query("sum(halfopen_incidents_total)").unwrap();
    assert_eq!(raised[0]["value"][1], "0", "no sensor has raised anything: {raised}");
    watch.wait_for_message("HalfopenFleetFlood", "resolved");
}
