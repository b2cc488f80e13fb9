//! Which frames belong to which running incident. Built where incidents change, read by every packet thread.

use crate::config::ServerConfig;
use crate::config::detect::Prefix;
use crate::decode::segment::Endpoint;
use crate::detect::incident::{Change, Incident, JournalEntry, Scope};
use ahash::RandomState;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What an incident is about, as segments show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    Server(Endpoint),
    Host(IpAddr),
    Prefix(Prefix),
    Sensor,
}

impl About {
    /// From the incident's own words; none for a name that the configuration no longer has.
    fn of(incident: &Incident, servers: &[ServerConfig]) -> Option<Self> {
        let text = incident.server.as_str();
        Some(match incident.scope {
            Scope::Server => {
                let named = servers.iter().find(|server| server.name.as_deref() == Some(text));
                let named = named.and_then(|server| Some(Endpoint::new(server.address, server.port?)));
                let written = || text.parse::<SocketAddr>().ok();
                Self::Server(named.or_else(|| written().map(|at| Endpoint::new(at.ip(), at.port())))?)
            }
            Scope::Host => Self::Host(text.parse().ok()?),
            Scope::Prefix => {
                let (addr, len) = text.split_once('/')?;
                Self::Prefix(Prefix::new(addr.parse().ok()?, len.parse().ok()?))
            }
            Scope::Sensor => Self::Sensor,
        })
    }
}

/// One incident whose frames are kept.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// Which it was, by beginning: what a thread counted for it is found again by this.
    pub(super) number: u64,
    /// The incident's id.
    pub(super) id: Arc<str>,
    about: About,
}

/// The incidents that run, as the detector tells of them.
#[derive(Debug, Default)]
pub(super) struct Roster {
    servers: Vec<ServerConfig>,
    running: Vec<Target>,
    begun: u64,
}

impl Roster {
    /// The configured servers, by whose names incidents may be called.
    pub(super) fn set_servers(&mut self, servers: &[ServerConfig]) {
        self.servers = servers.to_vec();
    }

    /// Hears of a change; whether it is one of what frames are kept for.
    pub(super) fn hear(&mut self, entry: &JournalEntry) -> bool {
        let before = self.running.len();
        match entry.event {
            Change::Raised => {
                self.begun += 1;
                let about = About::of(&entry.incident, &self.servers);
                let id = entry.incident.id.as_str().into();
                self.running.extend(about.map(|about| Target { number: self.begun, id, about }));
            }
            Change::Ended => self.running.retain(|target| *target.id != *entry.incident.id),
            Change::Updated => {}
        }
        self.running.len() != before
    }

    /// What packet threads look things up in.
    pub(super) fn targets(&self) -> Targets {
        let mut targets = Targets { list: self.running.clone(), ..Targets::default() };
        for (index, target) in self.running.iter().enumerate() {
            // Where two incidents are about the same, the older has the frames.
            match target.about {
                About::Server(at) => _ = targets.servers.entry(at).or_insert(index),
                About::Host(addr) => _ = targets.hosts.entry(addr).or_insert(index),
                About::Prefix(prefix) => _ = targets.prefixes.entry(prefix).or_insert(index),
                About::Sensor => _ = targets.sensor.get_or_insert(index),
            }
        }
        targets
    }
}

/// Every running incident, to be found by a segment. The maps are keyed at random: attackers choose what is looked up.
#[derive(Debug, Default)]
pub(super) struct Targets {
    /// In the order of their numbers.
    pub(super) list: Vec<Target>,
    servers: HashMap<Endpoint, usize, RandomState>,
    hosts: HashMap<IpAddr, usize, RandomState>,
    prefixes: HashMap<Prefix, usize, RandomState>,
    sensor: Option<usize>,
}

impl Targets {
    /// The incident a segment between these two belongs to: the most specific one, in either direction.
    pub(super) fn find(&self, src: Endpoint, dst: Endpoint) -> Option<usize> {
        let ends = [dst, src];
        let server = || ends.iter().find_map(|end| self.servers.get(end));
        let host = || ends.iter().find_map(|end| self.hosts.get(&end.addr));
        let prefix = || {
            if self.prefixes.is_empty() {
                return None;
            }
            let find =
                |of: fn(IpAddr) -> Prefix| ends.iter().find_map(|end| self.prefixes.get(&of(end.addr)));
            // The /64 that scans, before the site that it belongs to, or that it scans.
            find(|addr| Prefix::new(addr, 64))
                .or_else(|| find(|addr| Prefix::new(addr, if addr.is_ipv4() { 24 } else { 48 })))
        };
        server().or_else(host).or_else(prefix).copied().or(self.sensor)
    }

    /// The incident of a server; it goes before every other in [`find`](Self::find).
    pub(super) fn server(&self, at: Endpoint) -> Option<usize> {
        self.servers.get(&at).copied()
    }
}
