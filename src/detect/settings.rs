//! Stage 4 of 5, detect: by what one key is judged: the defaults, and the rules that hold for it.
//!
//! Plain values; judges nothing.

use super::ledger::Key;
use crate::config::ServerConfig;
use crate::config::detect::{DetectConfig, Prefix, Rule, Side};
use std::time::Duration;

/// Settings of one key, after rules.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Settings {
    pub(super) false_alarm_interval: Duration,
    pub(super) floor: f64,
    pub(super) critical_rate: f64,
    pub(super) occupancy: f64,
    pub(super) observe: bool,
    /// Size of the SYN queue, where configured.
    pub(super) backlog: Option<u64>,
    /// Allow-listed as a server: number of the allowance.
    pub(super) allowance: Option<usize>,
    /// Number of the configured server it is, and whether it is all of it (one address and port).
    pub(super) configured: Option<(usize, bool)>,
}

impl Settings {
    /// Those of a key: the defaults, changed by the most specific rule that matches.
    pub(super) fn of(key: Key, config: &DetectConfig, servers: &[ServerConfig]) -> Self {
        let port = if let Key::Server(at) = key { Some(at.port) } else { None };
        let covers = |prefix: Prefix, wanted: Option<u16>| {
            let inside = match key {
                Key::Site(site) => prefix.len() <= site.len() && prefix.contains(site.addr()),
                Key::Server(_) | Key::Host(_) => key.addr().is_some_and(|addr| prefix.contains(addr)),
                Key::Sensor => false,
            };
            inside && (wanted.is_none() || wanted == port)
        };
        let rule: Option<&Rule> = config
            .rules
            .iter()
            .filter(|rule| covers(rule.prefix, rule.port))
            .max_by_key(|rule| (rule.prefix.len(), rule.port.is_some()));
        let (index, server) = servers
            .iter()
            .enumerate()
            .filter(|(_, s)| port.is_some() && covers(Prefix::new(s.address, s.prefix_len), s.port))
            .max_by_key(|(_, s)| (s.prefix_len, s.port.is_some()))
            .unzip();
        Self {
            false_alarm_interval: rule
                .and_then(|r| r.false_alarm_interval)
                .unwrap_or(config.false_alarm_interval),
            floor: rule.and_then(|r| r.floor).unwrap_or(config.floor) as f64,
            critical_rate: rule.and_then(|r| r.critical_rate).unwrap_or(config.critical_rate),
            occupancy: rule.and_then(|r| r.occupancy).unwrap_or(config.occupancy),
            observe: rule.and_then(|r| r.observe).unwrap_or(config.observe),
            backlog: server.and_then(|s: &ServerConfig| s.backlog),
            allowance: config.allow.iter().position(|allowance| {
                allowance.side == Side::Server && covers(allowance.prefix, allowance.port)
            }),
            configured: index.map(|i| (i, server.is_some_and(is_one_server))),
        }
    }
}

/// Whether a configured server is one address and port.
pub(super) fn is_one_server(server: &ServerConfig) -> bool {
    server.port.is_some() && server.prefix_len >= if server.address.is_ipv4() { 32 } else { 128 }
}
