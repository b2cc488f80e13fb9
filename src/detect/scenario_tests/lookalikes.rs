//! What looks like a flood and is none, and what is something else.

use super::*;

#[test]
fn a_flash_crowd_is_no_flood() {
    for seed in 0..4 {
        let mut traffic = Traffic::new(seed);
        traffic.peace(server(1), 0.0, 300.0, 50.0, 0.5);
        traffic.arrivals(150.0, 240.0, 950.0, |traffic, t| {
            let (client, dice) = (traffic.client(200_000), traffic.unit());
            let fate = match dice {
                d if d < 0.80 => Fate::Completes(0.05),
                d if d < 0.92 => Fate::SecondTry,
                d if d < 0.99 => Fate::ThirdTry,
                _ => Fate::Unanswered { repeats: true },
            };
            traffic.attempt(t, client, server(1), fate);
        });
        let run = traffic.run(&defaults(), &[], 300.0, 1);
        run.no_flood();
        assert!(
            run.journal.iter().all(|entry| entry.incident.severity == Severity::Info),
            "{:#?}",
            run.brief()
        );
    }
}

#[test]
fn an_outage_is_no_flood_and_is_found_within_five_seconds() {
    for (rate, refuses) in [(100.0, false), (10.0, false), (100.0, true), (10.0, true)] {
        let mut traffic = Traffic::new(8);
        traffic.peace(server(1), 0.0, 120.0, rate, 0.02 * rate);
        traffic.arrivals(120.0, 180.0, rate * 1.02, |traffic, t| {
            let client = traffic.client(500);
            let fate = if refuses { Fate::Refused } else { Fate::Unanswered { repeats: true } };
            traffic.attempt(t, client, server(1), fate);
        });
        traffic.peace(server(1), 180.0, 240.0, rate, 0.02 * rate);
        // A server that is gone does not repeat its SYN-ACKs of before.
        let gone = at(120.0)..at(180.0);
        let repeats = |event: &HandshakeEvent| matches!(event.kind, EventKind::SynAckRetransmitted { .. });
        traffic.events.retain(|event| !(repeats(event) && gone.contains(&event.ts)));
        let run = traffic.run(&defaults(), &[], 240.0, 1);
        run.only(IncidentKind::Outage, "198.51.100.1:443");
        let delay = run.delay(IncidentKind::Outage, 120.0);
        assert!(delay <= 5.0, "{rate}/s, refuses {refuses}: {delay}");
        let incident = &run.detector.incidents()[0];
        assert!(incident.ended_at.is_some(), "{incident:?}");
    }
}

#[test]
fn callers_of_a_dead_server_are_no_flood() {
    let mut traffic = Traffic::new(9);
    traffic.arrivals(0.0, 300.0, 2.0, |traffic, t| {
        let client = traffic.client(30);
        traffic.attempt(t, client, server(1), Fate::Unanswered { repeats: true });
    });
    traffic.run(&defaults(), &[], 300.0, 1).no_flood();
}

#[test]
fn scans_are_charged_to_the_source() {
    let scanner = v4("203.0.113.7");
    let fates =
        [Fate::Refused, Fate::Unanswered { repeats: false }, Fate::Reset, Fate::Abandoned { repeats: true }];
    for (rate, fate) in [2.0, 50.0, 2000.0, 20_000.0].into_iter().flat_map(|r| fates.map(|f| (r, f))) {
        let mut traffic = Traffic::new(10);
        traffic.peace(server(1), 0.0, 600.0, 5.0, 0.0);
        for n in 0..1000_u16 {
            let target = Endpoint::new(v4("198.51.100.77"), n + 1);
            traffic.attempt(60.0 + f64::from(n) / rate, Endpoint::new(scanner, 40_000), target, fate);
        }
        let run = traffic.run(&defaults(), &[], 600.0, 1);
        run.only(IncidentKind::PortScan, "203.0.113.7");

        let mut traffic = Traffic::new(11);
        for n in 0..256_u16 {
            let target = Endpoint::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, n as u8)), 22);
            for again in 0..2 {
                let t = 60.0 + f64::from(n) / rate + f64::from(again);
                traffic.attempt(t, Endpoint::new(scanner, 40_000 + again), target, fate);
            }
        }
        let run = traffic.run(&defaults(), &[], 400.0, 1);
        run.only(IncidentKind::HostScan, "203.0.113.7");
    }
}

