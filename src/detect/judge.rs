//! Stage 4 of 5, detect: the end of a bin. From the sums of one bin to raised, updated and ended incidents.
//!
//! Servers first, then the hosts, sites and the sensor without what servers explain, so that one victim neither masks the rest
//! nor alarms four times. No I/O, no clock.

use super::classify::{Features, Verdict};
use super::episode::Episodes;
use super::hash::KeyedHash;
use super::incident::{Incident, IncidentKind, ServerMode, Severity};
use super::ledger::{Key, Ledger, Settings, WINDOW, Watch, site};
use super::scans::{Figures, Finding, Scans};
use super::slots::Slots;
use super::sources::{SketchPool, SourceSet};
use super::statistic::{BIN, BINS_PER_SECOND, threshold};
use super::tally::{Count, Tally};
use super::tell;
use crate::config::ServerConfig;
use crate::config::detect::{DetectConfig, Prefix};
use crate::decode::segment::Endpoint;
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Hosts that must contribute before a prefix, or the sensor, is said to be flooded as a whole.
const CARPET_PARTS: f64 = 8.0;
/// Share of a carpet's rate that makes one of its servers a victim of its own.
const OWN_VICTIM: f64 = 0.25;
/// Attempts in one bin that make a server of an endpoint which never answered. A scan tries a port twice at most.
const SERVER_EVIDENCE: u32 = 4;
/// Attempts of one source at one server in one bin that still look like a scan's.
const SCAN_SHARE: u32 = 8;
/// Servers a single host may have: a host that answers on every port is one host.
const SERVERS_PER_HOST: usize = 256;
/// Servers that may be made in one bin, which bounds its work.
const NEW_PER_BIN: u32 = 512;
/// Places that may be cleared for others in one bin.
const EVICTIONS_PER_BIN: u32 = 32;

/// Everything that is judged, between bins.
#[derive(Debug)]
pub(super) struct Court {
    pub(super) config: DetectConfig,
    pub(super) servers: Vec<ServerConfig>,
    pub(super) hash: KeyedHash,
    pub(super) ledger: Ledger,
    pub(super) scans: Scans,
    pub(super) episodes: Episodes,
    pub(super) sketches: SketchPool,
    /// Keys to look at although nothing came for them.
    warm: Vec<usize>,
    /// Incidents of sources and of strays.
    charged: BTreeMap<(bool, IpAddr), usize>,
    /// Servers that may still be made in this bin.
    new_left: u32,
}

/// The bin being closed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bin {
    pub(super) number: u64,
    /// Its end.
    pub(super) end: Timestamp,
    /// Share of frames lost before us.
    pub(super) loss: f64,
}

/// What the keys below add up to.
#[derive(Debug, Default)]
struct Sum {
    tally: Tally,
    units: f64,
    parts: f64,
    sources: SourceSet,
}

impl Sum {
    fn add(&mut self, other: &Self, spare: &mut SketchPool) {
        self.tally.add(&other.tally);
        self.units += other.units;
        self.sources.union(&other.sources, spare);
    }
}

impl Court {
    pub(super) fn new(config: &DetectConfig, servers: &[ServerConfig], seed: u64) -> Self {
        let mut court = Self {
            config: config.clone(),
            servers: servers.to_vec(),
            hash: KeyedHash::new(seed),
            ledger: Ledger::default(),
            scans: Scans::new(),
            episodes: Episodes::new(config.max_incidents),
            sketches: SketchPool::new(super::ledger::DETECTOR_SKETCHES),
            warm: Vec::new(),
            charged: BTreeMap::new(),
            new_left: 0,
        };
        court.seat_configured(0);
        court
    }

    /// Gives every configured server that is one address and port its watch.
    pub(super) fn seat_configured(&mut self, bin: u64) {
        for server in &self.servers {
            let Some(port) = server.port.filter(|_| super::ledger::is_one_server(server)) else { continue };
            let key = Key::Server(Endpoint::new(server.address, port));
            if self.ledger.find(key).is_none() {
                let settings = Settings::of(key, &self.config, &self.servers);
                self.ledger.insert(Watch::new(key, settings, bin), &self.config, &mut self.sketches);
            }
        }
    }

