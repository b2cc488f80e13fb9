//! Laws that hold for any traffic: the closing law at every instant, bounds, and one output for one trace.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::wildcard_enum_match_arm,
    reason = "a test that fails should say so at once, and one that is skipped too"
)]

use halfopen::capture::memory::MemorySource;
use halfopen::capture::replay::ReplaySource;
use halfopen::capture::{FrameSource, LinkType};
use halfopen::config::{Config, TableConfig};
use halfopen::decode::segment::{Endpoint, Segment, SegmentKind, SeqNumber, TcpFlags};
use halfopen::detect::incident::{IncidentKind, Severity};
use halfopen::pipeline::Sensor;
use halfopen::report::snapshot::{Snapshot, SnapshotSource};
use halfopen::synth::Scenario;
use halfopen::synth::frame::{Options, Packet, Wire};
use halfopen::synth::kinds::Handshakes;
use halfopen::synth::pcapfile::PcapWriter;
use halfopen::synth::scenario::Traffic;
use halfopen::time::{NetworkTime, Timestamp};
use halfopen::track::event::{EventKind, HandshakeEvent, Outcome};
use halfopen::track::table::HalfOpenTable;
use halfopen::track::tracker::Tracker;
use proptest::prelude::*;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

/// One segment of a small world, in which everything meets everything.
#[derive(Debug, Clone)]
struct Spec {
    after: i64,
    from: u8,
    to: u8,
    v6: bool,
    flags: u8,
    seq: u8,
    ack: u8,
    payload: u16,
}

/// Sequence numbers that fit each other often: ISNs 0, 100, 2^32-1 and their successors.
const NUMBERS: [u32; 8] = [0, 1, 100, 101, 102, 110, u32::MAX, 5_000];

fn spec() -> impl Strategy<Value = Spec> {
    let flags = prop_oneof![
        6 => Just(TcpFlags::SYN),
        4 => Just(TcpFlags::SYN | TcpFlags::ACK),
        4 => Just(TcpFlags::ACK),
        2 => Just(TcpFlags::RST),
        2 => Just(TcpFlags::RST | TcpFlags::ACK),
        1 => Just(TcpFlags::FIN | TcpFlags::ACK),
        1 => any::<u8>(),
    ];
    let after = prop_oneof![
        6 => 0i64..5_000_000,
        3 => 0i64..2_000_000_000,
        2 => 0i64..70_000_000_000,
        1 => -100_000_000_000i64..0,
        1 => Just(i64::MAX / 4),
    ];
    let payload = prop_oneof![8 => Just(0u16), 1 => Just(9), 1 => Just(1400)];
    (after, 0u8..4, 0u8..4, any::<bool>(), flags, 0u8..8, 0u8..8, payload).prop_map(
        |(after, from, to, v6, flags, seq, ack, payload)| Spec {
            after,
            from,
            to,
            v6,
            flags,
            seq,
            ack,
            payload,
        },
    )
}

fn endpoint(v6: bool, host: u8) -> Endpoint {
    let addr = if v6 {
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(host)))
    } else {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, host))
    };
    Endpoint::new(addr, 1000 + u16::from(host % 2))
}

fn segment(spec: &Spec, ts: Timestamp) -> Segment {
    Segment {
        ts,
        src: endpoint(spec.v6, spec.from),
        dst: endpoint(spec.v6, spec.to),
        seq: SeqNumber(NUMBERS[usize::from(spec.seq)]),
        ack: SeqNumber(NUMBERS[usize::from(spec.ack)]),
        flags: TcpFlags(spec.flags),
        kind: SegmentKind::of(TcpFlags(spec.flags)),
        payload_len: spec.payload,
        window: 1024,
        ttl: 64,
        options_len: 0,
    }
}

/// What the events say happened to attempts: opened, closed, overdue of each.
#[derive(Default)]
struct Told {
    opened: u64,
    untracked: u64,
    closed: [u64; 7],
    overdue: u64,
    closed_overdue: u64,
}

