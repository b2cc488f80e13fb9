//! Stage 3 of 5, track: the deadlines of packet threads that ended, until another thread goes on with them.
//!
//! A lock that is taken where a thread begins or ends, and once a tick, never for a packet. No clock.

use super::event::EventSink;
use super::lane::Lanes;
use super::tracker::{AT_ONCE, Tracker};
use crate::time::Timestamp;
use std::mem::{replace, swap};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What trackers left behind. The attempts of a thread that ended, in whatever way, are still in the table, which they must leave at
/// their time; and rings are few. Never more than there were trackers at once, because a new one takes from here before it
/// has any of its own.
#[derive(Default)]
pub(crate) struct Estate {
    left: Mutex<Left>,
    returned: Condvar,
}

#[derive(Default)]
struct Left {
    lanes: Vec<Lanes>,
    /// Lanes that a tracker tends just now besides its own.
    lent: usize,
}

impl Estate {
    /// A tracker ends.
    pub(crate) fn leave(&self, lanes: Lanes) {
        self.lock().lanes.push(lanes);
    }

    /// A tracker begins: the fullest lanes that were left, if any were. Waits for those being tended, or there would be more and more.
    pub(crate) fn take(&self) -> Option<Lanes> {
        let is_lent = |left: &mut Left| left.lanes.is_empty() && left.lent > 0;
        let left = self.returned.wait_while(self.lock(), is_lent);
        left.unwrap_or_else(PoisonError::into_inner).fullest()
    }

    /// The fullest that is not empty, to be given back.
    fn lend(&self) -> Option<Lanes> {
        let mut left = self.lock();
        if left.lanes.iter().all(|lanes| lanes.len() == 0) {
            return None;
        }
        left.lent += 1;
        left.fullest()
    }

    fn give_back(&self, lanes: Lanes) {
        let mut left = self.lock();
        left.lanes.push(lanes);
        left.lent -= 1;
        self.returned.notify_all();
    }

    /// Bytes of the deadlines that nobody has taken so far.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().lanes.iter().map(Lanes::bytes).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Left> {
        // Nothing is left half done by a push or a removal that a panic cut short.
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Left {
    fn fullest(&mut self) -> Option<Lanes> {
        let (fullest, _) = self.lanes.iter().enumerate().max_by_key(|(_, lanes)| lanes.len())?;
        Some(self.lanes.swap_remove(fullest))
    }
}

impl Tracker {
    /// Brings what a tracker left open that ended, and that none has gone on with, up to network time `now`: its capture may not come
    /// back for long, and all that time its attempts would hold their places in the table. Within the budget, like one's own.
    pub fn tend(&mut self, now: Timestamp, sink: &mut impl EventSink) {
        let Some(left) = self.table.estate.lend() else { return };
        let mut tending = Tending { next_due: self.next_due, lag: self.lag, other: left, tracker: self };
        tending.turn();
        tending.tracker.next_due = AT_ONCE;
        tending.tracker.advance(now, sink);
    }
}

/// A tracker at the deadlines of another; it turns back to its own whatever ends it.
struct Tending<'a> {
    tracker: &'a mut Tracker,
    /// The lanes it is not at.
    other: Lanes,
    /// What holds for its own.
    next_due: Timestamp,
    lag: Duration,
}

impl Tending<'_> {
    fn turn(&mut self) {
        swap(&mut self.tracker.lanes, &mut self.other);
    }
}

impl Drop for Tending<'_> {
    fn drop(&mut self) {
        self.turn();
        (self.tracker.next_due, self.tracker.lag) = (self.next_due, self.lag);
        self.tracker.table.estate.give_back(replace(&mut self.other, Lanes::none()));
    }
}

#[cfg(test)]
mod tests;
