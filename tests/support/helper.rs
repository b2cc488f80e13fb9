//! The test binary, run again inside a namespace, as one of the parties.
//!
//! The live test has a test named `helper` that does nothing unless [`TASK`] is set in its environment.

use super::namespaces::{self, Namespaces};
use super::process::Process;
use halfopen::synth::kinds::{Answers, Flood};
use halfopen::synth::scenario::Traffic;
use halfopen::synth::{Scenario, address::Targets};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

/// What the binary is to do instead of testing.
pub const TASK: &str = "HALFOPEN_TEST_TASK";

/// Said by a listener once it listens.
pub const LISTENING: &str = "helper: listening on ";

/// Between two bursts of forged SYNs, and how many are in one: 10,000 a second, below what one core of the kernel takes.
const BURST: (usize, Duration) = (20, Duration::from_millis(2));

/// The binary as a party inside `namespace`.
pub fn command(namespace: &str, task: &str) -> Command {
    let binary = std::env::current_exe().unwrap();
    let mut command = Namespaces::command(namespace, binary.to_str().unwrap());
    command.args(["--exact", "helper", "--nocapture", "--test-threads=1"]).env(TASK, task);
    command
}

/// Runs a party to its end; its standard output, without the harness's lines.
pub fn run(namespace: &str, task: &str) -> String {
    super::run(&mut command(namespace, task))
}

/// Starts a listener and waits until it listens.
pub fn listener(namespace: &str, address: &str) -> Process {
    let mut process = Process::start(&mut command(namespace, &format!("listen {address}")));
    process.wait_for_line(LISTENING, Duration::from_secs(10));
    process
}

/// The body of an HTTP answer of status 200, fetched from inside `namespace`.
pub fn get(namespace: &str, address: &str, path: &str) -> Result<String, String> {
    let output =
        command(namespace, &format!("get {address} {path}")).output().map_err(|why| why.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match (text.split_once(BODY), text.split_once(BODY_END)) {
        (Some((_, from)), Some(_)) => Ok(from.split(BODY_END).next().unwrap_or_default().to_owned()),
        _ => Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr))),
    }
}

const BODY: &str = "<<<body\n";
const BODY_END: &str = "\nbody>>>";

/// Does the task of the environment, where there is one.
pub fn main() {
    let Ok(task) = std::env::var(TASK) else { return };
    let words: Vec<&str> = task.split(' ').collect();
    match words[..] {
        ["listen", address] => listen(address),
        ["connect", address, count] => connect(address.parse().unwrap(), count.parse().unwrap()),
        ["refuse", address, count] => be_refused(address.parse().unwrap(), count.parse().unwrap()),
        ["forge", address, count] => forge(address, count.parse().unwrap(), BURST.1),
        ["forge", address, count, pause] => {
            forge(address, count.parse().unwrap(), Duration::from_millis(pause.parse().unwrap()));
        }
        ["receive", address] => receive(address),
        ["get", address, path] => fetch(address, path),
        _ => panic!("unknown task '{task}'"),
    }
}

/// Takes connections one after the other for as long as it lives, and answers whatever comes with as much.
fn listen(address: &str) {
    let listener = TcpListener::bind(address).unwrap();
    println!("{LISTENING}{}", listener.local_addr().unwrap());
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut request = Vec::new();
        if stream.read_to_end(&mut request).is_ok() {
            let _ = stream.write_all(&request);
        }
    }
}

/// Makes so many connections that complete, each with data both ways and a close.
fn connect(server: SocketAddr, count: usize) {
    for _ in 0..count {
        let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(5)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(b"ping").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"ping");
    }
}

/// Makes so many connections to a port on which nothing listens.
fn be_refused(server: SocketAddr, count: usize) {
    for _ in 0..count {
        let error = TcpStream::connect_timeout(&server, Duration::from_secs(5)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    }
}

/// Takes what is posted to it, one HTTP request a connection, and says each body on a line.
fn receive(address: &str) {
    let listener = TcpListener::bind(address).unwrap();
    println!("{LISTENING}{}", listener.local_addr().unwrap());
    for stream in listener.incoming() {
        let mut stream = BufReader::new(stream.unwrap());
        let (mut line, mut length) = (String::new(), 0);
        while stream.read_line(&mut line).is_ok_and(|read| read > 2) {
            let lower = line.to_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        println!("{}", String::from_utf8(body).unwrap().trim());
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let _ = stream.into_inner().write_all(answer);
    }
}

/// Sends so many SYNs from as many forged sources, in frames of its own making, with a pause after each burst.
fn forge(server: &str, count: u64, pause: Duration) {
    let servers = Targets::try_from(server.to_owned()).unwrap();
    let flood = Flood { servers, rate: 10_000.0, count, answers: Answers::Drop, ..Flood::default() };
    let mut stream = Scenario::new(1, Duration::from_secs(600)).with(Traffic::Flood(flood)).stream();
    stream.set_link(namespaces::ORIGINATOR_MAC, namespaces::SERVER_MAC);
    let link = pcap::Capture::from_device(namespaces::ORIGINATOR_LINK).unwrap();
    let mut link = link.snaplen(64).immediate_mode(true).open().unwrap();
    let mut frame = Vec::new();
    for sent in 1.. {
        let Some(_) = stream.next_frame(&mut frame) else { break };
        super::send(&mut link, &frame);
        if sent % BURST.0 == 0 {
            std::thread::sleep(pause);
        }
    }
    assert_eq!(stream.tally().attempts, count);
}

/// One HTTP request of version 1.0, which has no chunks and ends with the connection.
fn fetch(address: &str, path: &str) {
    let mut stream = TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_secs(5)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    assert!(head.split(' ').nth(1) == Some("200"), "{head}");
    println!("{BODY}{body}{BODY_END}");
}
