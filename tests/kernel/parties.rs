//! The parties inside the namespaces: who listens and watches its own kernel, and who sends forged SYNs.

use super::support::helper::{self, TASK};
use super::support::namespaces;
use super::truth::COUNTERS;
use halfopen::decode::segment::{Endpoint, TcpFlags};
use halfopen::synth::Scenario;
use halfopen::synth::address::Targets;
use halfopen::synth::frame::{Packet, Wire};
use halfopen::synth::kinds::{Answers, Flood};
use halfopen::synth::random::SplitMix64;
use halfopen::synth::scenario::Traffic;
use socket2::{Domain, Socket, Type};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Said once every port listens.
pub const LISTENING: &str = "party: listening";
/// Begins a line with one sample.
pub const SAMPLE: &str = "sample ";
/// Begins a line that says that a counter moved for the first time.
pub const MOVED: &str = "moved ";
/// Said by the flood once all was sent.
pub const SENT: &str = "party: sent ";

/// How often the counters are looked at: the first of a thousand SYNs a second that is refused is known to twenty.
const COUNTED_EVERY: Duration = Duration::from_millis(20);
/// How long a client keeps silent: past the end of any deferral.
const SILENCE: Duration = Duration::from_secs(15);

/// Does the task of the environment, where there is one.
pub fn main() {
    let Ok(task) = std::env::var(TASK) else { return };
    let words: Vec<&str> = task.split(' ').collect();
    match words[..] {
        ["serve", seconds, ref ports @ ..] => serve(seconds.parse().unwrap(), ports),
        ["flood", ref floods @ ..] => flood(floods),
        ["clients", ref ports @ ..] => clients(ports),
        ["acks", ref ports @ ..] => acks(ports),
        _ => helper::main(),
    }
}

/// Listens on every `port:backlog:accepts`, and says once a second what the kernel holds for each port.
fn serve(seconds: u64, ports: &[&str]) {
    let mut listeners = Vec::new();
    for spec in ports {
        let [port, backlog, accepts] = spec.split(':').collect::<Vec<_>>()[..] else { panic!("{spec}") };
        let address: SocketAddr = format!("{}:{port}", namespaces::SERVER).parse().unwrap();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(backlog.parse().unwrap()).unwrap();
        if accepts == "true" {
            let listener = std::net::TcpListener::from(socket.try_clone().unwrap());
            std::thread::spawn(move || listener.incoming().for_each(|stream| drop(stream.map(read_to_end))));
        }
        listeners.push(socket);
    }
    println!("{LISTENING}");
    std::thread::spawn(watch_counters);
    let first = now().as_secs() + 1;
    for second in first..first + seconds {
        let due = Duration::from_secs(second);
        std::thread::sleep(due.saturating_sub(now()));
        println!("{SAMPLE}{}", sample());
    }
}

/// Says of each counter when it had not moved yet, the last time before it had.
fn watch_counters() {
    let (before, mut moved) = (counters(), BTreeSet::new());
    let mut last = now();
    loop {
        std::thread::sleep(COUNTED_EVERY);
        let (asked, present) = (now(), counters());
        for (name, _) in present.iter().filter(|(name, count)| before.get(*name) != Some(count)) {
            if moved.insert(name.clone()) {
                println!("{MOVED}{}", serde_json::json!({ "counter": name, "after": last.as_secs_f64() }));
            }
        }
        last = asked;
    }
}

fn read_to_end(mut stream: TcpStream) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    let _ = std::io::copy(&mut stream, &mut std::io::sink());
}

