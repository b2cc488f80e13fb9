//! The ways to read a capture file whose times are compared, from the bare loop to the whole sensor. Each reads all of it, or panics.

use crate::{ACK, ROOM, SYN};
use dashmap::DashMap;
use halfopen::capture::replay::ReplaySource;
use halfopen::capture::{Frame, FrameSource, SourceEvent};
use halfopen::config::Config;
use halfopen::decode::segment::{Segment, SegmentKind};
use halfopen::decode::{DecodeError, Decoded, plain, walk};
use halfopen::pipeline::Sensor;
use halfopen::report::snapshot::SnapshotSource;
use halfopen::time::{NetworkTime, Timestamp};
use halfopen::track::event::NoSink;
use halfopen::track::table::HalfOpenTable;
use halfopen::track::tracker::Tracker;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) fn bare(path: &Path) -> u64 {
    let mut capture = pcap::Capture::from_file(path).expect("the file just written");
    let (mut frames, mut bytes) = (0, 0);
    while let Ok(packet) = capture.next_packet() {
        frames += 1;
        bytes += u64::from(packet.header.caplen);
    }
    std::hint::black_box(bytes);
    frames
}

/// The least that a table of handshakes in a dashmap can cost, whoever fills it: each SYN enters its addresses and ports (12 bytes,
/// and 20 of an entry), each other segment looks them up. No decoding beyond fixed offsets (Ethernet, IPv4 without options), no
/// expiry, no events.
pub(crate) fn hashed(path: &Path) {
    let mut capture = pcap::Capture::from_file(path).expect("the file just written");
    let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
    let map: DashMap<[u8; 12], [u32; 5], _> = DashMap::with_capacity_and_hasher_and_shard_amount(
        0,
        hasher,
        ROOM.div_ceil(16_384).next_power_of_two(),
    );
    while let Ok(packet) = capture.next_packet() {
        let (Some(there), Some(flags)) = (packet.data.get(26..38), packet.data.get(47)) else { continue };
        let mut key = [0; 12];
        key.copy_from_slice(there);
        let mut back = key;
        back[..8].rotate_left(4);
        back[8..].rotate_left(2);
        let key = key.min(back);
        if flags & (SYN | ACK) == SYN {
            map.entry(key).or_insert([1; 5]);
        } else if let Some(mut entry) = map.get_mut(&key) {
            entry[1] += 1;
        }
    }
    std::hint::black_box(map.len());
}

pub(crate) fn open(path: &Path) -> ReplaySource {
    ReplaySource::open(&[path.to_owned()], None).expect("the file just written")
}

pub(crate) fn replay(source: impl FrameSource, config: &Config) {
    let sensor = Sensor::new(config, Box::new(|_| {}));
    sensor.run_source(source).expect("the file just written");
    std::hint::black_box(sensor.snapshot());
}

/// The same without detection: capture, decode and track; frames and segments counted by kind and, with the ledger, published every
/// 50 ms of network time, as the sensor does (`pipeline/packets.rs`). No events, no sums, no bins, no evidence.
pub(crate) fn track(mut source: impl FrameSource, config: &Config) {
    let table = Arc::new(HalfOpenTable::new(&config.table, 1));
    let mut tracker = Tracker::new(table, &config.table, usize::MAX);
    let mut time = NetworkTime::new();
    let (mut counted, mut publish_at) = (Counted::default(), Timestamp::EPOCH);
    let published = Mutex::new((Counted::default(), tracker.counts().clone()));
    let publish = |counted: &Counted, tracker: &mut Tracker| {
        tracker.catch_up(&mut NoSink);
        let mut published = published.lock().expect("one thread");
        published.0.clone_from(counted);
        published.1.clone_from(tracker.counts());
    };
    while let SourceEvent::Frame(frame) = source.next_event().expect("the file just written") {
        let now = time.advance(frame.ts);
        counted.frames += 1;
        let frame = Frame { ts: now, ..frame };
        match plain(&frame) {
            Some(segment) => counted.take(segment, &mut tracker),
            None => counted.take_another(&frame, &mut tracker),
        }
        if now >= publish_at {
            publish(&counted, &mut tracker);
            source.publish();
            publish_at = now.plus(Duration::from_millis(50));
        }
    }
    publish(&counted, &mut tracker);
    std::hint::black_box(&published);
}

/// What became of frames.
#[derive(Default, Clone)]
struct Counted {
    frames: u64,
    tcp: u64,
    not_tcp: u64,
    undecoded: [u64; DecodeError::ALL.len()],
    segments: [u64; SegmentKind::ALL.len()],
}

impl Counted {
    #[inline(always)]
    fn take(&mut self, segment: Segment, tracker: &mut Tracker) {
        self.tcp += 1;
        self.segments[segment.kind as usize] += 1;
        tracker.take(segment, &mut NoSink);
    }

    #[inline(never)]
    fn take_another(&mut self, frame: &Frame<'_>, tracker: &mut Tracker) {
        match walk(frame) {
            Decoded::Tcp(segment) => self.take(segment, tracker),
            Decoded::NotTcp(_) => self.not_tcp += 1,
            Decoded::Undecoded(error) => self.undecoded[error as usize] += 1,
        }
    }
}

pub(crate) fn tcpdump(path: &Path, filter: &[&str]) {
    let mut command = Command::new("tcpdump");
    command.args(["-n", "-w", "/dev/null", "-r"]).arg(path).args(filter);
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "tcpdump: 'scripts/setup.sh --tests' installs it");
}
