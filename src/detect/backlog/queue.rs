//! Stage 4 of 5, detect: the entries of one server's SYN queue, in cohorts by birth and by how often their SYN-ACK came again.
//!
//! No events, no clock: whoever owns it says what happened when. O(1) an entry, bounded memory, nothing by flow.

mod cohort;
pub(super) mod forecast;
mod pruning;
mod way;

use self::cohort::Cohort;
pub(super) use self::cohort::Shown;
use self::way::Way;
use super::profile::{Profile, STAGES, Timers};
use crate::time::Timestamp;
use std::time::Duration;

/// Births within so much time are one cohort: a twentieth of a backlog passes in it where a queue fills in 2 s.
const FINEST: Duration = Duration::from_millis(100);
/// Cohorts of one queue; longer lives make them wider.
const COHORTS: usize = 700;

/// Cohorts for which it is remembered what went: just under a first timer, so that what took the place of those is still young.
const GONE: usize = 9;

/// The queue.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    profile: Profile,
    timers: Timers,
    width: Duration,
    cohorts: Box<[Cohort]>,
    /// Number of the newest cohort, and where it ends, in nanoseconds.
    newest: i64,
    ends: i64,
    /// By stage, the first cohort whose timer has not gone off yet, and the first that may still show that it has.
    due: [i64; STAGES],
    over: [i64; STAGES],
    /// How late timers go off, as seen, nanoseconds.
    late: [i64; STAGES],
    way: Way,
    len: u64,
    young: u64,
    /// Of a forecast: further entries, always young, that come and go.
    passing: u64,
    /// Entries that went lately, by cohort.
    gone: [u32; GONE],
    /// SYN-ACKs come without an entry, whatever the queue holds (`tcp_syncookies = 2`).
    pub(super) always_cookies: bool,
}

impl Queue {
    /// An empty queue.
    pub(super) fn new(profile: Profile) -> Self {
        let timers = profile.timers();
        let life = timers
            .ends
            .iter()
            .zip(timers.slack)
            .zip(timers.lag)
            .map(|((end, slack), lag)| *end + slack + lag);
        let longest = life.max().unwrap_or_default();
        // A fifth is left over for timers later than expected.
        let width = FINEST.max(longest * 6 / 5 / COHORTS as u32);
        Self {
            profile,
            timers,
            width,
            cohorts: vec![Cohort::default(); COHORTS].into(),
            newest: i64::MIN,
            ends: i64::MIN,
            due: [i64::MIN; STAGES],
            over: [i64::MIN; STAGES],
            late: timers.lag.map(|lag| lag.as_nanos() as i64),
            way: Way::default(),
            len: 0,
            young: 0,
            passing: 0,
            gone: [0; GONE],
            always_cookies: false,
        }
    }

    /// The same entries by the timers of another kind of host: each goes on with the one that runs at its age.
    pub(super) fn under(&mut self, profile: Profile, now: Timestamp) -> Self {
        let mut other = Self { way: self.way, ..Self::new(profile) };
        other.roll(now);
        for number in self.newest.saturating_sub(COHORTS as i64 - 1)..=self.newest {
            let birth = self.middle(number).min(now);
            let entries = self.cohort(number).map_or(0, |cohort| cohort.stages.iter().sum());
            let age = now.since(birth);
            if entries > 0 && age < other.timers.ends[other.timers.stages - 1] {
                other.put(other.stage_at(age), other.number(birth), entries);
            }
        }
        other
    }

    /// Entries.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Entries whose first timer runs.
    pub(super) fn young(&self) -> u64 {
        self.young
    }

    /// Length of a cohort.
    pub(super) fn width(&self) -> Duration {
        self.width
    }

    fn number(&self, at: Timestamp) -> i64 {
        at.as_nanos().div_euclid(self.width.as_nanos() as i64)
    }

    fn middle(&self, number: i64) -> Timestamp {
        let width = self.width.as_nanos() as i64;
        Timestamp::from_nanos(number.saturating_mul(width).saturating_add(width / 2))
    }

    /// The cohort of this birth, if it is remembered.
    fn cohort(&mut self, number: i64) -> Option<&mut Cohort> {
        let known = number <= self.newest && number > self.newest - COHORTS as i64;
        if known { self.cohorts.get_mut(number.rem_euclid(COHORTS as i64) as usize) } else { None }
    }

    /// When the timer of a stage goes off for a cohort.
    fn fires(&self, stage: usize, number: i64) -> Timestamp {
        let late = Duration::from_nanos(self.late[stage].max(0).unsigned_abs());
        self.middle(number).plus(self.timers.ends[stage] + self.way.usual()).plus(late)
    }

