//! Overload: what the sensor must survive, at a size that `make test` can afford; `make torture` runs it a hundred times larger.
//!
//! Each kind of noise goes through the whole pipeline, beside a real victim that must be found. Memory is held against the reckoned
//! ceiling, by the kernel's own figure; scrapes and pages are asked for over HTTP while the noise runs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test that fails should say so at once; how long a scrape takes is measured by the wall clock"
)]
#![allow(unreachable_pub, reason = "shared with other tests")]

mod support;

use halfopen::capture::{CaptureError, Frame, FrameSource, InterfaceCounters, LinkType, SourceEvent};
use halfopen::config::Config;
use halfopen::decode::segment::{Endpoint, TcpFlags};
use halfopen::detect::incident::{Change, IncidentKind, JournalEntry};
use halfopen::pipeline::Sensor;
use halfopen::report::snapshot::SnapshotSource;
use halfopen::synth::Scenario;
use halfopen::synth::frame::{Packet, Wire};
use halfopen::synth::random::SplitMix64;
use halfopen::synth::stream::Stream;
use halfopen::time::Timestamp;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::laws::counted;
use support::served::Served;

/// A page is kept for a little less than this: whoever asks so seldom has each made anew.
const PAGE_EVERY: Duration = Duration::from_secs(1);

/// Packets of each kind of noise: 100,000, or what the environment says; `make torture` says 10,000,000.
fn packets() -> u64 {
    std::env::var("HALFOPEN_TORTURE").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000)
}

/// Noise comes between these seconds of a minute of network time; the victim is flooded in between.
const NOISE: (u64, u64) = (5, 55);
const FLOOD: u64 = 30;

/// The victim's own load, and the flood that must be found: forged sources, none of them of the noise.
const VICTIM: &str = r#"
seed = 3
duration = 60
[[traffic]]
kind = "handshakes"
rate = 50
up = 0
down = 0
[[traffic]]
kind = "flood"
rate = 2000
dispersion = 1
start = 30
duration = 15
"#;

/// One kind of noise: its n-th frame, and what its stamp is off by, seconds.
type Noise = fn(u64, &mut SplitMix64, &mut Vec<u8>) -> i64;

fn v4(bits: u64) -> IpAddr {
    // 198.18.0.0/15 is too small for ten million; what never leaves this process may come from anywhere. Above 11.0.0.0 and
    // below 128.0.0.0 it is never the victim.
    IpAddr::V4(Ipv4Addr::from_bits(0x0b00_0000 + (bits % 0x7000_0000) as u32))
}

fn v6(bits: u64) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(bits)))
}

fn syn(from: IpAddr, to: IpAddr, port: u16, random: &mut SplitMix64) -> Packet {
    let source = Endpoint::new(from, 1024 | random.next_u32() as u16);
    Packet::bare_syn(source, Endpoint::new(to, port), random.next_u32())
}

fn write(packet: &Packet, out: &mut Vec<u8>) -> i64 {
    Wire::default().write(packet, out);
    0
}

/// As `write`, with a flag byte and an acknowledgement number.
fn flagged(packet: Packet, flags: u8, random: &mut SplitMix64, out: &mut Vec<u8>) -> i64 {
    write(&Packet { flags, ack: random.next_u32(), ..packet }, out)
}

