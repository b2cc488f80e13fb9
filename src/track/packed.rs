//! Stage 3 of 5, track: events in as few bytes as they need, on their way to another thread.
//!
//! 32 bytes an event, 64 where its addresses are of IPv6; whole words, so that nothing is read in another width than it was written in
//! (which a processor waits for), and few lines of memory go from one processor to the other. What comes out is what went in. No clock.

use super::event::{EventKind, HalfOpenCase, HandshakeEvent, HandshakeState, Oddity, Outcome};
use super::flow::Flow;
use crate::decode::segment::Endpoint;
use crate::time::Timestamp;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// Time; both addresses of IPv4; ports and what happened; an age. Of IPv6 another row with the addresses follows.
type Row = [u64; 4];

/// Events in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct PackedEvents {
    rows: Vec<Row>,
}

impl PackedEvents {
    /// Room for as many events of IPv4, or half as many of IPv6.
    pub(crate) fn with_capacity(events: usize) -> Self {
        Self { rows: Vec::with_capacity(events + 1) }
    }

    /// Whether it has as many as it was made for: another may make it allocate.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.rows.len() + 1 >= self.rows.capacity()
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Adds one. Its weight is a power of two, and an age of more than 584 years is cut to that.
    #[inline(always)]
    pub(crate) fn push(&mut self, event: &HandshakeEvent) {
        let (what, age) = pack(event.kind);
        let Flow { orig, resp } = event.flow;
        let ports = u64::from(orig.port) << 16 | u64::from(resp.port);
        let level = u64::from(event.weight.trailing_zeros() & LEVELS);
        let word = ports << PORTS | level << LEVEL | what;
        let (ts, age) = (event.ts.as_nanos() as u64, u64::try_from(age.as_nanos()).unwrap_or(u64::MAX));
        match (orig.addr, resp.addr) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let both = u64::from(from.to_bits()) << 32 | u64::from(to.to_bits());
                self.rows.push([ts, both, word, age]);
            }
            (from, to) => {
                let [from, to] = [from, to].map(|addr| match addr {
                    IpAddr::V4(addr) => addr.to_ipv6_mapped().to_bits(),
                    IpAddr::V6(addr) => addr.to_bits(),
                });
                self.rows.push([ts, 0, word | WIDE, age]);
                self.rows.push([(from >> 64) as u64, from as u64, (to >> 64) as u64, to as u64]);
            }
        }
    }

    /// Takes all out again, in order. Where `each` panics, what it was not given stays.
    #[inline]
    pub(crate) fn drain(&mut self, mut each: impl FnMut(&HandshakeEvent)) {
        let mut rows = Taking { rows: &mut self.rows, taken: 0 };
        while let Some([ts, both, word, age]) = rows.next() {
            let (from, to) = if word & WIDE == 0 {
                (Ipv4Addr::from_bits((both >> 32) as u32).into(), Ipv4Addr::from_bits(both as u32).into())
            } else {
                let Some([a, b, c, d]) = rows.next() else { break };
                let wide = |high, low| Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low)).into();
                (wide(a, b), wide(c, d))
            };
            let [from_port, to_port] = [(word >> (PORTS + 16)) as u16, (word >> PORTS) as u16];
            each(&HandshakeEvent {
                ts: Timestamp::from_nanos(ts as i64),
                flow: Flow { orig: Endpoint::new(from, from_port), resp: Endpoint::new(to, to_port) },
                weight: 1 << ((word >> LEVEL) as u32 & LEVELS),
                kind: unpack(word, Duration::from_nanos(age)),
            });
        }
    }
}

/// Rows on their way out: those taken leave in the end, whatever ends it, so that none is taken twice.
struct Taking<'a> {
    rows: &'a mut Vec<Row>,
    taken: usize,
}

impl Taking<'_> {
    #[inline(always)]
    fn next(&mut self) -> Option<Row> {
        let row = *self.rows.get(self.taken)?;
        self.taken += 1;
        Some(row)
    }
}

