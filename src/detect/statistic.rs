//! Stage 4 of 5, detect: the statistic. Is this count more than this key usually has?
//!
//! One-sided CUSUM (Page 1954) on the log-likelihood ratio of the negative binomial, for a grid of absolute rates, over bins of
//! half a second; what alarms is the sum over all beginnings of its present rise (Shiryaev 1963, Roberts 1966).
//! Bins need not be independent of rate or known in advance: the mean and the over-dispersion are learned beside.
//! Knows numbers only: no keys, no time beyond the number of a bin.

use std::time::Duration;

/// Length of a bin. Short, because it is the floor of the delay; long enough that the work per bin stays small.
pub(super) const BIN: Duration = Duration::from_millis(500);
/// Bins a second.
pub(super) const BINS_PER_SECOND: f64 = 2.0;
/// Rates tested: 0.5 x 4^j a second for j = 0..6, from what fills half a queue of 128 in a minute to 2,048/s.
pub(super) const GRID: usize = 7;

/// Added rate of hypothesis `j`, per bin.
fn shift(j: usize) -> f64 {
    0.5 / BINS_PER_SECOND * 4f64.powi(j as i32)
}

/// The threshold for this mean time between false alarms of the largest of the grid, for each of `keys` keys watched at once.
///
/// In peace a likelihood ratio is one on average. So the sum of those of all beginnings grows by one a bin on average, and comes to
/// `e^h` after no less than `e^h` bins (Pollak 1985); the grid and the keys add their logarithms. A CUSUM, which is the largest
/// of those ratios only (Lorden 1971), leaves most of that unused.
pub(super) fn threshold(false_alarm_interval: Duration, keys: usize) -> f64 {
    let bins = (false_alarm_interval.as_secs_f64() * BINS_PER_SECOND).max(2.0);
    bins.ln() + (GRID as f64).ln() + (keys.max(1) as f64).ln()
}

/// Coefficients of the log-likelihood ratio of mean `m1` against `m0`: `x * per_unit - per_bin`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Ratio {
    per_unit: f64,
    per_bin: f64,
}

impl Ratio {
    /// Negative binomial with variance `phi` times the mean `m0`, its size parameter `r = m0 / (phi - 1)` held; Poisson at
    /// `phi` = 1.
    fn new(m0: f64, m1: f64, phi: f64) -> Self {
        if phi < 1.0 + 1e-6 {
            return Self { per_unit: (m1 / m0).ln(), per_bin: m1 - m0 };
        }
        let r = m0 / (phi - 1.0);
        Self {
            per_unit: (m1 / (m1 + r)).ln() - (m0 / (m0 + r)).ln(),
            per_bin: r * (((r + m1) / r).ln() - ((r + m0) / r).ln()),
        }
    }
}

/// The running sums of the grid.
#[derive(Debug, Clone, Default)]
pub(super) struct Cusum {
    sums: [f64; GRID],
    /// Ratios of all beginnings since each sum last was zero, over the ratio of the likeliest, whose logarithm is the sum.
    beginnings: [f64; GRID],
    /// First bin since each sum last was zero.
    since: [u64; GRID],
    ratios: [Ratio; GRID],
    /// Mean and over-dispersion the ratios were reckoned for.
    model: (f64, f64),
}

impl Cusum {
    /// Takes in the count of one bin, where `mean` (a bin, above 0) and `phi` (at least 1) describe peace. The largest sum.
    pub(super) fn update(&mut self, bin: u64, x: f64, mean: f64, phi: f64) -> f64 {
        // Two per cent off changes the sums by less than their own noise; logarithms are dear.
        let stale = |new: f64, old: f64| (new - old).abs() > 0.02 * old;
        if stale(mean, self.model.0) || stale(phi, self.model.1) {
            self.model = (mean, phi);
            for (j, ratio) in self.ratios.iter_mut().enumerate() {
                *ratio = Ratio::new(mean, mean + shift(j), phi);
            }
        }
        let mut largest = 0.0_f64;
        let Self { sums, beginnings, since, ratios, .. } = self;
        for (((sum, beginnings), since), ratio) in sums.iter_mut().zip(beginnings).zip(since).zip(ratios) {
            if *sum == 0.0 {
                *since = bin;
            }
            let before = *sum;
            *sum = (before + x * ratio.per_unit - ratio.per_bin).max(0.0);
            // This bin is one more beginning, with the ratio of its own. At zero all of them are given up, which only lowers the sum.
            *beginnings = if *sum > 0.0 { *beginnings + (-before).exp() } else { 0.0 };
            largest = largest.max(*sum);
        }
        largest
    }

