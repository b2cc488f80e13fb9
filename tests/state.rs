//! What a restart must not lose: an incident goes on under its id, its baselines hold, and the attack is not learned as normal.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that fails should say so at once"
)]
#![allow(unreachable_pub, reason = "its modules are its own")]

mod support;

use halfopen::capture::{CaptureError, Frame, FrameSource, InterfaceCounters, LinkType, SourceEvent};
use halfopen::config::Config;
use halfopen::detect::incident::{Change, IncidentKind, JournalEntry};
use halfopen::pipeline::Sensor;
use halfopen::synth::Scenario;
use halfopen::time::Timestamp;
use proptest::prelude::*;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::namespaces::{Namespaces, SERVER, SERVER_LINK};
use support::process::{Process, Signal};
use support::{helper, wait_for};

type Frames = Vec<(Timestamp, Vec<u8>)>;
type Part<'a> = &'a [(Timestamp, Vec<u8>)];

fn frames(toml: &str) -> Frames {
    let mut frames = Vec::new();
    let scenario = Scenario::from_toml(toml).unwrap();
    scenario.stream().for_each(|ts, frame| frames.push((ts, frame.to_vec())));
    frames
}

/// Frames that end with the sensor killed: what it remembers is asked before the last of it is judged.
struct Killed<'a> {
    frames: Part<'a>,
    next: usize,
    sensor: &'a Sensor,
    remembered: &'a Mutex<Vec<u8>>,
    counters: Arc<InterfaceCounters>,
}

impl FrameSource for Killed<'_> {
    fn next_event(&mut self) -> Result<SourceEvent<'_>, CaptureError> {
        let Some((ts, data)) = self.frames.get(self.next) else {
            *self.remembered.lock().unwrap() = self.sensor.remembered();
            return Ok(SourceEvent::End);
        };
        self.next += 1;
        Ok(SourceEvent::Frame(Frame { ts: *ts, link: LinkType::ETHERNET, orig_len: data.len() as u32, data }))
    }

    fn publish(&mut self) {}

    fn counters(&self) -> Vec<Arc<InterfaceCounters>> {
        vec![Arc::clone(&self.counters)]
    }
}

/// One life of a sensor: what it told, and what it remembered when it was killed.
fn live(frames: Part<'_>, state: Option<&[u8]>) -> (Vec<JournalEntry>, Vec<u8>) {
    let told: Arc<Mutex<Vec<JournalEntry>>> = Arc::default();
    let journal = Arc::clone(&told);
    let hear = move |entry: &JournalEntry| journal.lock().unwrap().push(entry.clone());
    let sensor = Sensor::repeatable(&Config::default(), Box::new(hear));
    if let Some(state) = state {
        sensor.recall(state).unwrap();
        // What is brought back is all there is to keep.
        assert_eq!(
            String::from_utf8(sensor.remembered()).unwrap(),
            String::from_utf8(state.to_vec()).unwrap()
        );
    }
    let remembered = Mutex::default();
    let counters = InterfaceCounters::new("test");
    sensor
        .run_source(Killed { frames, next: 0, sensor: &sensor, remembered: &remembered, counters })
        .unwrap();
    let told = told.lock().unwrap().clone();
    (told, remembered.into_inner().unwrap())
}

/// The frames before a moment and those from another on: what came between was never seen.
fn cut(frames: &Frames, killed: u64, back: u64) -> (Part<'_>, Part<'_>) {
    let start = frames[0].0;
    let place = |second| frames.partition_point(|(ts, _)| ts.since(start) < Duration::from_secs(second));
    (&frames[..place(killed)], &frames[place(back)..])
}

fn of(told: &[JournalEntry], change: Change, kind: IncidentKind) -> Vec<&JournalEntry> {
    told.iter().filter(|entry| entry.event == change && entry.incident.kind == kind).collect()
}

/// Two slow floods on one server with ordinary load; the sensor is killed within the first.
const FLOODS: &str = r#"
seed = 7
duration = 420
[[traffic]]
kind = "handshakes"
rate = 50
up = 0
down = 0
abandoned = 0.01
[[traffic]]
kind = "flood"
rate = 20
dispersion = 1
start = 120
duration = 120
[[traffic]]
kind = "flood"
rate = 20
dispersion = 1
start = 340
duration = 60
"#;

