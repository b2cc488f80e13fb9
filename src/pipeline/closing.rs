//! Bins that packet threads have closed, on their way to being judged.
//!
//! Holds what a thread had counted at that moment, and lets the threads wait for one another's bins. Judges nothing.

use super::shared::{Published, Sensor, Thread, lock};
use crate::time::Timestamp;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Bins closed and not yet judged, or not yet waiting for another thread's.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    number: Mutex<usize>,
    fewer: Condvar,
}

/// A bin that a thread has closed.
pub(super) struct Closing {
    pub(super) thread: Arc<Thread>,
    /// Where it ends.
    pub(super) end: Timestamp,
    /// What the thread had counted by then.
    pub(super) counts: Published,
    under_way: Arc<UnderWay>,
}

impl Sensor {
    /// A thread closes a bin: to be handed to [`Sensor::bin_closed`] with what it observed. Waits until every bin closed before has been
    /// dealt with.
    pub(super) fn closing(&self, thread: &Arc<Thread>, end: Timestamp) -> Closing {
        let counts = lock(&thread.published).clone();
        let number = lock(&self.under_way.number);
        let waited = self.under_way.fewer.wait_while(number, |number| *number > 0);
        *waited.unwrap_or_else(PoisonError::into_inner) += 1;
        Closing { thread: Arc::clone(thread), end, counts, under_way: Arc::clone(&self.under_way) }
    }
}

impl Drop for Closing {
    /// Also where judging panics: nobody may wait for it for ever.
    fn drop(&mut self) {
        *lock(&self.under_way.number) -= 1;
        self.under_way.fewer.notify_all();
    }
}
