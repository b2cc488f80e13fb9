//! Stage 4 of 5, detect: what a server's own SYN queue holds, reckoned from the wire alone.
//!
//! Sees handshake events of one server, never a segment, never the table. No I/O, no clock; by flow only what a repeated SYN displaced.
//!
//! A host says itself what it holds: an entry's SYN-ACK comes again at set times, and one that does not has none. Between those
//! times the host's own rules are followed (`profile`), and what then shows corrects the count (`queue`).

mod deferral;
mod displaced;
mod growth;
mod mode;
mod neglect;
pub(super) mod note;
pub mod profile;
mod queue;
mod schedule;

use self::deferral::Deferral;
use self::displaced::Displaced;
use self::growth::Growth;
use self::mode::Recent;
use self::note::{Note, What};
use self::profile::Profile;
use self::queue::forecast::Question;
use self::queue::{Queue, Shown};
use self::schedule::Schedule;
use super::hash::KeyedHash;
use crate::time::Timestamp;
use crate::track::event::HandshakeEvent;
use std::time::Duration;

pub use self::mode::Verdict;

/// The time to full is not looked for beyond this: no host keeps an entry longer.
const HORIZON: Duration = Duration::from_secs(120);
/// SYN-ACKs that must stay without repetition, and none have one, before the server is taken to send nothing but cookies.
const NEVER_REPEATED: u64 = 8;

/// No queue in use is full with fewer entries: half of the smallest backlog that servers are given.
const SMALLEST_FULL: u64 = 8;

/// How many entries a queue holds at the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Entries.
    pub entries: u64,
    /// Learned from when the server began to send cookies or to drop, not configured.
    pub estimated: bool,
}

/// What a model says at the end of a bin, for whoever judges it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// Entries in the queue.
    pub entries: u64,
    /// Of these, whose first timer went off and whose SYN-ACK came again: nobody acknowledged it for a second.
    pub old: u64,
    /// How many it holds at the most; none where that is neither configured nor learned.
    pub limit: Option<Limit>,
    /// Entries a second that come and stay.
    pub growth: f64,
    /// If entries go on coming as they do and none goes, it is full after this; none where its size is not known or none come.
    pub full_within: Option<Duration>,
    /// How the server treats SYNs.
    pub verdict: Verdict,
}

/// The queue of one server.
///
/// Give it every event of that server with [`Self::on_event`], in order, and [`Self::advance`] it before asking. Memory: 36 kB,
/// whatever comes.
#[derive(Debug)]
pub struct BacklogModel {
    /// What the queue goes by: as configured, as inferred, or Linux while nothing is known.
    profile: Profile,
    /// As configured.
    configured: Option<Profile>,
    queue: Queue,
    /// As configured.
    backlog: Option<u64>,
    /// Entries that were there when cookies or drops began.
    learned: Option<f64>,
    recent: Recent,
    growth: Growth,
    schedule: Schedule,
    deferral: Deferral,
    displaced: Displaced,
    hash: KeyedHash,
    now: Timestamp,
    /// Without a repetition, one after the other.
    never_repeated: u64,
}

impl BacklogModel {
    /// An empty queue. `profile`: the kind of host; where none is given it is inferred, and Linux until then. `backlog`: what
    /// the server listens with, capped by its `somaxconn`; none where it is not known. `seed` keys the hash of what is kept by flow.
    pub fn new(profile: impl Into<Option<Profile>>, backlog: Option<u64>, seed: u64) -> Self {
        let configured = profile.into();
        let profile = configured.unwrap_or_default();
        let queue = Queue::new(profile);
        let (recent, growth) = (Recent::new(queue.width()), Growth::new(queue.width()));
        let deferral = Deferral::new(queue.width());
        Self {
            profile,
            configured,
            queue,
            backlog,
            learned: None,
            recent,
            growth,
            schedule: Schedule::default(),
            deferral,
            displaced: Displaced::new(),
            hash: KeyedHash::new(seed),
            now: Timestamp::EPOCH,
            never_repeated: 0,
        }
    }

    /// Whether it was made for this.
    pub fn is_for(&self, profile: Option<Profile>, backlog: Option<u64>) -> bool {
        (self.configured, self.backlog) == (profile, backlog)
    }

