//! When conversations begin: evenly, at random, in clumps, in pulses, ramping up.

use super::random::SplitMix64;
use serde::Deserialize;
use std::collections::VecDeque;
use std::time::Duration;

/// Clumps are drawn for bins of this length: the sensor's own bin, so that the dispersion asked for is the one it sees.
const BIN: f64 = 0.5;

/// How conversations of one kind of traffic begin, within their time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Conversations a second.
    pub rate: f64,
    /// First moment, counted from the start of the trace.
    pub start: Duration,
    /// Length of the time.
    pub duration: Duration,
    /// Rate rises from 0 to its full height over this time.
    pub ramp: Duration,
    /// Rate swings below its full height.
    pub rhythm: Option<Rhythm>,
    /// At most this many; 0: no limit.
    pub count: u64,
    /// How they are spread.
    pub spread: Spread,
}

/// A rate that swings as a day's does: full in the middle of each period, lowest at its ends.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rhythm {
    /// From one low to the next, seconds.
    pub period: f64,
    /// How deep it falls: the share of the full rate that is missing at the low, 0 to 1.
    pub depth: f64,
}

impl Rhythm {
    /// Share of the full rate at a moment.
    fn share(self, at: f64) -> f64 {
        let phase = std::f64::consts::TAU * at / self.period;
        1.0 - self.depth * phase.cos().mul_add(0.5, 0.5)
    }
}

/// How arrivals are spread over time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Spread {
    /// A Poisson process.
    Poisson,
    /// Evenly, as a tool with a timer sends.
    Even,
    /// Negative binomial counts in bins of half a second, with this variance-to-mean ratio (above 1).
    Clumped(f64),
    /// All of a period's conversations evenly within its first part.
    Pulsed(Pulse),
}

/// A pulsing flood; its rate is `count / period` and the traffic's own `rate` is not used.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pulse {
    /// SYNs in one pulse.
    pub count: u32,
    /// Length of a pulse, seconds.
    pub width: f64,
    /// From one pulse to the next, seconds.
    pub period: f64,
}

/// The moments, in order, seconds from the start of the trace.
#[derive(Debug, Clone)]
pub struct Arrivals {
    pace: Pace,
    random: SplitMix64,
    /// How many have been drawn (before the ramp thins them).
    drawn: u64,
    given: u64,
    /// The last moment drawn, or the end of the last bin; seconds from `pace.start`.
    at: f64,
    /// The rest of the present bin, sorted.
    bin: VecDeque<f64>,
}

impl Arrivals {
    /// Arrivals at this pace, with their own random numbers.
    pub const fn new(pace: Pace, random: SplitMix64) -> Self {
        Self { pace, random, drawn: 0, given: 0, at: 0.0, bin: VecDeque::new() }
    }

    fn draw(&mut self) -> Option<f64> {
        let n = self.drawn;
        self.drawn += 1;
        match self.pace.spread {
            Spread::Poisson => {
                self.at += self.random.exponential(1.0 / self.pace.rate);
                Some(self.at)
            }
            Spread::Even => Some(n as f64 / self.pace.rate),
            Spread::Clumped(ratio) => self.draw_clumped(ratio),
            Spread::Pulsed(pulse) => {
                let (whole, within) = (n / u64::from(pulse.count.max(1)), n % u64::from(pulse.count.max(1)));
                Some(whole as f64 * pulse.period + within as f64 * pulse.width / f64::from(pulse.count))
            }
        }
    }

