//! Stage 4 of 5, detect: sources that fail everywhere, and addresses that get answers they did not ask for.
//!
//! Charged to the source, so that servers need not alarm for it. Fixed memory; sketches, never lists of addresses.

use super::hash::KeyedHash;
use super::heavy::{Heavy, Restart};
use super::incident::IncidentKind;
use super::probe::{Failure, Merge, Probe, Stray};
use super::scanner::SourceFeatures;
use super::sources::{Distinct, SOURCE_REGISTERS, SourceSet};
use super::statistic::BINS_PER_SECOND;
use super::subnets::{Completions, Subnets};
use crate::config::detect::{DetectConfig, Prefix};
use std::collections::HashSet;
use std::net::IpAddr;

/// Bins of half a window: scans are judged over the last 30 to 60 s.
pub(super) const HALF: u64 = 60;
/// Bins of half the long window: slow scans, over the last 5 to 10 minutes.
pub(super) const LONG_HALF: u64 = 600;
/// How much more a slow scan must touch in the long window.
const LONG_FACTOR: f64 = 2.0;

/// Attempts of one source at one server in one bin that still look like a scan's.
const SCAN_SHARE: f64 = 8.0;
/// Scanners that may try the same server in one bin: a scan with ten decoys has eleven. More at once are more than chance or decoys
/// explain.
pub(super) const SCANNERS: f64 = 16.0;

/// Sets of eight sources followed.
pub(super) const SOURCE_SETS: usize = 512;
/// Sets of eight addresses followed for unsolicited answers.
pub(super) const STRAY_SETS: usize = 64;

/// Two halves of a sliding window, with the bin the present half began in.
#[derive(Debug, Clone, Default)]
struct Sliding<V> {
    began: u64,
    now: V,
    before: V,
}

impl Restart for Sliding<Probe> {
    fn restart(&mut self) {
        self.began = 0;
        self.now.restart();
        self.before.restart();
    }
}

impl<V: Merge + Restart + Clone> Sliding<V> {
    fn add(&mut self, bin: u64, half: u64, part: &V) {
        let number = bin / half;
        if number != self.began {
            std::mem::swap(&mut self.before, &mut self.now);
            self.now.restart();
            if number != self.began + 1 {
                self.before.restart();
            }
            self.began = number;
        }
        self.now.merge(part);
    }

    fn both(&self) -> V {
        let mut all = self.before.clone();
        all.merge(&self.now);
        all
    }
}

impl Sliding<Probe> {
    fn failed(&self) -> u32 {
        self.now.total().saturating_add(self.before.total())
    }
}

/// One source.
#[derive(Debug, Clone, Default)]
pub(super) struct SourceState {
    pub(super) pending: Probe,
    short: Sliding<Probe>,
    long: Sliding<Probe>,
}

/// What a source that did something in a bin is found to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judged {
    pub(super) kind: IncidentKind,
    pub(super) events: f64,
    pub(super) seen: SourceFeatures,
    /// Judged over the long window.
    pub(super) slow: bool,
    /// The lowest address it failed at within the last minute.
    lowest: Option<IpAddr>,
}

impl SourceState {
    /// Takes what is pending in, and judges it with what was before; `factor` times as much as usual must be reached.
    pub(super) fn judge(&mut self, bin: u64, config: &DetectConfig, factor: f64) -> Option<Judged> {
        let events = f64::from(self.pending.total());
        if events == 0.0 {
            return None;
        }
        self.short.add(bin, HALF, &self.pending);
        self.long.add(bin, LONG_HALF, &self.pending);
        let refused = f64::from(self.pending.of(Failure::Refused));
        self.pending.restart();
        let rates = [events, events - refused].map(|failures| failures * BINS_PER_SECOND);
        let (ports, hosts) = (factor * f64::from(config.scan_ports), factor * f64::from(config.scan_hosts));
        // Most sources fail a few times at most: their sketches need not be read.
        if f64::from(self.long.failed()) < ports.min(hosts) {
            return None;
        }
        let recent = self.short.both();
        let mut seen = features(&recent, rates);
        let mut kind = seen.verdict(ports, hosts, config.source_flood_rate);
        let slow = kind.is_none();
        if slow {
            let long = features(&self.long.both(), rates);
            kind = long.verdict(LONG_FACTOR * ports, LONG_FACTOR * hosts, config.source_flood_rate);
            seen = long;
        }
        Some(Judged { kind: kind?, events, seen, slow, lowest: recent.lowest })
    }