    /// The kind of host, and whether that was inferred; none where it is neither configured nor to be told yet.
    pub fn profile(&self) -> Option<(Profile, bool)> {
        let inferred = || self.schedule.profile().map(|profile| (profile, true));
        self.configured.map(|profile| (profile, false)).or_else(inferred)
    }

    /// What it says now. O(1).
    pub fn reading(&self) -> Reading {
        let (entries, limit, growth) = (self.occupancy(), self.limit(), self.growth.rate());
        let full_within = limit.filter(|_| growth > 0.0).map(|limit| {
            let left = limit.entries.saturating_sub(entries);
            Duration::from_secs_f64((left as f64 / growth).min(HORIZON.as_secs_f64()))
        });
        let old = (self.queue.len() - self.queue.young()).min(entries);
        Reading { entries, old, limit, growth, full_within, verdict: self.mode() }
    }

    /// Entries in the queue now.
    pub fn occupancy(&self) -> u64 {
        match self.limit() {
            Some(limit) => (self.queue.len() + self.on_the_way() + self.deferral.held()).min(limit.entries),
            None => self.confirmed() + self.on_the_way() + self.deferral.held(),
        }
    }

    /// Entries of which the sensor sees the SYN only, because it is not beside the server.
    fn on_the_way(&self) -> u64 {
        match self.queue.on_the_way() {
            0 => 0,
            asked => {
                (asked as f64 * self.recent.answered_share() * self.recent.repeated_share()).round() as u64
            }
        }
    }

    /// Entries that showed themselves, and of the young the share that will, going by those before them.
    fn confirmed(&self) -> u64 {
        let young = self.queue.young();
        self.queue.len() - young + (young as f64 * self.recent.repeated_share()).round() as u64
    }

    /// Entries it holds at the most; none where that is neither configured nor learned.
    pub fn limit(&self) -> Option<Limit> {
        match (self.backlog, self.learned) {
            (Some(backlog), _) => Some(Limit { entries: self.profile.capacity(backlog), estimated: false }),
            (None, Some(learned)) => Some(Limit { entries: learned.round() as u64, estimated: true }),
            (None, None) => None,
        }
    }

    /// How long until the queue is full if entries go on coming as they do; none where it does not fill within two minutes, or
    /// its size is not known. Zero where it is full. Walks the host's rule forward: call it when somebody asks.
    pub fn time_to_full(&self) -> Option<Duration> {
        let question = Question {
            capacity: self.limit()?.entries,
            backlog: self.pruning_backlog()?,
            rate: self.growth.rate(),
            passing: self.recent.passing(),
            horizon: HORIZON,
        };
        self.queue.time_to(&question, self.now)
    }

    /// How the server treats SYNs, why, and how sure that is.
    pub fn mode(&self) -> Verdict {
        // A full accept queue drops SYNs too, and the SYN queue then has room (net/ipv4/tcp_input.c, `tcp_conn_request`).
        // That a SYN has no answer is known one first timer later: what counts is the room there was when it came.
        let held = self.occupancy().max(self.queue.held_lately());
        let room = match (self.backlog, self.limit()) {
            (Some(_), Some(limit)) => held * 4 < limit.entries,
            _ => held < SMALLEST_FULL,
        };
        self.recent.verdict(room)
    }

    /// Takes one event of this server.
    pub fn on_event(&mut self, event: &HandshakeEvent) {
        match Note::of(event, &self.hash, 0) {
            Some(note) => self.take(&note),
            None => self.advance(event.ts),
        }
    }

