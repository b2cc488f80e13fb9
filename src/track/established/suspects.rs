//! Stage 3 of 5, track: connections suspected to be half-open, by name, so that they can be listed and counted.
//!
//! Bounded. Touched only by repetitions of who waits for an answer, which come seconds apart; never by other packets. No clock.

use crate::decode::segment::Endpoint;
use crate::time::Timestamp;
use crate::track::flow::Flow;
use ahash::RandomState;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Most connections suspected at once: forty times what the shipped alert calls many; half a megabyte.
pub(crate) const LIMIT: usize = 4096;

/// Whoever waited for an answer gave up when it has not repeated for so long: twice the longest time-out between two repetitions
/// (Linux TCP_RTO_MAX, 120 s; keepalives come every 75 s).
const GIVEN_UP: Duration = Duration::from_secs(240);

/// Looked through this often, of network time.
const SWEPT_EVERY: Duration = Duration::from_secs(5);

/// A connection one end of which seems to be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Suspect {
    /// Who opened the connection, and to whom.
    pub(crate) flow: Flow,
    /// The end that is silent.
    pub(crate) gone: Endpoint,
    /// When the first segment was sent that nobody answered.
    pub(crate) since: Timestamp,
    /// The last repetition.
    pub(crate) last: Timestamp,
}

/// The suspects of all packet threads, by a keyed hash of their tuple.
pub(crate) struct Suspects {
    list: Mutex<List>,
    len: AtomicUsize,
    limit: usize,
}

struct List {
    by_tuple: HashMap<u64, Suspect, RandomState>,
    swept: Timestamp,
}

impl Suspects {
    pub(crate) fn new(limit: usize, hasher: RandomState) -> Self {
        let by_tuple = HashMap::with_capacity_and_hasher(limit, hasher);
        let list = Mutex::new(List { by_tuple, swept: Timestamp::EPOCH });
        Self { list, len: AtomicUsize::new(0), limit }
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Suspected now.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Most that are listed.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn bytes(&self) -> usize {
        // hashbrown keeps 8 buckets for every 7 entries of capacity.
        self.limit * 8 / 7 * (size_of::<(u64, Suspect)>() + 1)
    }

    /// Adds a connection; one that finds no room is told and not listed.
    pub(crate) fn add(&self, key: u64, suspect: Suspect) {
        let mut list = self.lock();
        if list.by_tuple.len() < self.limit || list.by_tuple.contains_key(&key) {
            list.by_tuple.insert(key, suspect);
            self.len.store(list.by_tuple.len(), Ordering::Relaxed);
        }
    }

    /// It was repeated once more.
    pub(crate) fn goes_on(&self, key: u64, now: Timestamp) {
        if let Some(suspect) = self.lock().by_tuple.get_mut(&key) {
            suspect.last = suspect.last.max(now);
        }
    }

    /// The connection is known for what it is, or gone.
    pub(crate) fn cleared(&self, key: u64) {
        let mut list = self.lock();
        list.by_tuple.remove(&key);
        self.len.store(list.by_tuple.len(), Ordering::Relaxed);
    }

    /// Forgets those whose other end gave up. Called on ticks, not per packet.
    pub(crate) fn age(&self, now: Timestamp) {
        if self.len() == 0 {
            return;
        }
        let mut list = self.lock();
        if now.since(list.swept) < SWEPT_EVERY {
            return;
        }
        list.swept = now;
        list.by_tuple.retain(|_, suspect| now.since(suspect.last) < GIVEN_UP);
        self.len.store(list.by_tuple.len(), Ordering::Relaxed);
    }

    /// At most `limit` of them, those longest suspected first.
    pub(crate) fn list(&self, limit: usize) -> Vec<Suspect> {
        let mut all: Vec<Suspect> = self.lock().by_tuple.values().copied().collect();
        all.sort_by_key(|suspect| (suspect.since, suspect.flow.orig, suspect.flow.resp));
        all.truncate(limit);
        all
    }
}
