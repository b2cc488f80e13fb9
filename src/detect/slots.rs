//! Stage 4 of 5, detect: the small table of servers that one packet thread counts into.
//!
//! Known servers keep their place for good, so that no scan can take it; the others have the room that is left until the next
//! tick. Nothing here allocates after the start.

use super::hash::KeyedHash;
use super::sources::SourceSet;
use super::tally::Tally;
use crate::decode::segment::Endpoint;
use crate::track::event::{EventKind, HandshakeEvent, HandshakeState};

/// Unresolved attempts at what did not answer in this tick: how many may be calls of real clients, and how many cannot. Saturating.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Looks {
    /// Whose source may have completed a handshake elsewhere lately, and whose SYN had not come again; weighted.
    pub(super) known: u16,
    /// Without any option, as no stack sends a SYN; not weighted.
    pub(super) bare: u16,
}

impl Looks {
    /// Notes one whose SYN did not come again within its grace age.
    #[inline]
    pub(super) fn note(&mut self, event: &HandshakeEvent, is_known: impl FnOnce() -> bool) {
        let EventKind::Overdue { state: HandshakeState::SynSent, syn_retransmissions: 0, bare, .. } =
            event.kind
        else {
            return;
        };
        if bare {
            self.bare = self.bare.saturating_add(1);
        } else if is_known() {
            self.known = self.known.saturating_add(u16::try_from(event.weight).unwrap_or(u16::MAX));
        }
    }

    /// Adds those of another thread.
    pub(super) fn add(&mut self, other: Self) {
        self.known = self.known.saturating_add(other.known);
        self.bare = self.bare.saturating_add(other.bare);
    }
}

/// What a thread counted of one server since the last tick.
#[derive(Debug)]
pub(super) struct Slot {
    /// The server.
    pub(super) server: Endpoint,
    /// Its counts.
    pub(super) tally: Tally,
    /// Sources of what was left unresolved.
    pub(super) sources: SourceSet,
    /// What its unresolved attempts without an answer look like.
    pub(super) looks: Looks,
    /// Whether it is in the list of those that changed.
    touched: bool,
    /// Its place in the index.
    at: u32,
}

/// Open addressing with linear probing over a fixed number of slots.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    /// Number of a slot plus one; 0 where empty. At most half full.
    index: Box<[u32]>,
    /// Slots that changed since the last tick.
    touched: Vec<u32>,
    /// The first so many stay.
    known: usize,
    limit: usize,
    /// The last one asked for: floods and busy servers ask for one again and again.
    last: usize,
}

impl Slots {
    /// Room for `limit` servers, the known ones included.
    pub(super) fn new(limit: usize) -> Self {
        let limit = limit.clamp(1, 1 << 20);
        Self {
            slots: Vec::with_capacity(limit),
            index: vec![0; (limit * 2).next_power_of_two()].into_boxed_slice(),
            touched: Vec::with_capacity(limit),
            known: 0,
            limit,
            last: 0,
        }
    }

    /// The slot of a server; none where there is no room for another.
    #[inline]
    pub(super) fn get(&mut self, hash: &KeyedHash, server: Endpoint) -> Option<&mut Slot> {
        if self.slots.get(self.last).is_none_or(|slot| slot.server != server) {
            self.last = self.locate(hash.endpoint(server), server)?;
        }
        let slot = self.slots.get_mut(self.last)?;
        if !slot.touched {
            slot.touched = true;
            self.touched.push(self.last as u32);
        }
        Some(slot)
    }

    fn locate(&mut self, hash: u64, server: Endpoint) -> Option<usize> {
        let mask = self.index.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let place = self.index[at] as usize;
            if place == 0 {
                break;
            }
            if self.slots[place - 1].server == server {
                return Some(place - 1);
            }
            at = (at + 1) & mask;
        }
        if self.slots.len() == self.limit {
            return None;
        }
        self.slots.push(Slot {
            server,
            tally: Tally::default(),
            sources: SourceSet::None,
            looks: Looks::default(),
            touched: false,
            at: at as u32,
        });
        self.index[at] = self.slots.len() as u32;
        Some(self.slots.len() - 1)
    }

    /// Puts what changed into the order of addresses: what follows must not depend on who came first.
    pub(super) fn sort(&mut self) {
        let slots = &self.slots;
        self.touched.sort_unstable_by_key(|number| slots.get(*number as usize).map(|slot| slot.server));
    }

    /// Hands every changed slot over and empties it, then forgets the servers that are not known.
    pub(super) fn drain(&mut self, mut each: impl FnMut(&mut Slot)) {
        for number in self.touched.drain(..) {
            if let Some(slot) = self.slots.get_mut(number as usize) {
                each(slot);
                (slot.tally, slot.looks) = (Tally::default(), Looks::default());
                slot.touched = false;
            }
        }
        // Last in, first out: under linear probing this restores the index as it was before each of them came.
        while self.slots.len() > self.known {
            if let Some(slot) = self.slots.pop() {
                self.index[slot.at as usize] = 0;
            }
        }
        self.last = 0;
    }

    /// Sets the servers that keep their place. Call it after [`Self::drain`] only: counts of others would be lost.
    pub(super) fn set_known(&mut self, hash: &KeyedHash, servers: impl Iterator<Item = Endpoint>) {
        self.slots.clear();
        self.touched.clear();
        self.index.fill(0);
        for server in servers {
            self.locate(hash.endpoint(server), server);
        }
        self.known = self.slots.len();
        self.last = 0;
    }

    /// Bytes it holds.
    #[cfg(test)]
    pub(super) const fn bytes(limit: usize) -> usize {
        limit * (size_of::<Slot>() + size_of::<u32>()) + (limit * 2).next_power_of_two() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tally::Count;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn server(n: u16) -> Endpoint {
        Endpoint::new([198, 51, 100, (n >> 4) as u8].into(), n & 15)
    }

    proptest! {
        /// Against a map: sums are exact for whoever has a slot, and known servers always have one.
        #[test]
        fn sums_are_those_of_a_map(
            known in prop::collection::btree_set(0_u16..200, 0..12),
            rounds in prop::collection::vec(prop::collection::vec(0_u16..200, 0..200), 1..5),
        ) {
            let hash = KeyedHash::new(5);
            let mut slots = Slots::new(24);
            slots.set_known(&hash, known.iter().map(|n| server(*n)));
            for round in rounds {
                let (mut truth, mut refused) = (BTreeMap::<Endpoint, u32>::new(), 0);
                for n in &round {
                    match slots.get(&hash, server(*n)) {
                        Some(slot) => {
                            slot.tally.count(Count::Attempts, 1);
                            *truth.entry(server(*n)).or_default() += 1;
                        }
                        None => {
                            refused += 1;
                            prop_assert!(!known.contains(n));
                        }
                    }
                }
                let mut found = BTreeMap::new();
                slots.drain(|slot| {
                    found.insert(slot.server, slot.tally[Count::Attempts]);
                });
                prop_assert_eq!(found.values().sum::<u32>() + refused, round.len() as u32);
                prop_assert_eq!(found, truth);
                prop_assert_eq!(slots.slots.len(), known.len());
                prop_assert_eq!(slots.index.iter().filter(|place| **place != 0).count(), known.len());
            }
        }
    }
}
