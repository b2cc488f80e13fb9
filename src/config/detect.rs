//! Stage 4's section: what counts as too much, per server, per prefix or everywhere.
//!
//! Plain values with their defaults and reasons; no parsing here.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// Stage 4: how to judge.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectConfig {
    /// Mean time between false alarms of one watched key. Default 10^7 s, 116 days: with it a false page is rarer than a real
    /// outage. The threshold grows by the logarithm of the number of keys, so that it holds for each of them together.
    pub false_alarm_interval: Duration,
    /// Fewest unresolved attempts in an episode before a flood is raised. Default 20: fewer cannot fill any queue in use. Half of
    /// a configured queue is enough for the occupancy alarm.
    pub floor: u64,
    /// Unresolved attempts a second that make a flood critical. Default 100: fills a queue of 511 in 5 s.
    pub critical_rate: f64,
    /// Share of the server's SYN queue that makes the occupancy alarm. Default 0.25: time is left before it is full.
    pub occupancy: f64,
    /// SYN queue size assumed where neither configured nor learned. Default 128, the smallest in wide use.
    pub assumed_backlog: u64,
    /// Grace age of a server before its own is learned. Default 1.5 s: past the first retransmission, due at 1 s (RFC 6298).
    pub initial_grace: Duration,
    /// Shortest grace age. Default 0.25 s: nearly every round trip on Earth.
    pub min_grace: Duration,
    /// Longest grace age. Default 3 s: past the second SYN retransmission of every stack.
    pub max_grace: Duration,
    /// How long the signal must lie within its baseline before an incident ends. Default 30 s: longer than the pauses of a
    /// pulsing flood (7 to 15 s fill a Linux queue anew).
    pub calm: Duration,
    /// Ports of one host that one source fails at within a minute, to be a scan; twice as many for an IPv6 /64. Default 15.
    pub scan_ports: u32,
    /// Hosts that one source fails at on the same few ports within a minute, to be a scan; twice as many for an IPv6 /64. Default 30.
    pub scan_hosts: u32,
    /// Failed attempts a second from one source, those refused apart, that make a flood of what is otherwise a port scan, where
    /// they come to each port again and again or their SYNs have no options. Default 4,000: what firewalls use as their limit
    /// for one source.
    pub source_flood_rate: f64,
    /// Unsolicited answers within a minute, from or to one address, to be backscatter. Default 30 (CAIDA's Corsaro: 30 a
    /// minute, at least 25 in all).
    pub backscatter: u32,
    /// Learn and show, but raise nothing. Default false.
    pub observe: bool,
    /// Most servers with a ledger of their own. Default 4,096.
    pub max_servers: usize,
    /// Most hosts watched as a whole. Default 4,096.
    pub max_hosts: usize,
    /// Most /24 and /48 prefixes watched. Default 2,048.
    pub max_prefixes: usize,
    /// Ended incidents kept for the API. Default 512; the journal has them all.
    pub max_incidents: usize,
    /// Our own prefixes. With them, a flood that leaves us is told as such. Default none: every direction is alike.
    pub home: Vec<Prefix>,
    /// What is counted but never judged.
    pub allow: Vec<Allowance>,
    /// Settings for a server or a prefix that differ from the above; the most specific that matches holds.
    pub rules: Vec<Rule>,
}

impl Default for DetectConfig {
    fn default() -> Self {
        Self {
            false_alarm_interval: Duration::from_secs(10_000_000),
            floor: 20,
            critical_rate: 100.0,
            occupancy: 0.25,
            assumed_backlog: 128,
            initial_grace: Duration::from_millis(1500),
            min_grace: Duration::from_millis(250),
            max_grace: Duration::from_secs(3),
            calm: Duration::from_secs(30),
            scan_ports: 15,
            scan_hosts: 30,
            source_flood_rate: 4000.0,
            backscatter: 30,
            observe: false,
            max_servers: 4096,
            max_hosts: 4096,
            max_prefixes: 2048,
            max_incidents: 512,
            home: Vec::new(),
            allow: Vec::new(),
            rules: Vec::new(),
        }
    }
}

