//! What the stories of tests/handshakes cannot tell: sizes, bounds, eviction, sampling, and conversations generated at random.

use super::*;
use crate::config::TableConfig;
use crate::decode::segment::{Endpoint, SegmentKind, TcpFlags};
use crate::track::event::{EventKind, HalfOpenCase, HandshakeEvent, Oddity};
use crate::track::table::HalfOpenTable;
use crate::track::tracker::Tracker;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

mod laws;
mod room;

const SERVER: Endpoint = Endpoint::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 80)), 80);

fn client(number: u32) -> Endpoint {
    Endpoint::new(IpAddr::V4(Ipv4Addr::from_bits(0xc612_0000 + number / 60_000)), (number % 60_000) as u16)
}

/// A tracker with a table of its own, and what it said.
struct World {
    table: Arc<HalfOpenTable>,
    tracker: Tracker,
    events: Vec<HandshakeEvent>,
    now: Timestamp,
}

impl World {
    fn new(established: EstablishedConfig) -> Self {
        let config = TableConfig { entries: 1024, remembered: 1000, established, ..TableConfig::default() };
        let table = Arc::new(HalfOpenTable::new(&config, 1));
        let tracker = Tracker::new(Arc::clone(&table), &config, usize::MAX);
        Self { table, tracker, events: Vec::new(), now: Timestamp::from_parts(1_750_000_000, 0) }
    }

    fn wait(&mut self, millis: u64) {
        self.now = self.now.plus(Duration::from_millis(millis));
        self.tracker.advance(self.now, &mut self.events);
        self.table.established.suspects.age(self.now);
    }

    fn send(&mut self, from: Endpoint, to: Endpoint, flags: u8, seq: u32, ack: u32, len: u16) {
        let flags = TcpFlags(flags);
        let segment = Segment {
            ts: self.now,
            src: from,
            dst: to,
            seq: SeqNumber(seq),
            ack: SeqNumber(ack),
            flags,
            kind: SegmentKind::of(flags),
            payload_len: len,
            window: 65_535,
            ttl: 64,
            options_len: 12,
        };
        self.tracker.on_segment(&segment, &mut self.events);
    }

    /// A connection from the client of this number to the server; numbers 100 and 300 are next, and both have spoken.
    fn connect(&mut self, number: u32) -> Endpoint {
        let client = client(number);
        self.send(client, SERVER, SYN, 99, 0, 0);
        self.send(SERVER, client, SYN | ACK, 299, 100, 0);
        self.send(client, SERVER, ACK, 100, 300, 0);
        self.send(SERVER, client, ACK, 300, 100, 0);
        client
    }

    fn found(&self) -> Vec<HalfOpenCase> {
        let case = |event: &HandshakeEvent| {
            if let EventKind::HalfOpen { case, .. } = event.kind { Some(case) } else { None }
        };
        self.events.iter().filter_map(case).collect()
    }
}

const SYN: u8 = TcpFlags::SYN;
const ACK: u8 = TcpFlags::ACK;
const FIN: u8 = TcpFlags::FIN;
const RST: u8 = TcpFlags::RST;

#[test]
fn whoever_reset_a_connection_and_stays_away_has_not_reconnected() {
    for (wait, found) in [(1_000, 1), (60_000, 1), (70_000, 0), (65_536_000, 0)] {
        let mut world = World::new(EstablishedConfig::default());
        world.connect(0);
        world.wait(5000);
        world.send(client(0), SERVER, SYN, 5000, 0, 0);
        world.send(SERVER, client(0), ACK, 300, 100, 0);
        world.send(client(0), SERVER, RST, 100, 0, 0);
        assert!(world.table.established.has_reconnecting(world.now));
        world.wait(wait);
        assert_eq!(world.table.established.has_reconnecting(world.now), found == 1, "{wait} ms");
        world.send(client(0), SERVER, SYN, 5000, 0, 0);
        assert_eq!(world.found().len(), found, "{wait} ms");
    }
}