#[test]
fn an_incident_goes_on_under_its_id_and_is_not_learned_as_normal() {
    let frames = frames(FLOODS);
    let (before, after) = cut(&frames, 160, 164);
    let (told, state) = live(before, None);
    let flood = IncidentKind::SpoofedFlood;
    let raised = of(&told, Change::Raised, flood);
    let first = raised.first().expect("the first flood is found before the kill");
    assert_eq!(raised.len(), 1);
    let id = first.incident.id.as_str();

    let (told, _) = live(after, Some(&state));
    let ended = of(&told, Change::Ended, flood);
    assert_eq!(ended[0].incident.id, id);
    let incident = &ended[0].incident;
    assert_eq!((incident.onset, incident.detected_at), (first.incident.onset, first.incident.detected_at));
    // 120 s of 20/s and of 50/s, less the four seconds not seen and what came before it was found.
    assert!(incident.attempts > 6_000, "{}", incident.attempts);
    // The same flood again is as remarkable as the first time, and found as soon.
    let again = of(&told, Change::Raised, flood);
    assert_eq!(again.len(), 1, "{told:#?}");
    assert_ne!(again[0].incident.id, id);
    let delay = |entry: &JournalEntry, begun: u64| {
        entry.ts.since(frames[0].0.plus(Duration::from_secs(begun))).as_secs_f64()
    };
    let (first, again) = (delay(first, 120), delay(again[0], 340));
    assert!(again < first + 3.0, "found after {first} s, then after {again} s");
}

/// What it is good for: without the state the same restart makes a second incident of the first flood.
#[test]
fn without_state_it_would_be_another_incident() {
    let frames = frames(FLOODS);
    let (before, after) = cut(&frames, 160, 164);
    let (told, _) = live(before, None);
    let id = told[0].incident.id.clone();
    let (told, _) = live(after, None);
    assert!(told.iter().all(|entry| entry.incident.id != id));
}

#[test]
fn a_baseline_is_kept() {
    // Five unresolved a second are this server's peace; a stranger's would be a flood.
    let text = r#"
seed = 9
duration = 900
[[traffic]]
kind = "handshakes"
rate = 10
up = 0
down = 0
abandoned = 0.25
unanswered = 0.25
"#;
    let frames = frames(text);
    let (before, after) = cut(&frames, 600, 601);
    let (_, state) = live(before, None);
    let (with, _) = live(after, Some(&state));
    assert!(with.is_empty(), "{with:#?}");
}

#[test]
fn a_scan_goes_on_too() {
    let text = r#"
seed = 24
duration = 150
[[traffic]]
kind = "handshakes"
servers = "192.0.2.0/28:80"
rate = 50
up = 0
down = 0
[[traffic]]
kind = "scan"
targets = "192.0.2.10:1-2000"
rate = 10
start = 30
duration = 60
silent = 0
"#;
    let frames = frames(text);
    let (before, after) = cut(&frames, 60, 61);
    let (told, state) = live(before, None);
    let raised = of(&told, Change::Raised, IncidentKind::PortScan);
    assert_eq!(raised.len(), 1, "{told:#?}");
    let id = &raised[0].incident.id;
    let (told, _) = live(after, Some(&state));
    assert!(of(&told, Change::Raised, IncidentKind::PortScan).is_empty(), "{told:#?}");
    let ended = of(&told, Change::Ended, IncidentKind::PortScan);
    assert_eq!(&ended[0].incident.id, id);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whoever can write the file can write anything in it: it is refused or judged with, never a panic.
    #[test]
    fn whatever_the_state_says_nothing_breaks(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), prop::sample::select(vec![
            "1e308", "-1", "null", "18446744073709551615", "9223372036854775807", "0", "1e17", "true", "[]", "\"x\"",
        ])), 1..6),
    ) {
        let (frames, state) = small();
        let mut text = String::from_utf8(state.clone()).unwrap();
        for (place, value) in edits {
            // Some number of it becomes something else.
            let numbers: Vec<(usize, usize)> = numbers(&text);
            let (start, end) = numbers[place.index(numbers.len())];
            text.replace_range(start..end, value);
        }
        let sensor = Sensor::repeatable(&Config::default(), Box::new(|_| {}));
        if sensor.recall(text.as_bytes()).is_ok() {
            let (rest, remembered) = (&frames[frames.len() / 2..], Mutex::default());
            let counters = InterfaceCounters::new("test");
            sensor.run_source(Killed { frames: rest, next: 0, sensor: &sensor, remembered: &remembered, counters }).unwrap();
            // And what it remembers then can be recalled.
            let again = Sensor::repeatable(&Config::default(), Box::new(|_| {}));
            prop_assert!(again.recall(&remembered.into_inner().unwrap()).is_ok());
        }
    }
}

/// Where the numbers of a JSON text are.
fn numbers(text: &str) -> Vec<(usize, usize)> {
    let bytes = text.as_bytes();
    let part =
        |at: usize| bytes.get(at).is_some_and(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'e'));
    let begins = |at: &usize| matches!(bytes[at - 1], b'[' | b',' | b':') && part(*at) && bytes[*at] != b'e';
    (1..bytes.len()).filter(begins).map(|at| (at, (at..).find(|&end| !part(end)).unwrap())).collect()
}

