//! Stage 5 of 5, report: the last minutes, or a whole trace, as a bounded row of samples.
//!
//! Reads no clock and decides nothing: whoever adds a sample says of when it is.

use crate::time::Timestamp;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// A live sensor's samples: one a second, as often as the page asks.
const LIVE_STEP: Duration = Duration::from_secs(1);

/// Five minutes of them: on a phone's screen a pixel each.
const LIVE_SAMPLES: usize = 301;

/// A trace is sampled with every bin of detection at first.
pub(super) const TRACE_STEP: Duration = Duration::from_millis(500);

/// Where a trace's samples are this many, every other goes and the step doubles: 240 to 480 points for a trace of any length.
const TRACE_SAMPLES: usize = 481;

/// Servers in each sample of a trace. With 481 samples that is less than a megabyte.
const TRACE_SERVERS: usize = 24;

/// Sums and gauges at one moment of network time.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// When.
    pub at: Timestamp,
    /// Attempts so far.
    pub attempts: u64,
    /// Completed so far.
    pub completed: u64,
    /// SYNs so far that the full table could only count.
    pub untracked: u64,
    /// Open then, SYN-ACK not seen.
    pub syn_sent: u64,
    /// Open then, SYN-ACK seen.
    pub syn_received: u64,
    /// Frames captured so far.
    pub frames: u64,
    /// Frames lost before us so far.
    pub drops: u64,
    /// The busiest servers, where the history keeps any.
    pub servers: Vec<ServerSample>,
}

/// One server in a sample.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerSample {
    /// As in `ServerView`.
    pub server: Arc<str>,
    /// Attempts so far.
    pub attempts: u64,
    /// Completed so far.
    pub completed: u64,
    /// Embryonic then.
    pub embryonic: u64,
}

/// Samples, oldest first, of bounded number.
#[derive(Debug)]
pub struct History {
    samples: VecDeque<Sample>,
    step: Duration,
    /// Holds the whole trace ever more coarsely, rather than the end of it.
    whole: bool,
    servers: usize,
}

impl History {
    /// The last five minutes, a sample a second.
    pub fn last_minutes() -> Self {
        Self { samples: VecDeque::with_capacity(LIVE_SAMPLES), step: LIVE_STEP, whole: false, servers: 0 }
    }

    /// A trace from its beginning to its end, however long it gets.
    pub fn whole_trace() -> Self {
        Self { samples: VecDeque::with_capacity(TRACE_SAMPLES), step: TRACE_STEP, whole: true, servers: 0 }
    }

    /// Whether a sample of this moment would be taken.
    pub fn due(&self, at: Timestamp) -> bool {
        self.samples.back().is_none_or(|last| at >= last.at.plus(self.step))
    }

    /// Has the busiest servers in every sample from now on, for whoever draws them. It takes sorting all servers for each sample.
    pub const fn follow_servers(&mut self) {
        self.servers = TRACE_SERVERS;
    }

    /// How many servers a sample should have.
    pub const fn servers(&self) -> usize {
        self.servers
    }

    /// Adds a sample; one that is not due is left out.
    pub fn push(&mut self, mut sample: Sample) {
        if !self.due(sample.at) {
            return;
        }
        if self.whole && self.samples.len() == TRACE_SAMPLES {
            self.thin();
            if !self.due(sample.at) {
                return;
            }
        } else if self.samples.len() == LIVE_SAMPLES && !self.whole {
            self.samples.pop_front();
        }
        self.share_names(&mut sample);
        self.samples.push_back(sample);
    }

    /// A copy, oldest first.
    pub fn samples(&self) -> Vec<Sample> {
        self.samples.iter().cloned().collect()
    }

    /// Every other sample goes; sums and gauges of the others stay what they were.
    fn thin(&mut self) {
        let mut index = 0;
        self.samples.retain(|_| {
            index += 1;
            index % 2 == 1
        });
        self.step *= 2;
    }

    /// A server that was in the sample before has its name once.
    fn share_names(&self, sample: &mut Sample) {
        let Some(last) = self.samples.back() else { return };
        for one in &mut sample.servers {
            if let Some(known) = last.servers.iter().find(|known| known.server == one.server) {
                one.server = Arc::clone(&known.server);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(millis: i64) -> Sample {
        Sample {
            at: Timestamp::from_nanos(millis * 1_000_000),
            attempts: millis as u64,
            completed: 0,
            untracked: 0,
            syn_sent: 0,
            syn_received: 0,
            frames: 0,
            drops: 0,
            servers: vec![ServerSample { server: "shop".into(), attempts: 0, completed: 0, embryonic: 0 }],
        }
    }

    #[test]
    fn the_last_minutes_are_the_last() {
        let mut history = History::last_minutes();
        for half_seconds in 0..2000 {
            history.push(sample(half_seconds * 500));
        }
        let samples = history.samples();
        assert_eq!(samples.len(), 301);
        assert_eq!(samples[300].at.since(samples[0].at), Duration::from_secs(300));
        assert_eq!(samples[300].attempts, 999_000);
    }

    #[test]
    fn a_trace_of_any_length_is_held_from_its_beginning() {
        for bins in [1, 480, 481, 482, 5_000, 100_000] {
            let mut history = History::whole_trace();
            for bin in 0..bins {
                history.push(sample(bin * 500));
            }
            let samples = history.samples();
            assert!(
                samples.len() <= 481 && samples.len() as i64 >= bins.min(240),
                "{bins}: {}",
                samples.len()
            );
            assert_eq!(samples[0].at, Timestamp::EPOCH, "{bins}");
            let last = samples[samples.len() - 1].at.as_nanos() / 500_000_000;
            assert!(
                last + (bins / 240).max(1) > bins - 1,
                "{bins}: the end is at most a step behind, at {last}"
            );
            let steps: Vec<_> = samples.windows(2).map(|two| two[1].at.since(two[0].at)).collect();
            assert!(steps.windows(2).all(|two| two[0] == two[1]), "{bins}: {steps:?}");
        }
    }

    #[test]
    fn a_silence_is_a_gap_and_names_are_shared() {
        let mut history = History::whole_trace();
        for at in [0, 500, 700, 60_000, 60_500] {
            history.push(sample(at));
        }
        let samples = history.samples();
        let at: Vec<i64> = samples.iter().map(|sample| sample.at.as_nanos() / 1_000_000).collect();
        assert_eq!(at, [0, 500, 60_000, 60_500]);
        assert!(Arc::ptr_eq(&samples[0].servers[0].server, &samples[3].servers[0].server));
    }
}