    /// Closes a bin: judges what came in it.
    pub(super) fn close(&mut self, bin: Bin, pending: &mut Slots, folds: &mut Slots, other: &Tally) {
        self.new_left = NEW_PER_BIN;
        self.ledger.evictions = EVICTIONS_PER_BIN;
        let findings = self.scans.judge(bin.number, &self.hash, &self.config);
        let strays = self.scans.judge_strays(bin.number, &self.config);
        self.charge(bin, findings, strays);

        pending.sort();
        folds.sort();
        let alarmed = self.ledger.find(Key::Sensor).is_some_and(|n| self.has_incident(n));
        let mut sensor = Sum { tally: *other, ..Sum::default() };
        let mut of_site: Option<(Prefix, Sum)> = None;
        let mut of_host: Option<(IpAddr, Sum)> = None;
        // In the order of addresses: the servers of a host, and the hosts of a site, follow each other.
        pending.drain(|slot| {
            let addr = slot.server.addr;
            if of_host.as_ref().is_some_and(|(host, _)| *host != addr) {
                self.close_host(bin, of_host.take(), &mut of_site, &mut sensor, alarmed);
            }
            let host = &mut of_host.get_or_insert_with(|| (addr, Sum::default())).1;
            self.close_server(bin, slot.server, &slot.tally, &slot.sources, host, alarmed);
            slot.sources.clear(&mut self.sketches);
        });
        self.close_host(bin, of_host.take(), &mut of_site, &mut sensor, alarmed);
        self.close_site(bin, of_site.take(), &mut sensor, alarmed);
        folds.drain(|slot| {
            let mut sum = Sum { tally: slot.tally, units: slot.tally.failed(), ..Sum::default() };
            // So many endpoints that they found no slot: as many hosts as a prefix has, at most.
            sum.parts = sum.units.min(256.0);
            sum.sources.union(&slot.sources, &mut self.sketches);
            slot.sources.clear(&mut self.sketches);
            self.close_site(bin, Some((site(slot.server.addr), sum)), &mut sensor, alarmed);
        });
        sensor.parts = sensor.parts.max(0.0);
        self.close_group(bin, Key::Sensor, &mut sensor);
        sensor.sources.clear(&mut self.sketches);
        self.close_silent(bin);
    }

    /// Keys that got nothing in this bin but are not at rest.
    fn close_silent(&mut self, bin: Bin) {
        let mut warm = std::mem::take(&mut self.warm);
        warm.sort_unstable_by_key(|n| self.ledger.get(*n).map(|watch| watch.key));
        for number in warm {
            let Some(watch) = self.ledger.get_mut(number) else { continue };
            watch.warm = false;
            if watch.bin < bin.number {
                watch.take(bin.number, &Tally::default());
                self.step(bin, number, 0.0, 0.0);
            } else {
                self.keep_warm(number);
            }
        }
    }

    fn keep_warm(&mut self, number: usize) {
        if let Some(watch) = self.ledger.get_mut(number)
            && !watch.warm
            && (watch.incident.is_some() || watch.cusum.largest() > 0.0 || watch.recent > 0.01)
        {
            watch.warm = true;
            self.warm.push(number);
        }
    }

    fn has_incident(&self, number: usize) -> bool {
        self.ledger.get(number).is_some_and(|watch| watch.incident.is_some())
    }

    /// The watch of a server, made where it has earned one.
    fn server(&mut self, bin: Bin, at: Endpoint, tally: &Tally) -> Option<usize> {
        let key = Key::Server(at);
        if let Some(number) = self.ledger.find(key) {
            return Some(number);
        }
        let earned = tally[Count::Answered] > 0
            || tally[Count::Completed] > 0
            || tally[Count::Attempts] >= SERVER_EVIDENCE
            || tally[Count::Overdue] >= SERVER_EVIDENCE
            || tally[Count::Copies] > 0;
        if !earned || self.new_left == 0 || self.ledger.servers_of(at.addr, SERVERS_PER_HOST) >= SERVERS_PER_HOST
        {
            return None;
        }
        self.new_left -= 1;
        let settings = Settings::of(key, &self.config, &self.servers);
        let watch = Watch::new(key, settings, bin.number);
        self.ledger.insert(watch, &self.config, &mut self.sketches)
    }

