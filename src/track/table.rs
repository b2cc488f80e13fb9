//! Stage 3 of 5, track: the half-open table. The only file that names dashmap.
//!
//! Verbs in, copies out: no guard leaves this file or outlives an expression. Bounded by `limit`. No clock, no events.

use super::established::Established;
use super::flow::{Flow, Tuple, TupleV4, TupleV6};
use super::grace::GraceAges;
use super::handshake::Attempt;
use super::oddity::Disowned;
use super::remembered::Remembered;
use super::shares::{Places, Shares};
use super::visibility::Visibility;
use super::waiting::{Ticket, Waiting};
use crate::config::TableConfig;
use crate::decode::segment::{Endpoint, SeqNumber};
use crate::time::Timestamp;
use crate::track::event::HandshakeState;
use ahash::RandomState;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Entries a shard is made for. A shard doubles under its lock, which at this size takes about half a millisecond, well below the
/// 5 ms that a packet may wait; more and smaller shards would only spread their heads over more of the cache.
const ENTRIES_PER_SHARD: usize = 16_384;

/// Shards at most.
const MAX_SHARDS: usize = 4096;

/// The table is under pressure from here, in sixteenths of its limit: timeouts shorten.
const EMERGENCY_FROM: usize = 13;

/// And no longer below here, so that it does not flap.
const EMERGENCY_UNTIL: usize = 10;

/// An attempt in 20 bytes. Its opening is kept as 32 bits of microseconds, which come round in 71 minutes: no attempt lives as
/// long, because timeouts are shorter (`config`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stored([u32; 5]);

impl Stored {
    fn pack(attempt: &Attempt) -> Self {
        let flag = |on: bool, bit: u32| u32::from(on) << bit;
        let bits = u32::from(attempt.syn_payload.min(0x3fff))
            | u32::from(attempt.syn_copies.min(15)) << 14
            | u32::from(attempt.syn_ack_copies.min(7)) << 18
            | u32::from(attempt.level.min(15)) << 21
            | flag(attempt.state == HandshakeState::SynReceived, 25)
            | flag(attempt.originator_is_low, 26)
            | flag(attempt.overdue, 27)
            | flag(attempt.early_ack, 28)
            | flag(attempt.crossed, 29)
            | flag(attempt.contested, 30);
        Self([micros(attempt.opened_at), attempt.isn.0, attempt.responder_isn.0, bits, attempt.ticket.0])
    }

    fn unpack(self, now: Timestamp) -> Attempt {
        let [opened, isn, responder_isn, bits, ticket] = self.0;
        let flag = |bit: u32| bits >> bit & 1 == 1;
        let micros_ago = micros(now).wrapping_sub(opened);
        // Another thread's time may lie behind that of the one that opened it: then it has just opened, and is not 71 minutes old.
        let opened_at = if micros_ago > AHEAD {
            now.to_micros().plus(Duration::from_micros(u64::from(micros_ago.wrapping_neg())))
        } else {
            now.to_micros().minus(Duration::from_micros(u64::from(micros_ago)))
        };
        Attempt {
            opened_at,
            isn: SeqNumber(isn),
            responder_isn: SeqNumber(responder_isn),
            syn_payload: (bits & 0x3fff) as u16,
            syn_copies: (bits >> 14 & 15) as u8,
            syn_ack_copies: (bits >> 18 & 7) as u8,
            level: (bits >> 21 & 15) as u8,
            state: if flag(25) { HandshakeState::SynReceived } else { HandshakeState::SynSent },
            originator_is_low: flag(26),
            overdue: flag(27),
            early_ack: flag(28),
            crossed: flag(29),
            contested: flag(30),
            ticket: Ticket(ticket),
        }
    }
}

/// An opening up to 2^29 microseconds (9 minutes) after the time it is looked at lies ahead; anything else lies behind, up to 62
/// minutes, which is longer than any timeout.
const AHEAD: u32 = u32::MAX - (1 << 29);

fn micros(at: Timestamp) -> u32 {
    at.as_nanos().div_euclid(1000) as u32
}

type Map<K> = DashMap<K, Stored, RandomState>;

/// The attempts of one address family. `crossed` holds the second attempt of a simultaneous open, which shares the first's tuple.
pub(crate) struct Family<K: Tuple> {
    first: Map<K>,
    crossed: Map<K>,
}

impl<K: Tuple> Family<K> {
    fn new(shards: usize, hasher: &RandomState) -> Self {
        Self {
            first: DashMap::with_capacity_and_hasher_and_shard_amount(0, hasher.clone(), shards),
            crossed: DashMap::with_capacity_and_hasher_and_shard_amount(0, hasher.clone(), 16),
        }
    }

    fn map(&self, place: Place) -> &Map<K> {
        match place {
            Place::First => &self.first,
            Place::Crossed => &self.crossed,
        }
    }