    /// Brings cohorts up to `now`; `backlog` is what pruning goes by. Returns the number of cohorts begun.
    pub(super) fn advance(&mut self, now: Timestamp, backlog: Option<u64>, shown: &mut Shown) -> u32 {
        let began = self.newest != i64::MIN;
        let begun = self.roll(now);
        if begun > 0 {
            for stage in 0..self.timers.stages {
                while self.due[stage] <= self.newest && self.fires(stage, self.due[stage]) <= now {
                    self.go_off(stage, self.due[stage], backlog);
                    self.due[stage] += 1;
                }
                let slack = self.timers.slack[stage] + self.width / 2;
                while self.over[stage] < self.due[stage]
                    && self.fires(stage, self.over[stage]).plus(slack) <= now
                {
                    self.settle(stage, self.over[stage], shown);
                    self.over[stage] += 1;
                }
            }
        }
        if began { begun } else { 1 }
    }

    /// Whether the newest cohort is that of `now`, or younger: then [`Self::advance`] does nothing.
    #[inline]
    pub(super) fn is_within_newest(&self, now: Timestamp) -> bool {
        now.as_nanos() < self.ends
    }

    /// Begins the cohorts up to `now`.
    fn roll(&mut self, now: Timestamp) -> u32 {
        if self.is_within_newest(now) {
            return 0;
        }
        let number = self.number(now);
        let oldest = number - COHORTS as i64 + 1;
        let begun = if self.newest < oldest {
            self.cohorts.fill(Cohort::default());
            (self.len, self.young, self.gone) = (0, 0, [0; GONE]);
            self.newest = number;
            COHORTS as u32
        } else {
            let begun = (number - self.newest).max(0);
            for _ in 0..begun {
                self.newest += 1;
                let newest = self.newest;
                self.gone[newest.rem_euclid(GONE as i64) as usize] = 0;
                let old = self.cohort(newest).map(std::mem::take).unwrap_or_default();
                self.len -= old.stages.iter().map(|n| u64::from(*n)).sum::<u64>().min(self.len);
                self.young -= u64::from(old.stages[0]).min(self.young);
            }
            begun as u32
        };
        for next in self.due.iter_mut().chain(&mut self.over) {
            *next = (*next).max(oldest);
        }
        self.ends = (self.newest + 1).saturating_mul(self.width.as_nanos() as i64);
        begun
    }

    /// The time is over in which a timer's repetitions come: what did not show is not there.
    fn settle(&mut self, stage: usize, number: i64, shown: &mut Shown) {
        let Some(cohort) = self.cohort(number) else { return };
        let left = u64::from(cohort.stages[stage]);
        if stage == 0 {
            shown.repeated += u64::from(std::mem::take(&mut cohort.repeated));
            shown.cookies += u64::from(std::mem::take(&mut cohort.doubtful));
            shown.unanswered += u64::from(std::mem::take(&mut cohort.unanswered));
            shown.unrepeated += left;
        }
        self.take(stage, number, left);
        if stage > 0 {
            self.note_gone(left);
        }
    }

    fn note_gone(&mut self, gone: u64) {
        if let Some(sum) = self.gone.get_mut(self.newest.rem_euclid(GONE as i64) as usize) {
            *sum = sum.saturating_add(gone as u32);
        }
    }

    /// Entries that were there one first timer ago, as they have proved since: those not young now, and those that went.
    pub(super) fn held_lately(&self) -> u64 {
        self.len - self.young + self.gone.iter().map(|gone| u64::from(*gone)).sum::<u64>()
    }

    fn take(&mut self, stage: usize, number: i64, gone: u64) {
        let Some(cohort) = self.cohort(number) else { return };
        let left = &mut cohort.stages[stage];
        let gone = gone.min(u64::from(*left));
        *left -= gone as u32;
        self.len -= gone.min(self.len);
        if stage == 0 {
            self.young -= gone.min(self.young);
        }
    }

    fn put(&mut self, stage: usize, number: i64, entries: u32) {
        let Some(cohort) = self.cohort(number) else { return };
        cohort.stages[stage] = cohort.stages[stage].saturating_add(entries);
        self.len += u64::from(entries);
        if stage == 0 {
            self.young += u64::from(entries);
        }
    }

    /// A SYN came.
    pub(super) fn asked(&mut self, at: Timestamp, weight: u32) {
        let number = self.number(at);
        if let Some(cohort) = self.cohort(number) {
            cohort.unanswered = cohort.unanswered.saturating_add(weight);
        }
        if self.profile == Profile::Conntrack {
            self.put(1, number, weight);
        }
    }

    /// Whether an answer after so long is later than usual, so that its entry's timers do not run with those of its SYN's cohort:
    /// then as if the SYN had come when this returns. Learns what is usual.
    pub(super) fn displaces(&mut self, at: Timestamp, after: Duration) -> Option<Timestamp> {
        self.way.took(after).then(|| at.minus(self.way.usual()))
    }

    /// The SYN of `birth` was answered, after so long. `full`: the queue took it only if it had room that we do not know of.
    pub(super) fn answered(
        &mut self,
        at: Timestamp,
        after: Duration,
        birth: Timestamp,
        weight: u32,
        full: bool,
    ) {
        let asked = self.number(at.minus(after));
        if let Some(cohort) = self.cohort(asked) {
            cohort.unanswered = cohort.unanswered.saturating_sub(weight);
        }
        if self.profile == Profile::Conntrack {
            self.take(1, asked, u64::from(weight));
        }
        let number = self.number(birth);
        if self.profile.repeats() && (full || self.always_cookies) {
            if let Some(cohort) = self.cohort(number) {
                cohort.doubtful = cohort.doubtful.saturating_add(weight);
            }
        } else {
            self.put(0, number, weight);
        }
    }

