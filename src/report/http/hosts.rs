//! Stage 5 of 5, report: which names a listener answers to, so that no page of another site can be a page of the sensor's.
//!
//! A browser lets a page read what comes from the name it was loaded from. Whoever owns a name may have it mean 127.0.0.1 a moment
//! later (DNS rebinding), and then his page reads the sensor behind the victim's firewall; but the browser still sends his name.
//! Looks nothing up: compares text.

use crate::report::text;
use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use std::net::{IpAddr, SocketAddr};

/// The names of one listener.
#[derive(Debug, Clone)]
pub(super) struct Hosts {
    /// Only what this machine calls itself is meant.
    loopback: bool,
    /// Beyond loopback, every name: none is configured, and whoever scrapes by a service's name shall not be locked out.
    every: bool,
    /// In lower case, without a port.
    names: Vec<String>,
}

impl Hosts {
    /// Of a listener at this address, which was called `own` where it was configured by a name; `configured` are the further names.
    pub(super) fn new(address: SocketAddr, own: Option<&str>, configured: &[String]) -> Self {
        let loopback = address.ip().to_canonical().is_loopback();
        let mut names = vec!["localhost".to_owned()];
        if !loopback {
            names.extend(machine());
        }
        names.extend(own.into_iter().map(str::to_owned).chain(configured.iter().cloned()));
        names.iter_mut().for_each(|name| *name = plain(name));
        Self { loopback, every: !loopback && configured.is_empty(), names }
    }

    /// Whether this request is meant for us; the refusal where it is not. A request without a name, as HTTP/1.0 has them, is none of
    /// a browser's.
    pub(super) fn check<B>(&self, request: &Request<B>) -> Result<(), Box<Response<Body>>> {
        if self.every {
            return Ok(());
        }
        // RFC 9112 section 3.2.2: a target with a name goes before the header.
        let target = request.uri().authority().map(|authority| authority.as_str().as_bytes());
        let mut sent = target
            .into_iter()
            .chain(request.headers().get_all(header::HOST).iter().map(HeaderValue::as_bytes));
        match sent.find(|host| !std::str::from_utf8(host).is_ok_and(|host| self.knows(host))) {
            Some(host) => Err(refusal(host)),
            None => Ok(()),
        }
    }

    fn knows(&self, host: &str) -> bool {
        let name = plain(without_port(host));
        let addr = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        // An address is not looked up, so nobody can have it mean another.
        addr.is_ok_and(|addr| !self.loopback || addr.to_canonical().is_loopback())
            || self.names.contains(&name)
    }
}

/// As it is compared: in lower case, without the dot that ends a complete name.
fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// `host:port` without its port; an IPv6 address stands in brackets (RFC 3986 section 3.2.2).
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) && !name.ends_with(':') => {
            name
        }
        _ => host,
    }
}

/// What this machine calls itself, whole and without its domain.
fn machine() -> Vec<String> {
    let Ok(name) = std::fs::read_to_string("/proc/sys/kernel/hostname") else { return Vec::new() };
    let name = name.trim();
    let short = name.split('.').next().unwrap_or_default();
    [name, short].into_iter().filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// 421 (RFC 9110 section 15.5.20): the request was meant for somebody else.
fn refusal(host: &[u8]) -> Box<Response<Body>> {
    let host = text::printable(&String::from_utf8_lossy(host));
    let why = format!(
        "this sensor is not '{host}'; ask it by its address, or add the name to web.hosts in its configuration"
    );
    let mut response = Response::new(Body::from(serde_json::json!({ "error": why }).to_string()));
    *response.status_mut() = StatusCode::MISDIRECTED_REQUEST;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Box::new(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(hosts: &Hosts, host: &str) -> bool {
        let request = Request::builder().header(header::HOST, host).body(()).unwrap();
        hosts.check(&request).is_ok()
    }

    fn of(address: &str, own: Option<&str>, configured: &[&str]) -> Hosts {
        let configured: Vec<String> = configured.iter().map(|&name| name.to_owned()).collect();
        Hosts::new(address.parse().unwrap(), own, &configured)
    }

    #[test]
    fn loopback_is_called_what_loopback_is_called() {
        for address in ["127.0.0.1:10793", "[::1]:10793", "[::ffff:127.0.0.1]:1"] {
            let hosts = of(address, None, &[]);
            for host in [
                "localhost",
                "LOCALHOST.:10793",
                "127.0.0.1",
                "127.0.0.1:8080",
                "127.9.9.9:1",
                "[::1]",
                "[::1]:10793",
            ] {
                assert!(answers(&hosts, host), "{address} {host}");
            }
            for host in [
                "evil.example",
                "localhost.evil.example:10793",
                "127.0.0.1.evil.example",
                "",
                ":1",
                "192.0.2.1",
                "localhost:x",
            ] {
                assert!(!answers(&hosts, host), "{address} {host}");
            }
        }
        let hosts = of("127.0.0.1:1", Some("sensor.example"), &["Grafana.example.", "192.0.2.1"]);
        for host in ["sensor.example:1", "grafana.example", "192.0.2.1:80"] {
            assert!(answers(&hosts, host), "{host}");
        }
        assert!(!answers(&hosts, "sensor"));
    }

    #[test]
    fn beyond_loopback_every_name_unless_some_are_configured() {
        let open = of("0.0.0.0:10793", None, &[]);
        assert!(answers(&open, "evil.example") && answers(&open, "halfopen.monitoring.svc:10793"));
        let named = of("[::]:10793", None, &["sensor.example"]);
        for host in
            ["sensor.example:10793", "192.0.2.1:10793", "[2001:db8::1]:10793", "[2001:db8::1]", "localhost"]
        {
            assert!(answers(&named, host), "{host}");
        }
        assert!(!answers(&named, "evil.example"));
        let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert!(answers(&named, own.trim()), "{own}");
    }

    #[test]
    fn every_name_of_a_request_is_looked_at() {
        let hosts = of("127.0.0.1:1", None, &[]);
        assert!(hosts.check(&Request::builder().body(()).unwrap()).is_ok(), "HTTP/1.0");
        let two = Request::builder().header(header::HOST, "localhost").header(header::HOST, "evil.example");
        assert!(hosts.check(&two.body(()).unwrap()).is_err());
        let absolute = Request::builder().uri("http://evil.example/").header(header::HOST, "localhost");
        let refused = hosts.check(&absolute.body(()).unwrap()).unwrap_err();
        assert_eq!(refused.status(), 421);
        let bytes =
            Request::builder().header(header::HOST, HeaderValue::from_bytes(b"localhost\xff").unwrap());
        assert!(hosts.check(&bytes.body(()).unwrap()).is_err());
    }
}
