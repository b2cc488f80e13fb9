//! Stage 4 of 5, detect: which servers have a model of their queue, and how events come to them.
//!
//! Packet threads note the events of those servers as they are; the detector puts them in order of time and gives them to the
//! models, once a bin. Configured servers always have one; others get one when they are in trouble, as long as there is room.
//! Bounded: so many servers, so many notes. No I/O, no clock.

mod sieve;

use self::sieve::Sieve;
use super::backlog::note::Note;
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
/// Notes of one thread between two ticks, and of all threads together at the end of a bin, at most: 0.8 MB. An eighth is slack, so that
/// 28,672 are kept where there are more: those of 28,000 SYNs a second with their answers, in full. Beyond that they are thinned out.
const NOTES: usize = 32_768;

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
    sieve: Sieve,
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
            sieve: Sieve::new(NOTES),
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
        if self.any {
            self.sieve.reserve();
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
        if let Some(note) = seat.and_then(|seat| Note::of(event, hash, seat)) {
            self.sieve.offer(note);
        }
    }

    /// Bytes it holds once it follows any server.
    #[cfg(test)]
    pub(super) const fn bytes() -> usize {
        Sieve::bytes(NOTES) + PLACES * size_of::<Option<(Endpoint, u16)>>()
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
    /// Events of it were thinned out in this bin, or in none.
    thinned: Option<u64>,
}

