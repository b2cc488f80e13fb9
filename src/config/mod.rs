//! Configuration: one section a stage, each with its defaults and their reasons.
//!
//! No stage sees another's section. Text becomes these types in [`parse`](Config::parse) or is refused with every problem
//! it has; nothing downstream checks a value again.

mod limits;
mod parse;
mod reader;
mod record;
pub(crate) mod room;
mod sections;
mod table;
mod tls;
mod trust;
mod value;
mod web;
mod web_file;

pub use limits::{Fit, LimitsConfig};
pub use reader::{Problem, Problems};
pub use record::{EvidenceConfig, JournalConfig};
pub use tls::{ClientAuth, TlsVersion};
pub use trust::{PrivilegesConfig, StateConfig};
pub use web::{Addresses, ListenAddress, TelemetryPath};
pub use web_file::{TlsFiles, WebFile};

pub mod detect;

pub use detect::DetectConfig;

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
    /// The log.
    pub log: LogConfig,
    /// What is written of incidents.
    pub journal: JournalConfig,
    /// What is kept of their frames.
    pub evidence: EvidenceConfig,
    /// What is kept over a restart.
    pub state: StateConfig,
    /// The ceiling for its memory.
    pub limits: LimitsConfig,
    /// What the process gives up.
    pub privileges: PrivilegesConfig,
    /// What to protect.
    pub servers: Vec<ServerConfig>,
}

/// Says why a BPF expression does not compile.
pub type FilterCheck<'a> = &'a dyn Fn(&str) -> Result<(), String>;

/// Where the configuration is when nothing names it.
pub const DEFAULT_FILE: &str = "/etc/halfopen/halfopen.toml";

impl Config {
    /// Text to configuration; a filter is not looked into. `file` is what the problems call it.
    ///
    /// # Errors
    /// Every problem the text has, each with its line.
    pub fn parse(file: &str, text: &str) -> Result<Self, Problems> {
        parse::parse(file, text, &|_| Ok(()))
    }

    /// Reads and parses a file. `filter` says what is wrong with a BPF expression: only stage 1 knows.
    ///
    /// # Errors
    /// That it cannot be read, or every problem it has.
    pub fn load(file: &std::path::Path, filter: FilterCheck<'_>) -> Result<Self, Problems> {
        let name = file.display().to_string();
        match reader::text(file) {
            Ok(text) => parse::parse(&name, &text, filter),
            Err(why) => Err(Problems::of_file(name, why)),
        }
    }
}

/// Stage 1: how to capture.
#[derive(Debug, Clone, PartialEq)]
pub struct CaptureConfig {
    /// Interfaces; empty: that of the default route.
    pub interfaces: Vec<String>,
    /// A BPF expression, ANDed with ours.
    pub filter: Option<String>,
    /// Bytes kept of a frame. Default 512: Ethernet, two tags, a VXLAN tunnel, IPv6 and TCP with options take 192; the rest
    /// is for IPv6 extension headers, behind which a SYN must not hide.
    pub snaplen: u32,
    /// Kernel buffer an interface, bytes. Default 64 MiB: 75 ms of 1,500,000 frames a second that fill that snaplen (600 bytes
    /// each with the ring's own header), 300 ms of SYNs (150 bytes).
    pub buffer: u32,
    /// Promiscuous mode. Default true: a tap's frames are addressed to others.
    pub promiscuous: bool,
}

/// The interface of Linux that stands for all of them.
const ANY_INTERFACE: &str = "any";

impl CaptureConfig {
    /// Whether these interfaces can be captured on together.
    ///
    /// # Errors
    /// Why not, and what mends it.
    pub fn check_interfaces(names: &[String]) -> Result<(), String> {
        if names.iter().any(|name| name.trim().is_empty()) {
            return Err("an interface has no name; 'halfopen interfaces' lists them".to_owned());
        }
        let others = names.iter().any(|name| name != ANY_INTERFACE);
        if others && names.iter().any(|name| name == ANY_INTERFACE) {
            return Err("'any' takes in every interface, and would count the others twice; \
                        name it alone, or leave it out"
                .to_owned());
        }
        Ok(())
    }
}

