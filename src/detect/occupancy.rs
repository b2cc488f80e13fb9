//! Stage 4 of 5, detect: how full the SYN queue of a watched server is, and whether that alarms.
//!
//! By the model of the queue where there is one and its size is known; else by the embryonic attempts past the grace age, as an
//! estimate. Reads and weighs; raises nothing.

use super::backlog::{Limit, Reading};
use super::classify::Features;
use super::incident::ServerMode;
use super::ledger::Key;
use super::statistic::BINS_PER_SECOND;
use super::tally::Count;
use super::watch::Watch;
use crate::config::detect::DetectConfig;
use std::time::Duration;

/// A queue that is full within this is not waited for: attempts become unresolved, and sources counted, only past their grace age.
const PRESSING: Duration = Duration::from_secs(2);
/// A queue that is full within this grows, whatever the attempts of the last seconds that are past their grace age say.
const SOON: Duration = Duration::from_secs(10);
/// Share of a queue that must have gone unacknowledged for more than a second; what ordinary clients lose is below it.
const LINGERING: f64 = 0.05;
/// From this share on a Linux host sheds entries itself: no server is at home there, whatever was usual.
const SHEDDING: f64 = 0.5;
/// Share of a queue in entries whose SYN-ACK came again that no crowd leaves there, however many of its packets are lost.
const BESIEGED: f64 = 0.25;
/// The same of a queue whose size was learned, and the smallest of which it is said: fewer entries are a guess.
const BESIEGED_LEARNED: f64 = 0.8;
const LEARNED: u64 = 100;
/// How sure a model must be that an accept queue is full: three unanswered SYNs of a server with room in its queue are a quarter.
const SURE: f64 = 0.3;
/// Unresolved attempts within 5 to 10 s that make a model worth its memory.
const TROUBLE: f64 = 2.0;

impl Watch {
    /// The reading of its model and the size of its queue, where both are known.
    fn modelled(&self) -> Option<(&Reading, Limit)> {
        let reading = self.queue.as_ref()?;
        Some((reading, reading.limit?))
    }

    /// The same where the size is configured. What was learned from behaviour may be far off: it is held against what is usual.
    fn certain(&self) -> Option<(&Reading, Limit)> {
        self.modelled().filter(|(_, limit)| !limit.estimated)
    }

    /// The size of its queue by its model.
    pub(super) fn limit(&self) -> Option<Limit> {
        self.modelled().map(|(_, limit)| limit)
    }

    /// Size of its queue, assumed where neither configured nor learned.
    pub(super) fn size(&self, config: &DetectConfig) -> f64 {
        let assumed = || self.settings.backlog.unwrap_or(config.assumed_backlog).max(1);
        // A size learned from a few entries is no reason to alarm at fewer than anywhere else.
        let learned =
            |limit: Limit| if limit.estimated { limit.entries.max(assumed()) } else { limit.entries };
        self.limit().map_or_else(assumed, learned) as f64
    }

    /// Entries its queue holds; without a model, those that linger.
    pub(super) fn held(&self) -> f64 {
        self.modelled().map_or_else(|| self.lingering(), |(reading, _)| reading.entries as f64)
    }

    /// Entries that nobody acknowledged in time: by its model, those whose SYN-ACK came again; else attempts past the grace age,
    /// with a SYN-ACK where it sends any.
    pub(super) fn lingering(&self) -> f64 {
        let [_, _, sent, received] = self.gauges;
        match self.modelled() {
            Some((reading, _)) => reading.old as f64,
            None if self.answers => received as f64,
            None => (sent + received) as f64,
        }
    }

    /// The share of its queue that is taken, 0 to 1, and whether that is an estimate. None of what never answered, for no queue was
    /// seen, and none of a host or a prefix, which has none.
    pub(super) fn fill(&self, config: &DetectConfig) -> (f64, bool) {
        if self.never_answered() || !matches!(self.key, Key::Server(_)) {
            return (0.0, true);
        }
        let share = self.held() / self.size(config).max(1.0);
        (share.min(1.0), self.limit().is_none_or(|limit| limit.estimated))
    }

    /// What [`Self::held`] is held against: a share of the queue, and where nothing is known of it, far beyond the usual.
    pub(super) fn occupancy_threshold(&self, config: &DetectConfig) -> f64 {
        let share = self.settings.occupancy * self.size(config);
        if self.certain().is_some() { share } else { share.max(self.unusual()) }
    }

    /// More lingering entries than are usual by far.
    fn unusual(&self) -> f64 {
        // Little's law: what a baseline of unresolved attempts holds over the life of an entry, 63 s.
        let completed = self.completed.value().max(self.both(Count::Completed) / self.window_bins());
        let steady = self.baseline.steady(completed) * BINS_PER_SECOND * 63.0;
        (8.0 * self.usual_occupancy).max(1.5 * steady)
    }

    /// Takes note of how full it is at the end of a bin with so many flood units, `mean` being usual.
    pub(super) fn weigh_occupancy(&mut self, config: &DetectConfig, units: f64, mean: f64) {
        let mut growing = units > 0.0 && self.recent > 2.0 * mean + 0.5;
        let over = self.held() > self.occupancy_threshold(config) && self.bin > self.born;
        let (over, pressing) = match self.certain() {
            Some((reading, _)) => {
                let size = self.size(config);
                let lingers = self.lingering() > self.unusual().min(SHEDDING * size).max(LINGERING * size);
                let full_within = |time| reading.full_within.is_some_and(|full| full <= time);
                growing |= full_within(SOON);
                (over && lingers, full_within(PRESSING))
            }
            None => (over, false),
        };
        self.crowded = match (over, pressing, growing) {
            (true, true, _) => self.crowded.saturating_add(1).max(CROWDED),
            (true, false, true) => self.crowded.saturating_add(1),
            _ => 0,
        };
    }

