//! Stage 3 of 5, track: the deadlines of one address family on one packet thread.
//!
//! Holds keys and opening times only; what is due is looked up in the table by whoever asks.

use super::grace::GRACE;
use super::queue::DeadlineQueue;
use super::waiting::LaneRings;
use crate::time::Timestamp;
use std::time::Duration;

/// Queues by grace class, so that each stays in order of opening.
type ByGrace<K> = [DeadlineQueue<K>; GRACE.len()];

/// An attempt waits in `grace`, then in `first` for the shorter of the two timeouts, then in `second` where its own is longer.
pub(crate) struct Lane<K> {
    grace: ByGrace<K>,
    first: ByGrace<K>,
    second: ByGrace<K>,
    rings: Option<LaneRings>,
    len: usize,
    /// Empty; the room for what falls due, kept so that nothing allocates.
    pub(crate) room: Vec<Record<K>>,
}

/// How long an attempt may stay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waits {
    /// The shorter timeout, or the emergency one.
    pub(crate) first: Duration,
    /// The longer timeout, or the emergency one.
    pub(crate) second: Duration,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// The grace age.
    Grace,
    /// The shorter timeout.
    First,
    /// The longer timeout.
    Second,
}

/// A record that fell due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<K> {
    pub(crate) due: Due,
    /// Its grace class, an index into [`GRACE`].
    pub(crate) class: usize,
    pub(crate) key: K,
    /// When its attempt opened, to the microsecond.
    pub(crate) opened_at: Timestamp,
    /// When it fell due.
    pub(crate) at: Timestamp,
}

impl<K: Copy> Lane<K> {
    /// A lane whose attempts are noted in these rings, if it has any.
    pub(crate) fn new(rings: Option<LaneRings>) -> Self {
        let queues = || std::array::from_fn(|_| DeadlineQueue::new());
        Self { grace: queues(), first: queues(), second: queues(), rings, len: 0, room: Vec::new() }
    }

    /// Where its attempts' waits are noted, if they are.
    #[inline]
    pub(crate) fn rings(&self) -> Option<&LaneRings> {
        self.rings.as_ref()
    }

    /// Records of a class that wait for their grace age; those of attempts already ended among them.
    pub(crate) fn waiting_for_grace(&self, class: usize) -> usize {
        self.grace[class].len()
    }

    /// Records of all queues.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn bytes(&self) -> usize {
        self.grace.iter().chain(&self.first).chain(&self.second).map(DeadlineQueue::bytes).sum()
    }

    /// An attempt opened.
    #[inline]
    pub(crate) fn open(&mut self, key: K, class: usize, opened_at: Timestamp) {
        self.len += 1;
        self.grace[class].push(key, opened_at);
    }

    /// It stays: on to the next wait.
    #[inline]
    pub(crate) fn wait_on(&mut self, record: Record<K>) {
        let next = match record.due {
            Due::Grace => &mut self.first,
            Due::First | Due::Second => &mut self.second,
        };
        self.len += 1;
        next[record.class].push(record.key, record.opened_at);
    }

    /// Moves records that are due at `now` to the end of `due`, at most so many: the next of one queue, which are in order of time.
    pub(crate) fn pop_due(&mut self, now: Timestamp, waits: Waits, most: usize, due: &mut Vec<Record<K>>) {
        let queues = self.grace.iter_mut().zip(&mut self.first).zip(&mut self.second).zip(GRACE);
        for (class, (((grace, first), second), age)) in queues.enumerate() {
            let queues = [
                (Due::Grace, grace, age),
                (Due::First, first, waits.first),
                (Due::Second, second, waits.second),
            ];
            for (what, queue, wait) in queues {
                if queue.len() == 0 {
                    continue;
                }
                let before = due.len();
                queue.pop_until(now.minus(wait), most, |key, opened_at| {
                    due.push(Record { due: what, class, key, opened_at, at: opened_at.plus(wait) });
                });
                if due.len() > before {
                    self.len -= due.len() - before;
                    return;
                }
            }
        }
    }

    /// Moves records that still wait for their grace age to the end of `due`, at most so many: the next of one queue.
    pub(crate) fn pop_young(&mut self, most: usize, due: &mut Vec<Record<K>>) {
        let waiting = self.grace.iter_mut().zip(GRACE).enumerate().find(|(_, (queue, _))| queue.len() > 0);
        let Some((class, (queue, age))) = waiting else { return };
        let before = due.len();
        queue.pop_until(Timestamp::FAR_FUTURE, most, |key, opened_at| {
            due.push(Record { due: Due::Grace, class, key, opened_at, at: opened_at.plus(age) });
        });
        self.len -= due.len() - before;
    }

    /// When something falls due next.
    pub(crate) fn next_due(&self, waits: Waits) -> Option<Timestamp> {
        let fronts = |queues: &ByGrace<K>, wait: &dyn Fn(usize) -> Duration| {
            queues
                .iter()
                .enumerate()
                .filter_map(|(class, queue)| Some(queue.front_opened_at()?.plus(wait(class))))
                .min()
        };
        let times = [
            fronts(&self.grace, &|class| GRACE[class]),
            fronts(&self.first, &|_| waits.first),
            fronts(&self.second, &|_| waits.second),
        ];
        times.into_iter().flatten().min()
    }
}