#[test]
fn a_blind_forger_finds_nothing() {
    let mut world = World::new(EstablishedConfig::default());
    let client = world.connect(1);
    world.wait(60_000);
    // He knows both ends, and forges whatever he likes of either, but for the numbers, of which he tries some near and far. (Who
    // also forges a whole new handshake is past what a tap can tell from a new connection.)
    let numbers = [0, 1, 98, 101, 299, 301, 1 << 16, 1 << 21, 1 << 31, u32::MAX];
    for seq in numbers {
        for ack in numbers {
            for flags in [ACK, FIN | ACK, RST | ACK, SYN] {
                world.send(SERVER, client, flags, seq, ack.wrapping_add(1 << 22), 10);
                world.send(client, SERVER, flags, seq.wrapping_add(1 << 22), ack, 10);
            }
            world.send(client, SERVER, RST, seq.wrapping_add(1 << 22), 0, 0);
            world.send(SERVER, client, RST, seq.wrapping_add(1 << 22), 0, 0);
            world.wait(300);
        }
    }
    assert_eq!(world.found(), []);
    assert_eq!(world.table.established.len(), 1, "nor does he blind us");
    // What happens to the connection is still seen.
    world.send(SERVER, client, ACK, 300, 100, 10);
    world.send(client, SERVER, RST, 100, 0, 0);
    assert_eq!(world.found(), [HalfOpenCase::ResetOnData]);
}

#[test]
fn suspects_are_listed_until_they_speak_or_their_other_end_gives_up() {
    let mut world = World::new(EstablishedConfig::default());
    let (first, second) = (world.connect(1), world.connect(2));
    let suspects = |world: &World| world.table.established.suspects.list(10);
    for gap in [0, 200, 400, 800, 1600, 3200, 6400, 12_800] {
        world.wait(gap);
        world.send(SERVER, first, ACK, 300, 100, 10);
        world.send(SERVER, second, ACK, 300, 100, 10);
    }
    assert_eq!(world.found(), [HalfOpenCase::Suspected; 2]);
    let listed = suspects(&world);
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|suspect| suspect.gone != SERVER && suspect.flow.resp == SERVER));
    assert_eq!(listed[0].last.since(listed[0].since), Duration::from_millis(25_400));
    world.send(first, SERVER, ACK, 100, 310, 0);
    assert_eq!(suspects(&world).iter().map(|suspect| suspect.gone).collect::<Vec<_>>(), [second]);
    world.wait(239_000);
    assert_eq!(world.table.established.suspects.len(), 1);
    world.wait(10_000);
    assert_eq!(world.table.established.suspects.len(), 0);
    assert_eq!(world.found().len(), 2);
}

#[test]
fn more_suspects_than_the_list_holds_are_counted_and_not_listed() {
    let mut world = World::new(EstablishedConfig::default());
    for number in 0..5000 {
        world.connect(number);
    }
    for gap in [0, 2000, 4000, 8000] {
        world.wait(gap);
        for number in 0..5000 {
            world.send(SERVER, client(number), ACK, 300, 100, 10);
        }
    }
    assert_eq!(world.found().len(), 5000);
    assert_eq!(world.table.established.suspects.len(), suspects::LIMIT);
    for number in 0..5000 {
        world.send(client(number), SERVER, ACK, 100, 310, 0);
    }
    assert_eq!(world.table.established.suspects.len(), 0);
}

