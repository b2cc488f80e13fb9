//! The HTTP side over real sockets, with a source of snapshots made up here. Names and statuses are the contract's, by hand.

// Helpers outside of #[test] functions are test code too; stopping times are measured by the wall clock.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, clippy::disallowed_methods)]

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

#[test]
fn api_gives_what_the_snapshot_has() {
    let served = Served::start();
    let (_, servers) = served.json("/api/v1/servers");
    assert_eq!(servers["servers"][0]["server"], "shop");
    assert_eq!(servers["servers"][0]["backlog_limit"], 511);
    assert_eq!(servers["network_time"], 1_750_000_000.5);
    let (_, incidents) = served.json("/api/v1/incidents");
    assert_eq!(incidents["incidents"][0]["kind"], "spoofed_flood");
    assert_eq!(incidents["incidents"][0]["ended_at"], Value::Null);
    assert_eq!(incidents["incidents"][0]["evidence"][0]["signal"], "cusum");
    let (_, half_open) = served.json("/api/v1/half-open");
    assert_eq!((&half_open["suspected"], &half_open["discovered"]["reconnect"]), (&3.into(), &0.into()));
}

#[test]
fn embryonic_is_bounded() {
    let served = Served::start();
    let (status, all) = served.json("/api/v1/embryonic");
    assert_eq!((status, all["connections"].as_array().unwrap().len()), (200, 100));
    let (_, some) = served.json("/api/v1/embryonic?server=shop&limit=7");
    assert_eq!(some["connections"].as_array().unwrap().len(), 7);
    assert_eq!(some["connections"][0]["state"], "syn_sent");
    let (_, most) = served.json("/api/v1/embryonic?limit=1000&server=%5B2001:db8::1%5D:80");
    assert_eq!(most["connections"].as_array().unwrap().len(), 1000);
    let asked = [(None, 100), (Some("shop".to_owned()), 7), (Some("[2001:db8::1]:80".to_owned()), 1000)];
    assert_eq!(*served.fake.asked.lock().unwrap(), asked);
    for query in ["limit=0", "limit=1001", "limit=x", "limit=-1", "limit=", "server=unknown", "lmit=5"] {
        let (status, error) = served.json(&format!("/api/v1/embryonic?{query}"));
        assert_eq!(status, 400, "{query}");
        assert!(error["error"].as_str().is_some_and(|text| text.lines().count() == 1), "{query}: {error}");
    }
}

#[test]
fn refusals_are_json_with_a_hint() {
    let served = Served::start();
    let (status, error) = served.json("/metrisc");
    assert_eq!(status, 404);
    assert!(error["error"].as_str().unwrap().contains("/metrics"), "{error}");
    for head in ["POST /metrics", "DELETE /", "GET /-/reload", "PUT /api/v1/servers"] {
        let (status, headers, body) = served.request(head, "");
        assert_eq!(status, 405, "{head}");
        assert!(headers.contains("\r\nallow: "), "{head}: {headers}");
        assert!(serde_json::from_str::<Value>(&body).unwrap()["error"].is_string(), "{head}");
    }
    assert_eq!(served.reloads.load(Ordering::Relaxed), 0, "only POST reloads");
}

#[test]
fn reload_reports_success_and_failure() {
    let served = Served::start();
    let foreign = served.request("POST /-/reload", "Sec-Fetch-Site: cross-site\r\n");
    assert_eq!((foreign.0, served.reloads.load(Ordering::Relaxed)), (403, 0));
    // Browsers leave that header out where the page is unencrypted, but say whose page it is.
    for origin in [
        "http://evil.example",
        "https://localhost:1",
        "null",
        "localhost",
        "file://",
        "http://localhost.evil",
    ] {
        let (status, _, body) = served.request("POST /-/reload", &format!("Origin: {origin}\r\n"));
        assert_eq!((status, served.reloads.load(Ordering::Relaxed)), (403, 0), "{origin}");
        assert!(body.contains("another site's page"), "{body}");
    }
    assert_eq!(served.request("POST /-/reload", "Origin: http://localhost\r\n").0, 200, "our own page");
    served.reloads.store(0, Ordering::Relaxed);
    assert_eq!(served.request("POST /-/reload", "").0, 200);
    let (status, _, body) = served.request("POST /-/reload", "");
    assert_eq!(status, 500);
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["error"], "f.toml: line 3: nope");
}

