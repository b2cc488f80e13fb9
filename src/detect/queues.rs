//! Stage 4 of 5, detect: which servers have a model of their queue, and how events come to them.
//!
//! Packet threads note the events of those servers as they are; the detector puts them in order of time and gives them to the
//! models, once a bin. Configured servers always have one; others get one when they are in trouble, as long as there is room.
//! Bounded: so many servers, so many notes. No I/O, no clock.

use super::backlog::profile::Profile;
use super::backlog::{BacklogModel, Reading};
use super::hash::KeyedHash;
use super::watch::is_one_server;
use crate::config::ServerConfig;
use crate::decode::segment::Endpoint;
use crate::time::Timestamp;
use crate::track::event::{EventKind, HandshakeEvent};
use std::collections::BTreeMap;

/// Servers with a model, at most: 43 kB each.
const MODELS: usize = 256;
/// Models that may be made for servers that nobody configured in one bin: each is an allocation of 43 kB.
const NEW_PER_BIN: usize = 8;
/// Bins after which a server that was in no trouble since makes room for one that is: two minutes, the longest life of an entry.
const IDLE: u64 = 240;
/// Places of a thread's table of modelled servers: at most a quarter full.
const PLACES: usize = 4 * MODELS;
/// Events of one thread between two ticks, at most: 32,000 SYNs a second with their answers.
const NOTES: usize = 32_768;
/// SYNs and first answers may take so many of them: what they leave is for repetitions and endings, which are no more than the
/// queues hold. What is not noted came while every queue was full.
const OPENINGS: usize = NOTES * 3 / 4;

/// The configured servers that are one address and port, in order; as many as have a model.
fn modelled(servers: &[ServerConfig]) -> impl Iterator<Item = (Endpoint, &ServerConfig)> {
    let one = servers.iter().filter(|server| is_one_server(server));
    one.filter_map(|server| Some((Endpoint::new(server.address, server.port?), server))).take(MODELS)
}

/// What one thread has noted since the last tick.
#[derive(Debug)]
pub(super) struct Notes {
    /// Modelled servers by their keyed hash, with linear probing.
    servers: Box<[Option<Endpoint>]>,
    /// The last server asked for: one and the same comes again and again.
    last: Option<(Endpoint, bool)>,
    events: Vec<HandshakeEvent>,
    any: bool,
    /// The list of servers it works by.
    generation: u64,
}

impl Notes {
    pub(super) fn new(servers: &[ServerConfig], hash: &KeyedHash) -> Self {
        let mut notes = Self {
            servers: vec![None; PLACES].into(),
            last: None,
            events: Vec::new(),
            any: false,
            generation: 0,
        };
        notes.follow(modelled(servers).map(|(at, _)| at), hash);
        notes
    }

    /// Notes the events of these servers from now on, at most [`MODELS`].
    fn follow(&mut self, servers: impl Iterator<Item = Endpoint>, hash: &KeyedHash) {
        self.servers.fill(None);
        (self.last, self.any) = (None, false);
        for server in servers.take(MODELS) {
            let mut place = hash.endpoint(server) as usize % PLACES;
            while self.servers[place].is_some_and(|other| other != server) {
                place = (place + 1) % PLACES;
            }
            self.servers[place] = Some(server);
            self.any = true;
        }
        if self.any && self.events.capacity() < NOTES {
            self.events.reserve_exact(NOTES - self.events.len());
        }
    }

    fn is_modelled(&self, server: Endpoint, hash: &KeyedHash) -> bool {
        let mut place = hash.endpoint(server) as usize % PLACES;
        // Three of four places are free: this ends.
        while let Some(other) = self.servers[place] {
            if other == server {
                return true;
            }
            place = (place + 1) % PLACES;
        }
        false
    }

    /// Notes an event if a model wants it.
    #[inline]
    pub(super) fn take(&mut self, event: &HandshakeEvent, hash: &KeyedHash) {
        if !self.any {
            return;
        }
        let server = event.flow.resp;
        let wanted = match self.last {
            Some((last, wanted)) if last == server => wanted,
            _ => {
                let wanted = self.is_modelled(server, hash);
                self.last = Some((server, wanted));
                wanted
            }
        };
        let opens = matches!(event.kind, EventKind::Opened { .. } | EventKind::Answered { .. });
        if wanted && self.events.len() < if opens { OPENINGS } else { NOTES } {
            self.events.push(*event);
        }
    }

    /// Bytes it holds once it follows any server.
    #[cfg(test)]
    pub(super) const fn bytes() -> usize {
        NOTES * size_of::<HandshakeEvent>() + PLACES * size_of::<Option<Endpoint>>()
    }
}

/// A model and whose it is.
#[derive(Debug)]
struct Seat {
    model: BacklogModel,
    configured: bool,
    /// The last bin in which its server was in trouble.
    troubled: u64,
}

/// The models.
#[derive(Debug)]
pub(super) struct Queues {
    seats: BTreeMap<Endpoint, Seat>,
    events: Vec<HandshakeEvent>,
    seed: u64,
    hash: KeyedHash,
    /// Changes with every server that gets or loses a model.
    generation: u64,
    /// Models that may still be made in this bin.
    new_left: usize,
}

impl Queues {
    pub(super) fn new(servers: &[ServerConfig], seed: u64) -> Self {
        let mut queues = Self {
            seats: BTreeMap::new(),
            events: Vec::new(),
            seed,
            hash: KeyedHash::new(seed),
            generation: 0,
            new_left: 0,
        };
        queues.configure(servers);
        queues
    }