/// Keepalives every 30 s, each answered, on a tap that misses one segment in ten: answers are missing four in a row now and then.
#[test]
fn what_a_tap_loses_makes_nobody_suspect() {
    for (one_in, silences) in [(10, 4), (3, 8)] {
        let mut world = World::new(EstablishedConfig::default());
        let mut drawn = 12_345_u64;
        let mut lost = || {
            drawn = drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (drawn >> 33).is_multiple_of(one_in)
        };
        let clients: Vec<_> = (0..100).map(|number| world.connect(number)).collect();
        let mut numbers = [100, 300];
        let mut silent = vec![0; clients.len()];
        let mut longest = 0;
        for _ in 0..250 {
            world.wait(10_000);
            let [up, down] = numbers;
            for &client in &clients {
                // A request and its answer, which acknowledges it, and is acknowledged.
                for (from, to, seq, ack, len) in [
                    (client, SERVER, up, down, 50),
                    (SERVER, client, down, up + 50, 20),
                    (client, SERVER, up + 50, down + 20, 0),
                ] {
                    if !lost() {
                        world.send(from, to, ACK, seq, ack, len);
                    }
                }
            }
            numbers = [up + 50, down + 20];
            let [up, down] = numbers;
            for _ in 0..4 {
                world.wait(30_000);
                for (&client, silent) in clients.iter().zip(&mut silent) {
                    if !lost() {
                        world.send(client, SERVER, ACK, up - 1, down, 0);
                    }
                    let missed = lost();
                    *silent = if missed { *silent + 1 } else { 0 };
                    longest = longest.max(*silent);
                    if !missed {
                        world.send(SERVER, client, ACK, down, up, 0);
                    }
                }
            }
        }
        assert!(longest >= silences, "only {longest} answers in a row were lost");
        assert_eq!(world.found(), [], "one in {one_in}");
        // Whoever is gone for good is found all the same, only later.
        let [up, down] = numbers;
        for _ in 0..14 {
            world.wait(30_000);
            world.send(clients[0], SERVER, ACK, up - 1, down, 0);
        }
        assert_eq!(world.found(), [HalfOpenCase::Suspected], "one in {one_in}");
    }
}

#[test]
fn a_first_probe_is_no_repetition_and_data_backs_off() {
    let gaps: [(&[u64], bool, usize); 6] = [
        (&[0, 75_000, 75_000], true, 0),
        (&[0, 75_000, 75_000, 75_000], true, 1),
        (&[0, 4_000, 4_000, 4_000, 4_000, 4_000], false, 0),
        (&[0, 3_000, 6_000], false, 0),
        (&[0, 3_000, 6_000, 12_000], false, 1),
        (&[0, 60_000, 120_000, 120_000], false, 1),
    ];
    for (gaps, probes, suspicions) in gaps {
        let mut world = World::new(EstablishedConfig::default());
        let client = world.connect(0);
        for &gap in gaps {
            world.wait(gap);
            match probes {
                true => world.send(client, SERVER, ACK, 99, 300, 0),
                false => world.send(client, SERVER, ACK, 100, 300, 10),
            }
        }
        assert_eq!(world.found().len(), suspicions, "{gaps:?}");
    }
}

#[test]
fn whoever_probes_for_longer_than_any_stack_is_answered_elsewhere() {
    let mut world = World::new(EstablishedConfig::default());
    let client = world.connect(0);
    let mut listed = Vec::new();
    for _ in 0..40 {
        world.wait(15_000);
        world.send(client, SERVER, ACK, 99, 300, 0);
        listed.push(world.table.established.suspects.len());
    }
    assert_eq!(world.found(), [HalfOpenCase::Suspected]);
    assert_eq!(listed.iter().sum::<usize>(), 13, "from the third repetition to the fifteenth: {listed:?}");
}

#[test]
fn a_server_that_never_took_the_connection_is_not_gone() {
    let mut world = World::new(EstablishedConfig::default());
    let client = client(1);
    world.send(client, SERVER, SYN, 99, 0, 0);
    world.send(SERVER, client, SYN | ACK, 299, 100, 0);
    world.send(client, SERVER, ACK, 100, 300, 0);
    world.send(client, SERVER, ACK, 100, 300, 10);
    // Its accept queue is full: it repeats its SYN-ACK (Linux, 1 s and doubled) while the client repeats its data.
    for (gap, by_server) in [
        (200, false),
        (400, false),
        (400, true),
        (400, false),
        (1600, false),
        (0, true),
        (3200, false),
        (800, true),
        (5600, false),
    ] {
        world.wait(gap);
        match by_server {
            true => world.send(SERVER, client, SYN | ACK, 299, 100, 0),
            false => world.send(client, SERVER, ACK, 100, 300, 10),
        }
    }
    world.send(SERVER, client, RST, 300, 0, 0);
    assert_eq!(world.found(), []);
}