const KINDS: [(&str, Noise); 11] = [
    ("distinct sources at one server", |n, random, out| {
        write(&syn(v4(n.wrapping_mul(0x9e37_79b9)), v4(7), 80, random), out)
    }),
    ("distinct servers", |n, random, out| {
        write(&syn(v4(random.next_u64()), v4(n * 251), n as u16, random), out)
    }),
    ("servers that answer", |n, random, out| {
        let packet = syn(v4(random.next_u64()), v4(n / 2 * 251), 443, &mut SplitMix64::split(n / 2, 0));
        if n % 2 == 0 {
            return write(&Packet { src: Endpoint::new(v4(9), 4242), seq: 7, ..packet }, out);
        }
        let answer = Packet { src: packet.dst, dst: Endpoint::new(v4(9), 4242), seq: 1, ack: 8, ..packet };
        write(&Packet { flags: TcpFlags::SYN | TcpFlags::ACK, ..answer }, out)
    }),
    // Equal low bits, equal high bits, and a stride that a multiplicative hash without a key would fold together.
    ("hash collisions", |n, random, out| {
        let packet = syn(v4(n << 16), v4(7), 80, random);
        write(&Packet { src: Endpoint::new(packet.src.addr, 4096), seq: 0, ..packet }, out)
    }),
    ("SYN-ACKs", |n, random, out| {
        flagged(syn(v4(n), v4(n / 64), 80, random), TcpFlags::SYN | TcpFlags::ACK, random, out)
    }),
    ("ACKs", |n, random, out| flagged(syn(v4(n), v4(n / 64), 80, random), TcpFlags::ACK, random, out)),
    ("RSTs", |n, random, out| flagged(syn(v4(n), v4(n / 64), 80, random), TcpFlags::RST, random, out)),
    ("fragments", |n, random, out| {
        write(&syn(v4(n), v4(7), 80, random), out);
        // More fragments; every other one is not the first (RFC 791: flags and offset are bytes 6 and 7 of the header).
        out[14 + 6] = 0x20;
        out[14 + 7] = (n % 2) as u8 * 3;
        0
    }),
    ("all IPv6", |n, random, out| write(&syn(v6(n << 20 | 1), v6(n % 65_536), 443, random), out)),
    ("every flag byte", |n, random, out| {
        flagged(syn(v4(n / 256), v4(n % 7), 80, random), n as u8, random, out)
    }),
    ("stamps that jump by decades", |n, random, out| {
        write(&syn(v4(n), v4(7), 80, random), out);
        // One in a thousand, in both directions.
        let decades = [0x2000_0000, -0x3000_0000, 0x7000_0000, -0x5000_0000][(n / 1000 % 4) as usize];
        if n % 1000 == 0 { decades } else { 0 }
    }),
];

/// The victim's frames, and the noise evenly among them.
struct Storm {
    victim: Stream,
    waiting: Option<Timestamp>,
    begin: Timestamp,
    frame: Vec<u8>,
    other: Vec<u8>,
    noise: Noise,
    random: SplitMix64,
    sent: u64,
    packets: u64,
    fed: Arc<AtomicU64>,
    counters: Arc<InterfaceCounters>,
}

impl Storm {
    fn new(noise: Noise, packets: u64, fed: &Arc<AtomicU64>) -> Self {
        let (mut victim, mut frame) = (Scenario::from_toml(VICTIM).unwrap().stream(), Vec::new());
        let waiting = victim.next_frame(&mut frame);
        Self {
            victim,
            begin: waiting.unwrap(),
            waiting,
            frame,
            other: Vec::new(),
            noise,
            random: SplitMix64::split(1, 2),
            sent: 0,
            packets,
            fed: Arc::clone(fed),
            counters: InterfaceCounters::new("storm"),
        }
    }

    fn next_noise(&self) -> Option<Timestamp> {
        let nanos = Duration::from_secs(NOISE.1 - NOISE.0).as_nanos() as u64 / self.packets * self.sent;
        let at = self.begin.plus(Duration::from_secs(NOISE.0)).plus(Duration::from_nanos(nanos));
        (self.sent < self.packets).then_some(at)
    }
}

impl FrameSource for Storm {
    fn next_event(&mut self) -> Result<SourceEvent<'_>, CaptureError> {
        let frame = |ts, data| SourceEvent::Frame(Frame { ts, link: LinkType::ETHERNET, orig_len: 60, data });
        let noise = self.next_noise();
        let Some(first) = self.waiting.into_iter().chain(noise).min() else { return Ok(SourceEvent::End) };
        self.fed.fetch_add(1, Ordering::Relaxed);
        if self.waiting == Some(first) {
            std::mem::swap(&mut self.frame, &mut self.other);
            self.waiting = self.victim.next_frame(&mut self.frame);
            return Ok(frame(first, &self.other));
        }
        let off = (self.noise)(self.sent, &mut self.random, &mut self.other);
        self.sent += 1;
        let ts = Timestamp::from_nanos(first.as_nanos().saturating_add(off.saturating_mul(1_000_000_000)));
        Ok(frame(ts, &self.other))
    }

    fn publish(&mut self) {}

    fn counters(&self) -> Vec<Arc<InterfaceCounters>> {
        vec![Arc::clone(&self.counters)]
    }
}

