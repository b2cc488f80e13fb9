//! The binary's own part: `halfopen healthcheck`, what a container's health check asks a sensor on the same host.

use super::client::{Trust, agent, place, without_password};
use super::{Failure, Status, print};

/// Asks once. Whether the sensor speaks TLS need not be known: where plain HTTP is answered with something else it is asked again with
/// TLS. Its certificate is not looked at, for its name is that of the sensor elsewhere, and nothing said is secret.
pub(super) fn healthcheck(url: &str) -> Result<Status, Failure> {
    let place = place(url).map_err(Failure::Usage)?;
    let agent = agent(Trust::Anybody);
    let ask = |place: &str| agent.get(format!("{place}/-/healthy")).call();
    let mut answer = ask(&place);
    // A TLS alert is no HTTP: something is alive that does not let itself be asked in the clear.
    let tls = matches!(answer, Err(ureq::Error::Protocol(_)));
    if let Some(rest) = place.strip_prefix("http://").filter(|_| tls) {
        answer = ask(&format!("https://{rest}"));
    }
    match answer {
        Ok(_) => print("healthy\n").map(|()| Status::Done),
        // What comes first, the alert or the end of the connection, is a race.
        Err(ureq::Error::Rustls(_) | ureq::Error::Io(_)) if tls => {
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
