//! The binary's own part: how its own commands ask a sensor that runs: where it is, and whom to believe that it is there.

use super::Failure;
use halfopen::os_error;
use std::path::Path;
use std::time::Duration;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// A sensor that does not answer within this time is said not to.
const PATIENCE: Duration = Duration::from_secs(3);

/// Whose word is taken for a sensor behind TLS.
pub(super) enum Trust {
    /// The authorities that browsers know.
    Public,
    /// Those of a file.
    Of(RootCerts),
    /// Anybody's: for a question in which nothing is secret, the answer neither.
    Anybody,
}

impl Trust {
    /// The authorities of a file of certificates, PEM; the public ones where none is named.
    pub(super) fn of(file: Option<&Path>) -> Result<Self, Failure> {
        let Some(file) = file else { return Ok(Self::Public) };
        let wrong = |what: &str| Failure::Usage(format!("--ca: {}: {what}", file.display()));
        let text = std::fs::read(file).map_err(|error| wrong(&os_error::unreadable(&error)))?;
        let certificates: Vec<Certificate<'static>> = parse_pem(&text)
            .filter_map(|item| if let Ok(PemItem::Certificate(one)) = item { Some(one) } else { None })
            .collect();
        if certificates.is_empty() {
            return Err(wrong(
                "has no certificate in PEM form; it begins with a line '-----BEGIN CERTIFICATE-----'",
            ));
        }
        Ok(Self::Of(RootCerts::new_with_certs(&certificates)))
    }
}

/// A client that keeps its connection.
pub(super) fn agent(trust: Trust) -> ureq::Agent {
    let tls = match trust {
        Trust::Public => TlsConfig::builder(),
        Trust::Of(authorities) => TlsConfig::builder().root_certs(authorities),
        Trust::Anybody => TlsConfig::builder().disable_verification(true),
    };
    ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).tls_config(tls.build()).build().into()
}

/// The sensor's address without a slash at its end, or what is wrong with it. Without a scheme it is plain HTTP.
pub(super) fn place(url: &str) -> Result<String, String> {
    let with_scheme = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let place = with_scheme.trim_end_matches('/').to_owned();
    let rest = place.strip_prefix("http://").or_else(|| place.strip_prefix("https://"));
    if rest.is_none_or(|rest| rest.is_empty() || rest.contains(char::is_whitespace)) {
        return Err(format!("--url: '{url}' is no address of a sensor; write http://127.0.0.1:10793"));
    }
    Ok(place)
}

/// For the screen: who looks over a shoulder need not read it.
pub(super) fn without_password(place: &str) -> String {
    let Some((scheme, rest)) = place.split_once("://") else { return place.to_owned() };
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    format!("{scheme}://{host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (url, expected) in [
            ("http://127.0.0.1:10793", "http://127.0.0.1:10793"),
            ("https://sensor:10793/", "https://sensor:10793"),
            ("sensor:10793/", "http://sensor:10793"),
            ("http://a:b@sensor:1/x/", "http://a:b@sensor:1/x"),
        ] {
            assert_eq!(place(url).as_deref(), Ok(expected));
        }
        for url in ["", "ftp://x", "http://", "https://", "a b"] {
            assert!(place(url).unwrap_err().contains("http://127.0.0.1:10793"), "{url}");
        }
        assert_eq!(without_password("https://a:b@sensor:1/x"), "https://sensor:1/x");
        assert_eq!(without_password("http://sensor:1"), "http://sensor:1");
    }
}
