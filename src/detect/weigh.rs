//! Stage 4 of 5, detect: what the figures of one watched key amount to: is it calm, crowded, silent, and how grave.
//!
//! Reads and weighs; raises nothing.

use super::classify::{Features, MOST, is_flood};
use super::drought::Drought;
use super::incident::{IncidentKind, Severity};
use super::scans::SCANNERS;
use super::statistic::{BIN, BINS_PER_SECOND, threshold};
use super::tally::{Count, PATIENCE, Tally};
use super::watch::{BUSY_BINS, WINDOW, Watch};
use crate::config::detect::DetectConfig;
use crate::time::Timestamp;
use std::time::Duration;

/// Bins of completions that make them usual: 10 s.
const RUSH_HISTORY: u32 = 20;
/// Variance over mean of completions, as assumed of unresolved attempts nothing is known of.
const CLUMPING: f64 = 3.0;

/// Twice as many completions as usual, with twice as many failures beside them, are the most that is told by the means alone while
/// evidence rises: from there on it is a crowd, which the classifier tells from a flood by its completions.
const CROWD: f64 = 2.0;

/// While an incident runs, what was expected before it may double every five minutes (600 bins), up to what the completions say: a load
/// that stays higher with its share of failures may not keep the incident from ending for ever, and one that is made for a minute
/// may not end it.
const RELAX: f64 = 1.001_156;

/// Bins within which the second SYN is due of half of what rises at a near server.
const NOT_DUE: u64 = 3;
/// Share of unresolved attempts whose SYN comes again where clients are farther away than that: the rest is too young.
const REPEATED_BY_FAR: f64 = 0.3;
/// Bins within which far clients begin to complete: 4 s, a round trip by two satellites and full queues. Share of them that has done so
/// by then.
const FAR: u64 = 8;
const LATE_BY_FAR: f64 = 0.25;
/// Bins within which their distance is learned: a minute. What goes on is not theirs, whoever has handshakes completed late beside it.
const KNOWN_BY_THEN: u32 = 120;
/// When a stack sends a SYN again (RFC 6298 section 2).
const RESENT: Duration = Duration::from_secs(1);
/// Within so long of an alarm, which comes when the shortest grace age is over, most of them have.
const LISTENED: Duration = Duration::from_secs(2);

impl Watch {
    /// Flood units of one bin, just taken in: what was left unresolved and did not turn out well.
    pub(super) fn units_of(&mut self, tally: &Tally, loss: f64) -> f64 {
        let mut units = tally.failed();
        // Copies that no stack would send: more than one a second for each attempt still open. What was not used of that may be
        // used later: a tap that captures twice makes two copies of one.
        let open = (self.gauges[0] + self.gauges[1]) as f64;
        self.spare_copies = (self.spare_copies + open / BINS_PER_SECOND).min(4.0 * open);
        let copies = tally.of(Count::Copies);
        let stacks = copies.min(self.spare_copies);
        self.spare_copies -= stacks;
        units += copies - stacks;
        // SYNs that the table could not follow, and attempts it had to let go: charged by the share that stays unresolved.
        self.unseen += tally.of(Count::Attempts) - tally.of(Count::Represented);
        let charge = self.unseen.max(0.0) + tally.of(Count::Evicted);
        if charge > 0.0 {
            self.unseen = self.unseen.min(0.0);
            units += charge * self.unresolved_share();
        }
        // What the sensor lost it cannot have seen completed.
        units = (units - loss * tally.of(Count::Attempts)).max(0.0);
        self.credit += tally.of(Count::Late);
        let settled = self.credit.min(units);
        self.credit = (self.credit - settled) * 0.9;
        units - settled
    }

    /// Share of the attempts of the last two seconds that stayed unresolved; all of them where nothing else is known.
    fn unresolved_share(&self) -> f64 {
        let [bad, good] = self.fates;
        if bad + good < 0.1 { 1.0 } else { bad / (bad + good) }
    }

    /// Mean flood units a bin in peace. Where more handshakes complete than usual, more fail: a rush hour has more of both. While
    /// evidence rises or an incident runs, at most [`CROWD`] times what was expected before.
    pub(super) fn expected(&self) -> f64 {
        self.expected_now().min(CROWD * self.held)
    }

