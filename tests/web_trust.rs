//! Who gets in: TLS, clients' certificates and passwords of a running sensor, asked by a real client; files changed under it.
//!
//! Needs the right to capture (on the loopback interface); elsewhere each test says that it was skipped.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that fails should say so at once"
)]
#![allow(unreachable_pub, reason = "its modules are its own")]

#[path = "web_trust/addresses.rs"]
mod addresses;
mod support;

use halfopen::capture::LinkType;
use halfopen::capture::memory::MemorySource;
use halfopen::config::{Addresses, Config};
use halfopen::decode::segment::{Endpoint, TcpFlags};
use halfopen::pipeline::Sensor;
use halfopen::synth::Scenario;
use halfopen::synth::frame::{Packet, Wire};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustix::process::geteuid;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use support::process::{Process, Signal};
use support::served::{Served, example};
use support::{skipped, wait_for};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

const PATIENCE: Duration = Duration::from_secs(30);

/// An authority of this test's own.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for this name, and its key.
    fn sign(&self, name: &str, purpose: ExtendedKeyUsagePurpose) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// A directory of one test, with a web configuration in it.
struct Place(PathBuf);

impl Place {
    fn make() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("halfopen-web-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) {
        // As certificates are renewed: never half a file.
        let beside = self.0.join(format!("{name}.new"));
        fs::write(&beside, text).unwrap();
        fs::rename(beside, self.0.join(name)).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_halfopen"));
    command
        .args(["run", "-i", "lo", "-f", "tcp port 10799", "--web.listen-address", "127.0.0.1:0"])
        .args(arguments);
    command
}

/// A sensor with this web configuration, and where it listens; none where this user may not capture.
fn start(place: &Place, arguments: &[&str]) -> Option<(Process, SocketAddr)> {
    if !geteuid().is_root() {
        skipped("web side: needs root, to capture");
        return None;
    }
    let file = place.path("web.yml");
    let mut process = Process::start(command(&["--web.config.file", &file]).args(arguments));
    let line = process.wait_for_line("msg=listening", PATIENCE);
    let address = line.split("://").nth(1).unwrap().split('/').next().unwrap().parse().unwrap();
    Some((process, address))
}

/// A client that trusts these authorities and shows this certificate.
fn client(authority: Option<&Authority>, shown: Option<&(String, String)>) -> ureq::Agent {
    let roots: Vec<Certificate<'static>> =
        authority.map(|one| Certificate::from_pem(one.pem.as_bytes()).unwrap()).into_iter().collect();
    let shown = shown.map(|(certificate, key)| {
        let chain = [Certificate::from_pem(certificate.as_bytes()).unwrap()];
        ClientCert::new_with_certs(&chain, PrivateKey::from_pem(key.as_bytes()).unwrap())
    });
    let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&roots)).client_cert(shown).build();
    ureq::Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .max_idle_connections(0)
        .timeout_global(Some(PATIENCE))
        .build()
        .into()
}

/// The status of an answer, or why there is none.
fn status(client: &ureq::Agent, url: &str, password: Option<&str>) -> Result<u16, String> {
    let mut request = client.get(url);
    if let Some(password) = password {
        request = request.header("Authorization", format!("Basic {password}"));
    }
    request.call().map(|answer| answer.status().as_u16()).map_err(|why| why.to_string())
}

const TLS: &str = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";

fn serve(place: &Place, authority: &Authority, name: &str) {
    let (certificate, key) = authority.sign(name, ExtendedKeyUsagePurpose::ServerAuth);
    place.write("server.key", &key);
    place.write("server.crt", &certificate);
}

