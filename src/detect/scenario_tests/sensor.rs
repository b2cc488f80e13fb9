//! What is the sensor's own: its table, its threads, its memory, its configuration.

use super::*;

#[test]
fn a_saturated_table_does_not_lower_the_alarm() {
    let mut traffic = Traffic::new(22);
    traffic.peace(server(1), 0.0, 90.0, 50.0, 0.5);
    // One in a hundred SYNs of the flood is tracked, the rest are only counted.
    traffic.flood(server(1), 60.0, 90.0, 10.0);
    traffic.arrivals(60.0, 90.0, 990.0, |traffic, t| {
        let flow = Flow { orig: traffic.forged(), resp: server(1) };
        traffic.say(t, flow, EventKind::Untracked);
    });
    let run = traffic.run(&defaults(), &[], 90.0, 1);
    run.only(IncidentKind::SpoofedFlood, "198.51.100.1:443");
    assert!(run.delay(IncidentKind::SpoofedFlood, 60.0) <= GRACE + 2.0);
    assert_eq!(run.detector.incidents()[0].severity, Severity::Critical);
}

#[test]
fn sampled_attempts_count_for_those_they_stand_for() {
    let mut traffic = Traffic::new(23);
    traffic.flood(server(1), 1.0, 11.0, 20.0);
    traffic.events.iter_mut().for_each(|event| event.weight = 50);
    let run = traffic.run(&defaults(), &[], 14.0, 1);
    run.only(IncidentKind::SpoofedFlood, "198.51.100.1:443");
    let view = &run.detector.servers(10)[0];
    assert!((view.unresolved as f64 / (view.attempts as f64 * 50.0) - 1.0).abs() < 0.1, "{view:?}");
}

#[test]
fn one_thread_and_three_say_the_same() {
    let build = || {
        let mut traffic = Traffic::new(24);
        for n in 1..20 {
            traffic.peace(server(n), 0.0, 120.0, 10.0, 0.3);
        }
        traffic.flood(server(3), 40.0, 60.0, 400.0);
        for n in 0..300_u16 {
            let target = Endpoint::new(v4("198.51.100.99"), n + 1);
            let scanner = Endpoint::new(v4("203.0.113.7"), 40_000);
            traffic.attempt(70.0 + f64::from(n) / 50.0, scanner, target, Fate::Refused);
        }
        traffic
    };
    let one = build().run(&defaults(), &[], 120.0, 1);
    let three = build().run(&defaults(), &[], 120.0, 3);
    let again = build().run(&defaults(), &[], 120.0, 1);
    assert!(one.journal.len() >= 4, "{:#?}", one.brief());
    assert_eq!(one.journal, three.journal);
    assert_eq!(one.journal, again.journal);
    assert_eq!(one.detector.servers(50), three.detector.servers(50));
}

#[test]
fn what_is_allowed_or_only_observed_is_counted_and_not_raised() {
    let flood = |config: &DetectConfig, servers: &[ServerConfig]| {
        let mut traffic = Traffic::new(26);
        traffic.flood(server(1), 1.0, 11.0, 200.0);
        traffic.run(config, servers, 14.0, 1)
    };
    let allowance = |side, prefix: &str, len| DetectConfig {
        allow: vec![Allowance {
            side,
            prefix: Prefix::new(prefix.parse().unwrap(), len),
            port: None,
            reason: "our own load test".to_owned(),
        }],
        ..DetectConfig::default()
    };
    for config in [allowance(Side::Source, "198.18.0.0", 15), allowance(Side::Server, "198.51.100.1", 32)] {
        let run = flood(&config, &[]);
        run.nothing();
        let view = &run.detector.servers(5)[0];
        assert!(view.attempts > 1500, "{view:?}");
        assert!(view.evidence.iter().any(|e| e.text.contains("our own load test")), "{view:?}");
    }
    let mut rule = Rule::new(Prefix::new("198.51.100.0".parse().unwrap(), 24), Some(443));
    rule.observe = Some(true);
    flood(&DetectConfig { rules: vec![rule.clone()], ..defaults() }, &[])
        .kinds()
        .iter()
        .for_each(|(_, name)| assert_ne!(name, "198.51.100.1:443"));
    rule.observe = None;
    rule.floor = Some(5000);
    assert!(
        flood(&DetectConfig { rules: vec![rule], ..defaults() }, &[])
            .kinds()
            .iter()
            .all(|(_, name)| name != "198.51.100.1:443")
    );
    flood(&DetectConfig { observe: true, ..defaults() }, &[]).nothing();
}

