//! Bins that packet threads have closed, on their way to being judged.
//!
//! Holds what a thread had counted at that moment, and lets the threads wait for one another's bins. Judges nothing.

use super::shared::{Published, Sensor, Thread, lock};
use crate::time::Timestamp;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Bins closed and not yet judged, or not yet waiting for another thread's.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    number: Mutex<usize>,
    fewer: Condvar,
}

/// A bin that a thread has closed.
pub(super) struct Closing {
    pub(super) thread: Arc<Thread>,
    /// Where it ends.
    pub(super) end: Timestamp,
    /// What the thread had counted by then.
    pub(super) counts: Published,
    under_way: Arc<UnderWay>,
}

impl Sensor {
    /// A thread closes a bin: to be handed to [`Sensor::bin_closed`] with what it observed. Waits until every bin closed before has been
    /// dealt with.
    pub(super) fn closing(&self, thread: &Arc<Thread>, end: Timestamp) -> Closing {
        let counts = lock(&thread.published).clone();
        let number = lock(&self.under_way.number);
        let waited = self.under_way.fewer.wait_while(number, |number| *number > 0);
        *waited.unwrap_or_else(PoisonError::into_inner) += 1;
        Closing { thread: Arc::clone(thread), end, counts, under_way: Arc::clone(&self.under_way) }
    }
}

impl Drop for Closing {
    /// Also where judging panics: nobody may wait for it for ever.
    fn drop(&mut self) {
        *lock(&self.under_way.number) -= 1;
        self.under_way.fewer.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, EvidenceConfig};
    use crate::report::evidence::FrameStore;
    use crate::report::snapshot::SnapshotSource;
    use crate::synth::Scenario;
    use crate::synth::kinds::{Answers, Flood, Handshakes};
    use crate::synth::scenario::Traffic;
    use crate::synth::source::SynthSource;
    use std::time::Duration;

    /// A flood beside handshakes, more events a bin than a packet thread sums up itself, and fewer than it can run ahead by; `slow`: how
    /// long the judge takes over each change it tells. What was told and by which threads, and what can be read in the end.
    fn judged(slow: Duration) -> (String, Vec<Option<String>>) {
        let told = Arc::new(Mutex::new((String::new(), Vec::new())));
        let hear = Arc::clone(&told);
        let sensor = Sensor::repeatable(
            &Config::default(),
            Box::new(move |entry| {
                std::thread::sleep(slow);
                let mut told = lock(&hear);
                told.0 += &format!("{entry:?}\n");
                told.1.push(std::thread::current().name().map(str::to_owned));
            }),
        );
        sensor.follow_servers();
        let counts = Arc::default();
        sensor.keep_evidence(FrameStore::new(&EvidenceConfig::default(), &counts).unwrap());
        let flood = Flood {
            rate: 12_000.0,
            start: Duration::from_secs(20),
            count: 72_000,
            answers: Answers::Queue,
            ..Flood::default()
        };
        let handshakes = Handshakes { rate: 200.0, ..Handshakes::default() };
        let scenario = Scenario::new(4, Duration::from_secs(40))
            .with(Traffic::Flood(flood))
            .with(Traffic::Handshakes(handshakes));
        sensor.run_source(SynthSource::new(scenario.stream())).unwrap();
        let (mut all, threads) = std::mem::take(&mut *lock(&told));
        all += &format!("{:?}\n", sensor.history());
        let snapshot = sensor.snapshot();
        all += &format!("{:?}\n{:?}\n{:?}\n", snapshot.incidents, snapshot.servers, snapshot.handshakes);
        for incident in &snapshot.incidents {
            all += &format!("{:?}\n", sensor.pcap(&incident.id));
        }
        (all, threads)
    }

    #[test]
    fn how_long_judging_takes_changes_nothing() {
        let (quick, threads) = judged(Duration::ZERO);
        assert!(!threads.is_empty());
        if std::thread::available_parallelism().is_ok_and(|processors| processors.get() > 1) {
            assert!(threads.contains(&Some("events".to_owned())), "{threads:?}");
        }
        // Long enough for the packet thread to come to the end of the next bin.
        let (slow, _) = judged(Duration::from_millis(100));
        assert!(quick == slow, "{}", quick.lines().zip(slow.lines()).filter(|(a, b)| a != b).count());
    }
}
