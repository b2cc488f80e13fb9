//! Half-open connections on a real link between two real kernels: one loses its end without a word, and is found, once, by name.
//! And ten thousand connections of which none loses anything.
//!
//! Needs root, for it makes its own network namespaces; elsewhere each test says that it was skipped. Nothing is sent outside them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test binary"
)]
#![allow(unreachable_pub, reason = "its modules are its own")]

#[path = "half_open/parties.rs"]
mod parties;
#[path = "half_open/record.rs"]
mod record;
mod support;

use halfopen::config::Config;
use halfopen::decode::segment::TcpFlags;
use halfopen::pipeline::Sensor;
use halfopen::report::snapshot::SnapshotSource;
use halfopen::synth::Scenario;
use halfopen::synth::source::SynthSource;
use halfopen::track::event::Outcome;
use parties::{crash, ordinary, serve};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::helper::{self, TASK};
use support::namespaces::{Namespaces, ORIGINATOR, SERVER, SERVER_LINK};
use support::process::{Process, Signal};
use support::{run, wait_for};

const WEB: &str = "127.0.0.1:10793";

/// How long anything on this machine may take to start or to answer, on a loaded one with two cores.
const PATIENCE: Duration = Duration::from_secs(30);

/// The port whose client comes back, the one whose client is asked, and the one whose client is never heard of again.
const BACK: u16 = 20_001;
const ASKED: u16 = 20_002;
const SILENT: u16 = 20_003;

const ORDINARY: usize = 10_000;
/// Clients at once, and the ports that each of them uses again and again.
const CLIENTS: usize = 4;
const PORTS: usize = 50;

/// Not a test: what the parties inside the namespaces run.
#[test]
fn helper() {
    let Ok(task) = std::env::var(TASK) else { return };
    let words: Vec<&str> = task.split(' ').collect();
    match words[..] {
        ["serve", address, signs] => serve(address, Path::new(signs)),
        ["crash", address, signs] => crash(address.parse().unwrap(), Path::new(signs)),
        ["ordinary", address] => ordinary(address.parse().unwrap()),
        _ => helper::main(),
    }
}