    /// What is held against [`threshold`]: the logarithm of the likelihood ratios of the grid, summed over whenever the present rise
    /// may have begun. Never below the largest sum; the slower the flood, the more beginnings are as likely as the best.
    pub(super) fn odds(&self) -> f64 {
        let largest = self.largest();
        let ratios = self.sums.iter().zip(&self.beginnings);
        let all: f64 = ratios.map(|(sum, beginnings)| beginnings * (sum - largest).exp()).sum();
        if all > 0.0 { largest + all.ln() } else { 0.0 }
    }

    /// The largest sum.
    pub(super) fn largest(&self) -> f64 {
        self.sums.iter().copied().fold(0.0, f64::max)
    }

    /// First bin of the present rise of the largest sum; none while all are zero.
    pub(super) fn onset(&self) -> Option<u64> {
        let best = self.sums.iter().zip(&self.since).max_by(|a, b| a.0.total_cmp(b.0))?;
        (*best.0 > 0.0).then_some(*best.1)
    }

    /// Added attempts a bin of the hypothesis with the largest sum; none while all are zero.
    pub(super) fn leading(&self) -> Option<f64> {
        let (best, sum) = self.sums.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1))?;
        (*sum > 0.0).then(|| shift(best))
    }

    /// Back to zero: an episode ended, or others explain it.
    pub(super) fn reset(&mut self) {
        (self.sums, self.beginnings) = ([0.0; GRID], [0.0; GRID]);
    }
}

/// A mean that starts as the plain average and goes over into an exponential one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mean {
    value: f64,
    /// Bins behind it.
    bins: f64,
}

/// Half-life of what is learned, in bins: ten minutes.
const HALF_LIFE: f64 = 1200.0;

impl Mean {
    /// Takes `n` bins of the same value in.
    pub(super) fn learn(&mut self, x: f64, n: u64) {
        let slow = 1.0 - 0.5_f64.powf(1.0 / HALF_LIFE);
        if n == 1 {
            self.value += (x - self.value) * (1.0 / (self.bins + 1.0)).max(slow);
        } else {
            let n = n as f64;
            let keep = (self.bins / (self.bins + n)).min(0.5_f64.powf(n / HALF_LIFE));
            self.value = x + (self.value - x) * keep;
        }
        self.bins += n as f64;
    }

    /// The mean, per bin.
    pub(super) fn value(self) -> f64 {
        self.value
    }

    /// How many bins it has seen.
    pub(super) fn bins(self) -> f64 {
        self.bins
    }

    /// As plain numbers, to be kept over a restart.
    pub(super) const fn parts(self) -> [f64; 2] {
        [self.value, self.bins]
    }

    /// From [`parts`](Self::parts).
    pub(super) const fn from_parts([value, bins]: [f64; 2]) -> Self {
        Self { value, bins }
    }
}

/// Spread at one time scale: the variance of sums over `len` bins.
#[derive(Debug, Clone, Copy, Default)]
struct Scale {
    sum: f64,
    filled: u32,
    variance: Mean,
}

impl Scale {
    fn learn(&mut self, x: f64, mean: f64, len: u32) {
        self.sum += x;
        self.filled += 1;
        if self.filled == len {
            self.variance.learn((self.sum - mean * f64::from(len)).powi(2), 1);
            (self.sum, self.filled) = (0.0, 0);
        }
    }

    /// Variance over mean as seen, drawn towards an assumption while little was.
    fn phi(&self, mean: f64, len: u32, assumed: f64, weight: f64) -> f64 {
        let n = self.variance.bins();
        let seen = self.variance.value() / (mean * f64::from(len)).max(LEAST_MEAN);
        (seen * n + assumed * weight) / (n + weight)
    }
}

/// Over-dispersion assumed of a key that nothing is known of: variance three times the mean.
const PRIOR_PHI: f64 = 3.0;
/// Unresolved attempts a bin assumed of a key that nothing is known of: one in two seconds.
const PRIOR_MEAN: f64 = 0.25;
/// Share of completed handshakes that an unknown server may leave unresolved beside: a fifth, as on the open Internet.
const PRIOR_SHARE: f64 = 0.2;
/// Weight of the assumed mean, in bins, at the start: after 13 s what was seen counts as much, after a minute five times.
const PRIOR_WEIGHT: f64 = 40.0;
/// Least mean a bin, one in twenty seconds: below it a single event would look like a flood.
const LEAST_MEAN: f64 = 0.025;
/// Bins of the longer scales, 10 s and 60 s: real traffic is correlated (science 7.2), single bins under-state its spread.
const LONG: [u32; 2] = [20, 120];

/// What a key has in peace.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Baseline {
    mean: Mean,
    short: Scale,
    long: [Scale; 2],
}

impl Baseline {
    /// Numbers in [`parts`](Self::parts): the mean, and the spread at each of three scales.
    pub(super) const PARTS: usize = 8;

