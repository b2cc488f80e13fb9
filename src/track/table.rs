//! Stage 3 of 5, track: the half-open table. The only file that names dashmap.
//!
//! Verbs in, copies out: no guard leaves this file or outlives an expression. Bounded by `limit`. No clock, no events.

use super::established::Established;
use super::estate::Estate;
use super::flow::{AnyTuple, Flow, Tuple, TupleV4, TupleV6};
use super::grace::GraceAges;
use super::handshake::Attempt;
use super::oddity::Disowned;
use super::prefetch;
use super::remembered::Remembered;
use super::shares::{Places, Shares};
use super::stored::Stored;
use super::visibility::Visibility;
use super::waiting::Waiting;
use crate::config::TableConfig;
use crate::config::room::{CROSSED_SHARDS, Room};
use crate::decode::segment::{Endpoint, SegmentKind, SeqNumber};
use crate::time::Timestamp;
use ahash::RandomState;
use dashmap::{DashMap, SharedValue};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// The table is under pressure from here, in sixteenths of its limit: timeouts shorten.
const EMERGENCY_FROM: usize = 13;

/// And no longer below here, so that it does not flap.
const EMERGENCY_UNTIL: usize = 10;

type Map<K> = DashMap<K, Stored, RandomState>;
/// The attempts of one address family. `crossed` holds the second attempt of a simultaneous open, which shares the first's tuple.
pub(crate) struct Family<K: Tuple> {
    first: Map<K>,
    crossed: Map<K>,
}

impl<K: Tuple> Family<K> {
    fn new(room: &Room, hasher: &RandomState) -> Self {
        Self {
            first: DashMap::with_capacity_and_hasher_and_shard_amount(0, hasher.clone(), room.shards),
            crossed: DashMap::with_capacity_and_hasher_and_shard_amount(0, hasher.clone(), CROSSED_SHARDS),
        }
    }

    fn map(&self, place: Place) -> &Map<K> {
        match place {
            Place::First => &self.first,
            Place::Crossed => &self.crossed,
        }
    }

    /// Requests the memory in which a tuple's first attempt lies or would lie. Locking: one shard, for reading, unless another
    /// thread writes to it just then.
    #[inline]
    fn prefetch(&self, spot: &Spot<K>) {
        let shards = self.first.shards();
        let Some(shard) = shards[self.first.determine_shard(spot.hash as usize)].try_read() else { return };
        // hashbrown: the control bytes begin where the entries end, and the entries lie in descending order (raw/mod.rs).
        let (end, at) = (shard.data_end().as_ptr(), spot.hash as usize & (shard.buckets() - 1));
        drop(shard);
        prefetch::line(end.cast::<u8>().wrapping_add(at));
        // Half of all entries lie in their own place, nearly all within the next five: three lines of IPv4 entries.
        for behind in [0, 2, 4] {
            prefetch::line(end.wrapping_sub(at + behind + 1));
        }
    }

    fn bytes(&self) -> usize {
        // Not by the maps' capacity: what was removed and not swept yet is missing there, though its bucket is held.
        let buckets = |map: &Map<K>| map.shards().iter().map(|shard| shard.read().buckets()).sum::<usize>();
        (buckets(&self.first) + buckets(&self.crossed)) * (size_of::<(K, Stored)>() + 1)
    }
}

/// A tuple that knows its family's attempts in the table.
pub(crate) trait Keyed: Tuple {
    fn family(table: &HalfOpenTable) -> &Family<Self>;
}

impl Keyed for TupleV4 {
    fn family(table: &HalfOpenTable) -> &Family<Self> {
        &table.v4
    }
}

impl Keyed for TupleV6 {
    fn family(table: &HalfOpenTable) -> &Family<Self> {
        &table.v6
    }
}

/// A tuple and its hash, reckoned once for all that is done with it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spot<K> {
    pub(crate) key: K,
    pub(crate) hash: u64,
}

/// Which attempt of a tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The one that opened the tuple.
    First,
    /// The one in the other direction that crossed it.
    Crossed,
}

/// Whether an attempt stays after a visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Keep,
    Remove,
}

/// The embryonic connections of all packet threads, and what belongs to them: shares, memory of those that ended, visibility.
pub struct HalfOpenTable {
    v4: Family<TupleV4>,
    v6: Family<TupleV6>,
    entries: AtomicUsize,
    crossed: AtomicUsize,
    limit: usize,
    pub(super) room: Room,
    emergency: AtomicBool,
    emergencies: AtomicU64,
    sampler: RandomState,
    pub(crate) shares: Shares,
    pub(crate) grace: GraceAges,
    pub(crate) waiting: Waiting,
    pub(crate) remembered: Remembered,
    pub(crate) visibility: Visibility,
    pub(crate) established: Established,
    pub(super) disowned: Disowned,
    pub(super) estate: Estate,
}

