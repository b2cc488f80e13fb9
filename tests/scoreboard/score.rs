//! One scenario: run, held against its demands, told as a row of the table.

use crate::expect::{Expect, Found};
use crate::lockstep;
use halfopen::config::Config;
use halfopen::detect::incident::{Change, JournalEntry};
use halfopen::pipeline::Sensor;
use halfopen::report::snapshot::SnapshotSource;
use halfopen::synth::Scenario;
use halfopen::synth::source::SynthSource;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex};

/// The head of the table.
pub(crate) const HEAD: &str = "\
| scenario                       | expected                                   | found | delay: mean, worst | at most    | missed | false |\n\
| ------------------------------ | ------------------------------------------ | ----- | ------------------ | ---------- | ------ | ----- |";

/// The verdict on one scenario.
#[derive(Debug, Default)]
pub(crate) struct Row {
    name: String,
    expected: String,
    found: usize,
    of: usize,
    delays: Vec<f64>,
    limits: String,
    missed: usize,
    false_alarms: usize,
    /// What went wrong, a line each.
    pub(crate) complaints: Vec<String>,
}

/// What a sensor said of a trace.
struct Said {
    journal: Vec<JournalEntry>,
    /// Everything else that must not differ from run to run.
    rest: String,
}

impl Said {
    /// Where the two part.
    fn differs(&self, other: &Self) -> Option<String> {
        let lines = |said: &Self| -> Vec<String> {
            let journal = said.journal.iter().map(|entry| serde_json::to_string(entry).unwrap());
            journal.chain([said.rest.clone()]).collect()
        };
        let (mine, theirs) = (lines(self), lines(other));
        let (mine, theirs) = mine.iter().zip(&theirs).find(|(mine, theirs)| mine != theirs)?;
        let at = mine.bytes().zip(theirs.bytes()).position(|(mine, theirs)| mine != theirs).unwrap_or(0);
        let around = |text: &str| {
            let bytes = &text.as_bytes()[at.saturating_sub(80)..(at + 40).min(text.len())];
            String::from_utf8_lossy(bytes).into_owned()
        };
        Some(format!("{} | {}", around(mine), around(theirs)))
    }
}

/// Runs a scenario, once for each seed and once more, and judges what was said.
pub(crate) fn judge(name: &str, scenario: &Scenario, expect: &Expect) -> Row {
    let config = expect.config();
    let mut row = Row { name: name.to_owned(), expected: expected(expect), ..Row::default() };
    row.limits = expect.found.iter().map(limit).collect::<Vec<_>>().join(", ");
    let mut delays = vec![Vec::new(); expect.found.len()];
    for seed in 0..expect.seeds.unwrap_or(1) {
        let scenario = Scenario { seed: scenario.seed + seed, ..scenario.clone() };
        let said = alone(&scenario, &config);
        if seed == 0 {
            if let Some(what) = said.differs(&alone(&scenario, &config)) {
                row.complain(&format!("the second run said something else: {what}"));
            }
            if let Some(what) = expect.threads.then(|| said.differs(&together(&scenario, &config))).flatten()
            {
                row.complain(&format!("two capture threads said something else: {what}"));
            }
        }
        row.hold(&scenario, expect, &said.journal, &mut delays);
    }
    for (found, delays) in expect.found.iter().zip(&delays) {
        let mean = delays.iter().sum::<f64>() / delays.len().max(1) as f64;
        if let Some(most) = found.mean.filter(|most| mean > *most) {
            row.missed += 1;
            row.complain(&format!("mean delay {mean:.2} s, not {most}"));
        }
    }
    row.delays = delays.concat();
    row
}

impl Row {
    /// Whether all demands are met.
    pub(crate) fn good(&self) -> bool {
        self.complaints.is_empty()
    }

    fn complain(&mut self, what: &str) {
        self.complaints.push(format!("{}: {what}", self.name));
    }

