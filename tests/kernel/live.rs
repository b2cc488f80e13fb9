//! Runs a group of cases between two namespaces and returns what the kernel did.

use super::case::{Case, Clients, Group, WATCHED};
use super::parties::{LISTENING, MOVED, SAMPLE, SENT};
use super::support::helper;
use super::support::namespaces::Namespaces;
use super::support::process::{Process, Signal};
use super::support::{has_tools, run};
use super::truth::{COUNTERS, Recorder, Sample, Truth};
use halfopen::capture::{Frame, FrameSource, SourceEvent, replay::ReplaySource};
use halfopen::decode::{Decoded, decode};
use halfopen::time::Timestamp;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// How long anything on a loaded machine may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs every case of a group at once; none, said on the terminal, where this user may not.
pub fn run_group(group: &Group) -> Option<Vec<Truth>> {
    if !has_tools(&[("tcpdump", "--version"), ("ss", "-V"), ("perl", "-v")]) {
        return None;
    }
    let namespaces = Namespaces::make()?;
    let servers = namespaces.servers.as_str();
    for (setting, value) in [
        ("net/ipv4/tcp_syncookies", u32::from(group.cookies)),
        ("net/ipv4/tcp_max_syn_backlog", group.max_syn_backlog),
        ("net/core/somaxconn", 4096),
    ] {
        run(Namespaces::command(servers, "sh").args(["-c", &format!("echo {value} > /proc/sys/{setting}")]));
    }
    let first = group.cases.first().map_or("", |case| case.name.as_str());
    let directory =
        std::env::temp_dir().join(format!("halfopen-kernel-{}-{}-{first}", std::process::id(), group.name));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("all.pcap");
    let mut tcpdump = namespaces.record(if group.alone { 8192 } else { 65_536 }, "tcp", &file);

    let deferring: Vec<Process> =
        group.cases.iter().filter(|case| case.defer > 0).map(|case| defer(servers, case)).collect();
    let plain = group.cases.iter().filter(|case| case.defer == 0);
    let ports = plain.map(|case| format!(" {}:{}:{}", case.port, case.backlog, case.accepts));
    let ports: String = ports.collect();
    let mut server = Process::start(&mut helper::command(servers, &format!("serve {WATCHED}{ports}")));
    server.wait_for_line(LISTENING, PATIENCE);
    let floods = group.cases.iter().map(|case| {
        let Case { port, rate, even, start, seconds, duplicates, resets, any_ack, .. } = case;
        format!("{port}:{rate}:{even}:{start}:{seconds}:{duplicates}:{resets}:{any_ack}")
    });
    let floods = format!("flood {}", floods.collect::<Vec<_>>().join(" "));
    let in_vain = group.cases.iter().filter(|case| case.in_vain).map(|case| case.port.to_string());
    let in_vain: Vec<String> = in_vain.collect();
    let acks = (!in_vain.is_empty()).then(|| {
        let task = format!("acks {}", in_vain.join(" "));
        let mut acks = Process::start(&mut helper::command(&namespaces.originators, &task));
        acks.wait_for_line(LISTENING, PATIENCE);
        acks
    });
    let mut flood = Process::start(&mut helper::command(&namespaces.originators, &floods));
    let mut clients = String::new();
    for Case { port, clients: real, seconds, .. } in &group.cases {
        for Clients { rate, speak_after } in real {
            write!(clients, " {port}:{rate}:{seconds}:{speak_after}").unwrap();
        }
    }
    let clients = (!clients.is_empty())
        .then(|| Process::start(&mut helper::command(&namespaces.originators, &format!("clients{clients}"))));
    flood.wait_for_line(SENT, Duration::from_secs(WATCHED) + PATIENCE);
    if let Some(mut clients) = clients {
        clients.wait_for_line(SENT, PATIENCE);
    }
    assert!(server.wait(Duration::from_secs(WATCHED) + PATIENCE).success(), "{}", server.describe());
    tcpdump.signal(Signal::Interrupt);
    assert!(tcpdump.wait(PATIENCE).success());
    assert!(tcpdump.stderr().contains("\n0 packets dropped by kernel"), "{}", tcpdump.stderr());

    let mut recorders: BTreeMap<u16, Recorder> =
        group.cases.iter().map(|case| (case.port, Recorder::default())).collect();
    let mut source = ReplaySource::open(&[file], None).unwrap();
    while let SourceEvent::Frame(frame) = source.next_event().unwrap() {
        let Decoded::Tcp(segment) = decode(&Frame { ..frame }) else { continue };
        let to_server = recorders.contains_key(&segment.dst.port);
        let port = if to_server { segment.dst.port } else { segment.src.port };
        if let Some(recorder) = recorders.get_mut(&port) {
            recorder.take(&segment, to_server);
        }
    }
    std::fs::remove_dir_all(&directory).unwrap();
    let samples: Vec<serde_json::Value> = server
        .stdout()
        .lines()
        .filter_map(|line| line.split_once(SAMPLE))
        .map(|(_, json)| serde_json::from_str(json).unwrap())
        .collect();
    drop((deferring, acks));
    let mut moved: BTreeMap<String, f64> = BTreeMap::new();
    for (_, json) in server.stdout().lines().filter_map(|line| line.split_once(MOVED)) {
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        // Where several cases share them they are nobody's.
        if group.alone {
            moved.insert(json["counter"].as_str().unwrap().to_owned(), json["after"].as_f64().unwrap());
        }
    }
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let truths = group.cases.iter().map(|case| Truth {
        about: serde_json::json!({
            "name": case.name, "group": group.name, "backlog": case.backlog, "rate": case.rate,
            "cookies": group.cookies, "max_syn_backlog": group.max_syn_backlog, "kernel": kernel.trim(),
            "even": case.even, "defer": case.defer, "alone": group.alone, "moved": moved,
        }),
        samples: samples.iter().map(|sample| of_port(sample, case.port)).collect(),
        packets: recorders.remove(&case.port).unwrap().packets,
    });
    Some(truths.collect())
}

/// A listener with `TCP_DEFER_ACCEPT`, which neither the standard library nor socket2 can set. It closes what it accepts, or accepts
/// nothing.
fn defer(servers: &str, case: &Case) -> Process {
    let Case { port, backlog, defer, accepts, .. } = case;
    let then = if *accepts { "while (accept(C, S)) { close(C) }" } else { "sleep" };
    let script = format!(
        "use Socket; $| = 1; socket(S, PF_INET, SOCK_STREAM, 0) or die; setsockopt(S, SOL_SOCKET, SO_REUSEADDR, 1); \
         setsockopt(S, 6, 9, pack('i', {defer})) or die; bind(S, sockaddr_in({port}, INADDR_ANY)) or die; \
         listen(S, {backlog}) or die; print \"{LISTENING}\\n\"; {then}"
    );
    let mut process = Process::start(Namespaces::command(servers, "perl").args(["-e", &script]));
    process.wait_for_line(LISTENING, PATIENCE);
    process
}

fn of_port(sample: &serde_json::Value, port: u16) -> Sample {
    let (from, to) = (sample["from"].as_f64().unwrap(), sample["to"].as_f64().unwrap());
    Sample {
        at: Timestamp::from_nanos(((from + to) / 2.0 * 1e6).round() as i64 * 1000),
        blur: (to - from) * 500.0,
        entries: sample["entries"][port.to_string()].as_u64().unwrap_or(0) as u32,
        counters: COUNTERS.map(|name| sample["counters"][name].as_u64().unwrap_or(0)),
    }
}