    /// Whether its queue fills up and it is worth an alarm.
    pub(super) fn is_crowded(&self, config: &DetectConfig) -> bool {
        // The floor is for queues of which nothing is known: half of a small one is no trifle.
        let (seen, floor) = match self.certain() {
            Some(_) => (self.rise.max(self.lingering()), self.settings.floor.min(0.5 * self.size(config))),
            None => (self.rise, self.settings.floor),
        };
        self.crowded >= CROWDED && seen >= floor
    }

    /// Whether a queue of a size that is configured is still so full of entries nobody acknowledges that it would alarm again.
    pub(super) fn is_pressed(&self) -> bool {
        self.crowded >= CROWDED && self.certain().is_some()
    }

    /// Unresolved attempts over the sliding window that are known before their grace age is over, because the server repeats
    /// their SYN-ACKs: as many as linger, or as the present growth makes.
    pub(super) fn pressed(&self) -> f64 {
        let Some((reading, _)) = self.certain().filter(|_| self.crowded >= CROWDED) else { return 0.0 };
        self.lingering().max(reading.growth * self.window_bins() / BINS_PER_SECOND)
    }

    /// Whether its queue, of a size that is configured, is full of entries that nobody acknowledges, and it turns SYNs away: whatever
    /// else is acknowledged, that is no peace, no outage and no crowd, whose entries are as young as its clients are near.
    pub(super) fn is_besieged(&self) -> bool {
        self.certain().is_some_and(|(reading, limit)| is_full_of_old(reading, limit.entries, BESIEGED))
    }

    /// The same, or of a queue whose size was learned, if nearly all that is there has waited: then it is no crowd. What else it is
    /// hangs on a size that may be far off.
    pub(super) fn seems_besieged(&self) -> bool {
        let learned = |(reading, limit): (&Reading, Limit)| {
            limit.entries >= LEARNED && is_full_of_old(reading, limit.entries, BESIEGED_LEARNED)
        };
        self.is_besieged() || self.modelled().is_some_and(learned)
    }

    /// Whether its accept queue is full, by the model of its queue.
    pub(super) fn overflows(&self) -> bool {
        self.queue
            .as_ref()
            .is_some_and(|reading| reading.verdict.beyond_loss && reading.verdict.confidence >= SURE)
    }

    /// Whether the model of its queue says that it lives though it answers nothing, sure or not: no outage.
    pub(super) fn lives(&self) -> bool {
        self.queue.as_ref().is_some_and(|reading| reading.verdict.mode == ServerMode::AcceptOverflow)
    }

    /// How the server treats SYNs, and how sure that is: by the model of its queue, which gives a mode up within seconds, else by
    /// its sums.
    pub(super) fn mode(&self, features: &Features) -> (ServerMode, f64) {
        match self.queue.as_deref() {
            Some(Reading { verdict, .. }) => (verdict.mode, verdict.confidence),
            None => features.mode(),
        }
    }

    /// Whether it sent no SYN-ACK and completed nothing, ever: not before a restart, nor what a host knows of its servers.
    pub(super) fn never_answered(&self) -> bool {
        !self.answers && self.totals[1] == 0 && self.completed.value() == 0.0
    }

    /// Whether a model of its queue would tell more: attempts stay unresolved at a server that answers.
    pub(super) fn is_troubled(&self) -> bool {
        self.answers && self.units.iter().sum::<f64>() >= TROUBLE
    }
}

fn is_full_of_old(reading: &Reading, size: u64, share: f64) -> bool {
    matches!(reading.verdict.mode, ServerMode::Drop | ServerMode::Cookie)
        && reading.entries as f64 >= SHEDDING * size as f64
        && reading.old as f64 >= share * size as f64
}

/// Bins in a row over the threshold that alarm.
const CROWDED: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::segment::Endpoint;
    use crate::detect::backlog::Verdict;
    use crate::detect::incident::IncidentKind;
    use crate::detect::ledger::Key;
    use crate::detect::watch::Settings;
    use crate::time::Timestamp;
    use std::net::Ipv4Addr;

    fn server(mode: ServerMode, old: u64, estimated: bool) -> Watch {
        let key = Key::Server(Endpoint::new(Ipv4Addr::new(192, 0, 2, 10).into(), 80));
        let mut watch = Watch::new(key, Settings::of(key, &DetectConfig::default(), &[]), 0);
        let verdict = Verdict {
            mode,
            confidence: 1.0,
            repeated: 9.0,
            unrepeated: 9.0,
            unanswered: 9.0,
            after_ack: 0.0,
            completed: 9.0,
            beyond_loss: false,
        };
        let limit = Some(Limit { entries: 512, estimated });
        let reading = Reading { entries: 512, old, limit, growth: 0.0, full_within: None, verdict };
        watch.queue = Some(Box::new(reading));
        watch
    }

    /// Nothing is unresolved, for whoever attacks acknowledges in vain: only the queue tells.
    #[test]
    fn a_full_queue_that_nobody_acknowledges_is_no_peace() {
        let calm = |mode, old, estimated| {
            let watch = server(mode, old, estimated);
            let features = watch.features(Timestamp::from_nanos(500_000_000), false);
            watch.is_calm(IncidentKind::SpoofedFlood, &features, 1.0)
        };
        assert!(!calm(ServerMode::Drop, 400, false));
        assert!(!calm(ServerMode::Cookie, 400, false));
        assert!(calm(ServerMode::Queue, 400, false), "it takes SYNs again");
        assert!(calm(ServerMode::Cookie, 30, false), "a crowd's entries are young");
        assert!(calm(ServerMode::Cookie, 400, true), "a size that was learned may be far off");
    }
}
