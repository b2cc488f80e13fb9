//! Stage 4 of 5, detect: the addresses with the most of something, in constant memory.
//!
//! Space-Saving (Metwally, Agrawal, El Abbadi 2005) in independent sets of eight, so that one update touches one cache line of
//! keys. Within a set that took n units: every count errs upwards by at most n/8, and every key with more than n/8 is kept.

use std::net::IpAddr;

/// Keys a set holds.
pub(super) const WAYS: usize = 8;

/// What a table keeps for each key beside its count.
pub(super) trait Merge: Default {
    /// Adds the other's part of the same key.
    fn merge(&mut self, other: &Self);
}

/// One key's place.
#[derive(Debug, Clone)]
pub(super) struct Entry<V> {
    /// The address.
    pub(super) addr: IpAddr,
    /// Its count: at least the truth.
    pub(super) count: u64,
    /// By how much the count may exceed the truth.
    pub(super) error: u64,
    /// What else is known since it took the place.
    pub(super) value: V,
}

/// The table: a power of two of sets, all allocated at the start.
#[derive(Debug)]
pub(super) struct Heavy<V> {
    tags: Box<[[u32; WAYS]]>,
    entries: Vec<Entry<V>>,
    /// Place of each way in `entries`, plus one; 0 where empty.
    places: Box<[[u16; WAYS]]>,
}

impl<V: Merge> Heavy<V> {
    /// A table of `sets` sets (rounded up to a power of two, at most 8,191 so that places fit 16 bits).
    pub(super) fn new(sets: usize) -> Self {
        let sets = sets.clamp(1, 4096).next_power_of_two();
        Self {
            tags: vec![[0; WAYS]; sets].into_boxed_slice(),
            entries: Vec::with_capacity(sets * WAYS),
            places: vec![[0; WAYS]; sets].into_boxed_slice(),
        }
    }

    /// Adds `weight` units to a key, which takes the place of the smallest of its set if it has none.
    pub(super) fn touch(&mut self, hash: u64, addr: IpAddr, weight: u64) -> &mut V {
        let place = self.place(hash, addr, weight, 0);
        &mut self.entries[place].value
    }

    /// Adds another table's entry; the number of its place, which another key may take later.
    pub(super) fn absorb(&mut self, hash: u64, other: &Entry<V>) -> usize {
        let place = self.place(hash, other.addr, other.count, other.error);
        self.entries[place].value.merge(&other.value);
        place
    }

    /// A key's entry, where it has one.
    #[cfg(test)]
    pub(super) fn find(&self, hash: u64, addr: IpAddr) -> Option<&Entry<V>> {
        let set = self.set_of(hash);
        let places = self.places.get(set)?;
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
            self.places.fill([0; WAYS]);
        }
    }

    #[inline]
    fn set_of(&self, hash: u64) -> usize {
        hash as usize & (self.tags.len() - 1)
    }

    fn place(&mut self, hash: u64, addr: IpAddr, weight: u64, error: u64) -> usize {
        let (set, tag) = (self.set_of(hash), (hash >> 32) as u32);
        let (tags, places) = (&mut self.tags[set], &mut self.places[set]);
        let (mut smallest, mut least, mut empty) = (0, u64::MAX, None);
        for way in 0..WAYS {
            let place = usize::from(places[way]);
            if place == 0 {
                empty = empty.or(Some(way));
                continue;
            }
            let entry = &self.entries[place - 1];
            if tags[way] == tag && entry.addr == addr {
                let entry = &mut self.entries[place - 1];
                entry.count = entry.count.saturating_add(weight);
                entry.error = entry.error.saturating_add(error);
                return place - 1;
            }
            if entry.count < least {
                (smallest, least) = (way, entry.count);
            }
        }
        if let Some(way) = empty {
            self.entries.push(Entry { addr, count: weight, error, value: V::default() });
            tags[way] = tag;
            // At most 4,096 sets of 8: the place fits.
            places[way] = self.entries.len() as u16;
            self.entries.len() - 1
        } else {
            tags[smallest] = tag;
            let place = usize::from(places[smallest]) - 1;
            let count = least.saturating_add(weight);
            self.entries[place] =
                Entry { addr, count, error: least.saturating_add(error), value: V::default() };
            place
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::net::Ipv4Addr;

    impl Merge for u64 {
        fn merge(&mut self, other: &Self) {
            *self += other;
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
                *table.touch(hash(n), addr(n), weight) += weight;
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
                *parts[usize::from(second)].touch(hash(n), addr(n), 1) += 1;
                *truth.entry(n).or_default() += 1;
            }
            let mut all = Heavy::<u64>::new(2);
            for part in &parts {
                for entry in part.entries() {
                    all.absorb(hash(u32::from(match entry.addr { IpAddr::V4(v4) => v4, IpAddr::V6(_) => unreachable!() })), entry);
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
        (0..100).for_each(|n| *table.touch(hash(n), addr(n), 1) += 1);
        assert_eq!(table.entries().len(), WAYS);
        let capacity = table.entries.capacity();
        table.clear();
        assert!(table.entries().is_empty() && table.find(hash(99), addr(99)).is_none());
        assert_eq!(table.entries.capacity(), capacity);
    }
}