impl Drop for Taking<'_> {
    #[inline]
    fn drop(&mut self) {
        self.rows.drain(..self.taken);
    }
}

// The third word, from its lowest bit: four bits for what happened, up to eighteen for the particulars, the level of the weight, a bit for
// IPv6, and from the middle on both ports.
const PARTICULARS: u32 = 4;
const LEVEL: u32 = 24;
const LEVELS: u32 = 31;
const WIDE: u64 = 1 << 30;
const PORTS: u32 = 32;

const OPENED: u64 = 0;
const UNTRACKED: u64 = 1;
const SYN_RETRANSMITTED: u64 = 2;
const ANSWERED: u64 = 3;
const SYN_ACK_RETRANSMITTED: u64 = 4;
const NOT_TAKEN: u64 = 5;
const OVERDUE: u64 = 6;
const CLOSED: u64 = 7;
const UNSOLICITED_SYN_ACK: u64 = 8;
const UNSOLICITED_RST: u64 = 9;
const MISMATCHED: u64 = 10;
const SIMULTANEOUS_OPEN: u64 = 11;
const ODDITY: u64 = 12;
const HALF_OPEN: u64 = 13;
const UNFINISHED: u64 = 14;

/// What happened and its particulars, and the age it tells.
#[inline(always)]
fn pack(kind: EventKind) -> (u64, Duration) {
    let said = |what: u64, particulars: u64| what | particulars << PARTICULARS;
    let (none, synced) = (Duration::ZERO, |state| u64::from(state == HandshakeState::SynReceived));
    match kind {
        EventKind::Opened => (said(OPENED, 0), none),
        EventKind::Untracked => (said(UNTRACKED, 0), none),
        EventKind::SynRetransmitted { state, count, after } => {
            let state = state.map_or(0, |state| 2 | synced(state));
            (said(SYN_RETRANSMITTED, state << 8 | u64::from(count)), after)
        }
        EventKind::Answered { after, overdue } => (said(ANSWERED, u64::from(overdue)), after),
        EventKind::SynAckRetransmitted { after_ack, age, count } => {
            (said(SYN_ACK_RETRANSMITTED, u64::from(after_ack) << 8 | u64::from(count)), age)
        }
        EventKind::NotTaken { overdue } => (said(NOT_TAKEN, u64::from(overdue)), none),
        EventKind::Overdue { state, syn_retransmissions, syn_ack_retransmissions, bare } => {
            let copies = u64::from(syn_retransmissions) << 8 | u64::from(syn_ack_retransmissions);
            (said(OVERDUE, u64::from(bare) << 17 | synced(state) << 16 | copies), none)
        }
        EventKind::Closed { outcome, state, after, overdue } => {
            (said(CLOSED, (outcome as u64) << 2 | synced(state) << 1 | u64::from(overdue)), after)
        }
        EventKind::UnsolicitedSynAck => (said(UNSOLICITED_SYN_ACK, 0), none),
        EventKind::UnsolicitedRst => (said(UNSOLICITED_RST, 0), none),
        EventKind::Mismatched { reset } => (said(MISMATCHED, u64::from(reset)), none),
        EventKind::SimultaneousOpen => (said(SIMULTANEOUS_OPEN, 0), none),
        EventKind::Unfinished => (said(UNFINISHED, 0), none),
        EventKind::Oddity(oddity) => (said(ODDITY, oddity as u64), none),
        EventKind::HalfOpen { case, originator_is_gone, after } => {
            (said(HALF_OPEN, (case as u64) << 1 | u64::from(originator_is_gone)), after)
        }
    }
}

