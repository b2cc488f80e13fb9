//! What the configuration accepts, what it refuses, and on which line it says so. Expectations are written by hand.

use crate::config::detect::{Allowance, Prefix, Rule, Side};
use crate::config::{
    Config, DetectConfig, EvidenceConfig, JournalConfig, ListenAddress, LogFormat, LogLevel,
};
use std::time::Duration;

#[path = "tests/problems.rs"]
mod problems;

const EXAMPLE: &str = include_str!("../../config/halfopen.toml");

fn problems(text: &str) -> Vec<String> {
    Config::parse("f.toml", text)
        .map_or_else(|p| p.to_string().lines().map(str::to_owned).collect(), |_| Vec::new())
}

#[test]
fn the_example_is_the_default() {
    assert_eq!(Config::parse("example", EXAMPLE).unwrap(), Config::default());
    assert_eq!(Config::parse("empty", "").unwrap(), Config::default());
}

#[test]
fn the_example_uncommented_is_the_default() {
    let mut keys = 0;
    let mut text = String::new();
    for line in EXAMPLE.lines() {
        let bare = line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
        keys += usize::from(bare.is_some());
        text.push_str(bare.unwrap_or(line));
        text.push('\n');
    }
    assert_eq!(keys, 57, "every key is shown; a new key belongs into the example");
    assert_eq!(Config::parse("example", &text).unwrap(), Config::default());
}

#[test]
fn reads_what_is_written() {
    let config = Config::parse(
        "f.toml",
        r#"
        [capture]
        interfaces = ["eth0", "eth1"]
        filter = "port 80"
        snaplen = 0x100
        buffer = 1_048_576
        promiscuous = false
        [table]
        entries = 2048
        syn_sent_timeout = "1m30s"
        syn_received_timeout = 20
        emergency_timeout = 4.5
        remembered = 0
        [web]
        listen_address = ":9"
        telemetry_path = "/m"
        top_servers = 0
        [log]
        level = "debug"
        format = "json"
        [[server]]
        address = "198.51.100.0/24"
        [[server]]
        name = "shop"
        address = "2001:db8::1"
        port = 443
        backlog = 511
        profile = "linux-nocookies"
        [[server]]
        address = "198.51.100.1"
        profile = 45
        "#,
    )
    .unwrap();
    assert_eq!(config.capture.interfaces, ["eth0", "eth1"]);
    assert_eq!(config.capture.filter.as_deref(), Some("port 80"));
    assert_eq!(
        (config.capture.snaplen, config.capture.buffer, config.capture.promiscuous),
        (256, 1 << 20, false)
    );
    assert_eq!((config.table.entries, config.table.remembered), (2048, 0));
    assert_eq!(config.table.syn_sent_timeout, Duration::from_secs(90));
    assert_eq!(config.table.syn_received_timeout, Duration::from_secs(20));
    assert_eq!(config.table.emergency_timeout, Duration::from_millis(4500));
    assert_eq!(config.web.listen, [ListenAddress::Any(9)]);
    assert_eq!((config.web.telemetry_path.as_str(), config.web.top_servers), ("/m", 0));
    assert_eq!((config.log.level, config.log.format), (LogLevel::Debug, LogFormat::Json));
    let [prefix, shop, seconds] = config.servers.as_slice() else { panic!("{:?}", config.servers) };
    assert_eq!((prefix.prefix_len, prefix.port, &prefix.name), (24, None, &None));
    assert_eq!((shop.prefix_len, shop.port, shop.backlog), (128, Some(443), Some(511)));
    assert_eq!((shop.name.as_deref(), shop.profile.as_deref()), (Some("shop"), Some("linux-nocookies")));
    assert_eq!(seconds.profile.as_deref(), Some("45"));
}

