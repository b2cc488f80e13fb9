//! Scenarios as events: what the tracker would say of each kind of traffic, and what must come of it.
//!
//! The tracker's part is played by `Fate`: the events of one attempt, with the timers of real stacks.

use super::incident::{Change, IncidentKind, JournalEntry, Severity};
use super::observe::Observations;
use super::{CaptureLoss, Detector};
use crate::config::ServerConfig;
use crate::config::detect::{Allowance, DetectConfig, Prefix, Rule, Side};
use crate::decode::segment::Endpoint;
use crate::time::Timestamp;
use crate::track::event::{EventKind, EventSink, HandshakeEvent, HandshakeState, Outcome, SynTraits};
use crate::track::flow::Flow;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// What becomes of an attempt.
#[derive(Clone, Copy)]
enum Fate {
    /// Completes after so many seconds.
    Completes(f64),
    /// SYN-ACK, then nothing; the server repeats it, or (cookies) does not.
    Abandoned { repeats: bool },
    /// Nothing comes back; the originator's stack repeats its SYN, or (a tool) does not.
    Unanswered { repeats: bool },
    /// RST from the server.
    Refused,
    /// SYN-ACK, then RST from the originator.
    Reset,
    /// The first SYN is lost; the second, a second later, completes.
    SecondTry,
    /// Two are lost; completes after three seconds.
    ThirdTry,
    /// Completes, but the server repeats its SYN-ACK for want of room to accept.
    NotAccepted,
}

struct Traffic {
    events: Vec<HandshakeEvent>,
    random: u64,
}

const GRACE: f64 = 1.5;
const EPOCH: i64 = 1_763_832_000;

fn at(seconds: f64) -> Timestamp {
    Timestamp::from_nanos(EPOCH * 1_000_000_000 + (seconds * 1e9) as i64)
}

fn v4(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn server(n: u8) -> Endpoint {
    Endpoint::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, n)), 443)
}

impl Traffic {
    fn new(seed: u64) -> Self {
        Self { events: Vec::new(), random: seed }
    }

