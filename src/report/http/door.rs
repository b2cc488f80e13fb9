//! Stage 5 of 5, report: one state of who gets in: certificates and passwords as they were read.
//!
//! Never changes; a changed file makes a new one. Knows nothing of what is served.

use crate::config::{ClientAuth, TlsFiles, TlsVersion, WebFile};
use crate::os_error;
use ::ring::hmac;
use ::ring::rand::SystemRandom;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
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

/// Who waits longer for his password to be looked at is told to come again; less than the 10 s that a scrape has.
const PATIENCE: Duration = Duration::from_secs(5);

/// Passwords of one peer that are looked at or wait for it, so that no guesser keeps the others waiting.
const MAX_WAITING: usize = 4;

/// What anybody may ask: it tells that the sensor lives, and nothing else.
const OPEN: [&str; 2] = ["/-/healthy", "/-/ready"];

/// Who gets in.
#[derive(Debug)]
pub(super) struct Door {
    tls: Option<Arc<ServerConfig>>,
    /// Nobody gets in without a certificate.
    certified: bool,
    names: Vec<ServerName<'static>>,
    users: BTreeMap<String, String>,
    /// Of the password each user last got in with, a keyed hash: a scrape is not a tenth of a second of bcrypt.
    known: Mutex<BTreeMap<String, hmac::Tag>>,
    /// The key, made anew at each start; none where the system gives no randomness, and then nothing is remembered.
    key: Option<hmac::Key>,
    /// One hash at a time: whoever guesses takes one core and no more.
    hashing: Arc<Semaphore>,
    /// How many of each peer wait for that; peers have connections, of which there are few.
    waiting: Mutex<HashMap<IpAddr, usize>>,
    patience: Duration,
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
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok(),
            hashing: Arc::new(Semaphore::new(1)),
            waiting: Mutex::default(),
            patience: PATIENCE,
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

    /// Whether these headers have a user's name and password, where what is asked for needs them; the refusal where they do not.
    pub(super) async fn check(
        self: &Arc<Self>,
        path: &str,
        headers: &HeaderMap,
        peer: IpAddr,
    ) -> Result<(), Box<Response<Body>>> {
        if self.users.is_empty() || OPEN.contains(&path) {
            return Ok(());
        }
        let Some((user, password)) = credentials(headers) else { return Err(refusal()) };
        if self.remembers(&user, &password) {
            return Ok(());
        }
        let Some(_place) = Waiting::enter(self, peer) else { return Err(busy()) };
        let turn = tokio::time::timeout(self.patience, Arc::clone(&self.hashing).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(busy()) };
        let door = Arc::clone(self);
        // The turn goes along: a hash cannot be stopped, and whoever hangs up meanwhile must not make room for a second one.
        let work = move || {
            let right = door.remembers(&user, &password) || door.verify(user, &password);
            drop(turn);
            right
        };
        let right = tokio::task::spawn_blocking(work).await;
        if right.unwrap_or(false) { Ok(()) } else { Err(refusal()) }
    }

    fn remembers(&self, user: &str, password: &str) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(key), Some(tag)) = (&self.key, known.get(user)) else { return false };
        hmac::verify(key, password.as_bytes(), tag.as_ref()).is_ok()
    }

    fn verify(&self, user: String, password: &str) -> bool {
        let hash = self.users.get(&user);
        let right = bcrypt::verify(password, hash.map_or(NOBODY, String::as_str)).unwrap_or(false);
        if !right || hash.is_none() {
            return false;
        }
        if let Some(key) = &self.key {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(user, hmac::sign(key, password.as_bytes()));
        }
        true
    }

    /// Adds the headers of the file to an answer; they go before ours.
    pub(super) fn dress(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
    }
}

/// One password of a peer that waits to be looked at.
struct Waiting<'d> {
    door: &'d Door,
    peer: IpAddr,
}

impl<'d> Waiting<'d> {
    /// None where as many of this peer wait already.
    fn enter(door: &'d Door, peer: IpAddr) -> Option<Self> {
        let mut waiting = door.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.entry(peer).or_default();
        if *count >= MAX_WAITING {
            return None;
        }
        *count += 1;
        Some(Self { door, peer })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.door.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = waiting.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.peer);
            }
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

