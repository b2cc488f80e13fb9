//! Stage 4 of 5, detect: which servers have a model of their queue, and how events come to them.
//!
//! Packet threads note the events of those servers as they are; the detector puts them in order of time and gives them to the
//! models, once a bin. Configured servers always have one; others get one when they are in trouble, as long as there is room.
//! Bounded: so many servers, so many notes. No I/O, no clock.

use super::backlog::note::Note;
use super::backlog::profile::Profile;
use super::backlog::{BacklogModel, Reading};
use super::hash::KeyedHash;
use super::watch::is_one_server;
use crate::config::ServerConfig;
use crate::decode::segment::Endpoint;
use crate::time::Timestamp;
use crate::track::event::{EventKind, HandshakeEvent};
use std::collections::{BTreeMap, BTreeSet};

/// Servers with a model, at most: 36 kB each.
const MODELS: usize = 128;
/// Models that may be made for servers that nobody configured in one bin: each is an allocation of 36 kB.
const NEW_PER_BIN: usize = 8;
/// Bins after which a server that was in no trouble since makes room for one that is: a minute, as long as an entry lives.
const IDLE: u64 = 120;
/// Places of a thread's table of modelled servers: at most a quarter full.
const PLACES: usize = 4 * MODELS;
/// Events of one thread between two ticks, at most: 16,000 SYNs a second with their answers.
const NOTES: usize = 16_384;
/// SYNs and first answers may take so many of them: what they leave is for repetitions and endings, which are no more than the
/// queues hold. What is not noted came while every queue was full.
const OPENINGS: usize = NOTES * 3 / 4;

/// A server may have so many times the free notes: one that is flooded comes to rest at 8/9, and the others' models go on (dynamic
/// thresholds, Choudhury and Hahne 1998; as in `track/shares.rs`).
const SHARE: usize = 8;

/// The configured servers that are one address and port, in order and each once; as many as have a model.
fn modelled(servers: &[ServerConfig]) -> impl Iterator<Item = (Endpoint, &ServerConfig)> {
    let one = servers.iter().filter(|server| is_one_server(server));
    let mut seen = BTreeSet::new();
    one.filter_map(|server| Some((Endpoint::new(server.address, server.port?), server)))
        .filter(move |(at, _)| seen.insert(*at))
        .take(MODELS)
}

/// What one thread has noted since the last tick.
#[derive(Debug)]
pub(super) struct Notes {
    /// Modelled servers and the numbers of their models, by keyed hash, with linear probing.
    servers: Box<[Option<(Endpoint, u16)>]>,
    /// The last server asked for: one and the same comes again and again.
    last: Option<(Endpoint, Option<u16>)>,
    notes: Vec<Note>,
    /// Of them, by number of the model.
    of_seat: Box<[u16; MODELS]>,
    any: bool,
    /// The list of servers it works by.
    generation: u64,
}

impl Notes {
    /// For the configured servers, until the detector says whose events it wants.
    pub(super) fn new(servers: &[ServerConfig], hash: &KeyedHash) -> Self {
        let mut notes = Self {
            servers: vec![None; PLACES].into(),
            last: None,
            notes: Vec::new(),
            of_seat: Box::new([0; MODELS]),
            any: false,
            generation: 0,
        };
        notes.follow(modelled(servers).map(|(at, _)| at).zip(0..), hash);
        notes
    }

    /// Notes the events of these servers from now on.
    fn follow(&mut self, servers: impl Iterator<Item = (Endpoint, u16)>, hash: &KeyedHash) {
        self.servers.fill(None);
        (self.last, self.any) = (None, false);
        for (server, number) in servers.take(MODELS) {
            let mut place = hash.endpoint(server) as usize % PLACES;
            while self.servers[place].is_some_and(|(other, _)| other != server) {
                place = (place + 1) % PLACES;
            }
            self.servers[place].get_or_insert((server, number));
            self.any = true;
        }
        if self.any && self.notes.capacity() < NOTES {
            self.notes.reserve_exact(NOTES - self.notes.len());
        }
    }

    fn seat(&self, server: Endpoint, hash: &KeyedHash) -> Option<u16> {
        let mut place = hash.endpoint(server) as usize % PLACES;
        // Three of four places are free: this ends.
        while let Some((other, number)) = self.servers[place] {
            if other == server {
                return Some(number);
            }
            place = (place + 1) % PLACES;
        }
        None
    }

