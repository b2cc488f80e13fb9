//! Services that reload, fall silent, or answer late: nobody attacks them.

use super::*;

/// A proxy that reloads: the kernel refuses every SYN for as long as nobody listens.
#[test]
fn a_service_that_reloads_wakes_nobody() {
    for (rate, start, lasts) in [
        (300.0, 120.0, 0.33),
        (300.0, 120.4, 0.33),
        (1000.0, 120.2, 0.33),
        (300.0, 120.1, 1.0),
        (1000.0, 120.3, 2.0),
        (30.0, 120.3, 2.0),
    ] {
        let mut traffic = Traffic::new(61);
        traffic.peace(server(1), 0.0, start, rate, 0.01 * rate);
        traffic.arrivals(start, start + lasts, rate, |traffic, t| {
            let client = traffic.client(500);
            traffic.attempt(t, client, server(1), Fate::Refused);
        });
        traffic.peace(server(1), start + lasts, 200.0, rate, 0.01 * rate);
        let run = traffic.run(&defaults(), &[], 200.0, 1);
        assert!(run.journal.is_empty(), "{rate}/s from {start} for {lasts}: {:#?}", run.brief());
    }
}

/// The link to a near server is out for a moment: what is lost comes again after a second, past the grace age, and completes.
#[test]
fn a_pause_of_a_near_server_is_no_flood() {
    for (rate, start, lasts) in [
        (100.0, 120.0, 0.33),
        (100.0, 120.3, 1.0),
        (1000.0, 120.1, 0.9),
        (100.0, 120.2, 2.0),
        (10.0, 120.0, 2.0),
    ] {
        let mut traffic = Traffic::new(63);
        traffic.arrivals(0.0, 180.0, rate, |traffic, t| {
            let (client, lost) = (traffic.client(500), (start..start + lasts).contains(&t));
            if !lost {
                return traffic.attempt(t, client, server(1), Fate::Completes(0.001));
            }
            let (flow, state) = (Flow { orig: client, resp: server(1) }, HandshakeState::SynSent);
            let secs = Duration::from_secs_f64;
            traffic.say(t, flow, EventKind::Opened);
            let overdue =
                EventKind::Overdue { state, syn_retransmissions: 0, syn_ack_retransmissions: 0, bare: false };
            traffic.say(t + 0.25, flow, overdue);
            for (count, after) in [(1, 1.0), (2, 3.0)] {
                let again = EventKind::SynRetransmitted { state: Some(state), count, after: secs(after) };
                traffic.say(t + after, flow, again);
                if t + after >= start + lasts {
                    let (outcome, state) = (Outcome::Completed, HandshakeState::SynReceived);
                    traffic.say(t + after, flow, EventKind::Answered { after: secs(after), overdue: true });
                    let after = secs(after + 0.001);
                    traffic.say(
                        t + after.as_secs_f64(),
                        flow,
                        EventKind::Closed { outcome, state, after, overdue: true },
                    );
                    return;
                }
            }
        });
        let run = traffic.run(&defaults(), &[], 180.0, 1);
        assert!(run.journal.is_empty(), "{rate}/s from {start} for {lasts}: {:#?}", run.brief());
    }
}

/// Every answer comes later than the grace age: the callers wait, and the server is what is wrong.
#[test]
fn a_server_that_answers_everything_late_is_one_incident_and_no_flood() {
    let rates = [3.0, 10.0, 100.0];
    let lates = [(4.0, false), (5.0, false), (5.0, true), (8.0, false)];
    for (rate, (late, copies)) in rates.into_iter().flat_map(|rate| lates.map(|late| (rate, late))) {
        let mut traffic = Traffic::new(62);
        traffic.peace(server(1), 0.0, 120.0, rate, 0.02 * rate);
        traffic.arrivals(120.0, 220.0, rate * 1.02, |traffic, t| {
            let client = traffic.client(500);
            traffic.attempt(t, client, server(1), Fate::Late { after: late, copies });
        });
        traffic.peace(server(1), 220.0, 300.0, rate, 0.02 * rate);
        let run = traffic.run(&defaults(), &[], 300.0, 1);
        // As long as it repeats older SYN-ACKs it may as well be that its program does not accept.
        let fair = |kind| matches!(kind, IncidentKind::Outage | IncidentKind::AcceptOverflow);
        assert!(
            run.kinds().into_iter().all(|(kind, _)| fair(kind)),
            "{rate}/s, {late} s late: {:#?}",
            run.brief()
        );
        let incidents = run.detector.incidents();
        assert_eq!(incidents.len(), 1, "{rate}/s, {late} s late: {:#?}", run.brief());
        let delay = incidents[0].detected_at.as_secs_f64() - at(120.0).as_secs_f64();
        assert!(delay <= if rate < 10.0 { 30.0 } else { 5.0 }, "{rate}/s, {late} s late: {delay}");
        let ended = incidents[0].ended_at.expect("it ends").as_secs_f64() - EPOCH as f64;
        assert!((230.0..280.0).contains(&ended), "{rate}/s, {late} s late: ended {ended}");
    }
}