    fn unit(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A forged source anywhere in 198.18.0.0/15.
    fn forged(&mut self) -> Endpoint {
        let host = 0xC612_0000 | (self.unit() * 131_072.0) as u32;
        Endpoint::new(IpAddr::V4(Ipv4Addr::from_bits(host)), 1024 + (self.unit() * 60_000.0) as u16)
    }

    /// One of `n` ordinary clients.
    fn client(&mut self, n: u32) -> Endpoint {
        let host = 0x0A00_0000 + (self.unit() * f64::from(n)) as u32;
        Endpoint::new(IpAddr::V4(Ipv4Addr::from_bits(host)), 32_768 + (self.unit() * 28_000.0) as u16)
    }

    fn say(&mut self, seconds: f64, flow: Flow, kind: EventKind) {
        self.events.push(HandshakeEvent { ts: at(seconds), flow, weight: 1, kind });
    }

    fn attempt(&mut self, t: f64, orig: Endpoint, resp: Endpoint, fate: Fate) {
        use HandshakeState::{SynReceived, SynSent};
        let flow = Flow { orig, resp };
        let secs = Duration::from_secs_f64;
        let closed = |outcome, state, after: f64, overdue| EventKind::Closed {
            outcome,
            state,
            after: secs(after),
            overdue,
        };
        let answered = |after: f64, overdue| EventKind::Answered { after: secs(after), overdue };
        let overdue = |state, syn_retransmissions| EventKind::Overdue {
            state,
            syn_retransmissions,
            syn_ack_retransmissions: 0,
        };
        let syn_again = |state, count| EventKind::SynRetransmitted { state, count };
        self.say(t, flow, EventKind::Opened { syn: SynTraits::default() });
        match fate {
            Fate::Completes(after) => {
                self.say(t + after / 2.0, flow, answered(after / 2.0, false));
                self.say(t + after, flow, closed(Outcome::Completed, SynReceived, after, false));
            }
            Fate::Abandoned { repeats } => {
                self.say(t + 0.001, flow, answered(0.001, false));
                if repeats {
                    for (count, after) in [(1, 1.0), (2, 3.0), (3, 7.0), (4, 15.0), (5, 31.0)] {
                        let kind =
                            EventKind::SynAckRetransmitted { after_ack: false, age: secs(after), count };
                        self.say(t + after, flow, kind);
                    }
                }
                self.say(t + GRACE, flow, overdue(SynReceived, 0));
                self.say(t + 63.0, flow, closed(Outcome::Abandoned, SynReceived, 63.0, true));
            }
            Fate::Unanswered { repeats } => {
                if repeats {
                    for (count, after) in [(1, 1.0), (2, 3.0), (3, 7.0), (4, 15.0), (5, 31.0)] {
                        self.say(t + after, flow, syn_again(Some(SynSent), count));
                    }
                }
                self.say(t + GRACE, flow, overdue(SynSent, u8::from(repeats)));
                self.say(t + 63.0, flow, closed(Outcome::Unanswered, SynSent, 63.0, true));
            }
            Fate::Refused => self.say(t + 0.001, flow, closed(Outcome::Refused, SynSent, 0.001, false)),
            Fate::Reset => {
                self.say(t + 0.001, flow, answered(0.001, false));
                self.say(t + 0.002, flow, closed(Outcome::Reset, SynReceived, 0.002, false));
            }
            Fate::SecondTry => {
                self.say(t + 1.0, flow, syn_again(Some(SynSent), 1));
                self.say(t + 1.02, flow, answered(1.02, false));
                self.say(t + 1.04, flow, closed(Outcome::Completed, SynReceived, 1.04, false));
            }
            Fate::ThirdTry => {
                self.say(t + 1.0, flow, syn_again(Some(SynSent), 1));
                self.say(t + GRACE, flow, overdue(SynSent, 1));
                self.say(t + 3.0, flow, syn_again(Some(SynSent), 2));
                self.say(t + 3.02, flow, answered(3.02, true));
                self.say(t + 3.04, flow, closed(Outcome::Completed, SynReceived, 3.04, true));
            }
            Fate::NotAccepted => {
                self.say(t + 0.01, flow, answered(0.01, false));
                self.say(t + 0.02, flow, closed(Outcome::Completed, SynReceived, 0.02, false));
                for (count, after) in [(1, 1.0), (2, 3.0)] {
                    let kind = EventKind::SynAckRetransmitted { after_ack: true, age: secs(after), count };
                    self.say(t + after, flow, kind);
                }
            }
        }
    }

    /// Independent arrivals at a rate from `from` to `to`; `who` makes each.
    fn arrivals(&mut self, from: f64, to: f64, rate: f64, mut who: impl FnMut(&mut Self, f64)) {
        let mut t = from;
        loop {
            t -= (1.0 - self.unit()).ln() / rate;
            if t >= to {
                return;
            }
            who(self, t);
        }
    }

    /// A server with `rate` handshakes a second of which a share stays unresolved, in clusters of three.
    fn peace(&mut self, resp: Endpoint, from: f64, to: f64, rate: f64, unresolved: f64) {
        self.arrivals(from, to, rate, |traffic, t| {
            let client = traffic.client(500);
            let rtt = 0.01 + 0.08 * traffic.unit();
            traffic.attempt(t, client, resp, Fate::Completes(rtt));
        });
        if unresolved > 0.0 {
            self.arrivals(from, to, unresolved / 2.0, |traffic, t| {
                let (client, cluster) = (traffic.client(500), 1 + (traffic.unit() * 3.0) as u32);
                for _ in 0..cluster {
                    traffic.attempt(t, client, resp, Fate::Abandoned { repeats: true });
                }
            });
        }
    }

    fn flood(&mut self, resp: Endpoint, from: f64, to: f64, rate: f64) {
        self.arrivals(from, to, rate, |traffic, t| {
            let source = traffic.forged();
            traffic.attempt(t, source, resp, Fate::Abandoned { repeats: true });
        });
    }

    /// Runs everything up to `to` seconds; what the journal heard, and the detector.
    fn run(&mut self, config: &DetectConfig, servers: &[ServerConfig], to: f64, threads: usize) -> Run {
        self.run_with_loss(config, servers, to, threads, 0.0)
    }

    fn run_with_loss(
        &mut self,
        config: &DetectConfig,
        servers: &[ServerConfig],
        to: f64,
        threads: usize,
        loss: f64,
    ) -> Run {
        self.events.sort_by_key(|event| event.ts);
        let mut parts: Vec<Observations> =
            (0..threads).map(|_| Observations::new(config, servers, 7)).collect();
        let mut detector = Detector::new(config, servers, 7);
        let mut journal = Vec::new();
        let capture = CaptureLoss { frames: 1000 - (1000.0 * loss) as u64, dropped: (1000.0 * loss) as u64 };
        detector.evaluate(at(0.0), capture, &mut |entry| journal.push(entry.clone()));
        let mut tick = 0.5;
        let mut tick_all = |tick: f64, parts: &mut Vec<Observations>, detector: &mut Detector| {
            parts.iter_mut().for_each(|part| detector.absorb(part));
            detector.evaluate(at(tick), capture, &mut |entry| journal.push(entry.clone()));
        };
        for (n, event) in self.events.iter().enumerate() {
            while event.ts >= at(tick) && tick <= to {
                tick_all(tick, &mut parts, &mut detector);
                tick += 0.5;
            }
            if tick > to {
                break;
            }
            // Which thread sees an event has no system at all.
            parts[(n * 7 + n / 3) % threads].on_event(event);
        }
        while tick <= to {
            tick_all(tick, &mut parts, &mut detector);
            tick += 0.5;
        }
        Run { journal, detector }
    }
}

struct Run {
    journal: Vec<JournalEntry>,
    detector: Detector,
}

impl Run {
    /// Every (kind, server) that was ever raised, or became.
    fn kinds(&self) -> BTreeSet<(IncidentKind, String)> {
        self.journal.iter().map(|entry| (entry.incident.kind, entry.incident.server.clone())).collect()
    }

