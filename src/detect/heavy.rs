//! Stage 4 of 5, detect: the addresses with the most of something, in constant memory.
//!
//! Space-Saving (Metwally, Agrawal, El Abbadi 2005) in independent sets of eight, so that one update touches one cache line of
//! keys. Within a set that took n units: every count errs upwards by at most n/8, and every key with more than n/8 is kept.

use std::net::IpAddr;

/// Keys a set holds.
pub(super) const WAYS: usize = 8;

/// What a table keeps for each key beside its count.
pub(super) trait Restart: Default {
    /// Back to the default for another key; may leave alone what it knows to be meaningless. A flood of new keys comes here once
    /// each.
    fn restart(&mut self);
}

/// One key's place. It begins with a cache line, so that what is written of every new key lies in as few as can be.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub(super) struct Entry<V> {
    /// Its count: at least the truth.
    pub(super) count: u64,
    /// By how much the count may exceed the truth.
    pub(super) error: u64,
    /// The address.
    pub(super) addr: IpAddr,
    /// What else is known since it took the place.
    pub(super) value: V,
}

/// The keys of one set, side by side: two cache lines.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
struct Set {
    /// As in the entries; 0 where empty.
    counts: [u64; WAYS],
    tags: [u32; WAYS],
    /// Place of each way in `entries`, plus one; 0 where empty.
    places: [u16; WAYS],
}

/// The table: a power of two of sets, all allocated at the start.
#[derive(Debug)]
pub(super) struct Heavy<V> {
    sets: Box<[Set]>,
    entries: Vec<Entry<V>>,
}

impl<V: Restart> Heavy<V> {
    /// A table of `sets` sets (rounded up to a power of two, at most 4,096 so that places fit 16 bits).
    pub(super) fn new(sets: usize) -> Self {
        let sets = sets.clamp(1, 4096).next_power_of_two();
        Self { sets: vec![Set::default(); sets].into_boxed_slice(), entries: Vec::with_capacity(sets * WAYS) }
    }

    /// Adds `weight` units to a key, of which up to `error` may be too many; it takes the place of the smallest of its set if it has
    /// none. Its place, which another key may take later, and what else is kept of it.
    #[inline]
    pub(super) fn touch(&mut self, hash: u64, addr: IpAddr, weight: u64, error: u64) -> (usize, &mut V) {
        let (tag, at) = ((hash >> 32) as u32, self.set_of(hash));
        let set = &mut self.sets[at];
        let held = (0..WAYS).find(|&way| {
            let place = usize::from(set.places[way]);
            set.tags[way] == tag && place != 0 && self.entries[place - 1].addr == addr
        });
        if let Some(way) = held {
            let place = usize::from(set.places[way]) - 1;
            let entry = &mut self.entries[place];
            entry.count = entry.count.saturating_add(weight);
            entry.error = entry.error.saturating_add(error);
            set.counts[way] = entry.count;
            return (place, &mut entry.value);
        }
        let least = set.counts.iter().fold(u64::MAX, |least, count| least.min(*count));
        let way = set.counts.iter().position(|count| *count == least).unwrap_or(0);
        set.tags[way] = tag;
        // An empty way counts nothing, so that what comes first takes it.
        let count = least.saturating_add(weight).max(1);
        set.counts[way] = count;
        if set.places[way] == 0 {
            self.entries.push(Entry { addr, count, error, value: V::default() });
            set.places[way] = self.entries.len() as u16;
            let place = self.entries.len() - 1;
            return (place, &mut self.entries[place].value);
        }
        let place = usize::from(set.places[way]) - 1;
        let entry = &mut self.entries[place];
        (entry.addr, entry.count, entry.error) = (addr, count, least.saturating_add(error));
        entry.value.restart();
        (place, &mut entry.value)
    }

