//! Who calls an address that never answered: no flood, and what is one all the same.

use super::*;

/// A dead address beside live ones of its site.
fn host(n: u16) -> Endpoint {
    Endpoint::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, n)), 443)
}

impl Traffic {
    /// One of `n` subscribers, each with a /64 of its own.
    fn subscriber(&mut self, n: u16) -> Endpoint {
        let (subnet, low) = ((self.unit() * f64::from(n)) as u16, (self.unit() * 65_535.0) as u16);
        let addr = Ipv6Addr::new(0x2001, 0xdb8, 0x1000, subnet, 1, 2, 3, low);
        Endpoint::new(addr.into(), 32_768 + (self.unit() * 28_000.0) as u16)
    }

    /// A call that nobody answers, whose SYN comes again so many seconds after the first.
    fn in_vain(&mut self, t: f64, orig: Endpoint, resp: Endpoint, again: &[f64]) {
        let flow = Flow { orig, resp };
        let state = HandshakeState::SynSent;
        self.say(t, flow, EventKind::Opened);
        for (count, late) in (1..).zip(again) {
            let after = Duration::from_secs_f64(*late);
            self.say(t + late, flow, EventKind::SynRetransmitted { state: Some(state), count, after });
        }
        let syn_retransmissions = again.iter().filter(|late| **late < GRACE).count() as u8;
        let overdue =
            EventKind::Overdue { state, syn_retransmissions, syn_ack_retransmissions: 0, bare: false };
        self.say(t + GRACE, flow, overdue);
        let (outcome, after) = (Outcome::Unanswered, Duration::from_secs(63));
        self.say(t + 63.0, flow, EventKind::Closed { outcome, state, after, overdue: true });
    }

    /// Browsers by the thousand: each tries the dead address, goes on to live ones before its stack sends a second SYN, and is served.
    fn browsers(&mut self, from: f64, to: f64, rate: f64) {
        self.arrivals(from, to, rate, |traffic, t| {
            let client = traffic.subscriber(5000);
            traffic.in_vain(t, client, host(1), &[]);
            for n in 2..4 {
                let port = client.port + n;
                let rtt = 0.02 + 0.2 * traffic.unit();
                traffic.attempt(t + 0.25, Endpoint { port, ..client }, host(n), Fate::Completes(rtt));
            }
        });
    }

    /// `n` programs, each with a new connection to a dead server every `pause` seconds, given up before a second SYN is due.
    fn programs(&mut self, resp: Endpoint, from: f64, to: f64, n: u8, pause: f64) {
        for client in 0..n {
            let addr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, client));
            let mut t = from + pause * self.unit();
            while t < to {
                let port = 32_768 + (self.unit() * 28_000.0) as u16;
                self.in_vain(t, Endpoint::new(addr, port), resp, &[]);
                t += pause * (0.95 + 0.1 * self.unit());
            }
        }
    }
}

#[test]
fn browsers_that_try_a_dead_address_beside_live_ones_raise_nothing() {
    for (from, rate) in [(0.0, 20.0), (60.0, 20.0), (0.0, 60.0), (60.0, 150.0)] {
        let mut traffic = Traffic::new(61);
        traffic.arrivals(0.0, 200.0, 20.0, |traffic, t| {
            let client = traffic.subscriber(5000);
            traffic.attempt(t, client, host(2), Fate::Completes(0.1));
        });
        traffic.browsers(from, 200.0, rate);
        let run = traffic.run(&defaults(), &[], 203.0, 2);
        run.nothing();
        let view = run.detector.servers(4).into_iter().find(|view| view.endpoint == Some(host(1))).unwrap();
        let why = view.evidence.iter().find(|signal| signal.signal == "known_callers").unwrap();
        assert!(why.value >= 0.9 * (view.unresolved as f64), "{why:?} of {}", view.unresolved);
    }
}

/// It never answered and is called by known clients: whoever forges sources at random is none of them.
#[test]
fn a_flood_of_a_dead_address_that_browsers_try_is_found() {
    let mut traffic = Traffic::new(62);
    traffic.browsers(0.0, 160.0, 30.0);
    traffic.arrivals(100.0, 160.0, 35.0, |traffic, t| {
        let (high, low) = (traffic.unit(), traffic.unit());
        let bits = 0x2001_0db8 << 96 | ((high * 1e28) as u128) << 2 | (low * 1e9) as u128;
        let source = Endpoint::new(IpAddr::V6(Ipv6Addr::from_bits(bits)), 999);
        traffic.in_vain(t, source, host(1), &[]);
    });
    let run = traffic.run(&defaults(), &[], 160.0, 2);
    run.only(IncidentKind::SpoofedFlood, "[2001:db8:ff::1]:443");
    let delay = run.delay(IncidentKind::SpoofedFlood, 100.0);
    assert!((GRACE..GRACE + 5.0).contains(&delay), "{delay}");
}

#[test]
fn who_is_known_does_not_depend_on_the_threads() {
    let run = |threads| {
        let mut traffic = Traffic::new(71);
        traffic.browsers(0.0, 120.0, 30.0);
        traffic.arrivals(60.0, 120.0, 100.0, |traffic, t| {
            let source = traffic.subscriber(20_000);
            traffic.in_vain(t, source, host(1), &[]);
        });
        traffic.run(&defaults(), &[], 120.0, threads)
    };
    let (one, three) = (run(1), run(3));
    one.only(IncidentKind::SpoofedFlood, "[2001:db8:ff::1]:443");
    assert_eq!(one.journal, three.journal);
    assert_eq!(one.detector.servers(9), three.detector.servers(9));
}