/// What was packed.
#[inline(always)]
fn unpack(word: u64, age: Duration) -> EventKind {
    let particulars = word >> PARTICULARS;
    let is_set = |bit: u32| particulars >> bit & 1 == 1;
    let byte = |from: u32| (particulars >> from) as u8;
    let state = |bit| if is_set(bit) { HandshakeState::SynReceived } else { HandshakeState::SynSent };
    match word & ((1 << PARTICULARS) - 1) {
        OPENED => EventKind::Opened,
        UNTRACKED => EventKind::Untracked,
        SYN_RETRANSMITTED => {
            EventKind::SynRetransmitted { state: is_set(9).then(|| state(8)), count: byte(0), after: age }
        }
        ANSWERED => EventKind::Answered { after: age, overdue: is_set(0) },
        SYN_ACK_RETRANSMITTED => EventKind::SynAckRetransmitted { after_ack: is_set(8), age, count: byte(0) },
        NOT_TAKEN => EventKind::NotTaken { overdue: is_set(0) },
        OVERDUE => EventKind::Overdue {
            state: state(16),
            syn_retransmissions: byte(8),
            syn_ack_retransmissions: byte(0),
            bare: is_set(17),
        },
        CLOSED => {
            let outcome = Outcome::ALL[(particulars >> 2 & 7) as usize % Outcome::ALL.len()];
            EventKind::Closed { outcome, state: state(1), after: age, overdue: is_set(0) }
        }
        UNSOLICITED_SYN_ACK => EventKind::UnsolicitedSynAck,
        UNSOLICITED_RST => EventKind::UnsolicitedRst,
        MISMATCHED => EventKind::Mismatched { reset: is_set(0) },
        UNFINISHED => EventKind::Unfinished,
        ODDITY => EventKind::Oddity(Oddity::ALL[(particulars & 3) as usize % Oddity::ALL.len()]),
        HALF_OPEN => {
            let case = HalfOpenCase::ALL[(particulars >> 1 & 3) as usize % HalfOpenCase::ALL.len()];
            EventKind::HalfOpen { case, originator_is_gone: is_set(0), after: age }
        }
        _ => EventKind::SimultaneousOpen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::select;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    fn state() -> impl Strategy<Value = HandshakeState> {
        select(vec![HandshakeState::SynSent, HandshakeState::SynReceived])
    }

    fn age() -> impl Strategy<Value = Duration> {
        any::<u64>().prop_map(Duration::from_nanos)
    }

    /// Every kind, with whatever it can say.
    fn kind() -> impl Strategy<Value = EventKind> {
        prop_oneof![
            Just(EventKind::Opened),
            Just(EventKind::Untracked),
            (prop::option::of(state()), any::<u8>(), age())
                .prop_map(|(state, count, after)| EventKind::SynRetransmitted { state, count, after }),
            (age(), any::<bool>()).prop_map(|(after, overdue)| EventKind::Answered { after, overdue }),
            (any::<bool>(), age(), any::<u8>())
                .prop_map(|(after_ack, age, count)| EventKind::SynAckRetransmitted { after_ack, age, count }),
            any::<bool>().prop_map(|overdue| EventKind::NotTaken { overdue }),
            (state(), any::<u8>(), any::<u8>(), any::<bool>()).prop_map(|(state, syns, syn_acks, bare)| {
                EventKind::Overdue {
                    state,
                    syn_retransmissions: syns,
                    syn_ack_retransmissions: syn_acks,
                    bare,
                }
            }),
            (select(&Outcome::ALL[..]), state(), age(), any::<bool>()).prop_map(
                |(outcome, state, after, overdue)| EventKind::Closed { outcome, state, after, overdue }
            ),
            Just(EventKind::UnsolicitedSynAck),
            Just(EventKind::UnsolicitedRst),
            any::<bool>().prop_map(|reset| EventKind::Mismatched { reset }),
            Just(EventKind::SimultaneousOpen),
            Just(EventKind::Unfinished),
            select(&Oddity::ALL[..]).prop_map(EventKind::Oddity),
            (select(&HalfOpenCase::ALL[..]), any::<bool>(), age()).prop_map(
                |(case, originator_is_gone, after)| EventKind::HalfOpen { case, originator_is_gone, after }
            ),
        ]
    }

    fn flow() -> impl Strategy<Value = Flow> {
        let ends = |from: IpAddr, to: IpAddr, ports: (u16, u16)| Flow {
            orig: Endpoint::new(from, ports.0),
            resp: Endpoint::new(to, ports.1),
        };
        prop_oneof![
            (any::<u32>(), any::<u32>(), any::<(u16, u16)>()).prop_map(move |(from, to, ports)| {
                ends(Ipv4Addr::from_bits(from).into(), Ipv4Addr::from_bits(to).into(), ports)
            }),
            (any::<u128>(), any::<u128>(), any::<(u16, u16)>()).prop_map(move |(from, to, ports)| {
                ends(Ipv6Addr::from_bits(from).into(), Ipv6Addr::from_bits(to).into(), ports)
            }),
        ]
    }

    fn event() -> impl Strategy<Value = HandshakeEvent> {
        (any::<i64>(), flow(), 0..32_u32, kind()).prop_map(|(ts, flow, level, kind)| HandshakeEvent {
            ts: Timestamp::from_nanos(ts),
            flow,
            weight: 1 << level,
            kind,
        })
    }

    proptest! {
        /// Whatever goes in comes out, in its order, and a second time round as well.
        #[test]
        fn what_comes_out_is_what_went_in(rounds in prop::collection::vec(prop::collection::vec(event(), 0..40), 1..4)) {
            let mut packed = PackedEvents::with_capacity(8);
            for events in rounds {
                for event in &events {
                    packed.push(event);
                }
                let mut out = Vec::new();
                packed.drain(|event| out.push(*event));
                prop_assert_eq!(out, events);
                prop_assert!(packed.is_empty());
            }
        }
    }

    /// What was taken out is out, also where whoever takes it panics; the rest is there still.
    #[test]
    fn a_panic_of_whoever_drains_leaves_what_was_not_taken() {
        for addr in ["198.18.0.1", "2001:db8::1"] {
            let end = Endpoint::new(addr.parse().unwrap(), 80);
            let mut packed = PackedEvents::with_capacity(8);
            for number in 0..6 {
                let ts = Timestamp::from_nanos(number);
                let flow = Flow { orig: end, resp: end };
                packed.push(&HandshakeEvent { ts, flow, weight: 1, kind: EventKind::Opened });
            }
            let mut taken = Vec::new();
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                packed.drain(|event| {
                    taken.push(event.ts.as_nanos());
                    if taken.len() == 3 {
                        // As a panic unwinds, without the message of one.
                        resume_unwind(Box::new("on purpose, of a test"));
                    }
                });
            }));
            assert!(panicked.is_err());
            packed.drain(|event| taken.push(event.ts.as_nanos()));
            assert_eq!(taken, [0, 1, 2, 3, 4, 5], "{addr}");
            assert!(packed.is_empty());
        }
    }

    #[test]
    fn full_comes_before_it_would_have_to_grow() {
        let end = |addr: &str| Endpoint::new(addr.parse().unwrap(), 80);
        for (addr, events) in [("198.18.0.1", 64), ("2001:db8::1", 32)] {
            let mut packed = PackedEvents::with_capacity(64);
            let room = packed.rows.capacity();
            let flow = Flow { orig: end(addr), resp: end(addr) };
            let mut pushed = 0;
            while !packed.is_full() {
                packed.push(&HandshakeEvent {
                    ts: Timestamp::EPOCH,
                    flow,
                    weight: 1,
                    kind: EventKind::Opened,
                });
                pushed += 1;
            }
            assert!((events..events + 2).contains(&pushed), "{pushed} of {addr}");
            assert_eq!(packed.rows.capacity(), room);
        }
    }
}
