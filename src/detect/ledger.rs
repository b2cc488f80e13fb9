//! Stage 4 of 5, detect: all that is watched: servers, hosts, prefixes, the sensor.
//!
//! Finds, makes and clears places. Bounded: see the arithmetic at [`Ledger`].

use super::incident::Scope;
use super::sources::SketchPool;
use super::watch::{WINDOW, Watch};
use crate::config::detect::{DetectConfig, Prefix};
use crate::decode::segment::Endpoint;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key {
    /// An address and port.
    Server(Endpoint),
    /// An address, all that is not a server of its own there.
    Host(IpAddr),
    /// A /24 or /48.
    Site(Prefix),
    /// Everything.
    Sensor,
}

impl Key {
    /// The contract's word for it.
    pub(super) const fn scope(self) -> Scope {
        match self {
            Self::Server(_) => Scope::Server,
            Self::Host(_) => Scope::Host,
            Self::Site(_) => Scope::Prefix,
            Self::Sensor => Scope::Sensor,
        }
    }

    /// An address of it; none for the sensor.
    pub(super) const fn addr(self) -> Option<IpAddr> {
        match self {
            Self::Server(at) => Some(at.addr),
            Self::Host(addr) => Some(addr),
            Self::Site(prefix) => Some(prefix.addr()),
            Self::Sensor => None,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(at) => at.fmt(f),
            Self::Host(addr) => addr.fmt(f),
            Self::Site(prefix) => prefix.fmt(f),
            Self::Sensor => f.write_str("sensor"),
        }
    }
}

/// The site an address belongs to: /24, or /48 of IPv6.
pub(super) fn site(addr: IpAddr) -> Prefix {
    Prefix::new(addr, if addr.is_ipv4() { 24 } else { 48 })
}

/// All watched keys, in slots that keep their number, found by key in the order of keys.
///
/// Bounded by construction: `max_servers + max_hosts + max_prefixes + 1` slots of [`Watch`] (about 1.1 kB), and a pool of
/// [`DETECTOR_SKETCHES`] sketches. Arithmetic and test: `memory` in the tests of [`Detector`](super::Detector).
#[derive(Debug, Default)]
pub(super) struct Ledger {
    slots: Vec<Option<Watch>>,
    free: Vec<usize>,
    by_key: BTreeMap<Key, usize>,
    /// How many of each level there are: servers, hosts, sites, sensor.
    counts: [usize; 4],
    /// Keys that found no room, ever.
    pub(super) refused: u64,
    /// Changes with every server that comes or goes.
    pub(super) generation: u64,
    /// Places that may still be cleared in this bin: finding one looks at every key.
    pub(super) evictions: u32,
}

/// Slots by which the table grows.
pub(super) const GROWTH: usize = 1024;

/// Source sketches of the detector, two kilobytes each.
pub(super) const DETECTOR_SKETCHES: usize = 4096;

fn level(key: Key) -> usize {
    match key {
        Key::Server(_) => 0,
        Key::Host(_) => 1,
        Key::Site(_) => 2,
        Key::Sensor => 3,
    }
}

impl Ledger {
    /// The number of a key's watch.
    pub(super) fn find(&self, key: Key) -> Option<usize> {
        self.by_key.get(&key).copied()
    }

    /// A watch by number.
    pub(super) fn get(&self, number: usize) -> Option<&Watch> {
        self.slots.get(number)?.as_ref()
    }

    /// A watch by number, to change it.
    pub(super) fn get_mut(&mut self, number: usize) -> Option<&mut Watch> {
        self.slots.get_mut(number)?.as_mut()
    }

    /// All watches in the order of their keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Watch> {
        self.by_key.values().filter_map(|number| self.get(*number))
    }

    /// The servers among them, in order.
    pub(super) fn servers(&self) -> impl Iterator<Item = (Endpoint, &Watch)> {
        self.iter().filter_map(|watch| if let Key::Server(at) = watch.key { Some((at, watch)) } else { None })
    }

    /// Servers of one host, counted up to `most`.
    pub(super) fn servers_of(&self, addr: IpAddr, most: usize) -> usize {
        let all = Key::Server(Endpoint::new(addr, 0))..=Key::Server(Endpoint::new(addr, u16::MAX));
        self.by_key.range(all).take(most).count()
    }

    /// Servers watched.
    pub(super) fn server_count(&self) -> usize {
        self.counts[0]
    }

    /// Makes a watch, in the place of the least wanted of its level where that is full. None where all are wanted.
    pub(super) fn insert(
        &mut self,
        watch: Watch,
        config: &DetectConfig,
        spare: &mut SketchPool,
    ) -> Option<usize> {
        let level = level(watch.key);
        let limit = [config.max_servers, config.max_hosts, config.max_prefixes, 1][level];
        let wanted = watch.settings.configured.is_some_and(|(_, one)| one);
        if self.counts[level] >= limit && !wanted && !self.evict(level, watch.bin, spare) {
            self.refused += 1;
            return None;
        }
        let key = watch.key;
        let number = if let Some(number) = self.free.pop() {
            self.slots[number] = Some(watch);
            number
        } else {
            if self.slots.len() == self.slots.capacity() {
                // By doubling, half of the largest table of the detector might stay empty.
                self.slots.reserve_exact(GROWTH);
            }
            self.slots.push(Some(watch));
            self.slots.len() - 1
        };
        self.by_key.insert(key, number);
        self.counts[level] += 1;
        self.generation += u64::from(level == 0);
        Some(number)
    }

    /// Removes the watch of a level that has been idle longest, of those that complete nothing first; never one that is
    /// configured, has an incident or had traffic within the last ten seconds.
    fn evict(&mut self, of: usize, bin: u64, spare: &mut SketchPool) -> bool {
        if self.evictions == 0 {
            return false;
        }
        self.evictions -= 1;
        let victim = self
            .iter()
            .filter(|watch| level(watch.key) == of && watch.incident.is_none())
            .filter(|watch| watch.settings.configured.is_none_or(|(_, one)| !one))
            .filter(|watch| watch.bin + 2 * WINDOW < bin && watch.cusum.largest() == 0.0)
            .min_by_key(|watch| (watch.totals[1] > 0, watch.bin))
            .map(|watch| watch.key);
        let Some(key) = victim else { return false };
        self.remove(key, spare);
        true
    }

    fn remove(&mut self, key: Key, spare: &mut SketchPool) {
        let Some(number) = self.by_key.remove(&key) else { return };
        if let Some(mut watch) = self.slots.get_mut(number).and_then(Option::take) {
            watch.release(spare);
        }
        self.free.push(number);
        self.counts[level(key)] -= 1;
        self.generation += u64::from(level(key) == 0);
    }
}
