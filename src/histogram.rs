//! A latency histogram with fixed bounds, filled on the packet path and read by reports. Shared vocabulary, like `time`.

use std::time::Duration;

/// Upper bounds of the buckets, seconds: from one switch hop to the life of an embryonic connection on Linux.
pub const LATENCY_BOUNDS: [f64; 17] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0,
    63.0,
];

/// The same bounds in nanoseconds, so that observing needs no floating point.
const BOUNDS_NANOS: [u64; LATENCY_BOUNDS.len()] = {
    let mut nanos = [0; LATENCY_BOUNDS.len()];
    let mut i = 0;
    while i < LATENCY_BOUNDS.len() {
        nanos[i] = (LATENCY_BOUNDS[i] * 1e9 + 0.5) as u64;
        i += 1;
    }
    nanos
};

/// A histogram over [`LATENCY_BOUNDS`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    /// Observations in each bucket (not cumulative); the last is beyond every bound.
    pub buckets: [u64; LATENCY_BOUNDS.len() + 1],
    /// Sum of all observations, seconds.
    pub sum: f64,
}

impl Histogram {
    /// Observations in all.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Counts one observation; a value on a bound belongs to the bucket below it (Prometheus `le`).
    pub fn observe(&mut self, value: Duration) {
        let nanos = u64::try_from(value.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_NANOS.partition_point(|&bound| bound < nanos);
        self.buckets[bucket] += 1;
        self.sum += value.as_secs_f64();
    }

    /// Adds another histogram to this one.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *mine += theirs;
        }
        self.sum += other.sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_belongs_below_it() {
        let mut histogram = Histogram::default();
        histogram.observe(Duration::from_millis(1));
        histogram.observe(Duration::from_nanos(1_000_001));
        histogram.observe(Duration::from_secs(64));
        assert_eq!(histogram.buckets[3], 1);
        assert_eq!(histogram.buckets[4], 1);
        assert_eq!(histogram.buckets[17], 1);
        assert_eq!(histogram.count(), 3);
    }
}
