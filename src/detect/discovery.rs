//! Stage 4 of 5, detect: what showed on single connections, on its way to the journal: bounded in number and in rate.
//!
//! Half-open connections, and exchanges that RFC 9293 and RFC 5961 have a name for. Decides only what is told: the two do not share a
//! budget, and no host can use up that of the others. Sees events, never a segment, never the table.

use super::hash::KeyedHash;
use super::incident::{Discovery, Exchange, Sighting};
use crate::time::Timestamp;
use crate::track::event::{EventKind, HalfOpenCase, HandshakeEvent};
use crate::track::flow::Flow;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

/// What a thread keeps of each kind between two ticks: more than the journal takes in that time.
const NOTED: usize = 128;

/// And of each host.
const NOTED_OF_HOST: u8 = 16;

/// Places for hosts, by keyed hash; two hosts of one place share what is one's.
const HOSTS: usize = 1024;

/// Told at once of one host, at most; a restart of a busy server leaves tens of thousands, all of one cause: they are counted.
const HOST_BURST: f64 = 20.0;

/// And a second, once that is used up.
const HOST_PER_SECOND: f64 = 0.2;

/// Told at once of hosts that nothing was told of lately, at most: as many as a rack that loses its power has neighbours. And as many of all
/// others.
const BURST: f64 = 100.0;

/// And a second of each, once the burst is used up: what a person can read.
const PER_SECOND: f64 = 1.0;

/// Discoveries the API lists.
const LISTED: usize = 100;

/// What is told of: half-open connections, oddities.
const KINDS: usize = 2;

/// What one packet thread found since the last tick.
#[derive(Debug)]
pub(super) struct Found {
    noted: [Vec<HandshakeEvent>; KINDS],
    /// By kind and place, how many are noted of its host.
    of_host: [Box<[u8; HOSTS]>; KINDS],
    untold: [u64; KINDS],
}

impl Default for Found {
    fn default() -> Self {
        let empty = || Box::new([0; HOSTS]);
        Self { noted: Default::default(), of_host: [empty(), empty()], untold: [0; KINDS] }
    }
}

impl Found {
    /// Notes an event, where there is room. O(1).
    pub(super) fn note(&mut self, event: &HandshakeEvent, hash: &KeyedHash) {
        let Some((kind, hosts)) = told(event).map(|told| told.share(event.flow)) else { return };
        let of_host = &mut self.of_host[kind];
        let places = hosts.map(|host| host.map(|host| place(host, hash)));
        let known = places.iter().flatten().all(|place| of_host[*place] < NOTED_OF_HOST);
        if known && self.noted[kind].len() < NOTED {
            self.noted[kind].push(*event);
            places.iter().flatten().for_each(|place| of_host[*place] += 1);
        } else {
            self.untold[kind] += 1;
        }
    }
}

/// What an event is here.
#[derive(Debug, Clone, Copy)]
enum Told {
    HalfOpen { case: HalfOpenCase, originator_is_gone: bool, after: Duration },
    Oddity(&'static str),
}

fn told(event: &HandshakeEvent) -> Option<Told> {
    match event.kind {
        EventKind::HalfOpen { case, originator_is_gone, after } => {
            Some(Told::HalfOpen { case, originator_is_gone, after })
        }
        EventKind::SimultaneousOpen => Some(Told::Oddity("simultaneous_open")),
        EventKind::Oddity(oddity) => Some(Told::Oddity(oddity.as_label())),
        EventKind::Opened
        | EventKind::Untracked
        | EventKind::SynRetransmitted { .. }
        | EventKind::Answered { .. }
        | EventKind::SynAckRetransmitted { .. }
        | EventKind::NotTaken { .. }
        | EventKind::Overdue { .. }
        | EventKind::Unfinished
        | EventKind::Closed { .. }
        | EventKind::UnsolicitedSynAck
        | EventKind::UnsolicitedRst
        | EventKind::Mismatched { .. } => None,
    }
}

impl Told {
    /// Its number among the [`KINDS`], and the hosts whose share of the journal it takes: of a half-open connection the one that is gone;
    /// of an oddity both, for one may be forged.
    fn share(self, flow: Flow) -> (usize, [Option<IpAddr>; 2]) {
        match self {
            Self::HalfOpen { originator_is_gone: true, .. } => (0, [Some(flow.orig.addr), None]),
            Self::HalfOpen { originator_is_gone: false, .. } => (0, [Some(flow.resp.addr), None]),
            Self::Oddity(_) => (1, [Some(flow.orig.addr), Some(flow.resp.addr)]),
        }
    }