    /// Notes an event if a model wants it.
    #[inline]
    pub(super) fn take(&mut self, event: &HandshakeEvent, hash: &KeyedHash) {
        if !self.any {
            return;
        }
        let server = event.flow.resp;
        let seat = match self.last {
            Some((last, seat)) if last == server => seat,
            _ => {
                let seat = self.seat(server, hash);
                self.last = Some((server, seat));
                seat
            }
        };
        let opens = matches!(event.kind, EventKind::Opened { .. } | EventKind::Answered { .. });
        let free = if opens { OPENINGS } else { NOTES }.saturating_sub(self.notes.len());
        if free > 0
            && let Some(seat) = seat
            && let Some(taken) = self.of_seat.get_mut(usize::from(seat))
            && usize::from(*taken) < SHARE * free
            && let Some(note) = Note::of(event, hash, seat)
        {
            *taken += 1;
            self.notes.push(note);
        }
    }

    /// Bytes it holds once it follows any server.
    #[cfg(test)]
    pub(super) const fn bytes() -> usize {
        NOTES * size_of::<Note>() + PLACES * size_of::<Option<(Endpoint, u16)>>()
    }
}

/// A model and whose it is.
#[derive(Debug)]
struct Seat {
    server: Endpoint,
    model: BacklogModel,
    configured: bool,
    /// The last bin in which its server was in trouble.
    troubled: u64,
    /// The generation it came with: who works by an older list means somebody else by its number.
    since: u64,
}

