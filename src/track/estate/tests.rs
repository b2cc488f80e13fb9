//! Trackers that end, by the end of a capture or by a panic, with attempts open; and those that go on for them.

use super::super::counts::LedgerCounts;
use super::super::event::{EventKind, EventSink, HandshakeEvent, Outcome};
use super::super::table::HalfOpenTable;
use super::super::tracker::Tracker;
use crate::config::{EstablishedConfig, TableConfig};
use crate::decode::segment::{Endpoint, Segment, SegmentKind, SeqNumber, TcpFlags};
use crate::time::{NetworkTime, Timestamp};
use proptest::prelude::*;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

mod at_once;
mod room;
mod tend;

const GRACE: Duration = Duration::from_millis(1500);

fn at(millis: i64) -> Timestamp {
    Timestamp::from_nanos(1_750_000_000_000_000_000 + millis * 1_000_000)
}

/// Attempt `number`'s originator; those of odd numbers are of IPv6.
fn client(number: u32) -> Endpoint {
    let addr = match number % 2 {
        0 => IpAddr::V4(Ipv4Addr::from_bits(0xc612_0000 + number)),
        _ => IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(number))),
    };
    Endpoint::new(addr, 40_000)
}

fn server(number: u32) -> Endpoint {
    match number % 2 {
        0 => Endpoint::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)), 443),
        _ => Endpoint::new(IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8 << 96 | 0xffff_ffff)), 443),
    }
}

/// What a segment of attempt `number` says, its SYN with or without options.
fn segment(number: u32, flags: u8, bare: bool, ts: Timestamp) -> Segment {
    let answer = flags == TcpFlags::SYN | TcpFlags::ACK;
    let (src, dst) = if answer { (server(number), client(number)) } else { (client(number), server(number)) };
    let (seq, ack) = match flags {
        TcpFlags::SYN => (number, 0),
        _ if answer => (7_000, number.wrapping_add(1)),
        _ => (number.wrapping_add(1), 7_001),
    };
    Segment {
        ts,
        src,
        dst,
        seq: SeqNumber(seq),
        ack: SeqNumber(ack),
        flags: TcpFlags(flags),
        kind: SegmentKind::of(TcpFlags(flags)),
        payload_len: 0,
        window: 65_535,
        ttl: 64,
        options_len: if bare { 0 } else { 20 },
    }
}

fn config() -> TableConfig {
    let established = EstablishedConfig { memory: 4096, ..EstablishedConfig::default() };
    TableConfig { entries: 4096, remembered: 64, established, ..TableConfig::default() }
}

/// Keeps what it hears and panics when it has heard so much.
struct Nervous {
    heard: Vec<HandshakeEvent>,
    patience: usize,
}

impl EventSink for Nervous {
    fn on_event(&mut self, event: &HandshakeEvent) {
        self.heard.push(*event);
        if self.patience == 0 {
            self.patience = usize::MAX;
            // As a panic unwinds, without the message of one.
            resume_unwind(Box::new("on purpose, of a test"));
        }
        self.patience -= 1;
    }
}

/// The times at which an attempt was told as overdue, and as ended.
fn times(events: &[HandshakeEvent], number: u32) -> (Vec<Timestamp>, Vec<(Timestamp, Outcome, bool)>) {
    let (mut overdue, mut ended) = (Vec::new(), Vec::new());
    for event in events.iter().filter(|event| event.flow.orig == client(number)) {
        if let EventKind::Overdue { .. } = event.kind {
            overdue.push(event.ts);
        }
        if let EventKind::Closed { outcome, overdue, .. } = event.kind {
            ended.push((event.ts, outcome, overdue));
        }
    }
    (overdue, ended)
}

