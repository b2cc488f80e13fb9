//! The kinds of traffic a scenario may name, each key with its default.

use super::address::{Prefix, Targets};
use super::arrivals::{Pulse, Rhythm};
use super::frame::Encapsulation;
use super::scenario::{optional_seconds, seconds};
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Traffic of real clients.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Handshakes {
    /// Whom they connect to; each picks one at random.
    pub servers: Targets,
    /// Where they come from. Default 198.51.100.0/24; ports are counted up, so no tuple comes twice.
    pub clients: Prefix,
    /// Handshakes a second.
    pub rate: f64,
    /// Variance of counts in half seconds, over their mean. Default 1: a Poisson process.
    pub dispersion: f64,
    /// Begins.
    #[serde(deserialize_with = "seconds")]
    pub start: Duration,
    /// Lasts; default to the end.
    #[serde(deserialize_with = "optional_seconds")]
    pub duration: Option<Duration>,
    /// The rate rises from nothing over this time: a flash crowd.
    #[serde(deserialize_with = "seconds")]
    pub ramp: Duration,
    /// The rate swings as a day's does; `rate` is the highest.
    pub rhythm: Option<Rhythm>,
    /// At most so many; 0: no limit.
    pub count: u64,
    /// Share refused by the server.
    pub refused: f64,
    /// Share that nobody answers, though the SYN is sent again.
    pub unanswered: f64,
    /// Share whose client vanishes after the SYN-ACK.
    pub abandoned: f64,
    /// Share that the client resets after the SYN-ACK.
    pub reset: f64,
    /// Share with data in the SYN (RFC 7413).
    pub fast_open: f64,
    /// Share that both ends open at once.
    pub simultaneous: f64,
    /// Share acknowledged on the wire that the server's accept queue does not take.
    pub accept_overflow: f64,
    /// Share whose client crashes and opens again on the same tuple.
    pub reconnect: f64,
    /// Share whose client crashes and answers data with a reset.
    pub reset_on_data: f64,
    /// Share whose SYN asks for ECN.
    pub ecn: f64,
    /// Shortest round trip. Default 0.010.
    #[serde(deserialize_with = "seconds")]
    pub rtt_min: Duration,
    /// Mean round trip; what exceeds the shortest is exponential. Default 0.050.
    #[serde(deserialize_with = "seconds")]
    pub rtt_mean: Duration,
    /// Data segments from the client. Default 1.
    pub up: u16,
    /// Data segments from the server. Default 3.
    pub down: u16,
    /// Mean quiet time before the close, exponential. Default 0.2.
    #[serde(deserialize_with = "seconds")]
    pub idle: Duration,
    /// The server answers nothing for a while.
    pub outage: Option<Outage>,
    /// SYNs a client sends before it gives up. Default 7, as Linux.
    pub syns: u8,
    /// Tags and tunnels.
    pub encapsulation: Encapsulation,
}

/// A time without answers. Clients whose SYN comes again after its end get through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    /// Begins.
    #[serde(deserialize_with = "seconds")]
    pub start: Duration,
    /// Lasts.
    #[serde(deserialize_with = "seconds")]
    pub duration: Duration,
    /// The process is down and its host refuses, rather than the host being gone.
    #[serde(default)]
    pub refusing: bool,
}

/// A flood of SYNs.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flood {
    /// Whom it hits; a prefix makes it a carpet.
    pub servers: Targets,
    /// Forged sources. Default 198.18.0.0/15. One address is a reflection's victim. Tuples do not repeat before all were used.
    pub sources: Prefix,
    /// The source port where it is always the same.
    pub source_port: Option<u16>,
    /// SYNs a second.
    pub rate: f64,
    /// Variance of counts in half seconds, over their mean; 0 (default): evenly spaced, 1: a Poisson process.
    pub dispersion: f64,
    /// Begins.
    #[serde(deserialize_with = "seconds")]
    pub start: Duration,
    /// Lasts; default to the end.
    #[serde(deserialize_with = "optional_seconds")]
    pub duration: Option<Duration>,
    /// The rate rises from nothing over this time.
    #[serde(deserialize_with = "seconds")]
    pub ramp: Duration,
    /// Pulses instead of a steady rate.
    pub pulse: Option<Pulse>,
    /// At most so many; 0: no limit.
    pub count: u64,
    /// How the servers take it.
    pub answers: Answers,
    /// Share of the SYNs answered at all; the rest met a full queue. Default 1.
    pub answered: f64,
    /// How often a queueing server sends its SYN-ACK. Default 6: Linux's five retries; 2 or 3 is what a half-full queue does.
    pub syn_acks: u8,
    /// What the sources acknowledge. Default nothing.
    pub acks: Acks,
    /// How long after the SYN-ACK. Default 0.020.
    #[serde(deserialize_with = "seconds")]
    pub ack_after: Duration,
    /// The initial sequence number where it is always the same.
    pub isn: Option<u32>,
    /// ECE and CWR set.
    pub ecn: bool,
    /// Bytes of payload in each SYN.
    pub payload: u16,
    /// TCP options as a stack sends them, not none.
    pub options: bool,
    /// Tags and tunnels.
    pub encapsulation: Encapsulation,
}

