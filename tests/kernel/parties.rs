//! The parties inside the namespaces: who listens and watches its own kernel, and who sends forged SYNs.

use super::support::helper::{self, TASK};
use super::support::namespaces;
use halfopen::synth::address::Targets;
use halfopen::synth::kinds::{Answers, Flood};
use halfopen::synth::scenario::Traffic;
use halfopen::synth::Scenario;
use socket2::{Domain, Socket, Type};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Said once every port listens.
pub const LISTENING: &str = "party: listening";
/// Begins a line with one sample.
pub const SAMPLE: &str = "sample ";
/// Said by the flood once all was sent.
pub const SENT: &str = "party: sent ";

/// Does the task of the environment, where there is one.
pub fn main() {
    let Ok(task) = std::env::var(TASK) else { return };
    let words: Vec<&str> = task.split(' ').collect();
    match words[..] {
        ["serve", seconds, ref ports @ ..] => serve(seconds.parse().unwrap(), ports),
        ["flood", ref floods @ ..] => flood(floods),
        _ => helper::main(),
    }
}

/// Listens on every `port:backlog` and takes no connection, and says once a second what the kernel holds for each port.
fn serve(seconds: u64, ports: &[&str]) {
    let mut listeners = Vec::new();
    for spec in ports {
        let (port, backlog) = spec.split_once(':').unwrap();
        let address: SocketAddr = format!("{}:{port}", namespaces::SERVER).parse().unwrap();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(backlog.parse().unwrap()).unwrap();
        listeners.push(socket);
    }
    println!("{LISTENING}");
    let first = now().as_secs() + 1;
    for second in first..first + seconds {
        let due = Duration::from_secs(second);
        std::thread::sleep(due.saturating_sub(now()));
        println!("{SAMPLE}{}", sample());
    }
}

/// The kernel's own figures at this moment: entries in SYN_RECV by port, and its counters.
fn sample() -> serde_json::Value {
    let before = now();
    let output = Command::new("ss").args(["-Htn", "state", "syn-recv"]).output().unwrap();
    let after = now();
    let mut entries: BTreeMap<String, u32> = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let local = line.split_whitespace().nth(2).unwrap();
        let port = local.rsplit(':').next().unwrap();
        *entries.entry(port.to_owned()).or_default() += 1;
    }
    let counters = counters();
    serde_json::json!({
        "from": before.as_secs_f64(), "to": after.as_secs_f64(), "entries": entries, "counters": counters,
    })
}

/// The `TcpExt` counters that tell of listeners.
fn counters() -> BTreeMap<String, u64> {
    const WANTED: [&str; 5] =
        ["SyncookiesSent", "TCPReqQFullDoCookies", "TCPReqQFullDrop", "ListenDrops", "ListenOverflows"];
    let text = std::fs::read_to_string("/proc/net/netstat").unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    names
        .split(' ')
        .zip(values.split(' '))
        .filter(|(name, _)| WANTED.contains(name))
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

/// Sends forged SYNs to every `port:rate:seconds` at once, each at its own rate.
fn flood(floods: &[&str]) {
    let mut scenario = Scenario::new(4, Duration::from_secs(600));
    for spec in floods {
        let mut words = spec.split(':');
        let mut word = || words.next().unwrap();
        let (port, rate, seconds) = (word(), word(), word());
        let servers = Targets::try_from(format!("{}:{port}", namespaces::SERVER)).unwrap();
        scenario = scenario.with(Traffic::Flood(Flood {
            servers,
            rate: rate.parse().unwrap(),
            dispersion: 1.0,
            duration: Some(Duration::from_secs_f64(seconds.parse().unwrap())),
            answers: Answers::Drop,
            ..Flood::default()
        }));
    }
    let mut stream = scenario.stream();
    stream.set_link(namespaces::ORIGINATOR_MAC, namespaces::SERVER_MAC);
    let link = pcap::Capture::from_device(namespaces::ORIGINATOR_LINK).unwrap();
    let mut link = link.snaplen(64).immediate_mode(true).open().unwrap();
    // What comes back is not read here.
    link.direction(pcap::Direction::Out).unwrap();
    let began = now();
    let mut frame = Vec::new();
    while let Some(stamp) = stream.next_frame(&mut frame) {
        let due = began + stamp.since(scenario.start());
        let early = due.saturating_sub(now());
        // The kernel wakes a sleeper this late anyway.
        if early > Duration::from_micros(200) {
            std::thread::sleep(early);
        }
        link.sendpacket(frame.as_slice()).unwrap();
    }
    println!("{SENT}{}", stream.tally().attempts);
}

/// The time of day, which stamps on packets and samples share.
fn now() -> Duration {
    #[allow(clippy::disallowed_methods)] // a live measurement: packets are stamped by the same clock
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).unwrap()
}
