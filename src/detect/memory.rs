//! Stage 4 of 5, detect: what a restart must not lose: running incidents, baselines, handshake times.
//!
//! A summary beside the detector, not the detector itself: sums of the last seconds are worth nothing after a pause. What comes back
//! comes from a file that anybody may have written, so each number is checked. No I/O, no clock.

use super::Detector;
use super::episode::{Carried, Running};
use super::incident::{Evidence, Incident, IncidentKind, Scope, ServerMode, Severity};
use super::judge::Court;
use super::ledger::Key;
use super::sources::SourceSet;
use super::statistic::{Baseline, Mean};
use super::tally::CLASSES;
use super::watch::{Settings, Watch};
use crate::config::detect::Prefix;
use crate::decode::segment::Endpoint;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// Bins of peace below which a baseline is not worth keeping: it would weigh less than what is assumed of a stranger.
const WORTH_KEEPING: f64 = 20.0;

/// What a detector knows, as plain values.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Memory {
    keys: Vec<KnownKey>,
    incidents: Vec<KnownIncident>,
    charged: Vec<KnownCharge>,
}

impl Memory {
    /// Baselines and incidents in it.
    pub fn len(&self) -> (usize, usize) {
        (self.keys.len(), self.incidents.len())
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.incidents.is_empty()
    }
}

/// A watched key, by a name that is read back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct KnownKey {
    #[serde(with = "named")]
    key: Key,
    baseline: [f64; Baseline::PARTS],
    attempts: [f64; 2],
    completed: [f64; 2],
    success: [f64; 2],
    times: [f64; CLASSES],
    answers: bool,
    usual_occupancy: f64,
    /// Its running incident, by place in the list.
    incident: Option<usize>,
    alarmed_at: Option<f64>,
}

impl KnownKey {
    fn of(watch: &Watch, incident: Option<usize>) -> Self {
        Self {
            key: watch.key,
            baseline: watch.baseline.parts(),
            attempts: watch.attempts.parts(),
            completed: watch.completed.parts(),
            success: watch.success.parts(),
            times: watch.times,
            answers: watch.answers,
            usual_occupancy: watch.usual_occupancy,
            incident,
            alarmed_at: Some(watch.alarmed_at).filter(|shift| shift.is_finite()),
        }
    }

    /// Whether every number is one that a detector may have had.
    fn is_sane(&self) -> bool {
        let lists: [&[f64]; 5] =
            [&self.baseline, &self.attempts, &self.completed, &self.success, &self.times];
        let alone = [self.usual_occupancy, self.alarmed_at.unwrap_or(0.0)];
        // A rate a bin, its square, or a count: none beyond what a link of 100 Gbit/s brings in years.
        lists.into_iter().flatten().chain(&alone).all(|number| (0.0..1e18).contains(number))
    }

    fn recall(&self, watch: &mut Watch) {
        watch.baseline = Baseline::from_parts(self.baseline);
        watch.attempts = Mean::from_parts(self.attempts);
        watch.completed = Mean::from_parts(self.completed);
        watch.success = Mean::from_parts(self.success);
        watch.times = self.times;
        watch.answers = self.answers;
        watch.usual_occupancy = self.usual_occupancy;
    }
}

/// An incident that ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct KnownIncident {
    id: String,
    kind: IncidentKind,
    scope: Scope,
    server: String,
    severity: Severity,
    /// Nanoseconds since the epoch.
    onset: i64,
    detected_at: i64,
    server_mode: ServerMode,
    #[serde(default)]
    server_mode_confidence: f64,
    syn_rate_peak: f64,
    attempts: u64,
    completed: u64,
    embryonic_peak: u64,
    backlog_occupancy_peak: f64,
    #[serde(default)]
    backlog_occupancy_estimated: bool,
    distinct_sources: u64,
    capture_loss: f64,
    evidence: Vec<(String, f64, f64, String)>,
}

