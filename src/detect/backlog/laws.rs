//! Laws of ordinary traffic: however busy a server is and however far its clients are, it is not attacked.

use super::*;
use crate::decode::segment::Endpoint;
use crate::detect::incident::ServerMode;
use crate::track::event::{EventKind, HandshakeState, Outcome};
use crate::track::flow::Flow;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr};

/// Clients of a server that takes everybody. Times are seconds.
#[derive(Debug, Clone, Copy)]
struct Crowd {
    /// Clients a second, as a Poisson process.
    rate: f64,
    /// From the sensor to the server and back, and by how much more that is at the most.
    way: f64,
    jitter: f64,
    /// From the sensor to a client and back, at the least and at the most.
    client: (f64, f64),
    /// Share of those who never acknowledge.
    silent: f64,
}

const SECONDS: f64 = 12.0;
/// When all that is usual has been learned and the first of those who keep silent have had their first repetition.
const SETTLED: f64 = 5.0;

/// SplitMix64, from 0 to 1.
fn unit(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

impl Crowd {
    /// What the tracker says of them, in order, and for each client from when to when the sensor knows it open.
    fn events(&self, seed: u64) -> (Vec<HandshakeEvent>, Vec<(f64, f64)>) {
        let mut random = seed;
        let (mut events, mut open) = (Vec::new(), Vec::new());
        let (mut at, mut number) = (0.0, 0_u32);
        loop {
            at -= (1.0 - unit(&mut random)).ln() / self.rate;
            if at > SECONDS {
                break;
            }
            number += 1;
            // Ports come again only long after.
            let orig = Endpoint::new(
                IpAddr::V4(Ipv4Addr::from_bits(0x0A00_0000 + number / 50_000)),
                (number % 50_000) as u16,
            );
            let resp = Endpoint::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)), 80);
            let mut say = |seconds: f64, kind: EventKind| {
                let ts = Timestamp::from_nanos(1_000_000_000_000_000 + (seconds * 1e6) as i64 * 1000);
                events.push(HandshakeEvent { ts, flow: Flow { orig, resp }, weight: 1, kind });
            };
            // Ages are those of the stamps, to the microsecond.
            let micros = |to: f64| Duration::from_micros((to * 1e6) as u64 - (at * 1e6) as u64);
            let answered = at + self.way + self.jitter * unit(&mut random);
            let (near, far) = self.client;
            let acknowledged = answered + near + (far - near) * unit(&mut random);
            let silent = unit(&mut random) < self.silent;
            say(at, EventKind::Opened);
            say(answered, EventKind::Answered { after: micros(answered), overdue: false });
            let ended = if silent { f64::MAX } else { acknowledged };
            for (count, age) in [(1, 1.02), (2, 3.04), (3, 7.2)] {
                // The server hears of the acknowledgement half a way later; what it sent before comes by in the end.
                if ended + self.way / 2.0 > answered - self.way / 2.0 + age && ended > answered + age {
                    let again = answered + age;
                    say(
                        again,
                        EventKind::SynAckRetransmitted { after_ack: false, age: micros(again), count },
                    );
                }
            }
            if !silent {
                let (outcome, state) = (Outcome::Completed, HandshakeState::SynReceived);
                say(ended, EventKind::Closed { outcome, state, after: micros(ended), overdue: false });
            }
            open.push((at, ended));
        }
        events.sort_by_key(|event| event.ts);
        (events, open)
    }

    /// Lets them come, and complains of what the model makes of them.
    fn judge(&self, backlog: Option<u64>, seed: u64) -> Result<(), String> {
        let (events, open) = self.events(seed);
        let mut ends: Vec<f64> = open.iter().map(|(_, to)| *to).collect();
        ends.sort_by(f64::total_cmp);
        let mut model = BacklogModel::new(None::<Profile>, backlog, 1);
        let mut events = events.iter().peekable();
        for tenth in 1..(SECONDS * 10.0) as u32 {
            let second = f64::from(tenth) / 10.0;
            let now = Timestamp::from_nanos(1_000_000_000_000_000 + (second * 1e9) as i64);
            while let Some(event) = events.next_if(|event| event.ts <= now) {
                model.on_event(event);
            }
            model.advance(now);
            let verdict = model.mode();
            let known = verdict.mode == ServerMode::Queue || verdict.completed + verdict.repeated < 1.0;
            if !known {
                return Err(format!("{verdict:?} at {second}"));
            }
            if backlog.is_none() && model.limit().is_some() {
                return Err(format!("learned {:?} at {second}: {verdict:?}", model.limit()));
            }
            let began = open.partition_point(|(from, _)| *from <= second);
            let truth = (began - ends.partition_point(|to| *to <= second)) as f64;
            let off = (model.occupancy() as f64 - truth).abs();
            if second >= SETTLED && off > (0.05 * truth).max(3.0) {
                return Err(format!("{} reckoned, {truth} open at {second}", model.occupancy()));
            }
        }
        // Little's law, of which the counts above are one instance each.
        let (from, to) = (SETTLED, SECONDS - 3.0);
        let all: f64 = open.iter().map(|(began, ended)| (ended.min(to) - began.max(from)).max(0.0)).sum();
        let (near, far) = self.client;
        let expected = self.rate * (self.way + self.jitter / 2.0 + (near + far) / 2.0);
        if self.silent == 0.0 && expected > 100.0 && (all / (to - from) / expected - 1.0).abs() > 0.2 {
            return Err(format!("the test itself: {} open on average, not {expected}", all / (to - from)));
        }
        Ok(())
    }
}