impl HalfOpenTable {
    /// An empty table. `seed` keys every hash: random where an attacker chooses the tuples, fixed where output must repeat.
    pub fn new(config: &TableConfig, seed: u64) -> Self {
        let room = Room::new(config.entries);
        let hasher = |purpose: u64| RandomState::with_seeds(seed, purpose, !seed, purpose.rotate_left(32));
        Self {
            v4: Family::new(&room, &hasher(1)),
            v6: Family::new(&room, &hasher(2)),
            entries: AtomicUsize::new(0),
            crossed: AtomicUsize::new(0),
            limit: config.entries,
            room,
            emergency: AtomicBool::new(false),
            emergencies: AtomicU64::new(0),
            sampler: hasher(3),
            shares: Shares::new(hasher(4)),
            grace: GraceAges::new(),
            waiting: Waiting::new(room.ring),
            remembered: Remembered::new(config.remembered, hasher(5)),
            visibility: Visibility::new(hasher(6)),
            established: Established::new(&config.established, hasher(7)),
            disowned: Disowned::new(hasher(8)),
            estate: Estate::default(),
        }
    }

    /// Entries held.
    pub fn len(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Most entries held.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Places left.
    pub(crate) fn free(&self) -> usize {
        self.limit.saturating_sub(self.len())
    }

    /// Whether shortened timeouts are in force, and how often they came into force.
    pub fn emergency(&self) -> (bool, u64) {
        (self.emergency.load(Ordering::Relaxed), self.emergencies.load(Ordering::Relaxed))
    }

    /// Decides on the emergency by how full the table is. Called on ticks and on opening; O(1).
    #[inline]
    pub(crate) fn update_emergency(&self) -> bool {
        let sixteenths = self.len() * 16;
        let on = self.emergency.load(Ordering::Relaxed);
        if on && sixteenths < self.limit * EMERGENCY_UNTIL {
            self.emergency.store(false, Ordering::Relaxed);
            return false;
        }
        if !on && sixteenths >= self.limit * EMERGENCY_FROM {
            self.emergency.store(true, Ordering::Relaxed);
            self.emergencies.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        on
    }

    /// Bytes held by maps and arrays, reckoned from their capacities. Locking: every shard in turn, for reading.
    pub fn bytes(&self) -> usize {
        self.v4.bytes()
            + self.v6.bytes()
            + self.shares.bytes()
            + self.grace.bytes()
            + self.waiting.bytes()
            + self.remembered.bytes()
            + self.visibility.bytes()
            + self.estate.bytes()
    }

    /// Whether any simultaneous open is under way.
    #[inline]
    pub(crate) fn has_crossed(&self) -> bool {
        self.crossed.load(Ordering::Relaxed) != 0
    }

    /// Whether there is room for another attempt of this kind, the shares apart.
    pub(crate) fn has_place(&self, place: Place) -> bool {
        place == Place::First || self.crossed.load(Ordering::Relaxed) < self.room.crossed
    }

    /// Whether an attempt belongs to the sample of 1 in 2^level: a keyed hash decides, so that its copies meet the same answer.
    pub(crate) fn samples(&self, flow: &Flow, isn: SeqNumber, level: u8) -> bool {
        level == 0 || self.sampler.hash_one((flow, isn)) & ((1 << level) - 1) == 0
    }

    /// Sets a server's grace age for attempts that open from a stated network time on.
    pub fn learn_grace(&self, server: Endpoint, age: Duration, from: Timestamp) {
        self.grace.learn(self.shares.places(server).server, age, from);
    }

    /// Where a tuple's attempts are.
    #[inline]
    pub(crate) fn spot<K: Keyed>(&self, key: K) -> Spot<K> {
        Spot { key, hash: K::family(self).first.hash_usize(&key) as u64 }
    }

    /// Requests the memory a tuple will be looked for in, for a visit in the near future.
    #[inline]
    pub(crate) fn prefetch<K: Keyed>(&self, spot: &Spot<K>) {
        K::family(self).prefetch(spot);
    }

    /// And what a segment of this kind will be looked for in besides.
    #[inline]
    pub(crate) fn prefetch_for<K: Keyed>(&self, kind: SegmentKind, spot: &Spot<K>) {
        self.prefetch(spot);
        self.established.prefetch(spot.hash, kind);
    }

    /// What [`Established`] knows a tuple by: the hash that its attempts are found with.
    pub(crate) fn hash(&self, key: &AnyTuple) -> u64 {
        match key {
            AnyTuple::V4(key) => self.spot(*key).hash,
            AnyTuple::V6(key) => self.spot(*key).hash,
        }
    }

    /// Visits an attempt and keeps or removes it. Locking: one shard, for the length of `act`.
    #[inline]
    pub(crate) fn visit<K: Keyed, R>(
        &self,
        spot: &Spot<K>,
        place: Place,
        now: Timestamp,
        act: impl FnOnce(&mut Attempt) -> (Fate, R),
    ) -> Option<R> {
        let map = K::family(self).map(place);
        let mut shard = map.shards()[map.determine_shard(spot.hash as usize)].write();
        let (_, stored) = shard.get_mut(spot.hash, |(key, _)| *key == spot.key)?;
        let stored = stored.get_mut();
        let mut attempt = stored.unpack(now);
        let (fate, result) = act(&mut attempt);
        match fate {
            Fate::Keep => *stored = Stored::pack(&attempt),
            Fate::Remove => {
                shard.remove_entry(spot.hash, |(key, _)| *key == spot.key);
                drop(shard);
                self.left(&spot.key, place, attempt.originator_is_low);
            }
        }
        Some(result)
    }

    /// Visits an attempt, which stays (changed as `present` says, even into another one), or enters what `absent` gives, at the
    /// expense of the server whose figures lie `at` these places.
    /// Locking: one shard, for the length of either.
    #[inline]
    pub(crate) fn visit_or_enter<K: Keyed, R>(
        &self,
        spot: &Spot<K>,
        place: Place,
        now: Timestamp,
        at: Places,
        present: impl FnOnce(&mut Attempt) -> R,
        absent: impl FnOnce() -> (Option<Attempt>, R),
    ) -> R {
        let map = K::family(self).map(place);
        let mut shard = map.shards()[map.determine_shard(spot.hash as usize)].write();
        if let Some((_, stored)) = shard.get_mut(spot.hash, |(key, _)| *key == spot.key) {
            let stored = stored.get_mut();
            let mut attempt = stored.unpack(now);
            let was_low = attempt.originator_is_low;
            let result = present(&mut attempt);
            *stored = Stored::pack(&attempt);
            drop(shard);
            if attempt.originator_is_low != was_low {
                self.shares.left(self.shares.places(spot.key.flow(was_low).resp));
                self.shares.entered(self.shares.places(spot.key.flow(attempt.originator_is_low).resp));
            }
            return result;
        }
        let (attempt, result) = absent();
        if let Some(attempt) = attempt {
            // Counted before it can be found and removed by another thread, so that no counter ever wraps.
            self.entries.fetch_add(1, Ordering::Relaxed);
            self.shares.entered(at);
            if place == Place::Crossed {
                self.crossed.fetch_add(1, Ordering::Relaxed);
            }
            let entry = (spot.key, SharedValue::new(Stored::pack(&attempt)));
            let hash = |(key, _): &(K, SharedValue<Stored>)| map.hasher().hash_one(key);
            if shard.len() == shard.capacity() && self.is_worn_out(place, shard.len(), shard.buckets()) {
                let worn = std::mem::take(&mut *shard);
                shard.reserve(worn.buckets() / 8 * 7, hash);
                for entry in worn {
                    shard.insert(hash(&entry), entry, hash);
                }
            }
            shard.insert(spot.hash, entry, hash);
        }
        result
    }

    /// Whether a shard that has no bucket left which was never used has enough of them all the same. Of its own accord it would double
    /// where more than half of what it can take is taken (hashbrown, `reserve_rehash`), and never shrink; so it is made anew instead,
    /// which takes as long.
    fn is_worn_out(&self, place: Place, entries: usize, buckets: usize) -> bool {
        let allowed = match place {
            Place::First => self.room.buckets,
            Place::Crossed => self.room.crossed_buckets,
        };
        // A shard may be full indeed, if only by a chance of one in a billion.
        buckets >= allowed && entries < buckets / 4 * 3
    }

    fn left<K: Tuple>(&self, key: &K, place: Place, originator_is_low: bool) {
        self.entries.fetch_sub(1, Ordering::Relaxed);
        self.shares.left(self.shares.places(key.flow(originator_is_low).resp));
        if place == Place::Crossed {
            self.crossed.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Copies of at most `limit` attempts that `wanted` picks, in no order. Locking: one shard at a time, for reading.
    pub(crate) fn list(
        &self,
        limit: usize,
        now: Timestamp,
        wanted: impl Fn(&Flow) -> bool,
    ) -> Vec<(Flow, Attempt)> {
        let mut found = Vec::new();
        collect(&self.v4, limit, now, &wanted, &mut found);
        collect(&self.v6, limit, now, &wanted, &mut found);
        found
    }
}

fn collect<K: Tuple>(
    family: &Family<K>,
    limit: usize,
    now: Timestamp,
    wanted: &impl Fn(&Flow) -> bool,
    found: &mut Vec<(Flow, Attempt)>,
) {
    for map in [&family.first, &family.crossed] {
        let attempts = map.iter().map(|entry| {
            let attempt = entry.value().unpack(now);
            (entry.key().flow(attempt.originator_is_low), attempt)
        });
        let room = limit.saturating_sub(found.len());
        found.extend(attempts.filter(|(flow, _)| wanted(flow)).take(room));
    }
}

#[cfg(test)]
mod tests;