/// Where a capture ends, SYNs without an answer are their source's, and nobody else's.
#[test]
fn what_a_capture_leaves_unfinished_is_charged_to_the_source() {
    let unfinished = |hosts: u8, config: &DetectConfig| {
        let mut traffic = Traffic::new(14);
        for n in 0..hosts {
            let resp = Endpoint::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, n)), 443);
            let flow = Flow { orig: Endpoint::new(v4("203.0.113.7"), 40_000), resp };
            traffic.say(10.0, flow, EventKind::Opened);
            traffic.say(11.0, flow, EventKind::Unfinished);
        }
        traffic.run(config, &[], 12.0, 1)
    };
    unfinished(200, &defaults()).only(IncidentKind::HostScan, "203.0.113.7");
    unfinished(20, &defaults()).nothing();
    let prefix = Prefix::new(v4("203.0.113.0"), 24);
    let allow = vec![Allowance { side: Side::Source, prefix, port: None, reason: String::new() }];
    unfinished(200, &DetectConfig { allow, ..defaults() }).nothing();
    // Many clients of one server, each with one: of that server nothing is said.
    let mut traffic = Traffic::new(15);
    for n in 0..2000_u16 {
        let orig = Endpoint::new(traffic.forged().addr, 1024 + n);
        let flow = Flow { orig, resp: server(1) };
        traffic.say(10.0, flow, EventKind::Opened);
        traffic.say(11.0, flow, EventKind::Unfinished);
    }
    traffic.run(&defaults(), &[], 12.0, 1).nothing();
}

#[test]
fn reflection_through_our_servers_is_charged_to_the_victim() {
    let mut traffic = Traffic::new(16);
    traffic.arrivals(10.0, 60.0, 200.0, |traffic, t| {
        let host = 1 + (traffic.unit() * 40.0) as u8;
        let port = 1024 + (traffic.unit() * 60_000.0) as u16;
        let victim = Endpoint::new(v4("203.0.113.200"), port);
        traffic.attempt(t, victim, server(host), Fate::Abandoned { repeats: true });
    });
    let run = traffic.run(&defaults(), &[], 60.0, 1);
    assert!(
        run.kinds().contains(&(IncidentKind::Reflection, "203.0.113.200".to_owned())),
        "{:#?}",
        run.brief()
    );
    assert!(run.kinds().iter().all(|(kind, _)| *kind != IncidentKind::SpoofedFlood), "{:#?}", run.brief());
}

#[test]
fn backscatter_names_the_remote_victim() {
    for reset in [false, true] {
        let mut traffic = Traffic::new(17);
        traffic.peace(server(1), 0.0, 120.0, 20.0, 0.1);
        traffic.arrivals(20.0, 120.0, 3.0, |traffic, t| {
            let ours =
                Endpoint::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, (traffic.unit() * 255.0) as u8)), 1234);
            let flow = Flow { orig: ours, resp: Endpoint::new(v4("203.0.113.80"), 80) };
            let kind = if reset { EventKind::UnsolicitedRst } else { EventKind::UnsolicitedSynAck };
            traffic.say(t, flow, kind);
        });
        traffic.run(&defaults(), &[], 120.0, 1).only(IncidentKind::Backscatter, "203.0.113.80");
    }
}

#[test]
fn a_tap_that_sees_only_answers_raises_nothing() {
    let mut traffic = Traffic::new(18);
    traffic.arrivals(0.0, 300.0, 200.0, |traffic, t| {
        let client = traffic.client(5000);
        let flow = Flow { orig: client, resp: server((traffic.unit() * 5.0) as u8) };
        traffic.say(t, flow, EventKind::UnsolicitedSynAck);
    });
    traffic.run(&defaults(), &[], 300.0, 1).nothing();
}

#[test]
fn a_full_accept_queue_is_told_from_a_flood() {
    let mut traffic = Traffic::new(19);
    traffic.peace(server(1), 0.0, 60.0, 50.0, 0.5);
    traffic.arrivals(60.0, 90.0, 50.0, |traffic, t| {
        let client = traffic.client(500);
        traffic.attempt(t, client, server(1), Fate::NotAccepted);
    });
    let run = traffic.run(&defaults(), &[], 150.0, 1);
    run.only(IncidentKind::AcceptOverflow, "198.51.100.1:443");
    assert!(run.detector.incidents()[0].ended_at.is_some());
}

#[test]
fn the_mode_of_the_server_is_in_the_incident() {
    use crate::detect::incident::ServerMode;
    for (repeats, mode) in [(true, ServerMode::Queue), (false, ServerMode::Cookie)] {
        let mut traffic = Traffic::new(20);
        traffic.peace(server(1), 0.0, 90.0, 50.0, 0.0);
        traffic.arrivals(60.0, 90.0, 300.0, |traffic, t| {
            let source = traffic.forged();
            traffic.attempt(t, source, server(1), Fate::Abandoned { repeats });
        });
        let run = traffic.run(&defaults(), &[], 90.0, 1);
        assert_eq!(run.detector.incidents()[0].server_mode, mode, "{:#?}", run.brief());
    }
}

