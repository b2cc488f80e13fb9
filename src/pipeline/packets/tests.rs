//! Captures that end early, and others that go on for them.

use super::*;
use crate::capture::memory::MemorySource;
use crate::capture::{InterfaceCounters, LinkType};
use crate::config::Config;
use crate::decode::segment::{Endpoint, TcpFlags};
use crate::report::snapshot::{HandshakeCounts, SnapshotSource};
use crate::synth::frame::{Packet, Wire};
use crate::track::event::Outcome;
use std::net::{IpAddr, Ipv4Addr};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// What a capture comes to when its frames are over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    End,
    Error,
    Panic,
}

/// A live source that comes to an end.
struct Mortal(MemorySource, Then);

impl FrameSource for Mortal {
    fn next_event(&mut self) -> Result<SourceEvent<'_>, CaptureError> {
        match (self.0.next_event()?, self.1) {
            (SourceEvent::End, Then::Error) => Err(CaptureError::NoDefaultRoute),
            // As a panic unwinds, without the message of one.
            (SourceEvent::End, Then::Panic) => resume_unwind(Box::new("on purpose, of a test")),
            (event, _) => Ok(event),
        }
    }

    fn publish(&mut self) {
        self.0.publish();
    }

    fn is_live(&self) -> bool {
        true
    }

    fn may_wait(&self) -> bool {
        true
    }

    fn counters(&self) -> Vec<Arc<InterfaceCounters>> {
        self.0.counters()
    }
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_nanos(1_750_000_000_000_000_000 + millis * 1_000_000)
}

fn host(number: u8) -> Endpoint {
    Endpoint::new(IpAddr::V4(Ipv4Addr::new(198, 18, 0, number)), 40_000)
}

const SERVER: Endpoint = Endpoint::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)), 443);

/// Frames of `(milliseconds, client, flags)`; what has both SYN and ACK is the server's answer.
fn frames(segments: &[(i64, u8, u8)]) -> MemorySource {
    let mut source = MemorySource::new("tap0");
    for &(millis, client, flags) in segments {
        let isn = u32::from(client) * 1000;
        let mut packet = Packet::bare_syn(host(client), SERVER, isn);
        packet.flags = flags;
        if flags == TcpFlags::SYN | TcpFlags::ACK {
            (packet.src, packet.dst, packet.seq, packet.ack) = (SERVER, host(client), 77, isn + 1);
        } else if flags != TcpFlags::SYN {
            (packet.seq, packet.ack) = (isn + 1, 78);
        }
        let mut bytes = Vec::new();
        Wire::default().write(&packet, &mut bytes);
        source.push(at(millis), LinkType::ETHERNET, bytes.len() as u32, &bytes);
    }
    source
}

/// Silence, second by second.
fn silence(mut source: MemorySource, seconds: std::ops::Range<i64>) -> MemorySource {
    seconds.for_each(|second| source.push_idle(at(second * 1000)));
    source
}

fn open(counts: &HandshakeCounts) -> u64 {
    counts.open_syn_sent + counts.open_syn_received
}

const SYN: u8 = TcpFlags::SYN;
const SYN_ACK: u8 = TcpFlags::SYN | TcpFlags::ACK;
const ACK: u8 = TcpFlags::ACK;

/// Six clients, four of which complete nothing. The last millisecond is after the last tick, and in another bin than the
/// second client's SYN.
const BEFORE: [(i64, u8, u8); 12] = [
    (0, 1, SYN),
    (400, 2, SYN),
    (410, 2, SYN_ACK),
    (420, 3, SYN),
    (430, 3, SYN_ACK),
    (440, 7, SYN),
    (450, 7, SYN_ACK),
    (800, 4, SYN),
    (820, 3, ACK),
    (821, 4, SYN_ACK),
    (822, 5, SYN),
    (823, 7, ACK),
];

#[test]
fn what_a_capture_left_open_ends_in_the_next_one() {
    for then in [Then::Error, Then::Panic, Then::End] {
        let sensor = Sensor::new(&Config::default(), Box::new(|_| {}));
        let ended = catch_unwind(AssertUnwindSafe(|| sensor.run_source(Mortal(frames(&BEFORE), then))));
        assert_eq!((ended.is_err(), matches!(ended, Ok(Err(_)))), (then == Then::Panic, then == Then::Error));
        let before = sensor.snapshot();
        assert_eq!(before.handshakes.attempts, 6, "{then:?}");
        assert_eq!(before.handshakes.closed[Outcome::Completed as usize], 2, "{then:?}");
        assert_eq!((sensor.table.len(), open(&before.handshakes)), (4, 4), "{then:?}");
        assert_eq!((before.handshakes.open_syn_received, before.table.expiry_lag), (2, 0.0), "{then:?}");

        // It is opened again, a second later; one of the attempts goes on, and another begins.
        let again = silence(frames(&[(1900, 2, ACK), (1950, 6, SYN)]), 2..64);
        sensor.run_source(Mortal(again, Then::Error)).unwrap_err();
        let between = sensor.snapshot().handshakes;
        assert_eq!(between.closed[Outcome::Completed as usize], 3, "{then:?}");
        assert_eq!(
            between.closed[Outcome::Unanswered as usize],
            1,
            "{then:?}: the first SYN's 63 s are over"
        );
        sensor.run_source(silence(MemorySource::new("tap0"), 64..70)).unwrap();
        let after = sensor.snapshot();
        assert_eq!((open(&after.handshakes), sensor.table.len()), (0, 0), "{then:?}");
        assert_eq!(
            after.handshakes.attempts,
            after.handshakes.closed.iter().sum::<u64>(),
            "{then:?}: {:?}",
            after.handshakes
        );
        assert_eq!(after.handshakes.attempts, 7);
        let server = after.servers.iter().find(|server| server.server.starts_with("192.0.2.10")).unwrap();
        assert_eq!((server.embryonic_syn_sent, server.embryonic_syn_received), (0, 0), "{then:?}");
    }
}

