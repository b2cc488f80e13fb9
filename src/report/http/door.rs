//! Stage 5 of 5, report: one state of who gets in: certificates and passwords as they were read.
//!
//! Never changes; a changed file makes a new one. Knows nothing of what is served.

use crate::config::{ClientAuth, TlsFiles, TlsVersion, WebFile};
use crate::os_error;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

/// A hash of nobody's password, for users there are not: they take as long to refuse as those there are. Cost 10, the usual one.
const NOBODY: &str = "$2b$10$abcdefghijklmnopqrstuuOJsNBTSGw4vHAgBFpLhDpJ9bYJLIqC2";

/// Longest password looked at: bcrypt reads 72 bytes of it.
const LONGEST: usize = 1024;

/// Who gets in.
#[derive(Debug)]
pub(super) struct Door {
    tls: Option<Arc<ServerConfig>>,
    /// Nobody gets in without a certificate.
    certified: bool,
    names: Vec<ServerName<'static>>,
    users: BTreeMap<String, String>,
    /// The password each user last got in with: a scrape is not a tenth of a second of bcrypt.
    known: Mutex<BTreeMap<String, String>>,
    /// One hash at a time: whoever guesses takes one core and no more.
    hashing: Semaphore,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Default for Door {
    fn default() -> Self {
        Self {
            tls: None,
            certified: false,
            names: Vec::new(),
            users: BTreeMap::new(),
            known: Mutex::default(),
            hashing: Semaphore::new(1),
            headers: Vec::new(),
        }
    }
}

impl Door {
    /// As the file says.
    ///
    /// # Errors
    /// What is wrong with a certificate or a key, as one line.
    pub(super) fn new(web: &WebFile) -> Result<Self, String> {
        let tls = web.tls.as_ref();
        let name = |name: &String| {
            ServerName::try_from(name.clone()).map_err(|_| {
                format!("client_allowed_sans: '{}' is neither a DNS name nor an address", name.escape_debug())
            })
        };
        let header = |(name, value): &(&'static str, String)| {
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?))
        };
        Ok(Self {
            certified: tls.is_some_and(|tls| tls.client_auth == ClientAuth::Required),
            tls: tls.map(server_config).transpose()?.map(Arc::new),
            names: tls.map(|tls| tls.client_sans.iter().map(name).collect()).transpose()?.unwrap_or_default(),
            users: web.users.clone(),
            headers: web.headers.iter().filter_map(header).collect(),
            ..Self::default()
        })
    }

    /// How connections are encrypted; none: not at all.
    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.clone()
    }

    /// Whether everybody must show who he is.
    pub(super) fn asks(&self) -> bool {
        self.certified || !self.users.is_empty()
    }

    /// Whether a client's certificate, already verified, has one of the names; without one it was let through by its type.
    pub(super) fn admits(&self, certificate: Option<&CertificateDer<'_>>) -> bool {
        let Some(certificate) = certificate.filter(|_| !self.names.is_empty()) else { return true };
        let Ok(parsed) = ParsedCertificate::try_from(certificate) else { return false };
        self.names.iter().any(|name| verify_server_name(&parsed, name).is_ok())
    }

    /// Whether these headers have a user's name and password; the refusal where they do not.
    pub(super) async fn check(self: &Arc<Self>, headers: &HeaderMap) -> Result<(), Box<Response<Body>>> {
        if self.users.is_empty() {
            return Ok(());
        }
        let Some((user, password)) = credentials(headers) else { return Err(refusal()) };
        {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.get(&user).is_some_and(|known| equal(known.as_bytes(), password.as_bytes())) {
                return Ok(());
            }
        }
        let Ok(_turn) = self.hashing.acquire().await else { return Err(refusal()) };
        let door = Arc::clone(self);
        let right = tokio::task::spawn_blocking(move || door.verify(user, password)).await;
        if right.unwrap_or(false) { Ok(()) } else { Err(refusal()) }
    }

    fn verify(&self, user: String, password: String) -> bool {
        let hash = self.users.get(&user);
        let right = bcrypt::verify(&password, hash.map_or(NOBODY, String::as_str)).unwrap_or(false);
        if !right || hash.is_none() {
            return false;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(user, password);
        true
    }

    /// Adds the headers of the file to an answer; they go before ours.
    pub(super) fn dress(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
    }
}

/// Certificates of a chain, or a key: longer is none.
const LARGEST: u64 = 1 << 20;

fn server_config(files: &TlsFiles) -> Result<ServerConfig, String> {
    let versions: Vec<&'static SupportedProtocolVersion> =
        [(TlsVersion::Tls12, &TLS12), (TlsVersion::Tls13, &TLS13)]
            .into_iter()
            .filter(|(version, _)| (files.min..=files.max).contains(version))
            .map(|(_, version)| version)
            .collect();
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(|error| format!("tls_server_config: {error}; leave out min_version and max_version"))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(file)? {
                roots
                    .add(certificate)
                    .map_err(|error| of_file(file, &format!("{error}; name an authority's certificate")))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if files.client_auth == ClientAuth::IfGiven {
                verifier.allow_unauthenticated()
            } else {
                verifier
            };
            let verifier = verifier.build().map_err(|error| of_file(file, &error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::from_pem_slice(&contents(&files.key)?)
        // Not the library's words: they quote the line.
        .map_err(|_| {
            of_file(
                &files.key,
                "has no private key in PEM form; it begins with a line '-----BEGIN PRIVATE KEY-----'",
            )
        })?;
    let mut config = builder.with_single_cert(certificates(&files.cert)?, key).map_err(|error| {
        of_file(
            &files.cert,
            &format!("{error}; the key in {} must be that of its first certificate", files.key.display()),
        )
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&contents(file)?).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or_else(|| {
        of_file(file, "has no certificate in PEM form; it begins with a line '-----BEGIN CERTIFICATE-----'")
    })
}

fn contents(file: &Path) -> Result<Vec<u8>, String> {
    let read = || -> std::io::Result<Vec<u8>> {
        // Opening a pipe waits for whoever writes to it.
        if !std::fs::metadata(file)?.is_file() {
            return Err(std::io::ErrorKind::InvalidInput.into());
        }
        let mut bytes = Vec::new();
        File::open(file)?.take(LARGEST).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|error| of_file(file, &os_error::unreadable(&error)))
}

fn of_file(file: &Path, what: &str) -> String {
    os_error::one_line(&format!("{}: {what}", file.display()))
}

/// The user and password of basic authentication (RFC 7617).
fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || encoded.len() > 2 * LONGEST {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// Whether two are the same, in a time that does not tell where they differ.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

fn refusal() -> Box<Response<Body>> {
    let body = Body::from("{\"error\":\"a user name and password are needed\"}");
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    let headers = [
        (header::WWW_AUTHENTICATE, "Basic realm=\"halfopen\", charset=\"UTF-8\""),
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Box::new(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_nobody_is_one() {
        assert!(bcrypt::verify("x", NOBODY).is_ok_and(|right| !right));
    }

    #[test]
    fn credentials_are_those_of_the_rfc() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            credentials(&headers)
        };
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        // RFC 7617 section 2, and a password with a colon.
        assert_eq!(of("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), pair("Aladdin", "open sesame"));
        assert_eq!(of("basic YTpiOmM="), pair("a", "b:c"));
        for wrong in ["", "Basic", "Basic !", "Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Basic YWJj"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
