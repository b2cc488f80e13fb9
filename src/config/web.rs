//! Configuration: what the HTTP side listens on and where the metrics are, checked once where they come in.

use super::WebConfig;
use super::parse::{integer, list, one_of, parsed, string};
use super::reader::Section;
use super::sections::path;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// The port in the contract.
const DEFAULT_PORT: u16 = 10793;

/// The `[web]` section.
pub(super) fn section(mut section: Section<'_, '_, '_, '_>) -> WebConfig {
    let mut web = WebConfig::default();
    section.set(&mut web.listen, "listen_address", "\"127.0.0.1:10793\"", |value| {
        let addresses = list(value, parsed)?;
        if addresses.is_empty() { Err("must name at least one address".to_owned()) } else { Ok(addresses) }
    });
    section.set(&mut web.hosts, "hosts", "[\"halfopen.example.net\"]", |value| {
        list(value, |value| host(&string(value)?))
    });
    section.set(&mut web.telemetry_path, "telemetry_path", "\"/metrics\"", parsed);
    // Each server has some 25 series; 1000 servers are a scrape of 2 MB.
    section
        .set(&mut web.top_servers, "top_servers", "50", |value| integer(value, 0..=1000).map(|n| n as usize));
    section.set(&mut web.config_file, "config_file", "\"/etc/halfopen/web.yml\"", path);
    section.set(&mut web.addresses, "addresses", "\"full\"", |value| {
        one_of(value, &Addresses::ALL, Addresses::as_label)
    });
    section.finish();
    web
}

/// A host name or an address, as it stands in a Host header before the port.
fn host(text: &str) -> Result<String, String> {
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        return Ok(format!("[{text}]"));
    }
    // RFC 1035 section 2.3.4: 255 octets at most.
    if text.is_empty() || text.len() > 255 || !text.chars().all(name) {
        return Err(format!("'{}' is no host name; write it without scheme and port", text.escape_debug()));
    }
    Ok(text.to_owned())
}

/// Where to listen, in the forms Prometheus exporters accept: `127.0.0.1:10793`, `[::1]:10793`, `:10793`, `localhost:10793`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// `:port`: every address of the host, both families.
    Any(u16),
    /// One address and port; port 0 lets the system choose.
    Socket(SocketAddr),
    /// A host name, resolved when it is bound.
    Name(String, u16),
}

impl Default for ListenAddress {
    fn default() -> Self {
        Self::Socket(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DEFAULT_PORT))
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const MEND: &str = "write address:port, for example 127.0.0.1:10793, [::1]:10793 or :10793";
        if let Ok(address) = text.parse() {
            return Ok(Self::Socket(address));
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(format!("'{text}' has no port; {MEND}"));
        };
        let Ok(port) = port.parse() else {
            return Err(format!("'{port}' is not a port (0 to 65535); {MEND}"));
        };
        if host.is_empty() {
            return Ok(Self::Any(port));
        }
        let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        // A name of digits and dots only is an address that did not parse.
        let numeric = host.chars().all(|c| c.is_ascii_digit() || c == '.');
        if !numeric && host.chars().all(name) {
            return Ok(Self::Name(host.to_owned(), port));
        }
        let mend = if host.contains(':') { "put an IPv6 address in brackets: [::1]:10793" } else { MEND };
        Err(format!("'{host}' is neither an address nor a host name; {mend}"))
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any(port) => write!(f, ":{port}"),
            Self::Socket(address) => write!(f, "{address}"),
            Self::Name(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// The path of the metrics: absolute, plain characters, and none of the paths that are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelemetryPath(String);

impl TelemetryPath {
    /// The path, beginning with a slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TelemetryPath {
    fn default() -> Self {
        Self("/metrics".to_owned())
    }
}

impl FromStr for TelemetryPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const MEND: &str = "use an absolute path such as /metrics";
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | '~');
        if !text.starts_with('/') || !text.chars().all(plain) || text.contains("//") {
            return Err(format!("'{}' is not a plain absolute path; {MEND}", text.escape_debug()));
        }
        let taken = ["/-/", "/api/"].iter().any(|prefix| text.starts_with(prefix));
        if taken || text == "/" || text == "/style.css" {
            return Err(format!("'{text}' is taken by another page; {MEND}"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for TelemetryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the page and the API show of addresses that are not those of servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Addresses {
    /// All of it.
    #[default]
    Full,
    /// The /24 or /48 it is in, without the port.
    Prefix,
    /// Nothing.
    None,
}

impl Addresses {
    /// Every form.
    pub const ALL: [Self; 3] = [Self::Full, Self::Prefix, Self::None];

    /// Its name in the configuration.
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Prefix => "prefix",
            Self::None => "none",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listens_where_exporters_do() {
        for (text, means) in [
            ("127.0.0.1:10793", ListenAddress::default()),
            (":10793", ListenAddress::Any(10793)),
            ("0.0.0.0:0", ListenAddress::Socket(SocketAddr::from(([0, 0, 0, 0], 0)))),
            ("[::]:9", ListenAddress::Socket(SocketAddr::from(([0u16; 8], 9)))),
            ("localhost:9", ListenAddress::Name("localhost".to_owned(), 9)),
        ] {
            assert_eq!(text.parse(), Ok(means), "{text}");
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
        for text in ["", "127.0.0.1", "127.0.0.1:65536", "1.2.3:9", "::1:9", "a b:9", "host:", "x:-1"] {
            let error = text.parse::<ListenAddress>().unwrap_err();
            assert!(error.contains("; "), "{text}: {error} says what mends it");
        }
    }

    #[test]
    fn telemetry_path_cannot_shadow_another_page() {
        assert_eq!("/m".parse::<TelemetryPath>().unwrap().as_str(), "/m");
        for text in
            ["", "metrics", "/", "/-/reload", "/api/v1/servers", "/a?b", "/{x}", "/a//b", "/a b", "/\n"]
        {
            assert!(text.parse::<TelemetryPath>().is_err(), "{text}");
        }
    }
}
