//! Many clients, slow ones, large requests; addresses that are taken.

use super::*;

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
