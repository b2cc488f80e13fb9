//! Stage 4 of 5, detect: which servers have a model of their queue, and how events come to them.
//!
//! Packet threads note the events of those servers as they are; the detector puts them in order of time and gives them to the
//! models, once a bin. Configured servers always have one; others get one when they are in trouble, as long as there is room.
//! Bounded: so many servers, so many notes. No I/O, no clock.

use super::backlog::note::{Note, What};
use super::backlog::profile::Profile;
use super::backlog::{BacklogModel, Reading};
use super::hash::KeyedHash;
use super::watch::is_one_server;
use crate::config::ServerConfig;
use crate::decode::segment::Endpoint;
use crate::time::Timestamp;
use crate::track::event::HandshakeEvent;
use std::collections::{BTreeMap, BTreeSet};

/// Servers with a model, at most: 36 kB each.
const MODELS: usize = 128;
/// Models that may be made for servers that nobody configured in one bin: each is an allocation of 36 kB.
const NEW_PER_BIN: usize = 8;
/// Bins after which a server that was in no trouble since makes room for one that is: a minute, as long as an entry lives.
const IDLE: u64 = 120;
/// Places of a thread's table of modelled servers: at most a quarter full.
const PLACES: usize = 4 * MODELS;
/// Events of one thread between two ticks, at most: 0.7 MB.
const NOTES: usize = 30_400;
/// One server may have so many times what is still free: three quarters in the end, which leaves a quarter to the others however much it
/// is sent (dynamic thresholds, as the half-open table's). It is 21,000 SYNs a second with their answers.
const FAIR: usize = 3;
/// SYNs and first answers may take so much of what a server may have: what they leave is for repetitions and endings, which are no
/// more than its queue holds. SYNs only half of that, so that there is room for their answers. What is not noted came while the
/// queue was full.
const OPENINGS: (usize, usize) = (3, 4);

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
    /// Of these, by number of the model.
    taken: Box<[Taken; MODELS]>,
    /// Events that were not noted for want of room since the last tick.
    dropped: u64,
    any: bool,
    /// The list of servers it works by.
    generation: u64,
}

/// What one server has of the notes.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    asked: u16,
    opened: u16,
    all: u16,
}

impl Taken {
    /// Takes one more, where there is room for it: `free` notes are left to everybody.
    fn take(&mut self, what: What, free: usize) -> bool {
        let (part, whole) = OPENINGS;
        let most = FAIR * free;
        let openings = most * part / whole;
        let (all, opened, asked) = (usize::from(self.all), usize::from(self.opened), usize::from(self.asked));
        let (room, count) = match what {
            What::Asked => (asked < openings / 2 && opened < openings, [1, 1]),
            What::Answered => (opened < openings, [0, 1]),
            What::Repeated | What::RepeatedAfterAck | What::Completed | What::Reset => (all < most, [0, 0]),
        };
        if room {
            self.asked += count[0];
            self.opened += count[1];
            self.all += 1;
        }
        room
    }
}

impl Notes {
    /// For the configured servers, until the detector says whose events it wants.
    pub(super) fn new(servers: &[ServerConfig], hash: &KeyedHash) -> Self {
        let mut notes = Self {
            servers: vec![None; PLACES].into(),
            last: None,
            notes: Vec::new(),
            taken: Box::new([Taken::default(); MODELS]),
            dropped: 0,
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
        let Some((seat, note)) = seat.and_then(|seat| Some((seat, Note::of(event, hash, seat)?))) else {
            return;
        };
        let free = NOTES - self.notes.len().min(NOTES);
        if self.taken.get_mut(usize::from(seat)).is_some_and(|taken| taken.take(note.what, free)) {
            self.notes.push(note);
        } else {
            self.dropped += 1;
        }
    }

    /// Bytes it holds once it follows any server.
    #[cfg(test)]
    pub(super) const fn bytes() -> usize {
        NOTES * size_of::<Note>()
            + MODELS * size_of::<Taken>()
            + PLACES * size_of::<Option<(Endpoint, u16)>>()
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
    /// Events that no model heard of for want of room, ever.
    dropped: u64,
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
            dropped: 0,
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

    /// Events of modelled servers that no model heard of for want of room, ever.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Takes what a thread noted, and tells it whose events to note.
    pub(super) fn absorb(&mut self, notes: &mut Notes) {
        let Self { seats, generation, numbers, hash, .. } = self;
        let meant = |note: &Note| {
            seats.get(usize::from(note.seat)).is_some_and(|seat| seat.since <= notes.generation)
        };
        self.notes.extend(notes.notes.drain(..).filter(meant));
        notes.taken.fill(Taken::default());
        self.dropped = self.dropped.saturating_add(std::mem::take(&mut notes.dropped));
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
    use crate::track::event::{EventKind, SynTraits};
    use crate::track::flow::Flow;
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

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
    fn a_flooded_server_leaves_the_others_their_notes() {
        let hash = KeyedHash::new(3);
        let servers: Vec<ServerConfig> = (1..=20).map(configured).collect();
        let mut notes = Notes::new(&servers, &hash);
        let mut queues = Queues::new(&servers, 3);
        let answered = EventKind::Answered { after: Duration::ZERO, overdue: false };
        for _ in 0..50_000 {
            notes.take(&opened(server(1)), &hash);
            notes.take(&HandshakeEvent { kind: answered, ..opened(server(1)) }, &hash);
        }
        let of = |notes: &Notes, wanted: fn(What) -> bool, seat: u8| {
            notes.notes.iter().filter(|note| note.seat == seat && wanted(note.what)).count()
        };
        let (asked, told) =
            (of(&notes, |what| what == What::Asked, 0), of(&notes, |what| what == What::Answered, 0));
        assert!(asked.abs_diff(told) <= 1, "each SYN with its answer: {asked}, {told}");
        assert!(asked + told > NOTES / 2, "{asked}");
        // What tells of entries still finds room.
        let again =
            EventKind::SynAckRetransmitted { after_ack: false, age: Duration::from_secs(1), count: 1 };
        for _ in 0..1000 {
            notes.take(&HandshakeEvent { kind: again, ..opened(server(1)) }, &hash);
        }
        assert_eq!(of(&notes, |what| what == What::Repeated, 0), 1000);
        let left_out = notes.dropped;
        assert_eq!(left_out, 100_000 - (asked + told) as u64);
        for number in 2..=20 {
            for _ in 0..60 {
                notes.take(&opened(server(number)), &hash);
                notes.take(&HandshakeEvent { kind: answered, ..opened(server(number)) }, &hash);
            }
            assert_eq!(of(&notes, |_| true, number as u8 - 1), 120, "server {number}");
        }
        assert_eq!(notes.dropped, left_out);
        queues.absorb(&mut notes);
        assert_eq!((queues.dropped(), notes.dropped), (left_out, 0));
        notes.take(&opened(server(1)), &hash);
        assert_eq!(notes.notes.len(), 1, "a new half second");
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