    fn bytes(&self) -> usize {
        let entry = size_of::<(K, Stored)>() + 1;
        // hashbrown keeps 8 buckets for every 7 entries of capacity.
        (self.first.capacity() + self.crossed.capacity()) * 8 / 7 * entry
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
}

impl HalfOpenTable {
    /// An empty table. `seed` keys every hash: random where an attacker chooses the tuples, fixed where output must repeat.
    pub fn new(config: &TableConfig, seed: u64) -> Self {
        let shards = config.entries.div_ceil(ENTRIES_PER_SHARD).next_power_of_two().clamp(16, MAX_SHARDS);
        let hasher = |purpose: u64| RandomState::with_seeds(seed, purpose, !seed, purpose.rotate_left(32));
        Self {
            v4: Family::new(shards, &hasher(1)),
            v6: Family::new(shards, &hasher(2)),
            entries: AtomicUsize::new(0),
            crossed: AtomicUsize::new(0),
            limit: config.entries,
            emergency: AtomicBool::new(false),
            emergencies: AtomicU64::new(0),
            sampler: hasher(3),
            shares: Shares::new(hasher(4)),
            grace: GraceAges::new(),
            waiting: Waiting::new(config.entries),
            remembered: Remembered::new(config.remembered, hasher(5)),
            visibility: Visibility::new(hasher(6)),
            established: Established::new(&config.established, hasher(7)),
            disowned: Disowned::new(hasher(8)),
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
    }

    /// Whether any simultaneous open is under way.
    #[inline]
    pub(crate) fn has_crossed(&self) -> bool {
        self.crossed.load(Ordering::Relaxed) != 0
    }

    /// Whether an attempt belongs to the sample of 1 in 2^level: a keyed hash decides, so that its copies meet the same answer.
    pub(crate) fn samples(&self, flow: &Flow, isn: SeqNumber, level: u8) -> bool {
        level == 0 || self.sampler.hash_one((flow, isn)) & ((1 << level) - 1) == 0
    }

    /// Sets a server's grace age; it holds for attempts opened from now on.
    pub fn learn_grace(&self, server: Endpoint, age: Duration) {
        self.grace.learn(self.shares.places(server).server, age);
    }

    /// Visits an attempt and keeps or removes it. Locking: one shard, for the length of `act`.
    #[inline]
    pub(crate) fn visit<K: Keyed, R>(
        &self,
        key: &K,
        place: Place,
        now: Timestamp,
        act: impl FnOnce(&mut Attempt) -> (Fate, R),
    ) -> Option<R> {
        let mut result = None;
        let removed = K::family(self).map(place).remove_if_mut(key, |_, stored| {
            let mut attempt = stored.unpack(now);
            let (fate, value) = act(&mut attempt);
            result = Some(value);
            let packed = Stored::pack(&attempt);
            if *stored != packed {
                *stored = packed;
            }
            fate == Fate::Remove
        });
        if let Some((key, stored)) = removed {
            self.left(&key, place, stored.unpack(now).originator_is_low);
        }
        result
    }

    /// Visits an attempt, which stays (changed as `present` says, even into another one), or enters what `absent` gives, at the
    /// expense of the server whose figures lie `at` these places.
    /// Locking: one shard, for the length of either.
    #[inline]
    pub(crate) fn visit_or_enter<K: Keyed, R>(
        &self,
        key: &K,
        place: Place,
        now: Timestamp,
        at: Places,
        present: impl FnOnce(&mut Attempt) -> R,
        absent: impl FnOnce() -> (Option<Attempt>, R),
    ) -> R {
        match K::family(self).map(place).entry(*key) {
            Entry::Occupied(mut entry) => {
                let mut attempt = entry.get().unpack(now);
                let was_low = attempt.originator_is_low;
                let result = present(&mut attempt);
                entry.insert(Stored::pack(&attempt));
                drop(entry);
                if attempt.originator_is_low != was_low {
                    self.shares.left(self.shares.places(key.flow(was_low).resp));
                    self.shares.entered(self.shares.places(key.flow(attempt.originator_is_low).resp));
                }
                result
            }
            Entry::Vacant(vacancy) => {
                let (attempt, result) = absent();
                if let Some(attempt) = attempt {
                    // Counted before it can be found and removed by another thread, so that no counter ever wraps.
                    self.entries.fetch_add(1, Ordering::Relaxed);
                    self.shares.entered(at);
                    if place == Place::Crossed {
                        self.crossed.fetch_add(1, Ordering::Relaxed);
                    }
                    drop(vacancy.insert(Stored::pack(&attempt)));
                }
                result
            }
        }
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_ipv4_entry_takes_32_bytes() {
        assert_eq!(size_of::<(TupleV4, Stored)>(), 32);
        assert_eq!(size_of::<(TupleV6, Stored)>(), 56);
    }

    proptest! {
        #[test]
        fn packing_loses_nothing(
            opened in -2_000_000_000_000_000i64..4_000_000_000_000_000, age in -500_000_000i64..3_700_000_000, isn in any::<u32>(), responder_isn in any::<u32>(), syn_payload in 0u16..0x4000,
            syn_copies in 0u8..16, syn_ack_copies in 0u8..8, level in 0u8..13, flags in any::<[bool; 6]>(), ticket in any::<u32>(),
        ) {
            let opened_at = Timestamp::from_nanos(opened * 1000);
            let attempt = Attempt {
                opened_at,
                isn: SeqNumber(isn),
                responder_isn: SeqNumber(responder_isn),
                syn_payload, syn_copies, syn_ack_copies, level,
                state: if flags[0] { HandshakeState::SynReceived } else { HandshakeState::SynSent },
                originator_is_low: flags[1],
                overdue: flags[2],
                early_ack: flags[3],
                crossed: flags[4],
                contested: flags[5],
                ticket: Ticket(ticket),
            };
            let now = Timestamp::from_nanos(opened_at.as_nanos() + age * 1000);
            prop_assert_eq!(Stored::pack(&attempt).unpack(now), attempt);
        }
    }
}
