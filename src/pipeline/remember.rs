//! The history of the last minutes, or of a trace: a sample where bins of detection close, by network time.
//!
//! Runs on a packet thread, on ticks; decides nothing.

use super::shared::{Sensor, lock};
use super::view::handshakes;
use crate::detect::Detector;
use crate::report::history::{Sample, ServerSample};
use crate::time::Timestamp;
use crate::track::counts::LedgerCounts;

impl Sensor {
    /// Adds a sample to the history, where one is due. Sums of threads that are not there yet are as each last published them.
    pub(super) fn remember(&self, detector: &Detector, at: Timestamp) {
        let mut history = lock(&self.history);
        if !history.due(at) {
            return;
        }
        let threads = lock(&self.threads).clone();
        let mut ledger = LedgerCounts::default();
        let (mut frames, mut drops) = (0, 0);
        for thread in &threads {
            let published = lock(&thread.published);
            ledger.merge(&published.ledger);
            frames += published.frames.read;
        }
        for counters in threads.iter().flat_map(|thread| &thread.interfaces) {
            let stats = counters.load();
            drops += stats.drops_kernel + stats.drops_interface;
        }
        let counts = handshakes(&ledger);
        let wanted = history.servers();
        let views = if wanted > 0 { detector.servers(wanted) } else { Vec::new() };
        let servers = views.into_iter().filter(|view| view.configured || view.endpoint.is_some());
        let servers = servers.take(2 * wanted).map(|view| ServerSample {
            server: view.server.into(),
            attempts: view.attempts,
            completed: view.completed,
            embryonic: view.embryonic_syn_sent + view.embryonic_syn_received,
        });
        history.push(Sample {
            at,
            attempts: counts.attempts,
            completed: counts.closed[0],
            untracked: counts.untracked,
            syn_sent: counts.open_syn_sent,
            syn_received: counts.open_syn_received,
            frames,
            drops,
            servers: servers.collect(),
        });
    }
}