    fn close_server(
        &mut self,
        bin: Bin,
        at: Endpoint,
        tally: &Tally,
        sources: &SourceSet,
        host: &mut Sum,
        alarmed: bool,
    ) {
        // A scanner's one or two tries at a port are charged to the scanner.
        let scanned = tally[Count::Overdue] + tally[Count::Abandoned] <= SCAN_SHARE
            && sources.only().is_some_and(|source| self.scans.is_suspect(source));
        let Some(number) = self.server(bin, at, tally) else {
            if !scanned {
                host.tally.add(tally);
                host.units += (tally.failed() - tally.of(Count::Late)).max(0.0);
                host.parts += 1.0;
                host.sources.union(sources, &mut self.sketches);
            }
            return;
        };
        let Some(watch) = self.ledger.get_mut(number) else { return };
        watch.take(bin.number, tally);
        watch.roll_sources(bin.number, &mut self.sketches);
        watch.sources[0].union(sources, &mut self.sketches);
        let mut units = watch.units_of(tally, bin.loss);
        if scanned || watch.settings.allowance.is_some() {
            units = 0.0;
        }
        if let Some(running) = watch.incident.and_then(|n| self.episodes.get_mut(n)) {
            running.sources.union(sources, &mut self.sketches);
        }
        let hot = self.step(bin, number, units, 1.0);
        let grouped = alarmed || self.group_alarmed(at.addr);
        if !self.has_incident(number) && (!hot || grouped) {
            host.tally.add(tally);
            host.units += units;
            host.parts += f64::from(u8::from(units > 0.0));
            if units > 0.0 {
                host.sources.union(sources, &mut self.sketches);
            }
        }
    }

    /// Whether the host or the site of an address has an incident.
    fn group_alarmed(&self, addr: IpAddr) -> bool {
        [Key::Host(addr), Key::Site(site(addr))]
            .into_iter()
            .any(|key| self.ledger.find(key).is_some_and(|number| self.has_incident(number)))
    }

    fn close_host(
        &mut self,
        bin: Bin,
        host: Option<(IpAddr, Sum)>,
        of_site: &mut Option<(Prefix, Sum)>,
        sensor: &mut Sum,
        alarmed: bool,
    ) {
        let Some((addr, mut sum)) = host else { return };
        let prefix = site(addr);
        if of_site.as_ref().is_some_and(|(site, _)| *site != prefix) {
            self.close_site(bin, of_site.take(), sensor, alarmed);
        }
        let explained = self.close_group(bin, Key::Host(addr), &mut sum);
        if !explained || alarmed {
            let total = &mut of_site.get_or_insert_with(|| (prefix, Sum::default())).1;
            total.add(&sum, &mut self.sketches);
            total.parts += f64::from(u8::from(sum.units > 0.0));
        }
        sum.sources.clear(&mut self.sketches);
    }

    fn close_site(&mut self, bin: Bin, site: Option<(Prefix, Sum)>, sensor: &mut Sum, alarmed: bool) {
        let Some((prefix, mut sum)) = site else { return };
        let explained = self.close_group(bin, Key::Site(prefix), &mut sum);
        if !explained || alarmed {
            sensor.add(&sum, &mut self.sketches);
            sensor.parts += sum.parts;
        }
        sum.sources.clear(&mut self.sketches);
    }

