//! Stage 4 of 5, detect: how long until a queue is full, by walking the host's own rule forward.
//!
//! No chance in it: near the rate that only just fills a queue, it says what happens on average. Changes nothing.

use super::Queue;
use crate::time::Timestamp;
use std::time::Duration;

impl Queue {
    /// How long until it holds `capacity` entries, if so many a second go on being added; none if it does not within `horizon`.
    pub(in crate::detect::backlog) fn time_to(
        &self,
        capacity: u64,
        backlog: u64,
        rate: f64,
        now: Timestamp,
        horizon: Duration,
    ) -> Option<Duration> {
        if self.len >= capacity {
            return Some(Duration::ZERO);
        }
        let mut ahead = self.clone();
        let (mut passed, mut owed) = (Duration::ZERO, 0.0);
        while passed < horizon {
            passed += self.width;
            let then = now.plus(passed);
            ahead.roll(then);
            for stage in 0..ahead.timers.stages {
                while ahead.due[stage] <= ahead.newest && ahead.fires(stage, ahead.due[stage]) <= then {
                    ahead.foresee(stage, backlog);
                    ahead.due[stage] += 1;
                }
            }
            owed += rate * self.width.as_secs_f64();
            ahead.put(0, ahead.newest, owed as u32);
            owed -= owed.floor();
            if ahead.len >= capacity {
                return Some(passed);
            }
        }
        None
    }

    /// A timer will go off: what the rule lets live goes on to the next.
    fn foresee(&mut self, stage: usize, backlog: u64) {
        let number = self.due[stage];
        self.go_off(stage, number, Some(backlog));
        let left = self.cohort(number).map_or(0, |cohort| cohort.stages[stage]);
        if left > 0 {
            self.take(stage, number, u64::from(left));
            self.put(stage + 1, number, left);
        }
    }
}
