//! Stage 4 of 5, detect: from an alarm to an incident, and from calm to its end.
//!
//! Asks the classifier, holds back what is explained otherwise, and keeps the figures of what runs.

use super::classify::{Features, Verdict, is_flood};
use super::incident::{Incident, IncidentKind, ServerMode};
use super::judge::{Bin, Court};
use super::ledger::{Key, site};
use super::scans::{Figures, Finding};
use super::sources::SourceSet;
use super::statistic::{BIN, BINS_PER_SECOND};
use super::tally::Count;
use super::tell;
use crate::config::detect::Prefix;
use std::collections::BTreeMap;
use std::time::Duration;

/// Hosts that must contribute before a prefix, or the sensor, is said to be flooded as a whole.
const CARPET_PARTS: f64 = 8.0;
/// Share of a carpet's rate that makes one of its servers a victim of its own.
const OWN_VICTIM: f64 = 0.25;

/// Shortest time that unsolicited answers are counted over, seconds: half of their sliding minute.
const STRAY_WINDOW: f64 = 30.0;

/// So long after it was raised a flood may still turn out to be a crowd: what the verdict looks at, 5 to 10 s, lies before by then.
const MISLED: Duration = Duration::from_secs(10);

/// Bins within which SYN-ACKs are repeated: Linux sends the last of five 31 s after the first, and gives up at 63 s.
const REPEATED: u64 = 126;