#[test]
fn a_busy_server_behind_a_long_way_sends_no_cookies() {
    // What was shown as a server that sends cookies: 30 to 200 ms to the server, 20 ms to the client.
    for (rate, silent) in [(60.0, 0.0), (60.0, 0.01), (2000.0, 0.0), (2000.0, 0.01)] {
        for way in [0.0001, 0.03, 0.1, 0.2, 0.6] {
            let crowd = Crowd { rate, way, jitter: 0.0, client: (0.02, 0.02), silent };
            for backlog in [Some(65_535), None] {
                assert_eq!(crowd.judge(backlog, 3), Ok(()), "{crowd:?}, {backlog:?}");
            }
        }
    }
    let crowd = Crowd { rate: 20_000.0, way: 0.2, jitter: 0.1, client: (0.02, 0.4), silent: 0.01 };
    assert_eq!(crowd.judge(Some(65_535), 3), Ok(()), "{crowd:?}");
}

/// A quiet server behind a tap that loses frames: clients come in bursts, some of their SYNs are never answered, some refused, some
/// answered and abandoned. Whether its model ever says, beyond loss, that it does not accept.
fn overflows(rate: f64, unanswered: f64, loss: f64, seconds: f64, seed: u64) -> Option<f64> {
    let mut random = seed;
    let (mut events, mut burst, mut number) = (Vec::new(), 0.0, 0_u32);
    while burst < seconds {
        burst -= (1.0 - unit(&mut random)).ln() * 2.0 / rate;
        for _ in 0..=(-(1.0 - unit(&mut random)).ln()) as u32 {
            let at = burst + 0.3 * unit(&mut random);
            number += 1;
            let orig = Endpoint::new(
                IpAddr::V4(Ipv4Addr::from_bits(0xCB00_7000 + number % 700)),
                (1024 + number % 60_000) as u16,
            );
            let resp = Endpoint::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)), 80);
            let mut say = |after: f64, kind: EventKind| {
                let ts = Timestamp::from_nanos(1_000_000_000_000_000 + ((at + after) * 1e6) as i64 * 1000);
                events.push(HandshakeEvent { ts, flow: Flow { orig, resp }, weight: 1, kind });
            };
            let mut seen = || unit(&mut random) >= loss;
            if !seen() {
                continue;
            }
            say(0.0, EventKind::Opened);
            let (answer, ack) = (seen(), seen());
            let fate = unit(&mut random);
            if fate < unanswered + 0.06 || !answer {
                continue;
            }
            say(0.001, EventKind::Answered { after: Duration::from_millis(1), overdue: false });
            if fate >= unanswered + 0.09 && ack {
                let (outcome, state) = (Outcome::Completed, HandshakeState::SynReceived);
                let after = Duration::from_millis(30);
                say(0.03, EventKind::Closed { outcome, state, after, overdue: false });
            } else if fate < unanswered + 0.09 {
                for (count, age) in [(1, 1.02), (2, 3.06), (3, 7.2), (4, 15.3), (5, 31.4)] {
                    if unit(&mut random) >= loss {
                        let age = Duration::from_secs_f64(age);
                        let again = EventKind::SynAckRetransmitted { after_ack: false, age, count };
                        say(age.as_secs_f64(), again);
                    }
                }
            }
        }
    }
    events.sort_by_key(|event| event.ts);
    let mut model = BacklogModel::new(None::<Profile>, Some(511), 1);
    let told = events.iter().find(|event| {
        model.on_event(event);
        model.mode().beyond_loss
    });
    told.map(|event| event.ts.as_secs_f64() - 1e6)
}

#[test]
fn what_a_lossy_tap_hides_of_a_quiet_server_is_no_full_accept_queue() {
    // The second is what was told as one, 46 minutes after it began.
    for (rate, unanswered, loss) in [
        (0.3, 0.02, 0.1),
        (1.5, 0.5, 0.1),
        (1.5, 0.1, 0.1),
        (6.0, 0.3, 0.1),
        (6.0, 0.5, 0.02),
        (2.0, 0.0, 0.3),
    ] {
        for seed in 0..6 {
            let told = overflows(rate, unanswered, loss, 3000.0, seed);
            assert_eq!(told, None, "{rate}/s, {unanswered} unanswered, {loss} lost, seed {seed}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Any number of clients that complete, at any distance: their server keeps a queue, which holds rate times round trip, and
    /// shows no limit.
    #[test]
    fn who_completes_leaves_no_trace(
        rate in 0.0_f64..3.5,
        way in -4.0_f64..-0.1,
        jitter in 0.0_f64..1.5,
        near in -4.0_f64..-0.05,
        spread in 1.0_f64..3.0,
        seed in any::<u64>(),
    ) {
        let (way, near) = (10_f64.powf(way), 10_f64.powf(near));
        // Half a second of jitter is more than a second's way: an answer to a SYN that came again.
        let jitter = (way * jitter).min(0.5);
        let crowd = Crowd { rate: 10_f64.powf(rate), way, jitter, client: (near, (near * spread).min(0.9)), silent: 0.0 };
        prop_assert_eq!(crowd.judge(Some(65_535), seed), Ok(()), "{:?}", crowd);
        prop_assert_eq!(crowd.judge(None, seed), Ok(()), "{:?}", crowd);
    }
}