/// A page whose owner has his name mean 127.0.0.1 asks under his name.
#[test]
fn a_name_that_is_not_the_sensors_gets_nothing() {
    let served = Served::start();
    let paths = [
        "/",
        "/metrics",
        "/api/v1/overview",
        "/api/v1/incidents/7/pcap",
        "/-/healthy",
        "/nothing",
        "/style.css",
    ];
    let heads = paths.map(|path| format!("GET {path}")).into_iter().chain(["POST /-/reload".to_owned()]);
    for head in heads {
        for host in ["evil.example", "evil.example:10793", "localhost.evil.example", "192.0.2.1", ""] {
            let (status, _, body) = served.request_of(host, &head, "");
            assert_eq!(status, 421, "{head} of '{host}'");
            let error: Value = serde_json::from_str(&body).unwrap();
            let error = error["error"].as_str().unwrap();
            assert!(error.contains("web.hosts") && error.lines().count() == 1, "{error}");
        }
    }
    assert_eq!(served.reloads.load(Ordering::Relaxed), 0);
    for host in ["localhost", "127.0.0.1", "[::1]:80", &served.address.to_string()] {
        assert_eq!(served.request_of(host, "GET /metrics", "").0, 200, "{host}");
    }
    let absolute = served.request("GET http://evil.example/metrics", "");
    assert_eq!(absolute.0, 421, "a target with a name goes before the header");

    let named = Served::start_at("127.0.0.1:0", &["sensor.example"]);
    assert_eq!(named.request_of("Sensor.Example:10793", "GET /", "").0, 200);
    assert_eq!(named.request_of("evil.example", "GET /", "").0, 421);
    // Beyond loopback a Prometheus asks by whatever service discovery calls it, unless names are configured.
    let open = Served::start_at("0.0.0.0:0", &[]);
    assert_eq!(open.request_of("halfopen.monitoring.svc", "GET /metrics", "").0, 200);
    let strict = Served::start_at("0.0.0.0:0", &["sensor.example"]);
    for (host, status) in [("sensor.example", 200), ("192.0.2.1:80", 200), ("evil.example", 421)] {
        assert_eq!(strict.request_of(host, "GET /metrics", "").0, status, "{host}");
    }
}

#[test]
fn ready_follows_the_captures() {
    let served = Served::start();
    assert_eq!(served.get("/-/ready").0, 200);
    served.fake.up.store(false, Ordering::Relaxed);
    let (status, error) = served.json("/-/ready");
    assert_eq!(status, 503);
    let error = error["error"].as_str().unwrap();
    assert!(
        error.contains("halfopen_capture_up") && !error.contains("tap0"),
        "it is asked without a password: {error}"
    );
    assert_eq!(served.get("/-/healthy").0, 200, "healthy all the same");
}

#[test]
fn a_request_too_large_is_refused() {
    let served = Served::start();
    let mut stream = served.connect();
    let mut answer = Vec::new();
    // The server may close before all is written.
    let _ = stream.write_all(
        format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "a".repeat(100 << 10)).as_bytes(),
    );
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert_eq!(served.get("/-/healthy").0, 200);
}

#[test]
fn slow_clients_hold_up_nobody_and_are_cut_off() {
    let served = Served::start();
    let mut slow: Vec<TcpStream> = (0..MAX_PER_PEER - 1).map(|_| served.connect()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET / HTTP/1.1\r\nHos").unwrap();
    }
    let asked = std::time::SystemTime::now();
    assert_eq!(served.get("/metrics").0, 200);
    assert!(asked.elapsed().unwrap() < Duration::from_secs(2), "a scrape beside slow clients");
    // Each is closed two seconds after it connected; the read timeout would fail the test.
    let mut rest = Vec::new();
    let closed = slow[0].read_to_end(&mut rest);
    assert!(closed.is_ok() || closed.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
    assert!(asked.elapsed().unwrap() < Duration::from_secs(10));
}

/// Connections that say nothing, from each of these loopback addresses in turn.
fn idle(served: &Served, count: usize, from: &[[u8; 4]]) -> Vec<tokio::net::TcpStream> {
    let runtime = served.runtime.as_ref().unwrap();
    let connect = |n: usize| async move {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((from[n % from.len()], 0))).unwrap();
        socket.connect(served.address).await.unwrap()
    };
    runtime.block_on(async {
        let mut open = Vec::new();
        for n in 0..count {
            open.push(connect(n).await);
        }
        open
    })
}

#[test]
fn a_scrape_gets_through_beside_idle_connections() {
    for from in [&[[127, 0, 0, 1]][..], &[[127, 0, 0, 2], [127, 0, 0, 3], [127, 0, 0, 4]]] {
        let served = Served::start();
        let silent = idle(&served, 300, from);
        let asked = std::time::SystemTime::now();
        let (status, _, body) = served.get("/metrics");
        assert_eq!(status, 200);
        assert!(asked.elapsed().unwrap() < Duration::from_secs(2), "{from:?}");
        let evicted = body.lines().find_map(|line| {
            line.strip_prefix("halfopen_http_connections_evicted_total ")?.parse::<u64>().ok()
        });
        let room = if from.len() == 1 { 64 } else { 128 };
        assert!(evicted.is_some_and(|evicted| evicted >= 300 - room), "{evicted:?}");
        assert!(body.contains("\nhalfopen_http_connections_refused_total 0\n"));
        drop(silent);
    }
}

#[test]
fn listings_are_made_two_at_a_time() {
    let served = Served::start();
    std::thread::scope(|scope| {
        let gate = served.fake.gate.lock().unwrap();
        let two: Vec<_> = (0..2).map(|_| scope.spawn(|| served.get("/api/v1/embryonic").0)).collect();
        while served.fake.asked.lock().unwrap().len() < 2 {
            std::thread::yield_now();
        }
        let (status, head, body) = served.get("/api/v1/embryonic");
        assert!(status == 503 && head.contains("\r\nretry-after: 1\r\n"), "{status} {head}");
        assert!(body.contains("try again"), "{body}");
        drop(gate);
        assert!(two.into_iter().all(|listing| listing.join().unwrap() == 200));
    });
    assert_eq!(served.get("/api/v1/embryonic").0, 200);
}