    fn hold(
        &mut self,
        scenario: &Scenario,
        expect: &Expect,
        journal: &[JournalEntry],
        delays: &mut [Vec<f64>],
    ) {
        let seconds = |entry: &JournalEntry| entry.ts.since(scenario.start()).as_secs_f64();
        let seed = scenario.seed;
        for (found, delays) in expect.found.iter().zip(delays) {
            self.of += 1;
            let entries = || journal.iter().filter(|entry| found.fits(entry));
            let Some(first) = entries().find(|entry| seconds(entry) >= found.onset) else {
                self.missed += 1;
                self.complain(&format!("seed {seed}: no {} of {:?}", found.kind.join("/"), found.server));
                continue;
            };
            let delay = seconds(first) - found.onset;
            delays.push(delay);
            if delay > found.within {
                self.missed += 1;
                self.complain(&format!("seed {seed}: after {delay:.2} s, not {}", found.within));
            } else {
                self.found += 1;
            }
            let last = entries().next_back().map_or("", |entry| entry.incident.server_mode.as_label());
            if let Some(mode) = found.mode.as_deref().filter(|mode| *mode != last) {
                self.missed += 1;
                self.complain(&format!("seed {seed}: the server's mode is told as {last}, not {mode}"));
            }
            let raised = entries().filter(|entry| entry.event == Change::Raised).count();
            let again = raised.saturating_sub(found.times.unwrap_or(1));
            if again > 0 {
                self.false_alarms += again;
                self.complain(&format!("seed {seed}: raised {raised} times: {}", found.kind.join("/")));
            }
        }
        let mut surplus = BTreeSet::new();
        for entry in journal {
            let kind = entry.incident.kind.as_label();
            let wanted = expect.found.iter().any(|found| found.fits(entry) && seconds(entry) >= found.onset);
            if !wanted && !expect.allow.iter().any(|allowed| allowed == kind) {
                let told = (kind, entry.incident.server.clone());
                if surplus.insert(told) {
                    self.false_alarms += 1;
                    self.complain(&format!(
                        "seed {seed}: at {:.1} s {kind} of {}: {}",
                        seconds(entry),
                        entry.incident.server,
                        evidence(entry)
                    ));
                }
            }
        }
    }
}

impl Found {
    fn fits(&self, entry: &JournalEntry) -> bool {
        let incident = &entry.incident;
        let scope = serde_json::to_value(incident.scope).unwrap();
        self.kind.iter().any(|kind| kind == incident.kind.as_label())
            && self.server.as_ref().is_none_or(|server| *server == incident.server)
            && self.scope.as_deref().is_none_or(|wanted| scope == wanted)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.delays.len().max(1) as f64;
        let delay = if self.delays.is_empty() {
            String::new()
        } else {
            let worst = self.delays.iter().copied().fold(f64::MIN, f64::max);
            format!("{:.2} s, {worst:.2} s", self.delays.iter().sum::<f64>() / n)
        };
        let found = format!("{}/{}", self.found, self.of);
        write!(
            f,
            "| {:30} | {:42} | {found:5} | {delay:18} | {:10} | {:6} | {:5} |",
            self.name, self.expected, self.limits, self.missed, self.false_alarms
        )
    }
}

fn expected(expect: &Expect) -> String {
    let mut all: Vec<String> = expect.found.iter().map(|found| found.kind.join(" or ")).collect();
    all.dedup();
    if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
}

fn limit(found: &Found) -> String {
    found.mean.map_or_else(|| format!("{} s", found.within), |mean| format!("mean {mean} s"))
}

fn evidence(entry: &JournalEntry) -> String {
    let signals = entry.incident.evidence.iter();
    let told: Vec<_> = signals.map(|e| format!("{} {:.1} ({:.1})", e.signal, e.value, e.threshold)).collect();
    told.join(", ")
}

fn sensor(config: &Config) -> (Arc<Sensor>, Arc<Mutex<Vec<JournalEntry>>>) {
    let journal = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&journal);
    let sensor = Sensor::repeatable(config, Box::new(move |entry| kept.lock().unwrap().push(entry.clone())));
    (sensor, journal)
}

/// One capture thread.
fn alone(scenario: &Scenario, config: &Config) -> Said {
    let (sensor, journal) = sensor(config);
    sensor.run_source(SynthSource::new(scenario.stream())).unwrap();
    said(&sensor, &journal)
}

/// Two capture threads that share the connections between them.
fn together(scenario: &Scenario, config: &Config) -> Said {
    let (sensor, journal) = sensor(config);
    std::thread::scope(|scope| {
        let running = lockstep::halves(&scenario.stream()).map(|half| {
            let sensor = Arc::clone(&sensor);
            scope.spawn(move || sensor.run_source(half).unwrap())
        });
        for thread in running {
            thread.join().unwrap();
        }
    });
    said(&sensor, &journal)
}

fn said(sensor: &Sensor, journal: &Mutex<Vec<JournalEntry>>) -> Said {
    let snapshot = sensor.snapshot();
    let rest = format!("{:?} {:?} {:?}", snapshot.handshakes, snapshot.servers, snapshot.incidents);
    Said { journal: std::mem::take(&mut *journal.lock().unwrap()), rest }
}
