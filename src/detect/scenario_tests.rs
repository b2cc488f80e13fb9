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
use crate::track::event::{EventKind, EventSink, HandshakeEvent, HandshakeState, Outcome};
use crate::track::flow::Flow;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

#[path = "scenario_tests/adversaries.rs"]
mod adversaries;
#[path = "scenario_tests/callers.rs"]
mod callers;
#[path = "scenario_tests/floods.rs"]
mod floods;
#[path = "scenario_tests/lookalikes.rs"]
mod lookalikes;
#[path = "scenario_tests/scans.rs"]
mod scans;
#[path = "scenario_tests/sensor.rs"]
mod sensor;
#[path = "scenario_tests/services.rs"]
mod services;

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
    /// Answered only after so many seconds, past the grace age, and then completes; what came again meanwhile is answered as late, or
    /// dropped.
    Late { after: f64, copies: bool },
    /// Another SYN with another sequence number takes its place after so many seconds, within the grace age.
    Superseded(f64),
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
            bare: false,
        };
        let syn_again =
            |count, after| EventKind::SynRetransmitted { state: Some(SynSent), count, after: secs(after) };
        self.say(t, flow, EventKind::Opened);
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
                        self.say(t + after, flow, syn_again(count, after));
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
                self.say(t + 1.0, flow, syn_again(1, 1.0));
                self.say(t + 1.02, flow, answered(1.02, false));
                self.say(t + 1.04, flow, closed(Outcome::Completed, SynReceived, 1.04, false));
            }
            Fate::ThirdTry => {
                self.say(t + 1.0, flow, syn_again(1, 1.0));
                self.say(t + GRACE, flow, overdue(SynSent, 1));
                self.say(t + 3.0, flow, syn_again(2, 3.0));
                self.say(t + 3.02, flow, answered(3.02, true));
                self.say(t + 3.04, flow, closed(Outcome::Completed, SynReceived, 3.04, true));
            }
            Fate::Late { after: late, copies } => {
                for (count, after) in [(1, 1.0), (2, 3.0), (3, 7.0)].into_iter().filter(|(_, t)| *t < late) {
                    self.say(t + after, flow, syn_again(count, after));
                    if copies {
                        let kind =
                            EventKind::SynAckRetransmitted { after_ack: true, age: secs(after), count };
                        self.say(t + late + after, flow, kind);
                    }
                    if copies && count == 2 {
                        self.say(t + late + after, flow, EventKind::NotTaken { overdue: true });
                    }
                }
                self.say(t + GRACE, flow, overdue(SynSent, 1));
                self.say(t + late, flow, answered(late, true));
                self.say(t + late + 0.02, flow, closed(Outcome::Completed, SynReceived, late + 0.02, true));
            }
            Fate::Superseded(after) => {
                self.say(t + after, flow, closed(Outcome::Superseded, SynSent, after, false));
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
        let flood = self.kinds().into_iter().find(|(kind, _)| super::classify::is_flood(*kind));
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