/// The models.
#[derive(Debug)]
pub(super) struct Queues {
    seats: Vec<Seat>,
    /// Numbers of seats by server.
    numbers: BTreeMap<Endpoint, u16>,
    /// Of all threads, since the last bin.
    sieve: Sieve,
    /// Events that no model heard of for want of room, ever; others stood for them.
    dropped: u64,
    /// Bins closed.
    bin: u64,
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
            sieve: Sieve::new(NOTES),
            dropped: 0,
            bin: 0,
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
        // What some threads handed over goes by the old numbers.
        self.dropped = self.dropped.saturating_add(self.sieve.clear());
        let numbers = std::mem::take(&mut self.numbers);
        let mut before = std::mem::take(&mut self.seats);
        let times: BTreeMap<Endpoint, (u64, Option<u64>)> =
            before.iter().map(|seat| (seat.server, (seat.since, seat.thinned))).collect();
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
        for (number, seat) in (0..).zip(&mut self.seats) {
            let Some((since, thinned)) = times.get(&seat.server) else { continue };
            seat.thinned = *thinned;
            if numbers.get(&seat.server) == Some(&number) {
                // Who works by an older list means the same server by this number.
                seat.since = *since;
            }
        }
    }

    /// Gives a server the next seat, where there is one.
    fn sit(&mut self, server: Endpoint, model: BacklogModel, configured: bool, troubled: u64) {
        if self.seats.len() < MODELS && !self.numbers.contains_key(&server) {
            self.numbers.insert(server, self.seats.len() as u16);
            let thinned = None;
            self.seats.push(Seat { server, model, configured, troubled, since: self.generation, thinned });
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
        *seat = Seat {
            server: at,
            model: model(),
            configured: false,
            troubled: bin,
            since: self.generation,
            thinned: None,
        };
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

    /// Whether what the model of a server says rests on a share of its events: within the life of an entry they were thinned out.
    pub(super) fn is_sampled(&self, at: Endpoint) -> bool {
        let seat = self.numbers.get(&at).and_then(|number| self.seats.get(usize::from(*number)));
        seat.and_then(|seat| seat.thinned).is_some_and(|thinned| thinned + IDLE >= self.bin)
    }

    /// Events of modelled servers that no model heard of for want of room, ever; others stood for them.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Takes what a thread noted, and tells it whose events to note.
    pub(super) fn absorb(&mut self, notes: &mut Notes) {
        let Self { seats, sieve, .. } = self;
        let meant =
            |seat: u8| seats.get(usize::from(seat)).is_some_and(|seat| seat.since <= notes.generation);
        let left_out = sieve.absorb(&mut notes.sieve, meant);
        self.dropped = self.dropped.saturating_add(left_out);
        self.introduce(notes);
    }

    /// Tells a thread whose events to note.
    pub(super) fn introduce(&self, notes: &mut Notes) {
        let Self { generation, numbers, hash, .. } = self;
        if notes.generation != *generation {
            notes.generation = *generation;
            notes.follow(numbers.iter().map(|(at, number)| (*at, *number)), hash);
        }
    }

    /// Brings the models up to the end of a bin, and says what each reads then.
    pub(super) fn close(&mut self, end: Timestamp, mut tell: impl FnMut(Endpoint, Reading)) {
        let Self { seats, sieve, .. } = self;
        self.bin += 1;
        let mut thinned = [false; MODELS];
        let left_out = sieve.drain(
            |note| {
                if let Some(seat) = seats.get_mut(usize::from(note.seat)) {
                    seat.model.take(note);
                }
            },
            |seat| thinned[usize::from(seat) % MODELS] = true,
        );
        self.dropped = self.dropped.saturating_add(left_out);
        for (seat, _) in seats.iter_mut().zip(thinned).filter(|(_, thinned)| *thinned) {
            seat.thinned = Some(self.bin);
        }
        for seat in &mut self.seats {
            seat.model.advance(end);
            tell(seat.server, seat.model.reading());
        }
        self.new_left = NEW_PER_BIN;
    }

    /// Bytes they hold at the most, with what threads hand over.
    #[cfg(test)]
    pub(super) const fn bytes() -> usize {
        MODELS * 36_000 + Sieve::bytes(NOTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::backlog::note::What;
    use crate::detect::incident::ServerMode;
    use crate::track::event::EventKind;
    use crate::track::flow::Flow;
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    fn server(number: u16) -> Endpoint {
        Endpoint::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), number)
    }

    fn opened(at: Endpoint) -> HandshakeEvent {
        let orig = Endpoint::new(IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1)), 1);
        let kind = EventKind::Opened;
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
        let seats = |notes: &Notes| notes.sieve.notes().iter().map(|note| note.seat).collect::<Vec<_>>();
        for number in 1..4 {
            notes.take(&opened(server(number)), &hash);
        }
        assert_eq!(seats(&notes), [0]);
        queues.close(Timestamp::from_nanos(2), |_, _| {});
        queues.want(server(2), 5);
        queues.absorb(&mut notes);
        for number in 1..4 {
            notes.take(&opened(server(number)), &hash);
        }
        assert_eq!(seats(&notes), [0, 1]);
    }

    #[test]
    fn a_reload_loses_no_note_of_a_server_that_keeps_its_place() {
        let hash = KeyedHash::new(3);
        let (servers, others) = ([configured(1), configured(2)], [configured(1), configured(3)]);
        let mut notes = Notes::new(&servers, &hash);
        let mut queues = Queues::new(&servers, 3);
        let heard = |queues: &mut Queues, notes: &mut Notes| {
            for number in 1..4 {
                notes.take(&opened(server(number)), &hash);
            }
            let before = queues.dropped();
            queues.absorb(notes);
            let mut seats = Vec::new();
            queues.sieve.drain(|note| seats.push(note.seat), |_| {});
            (seats, queues.dropped() - before)
        };
        assert_eq!(heard(&mut queues, &mut notes), (vec![0, 1], 0));
        queues.configure(&servers);
        assert_eq!(heard(&mut queues, &mut notes), (vec![0, 1], 0));
        queues.configure(&others);
        // By the old list seat 1 was the second server's: left out, and counted.
        assert_eq!(heard(&mut queues, &mut notes), (vec![0], 1));
        assert_eq!(heard(&mut queues, &mut notes), (vec![0, 1], 0));
        // A thread that begins now knows at once.
        let mut new = Notes::new(&others, &hash);
        queues.introduce(&mut new);
        assert_eq!(heard(&mut queues, &mut new), (vec![0, 1], 0));
    }

    #[test]
    fn a_flooded_server_leaves_the_others_their_notes() {
        let hash = KeyedHash::new(3);
        let servers: Vec<ServerConfig> = (1..=20).map(configured).collect();
        let mut notes = Notes::new(&servers, &hash);
        let mut queues = Queues::new(&servers, 3);
        let answered = EventKind::Answered { after: Duration::ZERO, overdue: false };
        let from = |at: Endpoint, number: u32| {
            let orig = Endpoint::new(Ipv4Addr::from_bits(0xC612_0000 + number).into(), 1);
            HandshakeEvent { flow: Flow { orig, resp: at }, ..opened(at) }
        };
        for number in 0..50_000 {
            notes.take(&from(server(1), number), &hash);
            notes.take(&HandshakeEvent { kind: answered, ..from(server(1), number) }, &hash);
        }
        // What tells of entries still finds room, and so does what happens elsewhere.
        let again =
            EventKind::SynAckRetransmitted { after_ack: false, age: Duration::from_secs(1), count: 1 };
        for number in 0..1000 {
            notes.take(&HandshakeEvent { kind: again, ..from(server(1), number) }, &hash);
        }
        for port in 2..=20 {
            for number in 0..60 {
                notes.take(&from(server(port), number), &hash);
                notes.take(&HandshakeEvent { kind: answered, ..from(server(port), number) }, &hash);
            }
        }
        queues.absorb(&mut notes);
        let mut heard = BTreeMap::new();
        let out = queues.sieve.drain(
            |note| *heard.entry((note.seat, note.what as u8, note.weight())).or_insert(0_u64) += 1,
            |seat| assert_eq!(seat, 0),
        );
        let of = |what: What| {
            let mine = heard.iter().filter(|((seat, other, _), _)| *seat == 0 && *other == what as u8);
            mine.fold((0, 0), |(kept, sum), ((_, _, weight), count)| {
                (kept + count, sum + count * u64::from(*weight))
            })
        };
        assert_eq!(of(What::Asked), of(What::Answered), "each SYN with its answer");
        let (kept, sum) = of(What::Asked);
        assert!(kept > 10_000 && sum.abs_diff(50_000) < 2000, "{kept} stand for {sum}");
        assert_eq!(of(What::Repeated), (1000, 1000));
        assert_eq!(out, 2 * (50_000 - kept));
        for seat in 1..20 {
            for what in [What::Asked, What::Answered] {
                assert_eq!(heard.get(&(seat, what as u8, 1)), Some(&60), "server {seat}");
            }
        }
    }

    /// A flood from forged sources on a server whose queue holds `entries`, for `seconds`: all are answered, those with an entry repeated
    /// after 1 s and after 3 s. Its events are divided among `threads` at random. What the model reads at the end of each bin.
    fn flooded(
        servers: &[ServerConfig],
        rate: u32,
        entries: u32,
        seconds: u32,
        threads: usize,
    ) -> Vec<Reading> {
        const BIN: u32 = 500;
        let (hash, at) = (KeyedHash::new(3), server(1));
        let mut parts: Vec<Notes> = (0..threads).map(|_| Notes::new(servers, &hash)).collect();
        let mut queues = Queues::new(servers, 3);
        queues.close(Timestamp::EPOCH, |_, _| {});
        queues.want(at, 1);
        parts.iter_mut().for_each(|notes| queues.absorb(notes));
        let (mut random, mut readings) = (1_u64, Vec::new());
        let mut tell = |parts: &mut Vec<Notes>, event: HandshakeEvent| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            parts[(random >> 33) as usize % threads].take(&event, &hash);
        };
        for milli in 0..seconds * 1000 {
            let ts = Timestamp::from_nanos(1_750_000_000_000_000_000 + i64::from(milli) * 1_000_000);
            let event = |number: u32, kind| {
                let orig = Endpoint::new(
                    Ipv4Addr::from_bits(0xC612_0000 + number % 0x2_0000).into(),
                    (number / 0x2_0000) as u16,
                );
                HandshakeEvent { ts, flow: Flow { orig, resp: at }, weight: 1, kind }
            };
            let of = |milli: u32| milli * (rate / 1000)..(milli + 1) * (rate / 1000);
            for number in of(milli) {
                tell(&mut parts, event(number, EventKind::Opened));
                tell(
                    &mut parts,
                    event(number, EventKind::Answered { after: Duration::ZERO, overdue: false }),
                );
            }
            for (count, age) in [(1, 1000), (2, 3000)] {
                let Some(before) = milli.checked_sub(age) else { continue };
                for number in of(before).take_while(|number| *number < entries) {
                    let age = Duration::from_millis(u64::from(age));
                    tell(
                        &mut parts,
                        event(number, EventKind::SynAckRetransmitted { after_ack: false, age, count }),
                    );
                }
            }
            if (milli + 1) % BIN == 0 {
                // Whoever is first here must not matter either.
                parts.rotate_left(1);
                parts.iter_mut().for_each(|notes| queues.absorb(notes));
                let end = ts.plus(Duration::from_millis(1));
                queues.close(end, |_, reading| readings.push(reading));
            }
        }
        assert_eq!(queues.is_sampled(at), queues.dropped() > 0);
        readings
    }

    #[test]
    fn threads_may_divide_a_flood_as_they_like() {
        // All held, so that there are as many repetitions as SYNs, and nobody said how large the queue is.
        let alone = flooded(&[], 20_000, u32::MAX, 5, 1);
        for threads in [2, 3] {
            assert_eq!(flooded(&[], 20_000, u32::MAX, 5, threads), alone, "{threads} threads");
        }
        // 100,000 entries of 1, 3 and 5 s.
        let last = alone.last().unwrap();
        assert!(last.entries.abs_diff(100_000) < 5000, "{last:?}");
    }

    #[test]
    fn a_flood_of_a_hundred_thousand_a_second_is_told_right() {
        let sized = ServerConfig { backlog: Some(1024), ..configured(1) };
        let readings = flooded(std::slice::from_ref(&sized), 100_000, 1024, 4, 1);
        assert_eq!(flooded(&[sized], 100_000, 1024, 4, 2), readings);
        for (bin, reading) in readings.iter().enumerate() {
            assert!(reading.entries.abs_diff(1024) < 52, "bin {bin}: {reading:?}");
        }
        let last = readings.last().unwrap();
        assert!(last.old.abs_diff(1024) < 52, "{last:?}");
        assert_eq!(last.verdict.mode, ServerMode::Cookie, "{last:?}");
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