    /// As plain numbers, to be kept over a restart; blocks that were not full yet are not.
    pub(super) const fn parts(&self) -> [f64; Self::PARTS] {
        let [mean, mean_bins] = self.mean.parts();
        let [short, short_bins] = self.short.variance.parts();
        let [[ten, ten_bins], [minute, minute_bins]] =
            [self.long[0].variance.parts(), self.long[1].variance.parts()];
        [mean, mean_bins, short, short_bins, ten, ten_bins, minute, minute_bins]
    }

    /// From [`parts`](Self::parts).
    pub(super) fn from_parts(parts: [f64; Self::PARTS]) -> Self {
        let [mean, mean_bins, short, short_bins, ten, ten_bins, minute, minute_bins] = parts;
        let scale = |parts| Scale { variance: Mean::from_parts(parts), ..Scale::default() };
        Self {
            mean: Mean::from_parts([mean, mean_bins]),
            short: scale([short, short_bins]),
            long: [scale([ten, ten_bins]), scale([minute, minute_bins])],
        }
    }

    /// How many bins of peace it has seen.
    pub(super) const fn bins(&self) -> f64 {
        self.mean.bins
    }

    /// Whether anything was ever unresolved in peace, or its spread known: more than silence.
    pub(super) fn has_seen_any(&self) -> bool {
        self.mean.value > 0.0 || self.short.variance.bins > 0.0
    }

    /// Takes a bin of peace in.
    pub(super) fn learn(&mut self, x: f64) {
        // Spread is around what was seen, never around the assumption.
        let seen = self.mean.value();
        if self.mean.bins() > 0.0 {
            self.short.learn(x, seen, 1);
        }
        self.mean.learn(x, 1);
        for (scale, len) in self.long.iter_mut().zip(LONG) {
            scale.learn(x, self.mean.value(), len);
        }
    }

    /// Takes `n` empty bins in; the spread is not learned from silence.
    pub(super) fn learn_silence(&mut self, n: u64) {
        self.mean.learn(0.0, n);
        for scale in &mut self.long {
            (scale.sum, scale.filled) = (0.0, 0);
        }
    }

    /// Mean a bin, where `completed` handshakes a bin are usual beside it; with one standard error of it on top, for what it is
    /// worth so far. Without that a mean that the first minutes put a tenth too low adds up to an alarm (see the tests); as what
    /// is learned settles, the slow floods must not pay for it any more.
    pub(super) fn mean(&self, completed: f64) -> f64 {
        let mean = self.blend(self.assumed(completed)).max(LEAST_MEAN);
        let bins = self.mean.bins();
        let error = (self.phi() * mean / (bins + PRIOR_WEIGHT)).sqrt();
        mean + error * HALF_LIFE / (HALF_LIFE + bins)
    }

    /// Variance over mean, at least 1: the largest of the three scales.
    pub(super) fn phi(&self) -> f64 {
        let mean = self.mean.value();
        let short = self.short.phi(mean, 1, PRIOR_PHI, PRIOR_WEIGHT);
        // Long blocks come slowly: until twenty were seen, the short scale has the larger word.
        let long = self.long.iter().zip(LONG).map(|(scale, len)| scale.phi(mean, len, short, 20.0));
        long.fold(short, f64::max).max(1.0)
    }

    /// Mean a bin without the allowance for single events: what a queue holds is judged by it.
    pub(super) fn steady(&self, completed: f64) -> f64 {
        self.blend(PRIOR_SHARE * completed)
    }

    /// What was seen, drawn towards an assumption whose own weight fades as more is seen.
    fn blend(&self, prior: f64) -> f64 {
        let n = self.mean.bins();
        let weight = PRIOR_WEIGHT * PRIOR_WEIGHT / (PRIOR_WEIGHT + n);
        (self.mean.value() * n + prior * weight) / (n + weight)
    }

    /// The sum below which a bin still counts as peace: half the threshold; a quarter while little is known and the hypothesis that
    /// leads (`shift` a bin) would double the mean, so that a flood that comes with the key does not become its baseline. Less
    /// than that for a small shift would hold on to a mean that a few dozen bins put too low, until it looks like a flood.
    pub(super) fn freeze(&self, threshold: f64, shift: Option<f64>) -> f64 {
        let doubles = shift.is_some_and(|shift| shift >= self.mean.value());
        threshold * if self.is_new() && doubles { 0.25 } else { 0.5 }
    }

    /// Less than two minutes of peace seen.
    pub(super) fn is_new(&self) -> bool {
        self.mean.bins() < 240.0
    }

    /// Mean a bin of a key that nothing is known of but its completions.
    pub(super) fn assumed(&self, completed: f64) -> f64 {
        PRIOR_MEAN + PRIOR_SHARE * completed
    }
}

#[cfg(test)]
#[path = "statistic_tests.rs"]
mod tests;
