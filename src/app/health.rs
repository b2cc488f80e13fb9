//! The binary's own part: `halfopen healthcheck`, what a container's health check asks a sensor on the same host.

use super::client::{Trust, agent, place, without_password};
use super::{Failure, Status, print};

/// What rustls says where a sensor wants a certificate and gets none: it lives.
const WANTS_CERTIFICATE: &str = "CertificateRequired";

/// Asks once. Whether the sensor speaks TLS need not be known: where it does not understand plain HTTP it is asked again with TLS. Its
/// certificate is not looked at, for its name is that of the sensor elsewhere, and nothing said is secret.
pub(super) fn healthcheck(url: &str) -> Result<Status, Failure> {
    let place = place(url).map_err(Failure::Usage)?;
    let agent = agent(Trust::Anybody);
    let ask = |place: &str| agent.get(format!("{place}/-/healthy")).call();
    let answer = match (ask(&place), place.strip_prefix("http://")) {
        (Err(ureq::Error::Io(error)), _) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            Err(ureq::Error::Io(error))
        }
        (Err(error), Some(rest)) if !matches!(error, ureq::Error::StatusCode(_)) => {
            ask(&format!("https://{rest}"))
        }
        (answer, _) => answer,
    };
    match answer {
        Ok(_) => print("healthy\n").map(|()| Status::Done),
        Err(error) if error.to_string().contains(WANTS_CERTIFICATE) => {
            print("lives, and wants a certificate to say more\n").map(|()| Status::Done)
        }
        Err(error) => {
            let place = without_password(&place);
            Err(Failure::Running(format!(
                "{place}: {error}; is a sensor running there? Name another with --url"
            )))
        }
    }
}
