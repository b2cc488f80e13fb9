//! The binary's own part: what `top` knows of a sensor, and what it makes of it. No terminal, no network.

use halfopen::report::text::printable;
use serde::{Deserialize, Deserializer};
use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};

/// Rates kept of each server for its little curve: as many as the column is wide.
pub(super) const TREND: usize = 16;

/// `/api/v1/overview`, as far as it is shown. What another version leaves out is zero.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Overview {
    #[serde(deserialize_with = "safe")]
    pub(super) version: String,
    pub(super) network_time: Option<f64>,
    pub(super) handshakes: Handshakes,
    pub(super) table: Table,
    pub(super) interfaces: Vec<Interface>,
    pub(super) process: Process,
    pub(super) servers: Vec<Server>,
    pub(super) incidents: Vec<Incident>,
    pub(super) history: History,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Handshakes {
    pub(super) attempts: u64,
    pub(super) completed: u64,
    pub(super) open: Open,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Open {
    pub(super) syn_sent: u64,
    pub(super) syn_received: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Table {
    pub(super) limit: u64,
    pub(super) emergency: bool,
    pub(super) expiry_lag_seconds: f64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Interface {
    #[serde(deserialize_with = "safe")]
    pub(super) interface: String,
    pub(super) up: bool,
    pub(super) drops_kernel: u64,
    pub(super) drops_interface: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Process {
    pub(super) resident_bytes: u64,
    pub(super) cpu_share: f64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Server {
    #[serde(deserialize_with = "safe")]
    pub(super) server: String,
    pub(super) attempts: u64,
    pub(super) completed: u64,
    pub(super) unresolved: u64,
    pub(super) embryonic_syn_sent: u64,
    pub(super) embryonic_syn_received: u64,
    pub(super) backlog_occupancy: f64,
    pub(super) backlog_limit: Option<u64>,
    pub(super) distinct_sources: u64,
    #[serde(deserialize_with = "safe")]
    pub(super) mode: String,
    pub(super) evidence: Vec<Evidence>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    #[serde(deserialize_with = "safe")]
    pub(super) signal: String,
    pub(super) value: f64,
    pub(super) threshold: f64,
    #[serde(deserialize_with = "safe")]
    pub(super) text: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Incident {
    #[serde(deserialize_with = "safe")]
    pub(super) kind: String,
    #[serde(deserialize_with = "safe")]
    pub(super) server: String,
    #[serde(deserialize_with = "safe")]
    pub(super) severity: String,
    pub(super) onset: f64,
    pub(super) ended_at: Option<f64>,
    pub(super) syn_rate_peak: f64,
    pub(super) attempts: u64,
    pub(super) completed: u64,
    pub(super) embryonic_peak: u64,
    pub(super) distinct_sources: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct History {
    pub(super) at: Vec<f64>,
    pub(super) attempts: Vec<u64>,
    pub(super) completed: Vec<u64>,
    pub(super) syn_sent: Vec<u64>,
    pub(super) syn_received: Vec<u64>,
}

/// Nothing a sensor says moves the cursor.
fn safe<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    String::deserialize(from).map(|text| printable(&text))
}

impl Server {
    pub(super) fn embryonic(&self) -> u64 {
        self.embryonic_syn_sent.saturating_add(self.embryonic_syn_received)
    }
}

impl History {
    /// A counter's growth a second between samples.
    pub(super) fn rates(&self, counter: &[u64]) -> Vec<u64> {
        let seconds = self.at.windows(2).map(|two| two[1] - two[0]);
        let grown = counter.windows(2).map(|two| two[1].saturating_sub(two[0]) as f64);
        grown.zip(seconds).map(|(grown, seconds)| (grown / seconds.max(0.001)).round() as u64).collect()
    }

    pub(super) fn embryonic(&self) -> Vec<u64> {
        self.syn_sent
            .iter()
            .zip(&self.syn_received)
            .map(|(sent, received)| sent.saturating_add(*received))
            .collect()
    }
}

/// What servers are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// Flagged by an incident first, then by attempts that newly stay unresolved, then by what is open, then by all attempts.
    Trouble,
    Embryonic,
    Attempts,
    Name,
}

impl Sort {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Trouble => "trouble",
            Self::Embryonic => "embryonic",
            Self::Attempts => "attempts",
            Self::Name => "name",
        }
    }

    pub(super) const fn next(self) -> Self {
        match self {
            Self::Trouble => Self::Embryonic,
            Self::Embryonic => Self::Attempts,
            Self::Attempts => Self::Name,
            Self::Name => Self::Trouble,
        }
    }
}

/// A server's rates since the answer before, a second.
#[derive(Debug, Clone, Default)]
pub(super) struct Rates {
    pub(super) attempts: f64,
    pub(super) completed: f64,
    pub(super) unresolved: f64,
    /// Attempts a second, oldest first.
    pub(super) trend: VecDeque<u64>,
    before: [u64; 3],
}

/// Answers so far, and how they are looked at.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) last: Option<Overview>,
    /// Why the last question was not answered.
    pub(super) error: Option<String>,
    pub(super) sort: Sort,
    pub(super) filter: String,
    /// The filter is being typed.
    pub(super) typing: bool,
    pub(super) selected: usize,
    /// The server whose evidence is shown.
    pub(super) opened: Option<String>,
    rates: HashMap<String, Rates>,
}

impl Model {
    pub(super) fn new() -> Self {
        Self {
            last: None,
            error: None,
            sort: Sort::Trouble,
            filter: String::new(),
            typing: false,
            selected: 0,
            opened: None,
            rates: HashMap::new(),
        }
    }

    /// Takes an answer in, or why there is none.
    pub(super) fn hear(&mut self, answer: Result<Overview, String>) {
        let overview = match answer {
            Ok(overview) => overview,
            Err(why) => {
                self.error = Some(printable(&why));
                return;
            }
        };
        self.error = None;
        let then = self.last.as_ref().and_then(|last| last.network_time);
        let seconds = overview.network_time.zip(then).map_or(0.0, |(now, then)| now - then);
        let mut before = std::mem::take(&mut self.rates);
        for server in &overview.servers {
            let now = [server.attempts, server.completed, server.unresolved];
            let mut rates =
                before.remove(&server.server).unwrap_or_else(|| Rates { before: now, ..Rates::default() });
            // Counters that went back are those of a sensor that was started again.
            if seconds > 0.0 && now.iter().zip(rates.before).all(|(now, before)| *now >= before) {
                let grown: [f64; 3] =
                    std::array::from_fn(|index| (now[index] - rates.before[index]) as f64 / seconds);
                [rates.attempts, rates.completed, rates.unresolved] = grown;
                rates.trend.push_back(grown[0].round() as u64);
                if rates.trend.len() > TREND {
                    rates.trend.pop_front();
                }
            }
            rates.before = now;
            self.rates.insert(server.server.clone(), rates);
        }
        self.last = Some(overview);
        self.selected = self.selected.min(self.servers().len().saturating_sub(1));
    }

    pub(super) fn rates(&self, server: &str) -> Rates {
        self.rates.get(server).cloned().unwrap_or_default()
    }

    /// Whether an incident above info runs on it.
    pub(super) fn flagged(&self, server: &str) -> bool {
        let incidents = self.last.iter().flat_map(|last| &last.incidents);
        incidents
            .filter(|one| one.ended_at.is_none() && one.severity != "info")
            .any(|one| one.server == server)
    }

    /// Incidents that run, the gravest and newest first, then those that ended last.
    pub(super) fn incidents(&self) -> Vec<&Incident> {
        let grave =
            |one: &Incident| ["info", "warning", "critical"].iter().position(|name| *name == one.severity);
        let mut all: Vec<&Incident> = self.last.iter().flat_map(|last| &last.incidents).collect();
        all.sort_by(|a, b| {
            let key = |one: &Incident| (one.ended_at.is_none(), one.ended_at.is_none().then(|| grave(one)));
            key(b).cmp(&key(a)).then(b.onset.total_cmp(&a.onset))
        });
        all
    }

    /// Servers that pass the filter, sorted; `other` last.
    pub(super) fn servers(&self) -> Vec<&Server> {
        let all = self.last.iter().flat_map(|last| &last.servers);
        let passes = |server: &&Server| {
            server.server.contains(&self.filter) && (server.server != "other" || server.attempts > 0)
        };
        let mut shown: Vec<&Server> = all.filter(passes).collect();
        shown.sort_by_cached_key(|server| {
            let rates = self.rates.get(&server.server);
            let number = match self.sort {
                Sort::Trouble => rates.map_or(0, |rates| (rates.unresolved * 1000.0) as u64),
                Sort::Embryonic => server.embryonic(),
                Sort::Attempts => rates.map_or(0, |rates| (rates.attempts * 1000.0) as u64),
                Sort::Name => 0,
            };
            let flagged = self.sort == Sort::Trouble && self.flagged(&server.server);
            let open = if self.sort == Sort::Name { 0 } else { server.embryonic() };
            let busy = if self.sort == Sort::Name { 0 } else { server.attempts };
            (server.server == "other", Reverse((flagged, number, open, busy)), server.server.clone())
        });
        shown
    }

    /// What a key does; whether it ends the program.
    pub(super) fn key(&mut self, key: Key) -> bool {
        if self.typing {
            match key {
                Key::Char(c) => self.filter.push(c),
                Key::Backspace => _ = self.filter.pop(),
                Key::Enter => self.typing = false,
                Key::Escape => {
                    self.typing = false;
                    self.filter.clear();
                }
                Key::Up | Key::Down => {}
            }
            self.selected = 0;
            return false;
        }
        let last = self.servers().len().saturating_sub(1);
        match key {
            Key::Char('q') => return true,
            Key::Char('s') => self.sort = self.sort.next(),
            Key::Char('/') => self.typing = true,
            Key::Up | Key::Char('k') => self.selected = self.selected.saturating_sub(1),
            Key::Down | Key::Char('j') => self.selected = (self.selected + 1).min(last),
            Key::Enter => {
                let chosen = self.servers().get(self.selected).map(|server| server.server.clone());
                self.opened = if self.opened.is_some() { None } else { chosen };
            }
            Key::Escape | Key::Backspace if self.opened.is_some() => self.opened = None,
            Key::Escape => self.filter.clear(),
            Key::Char(_) | Key::Backspace => {}
        }
        false
    }
}

/// The keys that mean something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Enter,
    Escape,
    Backspace,
    Up,
    Down,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    pub(in crate::app::top) fn answer(second: f64, attempts: u64) -> Overview {
        serde_json::from_value(json!({
            "version": "1.2.3", "network_time": 1_750_000_000.0 + second,
            "handshakes": { "attempts": 2 * attempts, "completed": 50, "open": { "syn_sent": 3, "syn_received": 400 } },
            "table": { "limit": 1_048_576, "expiry_lag_seconds": 0.002 },
            "interfaces": [{ "interface": "eth1", "up": true, "drops_kernel": 7, "drops_interface": 0 }],
            "process": { "resident_bytes": 20_971_520, "cpu_share": 0.042 },
            "servers": [
                { "server": "calm", "attempts": 10, "completed": 10, "mode": "unknown", "embryonic_syn_received": 9 },
                { "server": "shop", "attempts": attempts, "completed": 5, "unresolved": attempts / 2, "mode": "queue",
                  "embryonic_syn_received": 3, "backlog_occupancy": 500.4, "backlog_limit": 511, "distinct_sources": 77,
                  "evidence": [{ "signal": "cusum", "value": 30.5, "threshold": 19.9, "text": "log\u{1b}[2J-likelihood" }] },
                { "server": "other", "attempts": 0 }],
            "incidents": [
                { "kind": "port_scan", "server": "198.18.0.1", "severity": "warning", "onset": 1.0, "ended_at": 2.0 },
                { "kind": "spoofed_flood", "server": "shop", "severity": "critical", "onset": 1_750_000_000.0,
                  "ended_at": null, "attempts": 1234, "embryonic_peak": 999 }],
            "history": { "at": [0.0, 1.0, 3.0], "attempts": [0, 10, 30], "completed": [0, 5, 10],
                         "syn_sent": [0, 1, 2], "syn_received": [0, 1, 5] },
        }))
        .unwrap()
    }

    fn names(model: &Model) -> Vec<&str> {
        model.servers().iter().map(|server| server.server.as_str()).collect()
    }

    #[test]
    fn trouble_comes_first_and_keys_change_it() {
        let mut model = Model::new();
        model.hear(Ok(answer(0.0, 100)));
        assert_eq!(names(&model), ["shop", "calm"]);
        for sort in ["embryonic", "attempts", "name", "trouble"] {
            model.key(Key::Char('s'));
            assert_eq!(model.sort.label(), sort);
            let first = if sort == "embryonic" || sort == "name" { "calm" } else { "shop" };
            // No rate is known yet: what is open decides.
            assert_eq!(names(&model)[0], if sort == "attempts" { "calm" } else { first }, "{sort}");
        }
        for c in "/ca".chars() {
            model.key(Key::Char(c));
        }
        assert_eq!((names(&model), model.typing), (vec!["calm"], true));
        model.key(Key::Enter);
        assert!(!model.key(Key::Char('j')) && model.selected == 0);
        model.key(Key::Enter);
        assert_eq!(model.opened.as_deref(), Some("calm"));
        model.key(Key::Escape);
        model.key(Key::Escape);
        assert_eq!((model.opened.is_none(), names(&model).len()), (true, 2));
        assert!(model.key(Key::Char('q')));
    }

    #[test]
    fn rates_are_of_network_time_and_survive_a_restart() {
        let mut model = Model::new();
        model.hear(Ok(answer(0.0, 100)));
        model.hear(Ok(answer(2.0, 160)));
        let rates = model.rates("shop");
        assert_eq!((rates.attempts, rates.unresolved, rates.completed), (30.0, 15.0, 0.0));
        model.hear(Err("connection refused\u{1b}[2J".to_owned()));
        assert_eq!(model.error.as_deref(), Some("connection refused\\u{1b}[2J"));
        assert_eq!(names(&model)[0], "shop", "what was last known stays");
        // Started again: counters begin at zero, no rate is made up.
        model.hear(Ok(answer(10.0, 20)));
        assert_eq!((model.rates("shop").attempts, model.error.is_none()), (30.0, true));
        model.hear(Ok(answer(11.0, 25)));
        assert_eq!(model.rates("shop").attempts, 5.0);
        assert_eq!(Vec::from(model.rates("shop").trend), [30, 5]);
    }

    #[test]
    fn what_comes_from_outside_moves_no_cursor() {
        let overview = answer(0.0, 1);
        assert_eq!(overview.servers[1].evidence[0].text, "log\\u{1b}[2J-likelihood");
        assert_eq!(overview.history.rates(&overview.history.attempts), [10, 10]);
        assert_eq!(overview.history.embryonic(), [0, 2, 7]);
    }

    #[test]
    fn incidents_that_run_come_first() {
        let mut model = Model::new();
        model.hear(Ok(answer(0.0, 1)));
        let kinds: Vec<_> = model.incidents().iter().map(|one| one.kind.as_str()).collect();
        assert_eq!(kinds, ["spoofed_flood", "port_scan"]);
        assert!(model.flagged("shop") && !model.flagged("198.18.0.1"));
    }
}