#[test]
fn configured_servers_come_first_and_other_has_the_rest() {
    let named = |name: &str, address: &str, prefix_len, port| ServerConfig {
        name: Some(name.to_owned()),
        address: address.parse().unwrap(),
        prefix_len,
        port,
        backlog: Some(511),
        profile: None,
    };
    let servers = [
        named("idle", "192.0.2.1", 32, Some(80)),
        named("shop", "198.51.100.1", 32, Some(443)),
        named("rack", "198.51.100.0", 24, None),
    ];
    let mut traffic = Traffic::new(27);
    traffic.peace(server(1), 0.0, 20.0, 30.0, 0.0);
    traffic.peace(server(2), 0.0, 20.0, 20.0, 0.0);
    traffic.peace(Endpoint::new(v4("192.0.2.7"), 80), 0.0, 20.0, 10.0, 0.0);
    traffic.peace(Endpoint::new(v4("192.0.2.8"), 80), 0.0, 20.0, 5.0, 0.0);
    let run = traffic.run(&defaults(), &servers, 20.0, 1);
    let views = run.detector.servers(1);
    let names: Vec<&str> = views.iter().map(|view| view.server.as_str()).collect();
    assert_eq!(names, ["idle", "shop", "rack", "192.0.2.7:80", "other"]);
    let opened = traffic.events.iter().filter(|e| matches!(e.kind, EventKind::Opened) && e.ts < at(20.0));
    assert_eq!(views.iter().map(|view| view.attempts).sum::<u64>(), opened.count() as u64);
    assert_eq!(views[1].endpoint, Some(server(1)));
    assert_eq!(views[1].backlog_limit, Some(512));
}

#[test]
fn a_busy_server_far_from_the_sensor_is_in_no_trouble() {
    // Two thousand handshakes a second, 0.2 s to the server and as much to the client: once told to send cookies.
    let Endpoint { addr: address, port } = server(1);
    let (name, port, backlog) = (None, Some(port), Some(4096));
    let servers = [ServerConfig { name, address, prefix_len: 32, port, backlog, profile: None }];
    let mut traffic = Traffic::new(31);
    traffic.arrivals(0.0, 20.0, 2000.0, |traffic, t| {
        let client = traffic.client(1 << 20);
        traffic.attempt(t, client, server(1), Fate::Completes(0.4));
    });
    for servers in [&servers[..], &[]] {
        let run = traffic.run(&defaults(), servers, 20.0, 2);
        run.nothing();
        let view = run.detector.servers(1).swap_remove(0);
        assert!(!view.backlog_limit_estimated, "a size was learned: {:?}", view.backlog_limit);
        if view.configured {
            assert_eq!(view.mode.as_label(), "queue");
            // Little's law: 2,000 x 0.4 s, as many as arrivals at random vary.
            assert!(
                (view.backlog_occupancy - 800.0).abs() < 4.0 * 800_f64.sqrt(),
                "{}",
                view.backlog_occupancy
            );
        }
    }
}

#[test]
fn the_grace_age_follows_the_handshakes_of_the_server() {
    let mut traffic = Traffic::new(28);
    traffic.arrivals(0.0, 60.0, 20.0, |traffic, t| {
        let (client, dice) = (traffic.client(50), traffic.unit());
        traffic.attempt(t, client, server(1), Fate::Completes(0.02 + 0.05 * dice));
        traffic.attempt(t, client, server(2), Fate::Completes(0.3 + 0.3 * dice));
    });
    let mut run = traffic.run(&defaults(), &[], 60.0, 1);
    let mut told = Vec::new();
    run.detector.grace_updates(&mut |at, grace| told.push((at, grace)));
    assert_eq!(told.len(), 2);
    assert_eq!(told[0], (server(1), Duration::from_millis(250)));
    assert_eq!(told[1], (server(2), Duration::from_micros(1_060_500)));
    told.clear();
    run.detector.grace_updates(&mut |at, grace| told.push((at, grace)));
    assert!(told.is_empty());
}

#[test]
fn a_clock_that_jumps_by_years_costs_nothing() {
    let mut traffic = Traffic::new(29);
    traffic.flood(server(1), 1.0, 5.0, 200.0);
    let mut run = traffic.run(&defaults(), &[], 8.0, 1);
    let later = at(8.0 + 3e8);
    let mut ended = 0;
    run.detector.evaluate(later, CaptureLoss::default(), &mut |entry| {
        ended += usize::from(entry.event == Change::Ended);
    });
    assert_eq!(ended, 1);
    run.detector.evaluate(later.plus(Duration::from_secs(1)), CaptureLoss::default(), &mut |_| {});
}