/// A client's host forgets three connections without a word. One client comes back from the same port; to the second the server
/// sends data; the third's host is cut off for good.
#[test]
fn each_way_of_showing_is_told_once_with_the_right_end() {
    let Some(namespaces) = Namespaces::make() else { return };
    let signs = Signs::make("crash");
    let journal = signs.0.join("journal.jsonl");
    let mut sensor = Running::start(&namespaces.servers, &signs.0, &journal);
    let address = format!("{SERVER}:80");
    let place = signs.0.display();
    let mut server =
        Process::start(&mut helper::command(&namespaces.servers, &format!("serve {address} {place}")));
    server.wait_for_line(helper::LISTENING, PATIENCE);
    let mut client =
        Process::start(&mut helper::command(&namespaces.originators, &format!("crash {address} {place}")));
    client.wait_for_line("client: connected", PATIENCE);

    // The resets that a closing kernel would send find no way out: for the server nothing has happened.
    cut_off(&namespaces, true);
    signs.give("forget");
    client.wait_for_line("client: forgot", PATIENCE);
    cut_off(&namespaces, false);
    assert_eq!(established(&namespaces.servers), 3, "the server's kernel holds all three");
    assert_eq!(established(&namespaces.originators), 0, "the client's holds none");
    assert_eq!(told(&journal), Vec::<Value>::new());

    signs.give("back");
    client.wait_for_line("client: back", PATIENCE);
    let line = wait_for_line(&journal, 1);
    expect(&line, "reconnect", BACK);
    let seconds = line["half_open"]["duration_seconds"].as_f64().unwrap();
    // On a refused acknowledgement Linux sends its first SYN again after TCP_TIMEOUT_MIN, two ticks (tcp_input.c,
    // tcp_rcv_synsent_state_process), not after a second.
    assert!((0.0..3.0).contains(&seconds), "{line}");

    signs.give(&ASKED.to_string());
    expect(&wait_for_line(&journal, 2), "reset_on_data", ASKED);

    cut_off(&namespaces, true);
    signs.give(&SILENT.to_string());
    expect(&wait_for_line(&journal, 3), "suspected", SILENT);
    let listed = helper::get(&namespaces.servers, WEB, "/api/v1/half-open").unwrap();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["suspects"][0]["crashed"], format!("{ORIGINATOR}:{SILENT}"), "{listed:#}");
    assert_eq!(listed["latest"].as_array().map(Vec::len), Some(3), "{listed:#}");
    // The kernel repeats itself once more, and nothing more is told.
    let repeated = wait_for("a further repetition", PATIENCE, || {
        let listed = helper::get(&namespaces.servers, WEB, "/api/v1/half-open")?;
        let listed: Value = serde_json::from_str(&listed).map_err(|why| why.to_string())?;
        let seconds = listed["suspects"][0]["duration_seconds"].as_f64().unwrap_or_default();
        if seconds > 6.0 { Ok(listed) } else { Err(listed.to_string()) }
    });
    assert_eq!(repeated["discovered"], serde_json::json!({ "reconnect": 1, "reset_on_data": 1 }));
    assert_eq!(repeated["suspected"], 1);
    assert_eq!(told(&journal).len(), 3);

    let metrics = sensor.metrics();
    for (series, value) in [
        ("halfopen_half_open_discovered_total{case=\"reconnect\"}", 1),
        ("halfopen_half_open_discovered_total{case=\"reset_on_data\"}", 1),
        ("halfopen_half_open_suspected", 1),
        ("halfopen_half_open_suspicions_total", 1),
        ("halfopen_half_open_untold_total", 0),
        ("halfopen_handshake_oddities_total{kind=\"challenge_ack\"}", 1),
        // The one that is back, and the one that is suspected.
        ("halfopen_established_connections", 2),
        // And the challenge, by its name.
        ("halfopen_journal_written_total", 4),
        ("halfopen_handshake_oddities_untold_total", 0),
    ] {
        assert!(metrics.contains(&format!("\n{series} {value}\n")), "{series}: {metrics}");
    }
    let odd = lines(&journal, "oddity");
    assert_eq!(odd.len(), 1, "{odd:#?}");
    assert_eq!(odd[0]["oddity"]["kind"], "challenge_ack");
    assert_eq!(odd[0]["oddity"]["originator"], format!("{ORIGINATOR}:{BACK}"));
    sensor.stop();
}

/// Connections that open, work and close: by either side, in good order or by reset, a fifth of them from ports used before.
#[test]
fn ten_thousand_ordinary_connections_are_no_discovery() {
    let Some(namespaces) = Namespaces::make() else { return };
    let signs = Signs::make("ordinary");
    let journal = signs.0.join("journal.jsonl");
    let mut sensor = Running::start(&namespaces.servers, &signs.0, &journal);
    let address = format!("{SERVER}:80");
    let keep = std::env::var_os("HALFOPEN_RECORD").map(PathBuf::from);
    let capture = signs.0.join("ordinary.pcap");
    let tcpdump = keep.as_ref().map(|_| namespaces.record(65_536, "tcp port 80", &capture));
    let serve = format!("serve {address} {}", signs.0.display());
    let mut server = Process::start(&mut helper::command(&namespaces.servers, &serve));
    server.wait_for_line(helper::LISTENING, PATIENCE);
    helper::run(&namespaces.originators, &format!("ordinary {address}"));

    let metrics = wait_for("every connection followed to its end", PATIENCE, || {
        let metrics = sensor.metrics();
        let done = [
            format!("halfopen_handshakes_closed_total{{outcome=\"completed\"}} {ORDINARY}"),
            "halfopen_established_connections 0".to_owned(),
        ];
        if done.iter().all(|line| metrics.contains(&format!("\n{line}\n"))) {
            Ok(metrics)
        } else {
            Err(metrics)
        }
    });
    for series in [
        "halfopen_half_open_discovered_total{case=\"reconnect\"}",
        "halfopen_half_open_discovered_total{case=\"reset_on_data\"}",
        "halfopen_half_open_suspicions_total",
        "halfopen_half_open_untold_total",
        "halfopen_established_evicted_total",
    ] {
        assert!(metrics.contains(&format!("\n{series} 0\n")), "{series}: {metrics}");
    }
    for line in metrics.lines().filter(|line| line.starts_with("halfopen_capture_drops_total")) {
        assert!(line.ends_with(" 0"), "{line}");
    }
    assert_eq!(told(&journal), Vec::<Value>::new());
    sensor.stop();
    if let (Some(directory), Some(mut tcpdump)) = (keep, tcpdump) {
        tcpdump.signal(Signal::Interrupt);
        assert!(tcpdump.wait(PATIENCE).success());
        assert!(tcpdump.stderr().contains("\n0 packets dropped by kernel"), "{}", tcpdump.stderr());
        record::write(&capture, &directory.join("ordinary.zst"));
    }
}