#[test]
fn an_address_named_twice_is_bound_once() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let twice = [ListenAddress::Socket(free), ListenAddress::Socket(free)];
    assert_eq!(Listeners::bind(&twice, &[]).unwrap().addresses(), [free]);
}

#[test]
fn a_taken_port_names_the_address_and_the_mend() {
    let served = Served::start();
    let error = Listeners::bind(&[ListenAddress::Socket(served.address)], &[]).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("cannot listen on {}: address already in use", served.address)),
        "{error}"
    );
    assert!(error.contains("--web.listen-address"));
}

/// The families of the contract's table, with their types, copied by hand.
const CONTRACT: [(&str, &str); 33] = [
    ("halfopen_capture_frames_total", "counter"),
    ("halfopen_capture_bytes_total", "counter"),
    ("halfopen_capture_drops_total", "counter"),
    ("halfopen_decode_errors_total", "counter"),
    ("halfopen_segments_total", "counter"),
    ("halfopen_handshakes_opened_total", "counter"),
    ("halfopen_handshakes_closed_total", "counter"),
    ("halfopen_handshakes_untracked_total", "counter"),
    ("halfopen_syn_retransmissions_total", "counter"),
    ("halfopen_syn_ack_retransmissions_total", "counter"),
    ("halfopen_embryonic_connections", "gauge"),
    ("halfopen_embryonic_connections_limit", "gauge"),
    ("halfopen_syn_ack_latency_seconds", "histogram"),
    ("halfopen_handshake_duration_seconds", "histogram"),
    ("halfopen_server_embryonic_connections", "gauge"),
    ("halfopen_server_backlog_occupancy", "gauge"),
    ("halfopen_server_backlog_limit", "gauge"),
    ("halfopen_server_attempts_total", "counter"),
    ("halfopen_server_completed_total", "counter"),
    ("halfopen_server_unresolved_total", "counter"),
    ("halfopen_server_distinct_sources", "gauge"),
    ("halfopen_server_mode", "gauge"),
    ("halfopen_incidents_total", "counter"),
    ("halfopen_incidents_active", "gauge"),
    ("halfopen_incident_active", "gauge"),
    ("halfopen_half_open_discovered_total", "counter"),
    ("halfopen_half_open_suspected", "gauge"),
    ("halfopen_backscatter_total", "counter"),
    ("halfopen_network_timestamp_seconds", "gauge"),
    ("halfopen_build_info", "gauge"),
    ("process_cpu_seconds_total", "counter"),
    ("process_resident_memory_bytes", "gauge"),
    ("process_start_time_seconds", "gauge"),
];

#[test]
fn the_exposition_has_the_contracts_families() {
    let (_, _, body) = Served::start().get("/metrics");
    for (name, kind) in CONTRACT {
        assert!(body.contains(&format!("\n# TYPE {name} {kind}\n")), "{name} as a {kind}");
    }
    for line in [
        "halfopen_capture_drops_total{interface=\"tap0\",by=\"kernel\"} 0",
        "halfopen_capture_drops_total{interface=\"tap0\",by=\"interface\"} 0",
        "halfopen_decode_errors_total{reason=\"truncated_link\"} 0",
        "halfopen_handshakes_closed_total{outcome=\"superseded\"} 0",
        "halfopen_server_embryonic_connections{server=\"shop\",state=\"syn_received\"} 2",
        "halfopen_server_mode{server=\"shop\",mode=\"accept_overflow\"} 0",
        "halfopen_incidents_active{kind=\"spoofed_flood\"} 1",
        "halfopen_incident_active{server=\"shop\",kind=\"outage\"} 0",
        "halfopen_half_open_discovered_total{case=\"reconnect\"} 0",
        "halfopen_backscatter_total{kind=\"syn_ack\"} 0",
        "halfopen_network_timestamp_seconds 1750000000.5",
    ] {
        assert!(body.lines().any(|present| present == line), "{line}");
    }
    // Every name of the list is exposed, and no family of ours is missing from the list.
    let typed = |line: &str| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned);
    let exposed: BTreeSet<String> =
        body.lines().filter_map(typed).filter(|name| name.starts_with("halfopen_")).collect();
    let listed: BTreeSet<String> = names::ALL.iter().map(|desc| desc.name.to_owned()).collect();
    assert_eq!(exposed, listed);
}

#[test]
fn labels_are_in_the_order_of_the_stages() {
    assert_eq!(OUTCOMES, Outcome::ALL.map(Outcome::as_label));
    assert_eq!(SEGMENT_KINDS, SegmentKind::ALL.map(SegmentKind::as_label));
}

#[test]
fn promtool_finds_nothing() {
    let (_, _, body) = Served::start().get("/metrics");
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("skipped: promtool is not installed");
        return;
    };
    child.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}
