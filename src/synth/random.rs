//! Random numbers that never change: the same seed gives the same numbers on every machine and with every compiler.
//!
//! May not use the platform's logarithm, whose last bit differs between systems, nor a crate whose stream may change.

/// SplitMix64, the generator of Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014),
/// with the constants of its reference implementation (`java.util.SplittableRandom`). Not for secrets.
#[derive(Debug, Clone)]
pub struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// A generator; every seed gives a full period of 2^64.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// An independent generator for one part of a whole, so that adding a part leaves the others as they were.
    pub fn split(seed: u64, part: u64) -> Self {
        let mut mixer = Self::new(seed ^ part.wrapping_mul(0xd1b5_4a32_d192_ed03));
        Self::new(mixer.next_u64())
    }

    /// 64 random bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 32 random bits.
    #[inline]
    pub fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    /// A number below `n` (0 where `n` is 0), by multiplication; its bias is below n / 2^64.
    #[inline]
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// Uniform in (0, 1]: never 0, so that its logarithm exists.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        ((self.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// True with probability `p`.
    #[inline]
    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() <= p
    }

    /// Exponential with this mean: the gaps of a Poisson process.
    #[inline]
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -ln(self.unit()) * mean
    }

    /// A negative binomial count with this mean and this variance-to-mean ratio; Poisson where the ratio is 1 or less.
    ///
    /// Drawn as a Poisson number of groups of logarithmic size (Quenouille, "A relation between the logarithmic, Poisson, and
    /// negative binomial series", Biometrics 1949), which needs nothing but logarithms. Takes time proportional to the count.
    pub fn negative_binomial(&mut self, mean: f64, ratio: f64) -> u64 {
        if ratio <= 1.0 {
            return self.poisson(mean);
        }
        let groups = self.poisson(mean * ln(ratio) / (ratio - 1.0));
        (0..groups).map(|_| self.logarithmic(1.0 - 1.0 / ratio)).sum()
    }

    /// A Poisson count: how many exponential gaps fit. Takes time proportional to the mean.
    pub fn poisson(&mut self, mean: f64) -> u64 {
        let mut left = mean;
        let mut count = 0;
        loop {
            left -= self.exponential(1.0);
            if left <= 0.0 {
                return count;
            }
            count += 1;
        }
    }

    /// A count of the logarithmic series distribution with parameter 0 < p < 1, by inversion.
    fn logarithmic(&mut self, p: f64) -> u64 {
        let mut left = self.unit();
        let mut term = -p / ln(1.0 - p);
        let mut k = 1_u64;
        while left > term && k < 1_000_000 {
            left -= term;
            term *= p * k as f64 / (k + 1) as f64;
            k += 1;
        }
        k
    }
}

/// The natural logarithm of a positive, normal number from the four basic operations, which IEEE 754 defines to the last bit.
///
/// ln(m 2^e) = e ln 2 + 2 artanh((m - 1) / (m + 1)); with m between 0.707 and 1.415 twelve terms reach 1e-16.
pub fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = ((bits >> 52) & 0x7ff) as i64 - 1023;
    let mut mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa /= 2.0;
        exponent += 1;
    }
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let series = (0..12).rev().fold(0.0, |sum, k| sum * square + 1.0 / f64::from(2 * k + 1));
    exponent as f64 * std::f64::consts::LN_2 + 2.0 * s * series
}

/// A bijection on the numbers of `bits` bits: counts up without repeating, yet looks random. At most 63 bits.
///
/// Xor-shifts and odd multiplications are each invertible modulo 2^bits, so their composition is.
pub fn scatter(index: u64, bits: u32) -> u64 {
    if bits == 0 {
        return 0;
    }
    let mask = (1_u64 << bits.min(63)) - 1;
    let half = bits.div_ceil(2);
    let mut x = index & mask;
    x = (x ^ (x >> half)).wrapping_mul(0xbf58_476d_1ce4_e5b9) & mask;
    x = (x ^ (x >> half)).wrapping_mul(0x94d0_49bb_1331_11eb) & mask;
    x ^ (x >> half)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn matches_the_published_vector() {
        // First outputs for seed 1234567, as published with the algorithm's many ports (for example on Rosetta Code).
        let mut random = SplitMix64::new(1_234_567);
        assert_eq!(random.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(random.next_u64(), 3_203_168_211_198_807_973);
        assert_eq!(random.next_u64(), 9_817_491_932_198_370_423);
    }

    #[test]
    fn logarithm_agrees_with_the_platforms() {
        let mut random = SplitMix64::new(3);
        for _ in 0..100_000 {
            let x = random.unit();
            assert!((ln(x) - x.ln()).abs() <= 4e-16 * x.ln().abs().max(1.0), "{x}");
        }
        assert_eq!(ln(1.0), 0.0);
        assert!((ln(1e12) - 1e12_f64.ln()).abs() < 1e-14);
    }

    #[test]
    fn scatter_is_a_bijection() {
        for bits in [1, 2, 7, 12, 16] {
            let seen: HashSet<u64> = (0..1 << bits).map(|i| scatter(i, bits)).collect();
            assert_eq!(seen.len(), 1 << bits, "{bits} bits");
            assert!(seen.iter().all(|x| *x < 1 << bits), "{bits} bits");
        }
    }

    #[test]
    fn counts_have_the_mean_and_variance_asked_for() {
        for (mean, ratio) in [(2.0, 1.0), (10.0, 3.0), (0.5, 8.0), (100.0, 1.5)] {
            let mut random = SplitMix64::new(17);
            let n = 40_000;
            let draws: Vec<f64> = (0..n).map(|_| random.negative_binomial(mean, ratio) as f64).collect();
            let average = draws.iter().sum::<f64>() / f64::from(n);
            let variance = draws.iter().map(|x| (x - average).powi(2)).sum::<f64>() / f64::from(n);
            // Six standard errors of the mean; the variance within a tenth.
            let tolerance = 6.0 * (mean * ratio / f64::from(n)).sqrt();
            assert!((average - mean).abs() < tolerance, "mean {average} for {mean}");
            assert!(
                (variance / average / ratio - 1.0).abs() < 0.1,
                "ratio {} for {ratio}",
                variance / average
            );
        }
    }
}