/// The same of a run that was recorded, where nobody may make namespaces.
#[test]
fn ten_thousand_recorded_connections_are_no_discovery() {
    let record = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/half_open/ordinary.zst");
    let (source, packets) = record::read(&record);
    let syns = packets.iter().filter(|packet| packet.flags == TcpFlags::SYN);
    let (ports, syns) = syns.fold((BTreeSet::new(), 0), |(mut ports, syns), syn| {
        ports.insert(syn.src.port);
        (ports, syns + 1)
    });
    assert_eq!(syns, ORDINARY);
    assert!(ports.len() <= ORDINARY - ORDINARY / 5 + CLIENTS * PORTS, "{} ports", ports.len());
    let told = Arc::new(Mutex::new(Vec::new()));
    let hear = Arc::clone(&told);
    let sensor = Sensor::repeatable(&Config::default(), Box::new(|_| {}));
    sensor.on_discovery(Box::new(move |found| hear.lock().unwrap().push(found.clone())));
    sensor.run_source(source).unwrap();
    let snapshot = sensor.snapshot();
    assert_eq!(snapshot.handshakes.closed[Outcome::Completed as usize], ORDINARY as u64);
    assert_eq!((snapshot.established.followed, snapshot.established.evicted), (0, 0));
    let counts = snapshot.half_open;
    assert_eq!([counts.reconnect, counts.reset_on_data, counts.suspicions, counts.untold], [0; 4]);
    assert_eq!(*told.lock().unwrap(), []);
}

/// Crashes told by the generator of the tests, which knows nothing of how they are found: every one, and nothing else.
#[test]
fn generated_crashes_are_found_and_nothing_else() {
    let found = |more: &str| {
        let scenario = format!(
            "seed = 5\nduration = 60\n[[traffic]]\nkind = \"handshakes\"\nrate = 100\nduration = 20\ncount = 1000\n{more}"
        );
        let stream = Scenario::from_toml(&scenario).unwrap().stream();
        let sensor = Sensor::repeatable(&Config::default(), Box::new(|_| {}));
        sensor.run_source(SynthSource::new(stream)).unwrap();
        let snapshot = sensor.snapshot();
        assert_eq!(snapshot.established.evicted, 0);
        let counts = snapshot.half_open;
        [counts.reconnect, counts.reset_on_data, counts.suspicions]
    };
    assert_eq!(found("reconnect = 1.0"), [1000, 0, 0]);
    assert_eq!(found("reset_on_data = 1.0"), [0, 1000, 0]);
    assert_eq!(
        found("servers = \"[2001:db8:1::10]:443\"\nclients = \"2001:db8:2::/64\"\nreset_on_data = 1.0"),
        [0, 1000, 0]
    );
    let anything_else = "refused = 0.1\nunanswered = 0.1\nabandoned = 0.1\nreset = 0.1\nfast_open = 0.1\n\
                         simultaneous = 0.1\naccept_overflow = 0.1";
    assert_eq!(found(anything_else), [0, 0, 0]);
}