impl KnownIncident {
    fn of(incident: &Incident) -> Self {
        // What is infinite has no form in JSON.
        let number = |number: f64| if number.is_nan() { 0.0 } else { number.clamp(-1e300, 1e300) };
        let evidence = |one: &Evidence| {
            (one.signal.to_owned(), number(one.value), number(one.threshold), one.text.clone())
        };
        Self {
            id: incident.id.clone(),
            kind: incident.kind,
            scope: incident.scope,
            server: incident.server.clone(),
            severity: incident.severity,
            onset: incident.onset.as_nanos(),
            detected_at: incident.detected_at.as_nanos(),
            server_mode: incident.server_mode,
            server_mode_confidence: incident.server_mode_confidence,
            syn_rate_peak: incident.syn_rate_peak,
            attempts: incident.attempts,
            completed: incident.completed,
            embryonic_peak: incident.embryonic_peak,
            backlog_occupancy_peak: incident.backlog_occupancy_peak,
            backlog_occupancy_estimated: incident.backlog_occupancy_estimated,
            distinct_sources: incident.distinct_sources,
            capture_loss: incident.capture_loss,
            evidence: incident.evidence.iter().map(evidence).collect(),
        }
    }

    fn is_sane(&self) -> bool {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let words =
            [&self.id, &self.server].into_iter().chain(self.evidence.iter().map(|(_, _, _, text)| text));
        let counts = [self.attempts, self.completed, self.embryonic_peak, self.distinct_sources];
        let numbers =
            [self.syn_rate_peak, self.backlog_occupancy_peak, self.capture_loss, self.server_mode_confidence];
        (1..=100).contains(&self.id.len())
            && self.id.chars().all(plain)
            && words.into_iter().all(|text| text.len() <= 1000 && !text.chars().any(char::is_control))
            && self.evidence.len() <= 64
            // Room to count on for a few centuries.
            && counts.iter().all(|count| *count < 1 << 60)
            && numbers.iter().all(|number| (0.0..1e18).contains(number))
    }

    fn recall(&self) -> Incident {
        let evidence = |(name, value, threshold, text): &(String, f64, f64, String)| Evidence {
            signal: signal(name),
            value: *value,
            threshold: *threshold,
            text: text.clone(),
        };
        Incident {
            id: self.id.clone(),
            kind: self.kind,
            scope: self.scope,
            server: self.server.clone(),
            severity: self.severity,
            onset: Timestamp::from_nanos(self.onset),
            detected_at: Timestamp::from_nanos(self.detected_at),
            ended_at: None,
            end_reason: None,
            server_mode: self.server_mode,
            server_mode_confidence: self.server_mode_confidence,
            syn_rate_peak: self.syn_rate_peak,
            attempts: self.attempts,
            completed: self.completed,
            embryonic_peak: self.embryonic_peak,
            backlog_occupancy_peak: self.backlog_occupancy_peak,
            backlog_occupancy_estimated: self.backlog_occupancy_estimated,
            distinct_sources: self.distinct_sources,
            capture_loss: self.capture_loss,
            evidence: self.evidence.iter().map(evidence).collect(),
        }
    }
}

/// An incident charged to an address, or to the /64 that it begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct KnownCharge {
    stray: bool,
    addr: IpAddr,
    #[serde(default)]
    subnet: bool,
    incident: usize,
}

impl KnownCharge {
    fn source(&self) -> Prefix {
        if self.subnet && self.addr.is_ipv6() { Prefix::new(self.addr, 64) } else { Prefix::whole(self.addr) }
    }
}

/// The names of signals there are; a name from an older or newer version is called `kept`.
fn signal(name: &str) -> &'static str {
    const SIGNALS: [&str; 23] = [
        "allowed",
        "answer_after_ack",
        "answered_share",
        "attempts_per_port",
        "backlog",
        "completed_rate",
        "copies",
        "cusum",
        "distinct_sources",
        "failed_hosts",
        "failed_servers",
        "known_callers",
        "not_taken",
        "occupancy",
        "outbound",
        "repeated_share",
        "server_mode",
        "source_rate",
        "unacknowledged_share",
        "unresolved_rate",
        "unsolicited_answers",
        "verdict",
        "visibility",
    ];
    SIGNALS.into_iter().find(|known| *known == name).unwrap_or("kept")
}

