//! Configuration: one section a stage, each with its defaults and their reasons.
//!
//! No stage sees another's section.

pub mod detect;

use self::detect::DetectConfig;
use std::net::IpAddr;
use std::time::Duration;

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// Stage 1.
    pub capture: CaptureConfig,
    /// Stage 3.
    pub table: TableConfig,
    /// Stage 4.
    pub detect: DetectConfig,
    /// Stage 5.
    pub web: WebConfig,
    /// What to protect.
    pub servers: Vec<ServerConfig>,
}

/// Stage 1: how to capture.
#[derive(Debug, Clone, PartialEq)]
pub struct CaptureConfig {
    /// Interfaces; empty: that of the default route.
    pub interfaces: Vec<String>,
    /// A BPF expression, ANDed with ours.
    pub filter: Option<String>,
    /// Bytes kept of a frame. Default 192: Ethernet, two tags, a VXLAN tunnel, IPv6 and TCP with options fit.
    pub snaplen: u32,
    /// Kernel buffer an interface, bytes. Default 32 MiB: 150 ms of 1,500,000 frames a second at that snaplen.
    pub buffer: u32,
    /// Promiscuous mode. Default true: a tap's frames are addressed to others.
    pub promiscuous: bool,
}

impl Default for CaptureConfig {
    fn default() -> Self {
        Self { interfaces: Vec::new(), filter: None, snaplen: 192, buffer: 32 << 20, promiscuous: true }
    }
}

/// Stage 3: the half-open table.
#[derive(Debug, Clone, PartialEq)]
pub struct TableConfig {
    /// Most embryonic connections held. Default 1,048,576, about 80 MB.
    pub entries: usize,
    /// Life of an attempt without a SYN-ACK. Default 63 s, as of one with.
    pub syn_sent_timeout: Duration,
    /// Life of an attempt with a SYN-ACK. Default 63 s: Linux with five SYN-ACK retries (1+2+4+8+16+32).
    pub syn_received_timeout: Duration,
    /// Either life while the table is nearly full. Default 5 s: past the second retransmission of every stack.
    pub emergency_timeout: Duration,
    /// Closed attempts remembered, to tell a late copy from a new attempt. Default 262,144, 8 MB.
    pub remembered: usize,
}

impl Default for TableConfig {
    fn default() -> Self {
        Self {
            entries: 1 << 20,
            syn_sent_timeout: Duration::from_secs(63),
            syn_received_timeout: Duration::from_secs(63),
            emergency_timeout: Duration::from_secs(5),
            remembered: 1 << 18,
        }
    }
}

/// Stage 5: the HTTP side.
#[derive(Debug, Clone, PartialEq)]
pub struct WebConfig {
    /// Addresses to listen on. Default 127.0.0.1:10793.
    pub listen: Vec<String>,
    /// Path of the metrics. Default /metrics.
    pub telemetry_path: String,
    /// Servers beyond the configured ones that have series of their own. Default 50.
    pub top_servers: usize,
}

impl Default for WebConfig {
    fn default() -> Self {
        Self {
            listen: vec!["127.0.0.1:10793".to_owned()],
            telemetry_path: "/metrics".to_owned(),
            top_servers: 50,
        }
    }
}

/// A protected server, or a prefix of them.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerConfig {
    /// Its name in metrics; default its address.
    pub name: Option<String>,
    /// Its address, or the network address of a prefix.
    pub address: IpAddr,
    /// Prefix length; 32 or 128 for one address.
    pub prefix_len: u8,
    /// Its port; none: every port.
    pub port: Option<u16>,
    /// Size of its SYN queue; none: learned.
    pub backlog: Option<u64>,
    /// How its host keeps entries; none: inferred.
    pub profile: Option<String>,
}