#[test]
fn tls_is_spoken_and_a_renewed_certificate_is_used_without_a_restart() {
    let (place, old, new) = (Place::make(), Authority::new(), Authority::new());
    place.write("web.yml", TLS);
    serve(&place, &old, "127.0.0.1");
    let Some((mut process, address)) = start(&place, &[]) else { return };
    let url = format!("https://{address}/metrics");
    assert_eq!(status(&client(Some(&old), None), &url, None), Ok(200));
    assert!(status(&client(Some(&new), None), &url, None).is_err(), "another authority's client");
    let plain = format!("http://{address}/metrics");
    assert!(status(&client(None, None), &plain, None) != Ok(200), "unencrypted");

    serve(&place, &new, "127.0.0.1");
    wait_for("the new certificate", PATIENCE, || status(&client(Some(&new), None), &url, None));
    assert!(status(&client(Some(&old), None), &url, None).is_err());

    // A key that is not the certificate's: the old pair stays, and it is said.
    place.write("server.key", &KeyPair::generate().unwrap().serialize_pem());
    wait_for("the refusal in the log", PATIENCE, || {
        assert_eq!(status(&client(Some(&new), None), &url, None), Ok(200));
        let said = process.stderr();
        if said.contains("web configuration not read again, the old one stays") { Ok(()) } else { Err(said) }
    });
    // A client that says nothing does not hold a place, nor the others up.
    let mut silent = TcpStream::connect(address).unwrap();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(status(&client(Some(&new), None), &url, None), Ok(200));
    assert!(matches!(silent.read(&mut [0; 100]), Ok(0) | Err(_)), "closed");
    process.signal(Signal::Terminate);
    assert_eq!(process.wait(Duration::from_secs(2)).code(), Some(0));
}

