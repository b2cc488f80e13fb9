//! Stage 4 of 5, detect: which kind of host a server is, by when its SYN-ACKs come again.
//!
//! Counts of repetitions by their number and age; no queue, no clock. Sources of the schedules: [`Profile`].

use super::profile::Profile;
use std::time::Duration;

/// When the n-th repetition comes where the first timer is a second and each is twice as long as the last: Linux, FreeBSD.
const DOUBLING: [f64; 5] = [1.0, 3.0, 7.0, 15.0, 31.0];
/// And where the first is three seconds: Windows.
const THREEFOLD: [f64; 2] = [3.0, 9.0];
/// How early a repetition may be, and how late: a tick of the coarsest timer wheel (kernel/time/timer.c, `LVL_GRAN`).
const EARLY: f64 = 0.05;
const LATE: [f64; 5] = [0.4, 0.5, 0.8, 1.2, 2.5];
/// Seconds after its second and after its third repetition by which an entry's next one is surely through.
const RIPE: [usize; 2] = [6, 10];
/// Seconds remembered.
const RING: usize = 16;
/// Repetitions that must tell the same.
const ENOUGH: f64 = 10.0;
/// More entries than this may make a FreeBSD host drop the oldest of a bucket, which then looks like pruning: a quarter of its
/// 512 buckets of 30 (sys/netinet/tcp_syncache.c).
const CROWDED: u64 = 3840;
/// Counts are halved beyond this, so that a host that was replaced is found out.
const REMEMBERED: f64 = 5000.0;

/// Repetitions of SYN-ACKs before any ACK.
#[derive(Debug, Clone, Default)]
pub(super) struct Schedule {
    doubling: [f64; 5],
    threefold: [f64; 2],
    /// Second and third repetitions by the second they came in, and those of them whose next was due since.
    waiting: [[f64; 2]; RING],
    ripe: [f64; 2],
    newest: usize,
    /// Part of a second that passed since.
    passed: Duration,
    /// More entries than [`CROWDED`] were held.
    crowded: bool,
}

impl Schedule {
    /// The `number`-th repetition came at this age.
    pub(super) fn repeated(&mut self, number: u8, age: Duration, weight: u32) {
        let (age, weight) = (age.as_secs_f64(), f64::from(weight));
        let nth = usize::from(number).wrapping_sub(1);
        let on_time = |due: Option<&f64>| {
            due.is_some_and(|due| (due - EARLY..due + LATE[nth.min(LATE.len() - 1)]).contains(&age))
        };
        if on_time(DOUBLING.get(nth)) {
            self.doubling[nth] += weight;
            if let Some(waiting) =
                nth.checked_sub(1).and_then(|which| self.waiting[self.newest].get_mut(which))
            {
                *waiting += weight;
            }
        } else if on_time(THREEFOLD.get(nth)) {
            self.threefold[nth] += weight;
        }
    }

    /// Lets time pass; `held`: entries in the queue.
    pub(super) fn pass(&mut self, time: Duration, held: u64) {
        self.crowded |= held > CROWDED;
        self.passed += time;
        let seconds = self.passed.as_secs();
        self.passed -= Duration::from_secs(seconds);
        for _ in 0..seconds.min(RING as u64) {
            self.newest = (self.newest + 1) % RING;
            self.waiting[self.newest] = [0.0; 2];
            for (which, age) in RIPE.into_iter().enumerate() {
                self.ripe[which] += self.waiting[(self.newest + RING - age) % RING][which];
            }
        }
        if self.doubling[0] + self.threefold[0] > REMEMBERED {
            let sums = self.doubling.iter_mut().chain(&mut self.threefold).chain(&mut self.ripe);
            sums.for_each(|sum| *sum /= 2.0);
        }
    }

    /// What kind of host repeats its SYN-ACKs like this; none while that cannot be told.
    ///
    /// A Linux host with `tcp_synack_retries = 3` and one with FreeBSD's schedule look alike, and hold an entry equally long.
    pub(super) fn profile(&self) -> Option<Profile> {
        let [first, _, third, fourth, fifth] = self.doubling;
        if self.threefold[0] >= ENOUGH && self.threefold[0] > 4.0 * first {
            return Some(Profile::Windows);
        }
        let [after_second, after_third] = self.ripe;
        let late = fourth + fifth;
        if late >= 3.0 && late >= 0.05 * after_third {
            return Some(Profile::Linux);
        }
        // Only Linux gives entries up before their time.
        if after_second >= 2.0 * ENOUGH && third < 0.5 * after_second && !self.crowded {
            return Some(Profile::Linux);
        }
        (after_third >= ENOUGH && late < 0.05 * after_third && third >= 0.8 * after_second)
            .then_some(Profile::FreeBsd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a host that repeats each SYN-ACK at these ages, of which `share` lasts beyond the second.
    fn said(ages: &[f64], share: f64, seconds: u32) -> Option<Profile> {
        let mut schedule = Schedule::default();
        for second in 0..seconds {
            for (number, age) in ages.iter().enumerate() {
                // Two entries a second: those born `age` ago repeat now.
                let lasts = number < 2 || f64::from(second % 10) < share * 10.0;
                if f64::from(second) >= *age && lasts {
                    schedule.repeated(number as u8 + 1, Duration::from_secs_f64(age + 0.03), 2);
                }
            }
            schedule.pass(Duration::from_secs(1), 100);
        }
        schedule.profile()
    }

    #[test]
    fn each_schedule_is_told_by_its_source() {
        // Documentation/networking/ip-sysctl.rst, sys/netinet/tcp_syncache.c, Microsoft's registry reference.
        assert_eq!(said(&[1.0, 3.0, 7.0, 15.0, 31.0], 1.0, 40), Some(Profile::Linux));
        assert_eq!(said(&[1.0, 3.0, 7.0], 1.0, 40), Some(Profile::FreeBsd));
        assert_eq!(said(&[3.0, 9.0], 1.0, 20), Some(Profile::Windows));
        assert_eq!(said(&[1.0, 3.0, 7.0, 15.0, 31.0], 0.2, 40), Some(Profile::Linux), "it prunes");
    }

    #[test]
    fn nothing_is_said_too_soon() {
        for ages in [&[1.0, 3.0, 7.0][..], &[1.0, 3.0, 7.0, 15.0, 31.0]] {
            assert_eq!(said(ages, 1.0, 14), None, "whether there is a fourth shows after 15 s");
        }
        assert_eq!(said(&[0.4, 0.8], 1.0, 60), None, "no schedule of any host");
        assert_eq!(Schedule::default().profile(), None);
    }

    #[test]
    fn a_host_that_was_replaced_is_found_out() {
        let mut schedule = Schedule::default();
        for number in 0..40_000 {
            schedule.repeated(1, Duration::from_millis(if number < 20_000 { 1010 } else { 3010 }), 1);
            schedule.pass(Duration::from_millis(100), 10);
        }
        assert_eq!(schedule.profile(), Some(Profile::Windows));
        assert!(schedule.doubling[0] + schedule.threefold[0] <= REMEMBERED + 1.0);
    }
}
