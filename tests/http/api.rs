//! What the API gives, what it refuses, and for whom.

use super::*;

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