#[test]
fn clients_show_certificates_of_the_named_authority_and_of_the_named_clients() {
    let (place, ours, theirs) = (Place::make(), Authority::new(), Authority::new());
    let required = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n";
    place.write("web.yml", &format!("{TLS}{required}  client_allowed_sans:\n    - prometheus.example\n"));
    place.write("ca.crt", &ours.pem);
    serve(&place, &ours, "127.0.0.1");
    let Some((_process, address)) = start(&place, &[]) else { return };
    let url = format!("https://{address}/metrics");
    let purpose = || ExtendedKeyUsagePurpose::ClientAuth;
    let good = ours.sign("prometheus.example", purpose());
    let unnamed = ours.sign("other.example", purpose());
    let foreign = theirs.sign("prometheus.example", purpose());
    let ask = |shown| status(&client(Some(&ours), shown), &url, None);
    assert_eq!(ask(Some(&good)), Ok(200));
    assert!(ask(None).is_err(), "none shown");
    assert!(ask(Some(&unnamed)).is_err(), "of ours, but not named");
    assert!(ask(Some(&foreign)).is_err(), "another authority's");

    place.write(
        "web.yml",
        &format!("{TLS}{}", required.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven")),
    );
    wait_for("one who shows nothing let in", PATIENCE, || ask(None));
    assert!(ask(Some(&foreign)).is_err(), "whoever shows one shows a good one");
}

#[test]
fn passwords_are_asked_for_everywhere_and_changed_without_a_restart() {
    let place = Place::make();
    // Cost 4, the least there is: the test waits for it.
    let user =
        |password: &str| format!("basic_auth_users:\n  alice: {}\n", bcrypt::hash(password, 4).unwrap());
    place.write(
        "web.yml",
        &(user("open sesame") + "http_server_config:\n  headers:\n    X-Frame-Options: deny\n"),
    );
    let Some((mut process, address)) = start(&place, &[]) else { return };
    let client = client(None, None);
    let at = |path: &str| format!("http://{address}{path}");
    // "alice:open sesame", "alice:closed", "bob:open sesame", by `base64`.
    let (right, wrong, stranger) = ("YWxpY2U6b3BlbiBzZXNhbWU=", "YWxpY2U6Y2xvc2Vk", "Ym9iOm9wZW4gc2VzYW1l");
    // Docker and Kubernetes have none, and learn no more than that the sensor lives.
    for (path, said) in [("/-/healthy", "halfopen is healthy.\n"), ("/-/ready", "halfopen is ready.\n")] {
        wait_for("every capture up", PATIENCE, || match status(&client, &at(path), None) {
            Ok(200) => Ok(()),
            other => Err(format!("{path}: {other:?}")),
        });
        assert_eq!(client.get(at(path)).call().unwrap().body_mut().read_to_string().unwrap(), said);
    }
    for path in ["/", "/metrics", "/-/healthy/", "/-/reload", "/api/v1/servers", "/nothing", "/style.css"] {
        for no in [None, Some(wrong), Some(stranger), Some("!")] {
            assert_eq!(status(&client, &at(path), no), Ok(401), "{path} with {no:?}");
        }
        assert_ne!(status(&client, &at(path), Some(right)), Ok(401), "{path}");
    }
    let answer = client.get(at("/metrics")).header("Authorization", format!("Basic {right}")).call().unwrap();
    assert_eq!(answer.headers()["x-frame-options"], "deny");
    let refused = client.get(at("/metrics")).call().unwrap();
    assert!(refused.headers()["www-authenticate"].to_str().unwrap().starts_with("Basic "));

    place.write("web.yml", &user("closed"));
    wait_for("the new password", PATIENCE, || match status(&client, &at("/metrics"), Some(wrong)) {
        Ok(200) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(status(&client, &at("/metrics"), Some(right)), Ok(401), "the old one is forgotten");
    place.write("web.yml", "basic_auth_users: [\n");
    wait_for("the refusal in the log", PATIENCE, || {
        assert_eq!(status(&client, &at("/metrics"), Some(wrong)), Ok(200));
        assert_eq!(status(&client, &at("/metrics"), None), Ok(401), "a broken file opens nothing");
        let said = process.stderr();
        if said.contains("the old one stays") { Ok(()) } else { Err(said) }
    });
    assert!(!process.stderr().contains("closed"), "no password in the log");
    process.signal(Signal::Terminate);
    process.wait(Duration::from_secs(2));
}

/// What `halfopen healthcheck` says and ends with.
fn healthcheck(url: &str) -> (Option<i32>, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_halfopen")).args(["healthcheck", "--url", url]).output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[test]
fn a_health_check_needs_to_know_neither_tls_nor_a_password() {
    let (place, authority) = (Place::make(), Authority::new());
    serve(&place, &authority, "sensor.example");
    place.write("ca.crt", &authority.pem);
    let user = format!("basic_auth_users:\n  alice: {}\n", bcrypt::hash("x", 4).unwrap());
    let client = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n";
    for (web, said) in [
        (String::new(), "healthy\n"),
        (user.clone(), "healthy\n"),
        (TLS.to_owned() + &user, "healthy\n"),
        (TLS.to_owned() + client, "lives, and wants a certificate to say more\n"),
        (format!("{TLS}{client}  max_version: TLS12\n"), "lives, and wants a certificate to say more\n"),
    ] {
        place.write("web.yml", &web);
        let Some((mut process, address)) = start(&place, &[]) else { return };
        for url in [address.to_string(), format!("http://{address}/")] {
            assert_eq!(healthcheck(&url), (Some(0), said.to_owned()), "{web}");
        }
        process.signal(Signal::Terminate);
        process.wait(PATIENCE);
        let (status, why) = healthcheck(&address.to_string());
        assert!(status == Some(1) && why.lines().count() == 1 && why.contains("--url"), "{status:?} {why}");
    }
    // Something else that listens there and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (status, why) = healthcheck(&silent.local_addr().unwrap().to_string());
    assert_eq!(status, Some(1), "{why}");
    assert_eq!(healthcheck("ftp://x").0, Some(2));
}

#[test]
fn a_wrong_web_configuration_is_told_at_the_start() {
    let place = Place::make();
    for (text, said) in [
        (
            "basic_auth_usrs:\n  a: b\n",
            "line 1: basic_auth_usrs: unknown key; did you mean 'basic_auth_users'?",
        ),
        (TLS, "server.key: no such file"),
    ] {
        place.write("web.yml", text);
        if !geteuid().is_root() {
            skipped("web side: needs root, to capture");
            return;
        }
        let mut process = Process::start(&mut command(&["--web.config.file", &place.path("web.yml")]));
        assert_eq!(process.wait(PATIENCE).code(), Some(2), "{}", process.describe());
        assert!(process.stderr().contains(said), "{}", process.stderr());
    }
}

#[test]
fn beyond_loopback_without_a_password_is_warned_of() {
    if !geteuid().is_root() {
        skipped("web side: needs root, to capture");
        return;
    }
    let place = Place::make();
    place.write("web.yml", &format!("basic_auth_users:\n  a: {}\n", bcrypt::hash("x", 4).unwrap()));
    let file = place.path("web.yml");
    let anywhere: &[&str] = &["--web.listen-address", "0.0.0.0:0"];
    for (arguments, warned) in [
        (vec![], None),
        (anywhere.to_vec(), Some("without a password")),
        ([anywhere, &["--web.config.file", &file]].concat(), Some("unencrypted")),
    ] {
        let mut process = Process::start(&mut command(&arguments));
        process.wait_for_line("msg=capturing", PATIENCE);
        let said = process.stderr();
        for words in ["without a password", "unencrypted"] {
            assert_eq!(said.contains(words), warned == Some(words), "{said}");
        }
    }
}