/// How a flooded server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answers {
    /// Holds each in its queue: SYN-ACKs come again.
    #[default]
    Queue,
    /// Sends cookies: one SYN-ACK each.
    Cookie,
    /// Drops them all.
    Drop,
    /// Answers, and the owner of the forged address resets.
    Reset,
    /// Refuses: the port is closed.
    Refuse,
}

/// ACKs of a flood's sources, of which the server takes none. Who sends a wrong or a void one has a real address and sees the
/// SYN-ACK of a queueing server; a guess can be forged with its SYN, whatever the server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Acks {
    /// None.
    #[default]
    None,
    /// One number too high: the server resets it and keeps its entry (RFC 9293 section 3.10.7.4).
    Wrong,
    /// The right number, yet not valid: its checksum or its timestamp is wrong. The server drops it and keeps its entry.
    Void,
    /// Any number, right behind the SYN and before an answer.
    Guessed,
}

/// A scan.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scan {
    /// What is tried, each pair once, in order; then again.
    pub targets: Targets,
    /// Who scans; a prefix shares the work.
    pub sources: Prefix,
    /// Tries a second.
    pub rate: f64,
    /// Begins.
    #[serde(deserialize_with = "seconds")]
    pub start: Duration,
    /// Lasts; default to the end.
    #[serde(deserialize_with = "optional_seconds")]
    pub duration: Option<Duration>,
    /// At most so many; 0 (default): each target once.
    pub count: u64,
    /// Share of targets that are open: SYN-ACK, then the scanner's reset.
    pub open: f64,
    /// Share of targets that drop. The rest refuse.
    pub silent: f64,
    /// How often a try without an answer is sent. Default 2.
    pub syns: u8,
    /// Tags and tunnels.
    pub encapsulation: Encapsulation,
}

/// Answers to SYNs that others sent in our name.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backscatter {
    /// Who answers: the victims of somebody's flood.
    pub victims: Targets,
    /// Whose addresses were forged: ours.
    pub addresses: Prefix,
    /// Answers a second (first copies).
    pub rate: f64,
    /// Begins.
    #[serde(deserialize_with = "seconds")]
    pub start: Duration,
    /// Lasts; default to the end.
    #[serde(deserialize_with = "optional_seconds")]
    pub duration: Option<Duration>,
    /// At most so many; 0: no limit.
    pub count: u64,
    /// Share that are refusals.
    pub refusals: f64,
    /// Copies of each SYN-ACK. Default 1.
    pub copies: u8,
    /// Tags and tunnels.
    pub encapsulation: Encapsulation,
}

fn prefix(octets: [u8; 4], length: u8) -> Prefix {
    Prefix::new(IpAddr::V4(Ipv4Addr::from(octets)), length)
}

fn server(octets: [u8; 4], port: u16) -> Targets {
    Targets { prefix: prefix(octets, 32), first_port: port, last_port: port }
}

impl Default for Handshakes {
    fn default() -> Self {
        Self {
            servers: server([192, 0, 2, 10], 80),
            clients: prefix([198, 51, 100, 0], 24),
            rate: 0.0,
            dispersion: 1.0,
            start: Duration::ZERO,
            duration: None,
            ramp: Duration::ZERO,
            rhythm: None,
            count: 0,
            refused: 0.0,
            unanswered: 0.0,
            abandoned: 0.0,
            reset: 0.0,
            fast_open: 0.0,
            simultaneous: 0.0,
            accept_overflow: 0.0,
            reconnect: 0.0,
            reset_on_data: 0.0,
            ecn: 0.0,
            rtt_min: Duration::from_millis(10),
            rtt_mean: Duration::from_millis(50),
            up: 1,
            down: 3,
            idle: Duration::from_millis(200),
            outage: None,
            syns: 7,
            encapsulation: Encapsulation::None,
        }
    }
}

impl Default for Flood {
    fn default() -> Self {
        Self {
            servers: server([192, 0, 2, 10], 80),
            sources: prefix([198, 18, 0, 0], 15),
            source_port: None,
            rate: 0.0,
            dispersion: 0.0,
            start: Duration::ZERO,
            duration: None,
            ramp: Duration::ZERO,
            pulse: None,
            count: 0,
            answers: Answers::Queue,
            answered: 1.0,
            syn_acks: 6,
            acks: Acks::None,
            ack_after: Duration::from_millis(20),
            isn: None,
            ecn: false,
            payload: 0,
            options: false,
            encapsulation: Encapsulation::None,
        }
    }
}

impl Default for Scan {
    fn default() -> Self {
        Self {
            targets: Targets { first_port: 1, last_port: 1024, ..server([192, 0, 2, 10], 80) },
            sources: prefix([198, 18, 0, 1], 32),
            rate: 0.0,
            start: Duration::ZERO,
            duration: None,
            count: 0,
            open: 0.0,
            silent: 0.0,
            syns: 2,
            encapsulation: Encapsulation::None,
        }
    }
}

impl Default for Backscatter {
    fn default() -> Self {
        Self {
            victims: server([203, 0, 113, 5], 443),
            addresses: prefix([198, 51, 100, 0], 24),
            rate: 0.0,
            start: Duration::ZERO,
            duration: None,
            count: 0,
            refusals: 0.0,
            copies: 1,
            encapsulation: Encapsulation::None,
        }
    }
}