impl Default for CaptureConfig {
    fn default() -> Self {
        Self { interfaces: Vec::new(), filter: None, snaplen: 512, buffer: 64 << 20, promiscuous: true }
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
    /// The connections followed after their handshake.
    pub established: EstablishedConfig,
}

impl Default for TableConfig {
    fn default() -> Self {
        Self {
            entries: 1 << 20,
            syn_sent_timeout: Duration::from_secs(63),
            syn_received_timeout: Duration::from_secs(63),
            emergency_timeout: Duration::from_secs(5),
            remembered: 1 << 18,
            established: EstablishedConfig::default(),
        }
    }
}

/// Stage 3: established connections, followed so that a half-open one shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EstablishedConfig {
    /// Bytes for them, 128 for three connections. Default 8 MiB: 196,608 connections. 0 follows none.
    pub memory: usize,
    /// One connection in so many is followed, chosen by a keyed hash. Default 1: every one.
    pub sample: u32,
    /// How long one end must have gone without an answer to be suspected of having lost the other. Default 10 s: past a mobile
    /// host's handover, and before Windows gives a connection up (five retransmissions, some 19 s).
    pub suspect_after: Duration,
}

impl Default for EstablishedConfig {
    fn default() -> Self {
        Self { memory: 8 << 20, sample: 1, suspect_after: Duration::from_secs(10) }
    }
}

/// Stage 5: the HTTP side.
#[derive(Debug, Clone, PartialEq)]
pub struct WebConfig {
    /// Addresses to listen on. Default 127.0.0.1:10793.
    pub listen: Vec<ListenAddress>,
    /// Names the HTTP side answers to besides its own. Default none: on loopback its own only, beyond loopback every name.
    pub hosts: Vec<String>,
    /// Path of the metrics. Default /metrics.
    pub telemetry_path: TelemetryPath,
    /// Servers beyond the configured ones that have series of their own. Default 50.
    pub top_servers: usize,
    /// TLS and passwords, in the exporter-toolkit's format. Default none: plain HTTP for everybody who gets there.
    pub config_file: Option<std::path::PathBuf>,
    /// What the page and the API show of the addresses of others. Default all of it.
    pub addresses: Addresses,
}

impl Default for WebConfig {
    fn default() -> Self {
        Self {
            listen: vec![ListenAddress::default()],
            hosts: Vec::new(),
            telemetry_path: TelemetryPath::default(),
            top_servers: 50,
            config_file: None,
            addresses: Addresses::default(),
        }
    }
}

/// The log, on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogConfig {
    /// What is said. Default info: starts, stops, incidents; nothing per packet at any level.
    pub level: LogLevel,
    /// How it is said. Default logfmt.
    pub format: LogFormat,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogLevel {
    /// What stopped working.
    Error,
    /// And what may need a hand.
    Warn,
    /// And what happened.
    #[default]
    Info,
    /// And how it was decided.
    Debug,
}

impl LogLevel {
    /// Every level, quietest first.
    pub const ALL: [Self; 4] = [Self::Error, Self::Warn, Self::Info, Self::Debug];

    /// Its name in the configuration and on the command line.
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// `key=value` pairs, as Prometheus and its exporters log.
    #[default]
    Logfmt,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// Every form.
    pub const ALL: [Self; 2] = [Self::Logfmt, Self::Json];

    /// Its name in the configuration and on the command line.
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Logfmt => "logfmt",
            Self::Json => "json",
        }
    }
}

/// The hosts whose SYN queue is modelled by name; anything else is a lifetime in seconds.
pub const PROFILES: [&str; 5] = ["linux", "linux-nocookies", "freebsd", "windows", "conntrack"];

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
    /// How its host keeps entries: one of [`PROFILES`], or a lifetime in seconds as a decimal number (`"45"`, `"1.5"`);
    /// none: inferred.
    pub profile: Option<String>,
}

impl ServerConfig {
    /// Whether an address and port belong to this entry.
    pub fn covers(&self, addr: IpAddr, port: u16) -> bool {
        let within = match (self.address, addr) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let shift = 32u32.saturating_sub(u32::from(self.prefix_len));
                shift >= 32 || (own.to_bits() ^ other.to_bits()) >> shift == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let shift = 128u32.saturating_sub(u32::from(self.prefix_len));
                shift >= 128 || (own.to_bits() ^ other.to_bits()) >> shift == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        };
        within && self.port.is_none_or(|own| own == port)
    }
}