fn told(events: &[HandshakeEvent]) -> Told {
    let mut told = Told::default();
    for event in events {
        match event.kind {
            EventKind::Opened => told.opened += 1,
            EventKind::Untracked => told.untracked += 1,
            EventKind::Overdue { .. } => told.overdue += 1,
            EventKind::Closed { outcome, overdue, .. } => {
                told.closed[outcome as usize] += 1;
                told.closed_overdue += u64::from(overdue);
            }
            _ => {}
        }
    }
    told
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// After every segment: attempts = ended + open, the table holds exactly what is open, never more than its limit, and the
    /// events tell the same story as the counts.
    #[test]
    fn every_attempt_is_open_or_ended_in_exactly_one_way(
        specs in prop::collection::vec(spec(), 1..300),
        entries in prop_oneof![Just(4usize), Just(16), Just(1000)],
        received in 4u64..100,
    ) {
        let config = TableConfig {
            entries,
            remembered: 16,
            syn_received_timeout: Duration::from_secs(received),
            emergency_timeout: Duration::from_secs(4),
            ..TableConfig::default()
        };
        let table = Arc::new(HalfOpenTable::new(&config, 7));
        let mut tracker = Tracker::new(Arc::clone(&table), &config, usize::MAX);
        let mut time = NetworkTime::new();
        let mut events = Vec::new();
        let mut stamp = 1_700_000_000_000_000_000i64;
        for spec in &specs {
            stamp = stamp.saturating_add(spec.after);
            let before = time.now();
            let now = time.advance(Timestamp::from_nanos(stamp));
            prop_assert!(before.is_none_or(|before| now >= before), "network time went back");
            tracker.advance(now, &mut events);
            tracker.on_segment(&segment(spec, now), &mut events);
            let counts = tracker.counts();
            prop_assert!(counts.closing_law_holds());
            prop_assert!(counts.open.iter().all(|&open| open >= 0));
            prop_assert_eq!(counts.open.iter().sum::<i64>(), table.len() as i64);
            prop_assert!(table.len() <= entries);
        }
        tracker.finish(time.now().unwrap_or(Timestamp::EPOCH), &mut events);
        let told = told(&events);
        let counts = tracker.counts();
        prop_assert_eq!((told.opened, told.untracked, told.closed), (counts.attempts, counts.untracked, counts.closed));
        prop_assert!(events.windows(2).all(|pair| pair[1].weight >= 1));
        // After finishing, every open attempt has been called overdue exactly once, besides those that ended overdue: these SYNs have
        // no option, so that age does not matter.
        prop_assert_eq!(told.overdue, told.closed_overdue + table.len() as u64);
        // And time alone ends whatever is left.
        tracker.advance(Timestamp::from_nanos(i64::MAX - 1), &mut events);
        prop_assert_eq!(table.len(), 0);
        prop_assert_eq!(events.iter().filter(|event| matches!(event.kind, EventKind::Overdue { .. })).count() as u64, told.overdue);
        prop_assert!(tracker.counts().closing_law_holds());
    }

    /// Nothing but an acknowledgement of the server's own number completes a handshake whose SYN-ACK was seen.
    #[test]
    fn a_blind_forger_completes_nothing(acks in prop::collection::vec(any::<u32>(), 1..100), isn in any::<u32>(), server_isn in any::<u32>()) {
        let config = TableConfig::default();
        let table = Arc::new(HalfOpenTable::new(&config, 7));
        let mut tracker = Tracker::new(table, &config, usize::MAX);
        let mut events = Vec::new();
        let base = Spec { after: 0, from: 1, to: 2, v6: false, flags: TcpFlags::SYN, seq: 0, ack: 0, payload: 0 };
        let at = Timestamp::from_parts(1_700_000_000, 0);
        let mut send = |from: u8, to: u8, flags: u8, seq: u32, ack: u32| {
            let spec = Spec { from, to, flags, ..base.clone() };
            let segment = Segment { seq: SeqNumber(seq), ack: SeqNumber(ack), ..segment(&spec, at) };
            tracker.on_segment(&segment, &mut events);
        };
        send(1, 2, TcpFlags::SYN, isn, 0);
        send(2, 1, TcpFlags::SYN | TcpFlags::ACK, server_isn, isn.wrapping_add(1));
        for &ack in acks.iter().filter(|ack| ack.wrapping_sub(server_isn.wrapping_add(1)) > 65_535) {
            send(1, 2, TcpFlags::ACK, isn.wrapping_add(1), ack);
        }
        prop_assert_eq!(tracker.counts().outcome(Outcome::Completed), 0);
        prop_assert_eq!(tracker.counts().open, [0, 1]);
    }
}