    /// The line.
    fn sighting(self, ts: Timestamp, flow: Flow) -> Sighting {
        let (originator, responder) = (flow.orig.to_string(), flow.resp.to_string());
        match self {
            Self::HalfOpen { case, originator_is_gone, after } => {
                let (crashed, stale) =
                    if originator_is_gone { (flow.orig, flow.resp) } else { (flow.resp, flow.orig) };
                Sighting::HalfOpen(Discovery {
                    ts,
                    case: case.as_label(),
                    originator,
                    responder,
                    crashed: crashed.to_string(),
                    stale: stale.to_string(),
                    duration: after,
                })
            }
            Self::Oddity(kind) => Sighting::Oddity(Exchange { ts, kind, originator, responder }),
        }
    }
}

/// The place of a host: an IPv4 address, or a /64.
fn place(host: IpAddr, hash: &KeyedHash) -> usize {
    hash.source(host) as usize % HOSTS
}

/// How many may be told now, and since when.
#[derive(Debug, Clone, Copy)]
struct Credit {
    left: f64,
    at: Timestamp,
}

impl Credit {
    fn new(burst: f64) -> Self {
        Self { left: burst, at: Timestamp::EPOCH }
    }

    fn earn(&mut self, now: Timestamp, per_second: f64, burst: f64) {
        self.left = (self.left + now.since(self.at).as_secs_f64() * per_second).min(burst);
        self.at = self.at.max(now);
    }
}

/// What may be told of one kind.
#[derive(Debug)]
struct Budget {
    hosts: Box<[Credit]>,
    /// Of hosts nothing was told of lately, and of the others.
    all: [Credit; 2],
}

impl Budget {
    fn new() -> Self {
        Self { hosts: vec![Credit::new(HOST_BURST); HOSTS].into(), all: [Credit::new(BURST); 2] }
    }

    /// Whether one more may be told of these places.
    fn spend(&mut self, places: &[usize], now: Timestamp) -> bool {
        let mut lately = false;
        for place in places {
            let host = &mut self.hosts[*place];
            host.earn(now, HOST_PER_SECOND, HOST_BURST);
            if host.left < 1.0 {
                return false;
            }
            lately |= host.left < HOST_BURST;
        }
        let all = &mut self.all[usize::from(lately)];
        all.earn(now, PER_SECOND, BURST);
        if all.left < 1.0 {
            return false;
        }
        all.left -= 1.0;
        places.iter().for_each(|place| self.hosts[*place].left -= 1.0);
        true
    }
}

/// What was found, by all threads together.
#[derive(Debug)]
pub(super) struct Discoveries {
    news: Vec<HandshakeEvent>,
    listed: VecDeque<Discovery>,
    untold: [u64; KINDS],
    budgets: [Budget; KINDS],
    hash: KeyedHash,
}

impl Discoveries {
    pub(super) fn new(hash: KeyedHash) -> Self {
        Self {
            news: Vec::new(),
            listed: VecDeque::new(),
            untold: [0; KINDS],
            budgets: [Budget::new(), Budget::new()],
            hash,
        }
    }

    /// Takes what a thread found.
    pub(super) fn absorb(&mut self, found: &mut Found) {
        for kind in 0..KINDS {
            self.untold[kind] += std::mem::take(&mut found.untold[kind]);
            if !found.noted[kind].is_empty() {
                found.of_host[kind].fill(0);
                self.news.append(&mut found.noted[kind]);
            }
        }
    }

    /// Tells what may be told at `now`, in the order it was found, and remembers the latest half-open connections of it.
    pub(super) fn tell(&mut self, now: Timestamp, hear: &mut dyn FnMut(&Sighting)) {
        // Threads hand over one after the other; what they found happened in between.
        self.news.sort_by_key(|event| (event.ts, event.flow.orig, event.flow.resp));
        for event in self.news.drain(..) {
            let Some(told) = told(&event) else { continue };
            let (kind, hosts) = told.share(event.flow);
            let [first, second] = hosts.map(|host| host.map(|host| place(host, &self.hash)));
            let places = [first.or(second).unwrap_or_default(), second.or(first).unwrap_or_default()];
            let different = 1 + usize::from(places[0] != places[1]);
            if !self.budgets[kind].spend(&places[..different], now) {
                self.untold[kind] += 1;
                continue;
            }
            let found = told.sighting(event.ts, event.flow);
            hear(&found);
            if let Sighting::HalfOpen(found) = found {
                if self.listed.len() >= LISTED {
                    self.listed.pop_front();
                }
                self.listed.push_back(found);
            }
        }
    }