#[test]
fn whose_segments_are_never_seen_is_not_silent() {
    // A tap of one direction: the client's requests, acknowledgements and keepalives.
    let mut world = World::new(EstablishedConfig::default());
    let client = client(1);
    world.send(client, SERVER, SYN, 99, 0, 0);
    world.send(client, SERVER, ACK, 100, 300, 0);
    world.send(client, SERVER, ACK, 100, 300, 50);
    world.wait(10);
    world.send(client, SERVER, ACK, 150, 5300, 0);
    assert_eq!((world.table.established.len(), world.found()), (1, vec![]));
    for _ in 0..20 {
        world.wait(75_000);
        world.send(client, SERVER, ACK, 149, 5300, 0);
    }
    assert_eq!(world.found(), []);
    // And what tells of answers that were not seen, where both directions are: ACKs that move on between repetitions.
    let client = world.connect(2);
    for step in 0..20 {
        world.wait(3_000);
        world.send(client, SERVER, ACK, 99, 300 + step, 0);
    }
    assert_eq!(world.found(), []);
}

#[test]
fn ipv6_connections_are_followed_as_well() {
    let end = |host, port| Endpoint::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host)), port);
    let (client, server) = (end(1, 4000), end(2, 80));
    let mut world = World::new(EstablishedConfig::default());
    for (case, isn) in [(HalfOpenCase::ResetOnData, 99), (HalfOpenCase::Reconnect, 5099)] {
        let next = isn + 1;
        world.send(client, server, SYN, isn, 0, 0);
        world.send(server, client, SYN | ACK, 299, next, 0);
        world.send(client, server, ACK, next, 300, 0);
        world.send(server, client, ACK, 300, next, 0);
        world.wait(1000);
        if case == HalfOpenCase::Reconnect {
            world.send(client, server, SYN, 7777, 0, 0);
        }
        world.send(server, client, ACK, 300, next, 10);
        world.send(client, server, RST, next, 0, 0);
        world.wait(1000);
        if case == HalfOpenCase::Reconnect {
            world.send(client, server, SYN, 7777, 0, 0);
        }
        world.wait(1000);
    }
    assert_eq!(world.found(), [HalfOpenCase::ResetOnData, HalfOpenCase::Reconnect]);
}

#[test]
fn reconnecting_is_counted_up_and_down() {
    let mut world = World::new(EstablishedConfig { memory: 128, ..EstablishedConfig::default() });
    let crash = |world: &mut World, number| {
        let client = world.connect(number);
        world.wait(1000);
        world.send(client, SERVER, SYN, 4000, 0, 0);
        world.send(SERVER, client, ACK, 300, 100, 0);
        world.send(client, SERVER, RST, 100, 0, 0);
        client
    };
    let client = crash(&mut world, 1);
    assert!(world.table.established.has_reconnecting(world.now));
    world.wait(1000);
    world.send(client, SERVER, SYN, 4000, 0, 0);
    assert!(!world.table.established.has_reconnecting(world.now));
    assert_eq!(world.found(), [HalfOpenCase::Reconnect]);
    // The SYN's copy was not seen, but the handshake it began is complete.
    let client = crash(&mut world, 2);
    world.send(SERVER, client, SYN | ACK, 8000, 4001, 0);
    world.send(client, SERVER, ACK, 4001, 8001, 0);
    assert_eq!(world.found(), [HalfOpenCase::Reconnect; 2]);
    assert!(!world.table.established.has_reconnecting(world.now));
    // Its place is needed by others.
    crash(&mut world, 3);
    for number in 4..10 {
        world.wait(1000);
        world.connect(number);
    }
    assert!(!world.table.established.has_reconnecting(world.now));
    let challenges =
        world.events.iter().filter(|event| event.kind == EventKind::Oddity(Oddity::ChallengeAck));
    assert_eq!(challenges.count(), 3);
}