fn frames(specs: &[Spec]) -> Vec<(Timestamp, LinkType, u32, Vec<u8>)> {
    let mut stamp = 1_700_000_000_000_000_000i64;
    let wire = Wire::default();
    let mut frames = Vec::new();
    for spec in specs {
        stamp = stamp.saturating_add(spec.after.min(100_000_000_000));
        let mut bytes = Vec::new();
        wire.write(&packet(spec), &mut bytes);
        frames.push((Timestamp::from_nanos(stamp), LinkType::ETHERNET, bytes.len() as u32, bytes));
    }
    frames
}

fn packet(spec: &Spec) -> Packet {
    let segment = segment(spec, Timestamp::EPOCH);
    Packet {
        flags: spec.flags,
        ack: segment.ack.0,
        payload_len: spec.payload,
        ..Packet::bare_syn(segment.src, segment.dst, segment.seq.0)
    }
}

fn through(source: impl FrameSource) -> Snapshot {
    let sensor = Sensor::repeatable(&Config::default(), Box::new(|_| {}));
    sensor.run_source(source).unwrap();
    let mut snapshot = sensor.snapshot();
    snapshot.interfaces.clear();
    snapshot.table.expiry_lag = 0.0;
    snapshot
}

fn describe(snapshot: &Snapshot) -> String {
    format!("{snapshot:?}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// The same frames from memory, from a file, and cut into batches by ticks at random places: one output.
    #[test]
    fn replay_equals_memory_equals_any_batches(
        specs in prop::collection::vec(spec(), 1..400),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let frames = frames(&specs);
        let memory = through(MemorySource::from_frames(&frames));

        let path = std::env::temp_dir().join(format!("halfopen-laws-{}-{:x}.pcap", std::process::id(), thread_number()));
        let mut file = PcapWriter::create(&path).unwrap();
        for (ts, _, _, bytes) in &frames {
            file.write(*ts, bytes).unwrap();
        }
        file.finish().unwrap();
        let replay = through(ReplaySource::open(std::slice::from_ref(&path), None).unwrap());
        std::fs::remove_file(&path).unwrap();
        prop_assert_eq!(describe(&memory), describe(&replay));

        let ticks: HashSet<usize> = cuts.iter().map(|cut| cut.index(frames.len())).collect();
        let mut batched = MemorySource::new("batches");
        for (i, (ts, link, orig_len, bytes)) in frames.iter().enumerate() {
            batched.push(*ts, *link, *orig_len, bytes);
            if ticks.contains(&i) {
                batched.push_idle(*ts);
            }
        }
        prop_assert_eq!(describe(&memory), describe(&through(batched)));
    }
}

/// Peace: clients near and far, some of whom fail, at a server hardly used or busy.
fn peace() -> impl Strategy<Value = Scenario> {
    (any::<u64>(), 1u32..400, 0u64..900, 0.0..0.05f64, 0.0..0.05f64, 1.0..3.0f64).prop_map(
        |(seed, rate, far, abandoned, unanswered, dispersion)| {
            let (rtt_min, rtt_mean) = (Duration::from_millis(10 + far), Duration::from_millis(50 + far));
            let (rate, idle) = (f64::from(rate), Duration::from_millis(50));
            let handshakes = Handshakes {
                rate,
                dispersion,
                abandoned,
                unanswered,
                rtt_min,
                rtt_mean,
                idle,
                up: 0,
                down: 0,
                ..Handshakes::default()
            };
            Scenario::new(seed, Duration::from_secs(20)).with(Traffic::Handshakes(handshakes))
        },
    )
}

/// One client of many hosts, none farther than most of the Earth: a proxy, or a crawler.
fn proxy() -> impl Strategy<Value = Scenario> {
    (any::<u64>(), 50u32..400, 10u64..150).prop_map(|(seed, rate, far)| {
        let handshakes = Handshakes {
            clients: "198.51.100.7".to_owned().try_into().unwrap(),
            servers: "192.0.2.0/24:443".to_owned().try_into().unwrap(),
            rate: f64::from(rate),
            rtt_min: Duration::from_millis(far),
            rtt_mean: Duration::from_millis(far + 30),
            idle: Duration::from_millis(50),
            ..Handshakes::default()
        };
        Scenario::new(seed, Duration::from_secs(8)).with(Traffic::Handshakes(handshakes))
    })
}

/// What a trace raises: incidents' kinds, info apart.
fn raised(frames: &[(Timestamp, LinkType, u32, Vec<u8>)]) -> Vec<IncidentKind> {
    let incidents = through(MemorySource::from_frames(frames)).incidents;
    let kinds = incidents.iter().filter(|incident| incident.severity != Severity::Info);
    kinds.map(|incident| incident.kind).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A file cut at any frame raises nothing that the whole trace does not: what was on its way at the end is not judged.
    #[test]
    fn a_cut_raises_nothing(scenario in prop_oneof![3 => peace(), 1 => proxy()], cuts in prop::collection::vec(any::<prop::sample::Index>(), 3)) {
        let mut frames = Vec::new();
        scenario.stream().for_each(|at, bytes| {
            frames.push((at, LinkType::ETHERNET, bytes.len() as u32, bytes.to_vec()));
        });
        prop_assume!(!frames.is_empty());
        let whole = raised(&frames);
        prop_assert_eq!(&whole, &[]);
        for cut in cuts {
            let cut = cut.index(frames.len());
            let found = raised(&frames[..=cut]);
            prop_assert!(found.is_empty(), "cut at frame {} of {}: {:?}", cut, frames.len(), found);
        }
    }
}

fn thread_number() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

#[test]
fn a_capture_from_before_1970_ends() {
    // Bare SYNs, young at the end, with older ones behind them: no deadline may come round for ever.
    let wire = Wire::default();
    for start in [-1_000_000_000_000i64, -4_000_000_000, 1_700_000_000_000_000_000] {
        let mut source = MemorySource::new("early");
        for number in 0..400u32 {
            let orig = Endpoint::new(Ipv4Addr::from_bits(0xC612_0000 + number).into(), 1024);
            let resp = Endpoint::new(Ipv4Addr::new(192, 0, 2, 10).into(), 80);
            let mut bytes = Vec::new();
            wire.write(&Packet::bare_syn(orig, resp, number), &mut bytes);
            let at = Timestamp::from_nanos(start + i64::from(number) * 20_000_000);
            source.push(at, LinkType::ETHERNET, bytes.len() as u32, &bytes);
        }
        let counts = through(source).handshakes;
        assert_eq!((counts.attempts, counts.open_syn_sent), (400, 400));
    }
}

#[test]
fn a_scan_is_told_though_the_capture_ends_with_it() {
    // Two hundred SYNs as a stack sends them, within 0.8 s, to ports of one host and to hosts.
    let sweep = |to: fn(u8) -> Endpoint| {
        let frame = |number: u8| {
            let orig = Endpoint::new(Ipv4Addr::new(198, 18, 0, 1).into(), 40_000 + u16::from(number));
            let syn = Packet::bare_syn(orig, to(number), u32::from(number));
            let mut bytes = Vec::new();
            Wire::default().write(&Packet { options: Options::Mss, ..syn }, &mut bytes);
            let at = Timestamp::from_nanos(1_700_000_000_000_000_000 + i64::from(number) * 4_000_000);
            (at, LinkType::ETHERNET, bytes.len() as u32, bytes)
        };
        raised(&(0..200).map(frame).collect::<Vec<_>>())
    };
    let ports = sweep(|n| Endpoint::new(Ipv4Addr::new(192, 0, 2, 10).into(), 1 + u16::from(n)));
    let hosts = sweep(|n| Endpoint::new(Ipv4Addr::new(192, 0, 2, n).into(), 22));
    assert_eq!((ports, hosts), (vec![IncidentKind::PortScan], vec![IncidentKind::HostScan]));
}