/// A trace that is older than the one before, and a clock that was set back: time goes on, and so do the deadlines.
#[test]
fn what_comes_with_an_earlier_time_goes_on_from_the_later_one() {
    for back in [30_000, 3_600_000, 40 * 365 * 86_400_000] {
        let sensor = Sensor::repeatable(&Config::default(), Box::new(|_| {}));
        sensor.run_source(Mortal(frames(&BEFORE), Then::Error)).unwrap_err();
        let begin = sensor.snapshot();
        assert_eq!(open(&begin.handshakes), 4);
        let earlier = silence(
            frames(&[(-back, 6, SYN), (-back + 10, 6, SYN_ACK)]),
            -back / 1000 + 1..-back / 1000 + 110,
        );
        sensor.run_source(earlier).unwrap();
        let end = sensor.snapshot();
        assert!(end.network_time > begin.network_time);
        assert_eq!(end.handshakes.attempts, 7);
        assert_eq!((open(&end.handshakes), sensor.table.len()), (0, 0), "{back}: {:?}", end.handshakes);
        assert_eq!(end.time_jumps, u64::from(back > 60_000));
    }
}

#[test]
fn a_hundred_captures_leave_one_behind() {
    let sensor = Sensor::repeatable(&Config::default(), Box::new(|_| {}));
    for number in 0..100 {
        let one = frames(&[(i64::from(number) * 10, number, SYN)]);
        sensor.run_source(Mortal(one, Then::Error)).unwrap_err();
    }
    assert_eq!(crate::pipeline::shared::lock(&sensor.threads).len(), 2, "the last, and one for all others");
    assert_eq!(sensor.snapshot().frames.read, 100);
    assert_eq!(open(&sensor.snapshot().handshakes), 100);
    // Three queues of one family have come into being, with a chunk of 64 KiB to fill and one that is spent; not a hundred times that.
    let bytes = sensor.snapshot().table.bytes + 6 * (64 << 10);
    sensor.run_source(silence(MemorySource::new("tap0"), 2..70)).unwrap();
    let snapshot = sensor.snapshot();
    assert_eq!(
        (open(&snapshot.handshakes), snapshot.handshakes.closed[Outcome::Unanswered as usize]),
        (0, 100)
    );
    assert!(snapshot.table.bytes <= bytes, "{} {bytes}", snapshot.table.bytes);
}

/// One capture had an absurd stamp while the other was down: what the other sees when it is up again is judged all the same.
#[test]
fn a_capture_that_begins_behind_what_was_judged_does_not_stop_judging() {
    const DECADES: i64 = 30 * 365 * 86_400_000;
    let sensor = Sensor::new(&Config::default(), Box::new(|_| {}));
    let begin = || PacketLoop::new(&sensor, &Mortal(frames(&[]), Then::End));
    let (mut odd, mut other) = (begin(), begin());
    odd.run(&mut frames(&[(0, 1, SYN), (600, 2, SYN), (DECADES, 3, SYN), (1000, 4, SYN)])).unwrap();
    let mut judged = sensor.judged();
    for second in 2..10 {
        for packets in [&mut odd, &mut other] {
            packets.run(&mut frames(&[(second * 1000, second as u8, SYN)])).unwrap();
        }
        let before = std::mem::replace(&mut judged, sensor.judged());
        assert!(second < 4 || judged > before, "second {second}: {judged:?}");
    }
}

/// A capture that cannot be opened again leaves its attempts to the one that still runs.
#[test]
fn what_a_capture_left_open_ends_while_another_goes_on() {
    let sensor = Sensor::new(&Config::default(), Box::new(|_| {}));
    let mut running = PacketLoop::new(&sensor, &Mortal(frames(&[]), Then::End));
    running.run(&mut frames(&[(0, 20, SYN)])).unwrap();
    sensor.run_source(Mortal(frames(&BEFORE), Then::Error)).unwrap_err();
    assert_eq!(sensor.table.len(), 5);
    running.run(&mut silence(frames(&[]), 1..66)).unwrap();
    let snapshot = sensor.snapshot();
    assert_eq!((sensor.table.len(), open(&snapshot.handshakes)), (0, 0));
    assert_eq!(snapshot.handshakes.closed, [2, 0, 0, 3, 2, 0, 0]);
    // When it can, it goes on as ever.
    sensor.run_source(Mortal(frames(&[(66_000, 21, SYN)]), Then::Error)).unwrap_err();
    running.run(&mut silence(frames(&[]), 66..131)).unwrap();
    assert_eq!(sensor.table.len(), 0);
}