/// The models.
#[derive(Debug)]
pub(super) struct Queues {
    seats: Vec<Seat>,
    /// Numbers of seats by server.
    numbers: BTreeMap<Endpoint, u16>,
    notes: Vec<Note>,
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
            seats: Vec::new(),
            numbers: BTreeMap::new(),
            notes: Vec::new(),
            seed,
            hash: KeyedHash::new(seed),
            generation: 0,
            new_left: 0,
        };
        queues.configure(servers);
        // Threads begin with the configured servers, in the same order.
        queues.seats.iter_mut().for_each(|seat| seat.since = 0);
        queues
    }

    /// Makes the models of these servers; those of servers that stay go on, unless what is known of the host changed. Servers
    /// that are not configured keep theirs as far as there is room.
    pub(super) fn configure(&mut self, servers: &[ServerConfig]) {
        self.generation += 1;
        self.numbers.clear();
        let mut before = std::mem::take(&mut self.seats);
        for (at, server) in modelled(servers) {
            let profile = server.profile.as_deref().and_then(Profile::from_name);
            let same =
                before.iter().position(|seat| seat.server == at).map(|number| before.swap_remove(number));
            let model = match same {
                Some(seat) if seat.model.is_for(profile, server.backlog) => seat.model,
                _ => BacklogModel::new(profile, server.backlog, self.seed),
            };
            self.sit(at, model, true, 0);
        }
        before.sort_unstable_by_key(|seat| (std::cmp::Reverse(seat.troubled), seat.server));
        for seat in before.into_iter().filter(|seat| !seat.configured) {
            self.sit(seat.server, seat.model, false, seat.troubled);
        }
    }

    /// Gives a server the next seat, where there is one.
    fn sit(&mut self, server: Endpoint, model: BacklogModel, configured: bool, troubled: u64) {
        if self.seats.len() < MODELS && !self.numbers.contains_key(&server) {
            self.numbers.insert(server, self.seats.len() as u16);
            self.seats.push(Seat { server, model, configured, troubled, since: self.generation });
        }
    }

    /// A server is in trouble: it gets a model if it has none and there is room, or somebody was in none for long. Returns the
    /// server that lost its model for it.
    pub(super) fn want(&mut self, at: Endpoint, bin: u64) -> Option<Endpoint> {
        if let Some(seat) = self.numbers.get(&at).and_then(|number| self.seats.get_mut(usize::from(*number)))
        {
            seat.troubled = bin;
            return None;
        }
        if self.new_left == 0 {
            return None;
        }
        let model = || BacklogModel::new(None, None, self.seed);
        if self.seats.len() < MODELS {
            self.new_left -= 1;
            self.generation += 1;
            self.sit(at, model(), false, bin);
            return None;
        }
        let idle = |seat: &&mut Seat| !seat.configured && seat.troubled + IDLE < bin;
        let seat = self.seats.iter_mut().filter(idle).min_by_key(|seat| (seat.troubled, seat.server))?;
        let gone = seat.server;
        self.new_left -= 1;
        self.generation += 1;
        *seat = Seat { server: at, model: model(), configured: false, troubled: bin, since: self.generation };
        if let Some(number) = self.numbers.remove(&gone) {
            self.numbers.insert(at, number);
        }
        Some(gone)
    }

    /// The model of a server, if it has one.
    pub(super) fn get(&self, at: Endpoint) -> Option<&BacklogModel> {
        let number = self.numbers.get(&at)?;
        self.seats.get(usize::from(*number)).map(|seat| &seat.model)
    }

    /// Takes what a thread noted, and tells it whose events to note.
    pub(super) fn absorb(&mut self, notes: &mut Notes) {
        let Self { seats, generation, numbers, hash, .. } = self;
        let meant = |note: &Note| {
            seats.get(usize::from(note.seat)).is_some_and(|seat| seat.since <= notes.generation)
        };
        self.notes.extend(notes.notes.drain(..).filter(meant));
        notes.of_seat.fill(0);
        if notes.generation != *generation {
            notes.generation = *generation;
            notes.follow(numbers.iter().map(|(at, number)| (*at, *number)), hash);
        }
    }

    /// Brings the models up to the end of a bin, and says what each reads then.
    pub(super) fn close(&mut self, end: Timestamp, mut tell: impl FnMut(Endpoint, Reading)) {
        // Two threads see the two directions of a tap; the order of threads must not matter.
        self.notes.sort_by_key(|note| (note.ts, note.orig));
        for note in self.notes.drain(..) {
            if let Some(seat) = self.seats.get_mut(usize::from(note.seat)) {
                seat.model.take(&note);
            }
        }
        for seat in &mut self.seats {
            seat.model.advance(end);
            tell(seat.server, seat.model.reading());
        }
        self.new_left = NEW_PER_BIN;
    }

    /// Bytes they hold at the most, with what so many threads hand over.
    #[cfg(test)]
    pub(super) const fn bytes(threads: usize) -> usize {
        MODELS * 36_000 + threads * NOTES * size_of::<Note>()
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
        assert_eq!(notes.notes.len(), 1);
        queues.close(Timestamp::from_nanos(2), |_, _| {});
        queues.want(server(2), 5);
        queues.absorb(&mut notes);
        for number in 1..4 {
            notes.take(&opened(server(number)), &hash);
        }
        assert_eq!(notes.notes.iter().map(|note| note.seat).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn one_flooded_server_leaves_notes_to_the_others() {
        let hash = KeyedHash::new(3);
        let mut notes = Notes::new(&[configured(1), configured(2)], &hash);
        let mut queues = Queues::new(&[configured(1), configured(2)], 3);
        for _ in 0..2 {
            let again =
                EventKind::SynAckRetransmitted { after_ack: false, age: Default::default(), count: 7 };
            for _ in 0..4 * NOTES {
                notes.take(&opened(server(1)), &hash);
                notes.take(&HandshakeEvent { kind: again, ..opened(server(1)) }, &hash);
            }
            let before = notes.notes.len();
            assert!((NOTES * 8 / 10..NOTES * 9 / 10).contains(&before), "{before}");
            for _ in 0..200 {
                notes.take(&HandshakeEvent { kind: again, ..opened(server(2)) }, &hash);
            }
            assert_eq!(notes.notes.len(), before + 200);
            queues.absorb(&mut notes);
        }
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
        let kept: Vec<Endpoint> = queues.numbers.keys().copied().collect();
        for at in &kept {
            queues.want(*at, 5000);
        }
        assert_eq!(queues.want(server(3000), 5001), None);
        assert!(queues.get(server(3000)).is_none());
        queues.configure(&[configured(1), configured(7)]);
        assert!(queues.seats.len() <= MODELS && queues.get(server(7)).is_some());
    }
}