/// How long the sensor takes to answer a request, and that it answers.
fn asked(served: &Served, path: &str) -> Duration {
    let asked = Instant::now();
    let mut answer = ureq::get(format!("{}{path}", served.base)).call().unwrap();
    assert!(answer.body_mut().read_to_string().unwrap().len() > 1000, "{path}");
    asked.elapsed()
}

/// The middle one and the longest.
fn median_and_slowest(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() - 1])
}

/// Most memory this process held since it was last asked, MiB; none where the kernel does not say.
fn peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    // 5: begin anew (proc_pid_clear_refs(5)).
    let _ = fs::write("/proc/self/clear_refs", "5");
    Some(kib >> 10)
}

#[test]
fn whatever_comes_memory_holds_counts_hold_and_the_victim_is_found() {
    let packets = packets();
    println!(
        "| noise | packets | victim found after | memory, MiB | of | scrape, median | slowest | page, median | slowest |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let mut wrong = Vec::new();
    for (name, noise) in KINDS {
        let told: Arc<Mutex<Vec<JournalEntry>>> = Arc::default();
        let journal = Arc::clone(&told);
        let mut config = Config::default();
        let fit = config.fit(1).unwrap();
        assert!(fit.reckoned <= config.limits.memory);
        let ceiling = config.limits.memory >> 20;
        peak();
        let hear = move |entry: &JournalEntry| journal.lock().unwrap().push(entry.clone());
        let sensor = Sensor::new(&config, Box::new(hear));
        let fed: Arc<AtomicU64> = Arc::default();
        let storm = Storm::new(noise, packets, &fed);
        let begin = storm.begin;
        let over = AtomicBool::new(false);
        let served = Served::start(Arc::clone(&sensor) as Arc<dyn SnapshotSource>);
        let (scrapes, pages) = std::thread::scope(|scope| {
            let viewer = scope.spawn(|| {
                let (mut scrapes, mut pages) = (Vec::new(), Vec::new());
                let mut page_due = Instant::now();
                while !over.load(Ordering::Relaxed) || scrapes.is_empty() {
                    scrapes.push(asked(&served, "metrics"));
                    if Instant::now() >= page_due {
                        pages.push(asked(&served, ""));
                        page_due = Instant::now() + PAGE_EVERY;
                    }
                    counted(&sensor.snapshot());
                    std::thread::sleep(Duration::from_millis(20));
                }
                (scrapes, pages)
            });
            sensor.run_source(storm).unwrap();
            over.store(true, Ordering::Relaxed);
            viewer.join().unwrap()
        });
        drop(served);
        let (scrape, page) = (median_and_slowest(scrapes), median_and_slowest(pages));
        let memory = peak().unwrap_or(0);
        let snapshot = sensor.snapshot();
        assert_eq!(snapshot.frames.read, fed.load(Ordering::Relaxed), "{name}: every frame is counted");
        counted(&snapshot);
        assert!(snapshot.table.bytes <= config.limits.memory, "{name}");
        let found = told.lock().unwrap().iter().find_map(|entry| {
            let ours =
                entry.incident.server == "192.0.2.10:80" && entry.incident.kind == IncidentKind::SpoofedFlood;
            (ours && entry.event != Change::Ended).then_some(entry.ts)
        });
        let after = found.map(|at| at.since(begin).as_secs_f64() - FLOOD as f64);
        let shown = after.map_or_else(
            || "not".to_owned(),
            |after| if after < 100.0 { format!("{after:.1} s") } else { "yes".to_owned() },
        );
        println!(
            "| {name} | {packets} | {shown} | {memory} | {ceiling} | {:.1?} | {:.1?} | {:.1?} | {:.1?} |",
            scrape.0, scrape.1, page.0, page.1
        );
        let jumps = name.starts_with("stamps");
        // A grace age, a few bins; more where ten million servers crowd the victim out of its slot for some of them.
        if after.is_none_or(|after| !jumps && after > 10.0) {
            wrong.push(format!("{name}: the victim was found after {after:?} s"));
        }
        // The kernel's buffer of a capture is no part of this process's here.
        if memory > ceiling - (u64::from(config.capture.buffer) >> 20) {
            wrong.push(format!("{name}: {memory} MiB of {ceiling}"));
        }
        // Half of them: the machine of a test may be busy with other things for longer than that.
        for (what, (median, _)) in [("scrape", scrape), ("page", page)] {
            if !cfg!(debug_assertions) && median > Duration::from_millis(100) {
                wrong.push(format!("{name}: a {what} took {median:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