    fn draw_clumped(&mut self, ratio: f64) -> Option<f64> {
        while self.bin.is_empty() {
            if self.at > self.pace.duration.as_secs_f64() {
                return None;
            }
            let count = self.random.negative_binomial(self.pace.rate * BIN, ratio);
            let mut moments: Vec<f64> = (0..count).map(|_| self.at + BIN * self.random.unit()).collect();
            moments.sort_unstable_by(f64::total_cmp);
            self.bin = moments.into();
            self.at += BIN;
        }
        self.bin.pop_front()
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.pace.rate <= 0.0 && !matches!(self.pace.spread, Spread::Pulsed(_)) {
            return None;
        }
        let ramp = self.pace.ramp.as_secs_f64();
        loop {
            if self.pace.count > 0 && self.given >= self.pace.count {
                return None;
            }
            let at = self.draw()?;
            if at >= self.pace.duration.as_secs_f64() {
                return None;
            }
            if at < ramp && !self.random.chance(at / ramp) {
                continue;
            }
            if let Some(rhythm) = self.pace.rhythm
                && !self.random.chance(rhythm.share(at))
            {
                continue;
            }
            self.given += 1;
            return Some(self.pace.start + Duration::from_secs_f64(at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(rate: f64, spread: Spread) -> Pace {
        Pace {
            rate,
            start: Duration::from_secs(10),
            duration: Duration::from_secs(2_000),
            ramp: Duration::ZERO,
            rhythm: None,
            count: 0,
            spread,
        }
    }

    fn bins(pace: Pace) -> Vec<f64> {
        let mut bins = vec![0.0; 4_000];
        for at in Arrivals::new(pace, SplitMix64::new(5)) {
            bins[((at.as_secs_f64() - 10.0) / BIN) as usize] += 1.0;
        }
        bins
    }

    fn mean_and_ratio(bins: &[f64]) -> (f64, f64) {
        let mean = bins.iter().sum::<f64>() / bins.len() as f64;
        let variance = bins.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / bins.len() as f64;
        (mean, variance / mean)
    }

    #[test]
    fn rates_and_dispersions_are_those_asked_for() {
        for (rate, spread, ratio) in [
            (20.0_f64, Spread::Poisson, 1.0_f64),
            (20.0, Spread::Even, 0.0),
            (20.0, Spread::Clumped(3.0), 3.0),
            (4.0, Spread::Clumped(6.0), 6.0),
        ] {
            let (mean, seen) = mean_and_ratio(&bins(pace(rate, spread)));
            // Six standard errors of the mean of 4,000 bins; the dispersion within 15 %.
            let tolerance = 6.0 * (rate * BIN * ratio.max(0.01) / 4_000.0_f64).sqrt();
            assert!((mean - rate * BIN).abs() < tolerance, "{spread:?}: mean {mean}");
            assert!((seen - ratio).abs() < 0.15 * ratio.max(0.1), "{spread:?}: {seen}");
        }
    }

    #[test]
    fn arrivals_are_in_order_and_in_their_time() {
        for spread in [Spread::Poisson, Spread::Even, Spread::Clumped(2.0)] {
            let all: Vec<_> = Arrivals::new(pace(5.0, spread), SplitMix64::new(1)).collect();
            assert!(all.is_sorted(), "{spread:?}");
            assert!(all[0] >= Duration::from_secs(10) && all[all.len() - 1] < Duration::from_secs(2_010));
        }
    }

    #[test]
    fn pulses_hold_their_count() {
        let pulse = Pulse { count: 128, width: 0.25, period: 10.0 };
        let bins = bins(pace(0.0, Spread::Pulsed(pulse)));
        assert_eq!((bins[0], bins[1], bins[19], bins[20], bins[21]), (128.0, 0.0, 0.0, 128.0, 0.0));
        assert_eq!(bins.iter().sum::<f64>(), 200.0 * 128.0);
    }

    #[test]
    fn a_rhythm_swings_between_its_low_and_its_full_rate() {
        let rhythm = Some(Rhythm { period: 1_000.0, depth: 0.8 });
        let bins = bins(Pace { rhythm, ..pace(50.0, Spread::Poisson) });
        let mean = |from: usize| bins[from..from + 100].iter().sum::<f64>() / 100.0 / BIN;
        // 50 s around the low and around the height: a fifth of 50 a second, and nearly all; six standard errors.
        assert!(
            (mean(1_950) - 10.2).abs() < 2.8 && (mean(950) - 49.8).abs() < 6.0,
            "{} {}",
            mean(1_950),
            mean(950)
        );
    }

    #[test]
    fn a_ramp_halves_what_comes_while_it_rises() {
        let ramp = Pace { ramp: Duration::from_secs(2_000), ..pace(50.0, Spread::Poisson) };
        let total: f64 = bins(ramp).iter().sum();
        assert!((total / 50_000.0 - 1.0).abs() < 0.03, "{total}");
    }

    #[test]
    fn a_count_is_a_limit() {
        let few = Pace { count: 7, ..pace(50.0, Spread::Even) };
        assert_eq!(Arrivals::new(few, SplitMix64::new(0)).count(), 7);
    }
}
