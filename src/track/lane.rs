//! Stage 3 of 5, track: the deadlines of one address family on one packet thread, and of both.
//!
//! Holds keys and opening times only; what is due is looked up in the table by whoever asks.

use super::flow::{TupleV4, TupleV6};
use super::grace::GRACE;
use super::queue::{self, DeadlineQueue};
use super::table::Keyed;
use super::waiting::{LaneRings, StillOpen, Waiting};
use crate::time::Timestamp;
use std::collections::VecDeque;
use std::time::Duration;

/// Everything a packet thread has to look at again. It outlives the thread: see [`Estate`](super::estate::Estate).
pub(crate) struct Lanes {
    pub(crate) v4: Lane<TupleV4>,
    pub(crate) v6: Lane<TupleV6>,
    /// The latest network time that was handed in. Whoever goes on with these lanes goes on from here: queues are in order of time.
    pub(crate) until: Option<Timestamp>,
}

impl Lanes {
    /// New ones, whose waits are noted in rings as long as there are any.
    pub(crate) fn new(waiting: &Waiting) -> Self {
        Self { v4: Lane::new(waiting.lane()), v6: Lane::new(waiting.lane()), until: None }
    }

    /// None at all, to be left in the place of others.
    pub(crate) fn none() -> Self {
        Self { v4: Lane::new(None), v6: Lane::new(None), until: None }
    }

    /// Records of both families.
    pub(crate) fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Bytes of the records alone.
    pub(crate) fn of_records(&self) -> usize {
        self.v4.len() * queue::size::<TupleV4>() + self.v6.len() * queue::size::<TupleV6>()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.v4.bytes() + self.v6.bytes()
    }
}

/// Queues by grace class, so that each stays in order of opening.
type ByGrace<K> = [DeadlineQueue<K>; GRACE.len()];

/// An attempt waits in `grace`, then in `first` for the shorter of the two timeouts, then in `second` where its own is longer.
pub(crate) struct Lane<K> {
    grace: ByGrace<K>,
    first: ByGrace<K>,
    second: ByGrace<K>,
    rings: Option<LaneRings>,
    len: usize,
    /// What was taken from the front of a queue and is being dealt with, one after another: where a panic comes in between, the rest is
    /// here.
    pub(crate) falling: VecDeque<Record<K>>,
}

/// A tuple that knows its family's lane.
pub(super) trait Laned: Keyed {
    fn of(lanes: &mut Lanes) -> &mut Lane<Self>;
}

impl Laned for TupleV4 {
    fn of(lanes: &mut Lanes) -> &mut Lane<Self> {
        &mut lanes.v4
    }
}

impl Laned for TupleV6 {
    fn of(lanes: &mut Lanes) -> &mut Lane<Self> {
        &mut lanes.v6
    }
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
        Self { grace: queues(), first: queues(), second: queues(), rings, len: 0, falling: VecDeque::new() }
    }

    /// Where its attempts' waits are noted, if they are.
    #[inline]
    pub(crate) fn rings(&self) -> Option<&LaneRings> {
        self.rings.as_ref()
    }

    /// Records of a class that wait for their grace age; those of attempts already ended among them.
    pub(crate) fn waiting_for_grace(&self, class: usize) -> usize {
        self.grace[class].len() + self.falling.len()
    }

    /// Records of all queues.
    pub(crate) fn len(&self) -> usize {
        self.len + self.falling.len()
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

    /// Moves records that are due at `now` to `falling`, at most so many: the next of one queue, which are in order of time.
    pub(crate) fn pop_due(&mut self, now: Timestamp, waits: Waits, most: usize) {
        let falling = &mut self.falling;
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
                let before = falling.len();
                queue.pop_until(now.minus(wait), most, |key, opened_at| {
                    falling.push_back(Record { due: what, class, key, opened_at, at: opened_at.plus(wait) });
                });
                if falling.len() > before {
                    self.len -= falling.len() - before;
                    return;
                }
            }
        }
    }

    /// Tells of the young attempts, which wait for their grace age, those that `wanted` picks and that were not told of before; they go
    /// on waiting.
    pub(crate) fn tell_young(
        &self,
        wanted: impl Fn(&StillOpen) -> bool,
        tell: impl FnMut(Record<K>, StillOpen),
    ) {
        self.each_young(|rings, class, ahead| rings.tell(class, ahead, &wanted), tell);
    }

    /// Tells of every young attempt that was not told of as overdue, and leaves it as it is.
    pub(crate) fn look_at_young(&self, tell: impl FnMut(Record<K>, StillOpen)) {
        self.each_young(LaneRings::look, tell);
    }

    fn each_young(
        &self,
        pick: impl Fn(&LaneRings, usize, u32) -> Option<StillOpen>,
        mut tell: impl FnMut(Record<K>, StillOpen),
    ) {
        let Some(rings) = &self.rings else { return };
        for (class, (queue, age)) in self.grace.iter().zip(GRACE).enumerate() {
            let mut ahead = 0;
            queue.each(|key, opened_at| {
                if let Some(open) = pick(rings, class, ahead) {
                    tell(Record { due: Due::Grace, class, key, opened_at, at: opened_at.plus(age) }, open);
                }
                ahead += 1;
            });
        }
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
