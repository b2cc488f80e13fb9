//! Stage 4 of 5, detect: the end of a bin. From the sums of one bin to raised, updated and ended incidents.
//!
//! Servers first, then the hosts, sites and the sensor without what servers explain, so that one victim neither masks the rest
//! nor alarms four times. No I/O, no clock.

use super::backlog::Reading;
use super::episode::Episodes;
use super::hash::KeyedHash;
use super::heritage::Heritage;
use super::ledger::{Key, Ledger, site};
use super::scans::Scans;
use super::served::Served;
use super::slots::{Slot, Slots};
use super::sources::{SketchPool, SourceSet};
use super::statistic::threshold;
use super::tally::{Count, Tally};
use super::watch::{Settings, Watch};
use crate::config::ServerConfig;
use crate::config::detect::{DetectConfig, Prefix};
use crate::decode::segment::Endpoint;
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Servers that may be made in one bin, which bounds its work.
const NEW_PER_BIN: u32 = 512;
/// Servers in trouble that are told of in one bin: more than can have a model.
const TROUBLED_PER_BIN: usize = 512;
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
    /// Sources that completed a handshake lately.
    pub(super) served: Served,
    pub(super) episodes: Episodes,
    pub(super) sketches: SketchPool,
    /// Keys to look at although nothing came for them.
    warm: Vec<usize>,
    /// Incidents of sources, each an address or a /64, and of strays.
    pub(super) charged: BTreeMap<(bool, Prefix), usize>,
    /// Servers that may still be made in this bin.
    pub(super) new_left: u32,
    /// Servers whose attempts stay unresolved in this bin, for whoever makes models of their queues.
    pub(super) troubled: Vec<Endpoint>,
    /// Goes on where an earlier process ended.
    pub(super) resumed: bool,
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
    /// Unresolved attempts that a stack may have made, at what never answered.
    calls: f64,
    parts: f64,
    sources: SourceSet,
    heritage: Heritage,
}

