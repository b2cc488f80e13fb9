//! Stage 4 of 5, detect: whether a server still completes what it usually does, and in time.
//!
//! Reckons; what it means is decided elsewhere.

use super::statistic::BIN;
use super::tally::{Count, Tally};
use std::time::Duration;

/// Bins for which completions must have run dry before that is believed: 3 s. A proxy that reloads, or a service that starts again,
/// refuses hundreds within a moment, which no chance explains, and nobody need be woken for it; an outage is to be told within 5 s.
const LASTING: f32 = 6.0;

/// Share of the usual completions that an outage leaves.
const LEFT: f64 = 0.1;

/// Evidence that nothing completes any more. Every key has it: single precision is enough for what ends at [`CERTAIN`].
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Drought {
    /// Log-likelihood ratio of a twentieth of the attempts completing against the usual share.
    failing: f32,
    /// Log-likelihood ratio of [`LEFT`] of the usual completions against all of them.
    odds: f32,
    /// Bins with any event since that last was zero.
    bins: f32,
    /// Whether the last bin spoke against it.
    ebbs: bool,
}

/// What is known for certain is not weighed further, so that an end is seen at once.
const CERTAIN: f64 = 100.0;

fn weigh(sum: f32, change: f64) -> f32 {
    (f64::from(sum) + change).clamp(0.0, CERTAIN) as f32
}

impl Drought {
    /// Weighs a bin with so many completions, where `usual` a bin are usual: Poisson.
    pub(super) fn dry(&mut self, completed: f64, usual: f64) {
        let change = (1.0 - LEFT) * usual + completed * LEFT.ln();
        self.odds = weigh(self.odds, change);
        self.bins = if self.odds > 0.0 { self.bins + 1.0 } else { 0.0 };
        self.ebbs = change < 0.0;
    }

    /// Weighs bins without any event: nothing completed, but who knows whether anybody asked.
    pub(super) fn pause(&mut self, bins: f64, usual: f64) {
        self.odds = weigh(self.odds, (1.0 - LEFT) * usual * bins);
    }

    /// Weighs attempts that completed and that failed, where the share `usual` completes: Bernoulli.
    pub(super) fn fail(&mut self, completed: f64, failed: f64, usual: f64) {
        let ratio = failed * (0.95 / (1.0 - usual)).ln() + completed * (0.05 / usual).ln();
        self.failing = weigh(self.failing, ratio);
    }

    /// Whether completions have stopped, chance is out of the question at this threshold, it lasts, and it still holds.
    pub(super) fn lasts(&self, threshold: f64) -> bool {
        f64::from(self.odds) >= threshold && self.bins >= LASTING && !self.ebbs
    }

    /// How long completions have been running dry; none where they are not.
    pub(super) fn lasted(&self) -> Option<Duration> {
        (self.bins > 0.0).then(|| BIN * self.bins as u32)
    }

    /// Whether attempts fail that usually do not.
    pub(super) fn fails(&self, threshold: f64) -> bool {
        f64::from(self.failing) >= threshold
    }
}

/// Bins that what is usual is learned over, ten minutes.
const LEARNED: f64 = 1200.0;
/// Late attempts a bin below which none is late: what fades never is nothing.
const NONE_LATE: f64 = 0.01;

/// Attempts that turn out well after their grace age: their server is slow, whoever calls it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lateness {
    /// Attempts a bin that pass their grace age, and that turn out well after it, at the pace of about two seconds.
    pace: [f32; 2],
    /// Of the latter, usual a bin.
    usual: f32,
}

impl Lateness {
    /// Takes the counts of one bin in.
    pub(super) fn take(&mut self, tally: &Tally) {
        for (pace, what) in self.pace.iter_mut().zip([Count::Overdue, Count::Late]) {
            *pace = *pace * 0.7 + tally[what] as f32 * 0.3;
        }
    }

    /// As if nothing had come for so long that this is left.
    pub(super) fn fade(&mut self, left: f64) {
        self.pace = self.pace.map(|pace| pace * left as f32);
    }

    /// Takes a bin of peace in, of so many.
    pub(super) fn learn(&mut self, late: f64, bins: f64) {
        let usual = f64::from(self.usual);
        self.usual = (usual + (late - usual) / bins.clamp(1.0, LEARNED)) as f32;
    }

    /// What of so many late attempts within so many bins is more than usual.
    pub(super) fn beyond(&self, late: f64, bins: f64) -> f64 {
        (late - f64::from(self.usual) * bins).max(0.0)
    }

    /// Share of what passes its grace age just now that turns out well, beyond the usual.
    pub(super) fn share(&self) -> f64 {
        let [overdue, late] = self.pace.map(f64::from);
        let (overdue, late) = (overdue - f64::from(self.usual), self.beyond(late, 1.0));
        if late > NONE_LATE { late / overdue.max(late) } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 150 a bin are usual; a third of a second without one, then three seconds.
    #[test]
    fn a_moment_is_no_drought_and_three_seconds_are() {
        let mut drought = Drought::default();
        drought.dry(150.0, 150.0);
        drought.dry(50.0, 150.0);
        assert!(drought.odds >= 18.8 && !drought.lasts(18.8), "{drought:?}");
        drought.dry(150.0, 150.0);
        assert_eq!(drought.bins, 0.0);
        (0..5).for_each(|_| drought.dry(0.0, 150.0));
        assert!(!drought.lasts(18.8));
        drought.dry(1.0, 150.0);
        assert!(drought.lasts(18.8));
        drought.dry(70.0, 150.0);
        assert!(!drought.lasts(18.8), "it comes back");
        // A night without clients is none.
        let mut night = Drought::default();
        night.pause(60_000.0, 0.01);
        night.dry(0.0, 0.01);
        assert!(night.odds >= 18.8 && !night.lasts(18.8), "{night:?}");
        assert!(night.lasted() <= Some(BIN), "{night:?}");
    }

    #[test]
    fn what_was_late_once_is_forgotten() {
        let (mut lateness, mut tally) = (Lateness::default(), Tally::default());
        tally.count(Count::Overdue, 50);
        tally.count(Count::Late, 50);
        (0..10).for_each(|_| lateness.take(&tally));
        (0..40).for_each(|_| lateness.take(&Tally::default()));
        assert_eq!(lateness.share(), 0.0);
    }

    #[test]
    fn what_is_always_late_is_usual() {
        let mut lateness = Lateness::default();
        let mut tally = Tally::default();
        tally.count(Count::Overdue, 50);
        tally.count(Count::Late, 50);
        (0..10).for_each(|_| lateness.take(&tally));
        assert!(lateness.share() > 0.99);
        (1..=100).for_each(|n| lateness.learn(50.0, f64::from(n)));
        assert_eq!(lateness.share(), 0.0);
        assert_eq!(lateness.beyond(1000.0, 10.0), 500.0);
    }
}