    /// The latest half-open connections told, oldest first.
    pub(super) fn listed(&self) -> Vec<Discovery> {
        self.listed.iter().cloned().collect()
    }

    /// Half-open connections found, and not told for want of room.
    pub(super) fn untold(&self) -> u64 {
        self.untold[0]
    }

    /// Oddities likewise.
    pub(super) fn oddities_untold(&self) -> u64 {
        self.untold[1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::segment::Endpoint;
    use crate::track::event::Oddity;
    use std::net::Ipv4Addr;

    fn flow(host: u16, port: u16) -> Flow {
        let end = |host: u16, port| {
            Endpoint::new(IpAddr::V4(Ipv4Addr::new(198, 18, (host >> 8) as u8, host as u8)), port)
        };
        Flow { orig: end(host, port), resp: Endpoint::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), 80) }
    }

    /// A half-open connection of a host that crashed.
    fn event(host: u16, port: u16) -> HandshakeEvent {
        let kind = EventKind::HalfOpen {
            case: HalfOpenCase::Reconnect,
            originator_is_gone: true,
            after: Duration::from_secs(1),
        };
        HandshakeEvent {
            ts: Timestamp::from_parts(100, i64::from(port)),
            flow: flow(host, port),
            weight: 1,
            kind,
        }
    }

    fn odd(host: u16, port: u16) -> HandshakeEvent {
        HandshakeEvent { kind: EventKind::Oddity(Oddity::DisownedSyn), ..event(host, port) }
    }

    struct World {
        hash: KeyedHash,
        found: Found,
        discoveries: Discoveries,
    }

    impl World {
        fn new() -> Self {
            let hash = KeyedHash::new(5);
            Self { hash, found: Found::default(), discoveries: Discoveries::new(hash) }
        }

        fn note(&mut self, event: &HandshakeEvent) {
            self.found.note(event, &self.hash);
        }

        /// What is told of what was noted since: originators.
        fn told(&mut self, seconds: i64) -> Vec<String> {
            let mut told = Vec::new();
            self.discoveries.absorb(&mut self.found);
            self.discoveries.tell(Timestamp::from_parts(seconds, 0), &mut |found| {
                told.push(match found {
                    Sighting::HalfOpen(found) => found.originator.clone(),
                    Sighting::Oddity(found) => format!("{} {}", found.kind, found.originator),
                });
            });
            told
        }
    }

    #[test]
    fn one_host_has_its_share_and_the_rest_is_counted() {
        let mut world = World::new();
        let (mut told, mut noted) = (0, 0);
        for second in 100..130 {
            for port in 0..200 {
                world.note(&event(1, port));
                noted += 1;
            }
            told += world.told(second).len();
        }
        assert_eq!(told, 20 + 5, "20, and one every 5 s");
        assert_eq!(world.discoveries.untold(), noted - told as u64);
        // Nobody else has to wait for it.
        world.note(&event(2, 7));
        assert_eq!(world.told(130), ["198.18.0.2:7"]);
        assert!(world.discoveries.listed().last().unwrap().originator.ends_with(".2:7"));
    }

    #[test]
    fn many_hosts_have_a_burst_and_then_one_a_second() {
        let mut world = World::new();
        let mut noted = 0;
        let mut told = 0;
        for tick in 0..4 {
            for host in 0..100 {
                world.note(&event(tick * 100 + host, 1));
                noted += 1;
            }
            told += world.told(100).len();
        }
        assert!((100..=200).contains(&told), "{told}");
        assert_eq!(world.discoveries.untold(), noted - told as u64);
        assert_eq!(world.discoveries.listed().len(), LISTED);
        for host in 1000..1040 {
            world.note(&event(host, 1));
        }
        let later = world.told(103).len();
        assert!((3..=6).contains(&later), "{later}: 3 s later, of hosts told of lately and of others");
    }

    #[test]
    fn oddities_have_a_budget_of_their_own_and_name_both_ends() {
        let mut world = World::new();
        for port in 0..1000 {
            world.note(&odd(port, port));
        }
        world.note(&event(9, 9));
        let told = world.told(100);
        assert_eq!(told.iter().filter(|line| line.starts_with("disowned_syn ")).count(), 16, "one server's");
        assert!(told.contains(&"198.18.0.9:9".to_owned()));
        assert_eq!((world.discoveries.untold(), world.discoveries.oddities_untold()), (0, 1000 - 16));
        world.note(&HandshakeEvent { kind: EventKind::SimultaneousOpen, ..event(700, 3) });
        assert_eq!(world.told(101), ["simultaneous_open 198.18.2.188:3"]);
    }
}