    /// Holds what is expected from the moment when evidence rises until it is gone, for completions can be had by whoever floods; one
    /// who finishes a handshake for each that he leaves open must not explain the flood away.
    pub(super) fn hold(&mut self, h: f64) {
        let known = self.completed.bins() >= f64::from(RUSH_HISTORY);
        if self.incident.is_none() && !(known && self.is_rising(h)) {
            self.held = f64::INFINITY;
        } else if self.held.is_infinite() {
            self.held = self.expected_now();
        } else if self.incident.is_some() {
            self.held = (self.held.max(0.05) * RELAX).min(self.expected_now()).max(self.held);
        }
    }

    /// Whether its statistic, or its queue, is on the way to an alarm; `h` is the threshold.
    pub(super) fn is_rising(&self, h: f64) -> bool {
        self.cusum.largest() >= self.baseline.freeze(h, self.cusum.leading()) || self.crowded > 0
    }

    fn expected_now(&self) -> f64 {
        let now = self.taken() / self.window_bins();
        self.baseline.mean(self.completed.value().max(now)) * self.rush()
    }

    /// Completions over the sliding window that the server took, as far as it says.
    fn taken(&self) -> f64 {
        (self.both(Count::Completed) - self.both(Count::NotTaken)).max(0.0)
    }

    /// By what factor completions have surely risen above the usual: two standard deviations of clumped arrivals are no rise.
    fn rush(&self) -> f64 {
        let usual = self.completed.value();
        if self.completed.bins() < f64::from(RUSH_HISTORY) || usual <= 0.0 {
            return 1.0;
        }
        let surely = |now: f64, bins: f64| (now - 2.0 * (CLUMPING * now).sqrt()) / bins;
        // Of the last seconds, to see a crowd come at once; of the last minute, to be sure of a smaller rise. An exponential mean
        // is worth twice its time constant.
        let bins = self.window_bins();
        let long = 2.0 * BUSY_BINS;
        let now = surely(self.taken(), bins).max(surely(self.busy * long, long));
        (now / usual).max(1.0)
    }

    /// Its grace age: half as much again as nearly all of its handshakes take.
    pub(super) fn grace(&self, config: &DetectConfig) -> Duration {
        let all: f64 = self.times.iter().sum();
        // A quantile needs that many observations beyond it to mean anything; below 200 the default holds.
        if all < 200.0 {
            return config.initial_grace;
        }
        let mut beyond = all;
        for (count, bound) in self.times.iter().zip(PATIENCE) {
            beyond -= count;
            if beyond <= all * 0.001 {
                return (bound * 3 / 2).clamp(config.min_grace, config.max_grace);
            }
        }
        config.max_grace
    }

    pub(super) fn grace_bins(&self, config: &DetectConfig) -> u64 {
        (self.grace(config).as_secs_f64() * BINS_PER_SECOND).ceil() as u64 + 1
    }

    /// Hardly known, and it leaves more than twice unresolved of what any server of its size may: not to be learned from.
    pub(super) fn is_suspiciously_new(&self) -> bool {
        let bins = self.window_bins();
        let own = bins.min((self.bin.saturating_sub(self.made) + 1) as f64);
        let allowed = 2.0 * self.baseline.assumed(self.both(Count::Completed) / bins) * own + 3.0;
        self.baseline.is_new() && self.units.iter().sum::<f64>() > allowed
    }

    pub(super) fn learn(&mut self, units: f64) {
        self.baseline.learn(units);
        let tally = self.latest;
        self.attempts.learn(f64::from(tally[0]), 1);
        self.completed.learn(f64::from(tally[1]), 1);
        self.lateness.learn(f64::from(tally[3]), self.completed.bins());
        let ended = f64::from(tally[1]) + f64::from(tally[2]);
        if ended > 0.0 {
            self.success.learn(f64::from(tally[1]) / ended, 1);
        }
        self.usual_occupancy = self.lingering().max(self.usual_occupancy * 0.9999);
    }

    /// Takes what completed and what failed in the last bin for evidence of an outage.
    pub(super) fn weigh_silence(&mut self) {
        let [_, completed, failed, _] = self.latest.map(f64::from);
        self.drought.dry(completed, self.completed.value());
        if self.success.bins() >= 20.0 && self.success.value() >= 0.5 {
            self.drought.fail(completed, failed, self.success.value().min(0.98));
        }
    }

