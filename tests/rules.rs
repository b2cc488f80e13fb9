//! The rules that ship, held against Prometheus's own tools and a real Alertmanager.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test binary"
)]
#![allow(unreachable_pub, reason = "its modules are its own")]

mod support;

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use support::process::Process;
use support::{has_tools, run, wait_for};

/// A file of the project.
fn at(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(at(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
}

/// The YAML files of a directory, by name.
fn yaml(directory: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(at(directory)).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yml"));
    files.sort();
    assert!(!files.is_empty(), "{directory} holds no YAML file");
    files
}

/// A rule as it is written: its keys and what stands behind them on their lines.
type Rule = BTreeMap<String, String>;

/// The rules of all files by name. Our own layout is all that this reads: one `key: value` a line, blocks indented.
fn rules(kind: &str) -> BTreeMap<String, Rule> {
    let mut all = BTreeMap::new();
    for path in yaml("config/rules") {
        let text = fs::read_to_string(&path).unwrap();
        for block in text.split("\n      - ").skip(1) {
            let Some(name) = block.lines().next().and_then(|line| line.strip_prefix(kind)) else { continue };
            let mut rule = Rule::new();
            let mut key = String::new();
            for line in block.lines().skip(1).filter(|line| line.starts_with("       ")) {
                let line = line.trim();
                match line.split_once(": ").or_else(|| Some((line.strip_suffix(':')?, ""))) {
                    Some((name, value)) if !name.contains([' ', '"', '(', '{']) => {
                        key = name.to_owned();
                        rule.insert(key.clone(), value.to_owned());
                    }
                    _ => {
                        let value = rule.entry(key.clone()).or_default();
                        value.push(' ');
                        value.push_str(line);
                    }
                }
            }
            assert!(all.insert(name.trim().to_owned(), rule).is_none(), "{name} is there twice");
        }
    }
    assert!(!all.is_empty());
    all
}

/// What a heading of Markdown is called in a link: letters, digits, hyphens.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn prometheus_takes_rules_and_configuration() {
    if !has_tools(&[("promtool", "--version")]) {
        return;
    }
    let said = run(Command::new("promtool").args(["check", "rules"]).args(yaml("config/rules")));
    let written = rules("alert:").len() + rules("record:").len();
    let found: usize = said
        .lines()
        .filter_map(|line| line.trim().strip_prefix("SUCCESS: ")?.split(' ').next()?.parse::<usize>().ok())
        .sum();
    assert_eq!(found, written, "{said}");
    run(Command::new("promtool").args(["check", "config"]).arg(at("config/prometheus.yml")));
}

#[test]
fn the_unit_tests_of_the_rules_pass() {
    if has_tools(&[("promtool", "--version")]) {
        run(Command::new("promtool").args(["test", "rules"]).args(yaml("config/rules/tests")));
    }
}

#[test]
fn every_rule_is_tested_firing_and_not_firing() {
    let (mut firing, mut silent, mut computed) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for path in yaml("config/rules/tests") {
        let text = fs::read_to_string(path).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for pair in lines.windows(2) {
            if let Some(name) = pair[0].strip_prefix("alertname: ") {
                match pair[1] {
                    "exp_alerts: []" => silent.insert(name.to_owned()),
                    "exp_alerts:" => firing.insert(name.to_owned()),
                    other => panic!("{name} expects neither alerts nor none: {other}"),
                };
            }
        }
        computed.extend(lines.iter().filter_map(|line| line.strip_prefix("- expr: ").map(str::to_owned)));
    }
    let alerts: BTreeSet<String> = rules("alert:").into_keys().collect();
    assert_eq!(firing, alerts, "left: alerts with a test in which they fire");
    assert_eq!(silent, alerts, "left: alerts with a test in which they do not fire");
    for name in rules("record:").keys() {
        assert!(computed.iter().any(|expr| expr.contains(name.as_str())), "no test computes {name}");
    }
}

#[test]
fn every_alert_says_what_it_is_and_where_help_is() {
    let runbook = read("docs/runbook.md");
    let headings: BTreeSet<String> = runbook
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| anchor(line.trim_start_matches('#')))
        .collect();
    let alerts = rules("alert:");
    for (name, rule) in &alerts {
        let of = |key: &str| rule.get(key).unwrap_or_else(|| panic!("{name} has no {key}")).trim();
        assert!(["critical", "warning", "info"].contains(&of("severity")), "{name}: {}", of("severity"));
        let summary = of("summary").trim_matches('\'');
        assert!(
            summary.ends_with('.') && !summary.contains("{{"),
            "{name}: a summary is one plain sentence: {summary}"
        );
        assert!(of("description").len() > 40, "{name}: {}", of("description"));
        assert!(of("for").ends_with(['s', 'm']), "{name}: {}", of("for"));
        let link = of("runbook_url")
            .strip_prefix("docs/runbook.md#")
            .unwrap_or_else(|| panic!("{name}: {}", of("runbook_url")));
        assert_eq!(link, name.to_lowercase(), "a runbook entry is named after its alert");
        assert!(headings.contains(link), "docs/runbook.md has no entry {link}");
    }
    // And the runbook explains nothing that is not there.
    for heading in runbook.lines().filter_map(|line| line.strip_prefix("## Halfopen")) {
        let name = format!("Halfopen{}", heading.trim());
        assert!(alerts.contains_key(&name), "docs/runbook.md has an entry for {name}, which no file defines");
    }
}