    /// Different servers that it failed at within the long window.
    pub(super) fn servers(&self) -> f64 {
        self.long.both().reached().0
    }
}

impl Judged {
    /// In words that are told of a source.
    pub(super) fn finding(self, source: Prefix) -> Finding {
        let Self { kind, events, seen, lowest, .. } = self;
        let victim = lowest.filter(|_| kind == IncidentKind::DirectFlood && seen.hosts < 1.5);
        Finding { source, victim, kind, events, figures: Figures::Source(seen) }
    }
}

impl Restart for SourceState {
    fn restart(&mut self) {
        self.pending.restart();
        self.short.restart();
        self.long.restart();
    }
}

/// One address with unsolicited answers.
#[derive(Debug, Clone, Default)]
pub(super) struct StrayState {
    pending: Stray,
    window: Sliding<Stray>,
}

impl Restart for StrayState {
    fn restart(&mut self) {
        *self = Self::default();
    }
}

/// What a bin said about one address, or about the addresses of one /64.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finding {
    /// The address, as a prefix of its full length; or the /64.
    pub(super) source: Prefix,
    /// The one host it does it to, where that is what matters.
    pub(super) victim: Option<IpAddr>,
    /// What it is doing.
    pub(super) kind: IncidentKind,
    /// Failures, or unsolicited answers, in this bin.
    pub(super) events: f64,
    /// The figures behind it.
    pub(super) figures: Figures,
}

/// The figures behind a finding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Figures {
    /// Of a source of failed attempts.
    Source(SourceFeatures),
    /// Of unsolicited answers in the last minute: how many, of these SYN-ACKs, peers, and whether the address sent them.
    Stray {
        /// All.
        answers: f64,
        /// SYN-ACKs among them.
        syn_acks: f64,
        /// Addresses at the other end.
        peers: f64,
        /// It sent them, else it got them.
        sent: bool,
    },
}

/// All sources and strays.
#[derive(Debug)]
pub(super) struct Scans {
    sources: Heavy<SourceState>,
    subnets: Subnets,
    strays: Heavy<StrayState>,
    /// Places that changed in this bin; one may be named twice.
    touched: Vec<usize>,
    touched_strays: Vec<usize>,
    /// Hashes of the sources that scan or are reflected in this bin: their share is not charged to servers.
    suspects: HashSet<u64, std::hash::BuildHasherDefault<IdentityHasher>>,
    /// The same as a sketch, to be held against the sketch of those that tried a server.
    sketched: Distinct<SOURCE_REGISTERS>,
    /// Fading counts of solicited and unsolicited SYN-ACKs.
    answers: (f64, f64),
}

/// For keys that are keyed hashes already.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct IdentityHasher(u64);

impl std::hash::Hasher for IdentityHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

impl Scans {
    /// Nothing seen yet.
    pub(super) fn new() -> Self {
        Self {
            sources: Heavy::new(SOURCE_SETS),
            subnets: Subnets::new(),
            strays: Heavy::new(STRAY_SETS),
            touched: Vec::new(),
            touched_strays: Vec::new(),
            suspects: HashSet::default(),
            sketched: Distinct::default(),
            answers: (0.0, 0.0),
        }
    }

    /// Adds a thread's part.
    pub(super) fn absorb(
        &mut self,
        hash_of: &KeyedHash,
        probes: &Heavy<Probe>,
        strays: &Heavy<Stray>,
        completions: &Completions,
        answers: (u64, u64),
    ) {
        for entry in probes.entries() {
            let hash = hash_of.addr(entry.addr);
            let (place, state) = self.sources.touch(hash, entry.addr, entry.count, entry.error);
            state.pending.merge(&entry.value);
            self.touched.push(place);
        }
        self.subnets.absorb(hash_of, probes, completions);
        for entry in strays.entries() {
            let hash = hash_of.addr(entry.addr);
            let (place, state) = self.strays.touch(hash, entry.addr, entry.count, entry.error);
            state.pending.merge(&entry.value);
            self.touched_strays.push(place);
        }
        self.answers.0 += answers.0 as f64;
        self.answers.1 += answers.1 as f64;
    }

    /// Judges every source that failed at something in this bin; findings in the order of addresses.
    pub(super) fn judge(&mut self, bin: u64, hash: &KeyedHash, config: &DetectConfig) -> Vec<Finding> {
        let mut findings = Vec::new();
        self.suspects.clear();
        self.sketched.clear();
        for place in self.touched.drain(..) {
            let Some(entry) = self.sources.at_mut(place) else { continue };
            let Some(judged) = entry.value.judge(bin, config, 1.0) else { continue };
            findings.push(judged.finding(Prefix::whole(entry.addr)));
        }
        self.subnets.judge(bin, hash, config, &self.sources, &mut findings);
        for finding in &findings {
            let source = hash.source(finding.source.addr());
            self.suspects.insert(source);
            self.sketched.insert(source);
        }
        findings.sort_by_key(|finding| finding.source);
        findings
    }