    /// Embryonic attempts now.
    pub(super) fn embryonic(&self) -> u64 {
        (self.gauges[0] + self.gauges[1]).unsigned_abs()
    }

    /// Attempts in the last second.
    pub(super) fn peak_rate(&self) -> f64 {
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
            dry: self.drought.lasts(threshold(self.settings.false_alarm_interval, 1)),
            late: self.lateness.beyond(self.both(Count::Late), bins),
            turning_out: self.lateness.share(),
            alarming: self.alarming,
            units: self.units.iter().sum::<f64>().max(self.pressed()),
            usual_units: self.expected() * bins,
            overdue: self.both(Count::Overdue),
            overdue_answered: self.both(Count::OverdueAnswered),
            overdue_repeated: self.both(Count::OverdueRepeated),
            returned: self.both(Count::Returned),
            copies: (self.both(Count::Copies) - self.embryonic() as f64 * bins / BINS_PER_SECOND).max(0.0),
            answered: self.both(Count::Answered),
            answer_repeated: self.both(Count::AnswerRepeated),
            asked_again: self.both(Count::AskedAgain),
            answer_after_ack: self.both(Count::AnswerAfterAck),
            not_taken: self.both(Count::NotTaken),
            refused: self.both(Count::Refused),
            // Reading the sketches takes a few microseconds: only where it matters.
            sources: if with_sources { self.distinct().0 } else { 0.0 },
            entries: self.both(Count::Sketched),
            each_bin: self.each_bin,
            usual_each_bin: self.expected(),
            calls: [0, 1].map(|what| self.calls.iter().map(|stretch| f64::from(stretch[what])).sum()),
            history: self.attempts.bins(),
            answers: self.answers,
            dead: self.never_answered(),
            overflows: self.overflows(),
            besieged: self.is_besieged(),
            seems_besieged: self.seems_besieged(),
            unanswered: self.queue.as_ref().map_or(0.0, |reading| reading.verdict.unanswered),
            heard: heard.since(began).as_secs_f64(),
        }
    }

    /// Whether what rose at this host are so few attempts each of so few sources that each of them may yet turn out to scan it, by
    /// trying [`scan_ports`](DetectConfig::scan_ports) of its ports. Twice as many, for a stack tries a port more than once.
    pub(super) fn may_be_scanned(&self, config: &DetectConfig, sources: f64) -> bool {
        sources.round() <= SCANNERS && self.rise < 2.0 * f64::from(config.scan_ports) * sources.round()
    }

    /// Whether what rose may be handshakes of clients farther away than any before: below what is critical, the server answers, the
    /// clients' stacks send their SYNs again as soon as that is due, and within seconds handshakes complete late.
    pub(super) fn may_be_far(&self, kind: IncidentKind, features: &Features, config: &DetectConfig) -> bool {
        let bins = self.cusum.onset().map_or(u64::MAX, |onset| self.bin.saturating_sub(onset) + 1);
        let not_due = bins <= NOT_DUE && self.grace(config) < RESENT;
        let repeated = features.repeated_share() >= REPEATED_BY_FAR;
        let late = self.alarming <= KNOWN_BY_THEN && self.both(Count::Late) >= LATE_BY_FAR * features.overdue;
        is_flood(kind)
            && !self.is_pressed()
            && self.severity(kind, features) < Severity::Critical
            && features.overdue_answered >= 0.8 * features.overdue
            && (not_due || (repeated && (bins <= FAR || late)))
    }

    /// Takes note of whether the bin alarms.
    pub(super) fn note_alarm(&mut self, alarm: bool, config: &DetectConfig) {
        self.alarming = if alarm { self.alarming + 1 } else { 0 };
        // As it was before: what comes late makes the grace age longer.
        if self.alarming == 1 {
            self.near = self.grace(config) < RESENT;
        }
    }

    /// Whether what raised the alarm is so young that stacks had no time to send it again: at a near server, whose grace age is
    /// shorter than they wait.
    pub(super) fn hears_none_again(&self) -> bool {
        self.near && BIN * self.alarming < LISTENED
    }

    /// What a server has that is no flood and needs no alarm of the statistic.
    pub(super) fn quiet_kind(&self, features: &Features) -> Option<IncidentKind> {
        // Enough failures that chance is out of the question, and hardly a completion for three seconds.
        if self.drought.fails(threshold(self.settings.false_alarm_interval, 1))
            && features.silent()
            && !features.besieged
            && !self.lives()
            && (features.refused > features.overdue || features.attempts <= 3.0 * features.usual_attempts)
        {
            return Some(IncidentKind::Outage);
        }
        if features.turns_away() || features.does_not_accept() {
            return Some(IncidentKind::AcceptOverflow);
        }
        // Ten times the usual completions, and enough of them to matter; and still, for a crowd that meets a full accept queue is
        // served no more.
        let completed = features.taken().min(features.completing);
        let rate = completed / self.window_bins() * BINS_PER_SECOND;
        let surge = features.history >= 120.0 && completed >= 10.0 * features.usual_completed;
        (surge && rate >= 50.0 && !features.besieged && !features.seems_besieged)
            .then_some(IncidentKind::FlashCrowd)
    }

    /// Who should hear of it.
    pub(super) fn severity(&self, kind: IncidentKind, features: &Features) -> Severity {
        let rate = features.units / self.window_bins().min(2.0 * WINDOW as f64) * BINS_PER_SECOND;
        match kind {
            IncidentKind::FlashCrowd => Severity::Info,
            IncidentKind::Outage => Severity::Critical,
            IncidentKind::SpoofedFlood | IncidentKind::DirectFlood | IncidentKind::CarpetFlood => {
                let now = (self.recent * BINS_PER_SECOND).max(rate);
                let harmed = features.history >= 20.0
                    && features.usual_completed >= 10.0
                    && features.completed < 0.5 * features.usual_completed;
                if now >= self.settings.critical_rate
                    || self.peak_units() >= self.settings.critical_rate
                    || harmed
                {
                    Severity::Critical
                } else {
                    Severity::Warning
                }
            }
            IncidentKind::PortScan
            | IncidentKind::HostScan
            | IncidentKind::Reflection
            | IncidentKind::Backscatter
            | IncidentKind::AcceptOverflow => Severity::Warning,
        }
    }

    /// Flood units of the last bin, a second.
    pub(super) fn peak_units(&self) -> f64 {
        self.last_units * BINS_PER_SECOND
    }

    /// Whether this bin looks like the end of an incident of this kind.
    pub(super) fn is_calm(&self, kind: IncidentKind, features: &Features, mean: f64) -> bool {
        match kind {
            IncidentKind::Outage => !features.completes_nothing() || features.attempts < 1.0,
            IncidentKind::AcceptOverflow => {
                features.answer_after_ack < 1.0 && !self.overflows() && !features.answers_late(MOST)
            }
            IncidentKind::FlashCrowd => {
                features.completed < 3.0 * features.usual_completed.max(1.0)
                    && self.recent <= self.upper(mean)
            }
            IncidentKind::SpoofedFlood | IncidentKind::DirectFlood | IncidentKind::CarpetFlood => {
                self.recent <= self.upper(mean) && !features.besieged && !self.is_pressed()
            }
            IncidentKind::PortScan
            | IncidentKind::HostScan
            | IncidentKind::Reflection
            | IncidentKind::Backscatter => self.recent <= self.upper(mean),
        }
    }

    /// What the smoothed units stay below once it is over: three standard deviations of a mean over ten bins, or half of what the
    /// alarm was about, where that is less. A flood slow enough to hide in the noise of ten bins has not ended because it does.
    pub(super) fn upper(&self, mean: f64) -> f64 {
        let noise = 3.0 * (self.baseline.phi() * mean / 10.0).sqrt() + 0.5;
        mean + noise.min(self.alarmed_at / 2.0)
    }

    /// Starts afresh after an incident.
    pub(super) fn end_episode(&mut self) {
        self.incident = None;
        self.alarmed_at = f64::INFINITY;
        self.cusum.reset();
        self.drought = Drought::default();
        self.crowded = 0;
        self.rise = 0.0;
        self.verdict = "within its baseline";
    }
}