    /// Takes what one event said.
    pub(super) fn take(&mut self, note: &Note) {
        self.advance(note.ts);
        let (ts, weight) = (note.ts, note.weight());
        match note.what {
            What::Asked => self.queue.asked(ts, weight),
            What::Answered => {
                // A host that drops SYNs answers only those it has room for.
                let cookies = self.profile != Profile::LinuxNoCookies && !self.recent.drops();
                let full = cookies && self.limit().is_some_and(|limit| self.queue.len() >= limit.entries);
                self.recent.answered(weight);
                self.growth.add(i64::from(weight));
                let birth = match self.queue.displaces(ts, note.age()) {
                    Some(birth) => self.displaced.note(note.orig, birth),
                    None => {
                        self.displaced.forget(note.orig);
                        note.opened()
                    }
                };
                self.queue.answered(ts, note.age(), birth, weight, full);
            }
            What::Repeated => {
                self.recent.spoke();
                self.schedule.repeated(note.number, note.age(), weight);
                self.came_again(note);
            }
            What::RepeatedAfterAck => {
                self.recent.spoke();
                let deferred =
                    self.deferral.after_ack(self.queue.stage_that_ends(note.age()), note.number, weight);
                if !deferred {
                    self.recent.overflowed(weight, note.age());
                }
                // Whatever was taken for its completion: its entry is there. A copy that shows no timer says nothing new.
                if note.number > 0 {
                    self.came_again(note);
                }
                if deferred && note.number > 0 {
                    // The host takes the answer to this one.
                    self.leave(note);
                }
            }
            // A full accept queue leaves it where it is.
            What::Completed if self.recent.overflows() => self.recent.completed(weight),
            What::Completed | What::Reset => {
                if note.what == What::Completed {
                    self.recent.completed(weight);
                    self.deferral.completed(weight);
                }
                self.growth.add(-i64::from(weight));
                self.recent.left(weight, note.age());
                self.leave(note);
            }
        }
    }

    /// An entry is gone.
    fn leave(&mut self, note: &Note) {
        let known = self.displaced.birth(note.orig);
        self.displaced.forget(note.orig);
        let forgotten = known.is_none() && self.displaced.misses();
        self.queue.left(note.ts, known.unwrap_or_else(|| note.opened()), note.weight(), forgotten);
    }

    /// A SYN-ACK came again.
    fn came_again(&mut self, note: &Note) {
        let birth = self.displaced.birth(note.orig).unwrap_or_else(|| note.opened());
        match self.queue.repeated(note.ts, birth, note.weight()) {
            Some(birth) => {
                self.displaced.note(note.orig, birth);
            }
            None => {
                self.never_repeated = 0;
                if self.queue.always_cookies {
                    self.queue.trust();
                }
            }
        }
    }

    /// Lets time pass.
    pub fn advance(&mut self, now: Timestamp) {
        if now <= self.now {
            return;
        }
        self.now = now;
        if self.queue.is_within_newest(now) {
            return;
        }
        let mut shown = Shown::default();
        let backlog = self.pruning_backlog();
        let begun = self.queue.advance(now, backlog, &mut shown);
        if begun == 0 {
            return;
        }
        self.recent.pass(begun);
        self.recent.show(shown);
        self.growth.pass(begun);
        self.deferral.pass(begun, self.queue.ends());
        self.schedule.pass(self.queue.width().saturating_mul(begun), self.queue.len());
        self.never_repeated =
            if shown.repeated > 0 { 0 } else { self.never_repeated.saturating_add(shown.unrepeated) };
        let young = self.queue.len() == self.queue.young();
        if self.never_repeated >= NEVER_REPEATED && young && self.recent.sends_cookies() {
            self.queue.always_cookies = true;
        }
        self.learn(shown);
        self.recognise();
    }

    /// Goes by the schedule that the host shows, where nobody said what it is.
    fn recognise(&mut self) {
        if self.configured.is_none()
            && let Some(profile) = self.schedule.profile()
            && profile != self.profile
        {
            self.profile = profile;
            self.queue = self.queue.under(profile, self.now);
            self.recent.set_width(self.queue.width());
            self.growth = Growth::new(self.queue.width());
            self.deferral = Deferral::new(self.queue.width());
        }
    }

    /// Learns the limit from what was held when the server refused SYNs their place.
    fn learn(&mut self, shown: Shown) {
        let held = self.queue.held_lately() as f64;
        let refused = shown.unrepeated + shown.cookies + shown.unanswered > 0 && self.recent.refuses();
        self.learned = match self.learned {
            // Proved to be held.
            Some(learned) if held > learned => Some(held),
            // Down slowly: a queue that just lost some is below its limit.
            Some(learned) if refused => Some(learned + (held - learned) * 0.03),
            None if refused && held >= SMALLEST_FULL as f64 => Some(held),
            learned => learned,
        };
    }

    /// The backlog that the host's pruning goes by.
    fn pruning_backlog(&self) -> Option<u64> {
        self.backlog.or_else(|| self.learned.map(|learned| (learned as u64).saturating_sub(1)))
    }
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
