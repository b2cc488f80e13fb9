//! The dashboards that ship: complete, true to the code, and every query of theirs run by a real Prometheus.
//!
//! Prometheus scrapes expositions that the binary itself wrote while replaying a generated trace: before a flood, during it, and
//! after it. So rates rise, and an alert goes from pending to firing to gone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test binary"
)]
#![allow(unreachable_pub, reason = "its modules are its own")]

mod support;

use halfopen::report::metrics::names::{self, Kind};
use halfopen::synth::Scenario;
use halfopen::synth::pcapfile::PcapWriter;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::monitoring::{Prometheus, serve};
use support::{has_tools, run, wait_for};

fn at(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(at(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
}

/// Every dashboard, by file name.
fn dashboards() -> Vec<(String, Value)> {
    let files = fs::read_dir(at("dashboards")).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<(String, Value)> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let document = serde_json::from_str(&fs::read_to_string(&path).unwrap());
            (name.clone(), document.unwrap_or_else(|why| panic!("{name}: {why}")))
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(all.len(), 4);
    all
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn rule_files() -> Vec<String> {
    ["halfopen-alerts.yml", "halfopen-recording.yml"]
        .map(|name| read(&format!("config/rules/{name}")))
        .to_vec()
}

/// The names in an expression that may be series: outside of strings, with our prefix or with a recording rule's colons.
fn series(expr: &str) -> BTreeSet<String> {
    let code: String = expr.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    let named = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    code.split(|c| !named(c))
        .filter(|name| name.starts_with("halfopen_") || name.contains(":halfopen_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_json_is_what_the_generator_writes() {
    if has_tools(&[("python3", "--version")]) {
        run(Command::new("python3").arg(at("dashboards/generate.py")).arg("--check"));
    }
}

#[test]
fn every_dashboard_is_complete() {
    let mut uids = BTreeSet::new();
    let all = dashboards();
    for (name, board) in &all {
        assert_eq!(text(board, "uid"), name, "the UID is fixed, and is the file's name");
        assert!(uids.insert(text(board, "uid")) && text(board, "uid").len() <= 40);
        assert!(board["schemaVersion"].as_u64().unwrap() >= 39 && board["id"].is_null(), "{name}");
        assert_eq!(text(board, "timezone"), "utc", "{name}");
        assert!(!text(board, "description").is_empty(), "{name}");
        let variables = list(&board["templating"], "list");
        assert_eq!((text(&variables[0], "name"), text(&variables[0], "type")), ("datasource", "datasource"));
        for variable in &variables[1..] {
            assert!(text(variable, "definition").starts_with("label_values("), "{name}: {variable}");
        }
        let annotations = list(&board["annotations"], "list");
        assert!(annotations.iter().any(|one| one["builtIn"] == 1), "{name}");
        assert!(
            annotations.iter().any(|one| text(one, "expr").contains("halfopen_incident_active{")),
            "{name}"
        );
        let links: BTreeSet<&str> = list(board, "links").iter().map(|link| text(link, "url")).collect();
        for (other, _) in &all {
            assert_eq!(
                links.contains(format!("/d/{other}").as_str()),
                other != name,
                "{name} links to {other}"
            );
        }
    }
}

#[test]
fn every_panel_says_what_it_answers_and_has_its_place() {
    for (name, board) in dashboards() {
        let mut taken = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for panel in list(&board, "panels") {
            let title = format!("{name}: {}", text(panel, "title"));
            let [x, y, w, h] =
                ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().expect(&title));
            assert!(w > 0 && h > 0 && x + w <= 24, "{title}: beyond the grid");
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(taken.insert(cell), "{title}: overlaps at {cell:?}");
            }
            assert!(ids.insert(panel["id"].as_u64().expect(&title)), "{title}: its id is another's");
            if text(panel, "type") == "row" {
                continue;
            }
            assert!(text(panel, "description").contains('?'), "{title}: which question does it answer?");
            assert_eq!(text(&panel["datasource"], "uid"), "${datasource}", "{title}");
            let unit = text(&panel["fieldConfig"]["defaults"], "unit");
            assert!(!unit.is_empty(), "{title}: no unit");
            assert!(!list(&panel["fieldConfig"]["defaults"]["thresholds"], "steps").is_empty(), "{title}");
            assert!(!list(panel, "targets").is_empty(), "{title}: asks nothing");
            for target in list(panel, "targets") {
                assert_eq!(text(&target["datasource"], "uid"), "${datasource}", "{title}");
                let expr = text(target, "expr");
                // A fixed window shows too much or too little as soon as somebody zooms; an hour's count is what it says.
                for call in ["rate(", "increase("] {
                    for (from, _) in expr.match_indices(call) {
                        let window = expr[from..].split('[').nth(1).unwrap().split(']').next().unwrap();
                        assert!(["$__rate_interval", "1h"].contains(&window), "{title}: [{window}]");
                    }
                }
                if expr.contains("halfopen_") && !expr.contains("server:halfopen") {
                    assert!(
                        expr.contains(r#"instance=~"$instance""#),
                        "{title}: the sensor cannot be chosen: {expr}"
                    );
                }
            }
        }
        // Every line is full: the cells are as many as the grid is wide, times its height.
        let height = taken.iter().map(|(_, y)| y + 1).max().unwrap();
        assert_eq!(taken.len() as u64, 24 * height, "{name} has holes");
    }
}

#[test]
fn every_series_named_exists_and_every_series_is_documented() {
    let rules = rule_files();
    let recorded: BTreeSet<&str> = rules
        .iter()
        .flat_map(|text| text.lines())
        .filter_map(|line| line.trim().strip_prefix("- record: "))
        .collect();
    let ours: BTreeSet<&str> = names::ALL.iter().map(|desc| desc.name).collect();
    let exists = |name: &str| {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        let histogram = |desc: &&names::Desc| desc.kind == Kind::Histogram && Some(desc.name) == base;
        recorded.contains(name) || ours.contains(name) || names::ALL.iter().any(|desc| histogram(&desc))
    };
    let mut used: BTreeSet<String> = BTreeSet::new();
    for (name, board) in dashboards() {
        let panels =
            list(&board, "panels").iter().flat_map(|panel| list(panel, "targets")).map(|t| text(t, "expr"));
        let notes = list(&board["annotations"], "list").iter().map(|one| text(one, "expr"));
        let variables = list(&board["templating"], "list").iter().map(|one| text(one, "definition"));
        for series in panels.chain(notes).chain(variables).flat_map(series) {
            assert!(exists(&series), "{name} asks for {series}, which nobody exposes");
            used.insert(series);
        }
    }
    for text in &rules {
        let lines = text.lines().filter(|line| {
            let line = line.trim();
            !line.starts_with('#') && !line.starts_with("- name:") && !line.contains("_url:")
        });
        for series in lines.flat_map(series) {
            assert!(exists(&series), "the rules name {series}, which nobody exposes");
            used.insert(series);
        }
    }
    let unused: Vec<_> =
        ours.iter().filter(|name| !used.iter().any(|used| used.starts_with(**name))).collect();
    assert!(unused.is_empty(), "neither a dashboard nor a rule looks at {unused:?}");

    let page = read("docs/metrics.md");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').map(|cell| cell.trim().trim_matches('`')).collect())
        .collect();
    let documented: BTreeSet<&str> = rows.iter().map(|row| row[1]).collect();
    assert_eq!(documented.len(), rows.len(), "a series is there twice");
    let all: BTreeSet<&str> = ours.union(&recorded).copied().collect();
    assert_eq!(documented, all, "docs/metrics.md on the left, what exists on the right");
    for desc in names::ALL {
        let row = rows.iter().find(|row| row[1] == desc.name).unwrap();
        assert_eq!(row[2], format!("{:?}", desc.kind).to_lowercase(), "docs/metrics.md: {}", desc.name);
    }
}

/// Ordinary traffic of every outcome for the whole of it, and a flood in between.
const SCENARIO: &str = r#"
seed = 5
duration = DURATION
[[traffic]]
kind = "handshakes"
servers = "192.0.2.10:80"
rate = 40
refused = 0.02
unanswered = 0.02
abandoned = 0.02
reset = 0.02
[[traffic]]
kind = "flood"
servers = "192.0.2.10:80"
rate = 300
start = 25
duration = 30
[[traffic]]
kind = "backscatter"
start = 5
"#;

/// What the binary exposes at the end of a replay of the scenario cut off after so many seconds.
fn exposition(folder: &Path, seconds: u32) -> String {
    let scenario = Scenario::from_toml(&SCENARIO.replace("DURATION", &seconds.to_string())).unwrap();
    let (trace, metrics, config) =
        (folder.join("trace.pcap"), folder.join("metrics.prom"), folder.join("halfopen.toml"));
    let mut writer = PcapWriter::create(&trace).unwrap();
    let (mut stream, mut frame) = (scenario.stream(), Vec::new());
    while let Some(at) = stream.next_frame(&mut frame) {
        writer.write(at, &frame).unwrap();
    }
    writer.finish().unwrap();
    fs::write(
        &config,
        "[[server]]\nname = \"shop\"\naddress = \"192.0.2.10\"\nport = 80\nbacklog = 65536\nprofile = \"linux\"\n",
    )
    .unwrap();
    run(Command::new(env!("CARGO_BIN_EXE_halfopen"))
        .args(["replay", "--json", "--config.file"])
        .args([&config, &trace])
        .arg("--metrics")
        .arg(&metrics));
    fs::read_to_string(metrics).unwrap()
}

/// An expression as Grafana sends it.
fn filled(expr: &str) -> String {
    [
        ("$__rate_interval", "1m"),
        ("$instance", ".*"),
        ("$server", "shop"),
        ("$node", ".*"),
        ("$__interval", "15s"),
    ]
    .iter()
    .fold(expr.to_owned(), |expr, (variable, value)| expr.replace(variable, value))
}

/// Whether an expression may have no answer in this test: a baseline of yesterday, a queue that just now does not fill.
fn may_be_empty(expr: &str, with_node: bool) -> bool {
    expr.contains("rate2m_avg1d")
        || expr.contains("backlog_full:seconds")
        || expr.contains("backlog_time_to_full_seconds")
        || expr.contains("flash_crowd\"}")
        || (expr.contains("node_") && !with_node)
}

#[test]
fn every_query_is_answered_and_the_alert_fires_and_resolves() {
    if !has_tools(&[("prometheus", "--version")]) {
        return;
    }
    let folder = std::env::temp_dir().join(format!("halfopen-dashboards-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let [before, during, after] = [20, 50, 100].map(|seconds| exposition(&folder, seconds));
    let page = Arc::new(Mutex::new(before));
    let prometheus = Prometheus::start(folder, &serve(&page));

    let scraped = r#"count_over_time(halfopen_server_attempts_total{server="shop"}[1m]) >= 3"#;
    wait_for("three scrapes", Duration::from_secs(30), || {
        prometheus.query(scraped)?.pop().ok_or("not yet".to_owned())
    });
    *page.lock().unwrap() = during;
    let patience = Duration::from_secs(60);
    prometheus.wait_for_alert("HalfopenFloodWarning", "pending", patience);
    let fired = prometheus.wait_for_alert("HalfopenFloodWarning", "firing", patience);
    assert_eq!((text(&fired["metric"], "server"), text(&fired["metric"], "severity")), ("shop", "warning"));

    for group in list(&prometheus.ask("rules", &[]).unwrap(), "groups") {
        for rule in list(group, "rules") {
            assert_ne!(rule["health"], "err", "{}: {}", text(rule, "name"), text(rule, "lastError"));
        }
    }

    let with_node = prometheus.has_node();
    let (mut asked, mut silent) = (0, Vec::new());
    for (name, board) in dashboards() {
        let panels = list(&board, "panels").iter().flat_map(|panel| {
            list(panel, "targets").iter().map(move |target| (text(panel, "title"), text(target, "expr")))
        });
        let notes =
            list(&board["annotations"], "list").iter().map(|one| (text(one, "name"), text(one, "expr")));
        for (title, expr) in panels.chain(notes).filter(|(_, expr)| !expr.is_empty()) {
            asked += 1;
            let answer = prometheus
                .query(&filled(expr))
                .unwrap_or_else(|why| panic!("{name}: {title}: {why}: {expr}"));
            let told = answer.iter().any(|sample| number(sample).is_some_and(f64::is_finite));
            if !told && !may_be_empty(expr, with_node) {
                silent.push(format!("{name}: {title}: {expr}"));
            }
        }
        for variable in list(&board["templating"], "list").iter().filter(|one| text(one, "type") == "query") {
            let definition = filled(text(variable, "definition"));
            let inner = definition.trim_start_matches("label_values(").trim_end_matches(')');
            let (selector, label) = inner.rsplit_once(", ").unwrap();
            let values = prometheus.ask(&format!("label/{label}/values"), &[("match[]", selector)]).unwrap();
            let named_node = text(variable, "name") == "node" && !with_node;
            assert!(
                named_node || !values.as_array().unwrap().is_empty(),
                "{name}: nothing to choose: {definition}"
            );
        }
    }
    assert!(silent.is_empty(), "no data for {} of {asked} queries:\n{}", silent.len(), silent.join("\n"));
    assert!(asked > 100, "only {asked} queries");

    *page.lock().unwrap() = after;
    let gone = r#"absent(ALERTS{alertname="HalfopenFloodWarning"})"#;
    wait_for("the alert resolves", patience, || prometheus.query(gone)?.pop().ok_or("it stands".to_owned()));
    // The stamps of a trace are old; that must be told too.
    assert!(!prometheus.query(r#"ALERTS{alertname="HalfopenMetricsStale"}"#).unwrap().is_empty());
}

/// The number of a sample.
fn number(sample: &Value) -> Option<f64> {
    sample["value"][1].as_str()?.parse().ok()
}