/// A short flood and the state within it, made once.
fn small() -> &'static (Frames, Vec<u8>) {
    static SMALL: std::sync::OnceLock<(Frames, Vec<u8>)> = std::sync::OnceLock::new();
    SMALL.get_or_init(|| {
        let text = FLOODS
            .replace("duration = 420", "duration = 50")
            .replace("start = 120\nduration = 120", "start = 20\nduration = 25")
            .replace("rate = 20", "rate = 200")
            .replace("start = 340\nduration = 60", "start = 49\nduration = 1");
        let frames = frames(&text);
        let (before, _) = cut(&frames, 35, 35);
        let (told, state) = live(before, None);
        assert!(!told.is_empty());
        (frames, state)
    })
}

/// Not a test: what the parties inside the namespaces run.
#[test]
fn helper() {
    helper::main();
}

const WEB: &str = "127.0.0.1:10793";
const PATIENCE: Duration = Duration::from_secs(30);

struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn start(namespaces: &Namespaces, config: &str) -> Process {
    let mut command = Namespaces::command(&namespaces.servers, env!("CARGO_BIN_EXE_halfopen"));
    command.args(["run", "-i", SERVER_LINK, "--web.listen-address", WEB, "--config.file", config]);
    let mut process = Process::start(&mut command);
    wait_for("a ready sensor", PATIENCE, || {
        assert!(process.is_running(), "{}", process.describe());
        helper::get(&namespaces.servers, WEB, "/-/ready")
    });
    process
}

/// `kill -9` in the middle of a flood on a real link, twice; then a damaged file.
#[test]
fn killed_in_the_middle_of_an_incident() {
    let Some(namespaces) = Namespaces::make() else { return };
    let path = std::env::temp_dir().join(format!("halfopen-killed-{}", std::process::id()));
    fs::create_dir_all(&path).unwrap();
    let directory = Directory(path);
    let place = |name: &str| directory.0.join(name).display().to_string();
    let (journal, state, config) = (place("j"), place("state"), place("halfopen.toml"));
    let text = format!(
        "[detect]\ncalm = \"3s\"\n[journal]\npath = \"{journal}\"\n[state]\npath = \"{state}\"\nevery = \"500ms\"\n"
    );
    fs::write(&config, text).unwrap();
    let lines = |what: &str| -> Vec<serde_json::Value> {
        let text = fs::read_to_string(&journal).unwrap_or_default();
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.filter(|line| line["event"] == what).collect()
    };

    let mut sensor = start(&namespaces, &config);
    let _listener = helper::listener(&namespaces.servers, &format!("{SERVER}:80"));
    let mut flood =
        Process::start(&mut helper::command(&namespaces.originators, &format!("forge {SERVER}:80 120000")));
    let raised = wait_for("an incident", PATIENCE, || {
        lines("raised").into_iter().next().ok_or_else(|| sensor.describe())
    });
    let id = raised["incident"]["id"].as_str().unwrap().to_owned();
    for _ in 0..2 {
        // As soon as the file names it: the news is not waited for until the next regular writing.
        wait_for("the incident in the state", PATIENCE, || {
            let text = fs::read_to_string(&state).map_err(|why| why.to_string())?;
            if text.contains(&id) { Ok(()) } else { Err(text.len().to_string()) }
        });
        sensor.signal(Signal::Kill);
        sensor.wait(PATIENCE);
        sensor = start(&namespaces, &config);
        sensor.wait_for_line("state brought back", PATIENCE);
        let listed = helper::get(&namespaces.servers, WEB, "/api/v1/incidents").unwrap();
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        assert_eq!(listed["incidents"][0]["id"], id.as_str());
        assert!(listed["incidents"][0]["ended_at"].is_null(), "{listed}");
    }
    flood.wait(PATIENCE);
    let ended =
        wait_for("its end", PATIENCE, || lines("ended").into_iter().next().ok_or_else(|| sensor.describe()));
    assert_eq!(ended["incident"]["id"], id.as_str());
    assert_eq!(lines("raised").len(), 1, "one episode, one incident");
    sensor.signal(Signal::Terminate);
    assert_eq!(sensor.wait(Duration::from_secs(2)).code(), Some(0));

    // A file that was cut off is set aside and named; the sensor starts.
    let whole = fs::read(&state).unwrap();
    fs::write(&state, &whole[..whole.len() - 5]).unwrap();
    let mut sensor = start(&namespaces, &config);
    let line = sensor.wait_for_line("state file set aside", PATIENCE);
    assert!(line.contains("cut off") && line.contains(".unusable"), "{line}");
    assert_eq!(fs::read(format!("{state}.unusable")).unwrap(), &whole[..whole.len() - 5]);
    let metrics = helper::get(&namespaces.servers, WEB, "/metrics").unwrap();
    assert!(metrics.contains("\nhalfopen_state_set_aside_total 1\n"));
    sensor.signal(Signal::Terminate);
    sensor.wait(Duration::from_secs(2));
}