    /// Judges a host, a site or the sensor; whether it explains its units itself.
    fn close_group(&mut self, bin: Bin, key: Key, sum: &mut Sum) -> bool {
        let number = match self.ledger.find(key) {
            Some(number) => number,
            None if sum.units > 0.0 => {
                let settings = Settings::of(key, &self.config, &self.servers);
                let watch = Watch::new(key, settings, bin.number);
                match self.ledger.insert(watch, &self.config, &mut self.sketches) {
                    Some(number) => number,
                    None => return false,
                }
            }
            None => return false,
        };
        let Some(watch) = self.ledger.get_mut(number) else { return false };
        watch.take(bin.number, &sum.tally);
        watch.roll_sources(bin.number, &mut self.sketches);
        watch.sources[0].union(&sum.sources, &mut self.sketches);
        let units = if watch.settings.allowance.is_some() { 0.0 } else { sum.units };
        if let Some(running) = watch.incident.and_then(|n| self.episodes.get_mut(n)) {
            running.sources.union(&sum.sources, &mut self.sketches);
        }
        let hot = self.step(bin, number, units, sum.parts);
        hot || self.has_incident(number)
    }

    /// Takes the units of a bin into a key's statistic, raises, updates or ends its incident; whether it is rising.
    fn step(&mut self, bin: Bin, number: usize, units: f64, parts: f64) -> bool {
        let keys = self.ledger.server_count();
        let Some(watch) = self.ledger.get_mut(number) else { return false };
        watch.units[0] += units;
        watch.last_units = units;
        watch.recent = watch.recent * 0.8 + units * 0.2;
        watch.parts = parts.max(watch.parts * 0.8);
        let h = threshold(watch.settings.false_alarm_interval, keys);
        let mean = watch.expected();
        if watch.cusum.largest() == 0.0 {
            watch.before = watch.totals_at(bin.number.saturating_sub(watch.grace_bins(&self.config)));
            watch.rise = 0.0;
        }
        let sum = if units == 0.0 && watch.cusum.largest() == 0.0 {
            0.0
        } else {
            let phi = watch.baseline.phi();
            watch.rise += units;
            watch.cusum.update(bin.number, units, mean, phi)
        };
        watch.weigh_silence();
        watch.weigh_occupancy(&self.config, units, mean);
        let rising = sum >= h / 2.0;
        if watch.incident.is_none() && !rising && watch.crowded == 0 {
            watch.learn(units, mean);
        }
        match watch.incident {
            Some(incident) => self.follow(bin, number, incident, mean),
            None => {
                let flood = (sum >= h || watch.crowded >= 2) && watch.rise >= watch.settings.floor;
                self.consider(bin, number, flood);
            }
        }
        self.keep_warm(number);
        rising
    }

    /// A key without an incident: is there one to raise?
    fn consider(&mut self, bin: Bin, number: usize, alarm: bool) {
        let Some(watch) = self.ledger.get_mut(number) else { return };
        watch.alarming = if alarm { watch.alarming + 1 } else { 0 };
        let features = watch.features(bin.end, alarm);
        let is_server = matches!(watch.key, Key::Server(_));
        let kind = if alarm {
            match watch.key {
                Key::Server(_) => match features.verdict() {
                    Verdict::Raise(kind) => Some(kind),
                    Verdict::DeadServer => {
                        watch.verdict = "callers of a server that never answered, on the schedule of a stack";
                        None
                    }
                    Verdict::Wait => {
                        watch.verdict = "completions are falling while no more is asked: an outage, if it lasts";
                        None
                    }
                },
                Key::Host(_) => match features.verdict() {
                    Verdict::Raise(kind @ (IncidentKind::SpoofedFlood | IncidentKind::DirectFlood)) => Some(kind),
                    Verdict::Raise(_) | Verdict::DeadServer | Verdict::Wait => None,
                },
                Key::Site(_) | Key::Sensor => match features.verdict() {
                    Verdict::Raise(IncidentKind::SpoofedFlood | IncidentKind::DirectFlood)
                        if watch.parts >= CARPET_PARTS =>
                    {
                        Some(IncidentKind::CarpetFlood)
                    }
                    Verdict::Raise(_) | Verdict::DeadServer | Verdict::Wait => None,
                },
            }
        } else if is_server {
            watch.quiet_kind(&features)
        } else {
            None
        };
        let Some(kind) = kind else {
            if !alarm {
                watch.verdict = "within its baseline";
            }
            return;
        };
        if watch.settings.observe {
            watch.verdict = "over its threshold; not raised, because it is only observed";
            return;
        }
        if watch.settings.allowance.is_some() {
            watch.verdict = "allow-listed: counted, not judged";
            return;
        }
        if is_flood(kind) && is_server && self.is_part_of_carpet(number) {
            if let Some(watch) = self.ledger.get_mut(number) {
                watch.verdict = "part of the carpet flood on its prefix";
            }
            return;
        }
        self.raise(bin, number, kind, &features);
    }

