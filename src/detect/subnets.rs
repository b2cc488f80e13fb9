//! Stage 4 of 5, detect: IPv6 /64s that scan, where no single address of theirs does.
//!
//! Whoever has a /64 has 2^64 addresses, and may fail from each but a few times. Fixed memory, fed from what the sources' own table
//! took in the bin, and from one count for each handshake that completes. Judges no single address.

use super::hash::KeyedHash;
use super::heavy::Heavy;
use super::incident::IncidentKind;
use super::probe::{Merge, Probe};
use super::scans::{Finding, HALF, Judged, LONG_HALF, SourceState};
use crate::config::detect::{DetectConfig, Prefix};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Sets of eight /64s followed.
pub(super) const SUBNET_SETS: usize = 16;
/// How much more than one address a /64 must fail at: at times it is a whole network of clients, each of which fails at something.
const MORE: f64 = 2.0;
/// Share of what a /64 failed at that makes it the doing of one address of it, or of those that scan anyway.
const LED: f64 = 0.5;

/// Cells that count completions by /64. Where two share one, each is taken for the better of them: a scan may hide, no client is
/// accused.
const CELLS: usize = 2048;

/// Handshakes that completed in one bin, by the /64 of who opened them.
#[derive(Debug)]
pub(super) struct Completions {
    cells: Box<[u32; CELLS]>,
    any: bool,
}

impl Default for Completions {
    fn default() -> Self {
        Self { cells: Box::new([0; CELLS]), any: false }
    }
}

fn cell(hash: u64) -> usize {
    (hash >> 32) as usize % CELLS
}

impl Completions {
    /// Notes a handshake of this address that completed; `source` is the hash of its /64.
    #[inline]
    pub(super) fn note(&mut self, source: u64, addr: IpAddr, weight: u32) {
        if addr.is_ipv6() {
            let count = &mut self.cells[cell(source)];
            (*count, self.any) = (count.saturating_add(weight), true);
        }
    }

    fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.cells.iter_mut().zip(other.cells.iter()) {
            *mine = mine.saturating_add(*theirs);
        }
        self.any |= other.any;
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.any) {
            self.cells.fill(0);
        }
    }

    /// Bytes it takes.
    #[cfg(test)]
    pub(super) const fn bytes() -> usize {
        CELLS * size_of::<u32>()
    }
}

/// Completions of the present half of a window and the one before.
#[derive(Debug, Default)]
struct Window {
    began: u64,
    halves: [Completions; 2],
}

impl Window {
    fn add(&mut self, bin: u64, half: u64, part: &Completions) {
        let number = bin / half;
        if number != self.began {
            self.halves.swap(0, 1);
            self.halves[0].clear();
            if number != self.began + 1 {
                self.halves[1].clear();
            }
            self.began = number;
        }
        self.halves[0].add(part);
    }

    fn of(&self, hash: u64) -> f64 {
        self.halves.iter().map(|half| f64::from(half.cells[cell(hash)])).sum()
    }
}

/// The /64 of an address; none for IPv4.
fn subnet(addr: IpAddr) -> Option<Prefix> {
    addr.is_ipv6().then(|| Prefix::new(addr, 64))
}

/// All /64s of which an address failed at something.
#[derive(Debug)]
pub(super) struct Subnets {
    table: Heavy<SourceState>,
    /// Places that changed in this bin; one may be named twice.
    touched: Vec<usize>,
    /// Completions of this bin, and over the windows that scans are judged over.
    pending: Completions,
    completed: [Window; 2],
}

impl Subnets {
    /// Nothing seen yet.
    pub(super) fn new() -> Self {
        Self {
            table: Heavy::new(SUBNET_SETS),
            touched: Vec::new(),
            pending: Completions::default(),
            completed: [Window::default(), Window::default()],
        }
    }

    /// Adds a thread's part.
    pub(super) fn absorb(&mut self, hash: &KeyedHash, probes: &Heavy<Probe>, completions: &Completions) {
        if completions.any {
            self.pending.add(completions);
        }
        for entry in probes.entries() {
            let Some(subnet) = subnet(entry.addr) else { continue };
            let at = hash.source(entry.addr);
            let (place, state) = self.table.touch(at, subnet.addr(), entry.count, entry.error);
            state.pending.merge(&entry.value);
            self.touched.push(place);
        }
    }

    /// Judges every /64 of which an address failed at something in this bin, beside what was found of single addresses.
    pub(super) fn judge(
        &mut self,
        bin: u64,
        hash: &KeyedHash,
        config: &DetectConfig,
        sources: &Heavy<SourceState>,
        findings: &mut Vec<Finding>,
    ) {
        for (window, half) in self.completed.iter_mut().zip([HALF, LONG_HALF]) {
            window.add(bin, half, &self.pending);
        }
        self.pending.clear();
        let mut found: BTreeMap<Prefix, (Judged, f64)> = BTreeMap::new();
        for place in self.touched.drain(..) {
            let Some(entry) = self.table.at_mut(place) else { continue };
            // A flood from many addresses of one /64 is its servers' incident already, and so is what is forged to be reflected.
            if let Some(judged) = entry.value.judge(bin, config, MORE)
                && matches!(judged.kind, IncidentKind::PortScan | IncidentKind::HostScan)
                // A network of clients, some of which fail.
                && judged.seen.failed > self.completed[usize::from(judged.slow)].of(hash.source(entry.addr))
            {
                found.insert(Prefix::new(entry.addr, 64), (judged, entry.value.servers()));
            }
        }
        if found.is_empty() {
            return;
        }
        let scanners: BTreeSet<IpAddr> = findings.iter().map(|finding| finding.source.addr()).collect();
        // What the busiest address of each failed at, and all those together that are told themselves.
        let mut alone: BTreeMap<Prefix, [f64; 2]> = BTreeMap::new();
        for entry in sources.entries() {
            let Some(subnet) = subnet(entry.addr).filter(|subnet| found.contains_key(subnet)) else {
                continue;
            };
            let servers = entry.value.servers();
            let [most, told] = alone.entry(subnet).or_default();
            *most = most.max(servers);
            *told += if scanners.contains(&entry.addr) { servers } else { 0.0 };
        }
        for (subnet, (judged, servers)) in found {
            let [most, told] = alone.get(&subnet).copied().unwrap_or_default();
            if most.max(told) < LED * servers {
                findings.push(judged.finding(subnet));
            }
        }
    }
}