/// Bytes of the detector and of one thread with these settings, from the sizes of what they are made of.
fn bytes(config: &DetectConfig) -> (usize, usize) {
    use crate::detect::heavy::{Entry, WAYS};
    use crate::detect::ledger::DETECTOR_SKETCHES;
    use crate::detect::observe::{FOLD_SLOTS, PROBE_SETS, STRAY_SETS, THREAD_SKETCHES, UNKNOWN_SLOTS};
    use crate::detect::probe::{Probe, Stray};
    use crate::detect::scans::Scans;
    use crate::detect::slots::Slots;
    use crate::detect::sources::SourceSketch;
    use crate::detect::watch::Watch;
    let sketches = |n: usize| n * (size_of::<SourceSketch>() + 16);
    let thread = Slots::bytes(config.max_servers + UNKNOWN_SLOTS)
        + Slots::bytes(FOLD_SLOTS)
        + sketches(THREAD_SKETCHES)
        + PROBE_SETS * WAYS * (size_of::<Entry<Probe>>() + 8)
        + STRAY_SETS * WAYS * (size_of::<Entry<Stray>>() + 8)
        + crate::detect::queues::Notes::bytes()
        + crate::detect::served::Noted::bytes()
        + crate::detect::subnets::Completions::bytes();
    // A map entry takes a key, a number and slack.
    let keys = config.max_servers + config.max_hosts + config.max_prefixes + 1;
    let watches =
        keys.next_multiple_of(crate::detect::ledger::GROWTH) * size_of::<Option<Watch>>() + keys * 96;
    // An incident with ten signals of 150 bytes of text.
    let incident = size_of::<crate::detect::incident::Incident>()
        + 10 * (size_of::<crate::detect::incident::Evidence>() + 150);
    let incidents = (config.max_incidents + 3 * crate::detect::episode::MAX_RUNNING) * incident;
    let detector = Slots::bytes(crate::detect::PENDING_SLOTS)
        + Slots::bytes(FOLD_SLOTS)
        + sketches(DETECTOR_SKETCHES)
        + Scans::bytes()
        + watches
        + incidents
        + crate::detect::queues::Queues::bytes()
        + crate::detect::served::Served::bytes();
    (detector, thread)
}

#[test]
fn memory_is_bounded_by_configuration() {
    let (detector, thread) = bytes(&defaults());
    println!("detector {detector} bytes, each packet thread {thread} bytes");
    assert!(detector + 4 * thread <= 64 << 20, "detector {detector}, thread {thread}");
}

#[test]
fn a_hundred_thousand_random_servers_find_no_more_room_than_there_is() {
    // The full ten million is the same loop, a hundred times: nothing here grows after the caps are reached.
    let config = DetectConfig { max_servers: 256, max_hosts: 256, max_prefixes: 128, ..defaults() };
    let mut traffic = Traffic::new(30);
    let (mut observations, mut detector) =
        (Observations::new(&config, &[], 7), Detector::new(&config, &[], 7));
    let mut attempts = 0_u64;
    for bin in 0..40 {
        for _ in 0..2500 {
            let resp = Endpoint::new(
                IpAddr::V4(Ipv4Addr::from_bits((traffic.unit() * f64::from(u32::MAX)) as u32)),
                (traffic.unit() * 65_535.0) as u16,
            );
            let orig = Endpoint::new(IpAddr::V4(Ipv4Addr::from_bits((traffic.unit() * 4e9) as u32)), 1);
            let fate = if traffic.unit() < 0.5 { Fate::Reset } else { Fate::Unanswered { repeats: false } };
            traffic.attempt(f64::from(bin) / 2.0, orig, resp, fate);
            attempts += 1;
        }
        for event in traffic.events.drain(..) {
            observations.on_event(&event);
        }
        detector.absorb(&mut observations);
        detector.evaluate(at(f64::from(bin + 1) / 2.0), CaptureLoss::default(), &mut |_| {});
    }
    let servers = detector.court.ledger.server_count();
    let watches = detector.court.ledger.iter().count();
    assert!(servers <= 256 && watches <= 256 + 256 + 128 + 1, "{servers} of {watches}");
    assert!(detector.folded().1 > 0);
    let views = detector.servers(10);
    assert_eq!(views.iter().map(|view| view.attempts).sum::<u64>(), attempts);
    assert!(detector.incidents().len() <= 256 + 512);
}
