//! The HTTP side over real sockets, with a source of snapshots made up here. Names and statuses are the contract's, by hand.

// Helpers outside of #[test] functions are test code too; stopping times are measured by the wall clock.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, clippy::disallowed_methods)]

#[path = "http/api.rs"]
mod api;
#[path = "http/crowd.rs"]
mod crowd;
#[path = "http/exposition.rs"]
mod exposition;

use halfopen::config::{ListenAddress, TelemetryPath};
use halfopen::decode::DecodeError;
use halfopen::decode::segment::SegmentKind;
use halfopen::detect::incident::{Evidence, Incident, IncidentKind, Scope, ServerMode, ServerView, Severity};
use halfopen::report::http::{Guard, Listeners, MAX_PER_PEER, Web};
use halfopen::report::metrics::{Metrics, OUTCOMES, SEGMENT_KINDS, names};
use halfopen::report::snapshot::{EmbryonicView, InterfaceView, Snapshot, SnapshotSource};
use halfopen::time::Timestamp;
use halfopen::track::event::Outcome;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

const HOSTILE: &str = "<script>alert(\"x\")</script>";

struct Fake {
    up: AtomicBool,
    asked: Mutex<Vec<(Option<String>, usize)>>,
    /// Listings wait here while a test holds it.
    gate: Mutex<()>,
    /// Snapshots taken.
    looks: AtomicUsize,
}

impl SnapshotSource for Fake {
    fn snapshot(&self) -> Snapshot {
        self.looks.fetch_add(1, Ordering::Relaxed);
        let interface = InterfaceView {
            name: "tap0".to_owned(),
            up: self.up.load(Ordering::Relaxed),
            ..InterfaceView::default()
        };
        let mut snapshot = Snapshot {
            network_time: Some(Timestamp::from_parts(1_750_000_000, 500_000_000)),
            interfaces: vec![interface],
            servers: vec![server("shop", true), server("198.51.100.10:80", false)],
            incidents: vec![incident(), over()],
            ..Snapshot::default()
        };
        snapshot.frames.undecoded = DecodeError::ALL.map(|reason| (reason.as_label(), 0)).to_vec();
        snapshot.half_open.suspected = 3;
        snapshot
    }

    fn embryonic(&self, server: Option<&str>, limit: usize) -> Vec<EmbryonicView> {
        self.asked.lock().unwrap().push((server.map(str::to_owned), limit));
        drop(self.gate.lock().unwrap());
        let view = EmbryonicView {
            originator: "198.18.0.1:1234".to_owned(),
            responder: "198.51.100.10:80".to_owned(),
            state: "syn_sent",
            age_seconds: 1.5,
            syn_retransmissions: 1,
            syn_ack_retransmissions: 0,
            weight: 1,
        };
        vec![view; 2000]
    }

    fn has_pcap(&self, incident: &str) -> bool {
        incident == "7"
    }

    fn pcap(&self, incident: &str) -> Option<Vec<u8>> {
        (incident == "7").then(|| vec![0xff, 0, 13, 10, 7])
    }
}

fn server(name: &str, configured: bool) -> ServerView {
    ServerView {
        server: name.to_owned(),
        endpoint: None,
        configured,
        attempts: 12,
        completed: 10,
        unresolved: 2,
        embryonic_syn_sent: 0,
        embryonic_syn_received: 2,
        backlog_occupancy: 2.0,
        backlog_occupancy_estimated: false,
        backlog_limit: Some(511),
        backlog_limit_estimated: false,
        backlog_time_to_full_seconds: configured.then_some(12.5),
        profile: None,
        profile_inferred: false,
        distinct_sources: 2,
        mode: ServerMode::Queue,
        mode_confidence: 1.0,
        evidence: vec![Evidence { signal: "cusum", value: 1.5, threshold: 18.8, text: HOSTILE.to_owned() }],
    }
}