#[test]
fn thirty_servers_with_failing_clients_raise_nothing() {
    // 20 % of handshakes fail, rates from 0.05 to 30 a second, bursts, and no history when it starts.
    for seed in 0..3 {
        let mut traffic = Traffic::new(100 + seed);
        for n in 0..30_u8 {
            let rate = 0.05 * 1.25_f64.powi(i32::from(n));
            traffic.peace(server(n), 0.0, 900.0, 0.8 * rate, 0.0);
            traffic.arrivals(0.0, 900.0, 0.2 * rate, |traffic, t| {
                let client = traffic.client(100_000);
                let fate = if traffic.unit() < 0.5 {
                    Fate::Unanswered { repeats: true }
                } else {
                    Fate::Abandoned { repeats: true }
                };
                traffic.attempt(t, client, server(n), fate);
            });
            let burst = 300.0 + 10.0 * f64::from(n);
            traffic.peace(server(n), burst, burst + 5.0, 5.0 * rate, 0.0);
        }
        traffic.run(&defaults(), &[], 900.0, 1).no_flood();
    }
}

#[test]
fn lost_syns_of_a_burst_are_no_flood_of_its_host() {
    // 500 handshakes within a tenth of a second at a server nobody has seen before, beside so many others: of 30 %
    // the SYN is lost, of half of these the second too. The server has seen the rest complete; so must its host have.
    for (others, start) in [(10, 1.0), (10, 1.2), (50, 1.0), (50, 1.4), (200, 1.1)] {
        let mut traffic = Traffic::new(31);
        for n in 0..others {
            let client = traffic.client(1000);
            traffic.attempt(0.2, client, server(n), Fate::Completes(0.02));
        }
        let burst = Endpoint::new(v4("198.51.100.250"), 7000);
        for n in 0..500 {
            let client = traffic.client(1000);
            let fate = match n % 20 {
                0..3 => Fate::ThirdTry,
                3..6 => Fate::SecondTry,
                _ => Fate::Completes(0.02),
            };
            traffic.attempt(start + f64::from(n) / 5000.0, client, burst, fate);
        }
        traffic.run(&defaults(), &[], 20.0, 1).no_flood();
    }
}

#[test]
fn lost_frames_are_not_unresolved_attempts() {
    // A tap that loses a tenth: for as many attempts the completion is not seen.
    let mut traffic = Traffic::new(21);
    for n in 0..5 {
        traffic.peace(server(n), 0.0, 120.0, 90.0, 0.0);
        traffic.arrivals(0.0, 120.0, 10.0, |traffic, t| {
            let client = traffic.client(500);
            traffic.attempt(t, client, server(n), Fate::Abandoned { repeats: false });
        });
    }
    traffic.run_with_loss(&defaults(), &[], 120.0, 1, 0.1).no_flood();
}

/// Mail servers behind a filter that drops one port: each is called there once a second, and lives on another.
#[test]
fn a_port_that_a_filter_drops_floods_neither_its_hosts_nor_their_site() {
    let mut traffic = Traffic::new(53);
    for n in 1..=20 {
        traffic.peace(server(n), 0.0, 300.0, 3.0, 0.03);
    }
    traffic.arrivals(100.0, 250.0, 20.0, |traffic, t| {
        let (client, n) = (traffic.client(200), 1 + (traffic.unit() * 20.0) as u8);
        let filtered = Endpoint::new(server(n).addr, 25);
        traffic.attempt(t, client, filtered, Fate::Unanswered { repeats: true });
    });
    // One of them is called more often.
    traffic.arrivals(150.0, 250.0, 20.0, |traffic, t| {
        let (client, filtered) = (traffic.client(200), Endpoint::new(server(1).addr, 25));
        traffic.attempt(t, client, filtered, Fate::Unanswered { repeats: true });
    });
    traffic.run(&defaults(), &[], 330.0, 2).nothing();
}

