//! Live capture against a real kernel, in network namespaces of its own.
//!
//! Each test runs itself again under `unshare`, in a namespace that ends with it, and skips visibly where that is not possible.

// These tests measure how long a stop takes and stamp what they send: both are about the operating system's clock.
#![allow(clippy::disallowed_methods)]
// A test ends by panicking and says on standard error what it skipped; clippy knows that of test functions, not of their helpers.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

use halfopen::capture::live::LiveSource;
use halfopen::capture::stop::StopHandle;
use halfopen::capture::{CaptureError, FrameSource, SourceEvent, interfaces};
use halfopen::config::CaptureConfig;
use std::net::TcpStream;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

const INSIDE: &str = "HALFOPEN_TEST_INSIDE_NAMESPACE";

/// True inside the namespace. Outside, runs the named test inside one and gives false.
fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let usable = |program: &str, arguments: &[&str]| {
        Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
    };
    if !usable("unshare", &["-rn", "ip", "link", "set", "lo", "up"]) {
        eprintln!("SKIPPED: {test}: no network namespaces, or no ip(8)");
        return false;
    }
    let status = Command::new("unshare")
        .arg("-rn")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed inside its namespace");
    false
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Two ends of a cable that say nothing by themselves.
fn cable() {
    ip("link add near type veth peer name far");
    for end in ["near", "far"] {
        ip(&format!("link set {end} addrgenmode none"));
        ip(&format!("link set {end} up"));
    }
}

fn send(frames: &[Vec<u8>]) {
    let mut capture = pcap::Capture::from_device("near").unwrap().open().unwrap();
    for frame in frames {
        capture.sendpacket(frame.as_slice()).unwrap();
    }
}

fn open(interface: &str, filter: Option<&str>) -> LiveSource {
    let config = CaptureConfig { filter: filter.map(str::to_owned), ..CaptureConfig::default() };
    LiveSource::open(interface, &config, StopHandle::new()).unwrap()
}

/// Pulls events until `done` says so; the frames on the way. Ten seconds are far more than anything here may take.
fn pull(source: &mut LiveSource, mut done: impl FnMut(&[Vec<u8>], bool) -> bool) -> Vec<Vec<u8>> {
    let start = Instant::now();
    let mut frames = Vec::new();
    loop {
        let idle = match source.next_event().unwrap() {
            SourceEvent::Frame(frame) => {
                frames.push(frame.data.to_vec());
                false
            }
            SourceEvent::Idle(_) => true,
            SourceEvent::End => panic!("nobody told it to stop"),
        };
        source.publish();
        if done(&frames, idle) {
            return frames;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "waited too long; {} frames", frames.len());
    }
}

/// A frame from forged documentation addresses: tags, ethertype, payload.
fn frame(tags: &[u16], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for tag in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend([0, 100]);
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame.resize(frame.len().max(60), 0);
    frame
}

fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = 20 + payload.len() as u16;
    let mut packet = [&[0x45, 0][..], &length.to_be_bytes(), &[0, 1, 0, 0, 64, protocol, 0, 0]].concat();
    packet.extend([198, 18, 0, 1, 198, 18, 0, 2]);
    packet.extend(payload);
    packet
}

fn syn(port: u16) -> Vec<u8> {
    let mut segment = [40_000_u16.to_be_bytes(), port.to_be_bytes()].concat();
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    segment
}

fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let length = 8 + payload.len() as u16;
    [&40_000_u16.to_be_bytes()[..], &port.to_be_bytes(), &length.to_be_bytes(), &[0, 0], payload].concat()
}