    /// Makes the models of these servers; those of servers that stay go on, unless what is known of the host changed. Servers
    /// that are not configured keep theirs as far as there is room.
    pub(super) fn configure(&mut self, servers: &[ServerConfig]) {
        let mut before = std::mem::take(&mut self.seats);
        for (at, server) in modelled(servers) {
            let profile = server.profile.as_deref().and_then(Profile::from_name);
            let same = before.remove(&at).filter(|seat| seat.model.is_for(profile, server.backlog));
            let model = same.map_or_else(
                || BacklogModel::new(profile, server.backlog, self.seed),
                |seat| seat.model,
            );
            self.seats.insert(at, Seat { model, configured: true, troubled: 0 });
        }
        let room = MODELS - self.seats.len();
        self.seats.extend(before.into_iter().filter(|(_, seat)| !seat.configured).take(room));
        self.generation += 1;
    }

    /// A server is in trouble: it gets a model if it has none and there is room, or somebody was in none for long. Returns the
    /// server that lost its model for it.
    pub(super) fn want(&mut self, at: Endpoint, bin: u64) -> Option<Endpoint> {
        if let Some(seat) = self.seats.get_mut(&at) {
            seat.troubled = bin;
            return None;
        }
        if self.new_left == 0 {
            return None;
        }
        let mut gone = None;
        if self.seats.len() >= MODELS {
            let idle = self.seats.iter().filter(|(_, seat)| !seat.configured && seat.troubled + IDLE < bin);
            gone = Some(*idle.min_by_key(|(at, seat)| (seat.troubled, **at))?.0);
        }
        self.new_left -= 1;
        if let Some(gone) = &gone {
            self.seats.remove(gone);
        }
        let model = BacklogModel::new(None, None, self.seed);
        self.seats.insert(at, Seat { model, configured: false, troubled: bin });
        self.generation += 1;
        gone
    }

    /// The model of a server, if it has one.
    pub(super) fn get(&self, at: Endpoint) -> Option<&BacklogModel> {
        self.seats.get(&at).map(|seat| &seat.model)
    }

    /// Takes what a thread noted, and tells it whose events to note.
    pub(super) fn absorb(&mut self, notes: &mut Notes) {
        self.events.append(&mut notes.events);
        if notes.generation != self.generation {
            notes.generation = self.generation;
            notes.follow(self.seats.keys().copied(), &self.hash);
        }
    }

    /// Brings the models up to the end of a bin, and says what each reads then.
    pub(super) fn close(&mut self, end: Timestamp, mut tell: impl FnMut(Endpoint, Reading)) {
        // Two threads see the two directions of a tap; the order of threads must not matter.
        self.events.sort_by_key(|event| (event.ts, event.flow.orig));
        for event in self.events.drain(..) {
            if let Some(seat) = self.seats.get_mut(&event.flow.resp) {
                seat.model.on_event(&event);
            }
        }
        for (at, seat) in &mut self.seats {
            seat.model.advance(end);
            tell(*at, seat.model.reading());
        }
        self.new_left = NEW_PER_BIN;
    }

    /// Bytes they hold at the most, but for what threads hand over.
    #[cfg(test)]
    pub(super) const fn bytes() -> usize {
        MODELS * 43_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::track::event::SynTraits;
    use crate::track::flow::Flow;
    use std::net::{IpAddr, Ipv4Addr};

    fn server(number: u16) -> Endpoint {
        Endpoint::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), number)
    }

    fn opened(at: Endpoint) -> HandshakeEvent {
        let orig = Endpoint::new(IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1)), 1);
        let kind = EventKind::Opened { syn: SynTraits::default() };
        HandshakeEvent { ts: Timestamp::from_nanos(1), flow: Flow { orig, resp: at }, weight: 1, kind }
    }

    fn configured(number: u16) -> ServerConfig {
        let Endpoint { addr: address, port } = server(number);
        ServerConfig {
            name: None,
            address,
            prefix_len: 32,
            port: Some(port),
            backlog: Some(128),
            profile: None,
        }
    }

    #[test]
    fn only_modelled_servers_are_noted() {
        let hash = KeyedHash::new(3);
        let mut notes = Notes::new(&[configured(1)], &hash);
        let mut queues = Queues::new(&[configured(1)], 3);
        for number in 1..4 {
            notes.take(&opened(server(number)), &hash);
        }
        assert_eq!(notes.events.len(), 1);
        queues.close(Timestamp::from_nanos(2), |_, _| {});
        queues.want(server(2), 5);
        queues.absorb(&mut notes);
        for number in 1..4 {
            notes.take(&opened(server(number)), &hash);
        }
        assert_eq!(notes.events.iter().map(|event| event.flow.resp.port).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn there_are_only_so_many_and_the_longest_idle_makes_room_never_a_configured_one() {
        let mut queues = Queues::new(&[configured(1)], 3);
        for number in 2..2000_u16 {
            queues.close(Timestamp::from_nanos(i64::from(number)), |_, _| {});
            queues.want(server(number), u64::from(number));
        }
        assert_eq!(queues.seats.len(), MODELS);
        assert!(queues.get(server(1)).is_some(), "configured");
        assert!(queues.get(server(2)).is_none(), "in no trouble for longest");
        // Nobody else is idle for long enough: those in trouble keep theirs.
        let kept: Vec<Endpoint> = queues.seats.keys().copied().collect();
        for at in &kept {
            queues.want(*at, 5000);
        }
        assert_eq!(queues.want(server(3000), 5001), None);
        assert!(queues.get(server(3000)).is_none());
        queues.configure(&[configured(1), configured(7)]);
        assert!(queues.seats.len() <= MODELS && queues.get(server(7)).is_some());
    }
}