/// Forged or not, whoever is known elsewhere may flood a server that has ever answered.
#[test]
fn known_sources_excuse_no_flood_of_a_server_that_answered() {
    let mut traffic = Traffic::new(63);
    traffic.browsers(0.0, 160.0, 30.0);
    traffic.arrivals(0.0, 2.0, 1.0, |traffic, t| {
        let client = traffic.subscriber(5000);
        traffic.attempt(t, client, host(4), Fate::Completes(0.1));
    });
    traffic.arrivals(100.0, 160.0, 35.0, |traffic, t| {
        let source = traffic.subscriber(5000);
        traffic.in_vain(t, source, host(4), &[]);
    });
    let run = traffic.run(&defaults(), &[], 160.0, 2);
    run.only(IncidentKind::SpoofedFlood, "[2001:db8:ff::4]:443");
}

/// Who knows clients of the site and forges their addresses hides no more than those clients could be calling.
#[test]
fn known_sources_excuse_no_more_than_they_complete() {
    let mut traffic = Traffic::new(64);
    traffic.browsers(0.0, 160.0, 10.0);
    traffic.arrivals(100.0, 160.0, 150.0, |traffic, t| {
        let source = traffic.subscriber(5000);
        traffic.in_vain(t, source, host(1), &[]);
    });
    let run = traffic.run(&defaults(), &[], 160.0, 2);
    run.only(IncidentKind::SpoofedFlood, "[2001:db8:ff::1]:443");
}

#[test]
fn programs_that_call_a_dead_server_again_and_again_raise_nothing() {
    for (n, pause) in [(4, 0.5), (20, 0.5), (40, 0.5), (60, 1.0), (10, 5.0), (30, 5.0), (60, 10.0)] {
        for alive in [false, true] {
            let mut traffic = Traffic::new(65);
            traffic.peace(server(2), 0.0, 400.0, 20.0, 0.2);
            if alive {
                traffic.peace(server(1), 0.0, 400.0, 20.0, 0.2);
            }
            let dead = Endpoint { port: 5432, ..server(1) };
            traffic.programs(dead, 60.0, 400.0, n, pause);
            let run = traffic.run(&defaults(), &[], 400.0, 1);
            assert!(run.journal.is_empty(), "{n} every {pause} s, alive {alive}: {:#?}", run.brief());
        }
    }
}

#[test]
fn forged_sources_of_an_address_never_seen_stay_a_flood() {
    for (rate, within) in [(5.0, 25.0), (35.0, 5.0), (100.0, 3.0), (1000.0, 1.0)] {
        let mut traffic = Traffic::new(66);
        traffic.peace(server(2), 0.0, 60.0, 50.0, 0.5);
        traffic.arrivals(20.0, 60.0, rate, |traffic, t| {
            let source = traffic.forged();
            traffic.in_vain(t, source, server(1), &[]);
        });
        let run = traffic.run(&defaults(), &[], 64.0, 1);
        run.only(IncidentKind::SpoofedFlood, "198.51.100.1:443");
        let delay = run.delay(IncidentKind::SpoofedFlood, 20.0);
        assert!(delay <= GRACE + within, "{rate}/s: {delay}");
    }
}

/// Few sources that ask more often than any program in good faith.
#[test]
fn a_few_sources_that_hammer_an_address_never_seen_stay_a_flood() {
    for (sources, each) in [(1, 100.0), (20, 10.0), (60, 5.0)] {
        let mut traffic = Traffic::new(67);
        for source in 0..sources {
            traffic.arrivals(20.0, 60.0, each, |traffic, t| {
                let addr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, source));
                let port = 1024 + (traffic.unit() * 60_000.0) as u16;
                traffic.in_vain(t, Endpoint::new(addr, port), server(1), &[]);
            });
        }
        let run = traffic.run(&defaults(), &[], 60.0, 1);
        assert!(
            run.kinds().iter().any(|(kind, _)| super::super::classify::is_flood(*kind)),
            "{sources} {each}"
        );
    }
}

/// Stacks whose first timer is longer than the grace age of a server of which nothing is known.
#[test]
fn stacks_that_wait_two_or_three_seconds_are_no_flood_of_what_never_answered() {
    for (first, at_once, rate) in
        [(2.0, 90, 1.0), (3.0, 90, 1.0), (3.0, 0, 20.0), (2.0, 0, 40.0), (3.0, 40, 20.0)]
    {
        let again = [first, 3.0 * first, 7.0 * first];
        let mut traffic = Traffic::new(68);
        traffic.peace(server(2), 0.0, 160.0, 20.0, 0.2);
        for n in 0..at_once {
            let client = traffic.client(60_000);
            traffic.in_vain(30.0 + f64::from(n) * 0.01, client, server(1), &again);
        }
        traffic.arrivals(30.0, 150.0, rate, |traffic, t| {
            let client = traffic.client(60_000);
            traffic.in_vain(t, client, server(1), &again);
        });
        let run = traffic.run(&defaults(), &[], 160.0, 1);
        assert!(run.journal.is_empty(), "{first} {at_once} {rate}: {:#?}", run.brief());
    }
}
