//! Stage 4 of 5, detect: IPv6 /64s that scan, where no single address of theirs does.
//!
//! Whoever has a /64 has 2^64 addresses, and may fail from each but a few times. Fixed memory, fed from what the sources' own table
//! took in the bin: nothing per packet.

use super::hash::KeyedHash;
use super::heavy::Heavy;
use super::incident::IncidentKind;
use super::probe::{Merge, Probe};
use super::scans::{Finding, Judged, SourceState};
use crate::config::detect::{DetectConfig, Prefix};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Sets of eight /64s followed.
pub(super) const SUBNET_SETS: usize = 16;
/// How much more than one address a /64 must fail at: at times it is a whole network of clients, each of which fails at something.
const MORE: f64 = 2.0;
/// Share of what a /64 failed at that makes it the doing of one address of it, or of those that scan anyway.
const LED: f64 = 0.5;

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
}

impl Subnets {
    /// Nothing seen yet.
    pub(super) fn new() -> Self {
        Self { table: Heavy::new(SUBNET_SETS), touched: Vec::new() }
    }

    /// Adds a thread's part.
    pub(super) fn absorb(&mut self, hash: &KeyedHash, probes: &Heavy<Probe>) {
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
        config: &DetectConfig,
        sources: &Heavy<SourceState>,
        findings: &mut Vec<Finding>,
    ) {
        let mut found: BTreeMap<Prefix, (Judged, f64)> = BTreeMap::new();
        for place in self.touched.drain(..) {
            let Some(entry) = self.table.at_mut(place) else { continue };
            // A flood from many addresses of one /64 is its servers' incident already, and so is what is forged to be reflected.
            if let Some(judged) = entry.value.judge(bin, config, MORE)
                && matches!(judged.kind, IncidentKind::PortScan | IncidentKind::HostScan)
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