#[test]
fn what_one_left_open_falls_due_in_another_at_its_time() {
    let config = config();
    let table = Arc::new(HalfOpenTable::new(&config, 1));
    let new = || Tracker::new(Arc::clone(&table), &config, usize::MAX);
    let mut events = Vec::new();
    let mut first = new();
    assert_eq!(first.resumes_at(), None);
    // Two that will be past their grace age when the capture ends, two that will not, one of each answered.
    for (number, begin) in [(0, 0), (1, 0), (2, 3000), (3, 3000)] {
        first.advance(at(begin), &mut events);
        first.on_segment(&segment(number, TcpFlags::SYN, false, at(begin)), &mut events);
        if number % 2 == 1 {
            first.on_segment(&segment(number, TcpFlags::SYN | TcpFlags::ACK, false, at(begin)), &mut events);
        }
    }
    first.advance(at(4000), &mut events);
    let mut sum = first.counts().clone();
    drop(first);
    assert_eq!((table.len(), sum.open), (4, [2, 2]));
    assert_ne!(table.estate.bytes(), 0);

    // Nothing comes that would name them: time alone does it.
    let mut second = new();
    assert_eq!((second.resumes_at(), table.estate.bytes()), (Some(at(4000)), 0));
    second.advance(at(4000), &mut events);
    assert_eq!(times(&events, 2), (vec![], vec![]));
    for seconds in 5..70 {
        second.advance(at(seconds * 1000), &mut events);
    }
    sum.merge(second.counts());
    assert_eq!((table.len(), sum.open, sum.closing_law_holds()), (0, [0, 0], true));
    let life = Duration::from_secs(63);
    for (number, begin) in [(0, 0), (1, 0), (2, 3000), (3, 3000)] {
        let outcome = if number % 2 == 1 { Outcome::Abandoned } else { Outcome::Unanswered };
        let opened = at(begin);
        assert_eq!(
            times(&events, number),
            (vec![opened.plus(GRACE)], vec![(opened.plus(life), outcome, true)]),
            "{number}"
        );
    }
}

/// What the end of a capture says of young attempts, because nothing comes after it, is not said again where something does.
#[test]
fn what_was_told_at_the_end_of_a_capture_is_told_once() {
    let config = config();
    let table = Arc::new(HalfOpenTable::new(&config, 1));
    let mut events = Vec::new();
    let mut first = Tracker::new(Arc::clone(&table), &config, usize::MAX);
    for number in 0..4 {
        first.on_segment(&segment(number, TcpFlags::SYN, number < 2, at(0)), &mut events);
    }
    first.finish(at(10), &mut events);
    let told = |events: &[HandshakeEvent]| [0, 1, 2, 3].map(|number| times(events, number).0.len());
    assert_eq!(told(&events), [1, 1, 0, 0], "those with a bare SYN");
    drop(first);
    let mut second = Tracker::new(Arc::clone(&table), &config, usize::MAX);
    // One that was told of, and one that was not, go on after all.
    for number in [0, 2] {
        second.on_segment(&segment(number, TcpFlags::SYN | TcpFlags::ACK, false, at(20)), &mut events);
        second.on_segment(&segment(number, TcpFlags::ACK, false, at(30)), &mut events);
        assert_eq!(times(&events, number).1, [(at(30), Outcome::Completed, number == 0)]);
    }
    second.finish(at(40), &mut events);
    assert_eq!(told(&events), [1, 1, 0, 0]);
    second.advance(at(100_000), &mut events);
    assert_eq!(told(&events), [1, 1, 0, 1]);
    assert!(table.is_empty());
}

/// A SYN that has waited 300 ms where the capture ends is told of its originator, and of nothing else: it is as open as before.
#[test]
fn what_waited_long_at_the_end_of_a_capture_is_unfinished() {
    let config = config();
    let table = Arc::new(HalfOpenTable::new(&config, 1));
    let mut events = Vec::new();
    let mut tracker = Tracker::new(Arc::clone(&table), &config, usize::MAX);
    // Of both families: silent for long, answered, too young, and with a bare SYN, which is overdue as it is.
    for (number, begin) in [(0, 0), (1, 0), (2, 0), (3, 0), (4, 101), (5, 101), (6, 0), (7, 0)] {
        tracker.on_segment(&segment(number, TcpFlags::SYN, number >= 6, at(begin)), &mut events);
    }
    for number in [2, 3] {
        tracker.on_segment(&segment(number, TcpFlags::SYN | TcpFlags::ACK, false, at(400)), &mut events);
    }
    let counts = tracker.counts().clone();
    tracker.finish(at(400), &mut events);
    let unfinished = events.iter().filter(|event| event.kind == EventKind::Unfinished);
    let unfinished: Vec<_> = unfinished.map(|event| (event.flow.orig, event.flow.resp, event.ts)).collect();
    assert_eq!(unfinished, [0, 1].map(|number| (client(number), server(number), at(400))));
    assert_eq!((tracker.counts().open, table.len()), (counts.open, 8));
    // Where something comes after it, its grace age is still to come.
    tracker.advance(at(2000), &mut events);
    assert_eq!([0, 1, 6].map(|number| times(&events, number).0.len()), [1, 1, 1]);
}