#[test]
fn stops_on_a_silent_link() {
    if !inside("stops_on_a_silent_link") {
        return;
    }
    cable();
    let stop = StopHandle::new();
    let mut source = LiveSource::open("far", &CaptureConfig::default(), stop.clone()).unwrap();
    let (idle, idled) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        loop {
            match source.next_event().unwrap() {
                SourceEvent::Idle(now) => idle.send(now).unwrap(),
                SourceEvent::Frame(frame) => panic!("the link is not silent: {frame:?}"),
                SourceEvent::End => return,
            }
        }
    });
    let first = idled.recv().unwrap();
    let second = idled.recv().unwrap();
    assert!(second > first, "time goes on");
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as i64;
    let behind = Duration::from_nanos((wall - second.as_nanos()) as u64);
    assert!(behind < Duration::from_secs(1), "{behind:?}");

    let told = Instant::now();
    stop.stop();
    thread.join().unwrap();
    let took = told.elapsed();
    eprintln!("stopped after {took:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn every_encapsulation_arrives_and_noise_does_not() {
    if !inside("every_encapsulation_arrives_and_noise_does_not") {
        return;
    }
    cable();
    let mut source = open("far", None);
    let inner = ipv4(6, &syn(80));
    let vxlan = [&[8, 0, 0, 0, 0, 0, 1, 0][..], &frame(&[], 0x0800, &inner)].concat();
    let wanted = vec![
        frame(&[], 0x0800, &inner),
        frame(&[0x8100], 0x0800, &inner),
        frame(&[0x88a8, 0x8100], 0x0800, &inner),
        frame(&[0x8100, 0x8100], 0x0800, &inner),
        frame(&[], 0x8847, &[&[0, 1, 1, 64], inner.as_slice()].concat()),
        frame(&[0x8100], 0x8847, &[&[0, 1, 1, 64], inner.as_slice()].concat()),
        frame(&[], 0x8864, &[&[0x11, 0, 0, 1, 0, 42, 0, 0x21], inner.as_slice()].concat()),
        frame(&[], 0x0800, &ipv4(47, &[&[0, 0, 8, 0], inner.as_slice()].concat())),
        frame(&[], 0x0800, &ipv4(4, &inner)),
        frame(&[], 0x0800, &ipv4(17, &udp(4789, &vxlan))),
        frame(&[0x8100], 0x0800, &ipv4(17, &udp(4789, &vxlan))),
    ];
    let noise = [
        frame(&[], 0x0806, &[0; 46]),
        frame(&[], 0x0800, &ipv4(17, &udp(53, &[0; 32]))),
        frame(&[], 0x0800, &ipv4(1, &[8, 0, 0, 0, 0, 0, 0, 0])),
    ];
    send(&noise);
    send(&wanted);
    let seen = pull(&mut source, |frames, idle| idle && frames.len() >= wanted.len());
    assert_eq!(seen, wanted);
    let stats = source.counters()[0].load();
    let bytes: usize = wanted.iter().map(Vec::len).sum();
    assert_eq!((stats.frames, stats.bytes), (wanted.len() as u64, bytes as u64));
    assert_eq!((stats.drops_kernel, stats.drops_interface, stats.reopened, stats.up), (0, 0, 0, true));
}

#[test]
fn a_users_filter_sees_behind_tags() {
    if !inside("a_users_filter_sees_behind_tags") {
        return;
    }
    cable();
    let tags: [&[u16]; 4] = [&[], &[0x8100], &[0x88a8, 0x8100], &[0x8100, 0x8100]];
    for (filter, port) in [("port 80", 80), ("not port 443", 80)] {
        let mut source = open("far", Some(filter));
        let frames = |port| tags.map(|tags| frame(tags, 0x0800, &ipv4(6, &syn(port)))).to_vec();
        send(&frames(443));
        send(&frames(port));
        let seen = pull(&mut source, |seen, idle| idle && seen.len() >= tags.len());
        assert_eq!(seen, frames(port), "{filter}");
    }
}

#[test]
fn stamps_are_the_kernels_and_counters_add_up() {
    if !inside("stamps_are_the_kernels_and_counters_add_up") {
        return;
    }
    cable();
    let mut source = open("far", None);
    let nanos = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as i64;
    let count: u32 = 20_000;
    let before = nanos();
    send(&vec![frame(&[], 0x0800, &ipv4(6, &syn(80))); count as usize]);
    let after = nanos();
    let (mut frames, mut finer_than_micro, mut last) = (0, false, before);
    while frames < count {
        if let SourceEvent::Frame(frame) = source.next_event().unwrap() {
            frames += 1;
            assert!((last..=after).contains(&frame.ts.as_nanos()), "stamps are in order and in the interval");
            last = frame.ts.as_nanos();
            finer_than_micro |= last % 1000 != 0;
        }
    }
    assert!(finer_than_micro, "nanoseconds were asked for");
    source.publish();
    let stats = source.counters()[0].load();
    assert_eq!((stats.frames, stats.bytes, stats.drops_kernel), (20_000, 20_000 * 60, 0));
}

