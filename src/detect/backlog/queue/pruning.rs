//! Stage 4 of 5, detect: which entries a host gives up before their time, and how many at once.
//!
//! Linux's rule (net/ipv4/inet_connection_sock.c, `reqsk_timer_handler`) applied to a cohort; reads no event, sees no flow.

use super::{Queue, STAGES};

impl Queue {
    /// A timer goes off: entries that will not be seen again are taken away.
    pub(super) fn go_off(&mut self, stage: usize, number: i64, backlog: Option<u64>) {
        let here = self.cohort(number).map_or(0, |cohort| u64::from(cohort.stages[stage]));
        if here == 0 {
            return;
        }
        let last = stage + 1 >= self.timers.stages || !self.profile.repeats();
        let gone = if last { here } else { self.doomed(stage, here, backlog) };
        self.take(stage, number, gone);
        self.note_gone(gone);
    }

    /// How many of `here` entries go though they have timers left.
    fn doomed(&self, stage: usize, here: u64, backlog: Option<u64>) -> u64 {
        match backlog {
            Some(backlog) if self.profile.prunes() && stage >= self.retries(backlog) => {
                // Each that goes shortens the queue for the next, until it is only half full.
                here.min((self.len + self.passing).saturating_sub(backlog.max(8) / 2))
            }
            _ => 0,
        }
    }

    /// How often a SYN-ACK is sent again at present: 5, and down to 2 where the queue is more than half full of old entries.
    fn retries(&self, backlog: u64) -> usize {
        let mut retries = STAGES - 1;
        let len = self.len + self.passing;
        if 2 * len > backlog.max(8) {
            let mut young = 2 * (self.young + self.passing);
            while retries > 2 && len >= young {
                retries -= 1;
                young *= 2;
            }
        }
        retries
    }
}