fn wait_for_sign(signs: &Path, name: &str) {
    wait_for(name, Duration::from_secs(120), || match signs.join(name).exists() {
        true => Ok(()),
        false => Err("not given".to_owned()),
    });
}

/// Whether the originators' packets to the server are thrown away where they are made.
fn cut_off(namespaces: &Namespaces, cut: bool) {
    let what = if cut { "add" } else { "delete" };
    let route = ["route", what, "blackhole", &format!("{SERVER}/32")];
    run(Command::new("ip").args(["-n", &namespaces.originators]).args(route));
}

/// Connections to port 80 that a namespace's kernel holds.
fn established(namespace: &str) -> usize {
    let mut ss = Namespaces::command(namespace, "ss");
    ss.args(["-Htn", "state", "established", "( sport = :80 or dport = :80 )"]);
    run(&mut ss).lines().count()
}

/// The journal's lines about half-open connections.
fn told(journal: &Path) -> Vec<Value> {
    lines(journal, "half_open")
}

fn lines(journal: &Path, event: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(journal).unwrap_or_default();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["event"] == event).collect()
}

/// Waits until there are so many, and gives the last.
fn wait_for_line(journal: &Path, count: usize) -> Value {
    wait_for(&format!("line {count}"), PATIENCE, || {
        let lines = told(journal);
        assert!(lines.len() <= count, "{lines:#?}");
        if lines.len() == count { Ok(lines[count - 1].clone()) } else { Err(format!("{lines:#?}")) }
    })
}

fn expect(line: &Value, case: &str, port: u16) {
    let (found, client, server) =
        (&line["half_open"], format!("{ORIGINATOR}:{port}"), format!("{SERVER}:80"));
    assert_eq!(found["case"], case, "{line}");
    assert_eq!(
        (&found["crashed"], &found["stale"]),
        (&Value::from(client.clone()), &Value::from(server.clone()))
    );
    assert_eq!((&found["originator"], &found["responder"]), (&Value::from(client), &Value::from(server)));
}

/// A directory in which files that appear are signs to the parties; deleted when dropped.
struct Signs(PathBuf);

impl Signs {
    fn make(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("halfopen-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn give(&self, name: &str) {
        std::fs::write(self.0.join(name), "").unwrap();
    }
}

impl Drop for Signs {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Running {
    process: Process,
    namespace: String,
}

impl Running {
    fn start(namespace: &str, directory: &Path, journal: &Path) -> Self {
        let config = directory.join("halfopen.toml");
        let text =
            format!("[journal]\npath = \"{}\"\n[established]\nsuspect_after = \"2s\"\n", journal.display());
        std::fs::write(&config, text).unwrap();
        let mut command = Namespaces::command(namespace, env!("CARGO_BIN_EXE_halfopen"));
        command.args(["run", "-i", SERVER_LINK, "--web.listen-address", WEB, "--config.file"]).arg(config);
        let mut process = Process::start(&mut command);
        wait_for("a ready sensor", PATIENCE, || {
            assert!(process.is_running(), "{}", process.describe());
            helper::get(namespace, WEB, "/-/ready")
        });
        Self { process, namespace: namespace.to_owned() }
    }

    fn metrics(&mut self) -> String {
        assert!(self.process.is_running(), "{}", self.process.describe());
        helper::get(&self.namespace, WEB, "/metrics").unwrap()
    }

    fn stop(&mut self) {
        self.process.signal(Signal::Terminate);
        assert_eq!(self.process.wait(Duration::from_secs(2)).code(), Some(0), "{}", self.process.describe());
    }
}