/// A database on the same switch falls silent, and all who held a connection call it again at once. Its grace age is shorter than
/// a stack waits before it sends its SYN again.
#[test]
fn a_near_server_that_falls_silent_is_an_outage_though_all_call_again() {
    let mut traffic = Traffic::new(47);
    traffic.arrivals(0.0, 150.0, 5.0, |traffic, t| {
        let client = traffic.client(60);
        traffic.attempt(t, client, server(1), Fate::Completes(0.001));
    });
    traffic.arrivals(150.0, 152.0, 200.0, |traffic, t| {
        let flow = Flow { orig: traffic.client(60), resp: server(1) };
        let state = HandshakeState::SynSent;
        traffic.say(t, flow, EventKind::Opened);
        let overdue =
            EventKind::Overdue { state, syn_retransmissions: 0, syn_ack_retransmissions: 0, bare: false };
        traffic.say(t + 0.25, flow, overdue);
        for (count, late) in [(1, 1.0), (2, 3.0), (3, 7.0), (4, 15.0)] {
            let after = Duration::from_secs_f64(late);
            traffic.say(t + late, flow, EventKind::SynRetransmitted { state: Some(state), count, after });
        }
    });
    let run = traffic.run(&defaults(), &[], 170.0, 1);
    assert!(run.delay(IncidentKind::Outage, 150.0) <= 6.0, "{:#?}", run.brief());
}

/// New clients behind satellites, each one to four seconds away, at a server on whose usual clients a short grace age was learned. Their
/// stacks send the SYN again after a second.
#[test]
fn far_clients_of_a_near_server_are_no_flood() {
    for (seed, (usual, rate)) in (0..5)
        .flat_map(|seed| [(50.0, 20.0), (50.0, 35.0), (10.0, 20.0), (10.0, 35.0)].map(|rates| (seed, rates)))
    {
        let mut traffic = Traffic::new(70 + seed);
        traffic.peace(server(1), 0.0, 220.0, usual, 0.01 * usual);
        traffic.arrivals(150.0, 200.0, rate, |traffic, t| {
            let flow = Flow { orig: traffic.client(60_000), resp: server(1) };
            let (state, trip) = (HandshakeState::SynReceived, 1.0 + 3.0 * traffic.unit());
            let secs = Duration::from_secs_f64;
            traffic.say(t, flow, EventKind::Opened);
            traffic.say(t + 0.001, flow, EventKind::Answered { after: secs(0.001), overdue: false });
            let overdue =
                EventKind::Overdue { state, syn_retransmissions: 0, syn_ack_retransmissions: 0, bare: false };
            traffic.say(t + 0.25, flow, overdue);
            for (count, after) in [(1, 1.0), (2, 3.0)].into_iter().filter(|(_, after)| *after < trip) {
                let after = secs(after);
                traffic.say(
                    t + after.as_secs_f64(),
                    flow,
                    EventKind::SynRetransmitted { state: Some(state), count, after },
                );
                let again = EventKind::SynAckRetransmitted { after_ack: false, age: after, count };
                traffic.say(t + after.as_secs_f64(), flow, again);
            }
            let outcome = Outcome::Completed;
            let end = EventKind::Closed { outcome, state, after: secs(trip), overdue: true };
            traffic.say(t + trip, flow, end);
        });
        traffic.run(&defaults(), &[], 220.0, 1).no_flood();
    }
}

/// Forged sources at the same server: what waits for far clients does not wait long.
#[test]
fn a_flood_of_a_near_server_is_found_as_soon_as_a_second_syn_is_due() {
    for (rate, ceiling) in [(20.0, 4.0), (35.0, 2.0), (60.0, 2.0), (128.0, 1.0)] {
        let mut total = 0.0;
        for seed in 0..6 {
            let mut traffic = Traffic::new(80 + seed);
            traffic.peace(server(1), 0.0, 200.0, 50.0, 0.5);
            traffic.arrivals(150.0, 200.0, rate, |traffic, t| {
                let flow = Flow { orig: traffic.forged(), resp: server(1) };
                let (state, after) = (HandshakeState::SynReceived, Duration::from_millis(1));
                traffic.say(t, flow, EventKind::Opened);
                traffic.say(t + 0.001, flow, EventKind::Answered { after, overdue: false });
                let (syn_retransmissions, bare) = (0, false);
                let overdue =
                    EventKind::Overdue { state, syn_retransmissions, syn_ack_retransmissions: 0, bare };
                traffic.say(t + 0.25, flow, overdue);
                let after = Duration::from_secs(1);
                let again = EventKind::SynAckRetransmitted { after_ack: false, age: after, count: 1 };
                traffic.say(t + 1.0, flow, again);
            });
            let run = traffic.run(&defaults(), &[], 200.0, 1);
            total += run.delay(IncidentKind::SpoofedFlood, 150.0) - 0.25;
        }
        let mean = total / 6.0;
        assert!(mean <= ceiling + 0.25, "{rate}/s: {mean}");
    }
}