#[test]
fn reads_how_to_judge() {
    let config = Config::parse(
        "f.toml",
        r#"
        [detect]
        false_alarm_interval = "30d"
        floor = 7
        critical_rate = 50
        occupancy = 0.5
        assumed_backlog = 256
        initial_grace = "1s"
        min_grace = 0.5
        max_grace = "2s"
        calm = "1m"
        scan_ports = 16
        scan_hosts = 31
        source_flood_rate = 1_000.5
        backscatter = 29
        observe = true
        max_servers = 17
        max_hosts = 18
        max_prefixes = 19
        max_incidents = 20
        home = ["198.51.100.0/24", "2001:db8::/32"]
        [journal]
        path = "/var/log/j"
        max_bytes = "1MiB"
        keep = 0
        [evidence]
        path = "e"
        incident_bytes = 8192
        memory_bytes = 0
        disk_bytes = "1GiB"
        [[allow]]
        source = "192.0.2.7"
        reason = "our scanner"
        [[allow]]
        server = "198.51.100.0/24"
        port = 81
        reason = "a sinkhole"
        "#,
    )
    .unwrap();
    let prefix = |addr: &str, len| Prefix::new(addr.parse().unwrap(), len);
    let allowance =
        |side, prefix, port, reason: &str| Allowance { side, prefix, port, reason: reason.to_owned() };
    let expected = DetectConfig {
        false_alarm_interval: Duration::from_secs(30 * 86_400),
        floor: 7,
        critical_rate: 50.0,
        occupancy: 0.5,
        assumed_backlog: 256,
        initial_grace: Duration::from_secs(1),
        min_grace: Duration::from_millis(500),
        max_grace: Duration::from_secs(2),
        calm: Duration::from_secs(60),
        scan_ports: 16,
        scan_hosts: 31,
        source_flood_rate: 1000.5,
        backscatter: 29,
        observe: true,
        max_servers: 17,
        max_hosts: 18,
        max_prefixes: 19,
        max_incidents: 20,
        home: vec![prefix("198.51.100.0", 24), prefix("2001:db8::", 32)],
        allow: vec![
            allowance(Side::Source, prefix("192.0.2.7", 32), None, "our scanner"),
            allowance(Side::Server, prefix("198.51.100.0", 24), Some(81), "a sinkhole"),
        ],
        rules: Vec::new(),
    };
    assert_eq!(config.detect, expected);
    let journal = JournalConfig { path: Some("/var/log/j".into()), max_bytes: 1 << 20, keep: 0 };
    assert_eq!(config.journal, journal);
    let evidence =
        EvidenceConfig { path: Some("e".into()), incident_bytes: 8192, memory_bytes: 0, disk_bytes: 1 << 30 };
    assert_eq!(config.evidence, evidence);
}

#[test]
fn a_server_is_judged_by_its_own_block_then_by_the_next_wider() {
    let config = Config::parse(
        "f.toml",
        r#"
        [[server]]
        address = "198.51.100.10"
        port = 443
        floor = 9
        [[server]]
        address = "198.51.100.0/24"
        port = 443
        floor = 8
        observe = true
        [[server]]
        address = "198.51.0.0/16"
        critical_rate = 5.5
        occupancy = 0.9
        false_alarm_interval = "1d"
        [[server]]
        address = "198.51.100.10"
        port = 80
        [[server]]
        address = "203.0.113.1"
        "#,
    )
    .unwrap();
    let rule = |addr: &str, len, port| Rule {
        critical_rate: Some(5.5),
        occupancy: Some(0.9),
        false_alarm_interval: Some(Duration::from_secs(86_400)),
        ..Rule::new(Prefix::new(addr.parse().unwrap(), len), port)
    };
    let expected = [
        Rule { floor: Some(9), observe: Some(true), ..rule("198.51.100.10", 32, Some(443)) },
        Rule { floor: Some(8), observe: Some(true), ..rule("198.51.100.0", 24, Some(443)) },
        rule("198.51.0.0", 16, None),
        rule("198.51.100.10", 32, Some(80)),
    ];
    assert_eq!(config.detect.rules, expected);
    assert_eq!(config.servers.len(), 5);
}
