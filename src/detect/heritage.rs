//! Stage 4 of 5, detect: what a host, a site or the sensor begins with when it is first judged.
//!
//! Its servers have been watched before: what they saw complete is what it would have seen. Sums only; judges nothing.

use super::statistic::{Baseline, Mean};
use super::tally::Tally;
use super::watch::{WINDOW, Watch};

/// Bins of peace that are believed at most: 10 s. Those whose bins are summed are seldom all that it has.
const BELIEVED: f64 = 20.0;

/// What the watches below a key know together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heritage {
    /// The present and the last stretch of their windows.
    window: [Tally; 2],
    /// The bin the oldest of the present stretches began in, and the bin the oldest of the watches was made in.
    began: u64,
    born: u64,
    /// Attempts, completions and flood units a bin in peace: the sums, and how long the longest known is known.
    usual: [[f64; 2]; 3],
    /// See [`Watch::pace`], [`Watch::busy`] and [`Watch::fates`].
    pace: [f64; 2],
    busy: f64,
    fates: [f64; 2],
}

impl Default for Heritage {
    fn default() -> Self {
        Self {
            window: [Tally::default(); 2],
            began: u64::MAX,
            born: u64::MAX,
            usual: [[0.0; 2]; 3],
            pace: [0.0; 2],
            busy: 0.0,
            fates: [0.0; 2],
        }
    }
}

impl Heritage {
    /// What a server knows, the present bin with it.
    pub(super) fn of(watch: &Watch) -> Self {
        let [units, bins, ..] = watch.baseline.parts();
        Self {
            window: watch.window,
            began: watch.window_began,
            born: watch.born,
            usual: [watch.attempts.parts(), watch.completed.parts(), [units, bins]],
            pace: watch.pace,
            busy: watch.busy,
            fates: watch.fates,
        }
    }

    /// Adds what another knows.
    pub(super) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.window.iter_mut().zip(&other.window) {
            mine.add(theirs);
        }
        self.began = self.began.min(other.began);
        self.born = self.born.min(other.born);
        for ([value, bins], [theirs, their_bins]) in self.usual.iter_mut().zip(other.usual) {
            *value += theirs;
            *bins = bins.max(their_bins);
        }
        let pairs = [(&mut self.pace, other.pace), (&mut self.fates, other.fates)];
        for (mine, theirs) in pairs {
            mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine += theirs);
        }
        self.busy += other.busy;
    }

    /// Adds what came in the present bin for a server that has no watch.
    pub(super) fn add_unwatched(&mut self, tally: &Tally) {
        self.window[0].add(tally);
    }

    /// Gives it to a watch that has just been made and has taken the present bin in.
    pub(super) fn leave_to(&self, watch: &mut Watch) {
        if self.born > watch.born {
            return;
        }
        watch.window = self.window;
        watch.window_began = self.began.clamp((watch.bin + 1).saturating_sub(WINDOW), watch.bin);
        watch.born = self.born;
        let [attempts, completed, [units, bins]] = self.usual;
        [watch.attempts, watch.completed] = [attempts, completed].map(Mean::from_parts);
        // The spread of a sum is not the sum of spreads: that is learned anew.
        let mut parts = [0.0; Baseline::PARTS];
        [parts[0], parts[1]] = [units, bins.min(BELIEVED)];
        watch.baseline = Baseline::from_parts(parts);
        (watch.pace, watch.busy, watch.fates) = (self.pace, self.busy, self.fates);
    }
}