#[test]
fn a_hundred_restarts_take_no_more_lanes_than_one() {
    let config = config();
    let table = Arc::new(HalfOpenTable::new(&config, 1));
    let mut events = Vec::new();
    for number in 0..100 {
        let mut tracker = Tracker::new(Arc::clone(&table), &config, usize::MAX);
        tracker.advance(at(i64::from(number)), &mut events);
        tracker.on_segment(&segment(number, TcpFlags::SYN, false, at(i64::from(number))), &mut events);
        assert!(tracker.lanes.v4.rings().is_some() && tracker.lanes.v6.rings().is_some(), "{number}");
        assert_eq!(tracker.lanes.len(), number as usize + 1, "one goes on with everything");
    }
    // Two of 31 are taken: 14 more trackers at once have rings of their own, and the sixteenth one for IPv4 alone.
    let many: Vec<_> = (0..17).map(|_| Tracker::new(Arc::clone(&table), &config, usize::MAX)).collect();
    assert_eq!(many.iter().filter(|tracker| tracker.lanes.v6.rings().is_some()).count(), 15);
    assert_eq!(many[0].lanes.len(), 100);
    drop(many);
    let mut last = Tracker::new(Arc::clone(&table), &config, usize::MAX);
    last.advance(at(70_000), &mut events);
    assert!(table.is_empty());
}

/// The fullest lanes first: where fewer begin than ended, what is left has the least in it.
#[test]
fn of_several_that_ended_the_one_with_the_most_open_is_gone_on_with_first() {
    let config = config();
    let table = Arc::new(HalfOpenTable::new(&config, 1));
    let mut trackers: Vec<_> =
        (0..3).map(|_| Tracker::new(Arc::clone(&table), &config, usize::MAX)).collect();
    for (number, tracker) in [(0, 1), (1, 1), (2, 1), (3, 2)] {
        trackers[tracker].on_segment(&segment(number, TcpFlags::SYN, false, at(0)), &mut Vec::new());
    }
    drop(trackers);
    let again: Vec<_> = (0..3).map(|_| Tracker::new(Arc::clone(&table), &config, usize::MAX)).collect();
    assert_eq!(again.iter().map(|tracker| tracker.lanes.len()).collect::<Vec<_>>(), [3, 1, 0]);
}

/// A live tracker's budget holds for what it inherits, and what it leaves for the next packet is done then.
#[test]
fn what_is_inherited_falls_due_within_the_budget() {
    let config = config();
    let table = Arc::new(HalfOpenTable::new(&config, 1));
    let mut events = Vec::new();
    let mut first = Tracker::new(Arc::clone(&table), &config, 10);
    for number in 0..100 {
        first.on_segment(&segment(number, TcpFlags::SYN, false, at(0)), &mut events);
    }
    drop(first);
    events.clear();
    let mut second = Tracker::new(Arc::clone(&table), &config, 10);
    for step in 1..=10 {
        second.advance(at(10_000 + step), &mut events);
        assert_eq!(events.len(), step as usize * 10);
    }
}