/// An address prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    addr: IpAddr,
    len: u8,
}

impl Prefix {
    /// The prefix of this length that holds `addr`; a length beyond the address's is its full length.
    pub fn new(addr: IpAddr, len: u8) -> Self {
        match addr {
            IpAddr::V4(v4) => {
                let len = len.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
                Self { addr: IpAddr::V4((v4.to_bits() & mask).into()), len }
            }
            IpAddr::V6(v6) => {
                let len = len.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
                Self { addr: IpAddr::V6((v6.to_bits() & mask).into()), len }
            }
        }
    }

    /// The prefix that holds `addr` and no other.
    pub const fn whole(addr: IpAddr) -> Self {
        Self { addr, len: if addr.is_ipv4() { 32 } else { 128 } }
    }

    /// Whether it holds one address only.
    pub const fn is_whole(self) -> bool {
        self.len == if self.addr.is_ipv4() { 32 } else { 128 }
    }

    /// Its network address.
    pub const fn addr(self) -> IpAddr {
        self.addr
    }

    /// Its length in bits.
    pub const fn len(self) -> u8 {
        self.len
    }

    /// Whether it holds every address of its family.
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Whether `addr` lies in it.
    pub fn contains(self, addr: IpAddr) -> bool {
        addr.is_ipv4() == self.addr.is_ipv4() && Self::new(addr, self.len).addr == self.addr
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

/// Which side of an attempt an allowance is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Who sends the SYN: scanners of one's own, health checks.
    Source,
    /// Whom it is sent to: a sinkhole, a honeypot.
    Server,
}

/// Counted, never judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowance {
    /// Which side.
    pub side: Side,
    /// Whom.
    pub prefix: Prefix,
    /// The server's port; none: every port.
    pub port: Option<u16>,
    /// Why; shown wherever the allowance applied.
    pub reason: String,
}

/// Settings for a server or a prefix of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Whom.
    pub prefix: Prefix,
    /// The port; none: every port.
    pub port: Option<u16>,
    /// Overrides [`DetectConfig::false_alarm_interval`].
    pub false_alarm_interval: Option<Duration>,
    /// Overrides [`DetectConfig::floor`].
    pub floor: Option<u64>,
    /// Overrides [`DetectConfig::critical_rate`].
    pub critical_rate: Option<f64>,
    /// Overrides [`DetectConfig::occupancy`].
    pub occupancy: Option<f64>,
    /// Overrides [`DetectConfig::observe`].
    pub observe: Option<bool>,
}

impl Rule {
    /// A rule that changes nothing yet.
    pub fn new(prefix: Prefix, port: Option<u16>) -> Self {
        Self {
            prefix,
            port,
            false_alarm_interval: None,
            floor: None,
            critical_rate: None,
            occupancy: None,
            observe: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_holds_its_addresses_and_no_others() {
        let prefix = Prefix::new("198.51.100.77".parse().unwrap(), 24);
        assert_eq!(prefix.to_string(), "198.51.100.0/24");
        assert!(prefix.contains("198.51.100.255".parse().unwrap()));
        assert!(!prefix.contains("198.51.101.0".parse().unwrap()));
        assert!(!prefix.contains("2001:db8::1".parse().unwrap()));
        let all = Prefix::new("10.0.0.1".parse().unwrap(), 0);
        assert!(all.contains("255.255.255.255".parse().unwrap()) && all.is_empty());
        let v6 = Prefix::new("2001:db8:1:2::3".parse().unwrap(), 48);
        assert_eq!(v6.to_string(), "2001:db8:1::/48");
        assert!(v6.contains("2001:db8:1:ffff::".parse().unwrap()));
        assert_eq!(Prefix::new("10.0.0.1".parse().unwrap(), 99).len(), 32);
    }
}