#[test]
fn kernel_drops_are_counted() {
    if !inside("kernel_drops_are_counted") {
        return;
    }
    cable();
    let config = CaptureConfig { buffer: 1 << 20, ..CaptureConfig::default() };
    let mut source = LiveSource::open("far", &config, StopHandle::new()).unwrap();
    let count = 50_000;
    send(&vec![frame(&[], 0x0800, &ipv4(6, &syn(80))); count]);
    pull(&mut source, |_, idle| idle);
    // The counters are read at most every quarter second; idle moments bring that about.
    let stats = loop {
        pull(&mut source, |_, idle| idle);
        let stats = source.counters()[0].load();
        if stats.frames + stats.drops_kernel >= count as u64 {
            break stats;
        }
    };
    eprintln!("{} delivered, {} dropped", stats.frames, stats.drops_kernel);
    assert!(stats.drops_kernel > 0, "a megabyte does not hold them");
    assert_eq!(stats.frames + stats.drops_kernel, count as u64);
}

#[test]
fn an_interface_that_goes_down_comes_back() {
    if !inside("an_interface_that_goes_down_comes_back") {
        return;
    }
    cable();
    let mut source = open("far", None);
    let counters = source.counters().remove(0);
    let up = || counters.load().up;
    ip("link set far down");
    pull(&mut source, |_, _| !up());
    ip("link set far up");
    pull(&mut source, |_, _| up());
    let sent = vec![frame(&[], 0x0800, &ipv4(6, &syn(80)))];
    send(&sent);
    assert_eq!(pull(&mut source, |seen, _| !seen.is_empty()), sent);
}

#[test]
fn an_interface_that_is_deleted_and_made_again_comes_back() {
    if !inside("an_interface_that_is_deleted_and_made_again_comes_back") {
        return;
    }
    cable();
    let mut source = open("far", None);
    let counters = source.counters().remove(0);
    let sent = vec![frame(&[], 0x0800, &ipv4(6, &syn(80)))];
    for round in 1..=2 {
        send(&sent);
        assert_eq!(pull(&mut source, |seen, _| !seen.is_empty()), sent);
        ip("link del near");
        // In the second round it is back before anyone looked.
        if round == 1 {
            pull(&mut source, |_, _| !counters.load().up);
        }
        cable();
        let start = Instant::now();
        pull(&mut source, |_, _| counters.load().reopened == round);
        eprintln!("captured again {:?} after it was made", start.elapsed());
        assert!(counters.load().up);
    }
    send(&sent);
    assert_eq!(pull(&mut source, |seen, _| !seen.is_empty()), sent);
    assert_eq!(counters.load().frames, 3);
}

#[test]
fn loopback_and_any_show_a_packet_once() {
    if !inside("loopback_and_any_show_a_packet_once") {
        return;
    }
    ip("link set lo up");
    for interface in ["lo", "any"] {
        let mut source = open(interface, None);
        // Nobody listens: one SYN, one RST.
        TcpStream::connect("127.0.0.1:9").unwrap_err();
        let seen = pull(&mut source, |seen, idle| idle && seen.len() >= 2);
        assert_eq!(seen.len(), 2, "{interface}");
    }
}

#[test]
fn errors_and_listings_name_the_interface() {
    if !inside("errors_and_listings_name_the_interface") {
        return;
    }
    ip("link add near type veth peer name far");
    let error =
        |name: &str| LiveSource::open(name, &CaptureConfig::default(), StopHandle::new()).unwrap_err();
    assert!(matches!(error("nosuch0"), CaptureError::NoSuchInterface { .. }), "{}", error("nosuch0"));
    let down = error("far").to_string();
    assert!(down.contains("'far'") && down.contains("ip link set far up"), "{down}");
    assert!(matches!(interfaces::default_route_interface(), Err(CaptureError::NoDefaultRoute)));

    for end in ["near", "far"] {
        ip(&format!("link set {end} up"));
    }
    ip("addr add 198.18.0.1/24 dev near");
    ip("route add default via 198.18.0.2");
    assert_eq!(interfaces::default_route_interface().unwrap(), "near");
    let listed = interfaces::interfaces().unwrap();
    let near = listed.iter().find(|info| info.name == "near").unwrap();
    assert_eq!((near.state().as_str(), near.link_name().as_str()), ("up,running", "EN10MB"));
    assert!(near.addresses.contains(&"198.18.0.1".parse().unwrap()));
    let any = listed.iter().find(|info| info.name == "any").unwrap();
    assert_eq!(any.link_name(), "LINUX_SLL");
}