#[derive(Debug, Clone)]
enum Act {
    /// A SYN of a new attempt.
    Syn,
    /// The answer to an earlier one, counted back.
    Answer(u32),
    /// And its originator's ACK.
    Ack(u32),
    /// Or reset, which is told as an oddity too, and before its end.
    Reset(u32),
    /// Its SYN again.
    Again(u32),
    /// The clock moves, back as well.
    Wait(i64),
    /// Whoever hears the event so many events ahead panics.
    Panic(usize),
    /// The tracker ends, after its last word or without one.
    End(bool),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => Just(Act::Syn),
        3 => (1u32..20).prop_map(Act::Answer),
        3 => (1u32..20).prop_map(Act::Ack),
        2 => (1u32..20).prop_map(Act::Reset),
        1 => (1u32..20).prop_map(Act::Again),
        4 => (0i64..1000).prop_map(Act::Wait),
        1 => (0i64..40_000).prop_map(Act::Wait),
        1 => (-200_000i64..0).prop_map(Act::Wait),
        2 => (0usize..20).prop_map(Act::Panic),
        2 => any::<bool>().prop_map(Act::End),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// After every act, whatever ended and however: the sum of all counts keeps the closing law and is what the table holds; nobody is
    /// told as overdue twice; who is told to have been overdue was; and time alone ends everything.
    #[test]
    fn whatever_ends_nothing_is_stuck_and_nothing_told_twice(
        acts in prop::collection::vec(act(), 1..200),
        rings: bool,
    ) {
        let config = config();
        let table = Arc::new(HalfOpenTable::new(&config, 3));
        if !rings {
            (0..31).for_each(|_| drop(table.waiting.lane()));
        }
        let new = || {
            let tracker = Tracker::new(Arc::clone(&table), &config, usize::MAX);
            let time = NetworkTime::resume(tracker.resumes_at());
            (tracker, time)
        };
        let mut past = LedgerCounts::default();
        let mut sink = Nervous { heard: Vec::new(), patience: usize::MAX };
        let (mut tracker, mut time) = new();
        let (mut stamp, mut opened) = (0i64, 0u32);
        for act in &acts {
            let before = time.now();
            let mut what = None;
            let mut ends = None;
            match *act {
                Act::Syn => {
                    what = Some((opened, TcpFlags::SYN));
                    opened += 1;
                }
                Act::Answer(back) => what = Some((opened.wrapping_sub(back), TcpFlags::SYN | TcpFlags::ACK)),
                Act::Ack(back) => what = Some((opened.wrapping_sub(back), TcpFlags::ACK)),
                Act::Reset(back) => what = Some((opened.wrapping_sub(back), TcpFlags::RST)),
                Act::Again(back) => what = Some((opened.wrapping_sub(back), TcpFlags::SYN)),
                Act::Wait(millis) => stamp += millis,
                Act::Panic(patience) => sink.patience = patience,
                Act::End(last_word) => ends = Some(last_word),
            }
            let now = time.advance(at(stamp));
            prop_assert!(before.is_none_or(|before| before <= now));
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                tracker.advance(now, &mut sink);
                match what.filter(|(number, _)| *number < opened) {
                    // Each second one has no options.
                    Some((number, flags)) => {
                        tracker.on_segment(&segment(number, flags, number % 4 < 2, now), &mut sink);
                    }
                    None if ends == Some(true) => tracker.finish(now, &mut sink),
                    None => {}
                }
            }))
            .is_err();
            let mut sum = past.clone();
            sum.merge(tracker.counts());
            prop_assert!(sum.closing_law_holds());
            prop_assert_eq!(sum.open.iter().sum::<i64>(), table.len() as i64);
            if panicked || ends.is_some() {
                past = sum;
                drop(tracker);
                (tracker, time) = new();
            }
        }
        sink.patience = usize::MAX;
        let mut now = time.advance(at(stamp));
        // In steps, that what expires is first told as overdue, as any packet's time would have it; then for good.
        for _ in 0..70 {
            tracker.advance(now, &mut sink);
            now = now.plus(Duration::from_secs(1));
        }
        past.merge(tracker.counts());
        prop_assert_eq!((table.len(), past.open.iter().sum::<i64>()), (0, 0));
        prop_assert!(past.closing_law_holds());
        prop_assert_eq!(tracker.lanes.len(), 0, "no deadline is left");

        // Told so often of each SYN: one of the same numbers that comes after the end may be another attempt.
        let mut told: HashMap<(Endpoint, bool), u32> = HashMap::new();
        let mut ended = [0u64; 7];
        for event in &sink.heard {
            let orig = event.flow.orig;
            if let EventKind::Opened = event.kind {
                *told.entry((orig, false)).or_default() += 1;
            } else if let EventKind::Overdue { .. } = event.kind {
                let overdue = told.entry((orig, true)).or_default();
                *overdue += 1;
                let overdue = *overdue;
                prop_assert!(overdue <= told[&(orig, false)], "overdue twice");
            } else if let EventKind::Closed { outcome, overdue, .. } = event.kind {
                ended[outcome as usize] += 1;
                prop_assert!(!overdue || told.contains_key(&(orig, true)), "{:?}", event);
            }
        }
        // Where nobody panicked everything was told; a panic takes with it what had not been told of its one segment.
        let panics = acts.iter().filter(|act| matches!(act, Act::Panic(_))).count() as u64;
        let (told, counted) = (ended.iter().sum::<u64>(), past.closed.iter().sum::<u64>());
        prop_assert!(told <= counted && counted <= told + panics, "{told} {counted}");
    }
}