    /// A site or the sensor has the incident already, and this server has only its share of it.
    fn is_part_of_carpet(&self, number: usize) -> bool {
        let Some(watch) = self.ledger.get(number) else { return false };
        let Some(addr) = watch.key.addr() else { return false };
        [Key::Host(addr), Key::Site(site(addr)), Key::Sensor]
            .into_iter()
            .filter_map(|key| self.ledger.find(key))
            .filter_map(|group| self.ledger.get(group))
            .any(|group| group.incident.is_some() && watch.recent < OWN_VICTIM * group.recent)
    }

    fn raise(&mut self, bin: Bin, number: usize, kind: IncidentKind, features: &Features) {
        let (keys, visibility) = (self.ledger_keys(), self.scans.visibility());
        let Some(watch) = self.ledger.get_mut(number) else { return };
        let grace = watch.grace(&self.config);
        let onset_bin = if is_flood(kind) { watch.cusum.onset() } else { None };
        let since = BIN * u32::try_from(bin.number - onset_bin.unwrap_or(bin.number) + 1).unwrap_or(u32::MAX);
        let onset = bin.end.minus(since).minus(grace);
        let mut sources = SourceSet::None;
        for set in &watch.sources {
            sources.union(set, &mut self.sketches);
        }
        let incident = Incident {
            id: String::new(),
            kind,
            scope: watch.key.scope(),
            server: tell::name(watch, &self.servers),
            severity: watch.severity(kind, features),
            onset,
            detected_at: bin.end,
            ended_at: None,
            end_reason: None,
            server_mode: features.mode(),
            syn_rate_peak: watch.peak_rate(),
            attempts: watch.totals[0].saturating_sub(watch.before[0]),
            completed: watch.totals[1].saturating_sub(watch.before[1]),
            embryonic_peak: watch.embryonic(),
            backlog_occupancy_peak: watch.occupancy() / watch.backlog(&self.config),
            distinct_sources: sources.estimate().0.round() as u64,
            capture_loss: bin.loss,
            evidence: tell::evidence(watch, features, &self.config, keys, visibility),
        };
        let before = self.ledger.get(number).map(|watch| watch.before).unwrap_or_default();
        let raised = self.episodes.raise(bin.number, incident, before, sources);
        let Some(watch) = self.ledger.get_mut(number) else { return };
        watch.incident = raised;
        watch.verdict = kind.as_label();
        // What it explains no longer counts against the keys above it.
        if let (true, Some(addr)) = (is_flood(kind), watch.key.addr()) {
            for key in [Key::Host(addr), Key::Site(site(addr)), Key::Sensor] {
                if let Some(above) = self.ledger.find(key).filter(|above| *above != number)
                    && let Some(watch) = self.ledger.get_mut(above).filter(|watch| watch.incident.is_none())
                {
                    watch.cusum.reset();
                }
            }
        }
    }

    fn ledger_keys(&self) -> usize {
        self.ledger.server_count()
    }