#[test]
fn no_expression_of_an_alert_reads_flash_crowds() {
    for (name, rule) in rules("alert:").iter().chain(&rules("record:")) {
        let expr = &rule["expr"];
        // Where kinds are chosen they are named; only the fleet's alert names this one, to keep silent.
        for (at, _) in expr.match_indices("halfopen_incident") {
            let selector = expr[at..].split('}').next().unwrap();
            assert!(selector.contains("kind="), "{name} reads every kind of incident: {selector}");
            let excluded =
                expr[..at].trim_end().ends_with("max by (site, server) (") && expr.contains("unless");
            assert!(excluded || !selector.contains("flash_crowd"), "{name}: {selector}");
        }
    }
}

/// An alert's name and labels, whose messages it is among, and whether another hides it.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, bool);

/// A real Alertmanager with the configuration that ships, on a port of its own.
fn alertmanager() -> Option<(Process, String, PathBuf)> {
    if !has_tools(&[("prometheus-alertmanager", "--version")]) {
        return None;
    }
    let storage = std::env::temp_dir().join(format!("halfopen-alertmanager-{}", std::process::id()));
    fs::create_dir_all(&storage).unwrap();
    let mut command = Command::new("prometheus-alertmanager");
    command
        .arg(format!("--config.file={}", at("config/alertmanager.yml").display()))
        .arg(format!("--storage.path={}", storage.display()))
        .args(["--web.listen-address=127.0.0.1:0", "--cluster.listen-address="]);
    let mut process = Process::start(&mut command);
    let line = process.wait_for_line("Listening on", Duration::from_secs(20));
    let address = line.rsplit_once("address=").unwrap().1.trim().to_owned();
    Some((process, format!("http://{address}/api/v2"), storage))
}

#[test]
fn alertmanager_takes_its_configuration() {
    if has_tools(&[("amtool", "--version")]) {
        run(Command::new("amtool").arg("check-config").arg(at("config/alertmanager.yml")));
    }
}

#[test]
fn a_page_hides_the_warnings_of_its_server_and_of_no_other() {
    let Some((_process, api, storage)) = alertmanager() else { return };
    let severities: BTreeMap<String, String> =
        rules("alert:").into_iter().map(|(name, rule)| (name, rule["severity"].clone())).collect();
    let alert = |name: &str, labels: &[(&str, &str)]| {
        let mut all: BTreeMap<&str, &str> = labels.iter().copied().collect();
        all.insert("alertname", name);
        all.insert("severity", severities.get(name).unwrap_or_else(|| panic!("no alert {name}")));
        json!({ "labels": all })
    };
    let (shop, mail) = (("server", "shop"), ("server", "mail"));
    let (one, two) = (("instance", "s1"), ("instance", "s2"));
    let expected: [Case; 11] = [
        ("HalfopenFloodCritical", &[shop], "page", false),
        ("HalfopenFloodWarning", &[shop], "today", true),
        ("HalfopenSynCookies", &[shop], "today", true),
        ("HalfopenFleetFlood", &[shop], "page", true),
        ("HalfopenBacklogNearlyFull", &[mail], "today", false),
        ("HalfopenSensorDown", &[one], "page", false),
        ("HalfopenCaptureDrops", &[one, ("interface", "eth0")], "today", true),
        ("HalfopenMetricsStale", &[one], "page", true),
        ("HalfopenTableFull", &[two], "today", false),
        ("HalfopenTableNearlyFull", &[two], "today", true),
        ("HalfopenScan", &[two, ("kind", "port_scan")], "record", false),
    ];
    let sent: Vec<Value> = expected.iter().map(|(name, labels, ..)| alert(name, labels)).collect();
    ureq::post(&format!("{api}/alerts")).send_json(&sent).unwrap();
    for (name, labels, receiver, hidden) in expected {
        wait_for(&format!("{name} {labels:?}"), Duration::from_secs(10), || {
            let all: Vec<Value> = ureq::get(&format!("{api}/alerts"))
                .call()
                .and_then(|mut answer| answer.body_mut().read_json())
                .map_err(|why| why.to_string())?;
            let found = all
                .iter()
                .find(|alert| {
                    alert["labels"]["alertname"] == name
                        && labels.iter().all(|(key, value)| alert["labels"][*key] == *value)
                })
                .ok_or("it is not there")?;
            let is_hidden = !found["status"]["inhibitedBy"].as_array().unwrap().is_empty();
            let receivers: Vec<&str> = found["receivers"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(|one| one["name"].as_str())
                .collect();
            if is_hidden == hidden && receivers == [receiver] {
                Ok(())
            } else {
                Err(format!(
                    "hidden: {is_hidden}, receivers: {receivers:?}; expected {hidden} and {receiver}"
                ))
            }
        });
    }
    // One message for one server.
    let groups: Vec<Value> =
        ureq::get(&format!("{api}/alerts/groups")).call().unwrap().body_mut().read_json().unwrap();
    let of_shop: Vec<&Value> = groups.iter().filter(|group| group["labels"]["server"] == "shop").collect();
    let receivers: BTreeSet<&str> =
        of_shop.iter().filter_map(|group| group["receiver"]["name"].as_str()).collect();
    assert_eq!((of_shop.len(), receivers), (2, BTreeSet::from(["page", "today"])), "{groups:#?}");
    let _ = fs::remove_dir_all(storage);
}
