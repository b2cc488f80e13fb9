//! Whose addresses are shown, and how much of them.

use super::*;

/// Every address of `text` that is shown whole: one with a prefix length behind it is cut.
fn whole_addresses(text: &str) -> BTreeSet<IpAddr> {
    let part = |c: char| c.is_ascii_hexdigit() || matches!(c, '.' | ':' | '[' | ']');
    let mut found = BTreeSet::new();
    let mut rest = text;
    while let Some(begin) = rest.find(part) {
        let run = &rest[begin..];
        let end = run.find(|c| !part(c)).unwrap_or(run.len());
        let (word, after) = run.split_at(end);
        let word = word.trim_end_matches('.');
        let addr = word
            .parse::<SocketAddr>()
            .map(|at| at.ip())
            .or_else(|_| word.trim_end_matches(':').parse::<IpAddr>());
        if let Ok(addr) = addr
            && !after.starts_with('/')
        {
            found.insert(addr);
        }
        rest = after;
    }
    found
}

/// A minute of a shop, with a flood and a scan.
const ATTACKED: &str = r#"
description = "a shop, a flood, a scan"
seed = 3
duration = 70
[[traffic]]
kind = "handshakes"
servers = "192.0.2.10:443"
rate = 20
[[traffic]]
kind = "flood"
servers = "192.0.2.10:443"
sources = "198.18.0.0/16"
rate = 60
start = 30
duration = 20
dispersion = 1
syn_acks = 3
[[traffic]]
kind = "scan"
targets = "192.0.2.20:1-2000"
rate = 50
start = 50
duration = 15
open = 0.01
silent = 0
"#;

/// A shop under a flood, a scan, and a host that comes back on a connection it has forgotten; and who takes part but the shop.
fn trace() -> (Arc<Sensor>, BTreeSet<IpAddr>) {
    let scenario = Scenario::from_toml(ATTACKED).unwrap();
    let mut source = MemorySource::new("tap0");
    let mut parties = BTreeSet::new();
    let mut last = scenario.start();
    scenario.stream().for_each(|at, frame| {
        let address = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&frame[at..at + 4]).unwrap());
        parties.extend([address(26), address(30)]);
        source.push(at, LinkType::ETHERNET, frame.len() as u32, frame);
        last = at;
    });
    // RFC 9293 figure 9, of a host that is nowhere else in the trace.
    let (a, b) = (Endpoint::new([203, 0, 113, 77].into(), 4000), Endpoint::new([192, 0, 2, 10].into(), 443));
    let (syn, ack, rst) = (TcpFlags::SYN, TcpFlags::ACK, TcpFlags::RST);
    let segments = [
        (a, b, 99, 0, syn),
        (b, a, 299, 100, syn | ack),
        (a, b, 100, 300, ack),
        (a, b, 400, 0, syn),
        (b, a, 300, 100, ack),
        (a, b, 100, 0, rst),
        (a, b, 400, 0, syn),
    ];
    for (number, (src, dst, seq, ack, flags)) in (1..).zip(segments) {
        let packet = Packet { ack, flags, ..Packet::bare_syn(src, dst, seq) };
        let mut frame = Vec::new();
        Wire::default().write(&packet, &mut frame);
        source.push(
            last.plus(Duration::from_millis(300 * number)),
            LinkType::ETHERNET,
            frame.len() as u32,
            &frame,
        );
    }
    parties.insert(a.addr);
    parties.retain(|addr| {
        !["192.0.2.10", "192.0.2.20", "192.0.2.25"].iter().any(|own| addr.to_string() == *own)
    });
    let config = Config::parse("demo-sensor.toml", &example("demo-sensor.toml")).unwrap();
    let sensor = Sensor::new(&config, Box::new(|_| ()));
    sensor.run_source(source).unwrap();
    (sensor, parties)
}

/// Whatever can be asked for, nobody's address is shown whole where addresses are cut or left out.
#[test]
fn no_route_shows_more_of_an_address_than_may_be_shown() {
    let (sensor, parties) = trace();
    let shows = |addresses: Addresses| -> BTreeMap<String, BTreeSet<IpAddr>> {
        let served = Served::showing(Arc::clone(&sensor) as _, "127.0.0.1:0", addresses);
        let get = |path: &str| {
            let url = format!("{}{}", served.base, path.trim_start_matches('/'));
            let mut answer = client(None, None).get(url).call().unwrap();
            answer.body_mut().read_to_vec().map(|body| String::from_utf8_lossy(&body).into_owned()).unwrap()
        };
        let page = get("/");
        // The page links to every route, so that a new one is walked too.
        let mut paths: Vec<String> = page
            .split("href=\"/")
            .skip(1)
            .map(|rest| format!("/{}", rest.split('"').next().unwrap()))
            .collect();
        paths.extend(
            ["/", "/api/v1/embryonic?limit=1000", "/api/v1/embryonic?server=shop"].map(str::to_owned),
        );
        assert!(paths.len() >= 11, "{paths:?}");
        let shown = paths.into_iter().map(|path| {
            let found = whole_addresses(&get(&path));
            (path, found.intersection(&parties).copied().collect())
        });
        shown.collect()
    };
    let back = IpAddr::from([203, 0, 113, 77]);
    let full = shows(Addresses::Full);
    for path in ["/", "/api/v1/overview", "/api/v1/incidents", "/api/v1/embryonic", "/api/v1/half-open"] {
        assert!(!full[path].is_empty(), "{path} shows addresses where it may, else this test tells nothing");
    }
    assert!(full["/api/v1/half-open"].contains(&back), "{full:?}");
    for addresses in [Addresses::Prefix, Addresses::None] {
        for (path, found) in shows(addresses) {
            assert!(found.is_empty(), "{path} with {addresses:?} shows {found:?}");
        }
    }
}

#[test]
fn addresses_can_be_cut_or_left_out() {
    let place = Place::make();
    place.write("web.yml", "");
    for (form, originator) in [("prefix", "127.0.0.0/24"), ("none", "hidden")] {
        place.write("halfopen.toml", &format!("[web]\naddresses = \"{form}\"\n"));
        let file = place.path("halfopen.toml");
        let Some((_process, address)) = start(&place, &["--config.file", &file]) else {
            return;
        };
        // A listener whose queue of one is full answers no more: the third connection stays embryonic.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&"127.0.0.1:10799".parse::<SocketAddr>().unwrap().into()).unwrap();
        socket.listen(0).unwrap();
        let server = socket.local_addr().unwrap();
        let mut open = Vec::new();
        for _ in 0..3 {
            let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            let _ = client.connect(&server);
            open.push(client);
        }
        let client = client(None, None);
        wait_for("an embryonic connection listed", PATIENCE, || {
            let url = format!("http://{address}/api/v1/embryonic");
            let text = client.get(url).call().unwrap().body_mut().read_to_string().unwrap();
            let body: serde_json::Value = serde_json::from_str(&text).unwrap();
            let Some(first) = body["connections"][0].as_object() else { return Err(text) };
            assert_eq!(first["originator"], originator);
            assert_eq!(first["responder"], "127.0.0.1:10799");
            Ok(())
        });
        let url = format!("http://{address}/api/v1/incidents/x/pcap");
        assert_eq!(status(&client, &url, None), Ok(403));
        let mut raw = TcpStream::connect(address).unwrap();
        raw.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    }
}