    /// SYNs on their way to the server, or answered by SYN-ACKs on their way back: entries already, where it answers.
    pub(super) fn on_the_way(&self) -> u64 {
        let Some(longest) = self.way.longest().filter(|_| self.newest != i64::MIN) else { return 0 };
        let cohorts = longest.as_nanos().div_ceil(self.width.as_nanos().max(1)) as i64;
        let places =
            (self.newest - cohorts..=self.newest).map(|number| number.rem_euclid(COHORTS as i64) as usize);
        places.filter_map(|place| self.cohorts.get(place)).map(|cohort| u64::from(cohort.unanswered)).sum()
    }

    /// A SYN-ACK came again: its entry is there. By its timer, which belongs to a SYN of `birth`, or for another reason, which starts the
    /// running timer anew: then as if it were born when this returns.
    pub(super) fn repeated(&mut self, at: Timestamp, birth: Timestamp, weight: u32) -> Option<Timestamp> {
        let (age, number) = (at.since(birth), self.number(birth));
        if !self.profile.repeats() {
            if self.profile == Profile::Conntrack {
                self.take(0, number, u64::from(weight));
                self.put(0, self.number(at), weight);
                return Some(at);
            }
            return None;
        }
        let Some(stage) = self.stage_that_ends(age) else {
            let stage = self.stage_at(age.saturating_sub(self.way.usual()));
            self.doubt_less(number, stage, weight);
            self.take(stage, number, u64::from(weight));
            let began = stage.checked_sub(1).map_or(Duration::ZERO, |before| self.timers.ends[before]);
            let birth = at.minus(began + self.way.usual());
            self.put(stage, self.number(birth), weight);
            return Some(birth);
        };
        let off = age.as_nanos() as i64 - (self.timers.ends[stage] + self.way.usual()).as_nanos() as i64;
        self.late[stage] += (off - self.late[stage]) / 32;
        if stage == 0 {
            if let Some(cohort) = self.cohort(number) {
                cohort.repeated = cohort.repeated.saturating_add(weight);
            }
            self.doubt_less(number, stage, weight);
        }
        // More than were reckoned with: they were taken away too soon, or never counted.
        self.take(stage, number, u64::from(weight));
        self.put(stage + 1, number, weight);
        None
    }

    /// What was taken for a cookie was none.
    fn doubt_less(&mut self, number: i64, stage: usize, weight: u32) {
        if let Some(cohort) = self.cohort(number).filter(|cohort| cohort.stages[stage] < weight) {
            cohort.doubtful = cohort.doubtful.saturating_sub(weight);
        }
    }

    /// The timer that runs at this age.
    fn stage_at(&self, age: Duration) -> usize {
        let ends = &self.timers.ends[..self.timers.stages];
        ends.iter().filter(|end| **end <= age).count().min(ends.len() - 1)
    }

    /// Ages at which timers go off.
    pub(super) fn ends(&self) -> &[Duration; STAGES] {
        &self.timers.ends
    }

    /// The timer that goes off at this age, if one does.
    pub(super) fn stage_that_ends(&self, age: Duration) -> Option<usize> {
        let ends = &self.timers.ends[..self.timers.stages];
        // Never early, though on a short way; late by what is usual, and twice what is tolerated.
        (0..ends.len() - 1).find(|stage| {
            let late = Duration::from_nanos(self.late[*stage].max(0).unsigned_abs());
            let last = ends[*stage] + self.way.usual() + late + 2 * self.timers.slack[*stage];
            age + Duration::from_millis(10) >= ends[*stage] && age < last
        })
    }

    /// An entry left the queue for another reason than its timer. `forgotten`: its birth may be later than this, and is not known.
    pub(super) fn left(&mut self, at: Timestamp, birth: Timestamp, weight: u32, forgotten: bool) {
        let first = self.number(birth);
        let last = if forgotten { self.newest } else { first };
        for number in first..=last {
            let born = if number == first { birth } else { self.middle(number) };
            let reached = self.stage_at(at.since(born).saturating_sub(self.way.usual()));
            let Some(cohort) = self.cohort(number) else { continue };
            if let Some(stage) = (0..=reached).rev().find(|stage| cohort.stages[*stage] > 0) {
                return self.take(stage, number, u64::from(weight));
            }
            // A cookie that came back.
            if cohort.doubtful > 0 {
                cohort.doubtful = cohort.doubtful.saturating_sub(weight);
                return;
            }
        }
    }

    /// Takes the SYN-ACKs of the last moments for entries after all.
    pub(super) fn trust(&mut self) {
        self.always_cookies = false;
        for number in self.over[0]..=self.newest {
            let doubtful = self.cohort(number).map(|cohort| std::mem::take(&mut cohort.doubtful));
            self.put(0, number, doubtful.unwrap_or_default());
        }
    }
}