    /// A key with an incident: how high does it go, what is it now, is it over?
    fn follow(&mut self, bin: Bin, number: usize, incident: usize, mean: f64) {
        let keys = self.ledger_keys();
        let visibility = self.scans.visibility();
        let Some(watch) = self.ledger.get_mut(number) else { return };
        let features = watch.features(bin.end, bin.number.is_multiple_of(4));
        let Some(running) = self.episodes.get_mut(incident) else {
            watch.incident = None;
            return;
        };
        let told = &mut running.incident;
        told.syn_rate_peak = told.syn_rate_peak.max(watch.peak_rate());
        told.attempts = watch.totals[0].saturating_sub(running.before[0]);
        told.completed = watch.totals[1].saturating_sub(running.before[1]);
        told.embryonic_peak = told.embryonic_peak.max(watch.embryonic());
        told.backlog_occupancy_peak =
            told.backlog_occupancy_peak.max(watch.occupancy() / watch.backlog(&self.config));
        told.capture_loss = told.capture_loss.max(bin.loss);
        let calm = watch.is_calm(told.kind, &features, mean);
        running.calm = if calm { running.calm + 1 } else { 0 };
        let needed = (self.config.calm.as_secs_f64() * BINS_PER_SECOND).ceil() as u32;
        if running.calm >= needed {
            let reason = match told.kind {
                IncidentKind::Outage => "the server completes handshakes again, or nobody asks it any more",
                IncidentKind::AcceptOverflow => "no SYN-ACK after an ACK any more",
                _ => "unresolved attempts are back within the baseline",
            };
            told.distinct_sources = running.sources.estimate().0.round() as u64;
            self.episodes.end(incident, bin.end, reason, &mut self.sketches);
            watch.end_episode();
            return;
        }
        if calm || !bin.number.is_multiple_of(4) {
            return;
        }
        told.distinct_sources = running.sources.estimate().0.round() as u64;
        if features.mode() != ServerMode::Unknown {
            told.server_mode = features.mode();
        }
        let mut kind = told.kind;
        // The first bins may mislead; what the window says later stands, as long as it still alarms.
        if matches!(watch.key, Key::Server(_)) && watch.recent > 2.0 * mean + 0.5 && reconsiders(kind)
            && let Verdict::Raise(now) = features.verdict()
        {
            kind = now;
        }
        let severity = watch.severity(kind, &features);
        if kind != told.kind || severity > told.severity {
            told.evidence = tell::evidence(watch, &features, &self.config, keys, visibility);
        }
        self.episodes.review(incident, (bin.number, bin.end), kind, severity);
    }

    /// Incidents of sources: scans, reflection, backscatter.
    fn charge(&mut self, bin: Bin, findings: Vec<Finding>, strays: Vec<Finding>) {
        let mut quiet: BTreeMap<(bool, IpAddr), usize> = self.charged.clone();
        for finding in findings.into_iter().chain(strays) {
            let key = (matches!(finding.figures, Figures::Stray { .. }), finding.addr);
            quiet.remove(&key);
            if let Some(running) = self.charged.get(&key).and_then(|number| self.episodes.get_mut(*number)) {
                running.calm = 0;
                running.incident.attempts += finding.events as u64;
                running.incident.syn_rate_peak =
                    running.incident.syn_rate_peak.max(finding.events * BINS_PER_SECOND);
                continue;
            }
            if self.config.observe {
                continue;
            }
            let incident = tell::of_source(&finding, bin.end, bin.loss, &self.config);
            if let Some(number) = self.episodes.raise(bin.number, incident, [0, 0], SourceSet::None) {
                self.charged.insert(key, number);
            }
        }
        let needed = (self.config.calm.as_secs_f64() * BINS_PER_SECOND).ceil() as u32;
        for (key, number) in quiet {
            let over = self.episodes.get_mut(number).is_none_or(|running| {
                running.calm += 1;
                running.calm >= needed
            });
            if over {
                self.episodes.end(number, bin.end, "nothing more of it was seen", &mut self.sketches);
                self.charged.remove(&key);
            }
        }
    }

    /// Whether nothing is left to happen if nothing comes.
    pub(super) fn at_rest(&self) -> bool {
        self.warm.is_empty() && self.charged.is_empty()
    }

    /// Applies a new configuration; incidents go on.
    pub(super) fn reconfigure(&mut self, config: &DetectConfig, servers: &[ServerConfig], bin: u64) {
        self.config = config.clone();
        self.servers = servers.to_vec();
        let keys: Vec<Key> = self.ledger.iter().map(|watch| watch.key).collect();
        for key in keys {
            let settings = Settings::of(key, config, servers);
            if let Some(watch) = self.ledger.find(key).and_then(|number| self.ledger.get_mut(number)) {
                watch.settings = settings;
            }
        }
        self.seat_configured(bin);
        self.ledger.generation += 1;
    }
}