    /// A key's entry, where it has one.
    #[cfg(test)]
    pub(super) fn find(&self, hash: u64, addr: IpAddr) -> Option<&Entry<V>> {
        let places = self.sets.get(self.set_of(hash))?.places;
        places
            .iter()
            .filter(|place| **place != 0)
            .filter_map(|place| self.entries.get(usize::from(*place) - 1))
            .find(|entry| entry.addr == addr)
    }

    /// Every entry, in an order that depends on hashes: sort before it shows.
    pub(super) fn entries(&self) -> &[Entry<V>] {
        &self.entries
    }

    /// The entry at a place.
    pub(super) fn at_mut(&mut self, place: usize) -> Option<&mut Entry<V>> {
        self.entries.get_mut(place)
    }

    /// Forgets everything; keeps the memory.
    pub(super) fn clear(&mut self) {
        if !self.entries.is_empty() {
            self.entries.clear();
            self.sets.fill(Set::default());
        }
    }

    #[inline]
    fn set_of(&self, hash: u64) -> usize {
        hash as usize & (self.sets.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::net::Ipv4Addr;

    impl Restart for u64 {
        fn restart(&mut self) {
            *self = 0;
        }
    }

    fn addr(n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(n))
    }

    fn hash(n: u32) -> u64 {
        u64::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(n) << 40
    }

    proptest! {
        /// The guarantees of the paper, for each set: counts never under-state, err by at most n/8, heavy keys are present.
        #[test]
        fn space_saving_holds_in_every_set(stream in prop::collection::vec((0_u32..120, 1_u64..6), 1..2000)) {
            let mut table = Heavy::<u64>::new(4);
            let mut truth: HashMap<u32, u64> = HashMap::new();
            let mut taken = [0_u64; 4];
            for (n, weight) in stream {
                *table.touch(hash(n), addr(n), weight, 0).1 += weight;
                *truth.entry(n).or_default() += weight;
                taken[hash(n) as usize & 3] += weight;
            }
            for (n, count) in &truth {
                let bound = taken[hash(*n) as usize & 3] / WAYS as u64;
                let found = table.find(hash(*n), addr(*n));
                if let Some(entry) = found {
                    prop_assert!(entry.count >= *count);
                    prop_assert!(entry.count - entry.error <= *count);
                    prop_assert!(entry.error <= bound);
                } else {
                    prop_assert!(*count <= bound);
                }
            }
        }

        /// Two threads' tables, merged, keep the upper and lower bounds.
        #[test]
        fn a_merged_table_keeps_its_bounds(stream in prop::collection::vec((0_u32..60, any::<bool>()), 1..800)) {
            let mut parts = [Heavy::<u64>::new(2), Heavy::new(2)];
            let mut truth: HashMap<u32, u64> = HashMap::new();
            for (n, second) in stream {
                *parts[usize::from(second)].touch(hash(n), addr(n), 1, 0).1 += 1;
                *truth.entry(n).or_default() += 1;
            }
            let mut all = Heavy::<u64>::new(2);
            for part in &parts {
                for entry in part.entries() {
                    let IpAddr::V4(v4) = entry.addr else { unreachable!() };
                    *all.touch(hash(v4.to_bits()), entry.addr, entry.count, entry.error).1 += entry.value;
                }
            }
            for entry in all.entries() {
                let IpAddr::V4(v4) = entry.addr else { unreachable!() };
                prop_assert!(entry.count - entry.error <= truth[&v4.to_bits()]);
                prop_assert!(entry.value <= truth[&v4.to_bits()]);
            }
        }
    }

    #[test]
    fn clearing_keeps_the_memory_and_forgets_the_rest() {
        let mut table = Heavy::<u64>::new(1);
        (0..100).for_each(|n| *table.touch(hash(n), addr(n), 1, 0).1 += 1);
        assert_eq!(table.entries().len(), WAYS);
        let capacity = table.entries.capacity();
        table.clear();
        assert!(table.entries().is_empty() && table.find(hash(99), addr(99)).is_none());
        assert_eq!(table.entries.capacity(), capacity);
    }
}
