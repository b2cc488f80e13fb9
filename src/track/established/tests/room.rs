//! How many connections there is room for, and who makes room.

use super::*;

#[test]
fn an_ipv4_connection_takes_at_most_48_bytes() {
    assert_eq!((size_of::<Line>(), align_of::<Line>()), (128, 128), "two lines, fetched together");
    const { assert!(size_of::<Line>() <= 48 * WAYS) };
    let config = EstablishedConfig::default();
    let established = Established::new(&config, RandomState::with_seeds(1, 2, 3, 4));
    assert_eq!(established.limit(), 196_608, "what the configuration and its example say");
    // With the bits and the suspects, all that is ever resident.
    assert!(established.bytes() <= 48 * established.limit(), "{}", established.bytes());
    assert!(established.bytes() - established.suspects.bytes() <= config.memory + config.memory / 100);
}

#[test]
fn whoever_is_silent_longest_makes_room_and_is_counted() {
    let mut world = World::new(EstablishedConfig { memory: 128, ..EstablishedConfig::default() });
    for number in 0..5 {
        world.connect(number);
        world.wait(1000);
    }
    let established = &world.table.established;
    assert_eq!((established.len(), established.limit(), established.evicted()), (3, 3, 2));
    // The first two are forgotten, the others are not: the server's data meets a host that knows nothing.
    for number in 0..5 {
        world.send(SERVER, client(number), ACK, 300, 100, 10);
        world.send(client(number), SERVER, RST, 100, 0, 0);
    }
    assert_eq!(world.found(), [HalfOpenCase::ResetOnData; 3]);
    assert_eq!(world.table.established.len(), 0);
}

#[test]
fn handshakes_of_one_direction_displace_nobody() {
    let mut world = World::new(EstablishedConfig { memory: 4 * 128, ..EstablishedConfig::default() });
    let mut followed = 0;
    for number in 0..4 {
        world.connect(number);
        followed += 1;
    }
    let kept = world.table.established.len();
    // SYN and ACK, both forged, to addresses where nobody is: with no SYN-ACK ever seen of those, each is a handshake to the ledger.
    for number in 0..2000 {
        let nobody = Endpoint::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)), 1000 + number as u16);
        world.wait(10);
        world.send(client(70_000 + number), nobody, SYN, 77, 0, 0);
        world.send(client(70_000 + number), nobody, ACK, 78, 99, 0);
    }
    let established = &world.table.established;
    assert_eq!((kept, established.evicted()), (followed, 0));
    assert_eq!(established.len(), established.limit(), "they may have what is free");
    for number in 0..4 {
        world.send(SERVER, client(number), ACK, 300, 100, 10);
        world.send(client(number), SERVER, RST, 100, 0, 0);
    }
    assert_eq!(world.found(), [HalfOpenCase::ResetOnData; 4]);
    // And make room for whoever comes with both.
    for number in 10..14 {
        world.connect(number);
        world.send(SERVER, client(number), ACK, 300, 100, 10);
        world.send(client(number), SERVER, RST, 100, 0, 0);
    }
    assert_eq!(world.found().len(), 8);
}

#[test]
fn whoever_was_never_used_makes_room_first() {
    let mut world = World::new(EstablishedConfig { memory: 128, ..EstablishedConfig::default() });
    world.connect(0);
    world.wait(1000);
    for number in 1..50 {
        let client = client(number);
        world.send(client, SERVER, SYN, 99, 0, 0);
        world.send(SERVER, client, SYN | ACK, 299, 100, 0);
        world.send(client, SERVER, ACK, 100, 300, 0);
        world.wait(10);
    }
    world.send(SERVER, client(0), ACK, 300, 100, 10);
    world.send(client(0), SERVER, RST, 100, 0, 0);
    assert_eq!(
        world.found(),
        [HalfOpenCase::ResetOnData],
        "a crowd that only shook hands did not displace it"
    );
}

#[test]
fn one_in_so_many_is_followed() {
    let mut world = World::new(EstablishedConfig { sample: 10, ..EstablishedConfig::default() });
    for number in 0..20_000 {
        world.connect(number);
    }
    let followed = world.table.established.len();
    assert!((1800..2200).contains(&followed), "{followed} of 20,000");
}

#[test]
fn off_follows_nothing_and_takes_nothing() {
    let mut world = World::new(EstablishedConfig { memory: 0, ..EstablishedConfig::default() });
    let client = world.connect(1);
    world.send(SERVER, client, ACK, 300, 100, 10);
    world.send(client, SERVER, RST, 100, 0, 0);
    assert_eq!(world.found(), []);
    assert_eq!((world.table.established.limit(), world.table.established.bytes()), (0, 0));
}

#[test]
fn a_flood_of_syns_takes_no_place() {
    let mut world = World::new(EstablishedConfig::default());
    for number in 0..20_000 {
        world.send(client(number), SERVER, SYN, number, 0, 0);
    }
    let established = &world.table.established;
    assert_eq!(established.len(), 0);
    assert!(established.used.iter().all(|bits| bits.load(Ordering::Relaxed) == 0), "no set was visited");
}

#[test]
fn tuples_spread_over_all_sets() {
    let hasher = RandomState::with_seeds(1, 2, 3, 4);
    let config = EstablishedConfig { memory: 300 * 128, ..EstablishedConfig::default() };
    let established = Established::new(&config, hasher.clone());
    let mut sets = vec![0u32; 300];
    for number in 0..30_000 {
        sets[established.place(hasher.hash_one(number)).unwrap().set] += 1;
    }
    assert!(sets.iter().all(|&count| (50..200).contains(&count)), "{sets:?}");
}