/// Makes real connections to every `port:rate:seconds:after` at once, each of which sends a byte so long after its handshake and
/// closes, or keeps silent.
fn clients(ports: &[&str]) {
    std::thread::scope(|scope| {
        for spec in ports {
            let [port, rate, seconds, after] = spec.split(':').collect::<Vec<_>>()[..] else {
                panic!("{spec}")
            };
            let after: f64 = after.parse().unwrap();
            let address: SocketAddr = format!("{}:{port}", namespaces::SERVER).parse().unwrap();
            let (rate, seconds): (f64, f64) = (rate.parse().unwrap(), seconds.parse().unwrap());
            scope.spawn(move || {
                let began = now();
                for number in 0..(rate * seconds) as u32 {
                    let due = began + Duration::from_secs_f64(f64::from(number) / rate);
                    std::thread::sleep(due.saturating_sub(now()));
                    // The kernel goes on by itself: a client that waits must not hold up the next.
                    std::thread::spawn(move || {
                        let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(10))
                        else {
                            return;
                        };
                        std::thread::sleep(Duration::try_from_secs_f64(after).unwrap_or(SILENCE));
                        if after.is_finite() {
                            let _ = stream.write_all(b"x");
                            read_to_end(stream);
                        }
                    });
                }
            });
        }
    });
    println!("{SENT}everything");
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
    let text = std::fs::read_to_string("/proc/net/netstat").unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    names
        .split(' ')
        .zip(values.split(' '))
        .filter(|(name, _)| COUNTERS.contains(name))
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

