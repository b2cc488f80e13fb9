//! The live page and the replay's report in a real Chromium: figures, plots, updates, hostile words, pictures.

// Helpers outside of #[test] functions are test code too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::print_stdout)]
#![allow(unreachable_pub, reason = "its modules are its own")]

#[path = "page/demonstration.rs"]
mod demonstration;
mod support;

use halfopen::detect::incident::{Evidence, Incident, IncidentKind, Scope, ServerMode, ServerView, Severity};
use halfopen::report::history::Sample;
use halfopen::report::snapshot::{EmbryonicView, InterfaceView, Snapshot, SnapshotSource};
use halfopen::synth::Scenario;
use halfopen::synth::pcapfile::PcapWriter;
use halfopen::time::Timestamp;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use support::browser::Browser;
use support::process::{Process, Signal};
use support::served::{Served, demonstration, example};
use support::{run, wait_for};

/// What a foreign name must not do.
const HOSTILE: &str = "<script>alert(1)</script>";

/// Keeps a picture of the screen in the folder that HALFOPEN_PICTURES names; how docs/pictures are made.
fn picture(browser: &mut Browser, name: &str) {
    let data = browser.screenshot();
    assert!(data.len() > 10_000, "an empty picture of {name}");
    let Ok(folder) = std::env::var("HALFOPEN_PICTURES") else { return };
    let decode = |c: u8| match c {
        b'A'..=b'Z' => u32::from(c - b'A'),
        b'a'..=b'z' => u32::from(c - b'a') + 26,
        b'0'..=b'9' => u32::from(c - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u32> = data.bytes().filter(|&c| c != b'=').map(decode).collect();
    let mut bytes = Vec::with_capacity(data.len());
    for four in digits.chunks(4) {
        let word = four.iter().fold(0, |word, digit| word << 6 | digit) << (6 * (4 - four.len()));
        bytes.extend_from_slice(&word.to_be_bytes()[1..four.len()]);
    }
    std::fs::write(PathBuf::from(folder).join(name), bytes).unwrap();
}

/// `1,234` as a number.
fn number(text: &Value) -> u64 {
    text.as_str()
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .replace(',', "")
        .parse()
        .unwrap_or_else(|_| panic!("{text}"))
}

/// Every line drawn, as the number of its points.
const POINTS: &str = "[...document.querySelectorAll('.plot path.line')].map(path => path.getAttribute('d').split(/[ML]/).length - 1)";

/// Words that do not fit their place: a page wider than the screen.
const TOO_WIDE: &str = "document.documentElement.scrollWidth - document.documentElement.clientWidth";

#[test]
fn the_pages_figures_are_the_apis() {
    let Some(mut browser) = Browser::start("page") else { return };
    let (sensor, _hold) = demonstration(100);
    let served = Served::start(sensor);
    let (servers, incidents) = (served.json("api/v1/servers"), served.json("api/v1/incidents"));
    let overview = served.json("api/v1/overview");
    assert_eq!(overview["servers"], servers["servers"]);
    assert_eq!(overview["incidents"], incidents["incidents"]);
    assert_eq!(overview["state"], "critical");

    browser.screen(1280, 1180, false);
    browser.open(&served.base);
    let tile = |browser: &mut Browser, id: &str| {
        number(&browser.evaluate(&format!("document.getElementById('{id}').textContent")))
    };
    let handshakes = &overview["handshakes"];
    let open = handshakes["open"]["syn_sent"].as_u64().unwrap()
        + handshakes["open"]["syn_received"].as_u64().unwrap();
    assert_eq!(tile(&mut browser, "embryonic-connections"), open);
    assert_eq!(tile(&mut browser, "attempts-so-far"), handshakes["attempts"].as_u64().unwrap());
    assert_eq!(tile(&mut browser, "completed-so-far"), handshakes["completed"].as_u64().unwrap());

    // Each server's row, found by its name.
    let rows = browser.evaluate("[...document.querySelectorAll('#servers tbody tr')].map(row => [...row.cells].map(cell => cell.textContent))");
    assert_eq!(rows.as_array().unwrap().len(), 3, "nothing is in 'other'");
    assert_eq!(rows[0][0], "shop", "whoever is in trouble is first");
    for server in servers["servers"].as_array().unwrap().iter().filter(|server| server["server"] != "other") {
        let row = rows.as_array().unwrap().iter().find(|row| row[0] == server["server"]).unwrap();
        let embryonic = server["embryonic_syn_sent"].as_u64().unwrap()
            + server["embryonic_syn_received"].as_u64().unwrap();
        assert_eq!(number(&row[2]), embryonic, "{server}");
        for (column, key) in [(3, "unresolved"), (4, "attempts"), (5, "completed"), (6, "distinct_sources")] {
            assert_eq!(number(&row[column]), server[key].as_u64().unwrap(), "{key} of {server}");
        }
        assert_eq!(row[7], server["mode"]);
        if let Some(limit) = server["backlog_limit"].as_u64() {
            let held = server["backlog_occupancy"].as_f64().unwrap();
            assert_eq!(row[1], format!("{held:.0} of {limit}"));
        }
    }
    let bar = browser.evaluate("document.querySelector('#servers tbody rect').getAttribute('width')");
    let shop =
        &servers["servers"].as_array().unwrap().iter().find(|server| server["server"] == "shop").unwrap();
    let share = shop["backlog_occupancy"].as_f64().unwrap() / shop["backlog_limit"].as_f64().unwrap();
    assert_eq!(bar, (share.min(1.0) * 100.0).round().to_string());

    // Incidents with their evidence.
    let first = &incidents["incidents"][0];
    let said = browser.evaluate("document.querySelector('#incidents').innerText");
    let said = said.as_str().unwrap();
    assert!(said.contains("critical: spoofed flood on shop"), "{said}");
    for evidence in first["evidence"].as_array().unwrap() {
        assert!(said.contains(evidence["text"].as_str().unwrap()), "{evidence}: {said}");
    }

    // Lines have the history's points, and the last is where the gauge is.
    let samples = overview["history"]["at"].as_array().unwrap().len() as u64;
    assert!(samples >= 99, "{samples}");
    assert_eq!(browser.evaluate(POINTS), serde_json::json!([samples - 1, samples - 1, samples, samples]));
    let last = browser.evaluate("document.querySelector('#embryonic .key output').textContent");
    let received = &overview["history"]["syn_received"][samples as usize - 1];
    assert_eq!(number(&last), received.as_u64().unwrap());

    let links = browser.evaluate("[...document.querySelectorAll('nav a')].map(a => a.getAttribute('href'))");
    for path in [
        "/metrics",
        "/api/v1/overview",
        "/api/v1/servers",
        "/api/v1/incidents",
        "/api/v1/embryonic",
        "/api/v1/half-open",
        "/-/healthy",
        "/-/ready",
    ] {
        assert!(links.as_array().unwrap().iter().any(|link| link == path), "{path}");
    }

    // Making all of this took the CPU; by the second look it is at rest.
    browser
        .wait_until("parseFloat(document.querySelector('#sensor tbody').rows[3].cells[1].textContent) < 10");
    assert_eq!(browser.evaluate(TOO_WIDE), 0);
    browser.screen(390, 844, false);
    assert_eq!(browser.evaluate(TOO_WIDE), 0, "on a phone");
    browser.screen(2560, 1440, true);
    assert_eq!(browser.evaluate(TOO_WIDE), 0, "on a wall");

    assert!(browser.console.is_empty(), "{:#?}", browser.console);
    let elsewhere: Vec<_> = browser.requests.iter().filter(|url| !url.starts_with(&served.base)).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
    assert!(browser.requests.iter().any(|url| url.ends_with("/page.js")));
}

/// A sensor whose every word is hostile, and whose figures can be changed.
#[derive(Default)]
struct Hostile {
    attempts: AtomicU64,
}

impl SnapshotSource for Hostile {
    fn snapshot(&self) -> Snapshot {
        let at = |seconds: i64| Timestamp::from_parts(1_750_000_000 + seconds, 0);
        let evidence =
            vec![Evidence { signal: "cusum", value: 1.0, threshold: 2.0, text: HOSTILE.to_owned() }];
        let server = ServerView {
            server: HOSTILE.to_owned(),
            endpoint: None,
            configured: true,
            attempts: self.attempts.load(Ordering::Relaxed),
            completed: 0,
            unresolved: 0,
            embryonic_syn_sent: 0,
            embryonic_syn_received: 0,
            backlog_occupancy: 10.0,
            backlog_occupancy_estimated: false,
            backlog_limit: Some(0),
            backlog_limit_estimated: false,
            backlog_time_to_full_seconds: None,
            profile: None,
            profile_inferred: false,
            distinct_sources: 0,
            mode: ServerMode::Queue,
            mode_confidence: 1.0,
            evidence: evidence.clone(),
        };
        let incident = Incident {
            id: "\"><img src=x onerror=alert(2)>".to_owned(),
            kind: IncidentKind::SpoofedFlood,
            scope: Scope::Server,
            server: HOSTILE.to_owned(),
            severity: Severity::Warning,
            onset: at(-10),
            detected_at: at(-9),
            ended_at: None,
            end_reason: None,
            server_mode: ServerMode::Queue,
            server_mode_confidence: 1.0,
            syn_rate_peak: f64::INFINITY,
            attempts: u64::MAX,
            completed: 1,
            embryonic_peak: 500,
            backlog_occupancy_peak: f64::NAN,
            backlog_occupancy_estimated: false,
            distinct_sources: 900,
            capture_loss: 0.0,
            evidence,
        };
        let mut snapshot = Snapshot {
            network_time: Some(at(0)),
            interfaces: vec![InterfaceView {
                name: HOSTILE.to_owned(),
                up: true,
                ..InterfaceView::default()
            }],
            servers: vec![server],
            incidents: vec![incident],
            ..Snapshot::default()
        };
        snapshot.handshakes.attempts = self.attempts.load(Ordering::Relaxed);
        snapshot
    }

    fn embryonic(&self, _: Option<&str>, _: usize) -> Vec<EmbryonicView> {
        Vec::new()
    }

    fn history(&self) -> Vec<Sample> {
        let sample = |second: i64| Sample {
            at: Timestamp::from_parts(1_750_000_000 + second, 0),
            attempts: u64::MAX / 2,
            completed: 0,
            untracked: 0,
            syn_sent: u64::MAX,
            syn_received: 0,
            frames: 0,
            drops: 0,
            servers: Vec::new(),
        };
        (-20..=0).map(sample).collect()
    }
}

#[test]
fn hostile_words_stay_words_and_the_page_follows_the_sensor() {
    let Some(mut browser) = Browser::start("hostile") else { return };
    let sensor = Arc::new(Hostile::default());
    let served = Served::start(Arc::clone(&sensor) as _);
    browser.open(&served.base);
    assert_eq!(browser.evaluate("document.querySelector('#servers tbody td').textContent"), HOSTILE);
    assert_eq!(
        browser.evaluate("document.querySelector('#incidents h3').textContent"),
        format!("warning: spoofed flood on {HOSTILE}")
    );
    assert_eq!(browser.evaluate("document.querySelector('#incidents li').textContent"), HOSTILE);
    assert_eq!(
        browser
            .evaluate("document.querySelectorAll('main script, main img, main [onerror], [style]').length"),
        0
    );

    // Nothing was loaded anew, what was opened or closed by hand stays so, and the figures move.
    browser.evaluate("window.kept = true; document.querySelector('#incidents details').open = false; true");
    sensor.attempts.store(12_345, Ordering::Relaxed);
    browser.wait_until("document.getElementById('attempts-so-far').textContent.startsWith('12,345')");
    assert_eq!(
        browser.evaluate("document.querySelector('#servers tbody tr').cells[4].textContent"),
        "12,345"
    );
    assert_eq!(browser.evaluate("window.kept"), true);
    assert_eq!(browser.evaluate("document.querySelector('#incidents details').open"), false);

    // Were something to get through, the policy would still keep it from running.
    browser.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=\"/icon.svg\" onload=\"window.ran = true\">'); true");
    browser.wait_until("document.querySelector('body > img').complete");
    assert_eq!(browser.evaluate("typeof window.ran"), "undefined");
    assert!(
        browser.console.iter().all(|line| line.contains("Content Security Policy")),
        "{:#?}",
        browser.console
    );
    assert!(browser.dialogs.is_empty(), "{:?}", browser.dialogs);
    assert!(browser.requests.iter().all(|url| url.starts_with(&served.base)), "{:?}", browser.requests);

    drop(served);
    browser.wait_until("document.body.classList.contains('lost')");
    let told = browser.evaluate("getComputedStyle(document.getElementById('lost')).display");
    assert_eq!(told, "block");
}

#[test]
fn the_report_is_one_file_that_says_what_the_summary_says() {
    let Some(mut browser) = Browser::start("report") else { return };
    let folder = std::env::temp_dir().join(format!("halfopen-report-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let trace = folder.join("<img src=x onerror=alert(1)>.pcap");
    let mut scenario = Scenario::from_toml(&example("demo.toml")).unwrap();
    scenario.duration = Duration::from_secs(240);
    let mut writer = PcapWriter::create(&trace).unwrap();
    scenario.stream().for_each(|at, frame| writer.write(at, frame).unwrap());
    writer.finish().unwrap();
    let config = folder.join("sensor.toml");
    std::fs::write(&config, example("demo-sensor.toml")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_halfopen"))
        .args(["replay", "--json", "--config.file"])
        .arg(&config)
        .arg("--report")
        .arg(folder.join("report.html"))
        .arg(&trace)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();

    browser.screen(1280, 1180, false);
    let address = format!("file://{}", folder.join("report.html").display());
    browser.open(&address);
    let said = browser.evaluate("document.body.innerText");
    let said = said.as_str().unwrap();
    let incidents = summary["incidents"].as_array().unwrap();
    assert!(incidents.iter().any(|incident| incident["kind"] == "spoofed_flood"), "{incidents:#?}");
    assert_eq!(browser.evaluate("document.querySelectorAll('article.incident').length"), incidents.len());
    for incident in incidents {
        for evidence in incident["evidence"].as_array().unwrap() {
            assert!(said.contains(evidence["text"].as_str().unwrap()), "{evidence}");
        }
    }
    let tiles = browser.evaluate("Object.fromEntries([...document.querySelectorAll('.tiles div')].map(tile => [tile.children[0].textContent, tile.children[1].textContent]))");
    assert_eq!(number(&tiles["attempts"]), summary["handshakes"]["attempts"].as_u64().unwrap());
    assert_eq!(number(&tiles["completed"]), summary["handshakes"]["completed"].as_u64().unwrap());
    assert_eq!(number(&tiles["frames"]), summary["frames"]["read"].as_u64().unwrap());
    for (name, key) in [("refused", "refused"), ("unanswered", "unanswered"), ("abandoned", "abandoned")] {
        let row = browser.evaluate(&format!("[...document.querySelectorAll('tr')].find(row => row.cells[0].textContent === '{name}').cells[1].textContent"));
        assert_eq!(number(&row), summary["handshakes"][key].as_u64().unwrap(), "{name}");
    }
    // Two lines for the whole, two plots of three lines for each incident on a server that was followed.
    let points = browser.evaluate(POINTS);
    let points: Vec<u64> = points.as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).collect();
    assert!(points.len() >= 7 && points[..4].iter().all(|&count| count >= 230), "{points:?}");
    assert!(browser.evaluate("document.querySelectorAll('rect.band').length").as_u64().unwrap() >= 3);
    assert!(said.contains("halfopen replay --json --config.file") && said.contains("'"), "how to repeat it");
    assert!(said.contains(trace.to_str().unwrap()), "the file's name, as it is");
    assert_eq!(
        browser.evaluate("document.querySelectorAll('script, img, link, [style], [onerror]').length"),
        0
    );

    assert_eq!(browser.evaluate(TOO_WIDE), 0);
    browser.screen(390, 844, true);
    assert_eq!(browser.evaluate(TOO_WIDE), 0, "on a phone");
    let printed = browser.call("Page.printToPDF", &serde_json::json!({ "printBackground": false }));
    assert!(printed["data"].as_str().unwrap().len() > 20_000, "a page on paper");
    assert!(
        browser.console.is_empty() && browser.dialogs.is_empty(),
        "{:#?} {:?}",
        browser.console,
        browser.dialogs
    );
    assert_eq!(browser.requests, [address.replace('<', "%3C").replace('>', "%3E").replace(' ', "%20")]);

    // The picture is of a report with a name that people give.
    std::fs::copy(&trace, folder.join("shop.pcap")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_halfopen"));
    let plain =
        command.args(["replay", "--config.file", "sensor.toml", "--report", "shop.html", "shop.pcap"]);
    assert!(plain.current_dir(&folder).output().unwrap().status.success());
    browser.screen(1280, 1180, false);
    browser.open(&format!("file://{}", folder.join("shop.html").display()));
    let command = browser.evaluate("document.querySelector('pre').textContent.trim()");
    assert_eq!(command, "halfopen replay --config.file sensor.toml --report shop.html shop.pcap");
    picture(&mut browser, "report.png");

    // The same trace gives the same report, whatever its name.
    let read = |name: &str| {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        let (_, from) = text.split_once("<section").unwrap();
        from.split_once("To repeat it").unwrap().0.to_owned()
    };
    assert!(read("report.html") == read("shop.html"), "two reports of one trace differ");
    std::fs::remove_dir_all(&folder).unwrap();
}
