//! The binary's own part: the supervisor of one capture: one that fails is opened again, and counted.
//!
//! An interface that goes away is no failure: the source waits for it by itself. This is for what nobody foresaw.

use halfopen::capture::stop::StopHandle;
use halfopen::capture::{CaptureError, FrameSource};
use halfopen::pipeline::Sensor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// First pause before another try, doubled with each failure up to the longest: what fails at once must not fill the log.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// A capture that ran for so long was well: the pauses begin anew.
const WELL: Duration = Duration::from_secs(60);

/// How often a pause looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(100);

/// Runs a source to its end, and another that `again` opens wherever one fails or panics, until told to stop.
pub(super) fn run<S: FrameSource>(
    sensor: &Arc<Sensor>,
    name: &str,
    first: S,
    mut again: impl FnMut() -> Result<S, CaptureError>,
    stop: &StopHandle,
    restarts: &AtomicU64,
) {
    let mut source = Some(first);
    let mut pause = PAUSES.0;
    loop {
        let next = source.take().map_or_else(&mut again, Ok);
        let failed = match next {
            // Whatever a panic left half done is this source's own; what is shared is plain numbers behind locks that outlive it.
            Ok(running) => {
                #[allow(clippy::disallowed_methods)]
                // how long a capture lasted is a matter of the host, not of its packets
                let began = Instant::now();
                let ended = catch_unwind(AssertUnwindSafe(|| sensor.run_source(running)));
                if began.elapsed() >= WELL {
                    pause = PAUSES.0;
                }
                match ended {
                    Ok(Ok(())) => return,
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "panicked; the lines before say where, please report them".to_owned(),
                }
            }
            Err(error) => error.to_string(),
        };
        if stop.is_stopped() {
            return;
        }
        tracing::error!(msg = "capture failed; trying to open it again", interface = name, error = failed, after = ?pause);
        for _ in 0..pause.as_millis() / LOOK.as_millis() {
            if stop.is_stopped() {
                return;
            }
            std::thread::sleep(LOOK);
        }
        restarts.fetch_add(1, Ordering::Relaxed);
        pause = (pause * 2).min(PAUSES.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use halfopen::capture::{Frame, InterfaceCounters, LinkType, SourceEvent};
    use halfopen::config::Config;
    use halfopen::report::snapshot::SnapshotSource;
    use halfopen::time::Timestamp;

    /// Gives one frame, then does what it is told.
    struct Fault(Option<i64>, &'static str, Arc<InterfaceCounters>);

    impl FrameSource for Fault {
        fn next_event(&mut self) -> Result<SourceEvent<'_>, CaptureError> {
            if let Some(second) = self.0.take() {
                self.2.frames.fetch_add(1, Ordering::Relaxed);
                let ts = Timestamp::from_parts(second, 0);
                return Ok(SourceEvent::Frame(Frame {
                    ts,
                    link: LinkType::ETHERNET,
                    orig_len: 60,
                    data: &[0; 60],
                }));
            }
            match self.1 {
                "panic" => panic!("on purpose, of a test"),
                "error" => Err(CaptureError::NoDefaultRoute),
                _ => Ok(SourceEvent::End),
            }
        }

        fn publish(&mut self) {}

        fn counters(&self) -> Vec<Arc<InterfaceCounters>> {
            vec![Arc::clone(&self.2)]
        }
    }

    #[test]
    fn what_fails_is_opened_again_and_counted_and_judged_without() {
        let sensor = Sensor::repeatable(&Config::default(), Box::new(|_| {}));
        let counters = InterfaceCounters::new("tap0");
        counters.up.store(true, Ordering::Relaxed);
        let mut lives = vec![
            Fault(Some(9_000), "end", Arc::clone(&counters)),
            Fault(Some(2_000), "error", Arc::clone(&counters)),
        ];
        let again = || lives.pop().ok_or(CaptureError::NoDefaultRoute);
        let restarts = AtomicU64::new(0);
        let first = Fault(Some(1_000), "panic", Arc::clone(&counters));
        run(&sensor, "tap0", first, again, &StopHandle::new(), &restarts);
        assert_eq!(restarts.load(Ordering::Relaxed), 2);
        let snapshot = sensor.snapshot();
        assert_eq!(snapshot.interfaces.len(), 1, "one interface, however often opened");
        assert_eq!(snapshot.interfaces[0].frames, 3);
        // Time went on past what the dead threads had reached: nobody waits for them.
        assert!(sensor.judged().is_some_and(|at| at >= Timestamp::from_parts(9_000, 0)));
    }
}