/// Sends forged SYNs to every `port:rate:even:start:seconds:duplicates:resets:any_ack`, each at its own rate.
fn flood(floods: &[&str]) {
    let mut scenario = Scenario::new(4, Duration::from_secs(600));
    let mut shares = BTreeMap::new();
    for spec in floods {
        let words = spec.split(':').collect::<Vec<_>>();
        let [port, rate, even, start, seconds, duplicates, resets, any_ack] = words[..] else {
            panic!("{spec}")
        };
        let servers = Targets::try_from(format!("{}:{port}", namespaces::SERVER)).unwrap();
        let share = |text: &str| text.parse::<f64>().unwrap();
        shares.insert(port.parse::<u16>().unwrap(), (share(duplicates), share(resets), any_ack == "true"));
        scenario = scenario.with(Traffic::Flood(Flood {
            servers,
            rate: rate.parse().unwrap(),
            dispersion: if even == "true" { 0.0 } else { 1.0 },
            start: Duration::from_secs_f64(start.parse().unwrap()),
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
    let mut random = SplitMix64::split(4, 4);
    let mut later: BinaryHeap<Reverse<(Duration, Vec<u8>)>> = BinaryHeap::new();
    let mut send = |due: Duration, frame: &[u8]| {
        let early = (began + due).saturating_sub(now());
        // The kernel wakes a sleeper this late anyway.
        if early > Duration::from_micros(200) {
            std::thread::sleep(early);
        }
        super::support::send(&mut link, frame);
    };
    let mut frame = Vec::new();
    while let Some(stamp) = stream.next_frame(&mut frame) {
        let due = stamp.since(scenario.start());
        while let Some(Reverse((at, _))) = later.peek()
            && *at <= due
            && let Some(Reverse((at, frame))) = later.pop()
        {
            send(at, &frame);
        }
        send(due, &frame);
        let (duplicates, resets, any_ack) = shares[&u16::from_be_bytes([frame[36], frame[37]])];
        if random.chance(duplicates) {
            let after = Duration::from_millis(600 + random.below(2000));
            later.push(Reverse((due + after, frame.clone())));
        } else if random.chance(resets) {
            later.push(Reverse((due + Duration::from_millis(300), reset(&frame))));
        } else if any_ack {
            let number = random.below(1 << 32) as u32;
            let after = Duration::from_millis(if number & 1 == 0 { 1 } else { 300 });
            later.push(Reverse((due + after, following(&frame, TcpFlags::ACK, number))));
        }
    }
    println!("{SENT}{}", stream.tally().attempts);
}

/// The reset that the owner of a forged address would send to the SYN-ACK: at the SYN's sequence number and one.
fn reset(syn: &[u8]) -> Vec<u8> {
    following(syn, TcpFlags::RST, 0)
}

/// The segment that follows a SYN.
fn following(syn: &[u8], flags: u8, ack: u32) -> Vec<u8> {
    let four = |at: usize| -> [u8; 4] { syn[at..at + 4].try_into().unwrap() };
    let two = |at: usize| u16::from_be_bytes([syn[at], syn[at + 1]]);
    let end = |address: usize, port: usize| Endpoint::new(IpAddr::from(four(address)), two(port));
    let isn = u32::from_be_bytes(four(38));
    let packet = Packet::bare_syn(end(26, 34), end(30, 36), isn.wrapping_add(1));
    let wire =
        Wire { to: syn[..6].try_into().unwrap(), from: syn[6..12].try_into().unwrap(), ..Wire::default() };
    let mut frame = Vec::new();
    wire.write(&Packet { flags, ack, ..packet }, &mut frame);
    frame
}

/// Acknowledges the first SYN-ACK of each connection from these ports, in vain, for as long as it lives.
fn acks(ports: &[&str]) {
    let link =
        || pcap::Capture::from_device(namespaces::ORIGINATOR_LINK).unwrap().snaplen(96).immediate_mode(true);
    let (mut from, mut to) = (link().open().unwrap(), link().open().unwrap());
    let ports: Vec<String> = ports.iter().map(|port| format!("tcp src port {port}")).collect();
    let filter = format!("tcp[tcpflags] & (tcp-syn|tcp-ack) = tcp-syn|tcp-ack and ({})", ports.join(" or "));
    from.direction(pcap::Direction::In).unwrap();
    from.filter(&filter, true).unwrap();
    println!("{LISTENING}");
    let (hand, due) = std::sync::mpsc::channel::<(Duration, Vec<u8>)>();
    std::thread::spawn(move || {
        let mut answered = BTreeSet::new();
        while let Ok(packet) = from.next_packet() {
            let syn_ack = packet.data;
            let number = answered.len();
            if answered.insert(syn_ack[26..38].to_vec()) {
                let late = Duration::from_millis(if number & 2 == 0 { 20 } else { 1300 });
                if hand.send((now() + late, in_vain(syn_ack, number & 1 == 0))).is_err() {
                    return;
                }
            }
        }
    });
    let mut later: BinaryHeap<Reverse<(Duration, Vec<u8>)>> = BinaryHeap::new();
    loop {
        let wait = later.peek().map_or(COUNTED_EVERY, |Reverse((at, _))| at.saturating_sub(now()));
        if let Ok(frame) = due.recv_timeout(wait.min(COUNTED_EVERY)) {
            later.push(Reverse(frame));
        }
        while later.peek().is_some_and(|Reverse((at, _))| *at <= now())
            && let Some(Reverse((_, frame))) = later.pop()
        {
            super::support::send(&mut to, &frame);
        }
    }
}

/// The ACK of a SYN-ACK, with the number after the right one, or with a wrong checksum.
fn in_vain(syn_ack: &[u8], wrong_number: bool) -> Vec<u8> {
    let four = |at: usize| -> [u8; 4] { syn_ack[at..at + 4].try_into().unwrap() };
    let two = |at: usize| u16::from_be_bytes([syn_ack[at], syn_ack[at + 1]]);
    let end = |address: usize, port: usize| Endpoint::new(IpAddr::from(four(address)), two(port));
    let (seq, next) = (u32::from_be_bytes(four(42)), u32::from_be_bytes(four(38)).wrapping_add(1));
    let ack = next.wrapping_add(u32::from(wrong_number));
    let packet = Packet { ack, flags: TcpFlags::ACK, ..Packet::bare_syn(end(30, 36), end(26, 34), seq) };
    let (to, from) = (syn_ack[6..12].try_into().unwrap(), syn_ack[..6].try_into().unwrap());
    let mut frame = Vec::new();
    Wire { to, from, ..Wire::default() }.write(&packet, &mut frame);
    if !wrong_number {
        // The checksum of a TCP header behind 14 bytes of Ethernet and 20 of IPv4.
        frame[14 + 20 + 16] ^= 0x55;
    }
    frame
}

/// The time of day, which stamps on packets and samples share.
fn now() -> Duration {
    #[allow(clippy::disallowed_methods)] // a live measurement: packets are stamped by the same clock
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).unwrap()
}
