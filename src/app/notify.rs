//! The binary's own part: telling systemd that the sensor is ready, lives, and stops (sd_notify(3)): datagrams to a socket it names.
//!
//! Says nothing where nobody listens. A lost message is no failure: systemd acts on their absence.

use halfopen::pipeline::Sensor;
use halfopen::time::Timestamp;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

/// Who started us, where that is somebody who wants to know.
#[derive(Debug)]
pub(super) struct Notifier {
    socket: UnixDatagram,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// As the environment says: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`. Connects at once: later it may not.
    pub(super) fn from_environment() -> Option<Self> {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let place = text("NOTIFY_SOCKET")?;
        match connect(&place) {
            Ok(socket) => {
                let own = text("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
                let micros = text("WATCHDOG_USEC").and_then(|micros| micros.parse().ok());
                let watchdog = micros.filter(|&micros| own && micros > 0).map(Duration::from_micros);
                Some(Self { socket, watchdog })
            }
            Err(error) => {
                tracing::warn!(msg = "cannot tell systemd anything", socket = place, %error);
                None
            }
        }
    }

    /// Tells it, without waiting.
    pub(super) fn tell(&self, what: &str) {
        let _ = self.socket.send(what.as_bytes());
    }

    /// Tells, for as long as it lives, that the sensor does: that every capture's bins are closed and judged, not merely that
    /// there is a process. Ends never, where a watchdog was asked for; at once otherwise.
    pub(super) async fn watch(&self, sensor: &Arc<Sensor>) {
        let Some(period) = self.watchdog else { return };
        let mut last = None;
        loop {
            let asked = Arc::clone(sensor);
            // Where the detector's lock is never given back, this never returns, and nothing is told: that is the point.
            let reached: Option<Timestamp> =
                tokio::task::spawn_blocking(move || asked.judged()).await.unwrap_or_default();
            if reached.is_none() || reached != last {
                self.tell("WATCHDOG=1");
            } else {
                tracing::warn!(
                    msg = "nothing was judged since the last look; the watchdog is not told of life"
                );
            }
            last = reached;
            // Half the period, as sd_watchdog_enabled(3) advises; a bin is half a second, and must end in between.
            tokio::time::sleep((period / 2).max(Duration::from_millis(500))).await;
        }
    }
}

fn connect(place: &str) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match place.strip_prefix('@') {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(place)?,
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}