/// A key as text: `server 198.51.100.10:80`, `host 198.51.100.10`, `prefix 198.51.100.0/24`, `sensor`.
mod named {
    use super::{Endpoint, IpAddr, Key, Prefix, SocketAddr};
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(key: &Key, serializer: S) -> Result<S::Ok, S::Error> {
        let level = match key {
            Key::Server(_) => "server ",
            Key::Host(_) => "host ",
            Key::Site(_) => "prefix ",
            Key::Sensor => "",
        };
        serializer.collect_str(&format_args!("{level}{key}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| D::Error::custom("not a watched key"))
    }

    pub(super) fn parse(text: &str) -> Option<Key> {
        if text == "sensor" {
            return Some(Key::Sensor);
        }
        let (level, rest) = text.split_once(' ')?;
        match level {
            "server" => {
                let at: SocketAddr = rest.parse().ok()?;
                Some(Key::Server(Endpoint::new(at.ip(), at.port())))
            }
            "host" => Some(Key::Host(rest.parse().ok()?)),
            "prefix" => {
                let (addr, len) = rest.split_once('/')?;
                let addr: IpAddr = addr.parse().ok()?;
                // The sites there are; any other would never be looked up and never go.
                let site = Prefix::new(addr, if addr.is_ipv4() { 24 } else { 48 });
                (site.addr() == addr && len.parse() == Ok(site.len())).then_some(Key::Site(site))
            }
            _ => None,
        }
    }
}

impl Detector {
    /// What is worth keeping over a restart. Copies numbers; the caller turns them into text where it holds no lock.
    pub fn memory(&self) -> Memory {
        let court = &self.court;
        let running: Vec<(usize, &Running)> = court.episodes.running().collect();
        let place = |number: usize| running.iter().position(|(known, _)| *known == number);
        let keys = court.ledger.iter().filter(|watch| {
            watch.incident.is_some()
                || watch.baseline.bins() >= WORTH_KEEPING && watch.baseline.has_seen_any()
        });
        let charged = court.charged.iter().filter_map(|(&(stray, source), &number)| {
            let (addr, subnet) = (source.addr(), !source.is_whole());
            Some(KnownCharge { stray, addr, subnet, incident: place(number)? })
        });
        let keys = keys.map(|watch| KnownKey::of(watch, watch.incident.and_then(place)));
        Memory {
            keys: keys.filter(KnownKey::is_sane).collect(),
            incidents: running.iter().map(|(_, running)| KnownIncident::of(&running.incident)).collect(),
            charged: charged.collect(),
        }
    }

    /// Goes on where a detector of an earlier process ended: its incidents run under their ids, its baselines hold. To be called
    /// before anything was absorbed. Numbers that no detector had are left out with what they belong to; how many keys and
    /// incidents came back.
    pub fn recall(&mut self, memory: &Memory) -> (usize, usize) {
        self.court.recall(memory)
    }
}

impl Court {
    fn recall(&mut self, memory: &Memory) -> (usize, usize) {
        let mut keys = 0;
        let mut places: Vec<Option<usize>> = vec![None; memory.incidents.len()];
        self.ledger.evictions = 0;
        self.resumed = true;
        for known in memory.keys.iter().filter(|known| known.is_sane()) {
            let number = self.ledger.find(known.key).or_else(|| {
                let settings = Settings::of(known.key, &self.config, &self.servers);
                self.ledger.insert(Watch::new(known.key, settings, 0), &self.config, &mut self.sketches)
            });
            let Some(number) = number else { continue };
            let place = known.incident.filter(|&place| places.get(place).is_some_and(Option::is_none));
            let told = place.and_then(|place| Some((place, memory.incidents.get(place)?)));
            let running = told.filter(|(_, told)| told.is_sane()).and_then(|(place, told)| {
                let running = self.resume(told)?;
                places[place] = Some(running);
                Some(running)
            });
            let Some(watch) = self.ledger.get_mut(number) else { continue };
            known.recall(watch);
            watch.incident = running;
            watch.alarmed_at = known.alarmed_at.filter(|_| running.is_some()).unwrap_or(f64::INFINITY);
            keys += 1;
            self.keep_warm(number);
        }
        for charge in &memory.charged {
            let free = places.get(charge.incident).is_some_and(Option::is_none);
            let told = memory.incidents.get(charge.incident).filter(|told| free && told.is_sane());
            if let Some(running) = told.and_then(|told| self.resume(told)) {
                places[charge.incident] = Some(running);
                self.charged.insert((charge.stray, charge.source()), running);
            }
        }
        (keys, places.iter().flatten().count())
    }

    fn resume(&mut self, known: &KnownIncident) -> Option<usize> {
        let incident = known.recall();
        let carried = Carried {
            attempts: incident.attempts,
            completed: incident.completed,
            sources: incident.distinct_sources,
        };
        self.episodes.resume(incident, carried, SourceSet::None)
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