    /// Whether so many failed attempts at one server, by these sources in this bin, are the one or two tries of scanners: all of
    /// them scan or are reflected, and they are few.
    pub(super) fn explain(&self, failed: f64, sources: &SourceSet) -> bool {
        match sources {
            SourceSet::One(source) => failed <= SCAN_SHARE && self.suspects.contains(&source.each),
            SourceSet::Few(_) | SourceSet::Many(_)
                if !self.suspects.is_empty() && failed <= SCAN_SHARE * SCANNERS =>
            {
                sources.is_within(&self.sketched) && {
                    let scanners = sources.estimate().0.round();
                    scanners <= SCANNERS && failed <= SCAN_SHARE * scanners
                }
            }
            SourceSet::None | SourceSet::Few(_) | SourceSet::Many(_) | SourceSet::Uncounted => false,
        }
    }

    /// Judges unsolicited answers, in the order of addresses.
    pub(super) fn judge_strays(&mut self, bin: u64, config: &DetectConfig) -> Vec<Finding> {
        // A tap that sees only what servers send takes every SYN-ACK for unsolicited; there, only one address that is answered
        // by many at a rate no client has is believed.
        let (asked, unasked) = self.answers;
        let one_way = unasked > 20.0 && asked < 0.2 * unasked;
        self.answers = (asked * 0.99, unasked * 0.99);
        let mut findings = Vec::new();
        for place in self.touched_strays.drain(..) {
            let Some(entry) = self.strays.at_mut(place) else { continue };
            let state = &mut entry.value;
            let pending = std::mem::take(&mut state.pending);
            let total =
                |stray: &Stray, side: usize| f64::from(stray.syn_acks[side]) + f64::from(stray.resets[side]);
            let events = total(&pending, 0) + total(&pending, 1);
            if events == 0.0 {
                continue;
            }
            state.window.add(bin, HALF, &pending);
            let all = state.window.both();
            let side = usize::from(total(&all, 1) > total(&all, 0));
            let (answers, peers) = (total(&all, side), all.peers.estimate());
            let floor = f64::from(config.backscatter);
            // Ten peers, because one that forgot a connection is no backscatter.
            let believed = !one_way || (side == 1 && answers >= 10.0 * floor && peers >= 2.0 * floor);
            if answers < floor || peers < 10.0 || !believed {
                continue;
            }
            let syn_acks = f64::from(all.syn_acks[side]);
            let figures = Figures::Stray { answers, syn_acks, peers, sent: side == 0 };
            findings.push(Finding {
                source: Prefix::whole(entry.addr),
                victim: None,
                kind: IncidentKind::Backscatter,
                events,
                figures,
            });
        }
        findings.sort_by_key(|finding| finding.source);
        findings
    }

    /// Share of SYN-ACKs whose SYN was seen; none where there were too few.
    pub(super) fn visibility(&self) -> Option<f64> {
        let (asked, unasked) = self.answers;
        (asked + unasked >= 20.0).then(|| asked / (asked + unasked))
    }

    /// Bytes it holds, sketches and all.
    #[cfg(test)]
    pub(super) const fn bytes() -> usize {
        use super::heavy::{Entry, WAYS};
        use super::subnets::SUBNET_SETS;
        let per_key = size_of::<u64>() + size_of::<u32>() + size_of::<u16>() + 2;
        (SOURCE_SETS + SUBNET_SETS) * WAYS * (size_of::<Entry<SourceState>>() + per_key + 32)
            + STRAY_SETS * WAYS * (size_of::<Entry<StrayState>>() + per_key)
            + 5 * Completions::bytes()
    }
}

/// `rates` are its failures a second in this bin: all, and those not refused.
fn features(probe: &Probe, [rate, left_rate]: [f64; 2]) -> SourceFeatures {
    let (servers, hosts, ports) = probe.reached();
    SourceFeatures {
        failed: f64::from(probe.total()),
        unacknowledged: f64::from(probe.of(Failure::Unacknowledged)),
        refused: f64::from(probe.of(Failure::Refused)),
        bare: f64::from(probe.of(Failure::Bare)),
        servers,
        hosts,
        ports,
        rate,
        left_rate,
    }
}