impl Court {
    /// A key without an incident: is there one to raise?
    pub(super) fn consider(&mut self, bin: Bin, number: usize, alarm: bool) {
        let Some(watch) = self.ledger.get_mut(number) else { return };
        watch.note_alarm(alarm, &self.config);
        let features = watch.features(bin.end, alarm);
        let is_server = matches!(watch.key, Key::Server(_));
        let kind = if alarm {
            match watch.key {
                Key::Server(_) if features.may_come_again() && watch.hears_none_again() => {
                    watch.verdict = "nothing is answered, and it is too soon for a stack to call again: an outage, if it does";
                    None
                }
                Key::Server(_) => match features.verdict() {
                    Verdict::Raise(kind) => Some(kind),
                    Verdict::DeadServer => {
                        watch.verdict =
                            "callers of a server that never answered, on the schedule of a stack or program";
                        None
                    }
                    Verdict::Listen => {
                        watch.verdict =
                            "it never answered: whether real clients call it shows within seconds";
                        None
                    }
                    Verdict::Wait => {
                        watch.verdict = "completions are falling, or late, while no more is asked: an outage, if it lasts";
                        None
                    }
                },
                Key::Host(_) if watch.may_be_scanned(&self.config, features.sources) => {
                    watch.verdict = "so few attempts each of few sources that they may turn out to scan";
                    None
                }
                Key::Host(_) if features.is_tried_again() => {
                    watch.verdict = "a few programs call ports that never answered, again and again";
                    None
                }
                Key::Host(_) => match features.verdict() {
                    Verdict::Raise(kind @ (IncidentKind::SpoofedFlood | IncidentKind::DirectFlood)) => {
                        Some(kind)
                    }
                    Verdict::Raise(_) | Verdict::DeadServer | Verdict::Listen | Verdict::Wait => None,
                },
                Key::Site(_) | Key::Sensor => match features.verdict() {
                    // What few sources do to many hosts is a sweep or a reflection, and charged to them.
                    Verdict::Raise(IncidentKind::SpoofedFlood) if watch.parts >= CARPET_PARTS => {
                        Some(IncidentKind::CarpetFlood)
                    }
                    Verdict::Raise(_) | Verdict::DeadServer | Verdict::Listen | Verdict::Wait => None,
                },
            }
        } else if is_server {
            watch.quiet_kind(&features)
        } else {
            None
        };
        if is_server && kind.is_some_and(|kind| watch.may_be_far(kind, &features, &self.config)) {
            watch.verdict =
                "clients farther away than any before, or a flood: shows as soon as they complete";
            return;
        }
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
        if is_flood(kind) && self.is_part_of_carpet(number) {
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
            .filter(|key| *key > watch.key)
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
        let onset = match (kind, watch.drought.lasted()) {
            (IncidentKind::Outage, Some(dry)) => bin.end.minus(dry),
            _ => bin.end.minus(since).minus(grace),
        };
        let mut sources = SourceSet::None;
        for set in &watch.sources {
            sources.union(set, &mut self.sketches);
        }
        let (mode, confidence) = watch.mode(features);
        let (fill, estimated) = watch.fill(&self.config);
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
            server_mode: mode,
            server_mode_confidence: confidence,
            syn_rate_peak: watch.peak_rate(),
            attempts: watch.totals[0].saturating_sub(watch.before[0]),
            completed: watch.totals[1].saturating_sub(watch.before[1]),
            embryonic_peak: watch.embryonic(),
            backlog_occupancy_peak: fill,
            backlog_occupancy_estimated: estimated,
            distinct_sources: sources.estimate().0.round() as u64,
            capture_loss: bin.loss,
            evidence: tell::evidence(watch, features, &self.config, keys, visibility),
        };
        let before = self.ledger.get(number).map(|watch| watch.before).unwrap_or_default();
        let raised = self.episodes.raise(bin.number, incident, before, sources);
        let Some(watch) = self.ledger.get_mut(number) else { return };
        watch.incident = raised;
        watch.alarmed_at = watch.cusum.leading().filter(|_| is_flood(kind)).unwrap_or(f64::INFINITY);
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
    pub(super) fn follow(&mut self, bin: Bin, number: usize, incident: usize, mean: f64) {
        let keys = self.ledger_keys();
        let visibility = self.scans.visibility();
        let Some(watch) = self.ledger.get_mut(number) else { return };
        let features = watch.features(bin.end, bin.number.is_multiple_of(4));
        let Some(running) = self.episodes.get_mut(incident) else {
            watch.incident = None;
            return;
        };
        let distinct_sources = running.distinct_sources();
        let told = &mut running.incident;
        told.syn_rate_peak = told.syn_rate_peak.max(watch.peak_rate());
        told.attempts =
            running.carried.attempts.saturating_add(watch.totals[0].saturating_sub(running.before[0]));
        told.completed =
            running.carried.completed.saturating_add(watch.totals[1].saturating_sub(running.before[1]));
        told.embryonic_peak = told.embryonic_peak.max(watch.embryonic());
        let (fill, estimated) = watch.fill(&self.config);
        if told.backlog_occupancy_estimated && !estimated {
            // From now on it is known: what was guessed before no longer counts.
            (told.backlog_occupancy_peak, told.backlog_occupancy_estimated) = (fill, false);
        } else if told.backlog_occupancy_estimated == estimated {
            told.backlog_occupancy_peak = told.backlog_occupancy_peak.max(fill);
        }
        told.capture_loss = told.capture_loss.max(bin.loss);
        let calm = watch.is_calm(told.kind, &features, mean);
        running.calm = if calm { running.calm + 1 } else { 0 };
        let needed = (self.config.calm.as_secs_f64() * BINS_PER_SECOND).ceil() as u32;
        if running.calm >= needed {
            let reason = match told.kind {
                IncidentKind::Outage => "the server completes handshakes again, or nobody asks it any more",
                IncidentKind::AcceptOverflow => "SYNs are answered again, and no SYN-ACK comes after its ACK",
                IncidentKind::FlashCrowd => "as many handshakes as usual again",
                IncidentKind::SpoofedFlood
                | IncidentKind::DirectFlood
                | IncidentKind::CarpetFlood
                | IncidentKind::PortScan
                | IncidentKind::HostScan
                | IncidentKind::Reflection
                | IncidentKind::Backscatter => "unresolved attempts are back within the baseline",
            };
            told.distinct_sources = distinct_sources;
            self.episodes.end(incident, bin.end, reason, &mut self.sketches);
            watch.end_episode();
            return;
        }
        if calm || !bin.number.is_multiple_of(4) {
            return;
        }
        told.distinct_sources = distinct_sources;
        // While it lasts: what is left in the window afterwards shows how the server treats its ordinary clients.
        let lasts = watch.last_units >= watch.recent / 2.0;
        let (mode, confidence) = watch.mode(&features);
        if (lasts || told.server_mode == ServerMode::Unknown) && mode != ServerMode::Unknown {
            (told.server_mode, told.server_mode_confidence) = (mode, confidence);
        }
        let mut kind = told.kind;
        // The first bins may mislead; what the window says later stands, as long as it still alarms. Once attempts have stopped, what
        // is left in it says nothing; that nothing is answered goes on without them.
        if matches!(watch.key, Key::Server(_))
            && watch.recent > 2.0 * mean + 0.5
            && reconsiders(kind)
            && let Verdict::Raise(now) = features.verdict()
            && (watch.goes_on() || now == IncidentKind::Outage)
            && features.corrects(kind, now, bin.end.since(told.detected_at) <= MISLED)
        {
            kind = now;
        }
        let kind = running.look(kind);
        let told = &mut running.incident;
        let severity = watch.severity(kind, &features);
        if lasts || kind != told.kind || severity > told.severity {
            told.evidence = tell::evidence(watch, &features, &self.config, keys, visibility);
        }
        self.episodes.review(incident, (bin.number, bin.end), kind, severity);
    }

    /// A server of ours whose answers mostly have their SYN: the rest is what the sensor lost, or captured twice.
    /// After a restart: what it repeats had its SYN before.
    fn is_explained_by_loss(&self, bin: Bin, finding: &Finding) -> bool {
        let Figures::Stray { answers, sent: true, .. } = finding.figures else { return false };
        let addr = finding.source.addr();
        if self.resumed && bin.number < REPEATED && self.ledger.servers_of(addr, 1) > 0 {
            return true;
        }
        let asked: f64 = self
            .ledger
            .iter()
            .filter(|watch| matches!(watch.key, Key::Server(at) if at.addr == addr))
            .map(|watch| {
                let asked = watch.both(Count::Answered) + watch.both(Count::Refused);
                (asked / watch.window_bins()).max(watch.busy) * BINS_PER_SECOND
            })
            .sum();
        answers < 0.5 * asked * STRAY_WINDOW
    }

    /// Incidents of sources: scans, reflection, backscatter.
    pub(super) fn charge(&mut self, bin: Bin, findings: Vec<Finding>, strays: Vec<Finding>) {
        let mut quiet: BTreeMap<(bool, Prefix), usize> = self.charged.clone();
        for finding in findings.into_iter().chain(strays) {
            if self.is_explained_by_loss(bin, &finding) {
                continue;
            }
            let key = (matches!(finding.figures, Figures::Stray { .. }), finding.source);
            quiet.remove(&key);
            if let Some(running) = self.charged.get(&key).and_then(|number| self.episodes.get_mut(*number)) {
                running.calm = 0;
                running.incident.attempts += finding.events as u64;
                running.incident.syn_rate_peak =
                    running.incident.syn_rate_peak.max(finding.events * BINS_PER_SECOND);
                // A sweep may turn out to be reflection, a scan a flood; never the other way.
                if matches!(finding.kind, IncidentKind::Reflection | IncidentKind::DirectFlood)
                    && let Some(number) = self.charged.get(&key).copied()
                {
                    let told = tell::of_source(&finding, bin.end, bin.loss, &self.config);
                    if running.incident.kind != told.kind {
                        running.incident.evidence = told.evidence;
                    }
                    self.episodes.review(number, (bin.number, bin.end), told.kind, told.severity);
                }
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
}

/// Kinds that a later look may correct.
const fn reconsiders(kind: IncidentKind) -> bool {
    use IncidentKind::{AcceptOverflow, FlashCrowd, Outage};
    is_flood(kind) || matches!(kind, FlashCrowd | Outage | AcceptOverflow)
}
