//! Scans, charged to whom they come from.

use super::*;

/// A random address of one /64, which somebody has for himself.
fn neighbour(traffic: &mut Traffic) -> Endpoint {
    let low = (traffic.unit() * u64::MAX as f64) as u128;
    Endpoint::new(IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8_0001_0002 << 64 | low)), 40_000)
}

fn host(n: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8_00ff_0001 << 64 | u128::from(n)))
}

#[test]
fn a_sweep_from_random_addresses_of_one_subscriber_is_a_scan() {
    let fates = [Fate::Refused, Fate::Unanswered { repeats: false }, Fate::Abandoned { repeats: true }];
    for (rate, each, fate) in [(5.0, 1), (50.0, 3), (2000.0, 1)]
        .into_iter()
        .flat_map(|(rate, each)| fates.map(|fate| (rate, each, fate)))
    {
        let mut traffic = Traffic::new(71);
        traffic.peace(Endpoint::new(host(1), 443), 0.0, 200.0, 5.0, 0.0);
        let mut source = neighbour(&mut traffic);
        for n in 0..256_u16 {
            if n % each == 0 {
                source = neighbour(&mut traffic);
            }
            traffic.attempt(60.0 + f64::from(n) / rate, source, Endpoint::new(host(n), 22), fate);
        }
        let run = traffic.run(&defaults(), &[], 200.0, 2);
        run.only(IncidentKind::HostScan, "2001:db8:1:2::/64");
        let incidents = run.detector.incidents();
        assert_eq!(incidents.len(), 1, "{:#?}", run.brief());
        assert_eq!(incidents[0].scope, super::super::incident::Scope::Prefix);
        assert!(incidents[0].ended_at.is_some(), "{:#?}", run.brief());
    }
    // One host's ports, each from another address.
    let mut traffic = Traffic::new(72);
    for n in 0..200_u16 {
        let source = neighbour(&mut traffic);
        traffic.attempt(60.0 + f64::from(n) / 10.0, source, Endpoint::new(host(1), 1 + n), Fate::Refused);
    }
    traffic.run(&defaults(), &[], 120.0, 1).only(IncidentKind::PortScan, "2001:db8:1:2::/64");
}

#[test]
fn one_scanner_among_its_neighbours_is_named_alone() {
    let mut traffic = Traffic::new(73);
    let scanner = neighbour(&mut traffic);
    for n in 0..256_u16 {
        traffic.attempt(60.0 + f64::from(n) / 5.0, scanner, Endpoint::new(host(n), 22), Fate::Refused);
        if n % 4 == 0 {
            let source = neighbour(&mut traffic);
            traffic.attempt(
                60.0 + f64::from(n) / 5.0,
                source,
                Endpoint::new(host(n % 16), 443),
                Fate::Refused,
            );
        }
    }
    let run = traffic.run(&defaults(), &[], 200.0, 1);
    run.only(IncidentKind::HostScan, &scanner.addr.to_string());
}

#[test]
fn neighbours_that_each_fail_at_dead_servers_are_no_scan() {
    for (dead, clients) in [(1, 400), (20, 400)] {
        let mut traffic = Traffic::new(74);
        for n in 0..clients {
            let (source, t) = (neighbour(&mut traffic), 10.0 + f64::from(n) / 7.0);
            let target = Endpoint::new(host(n as u16 % dead), 443);
            traffic.attempt(t, source, target, Fate::Unanswered { repeats: true });
        }
        traffic.run(&defaults(), &[], 120.0, 1).nothing();
    }
}

#[test]
fn a_scanner_that_floods_one_of_its_targets_hides_nothing() {
    let mut traffic = Traffic::new(76);
    let scanner = v4("203.0.113.7");
    traffic.peace(server(1), 0.0, 120.0, 20.0, 0.2);
    for n in 0..600_u16 {
        let target = Endpoint::new(server(1).addr, 1000 + n);
        traffic.attempt(60.0 + f64::from(n) / 10.0, Endpoint::new(scanner, 40_000), target, Fate::Refused);
    }
    // With one source port: each SYN takes the place of the one before.
    for n in 0..9000 {
        let t = 80.0 + f64::from(n) / 300.0;
        traffic.attempt(t, Endpoint::new(scanner, 4000), server(1), Fate::Superseded(1.0 / 300.0));
    }
    let run = traffic.run(&defaults(), &[], 120.0, 1);
    let expected = [
        (IncidentKind::DirectFlood, "198.51.100.1:443".to_owned()),
        (IncidentKind::PortScan, scanner.to_string()),
    ];
    assert_eq!(run.kinds(), BTreeSet::from(expected), "{:#?}", run.brief());
}

#[test]
fn a_network_of_clients_some_of_which_fail_is_no_scan() {
    // A hundred servers, and one handshake in five fails, as on the open Internet; all clients are of one /64.
    let mut traffic = Traffic::new(75);
    traffic.arrivals(0.0, 300.0, 50.0, |traffic, t| {
        let (source, n) = (neighbour(traffic), (traffic.unit() * 100.0) as u16);
        let fate = match traffic.unit() {
            d if d < 0.8 => Fate::Completes(0.05),
            d if d < 0.9 => Fate::Unanswered { repeats: true },
            _ => Fate::Refused,
        };
        traffic.attempt(t, source, Endpoint::new(host(n), 443), fate);
    });
    traffic.run(&defaults(), &[], 300.0, 2).nothing();
}
