//! Stage 3 of 5, track: the deadlines of packet threads that ended, until another thread goes on with them.
//!
//! A lock that is taken where a thread begins or ends, never for a packet. No clock.

use super::lane::Lanes;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What trackers left behind. The attempts of a thread that ended, in whatever way, are still in the table, which they must leave at
/// their time; and rings are few. Never more than there were trackers at once, because a new one takes from here before it
/// has any of its own.
#[derive(Default)]
pub(crate) struct Estate(Mutex<Vec<Lanes>>);

impl Estate {
    /// A tracker ends.
    pub(crate) fn leave(&self, lanes: Lanes) {
        self.lock().push(lanes);
    }

    /// A tracker begins: the fullest lanes that were left, if any were.
    pub(crate) fn take(&self) -> Option<Lanes> {
        let mut left = self.lock();
        let (fullest, _) = left.iter().enumerate().max_by_key(|(_, lanes)| lanes.len())?;
        Some(left.swap_remove(fullest))
    }

    /// Bytes of the deadlines that nobody has taken so far.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().iter().map(Lanes::bytes).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Lanes>> {
        // Nothing is left half done by a push or a removal that a panic cut short.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