fn refusal() -> Box<Response<Body>> {
    let challenge = (header::WWW_AUTHENTICATE, "Basic realm=\"halfopen\", charset=\"UTF-8\"");
    answer(StatusCode::UNAUTHORIZED, "a user name and password are needed", challenge)
}

fn busy() -> Box<Response<Body>> {
    let why = "other passwords are being looked at; try again in a second";
    answer(StatusCode::SERVICE_UNAVAILABLE, why, (header::RETRY_AFTER, "1"))
}

fn answer(status: StatusCode, why: &str, more: (HeaderName, &'static str)) -> Box<Response<Body>> {
    let mut response = Response::new(Body::from(serde_json::json!({ "error": why }).to_string()));
    *response.status_mut() = status;
    for (name, value) in
        [more, (header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")]
    {
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

    /// A door for alice, whose password is "open sesame", and the headers with which she or somebody else asks. Cost 4 is the least.
    fn door(cost: u32) -> Arc<Door> {
        let users = BTreeMap::from([("alice".to_owned(), bcrypt::hash("open sesame", cost).unwrap())]);
        Arc::new(Door { users, patience: Duration::from_millis(50), ..Door::default() })
    }

    fn headers(password: &str) -> HeaderMap {
        let value = format!("Basic {}", STANDARD.encode(format!("alice:{password}")));
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
    }

    async fn status(door: &Arc<Door>, path: &str, password: &str) -> u16 {
        let peer = IpAddr::from([198, 18, 0, 1]);
        let refused = door.check(path, &headers(password), peer).await.err();
        refused.map_or(200, |response| response.status().as_u16())
    }

    #[tokio::test]
    async fn a_password_once_found_right_costs_no_hash_and_is_not_kept() {
        let door = door(4);
        assert_eq!(status(&door, "/metrics", "closed").await, 401);
        assert_eq!(status(&door, "/metrics", "open sesame").await, 200);
        // From here on nothing can be hashed.
        let turn = door.hashing.acquire().await.unwrap();
        assert_eq!(status(&door, "/metrics", "open sesame").await, 200);
        assert_eq!(status(&door, "/metrics", "closed").await, 503, "not in time");
        assert_eq!(status(&door, "/-/healthy", "closed").await, 200);
        assert_eq!(status(&door, "/-/healthy/", "closed").await, 503, "that is another path");
        drop(turn);
        assert_eq!(status(&door, "/metrics", "closed").await, 401);
        let known = door.known.lock().unwrap();
        assert!(known["alice"].as_ref().len() == 32 && !format!("{door:?}").contains("sesame"));
    }

    #[tokio::test]
    async fn who_hangs_up_makes_no_room_for_another_hash() {
        let door = door(12);
        let headers = headers("closed");
        let peer = IpAddr::from([198, 18, 0, 1]);
        let hangs_up = door.check("/", &headers, peer);
        assert!(
            tokio::time::timeout(Duration::from_millis(1), hangs_up).await.is_err(),
            "a hash takes longer"
        );
        assert_eq!(door.hashing.available_permits(), 0, "its hash goes on");
        let _next = door.hashing.acquire().await.unwrap();
    }

    #[tokio::test]
    async fn a_guesser_leaves_room_for_others() {
        let door = door(4);
        let (guesser, other) = (IpAddr::from([198, 18, 0, 1]), IpAddr::from([198, 18, 0, 2]));
        let places: Vec<_> = (0..=MAX_WAITING).map(|_| Waiting::enter(&door, guesser)).collect();
        assert_eq!(places.iter().flatten().count(), MAX_WAITING);
        assert!(Waiting::enter(&door, other).is_some());
        assert_eq!(status(&door, "/", "open sesame").await, 503, "of the guesser's address");
        drop(places);
        assert!(door.waiting.lock().unwrap().is_empty());
        assert_eq!(status(&door, "/", "open sesame").await, 200);
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