#[test]
fn a_quiet_server_that_falls_silent_is_never_told_as_a_flood() {
    for seed in 0..4 {
        for rate in [2.0, 3.0] {
            let mut traffic = Traffic::new(500 + seed);
            traffic.peace(server(1), 0.0, 120.0, rate, 0.02 * rate);
            traffic.arrivals(120.0, 200.0, rate, |traffic, t| {
                let client = traffic.client(500);
                traffic.attempt(t, client, server(1), Fate::Unanswered { repeats: true });
            });
            let gone = at(120.0)..at(200.0);
            let repeats =
                |event: &HandshakeEvent| matches!(event.kind, EventKind::SynAckRetransmitted { .. });
            traffic.events.retain(|event| !(repeats(event) && gone.contains(&event.ts)));
            let run = traffic.run(&defaults(), &[], 200.0, 1);
            let found = run.journal.iter().any(|entry| entry.incident.kind == IncidentKind::Outage);
            assert!(found, "seed {seed} {rate}/s: {:#?}", run.brief());
            run.only(IncidentKind::Outage, "198.51.100.1:443");
        }
    }
}

/// A server on the same switch, whose grace age is shorter than a stack waits before it sends its SYN again: all who held a
/// connection call it again at once.
#[test]
fn a_quiet_server_that_all_call_again_is_never_told_as_a_flood() {
    let silence = |traffic: &mut Traffic, t: f64| {
        let (flow, state) = (Flow { orig: traffic.client(500), resp: server(1) }, HandshakeState::SynSent);
        traffic.say(t, flow, EventKind::Opened);
        let overdue =
            EventKind::Overdue { state, syn_retransmissions: 0, syn_ack_retransmissions: 0, bare: false };
        traffic.say(t + 0.25, flow, overdue);
        for (count, late) in [(1, 1.0), (2, 3.0), (3, 7.0)] {
            let after = Duration::from_secs_f64(late);
            traffic.say(t + late, flow, EventKind::SynRetransmitted { state: Some(state), count, after });
        }
    };
    for (rate, callers, within) in [
        (2.0, 20.0, 0.1),
        (2.0, 40.0, 1.0),
        (2.0, 100.0, 3.0),
        (2.0, 200.0, 0.1),
        (3.0, 20.0, 0.1),
        (3.0, 40.0, 3.0),
        (3.0, 100.0, 1.0),
    ] {
        for seed in 0..2 {
            let mut traffic = Traffic::new(540 + seed);
            traffic.arrivals(0.0, 200.0, rate, |traffic, t| {
                let client = traffic.client(500);
                traffic.attempt(t, client, server(1), Fate::Completes(0.001));
            });
            traffic.arrivals(200.0, 230.0, rate, silence);
            traffic.arrivals(200.0, 200.0 + within, callers / within, silence);
            let run = traffic.run(&defaults(), &[], 230.0, 1);
            run.only(IncidentKind::Outage, "198.51.100.1:443");
            assert!(run.delay(IncidentKind::Outage, 200.0) <= 15.0, "{:#?}", run.brief());
            let onset = run.detector.incidents()[0].onset.as_secs_f64() - at(200.0).as_secs_f64();
            assert!((-5.0..=1.0).contains(&onset), "seed {seed}, {rate}/s, {callers} callers: {onset}");
        }
    }
}

/// What never comes again is a flood all the same, before it is too late.
#[test]
fn a_flood_that_a_near_server_drops_is_found_within_three_seconds() {
    let mut traffic = Traffic::new(550);
    traffic.arrivals(0.0, 130.0, 5.0, |traffic, t| {
        let client = traffic.client(500);
        traffic.attempt(t, client, server(1), Fate::Completes(0.001));
    });
    traffic.arrivals(120.0, 130.0, 50.0, |traffic, t| {
        let (flow, state) = (Flow { orig: traffic.forged(), resp: server(1) }, HandshakeState::SynSent);
        traffic.say(t, flow, EventKind::Opened);
        let overdue =
            EventKind::Overdue { state, syn_retransmissions: 0, syn_ack_retransmissions: 0, bare: false };
        traffic.say(t + 0.25, flow, overdue);
    });
    let run = traffic.run(&defaults(), &[], 130.0, 1);
    run.only(IncidentKind::SpoofedFlood, "198.51.100.1:443");
    assert!(run.delay(IncidentKind::SpoofedFlood, 120.0) <= 3.0, "{:#?}", run.brief());
}

/// A load generator, or a crowd, calls a server with a short accept queue of which nothing was seen before: some are served, the others'
/// SYNs are dropped and sent again by their stacks.
#[test]
fn a_new_server_that_does_not_accept_all_is_not_flooded() {
    for (callers, each) in [(1, 100), (1, 400), (60, 4)] {
        let mut traffic = Traffic::new(67);
        for n in 0..callers * each {
            let client = traffic.client(callers);
            let fate = if n % 12 == 0 { Fate::Completes(0.001) } else { Fate::ThirdTry };
            traffic.attempt(1.0 + f64::from(n) / 5000.0, client, server(1), fate);
        }
        traffic.arrivals(4.0, 15.0, 6.0, |traffic, t| {
            let client = traffic.client(callers);
            traffic.attempt(t, client, server(1), Fate::SecondTry);
        });
        let run = traffic.run(&defaults(), &[], 60.0, 1);
        run.only(IncidentKind::AcceptOverflow, "198.51.100.1:443");
    }
}