    fn only(&self, kind: IncidentKind, server: &str) {
        let expected = BTreeSet::from([(kind, server.to_owned())]);
        assert_eq!(self.kinds(), expected, "{:#?}", self.brief());
    }

    fn nothing(&self) {
        assert!(self.journal.is_empty(), "{:#?}", self.brief());
    }

    fn no_flood(&self) {
        let flood = self.kinds().into_iter().find(|(kind, _)| super::docket::is_flood(*kind));
        assert!(flood.is_none(), "{:#?}", self.brief());
    }

    /// Seconds from `onset` to the first word of this kind.
    fn delay(&self, kind: IncidentKind, onset: f64) -> f64 {
        let first = self.journal.iter().find(|entry| entry.incident.kind == kind);
        let first = first.unwrap_or_else(|| panic!("no {kind:?}: {:#?}", self.brief()));
        first.ts.as_secs_f64() - at(onset).as_secs_f64()
    }

    fn brief(&self) -> Vec<String> {
        self.journal
            .iter()
            .map(|entry| {
                let incident = &entry.incident;
                format!(
                    "{:.1} {:?} {} {} {:?} sources {} {:?} {:?}",
                    entry.ts.as_secs_f64() - EPOCH as f64,
                    entry.event,
                    incident.kind.as_label(),
                    incident.server,
                    incident.severity,
                    incident.distinct_sources,
                    incident.end_reason,
                    incident
                        .evidence
                        .iter()
                        .map(|e| format!("{} {} / {}", e.signal, e.value, e.threshold))
                        .collect::<Vec<_>>()
                )
            })
            .collect()
    }
}

fn defaults() -> DetectConfig {
    DetectConfig::default()
}

#[test]
fn floods_on_a_busy_server_are_found_at_every_rate() {
    // 100 handshakes a second, 2 unresolved a second at over-dispersion about 3 (clusters of 1 to 3: 2.3). Ceiling on the delay
    // beyond the grace age, from the issue: within 1 s where large, mean of the runs where small.
    for (rate, ceiling, runs) in
        [(2000.0, 1.0, 2), (128.0, 1.0, 4), (35.0, 2.0, 6), (20.0, 4.0, 6), (10.0, 10.0, 6)]
    {
        let mut total = 0.0;
        for seed in 0..runs {
            let mut traffic = Traffic::new(seed);
            traffic.peace(server(1), 0.0, 200.0, 100.0, 2.0);
            traffic.flood(server(1), 150.0, 200.0, rate);
            let run = traffic.run(&defaults(), &[], 200.0, 1);
            run.only(IncidentKind::SpoofedFlood, "198.51.100.1:443");
            total += run.delay(IncidentKind::SpoofedFlood, 150.0) - GRACE;
        }
        // Detection happens at the end of a bin: on average a quarter of a second is lost to that alone.
        let mean = total / runs as f64;
        assert!(mean <= ceiling + 0.25, "{rate}/s: {mean}");
    }
}

#[test]
fn a_flood_is_found_in_the_first_second_of_a_trace() {
    for (rate, length, many) in [(1000.0, 0.2, true), (10_000.0, 0.02, false), (6000.0, 1.0, true)] {
        let mut traffic = Traffic::new(3);
        traffic.arrivals(0.0, length, rate, |traffic, t| {
            let mut source = traffic.forged();
            if !many {
                source.addr = v4("198.18.0.9");
            }
            traffic.attempt(t, source, server(9), Fate::Unanswered { repeats: false });
        });
        // As the pipeline does at the end of input: three seconds of silence.
        let run = traffic.run(&defaults(), &[], length + 3.0, 1);
        let kind = if many { IncidentKind::SpoofedFlood } else { IncidentKind::DirectFlood };
        run.only(kind, "198.51.100.9:443");
        let incident = &run.detector.incidents()[0];
        assert!(incident.attempts as f64 > rate * length * 0.6, "{incident:?}");
        assert!(incident.onset <= at(0.6) && incident.onset >= at(-1.0), "{incident:?}");
    }
}

#[test]
fn an_incident_begins_once_ends_once_and_says_why() {
    let mut traffic = Traffic::new(4);
    traffic.peace(server(1), 0.0, 260.0, 50.0, 0.5);
    traffic.flood(server(1), 100.0, 130.0, 500.0);
    let run = traffic.run(&defaults(), &[], 260.0, 1);
    let changes: Vec<Change> = run.journal.iter().map(|entry| entry.event).collect();
    assert_eq!(changes.iter().filter(|c| **c == Change::Raised).count(), 1, "{:#?}", run.brief());
    assert_eq!(changes.last(), Some(&Change::Ended));
    let ids: BTreeSet<&str> = run.journal.iter().map(|entry| entry.incident.id.as_str()).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert!(ids.iter().all(|id| id.starts_with("20251122T") && id.contains("Z-spoofed_flood-")), "{ids:?}");
    let incident = &run.detector.incidents()[0];
    let onset = incident.onset.as_secs_f64() - EPOCH as f64;
    assert!((onset - 100.0).abs() < 2.0, "onset {onset}");
    let ended = incident.ended_at.unwrap().as_secs_f64() - EPOCH as f64;
    assert!((160.0..170.0).contains(&ended), "ended {ended}");
    assert_eq!(incident.end_reason, Some("unresolved attempts are back within the baseline"));
    assert_eq!(incident.severity, Severity::Critical);
    // 30 s of 500/s and 50/s beside; the estimate of distinct sources within 10 % of what 15,000 draws of 131,072 give (14,180).
    assert!((15_000.0..19_000.0).contains(&(incident.attempts as f64)), "{}", incident.attempts);
    assert!(
        (incident.distinct_sources as f64 / 14_180.0 - 1.0).abs() < 0.15,
        "{}",
        incident.distinct_sources
    );
    assert!((incident.syn_rate_peak - 550.0).abs() < 120.0, "{}", incident.syn_rate_peak);
    assert_eq!(run.detector.raised().iter().sum::<u64>(), 1);
}

#[test]
fn pulses_are_found_by_the_second_and_stay_one_incident() {
    let mut traffic = Traffic::new(5);
    traffic.peace(server(1), 0.0, 200.0, 100.0, 2.0);
    for pulse in 0..8 {
        let t = 100.0 + 10.0 * f64::from(pulse);
        traffic.flood(server(1), t, t + 0.2, 1000.0);
    }
    let run = traffic.run(&defaults(), &[], 200.0, 1);
    run.only(IncidentKind::SpoofedFlood, "198.51.100.1:443");
    assert!(run.delay(IncidentKind::SpoofedFlood, 100.0) < 12.0);
    assert_eq!(run.detector.incidents().len(), 1);
}

#[test]
fn a_slow_flood_on_a_quiet_server_is_found_before_half_its_backlog_is_held() {
    for history in [5.0, 120.0] {
        let mut traffic = Traffic::new(6);
        traffic.peace(server(1), 0.0, history + 60.0, 1.0, 0.0);
        traffic.flood(server(1), history, history + 60.0, 3.0);
        let run = traffic.run(&defaults(), &[], history + 60.0, 1);
        let delay = run.delay(IncidentKind::SpoofedFlood, history);
        assert!(delay * 3.0 < 64.0, "after {history} s: {delay} s");
    }
}

#[test]
fn one_source_whose_stack_resets_each_answer_is_a_direct_flood() {
    let mut traffic = Traffic::new(7);
    traffic.peace(server(1), 0.0, 90.0, 50.0, 0.5);
    traffic.arrivals(60.0, 90.0, 500.0, |traffic, t| {
        let port = 1024 + (traffic.unit() * 60_000.0) as u16;
        traffic.attempt(t, Endpoint::new(v4("198.18.0.1"), port), server(1), Fate::Reset);
    });
    traffic.run(&defaults(), &[], 90.0, 1).only(IncidentKind::DirectFlood, "198.51.100.1:443");
}

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

#[test]
fn ports_by_the_ten_thousand_a_second_from_one_source_are_a_flood() {
    let mut traffic = Traffic::new(12);
    for n in 0..13_000_u32 {
        let target = Endpoint::new(v4("198.51.100.77"), 1 + (n.wrapping_mul(48_271) % 60_000) as u16);
        let source = Endpoint::new(v4("203.0.113.7"), 40_000);
        traffic.attempt(f64::from(n) / 13_000.0, source, target, Fate::Unanswered { repeats: false });
    }
    traffic.run(&defaults(), &[], 4.0, 1).only(IncidentKind::DirectFlood, "198.51.100.77");
}

#[test]
fn forged_sources_on_random_ports_are_a_flood_of_the_host() {
    let mut traffic = Traffic::new(13);
    traffic.arrivals(10.0, 20.0, 500.0, |traffic, t| {
        let (source, port) = (traffic.forged(), 1 + (traffic.unit() * 65_000.0) as u16);
        let target = Endpoint::new(v4("198.51.100.77"), port);
        traffic.attempt(t, source, target, Fate::Unanswered { repeats: false });
    });
    traffic.run(&defaults(), &[], 24.0, 1).only(IncidentKind::SpoofedFlood, "198.51.100.77");
}

#[test]
fn a_carpet_is_found_by_its_prefix() {
    let mut traffic = Traffic::new(14);
    for n in 1..40 {
        traffic.peace(server(n), 0.0, 120.0, 2.0, 0.05);
    }
    traffic.arrivals(60.0, 120.0, 1000.0, |traffic, t| {
        let (source, host) = (traffic.forged(), (traffic.unit() * 256.0) as u8);
        traffic.attempt(t, source, server(host), Fate::Abandoned { repeats: true });
    });
    let run = traffic.run(&defaults(), &[], 120.0, 1);
    run.only(IncidentKind::CarpetFlood, "198.51.100.0/24");
    assert!(run.delay(IncidentKind::CarpetFlood, 60.0) <= 5.0);
}

#[test]
fn two_victims_are_two_incidents() {
    let mut traffic = Traffic::new(15);
    traffic.peace(server(1), 0.0, 120.0, 50.0, 1.0);
    traffic.peace(server(2), 0.0, 120.0, 20.0, 0.4);
    traffic.flood(server(1), 60.0, 120.0, 3000.0);
    traffic.flood(server(2), 62.0, 120.0, 20.0);
    let run = traffic.run(&defaults(), &[], 120.0, 1);
    let expected =
        ["198.51.100.1:443", "198.51.100.2:443"].map(|s| (IncidentKind::SpoofedFlood, s.to_owned()));
    assert_eq!(run.kinds(), BTreeSet::from(expected), "{:#?}", run.brief());
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
    use super::incident::ServerMode;
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

#[test]
fn a_saturated_table_does_not_lower_the_alarm() {
    let mut traffic = Traffic::new(22);
    traffic.peace(server(1), 0.0, 90.0, 50.0, 0.5);
    // One in a hundred SYNs of the flood is tracked, the rest are only counted.
    traffic.flood(server(1), 60.0, 90.0, 10.0);
    traffic.arrivals(60.0, 90.0, 990.0, |traffic, t| {
        let flow = Flow { orig: traffic.forged(), resp: server(1) };
        traffic.say(t, flow, EventKind::Untracked { syn: SynTraits::default() });
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
fn ipv6_sources_of_one_subscriber_are_found() {
    let mut traffic = Traffic::new(25);
    let target = Endpoint::new("2001:db8:ff::1".parse().unwrap(), 443);
    traffic.arrivals(1.0, 11.0, 100.0, |traffic, t| {
        let low = (traffic.unit() * u64::MAX as f64) as u128;
        let source = IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8_0001_0002 << 64 | low));
        traffic.attempt(t, Endpoint::new(source, 999), target, Fate::Abandoned { repeats: true });
    });
    let run = traffic.run(&defaults(), &[], 14.0, 1);
    run.only(IncidentKind::DirectFlood, "[2001:db8:ff::1]:443");
    assert_eq!(run.detector.incidents()[0].distinct_sources, 1);
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
    let opened =
        traffic.events.iter().filter(|e| matches!(e.kind, EventKind::Opened { .. }) && e.ts < at(20.0));
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
    use super::heavy::{Entry, WAYS};
    use super::ledger::DETECTOR_SKETCHES;
    use super::observe::{FOLD_SLOTS, PROBE_SETS, STRAY_SETS, THREAD_SKETCHES, UNKNOWN_SLOTS};
    use super::probe::{Probe, Stray};
    use super::scans::Scans;
    use super::slots::Slots;
    use super::sources::SourceSketch;
    use super::watch::Watch;
    let sketches = |n: usize| n * (size_of::<SourceSketch>() + 16);
    let thread = Slots::bytes(config.max_servers + UNKNOWN_SLOTS)
        + Slots::bytes(FOLD_SLOTS)
        + sketches(THREAD_SKETCHES)
        + PROBE_SETS * WAYS * (size_of::<Entry<Probe>>() + 8)
        + STRAY_SETS * WAYS * (size_of::<Entry<Stray>>() + 8)
        + super::queues::Notes::bytes();
    // A map entry takes a key, a number and slack.
    let keys = config.max_servers + config.max_hosts + config.max_prefixes + 1;
    let watches = keys.next_multiple_of(super::ledger::GROWTH) * size_of::<Option<Watch>>() + keys * 96;
    // An incident with ten signals of 150 bytes of text.
    let incident =
        size_of::<super::incident::Incident>() + 10 * (size_of::<super::incident::Evidence>() + 150);
    let incidents = (config.max_incidents + 3 * super::episode::MAX_RUNNING) * incident;
    let detector = Slots::bytes(super::PENDING_SLOTS)
        + Slots::bytes(FOLD_SLOTS)
        + sketches(DETECTOR_SKETCHES)
        + Scans::bytes()
        + watches
        + incidents
        + super::queues::Queues::bytes(4);
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