/// Kinds that come of unresolved attempts.
pub(super) const fn is_flood(kind: IncidentKind) -> bool {
    matches!(kind, IncidentKind::SpoofedFlood | IncidentKind::DirectFlood | IncidentKind::CarpetFlood)
}

/// Kinds that a later look may correct.
const fn reconsiders(kind: IncidentKind) -> bool {
    is_flood(kind) || matches!(kind, IncidentKind::FlashCrowd | IncidentKind::Outage)
}

impl Watch {
    /// Mean flood units a bin in peace.
    pub(super) fn expected(&self) -> f64 {
        let now = self.both(Count::Completed) / self.window_bins();
        self.baseline.mean(self.completed.value().max(now))
    }

    pub(super) fn grace_bins(&self, config: &DetectConfig) -> u64 {
        (self.grace(config).as_secs_f64() * BINS_PER_SECOND).ceil() as u64 + 1
    }

    fn learn(&mut self, units: f64, mean: f64) {
        self.baseline.learn(units, mean);
        let tally = self.latest;
        self.attempts.learn(f64::from(tally[0]), 1);
        self.completed.learn(f64::from(tally[1]), 1);
        let ended = f64::from(tally[1]) + f64::from(tally[2]);
        if ended > 0.0 {
            self.success.learn(f64::from(tally[1]) / ended, 1);
        }
        self.usual_occupancy = self.occupancy().max(self.usual_occupancy * 0.9999);
    }

    /// The Bernoulli likelihood ratio of "a twentieth completes" against the usual share.
    fn weigh_silence(&mut self) {
        if self.success.bins() < 20.0 || self.success.value() < 0.5 {
            return;
        }
        let p = self.success.value().min(0.98);
        let [_, good, bad] = self.latest.map(f64::from);
        let llr = bad * (0.95 / (1.0 - p)).ln() + good * (0.05 / p).ln();
        self.silence = (self.silence + llr).clamp(0.0, 100.0);
    }

    fn weigh_occupancy(&mut self, config: &DetectConfig, units: f64, mean: f64) {
        let growing = units > 0.0 && self.recent > 2.0 * mean + 0.5;
        let over = self.occupancy() > self.occupancy_threshold(config);
        self.crowded = if over && growing && self.bin > self.born { self.crowded + 1 } else { 0 };
    }

    /// Overdue entries that make the occupancy alarm: a share of the queue, and far beyond what is usual.
    pub(super) fn occupancy_threshold(&self, config: &DetectConfig) -> f64 {
        // Little's law: what a baseline of unresolved attempts holds over the life of an entry, 63 s.
        let steady = self.expected() * BINS_PER_SECOND * 63.0;
        (self.settings.occupancy * self.backlog(config)).max(8.0 * self.usual_occupancy).max(1.5 * steady)
    }

    /// Size of its queue, assumed where not configured.
    pub(super) fn backlog(&self, config: &DetectConfig) -> f64 {
        self.settings.backlog.unwrap_or(config.assumed_backlog).max(1) as f64
    }

    /// Embryonic attempts now.
    pub(super) fn embryonic(&self) -> u64 {
        (self.gauges[0] + self.gauges[1]).unsigned_abs()
    }

    /// Attempts in the last second.
    fn peak_rate(&self) -> f64 {
        let before = self.totals_at(self.bin.saturating_sub(2));
        self.totals[0].saturating_sub(before[0]) as f64
    }

