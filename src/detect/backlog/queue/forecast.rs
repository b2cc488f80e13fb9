//! Stage 4 of 5, detect: how long until a queue is full, by walking the host's own rule forward.
//!
//! Changes nothing, and says the same whenever asked the same: its chance is reckoned, not drawn.
//!
//! Whether Linux gives an old entry up depends on how many are younger than a second (`reqsk_timer_handler`). Of a steady flood that is
//! a number that goes up and down, and each time it is high the queue keeps what it would have lost, for 8 s: near the rate that only
//! just fills it, it fills by chance. So where the rule takes anything away before the queue is full, several walks are made with
//! arrivals that vary as independent ones do, and the one in the middle holds.

use super::Queue;
use crate::time::Timestamp;
use std::time::Duration;

/// Walks with arrivals that vary; odd, for the one in the middle holds.
const WALKS: u64 = 7;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(in crate::detect::backlog) struct Question {
    /// Entries that fill it.
    pub(in crate::detect::backlog) capacity: u64,
    /// What pruning goes by.
    pub(in crate::detect::backlog) backlog: u64,
    /// Entries a second that are added.
    pub(in crate::detect::backlog) rate: f64,
    /// Entries at any time that come and go again before their first timer: clients that acknowledge or reset. They are young, and
    /// keep others from being given up.
    pub(in crate::detect::backlog) passing: f64,
    /// Not looked for beyond.
    pub(in crate::detect::backlog) horizon: Duration,
}

impl Queue {
    /// How long until it is full; none if it does not fill within the horizon.
    pub(in crate::detect::backlog) fn time_to(
        &self,
        question: &Question,
        now: Timestamp,
    ) -> Option<Duration> {
        if self.len >= question.capacity {
            return Some(Duration::ZERO);
        }
        let (even, pruned) = self.walk(question, now, None);
        if !pruned {
            return even;
        }
        let mut walks: Vec<Option<Duration>> =
            (1..=WALKS).map(|seed| self.walk(question, now, Some(seed)).0).collect();
        walks.sort_by_key(|full| full.unwrap_or(Duration::MAX));
        walks.get(walks.len() / 2).copied().flatten()
    }

    /// When it is full if entries come evenly, or as independent ones do by this seed; and whether any went before their time.
    fn walk(&self, question: &Question, now: Timestamp, seed: Option<u64>) -> (Option<Duration>, bool) {
        let mut ahead = self.clone();
        ahead.set_apart(question.passing.round() as u64);
        let mut random = seed;
        let each = question.rate * self.width.as_secs_f64();
        let (mut passed, mut owed, mut pruned) = (Duration::ZERO, 0.0, false);
        while passed < question.horizon {
            passed += self.width;
            let then = now.plus(passed);
            ahead.roll(then);
            for stage in 0..ahead.timers.stages {
                while ahead.due[stage] <= ahead.newest && ahead.fires(stage, ahead.due[stage]) <= then {
                    pruned |= ahead.foresee(stage, question.backlog);
                    ahead.due[stage] += 1;
                }
            }
            owed += each + random.as_mut().map_or(0.0, |state| deviate(state) * each.sqrt());
            // What was too few is owed by the next: below none cannot come.
            let came = owed.max(0.0).floor();
            ahead.put(0, ahead.newest, came as u32);
            owed -= came;
            if ahead.len + ahead.passing >= question.capacity {
                return (Some(passed), pruned);
            }
        }
        (None, pruned)
    }

    /// Takes so many of the youngest for those that come and go: as others take their place, as many as ever.
    fn set_apart(&mut self, passing: u64) {
        let mut left = passing;
        for number in (self.over[0]..=self.newest).rev() {
            let young = self.cohort(number).map_or(0, |cohort| u64::from(cohort.stages[0])).min(left);
            self.take(0, number, young);
            left -= young;
        }
        self.passing = passing - left;
    }

    /// A timer will go off: what the rule lets live goes on to the next. Whether any went before their time.
    fn foresee(&mut self, stage: usize, backlog: u64) -> bool {
        let number = self.due[stage];
        let before = self.cohort(number).map_or(0, |cohort| cohort.stages[stage]);
        self.go_off(stage, number, Some(backlog));
        let left = self.cohort(number).map_or(0, |cohort| cohort.stages[stage]);
        if left > 0 {
            self.take(stage, number, u64::from(left));
            self.put(stage + 1, number, left);
        }
        left < before && stage + 1 < self.timers.stages
    }
}

/// Close to the standard normal distribution: the sum of four numbers from 0 to 1 (SplitMix64), less its mean, over its deviation.
fn deviate(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    let sum: f64 = (0..4).map(|part| ((z >> (16 * part)) & 0xFFFF) as f64 / 65_536.0).sum();
    (sum - 2.0) * 3.0_f64.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_deviates_have_mean_0_and_variance_1() {
        let mut state = 7;
        let all: Vec<f64> = (0..20_000).map(|_| deviate(&mut state)).collect();
        let mean = all.iter().sum::<f64>() / 20_000.0;
        let variance = all.iter().map(|z| z * z).sum::<f64>() / 20_000.0;
        // Three standard errors.
        assert!(mean.abs() < 0.022 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
    }
}