impl Sum {
    fn add(&mut self, other: &Self, spare: &mut SketchPool) {
        self.tally.add(&other.tally);
        self.units += other.units;
        self.calls += other.calls;
        self.heritage.add(&other.heritage);
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
            served: Served::new(),
            episodes: Episodes::new(config.max_incidents),
            sketches: SketchPool::new(super::ledger::DETECTOR_SKETCHES),
            warm: Vec::new(),
            charged: BTreeMap::new(),
            new_left: 0,
            troubled: Vec::new(),
            resumed: false,
        };
        court.seat_configured(0);
        court
    }

    /// Closes a bin: judges what came in it.
    pub(super) fn close(&mut self, bin: Bin, pending: &mut Slots, folds: &mut Slots, other: &Tally) {
        self.new_left = NEW_PER_BIN;
        self.ledger.evictions = EVICTIONS_PER_BIN;
        self.served.open();
        let findings = self.scans.judge(bin.number, &self.hash, &self.config);
        let strays = self.scans.judge_strays(bin.number, &self.config);
        self.charge(bin, findings, strays);

        pending.sort();
        folds.sort();
        let alarmed = self.ledger.find(Key::Sensor).is_some_and(|n| self.has_incident(n));
        let mut sensor = Sum { tally: *other, ..Sum::default() };
        sensor.heritage.add_unwatched(other);
        let mut of_site: Option<(Prefix, Sum)> = None;
        let mut of_host: Option<(IpAddr, Sum)> = None;
        // In the order of addresses: the servers of a host, and the hosts of a site, follow each other.
        pending.drain(|slot| {
            let addr = slot.server.addr;
            if of_host.as_ref().is_some_and(|(host, _)| *host != addr) {
                self.close_host(bin, of_host.take(), &mut of_site, &mut sensor, alarmed);
            }
            let host = &mut of_host.get_or_insert_with(|| (addr, Sum::default())).1;
            self.close_server(bin, slot, host, alarmed);
            slot.sources.clear(&mut self.sketches);
        });
        self.close_host(bin, of_host.take(), &mut of_site, &mut sensor, alarmed);
        self.close_site(bin, of_site.take(), &mut sensor, alarmed);
        folds.drain(|slot| {
            let mut sum = Sum { tally: slot.tally, units: slot.tally.failed(), ..Sum::default() };
            // So many endpoints that they found no slot: as many hosts as a prefix has, at most.
            sum.parts = sum.units.min(256.0);
            sum.sources.union(&slot.sources, &mut self.sketches);
            sum.heritage.add_unwatched(&slot.tally);
            slot.sources.clear(&mut self.sketches);
            self.close_site(bin, Some((site(slot.server.addr), sum)), &mut sensor, alarmed);
        });
        sensor.parts = sensor.parts.max(0.0);
        self.close_group(bin, Key::Sensor, &mut sensor);
        sensor.sources.clear(&mut self.sketches);
        self.close_silent(bin);
        self.served.close(bin.number);
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

    pub(super) fn keep_warm(&mut self, number: usize) {
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

    fn close_server(&mut self, bin: Bin, slot: &Slot, host: &mut Sum, alarmed: bool) {
        let Slot { server: at, tally, sources, looks, .. } = slot;
        let at = *at;
        // A scanner's one or two tries at a port are charged to the scanner.
        let failed = tally.failed() - tally.of(Count::NotTaken);
        let scanned = self.scans.explain(failed, sources);
        // Nor is it the host that is flooded where stacks call, on their schedule, what never answered: a filter drops one port.
        let in_vain = tally.of(Count::OverdueRepeated);
        let (passed, entries) = (f64::from(looks.known), tally.of(Count::Sketched));
        let calls = entries - f64::from(looks.bare);
        let Some(number) = self.server(bin, at, tally) else {
            if !scanned {
                host.tally.add(tally);
                host.heritage.add_unwatched(tally);
                let silent = tally[Count::Answered] == 0;
                let [passed, calls] = [passed, calls].map(|count| if silent { count } else { 0.0 });
                let known = self.served.excuse(passed, tally.of(Count::Overdue) - in_vain);
                host.units += (tally.failed() - tally.of(Count::Late) - in_vain - known).max(0.0);
                host.calls += calls;
                host.parts += 1.0;
                host.sources.union(sources, &mut self.sketches);
            }
            return;
        };
        let Some(watch) = self.ledger.get_mut(number) else { return };
        watch.take(bin.number, tally);
        let returned = tally.of(Count::Returned);
        watch.note_sources(bin.number, [entries, calls, returned], sources, &mut self.sketches);
        let mut units = watch.units_of(tally, bin.loss);
        let dead = watch.never_answered();
        if dead {
            let known = self.served.excuse(passed, tally.of(Count::Overdue) - in_vain).min(units);
            units -= known;
            watch.excused += known as f32;
        }
        if (scanned && watch.is_only_scanned(failed)) || watch.settings.allowance.is_some() {
            units = 0.0;
        }
        if let Some(running) = watch.incident.and_then(|n| self.episodes.get_mut(n)) {
            running.sources.union(sources, &mut self.sketches);
        }
        if watch.is_troubled() && self.troubled.len() < TROUBLED_PER_BIN {
            self.troubled.push(at);
        }
        let hot = self.step(bin, number, units, 1.0);
        let units = if dead { (units - in_vain).max(0.0) } else { units };
        let grouped = alarmed || self.group_alarmed(at.addr);
        if !self.has_incident(number) && (!hot || grouped) {
            host.tally.add(tally);
            if let Some(watch) = self.ledger.get(number) {
                host.heritage.add(&Heritage::of(watch));
            }
            host.units += units;
            host.calls += if dead { calls } else { 0.0 };
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
        let grouped = alarmed || self.ledger.find(Key::Site(prefix)).is_some_and(|n| self.has_incident(n));
        if explained.is_none_or(|incident| grouped && !incident) {
            let total = &mut of_site.get_or_insert_with(|| (prefix, Sum::default())).1;
            total.add(&sum, &mut self.sketches);
            total.parts += f64::from(u8::from(sum.units > 0.0));
        }
        sum.sources.clear(&mut self.sketches);
    }

    fn close_site(&mut self, bin: Bin, site: Option<(Prefix, Sum)>, sensor: &mut Sum, alarmed: bool) {
        let Some((prefix, mut sum)) = site else { return };
        let explained = self.close_group(bin, Key::Site(prefix), &mut sum);
        if explained.is_none_or(|incident| alarmed && !incident) {
            sensor.add(&sum, &mut self.sketches);
            sensor.parts += sum.parts;
        }
        sum.sources.clear(&mut self.sketches);
    }

    /// Judges a host, a site or the sensor. Where it explains its units itself, whether by an incident.
    fn close_group(&mut self, bin: Bin, key: Key, sum: &mut Sum) -> Option<bool> {
        let known = self.ledger.find(key);
        let number = match known {
            Some(number) => number,
            None if sum.units > 0.0 => {
                let settings = Settings::of(key, &self.config, &self.servers);
                let watch = Watch::new(key, settings, bin.number);
                self.ledger.insert(watch, &self.config, &mut self.sketches)?
            }
            None => return None,
        };
        let watch = self.ledger.get_mut(number)?;
        watch.take(bin.number, &sum.tally);
        if known.is_none() {
            sum.heritage.leave_to(watch);
        }
        let calls = [sum.tally.of(Count::Sketched), sum.calls, sum.tally.of(Count::Returned)];
        watch.note_sources(bin.number, calls, &sum.sources, &mut self.sketches);
        let units = if watch.settings.allowance.is_some() { 0.0 } else { sum.units };
        if let Some(running) = watch.incident.and_then(|n| self.episodes.get_mut(n)) {
            running.sources.union(&sum.sources, &mut self.sketches);
        }
        let hot = self.step(bin, number, units, sum.parts);
        let incident = self.has_incident(number);
        (hot || incident).then_some(incident)
    }

    /// Takes the units of a bin into a key's statistic, raises, updates or ends its incident; whether it is rising.
    fn step(&mut self, bin: Bin, number: usize, units: f64, parts: f64) -> bool {
        let keys = self.ledger.server_count();
        let Some(watch) = self.ledger.get_mut(number) else { return false };
        watch.note_units(units);
        watch.parts = parts.max(watch.parts * 0.8);
        let h = threshold(watch.settings.false_alarm_interval, keys);
        watch.hold(h);
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
        if watch.incident.is_none() && !watch.is_rising(h) && !watch.is_suspiciously_new() {
            watch.learn(units);
        }
        match watch.incident {
            Some(incident) => self.follow(bin, number, incident, mean),
            None => {
                let flood = (watch.cusum.odds() >= h && watch.rise >= watch.settings.floor)
                    || watch.is_crowded(&self.config);
                self.consider(bin, number, flood);
            }
        }
        self.keep_warm(number);
        rising
    }

    /// What the model of a server's queue says at the end of the bin that is closed next; none where it has none any more.
    pub(super) fn read_queue(&mut self, at: Endpoint, reading: Option<Reading>) {
        if let Some(watch) = self.ledger.find(Key::Server(at)).and_then(|n| self.ledger.get_mut(n)) {
            match (&mut watch.queue, reading) {
                (Some(queue), Some(reading)) => **queue = reading,
                (queue, reading) => *queue = reading.map(Box::new),
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
                (watch.settings, watch.queue) = (settings, None);
            }
        }
        self.seat_configured(bin);
        self.ledger.generation += 1;
    }
}
