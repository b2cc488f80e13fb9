//! The history of the last minutes, or of a trace: a sample where bins of detection close, by network time.
//!
//! Runs where bins are judged; decides nothing.

use super::shared::{Sensor, lock};
use super::view::handshakes;
use crate::detect::Detector;
use crate::report::history::{Sample, ServerSample};
use crate::time::Timestamp;
use crate::track::counts::LedgerCounts;

impl Sensor {
    /// Has the busiest servers in the history from now on; without it the history is of everything together.
    pub fn follow_servers(&self) {
        lock(&self.history).follow_servers();
    }

    /// Adds a sample to the history, where one is due. Of each thread what it had counted when it closed its last bin.
    pub(super) fn remember(&self, detector: &Detector, at: Timestamp) {
        let mut history = lock(&self.history);
        if !history.due(at) {
            return;
        }
        let threads = lock(&self.threads).clone();
        let mut ledger = LedgerCounts::default();
        let (mut frames, mut drops) = (0, 0);
        for thread in &threads {
            let closed = lock(&thread.closed);
            ledger.merge(&closed.ledger);
            frames += closed.frames.read;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::report::snapshot::SnapshotSource;
    use crate::synth::Scenario;
    use crate::synth::kinds::Handshakes;
    use crate::synth::scenario::Traffic;
    use crate::synth::source::SynthSource;
    use std::time::Duration;

    /// Ethernet and IPv4 without options: the flags of TCP are here.
    const FLAGS: usize = 14 + 20 + 13;

    #[test]
    fn a_sample_counts_what_came_before_it_and_nothing_after() {
        let handshakes = Handshakes { rate: 200.0, ..Handshakes::default() };
        let scenario = Scenario::new(5, Duration::from_secs(30)).with(Traffic::Handshakes(handshakes));
        let mut syns = Vec::new();
        let mut frames = Vec::new();
        scenario.stream().for_each(|at, frame| {
            frames.push(at);
            if frame[FLAGS] & 0x17 == 0x02 {
                syns.push(at);
            }
        });
        let sensor = Sensor::repeatable(&Config::default(), Box::new(|_| ()));
        sensor.follow_servers();
        sensor.run_source(SynthSource::new(scenario.stream())).unwrap();
        let samples = sensor.history();
        assert_eq!(samples.len(), 60, "one each half second");
        for sample in &samples {
            assert_eq!(sample.at.as_nanos() % 500_000_000, 0);
            let before = syns.iter().filter(|at| **at < sample.at).count() as u64;
            assert_eq!(sample.attempts, before, "at {}", sample.at);
            let open = sample.syn_sent + sample.syn_received;
            assert_eq!(sample.completed + open, before, "every client here completes");
            assert_eq!(sample.frames, frames.iter().filter(|at| **at < sample.at).count() as u64);
            assert_eq!(sample.servers.len(), 1);
            assert_eq!((&*sample.servers[0].server, sample.servers[0].attempts), ("192.0.2.10:80", before));
        }
    }

    #[test]
    fn two_threads_make_one_history() {
        let sensor = Sensor::new(&Config::default(), Box::new(|_| ()));
        std::thread::scope(|scope| {
            for seed in 0..2 {
                let sensor = &sensor;
                scope.spawn(move || {
                    let clients = crate::synth::address::Prefix::new([198, 51, 100 + seed, 0].into(), 24);
                    let handshakes = Handshakes { rate: 100.0, clients, ..Handshakes::default() };
                    let scenario = Scenario::new(u64::from(seed), Duration::from_secs(20));
                    let stream = scenario.with(Traffic::Handshakes(handshakes)).stream();
                    sensor.run_source(SynthSource::new(stream)).unwrap();
                });
            }
        });
        let samples = sensor.history();
        assert!(samples.windows(2).all(|two| two[1].at.since(two[0].at) >= Duration::from_secs(1)));
        assert!(
            samples
                .windows(2)
                .all(|two| two[0].attempts <= two[1].attempts && two[0].frames <= two[1].frames)
        );
        let last = samples.last().unwrap();
        assert!(last.attempts <= sensor.snapshot().handshakes.attempts);
        assert_eq!(last.servers, []);
    }
}
