//! Stage 4 of 5, detect: at what pace entries come to a queue and stay, for the forecast.
//!
//! A ring of counts, a cohort each; no queue, no clock. A flood that begins after a quiet hour is judged by itself, and a steady
//! one over as long as it has been steady: the window grows for as long as what lies before agrees with it.

use std::time::Duration;

/// Windows, seconds: the first is what a forecast needs at least, the last is all that is remembered.
const WINDOWS: [f64; 6] = [0.6, 1.0, 1.5, 2.0, 3.0, 4.0];
/// Cohorts remembered: four seconds of the finest, and the one that is not over.
const RING: usize = 41;
/// Standard deviations of independent arrivals within which two windows agree.
const AGREE: f64 = 3.0;

/// Entries that came less those that left before their time, by cohort.
#[derive(Debug, Clone)]
pub(super) struct Growth {
    width: f64,
    ring: [i32; RING],
    newest: usize,
    /// Cohorts that are over, as far as they are remembered.
    over: usize,
}

impl Growth {
    /// Nothing yet, in cohorts of this width.
    pub(super) fn new(width: Duration) -> Self {
        Self { width: width.as_secs_f64(), ring: [0; RING], newest: 0, over: 0 }
    }

    /// So many cohorts began.
    pub(super) fn pass(&mut self, cohorts: u32) {
        for _ in 0..cohorts.min(RING as u32) {
            self.newest = (self.newest + 1) % RING;
            self.ring[self.newest] = 0;
        }
        self.over = (self.over + cohorts as usize).min(RING - 1);
    }

    /// Entries came, or left where negative.
    pub(super) fn add(&mut self, entries: i64) {
        let count = &mut self.ring[self.newest];
        *count = (i64::from(*count) + entries).clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
    }

    /// Entries a second at present, never below 0.
    pub(super) fn rate(&self) -> f64 {
        let (mut cohorts, mut sum) = (0, 0.0);
        for window in WINDOWS {
            let longer = ((window / self.width).round() as usize).max(1).min(self.over);
            if longer <= cohorts {
                continue;
            }
            let before: f64 = (cohorts..longer).map(|back| self.count(back)).sum();
            if cohorts > 0 {
                let times = (longer - cohorts) as f64 / cohorts as f64;
                let expected = sum * times;
                // Of both counts the variance is what was counted; one stands for none.
                let deviation = (before.abs() + sum.abs() * times * times).max(1.0).sqrt();
                if (before - expected).abs() > AGREE * deviation {
                    break;
                }
            }
            (cohorts, sum) = (longer, sum + before);
        }
        if cohorts == 0 || sum <= 0.0 {
            return 0.0;
        }
        // Few entries agree with a quiet before them: what is empty for more than two of their gaps was before it began.
        let quiet = (0..cohorts).rev().take_while(|back| self.count(*back) == 0.0).count();
        let rest = (cohorts - quiet) as f64 * self.width;
        if quiet as f64 * self.width > 2.0 * rest / sum {
            // From the first to now there is half a gap less than entries.
            return sum / (rest + 0.5 * rest / sum);
        }
        sum / (cohorts as f64 * self.width)
    }

    /// The count of the cohort so far back, 0 for the last that is over.
    fn count(&self, back: usize) -> f64 {
        f64::from(self.ring[(self.newest + 2 * RING - 1 - back) % RING])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pace after so many seconds of one entry every so often, after `quiet` seconds of none.
    fn pace(quiet: f64, every: f64, seconds: f64) -> f64 {
        let mut growth = Growth::new(Duration::from_millis(100));
        growth.pass((quiet * 10.0) as u32);
        let mut next = 0.0;
        for cohort in 0..(seconds * 10.0).round() as u32 {
            while next < f64::from(cohort + 1) / 10.0 {
                growth.add(1);
                next += every;
            }
            growth.pass(1);
        }
        growth.rate()
    }

    #[test]
    fn a_steady_pace_is_known_however_long_it_was_quiet_before() {
        for quiet in [0.0, 1.0, 600.0] {
            for (every, seconds, exact) in
                [(0.04, 2.5, 0.1), (0.01, 1.0, 0.1), (0.3, 4.0, 0.1), (0.3125, 2.5, 0.2), (0.002, 30.0, 0.1)]
            {
                let (pace, truth) = (pace(quiet, every, seconds), 1.0 / every);
                assert!(
                    (pace / truth - 1.0).abs() < exact,
                    "{pace} for {truth} after {quiet} s of quiet and {seconds} s"
                );
            }
        }
    }

    #[test]
    fn who_leaves_is_taken_off_and_nothing_is_below_none() {
        let mut growth = Growth::new(Duration::from_millis(100));
        for _ in 0..40 {
            growth.add(3);
            growth.add(-2);
            growth.pass(1);
        }
        assert!((growth.rate() - 10.0).abs() < 1e-9);
        growth.add(-500);
        growth.pass(1);
        assert_eq!(growth.rate(), 0.0);
        assert_eq!(Growth::new(Duration::from_millis(100)).rate(), 0.0);
    }
}