fn incident() -> Incident {
    Incident {
        id: "7".to_owned(),
        kind: IncidentKind::SpoofedFlood,
        scope: Scope::Server,
        server: HOSTILE.to_owned(),
        severity: Severity::Critical,
        onset: Timestamp::from_parts(1_749_999_990, 0),
        detected_at: Timestamp::from_parts(1_749_999_991, 0),
        ended_at: None,
        end_reason: None,
        server_mode: ServerMode::Queue,
        server_mode_confidence: 1.0,
        syn_rate_peak: 100.0,
        attempts: 1000,
        completed: 1,
        embryonic_peak: 500,
        backlog_occupancy_peak: 1.0,
        backlog_occupancy_estimated: false,
        distinct_sources: 900,
        capture_loss: 0.0,
        evidence: vec![Evidence { signal: "cusum", value: 9.0, threshold: 5.0, text: HOSTILE.to_owned() }],
    }
}

/// One that ended, of which no frames are kept.
fn over() -> Incident {
    Incident { id: "8".to_owned(), ended_at: Some(Timestamp::from_parts(1_750_000_000, 0)), ..incident() }
}

/// A server on a port of its own, stopped with the value.
struct Served {
    address: SocketAddr,
    fake: Arc<Fake>,
    reloads: Arc<AtomicUsize>,
    stop: watch::Sender<bool>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Served {
    fn start() -> Self {
        Self::start_at("127.0.0.1:0", &[])
    }

    /// At an address, under further names.
    fn start_at(address: &str, hosts: &[&str]) -> Self {
        let fake = Arc::new(Fake {
            up: AtomicBool::new(true),
            asked: Mutex::default(),
            gate: Mutex::default(),
            looks: AtomicUsize::new(0),
        });
        let reloads = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&reloads);
        let reload = move || match counted.fetch_add(1, Ordering::Relaxed) {
            0 => Ok("configuration reloaded".to_owned()),
            _ => Err("f.toml: line 3: nope".to_owned()),
        };
        let path: TelemetryPath = "/metrics".parse().unwrap();
        let metrics = Arc::new(Metrics::new(50));
        let connections = metrics.connections();
        let web = Web::new(Arc::clone(&fake) as _, metrics, path, Box::new(reload));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let hosts: Vec<String> = hosts.iter().map(|&name| name.to_owned()).collect();
        let listeners = Listeners::bind(&[address.parse().unwrap()], &hosts).unwrap();
        let port = listeners.addresses()[0].port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let (stop, stopping) = watch::channel(false);
        runtime.spawn(listeners.serve(web.router(), Arc::new(Guard::open()), connections, stopping));
        Self { address, fake, reloads, stop, runtime: Some(runtime) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Status, headers in lower case, body.
    fn request(&self, head: &str, headers: &str) -> (u16, String, String) {
        self.request_of("localhost", head, headers)
    }

    /// As `request`, of whoever the Host header names.
    fn request_of(&self, host: &str, head: &str, headers: &str) -> (u16, String, String) {
        let mut stream = self.connect();
        let text = format!("{head} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_lowercase(), body.to_owned())
    }

    fn get(&self, path: &str) -> (u16, String, String) {
        self.request(&format!("GET {path}"), "")
    }

    fn json(&self, path: &str) -> (u16, Value) {
        let (status, head, body) = self.get(path);
        assert!(head.contains("content-type: application/json"), "{path}: {head}");
        (status, serde_json::from_str(&body).unwrap())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(2));
        }
    }
}

#[test]
fn frames_of_an_incident_are_served_byte_by_byte() {
    let served = Served::start();
    let mut stream = served.connect();
    stream
        .write_all(b"GET /api/v1/incidents/7/pcap HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let at = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&answer[..at]).to_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("content-type: application/vnd.tcpdump.pcap"), "{head}");
    assert!(head.contains("content-disposition: attachment; filename=\"7.pcap\""), "{head}");
    assert_eq!(answer[at + 4..], [0xff, 0, 13, 10, 7]);
    for path in
        ["/api/v1/incidents/8/pcap", "/api/v1/incidents/%2e%2e%2f7/pcap", "/api/v1/incidents/%0a/pcap"]
    {
        let (status, error) = served.json(path);
        assert_eq!(status, 404, "{path}");
        let error = error["error"].as_str().unwrap();
        assert!(error.contains("/api/v1/incidents lists") && !error.contains('\n'), "{path}: {error}");
    }
}

#[test]
fn every_endpoint_answers() {
    let served = Served::start();
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/page.js", "text/javascript; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        ("/api/v1/overview", "application/json"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ("/-/healthy", "text/plain; charset=utf-8"),
        ("/-/ready", "text/plain; charset=utf-8"),
        ("/api/v1/servers", "application/json"),
        ("/api/v1/embryonic", "application/json"),
        ("/api/v1/incidents", "application/json"),
        ("/api/v1/half-open", "application/json"),
    ] {
        let (status, head, body) = served.get(path);
        assert_eq!(status, 200, "{path}");
        assert!(head.contains(&format!("content-type: {kind}\r\n")), "{path}: {head}");
        assert!(head.contains("content-security-policy: default-src 'none'"), "{path}");
        assert!(!body.is_empty());
        let (status, head, body) = served.request(&format!("HEAD {path}"), "");
        assert_eq!((status, body.as_str()), (200, ""), "HEAD {path}");
        assert!(head.contains(&format!("content-type: {kind}")), "HEAD {path}: {head}");
    }
}

/// What a browser makes of it is in tests/page.rs.
#[test]
fn the_page_is_escaped_and_needs_nothing_from_elsewhere() {
    let (_, head, body) = Served::start().get("/");
    assert!(
        head.contains("script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'"),
        "{head}"
    );
    assert!(!head.contains("unsafe"), "{head}");
    assert_eq!(body.matches("<script").count(), 1, "ours, which is a file");
    assert!(body.contains("<script src=\"/page.js\" defer></script>"));
    assert!(body.contains("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;"));
    assert!(!body.contains("http://") && !body.contains("https://"), "no external asset");
    assert!(!body.contains("style=") && !body.contains("onclick"), "nothing that the policy forbids");
    for link in [
        "/metrics",
        "/api/v1/overview",
        "/api/v1/servers",
        "/api/v1/incidents",
        "/api/v1/embryonic",
        "/api/v1/half-open",
        "/-/healthy",
        "/-/ready",
    ] {
        assert!(body.contains(&format!("href=\"{link}\"")), "{link}");
    }
    assert!(body.contains("<noscript><meta http-equiv=\"refresh\""));
    // Frames are kept of the first incident only.
    assert!(body.contains("<a href=\"/api/v1/incidents/7/pcap\" download>"));
    assert_eq!(body.matches("/pcap\"").count(), 1);
}

/// However many look, one overview a second is made.
#[test]
fn viewers_share_one_overview() {
    let served = Served::start();
    served.get("/");
    let before = served.fake.looks.load(Ordering::Relaxed);
    let asked = std::time::SystemTime::now();
    for _ in 0..10 {
        assert_eq!(served.get("/").0, 200);
        assert_eq!(served.get("/api/v1/overview").0, 200);
    }
    let seconds = asked.elapsed().unwrap().as_secs() as usize;
    let looks = served.fake.looks.load(Ordering::Relaxed) - before;
    assert!(looks <= seconds + 2, "{looks} looks within {seconds} s");
    let (_, overview) = served.json("/api/v1/overview");
    assert_eq!(overview["state"], "critical");
    assert_eq!(overview["servers"], served.json("/api/v1/servers").1["servers"]);
    assert_eq!(overview["history"]["at"], serde_json::json!([]));
    assert!(overview["process"]["resident_bytes"].as_u64().unwrap() > 1 << 20);
}
