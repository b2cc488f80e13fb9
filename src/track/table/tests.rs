//! What the table says it holds, against how hashbrown keeps entries.

use super::super::handshake::Attempt;
use super::super::waiting::Ticket;
use super::*;
use crate::track::event::HandshakeState;
use std::net::{IpAddr, Ipv4Addr};

const NOW: Timestamp = Timestamp::EPOCH;

/// The flow of a number, and an attempt on it.
fn numbered(number: u32) -> (TupleV4, Endpoint, Attempt) {
    let end = |addr: u32, port| Endpoint { addr: IpAddr::V4(Ipv4Addr::from_bits(addr)), port };
    let (source, server) = (end(0xC612_0000 + number, 40_000), end(0xC000_020A, 443));
    let (AnyTuple::V4(tuple), originator_is_low) = super::super::flow::tuple(source, server) else {
        panic!("both are IPv4")
    };
    let attempt = Attempt {
        opened_at: NOW,
        isn: SeqNumber(number),
        responder_isn: SeqNumber(0),
        syn_payload: 0,
        state: HandshakeState::SynSent,
        syn_copies: 0,
        syn_ack_copies: 0,
        level: 0,
        originator_is_low,
        overdue: false,
        early_ack: false,
        contested: false,
        crossed: false,
        spoken: false,
        ticket: Ticket::NONE,
    };
    (tuple, server, attempt)
}

fn enter(table: &HalfOpenTable, number: u32) {
    let (tuple, server, attempt) = numbered(number);
    let (spot, at) = (table.spot(tuple), table.shares.places(server));
    table.visit_or_enter(&spot, Place::First, NOW, at, |_| panic!("{number} twice"), || (Some(attempt), ()));
}

fn remove(table: &HalfOpenTable, number: u32) {
    let spot = table.spot(numbered(number).0);
    assert!(table.visit(&spot, Place::First, NOW, |_| (Fate::Remove, ())).is_some(), "{number} is missing");
}

/// A map never gives buckets back, and counts one whose entry was removed as taken until it is swept; the memory is held all the
/// same. Reckoned by what the maps could still take, the figure would fall here.
#[test]
fn memory_is_that_of_the_buckets_held_also_where_entries_were_removed() {
    // Sixteen shards, the fewest; some 1,700 entries in each, which 2,048 buckets take and no fewer.
    const ENTRIES: u32 = 16 * 1_700;
    let config = TableConfig { entries: 1024, ..TableConfig::default() };
    let table = HalfOpenTable::new(&config, 1);
    let empty = table.bytes();
    (0..ENTRIES).for_each(|number| enter(&table, number));
    let full = table.bytes();
    // Entry and control byte, and at most seven of eight buckets taken; twice that before a map has grown.
    let least = ENTRIES as usize * 33 * 8 / 7;
    assert!((least..=least * 5 / 2).contains(&(full - empty)), "{} bytes, {least} at least", full - empty);

    for number in 0..ENTRIES {
        remove(&table, number);
        if number % 100 == 0 {
            assert_eq!(table.bytes(), full, "after {number} were removed");
        }
    }
    assert!(table.is_empty());
    assert_eq!(table.bytes(), full, "what is held for those that come next is held");
}

/// Entries come and go in a shard that stays two thirds full, until every bucket has been used: left to itself, its map would double.
#[test]
fn a_map_that_is_worn_out_does_not_grow() {
    let config = TableConfig { entries: 1024, ..TableConfig::default() };
    let mut table = HalfOpenTable::new(&config, 1);
    // Of what 128 buckets can take, 112; `room` would give it twice as many.
    const PART: usize = 84;
    table.room.buckets = 128;
    let map = &table.v4.first;
    let shard = |number: &u32| map.determine_shard(table.spot(numbered(*number).0).hash as usize) == 0;
    let numbers: Vec<u32> = (0..).filter(shard).take(20_000).collect();
    numbers[..PART].iter().for_each(|number| enter(&table, *number));
    let mut worn = 0;
    for (old, new) in numbers.iter().zip(&numbers[PART..]) {
        remove(&table, *old);
        let shard = map.shards()[0].read();
        worn += usize::from(shard.len() == shard.capacity());
        drop(shard);
        enter(&table, *new);
    }
    assert!(worn > 20, "{worn} times worn out");
    assert_eq!((map.shards()[0].read().buckets(), table.len()), (128, PART));
    numbers[20_000 - PART..].iter().for_each(|number| remove(&table, *number));
    assert!(table.is_empty(), "nothing was lost");
}

#[test]
fn the_room_reckons_with_the_entries_as_they_are() {
    let bucket = size_of::<(TupleV4, Stored)>() + 1 + size_of::<(TupleV6, Stored)>() + 1;
    let room = Room::new(1024);
    let buckets = room.shards * room.buckets + CROSSED_SHARDS * room.crossed_buckets;
    assert_eq!(room.of_maps(), (buckets * bucket) as u64);
}