    /// What the classifier looks at.
    pub(super) fn features(&self, end: Timestamp, with_sources: bool) -> Features {
        let bins = self.window_bins();
        let heard = self.window.iter().map(|tally| tally.heard).max().unwrap_or(end);
        let began = end.minus(BIN * (bins as u32));
        Features {
            attempts: self.both(Count::Attempts),
            usual_attempts: self.attempts.value() * bins,
            completed: self.both(Count::Completed),
            usual_completed: self.completed.value() * bins,
            completing: self.pace[1] * bins,
            attempting: self.pace[0] * bins,
            alarming: self.alarming,
            units: self.units.iter().sum(),
            usual_units: self.expected() * bins,
            overdue: self.both(Count::Overdue),
            overdue_answered: self.both(Count::OverdueAnswered),
            overdue_repeated: self.both(Count::OverdueRepeated),
            returned: self.both(Count::Returned),
            copies: self.both(Count::Copies),
            answered: self.both(Count::Answered),
            answer_repeated: self.both(Count::AnswerRepeated),
            answer_after_ack: self.both(Count::AnswerAfterAck),
            refused: self.both(Count::Refused),
            // Reading the sketches takes a few microseconds: only where it matters.
            sources: if with_sources { self.distinct().0 } else { 0.0 },
            history: self.attempts.bins(),
            answers: self.answers,
            heard: heard.since(began).as_secs_f64(),
        }
    }

    /// What a server has that is no flood and needs no alarm of the statistic.
    fn quiet_kind(&self, features: &Features) -> Option<IncidentKind> {
        // Enough failures that chance is out of the question, and hardly a completion for five seconds.
        if self.silence >= threshold(self.settings.false_alarm_interval, 1)
            && features.silent()
            && (features.refused > features.overdue || features.attempts <= 3.0 * features.usual_attempts)
        {
            return Some(IncidentKind::Outage);
        }
        if features.mode() == ServerMode::AcceptOverflow {
            return Some(IncidentKind::AcceptOverflow);
        }
        // Ten times the usual completions, and enough of them to matter.
        let rate = features.completed / self.window_bins() * BINS_PER_SECOND;
        let surge = features.history >= 120.0 && features.completed >= 10.0 * features.usual_completed;
        (surge && rate >= 50.0).then_some(IncidentKind::FlashCrowd)
    }

    /// Who should hear of it.
    fn severity(&self, kind: IncidentKind, features: &Features) -> Severity {
        let rate = features.units / self.window_bins().min(2.0 * WINDOW as f64) * BINS_PER_SECOND;
        match kind {
            IncidentKind::FlashCrowd => Severity::Info,
            IncidentKind::Outage => Severity::Critical,
            IncidentKind::SpoofedFlood | IncidentKind::DirectFlood | IncidentKind::CarpetFlood => {
                let now = (self.recent * BINS_PER_SECOND).max(rate);
                let harmed = features.history >= 20.0
                    && features.usual_completed >= 10.0
                    && features.completed < 0.5 * features.usual_completed;
                if now >= self.settings.critical_rate || self.peak_units() >= self.settings.critical_rate || harmed {
                    Severity::Critical
                } else {
                    Severity::Warning
                }
            }
            _ => Severity::Warning,
        }
    }

    /// Flood units of the last bin, a second.
    fn peak_units(&self) -> f64 {
        self.last_units * BINS_PER_SECOND
    }

    /// Whether this bin looks like the end of an incident of this kind.
    fn is_calm(&self, kind: IncidentKind, features: &Features, mean: f64) -> bool {
        match kind {
            IncidentKind::Outage => {
                features.completed > 0.2 * features.usual_completed || features.attempts < 1.0
            }
            IncidentKind::AcceptOverflow => features.answer_after_ack < 1.0,
            IncidentKind::FlashCrowd => {
                features.completed < 3.0 * features.usual_completed.max(1.0) && self.recent <= self.upper(mean)
            }
            _ => self.recent <= self.upper(mean),
        }
    }

    /// What the smoothed units stay below in peace: three standard deviations of a mean over ten bins.
    fn upper(&self, mean: f64) -> f64 {
        mean + 3.0 * (self.baseline.phi() * mean / 10.0).sqrt() + 0.5
    }

    /// Starts afresh after an incident.
    fn end_episode(&mut self) {
        self.incident = None;
        self.cusum.reset();
        self.silence = 0.0;
        self.crowded = 0;
        self.rise = 0.0;
        self.verdict = "within its baseline";
    }
}
