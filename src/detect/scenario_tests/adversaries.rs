//! Whoever knows what excuses others, and makes his flood look like it.

use super::*;

impl Traffic {
    /// Seconds from `from` to the first word of a flood.
    fn flooded_after(&mut self, from: f64, to: f64) -> f64 {
        let run = self.run(&defaults(), &[], to, 2);
        let first = run.journal.iter().find(|entry| super::super::classify::is_flood(entry.incident.kind));
        let first = first.unwrap_or_else(|| panic!("{:#?}", run.brief()));
        first.ts.as_secs_f64() - at(from).as_secs_f64()
    }
}

/// Each SYN comes again, as real clients' do; the server, not seen before, still completes some and drops the rest.
#[test]
fn a_flood_of_a_new_server_whose_syns_come_again_is_no_full_accept_queue() {
    let mut traffic = Traffic::new(81);
    traffic.peace(server(1), 9.5, 60.0, 20.0, 0.2);
    traffic.arrivals(10.0, 60.0, 2000.0, |traffic, t| {
        let source = traffic.forged();
        traffic.attempt(t, source, server(1), Fate::Unanswered { repeats: true });
    });
    let delay = traffic.flooded_after(10.0, 60.0);
    assert!(delay <= GRACE + 3.0, "{delay}");
}

/// The same at a server that is known, and has hardly room left for its clients.
#[test]
fn a_flood_that_is_dropped_and_whose_syns_come_again_is_no_outage() {
    for (rate, known) in [(2000.0, 100.0), (20_000.0, 1000.0)] {
        let mut traffic = Traffic::new(85);
        traffic.peace(server(1), 0.0, 120.0, known, 0.02 * known);
        traffic.peace(server(1), 120.0, 130.0, 0.03 * known, 0.0);
        traffic.arrivals(120.0, 130.0, 0.97 * known, |traffic, t| {
            let client = traffic.client(500);
            traffic.attempt(t, client, server(1), Fate::Unanswered { repeats: true });
        });
        traffic.arrivals(120.0, 130.0, rate, |traffic, t| {
            let source = traffic.forged();
            traffic.attempt(t, source, server(1), Fate::Unanswered { repeats: true });
        });
        let delay = traffic.flooded_after(120.0, 130.0);
        assert!(delay <= GRACE + 3.0, "{rate}/s: {delay}");
    }
}

/// Each of his sources scans beside it, and sends the server no more in a bin than a scanner may; no client of its own fails.
#[test]
fn a_flood_by_sources_that_scan_as_well_is_not_charged_to_the_scan() {
    let mut traffic = Traffic::new(84);
    traffic.peace(server(1), 0.0, 240.0, 20.0, 0.0);
    for n in 0..15 {
        let addr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, n));
        traffic.arrivals(90.0, 240.0, 2.0, |traffic, t| {
            let port = 1024 + (traffic.unit() * 60_000.0) as u16;
            let to = Endpoint { port: 1 + (traffic.unit() * 400.0) as u16, ..server(1) };
            traffic.attempt(t, Endpoint::new(addr, port), to, Fate::Refused);
        });
        traffic.arrivals(120.0, 240.0, 9.0, |traffic, t| {
            let port = 1024 + (traffic.unit() * 60_000.0) as u16;
            traffic.attempt(t, Endpoint::new(addr, port), server(1), Fate::Abandoned { repeats: true });
        });
    }
    let delay = traffic.flooded_after(120.0, 240.0);
    assert!(delay <= GRACE + 3.0, "{delay}");
}

/// A server that was slow, and answers everybody in time again: nothing at all is late any more.
#[test]
fn a_server_that_was_slow_is_well_as_soon_as_nothing_is_late() {
    for copies in [false, true] {
        for rate in [3.0, 100.0] {
            let mut traffic = Traffic::new(62);
            traffic.peace(server(1), 0.0, 120.0, rate, 0.0);
            traffic.arrivals(120.0, 180.0, rate, |traffic, t| {
                let client = traffic.client(500);
                traffic.attempt(t, client, server(1), Fate::Late { after: 5.0, copies });
            });
            traffic.peace(server(1), 180.0, 500.0, rate, 0.0);
            let run = traffic.run(&defaults(), &[], 500.0, 1);
            for incident in run.detector.incidents() {
                let ended = incident.ended_at.map(|end| end.as_secs_f64() - EPOCH as f64);
                assert!(ended.is_some_and(|ended| ended <= 240.0), "{rate}/s: {:#?}", run.brief());
            }
        }
    }
}

/// All of its clients call a server that is gone again and again: many more than usual, and no flood.
#[test]
fn many_who_call_a_server_that_is_gone_are_no_flood() {
    for (known, herd) in [(2.0, 200.0), (20.0, 400.0), (100.0, 800.0)] {
        let mut traffic = Traffic::new(89);
        traffic.peace(server(1), 0.0, 120.0, known, 0.02 * known);
        traffic.arrivals(120.0, 180.0, herd, |traffic, t| {
            let client = traffic.client(500);
            traffic.attempt(t, client, server(1), Fate::Unanswered { repeats: true });
        });
        let run = traffic.run(&defaults(), &[], 180.0, 2);
        assert!(run.kinds().contains(&(IncidentKind::Outage, "198.51.100.1:443".to_owned())));
        run.no_flood();
    }
}
