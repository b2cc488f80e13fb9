//! Network time: time as packets bring it, never as the operating system tells it.
//!
//! May not read a clock. `capture/live` is the only place on the packet path that does, for idle links.

use std::fmt;
use std::time::Duration;

/// A point in time: nanoseconds since 1970-01-01T00:00:00Z, as captured. Range: the years 1678 to 2262.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);
    /// Later than any packet.
    pub const FAR_FUTURE: Self = Self(i64::MAX);

    /// From nanoseconds since the epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From seconds and nanoseconds, as capture files hold them; saturates at the ends of the range.
    pub const fn from_parts(seconds: i64, nanos: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
    }

    /// Nanoseconds since the epoch.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// This point rounded down to a microsecond.
    #[must_use]
    #[inline]
    pub const fn to_micros(self) -> Self {
        Self(self.0.div_euclid(1000).saturating_mul(1000))
    }

    /// Seconds since the epoch, for people and for Prometheus.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    const fn minus_days(self, days: i64) -> Self {
        Self(self.0 - days * 86_400_000_000_000)
    }

    /// The time from `earlier` to here; zero where `earlier` is later.
    #[inline]
    pub fn since(self, earlier: Self) -> Duration {
        let nanos = self.0.saturating_sub(earlier.0);
        if nanos <= 0 { Duration::ZERO } else { Duration::from_nanos(nanos as u64) }
    }

    /// This point moved forward; saturates.
    #[inline]
    #[must_use]
    pub const fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(nanos(by)))
    }

    /// This point moved back; saturates.
    #[inline]
    #[must_use]
    pub const fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(by)))
    }
}

/// A duration in nanoseconds; saturates at 292 years.
#[inline]
const fn nanos(by: Duration) -> i64 {
    const LONGEST: u64 = (i64::MAX / 1_000_000_000 - 1) as u64;
    if by.as_secs() > LONGEST {
        return i64::MAX;
    }
    by.as_secs() as i64 * 1_000_000_000 + by.subsec_nanos() as i64
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.0.div_euclid(1_000_000_000), self.0.rem_euclid(1_000_000_000));
        write!(f, "{seconds}.{nanos:09}")
    }
}

/// A stamp this far behind network time is not reordering: the source's clock was set back, or a stamp before it was absurd.
const REANCHOR: Duration = Duration::from_secs(60);

/// Network time ends here (2262-04-10): what is reckoned forward from it must have room.
const LATEST: Timestamp = Timestamp::FAR_FUTURE.minus_days(1);

/// No stamp is taken to be later (2162-04-10; classic captures end in 2106), and no leap leads beyond: the last century is for a clock that
/// goes on after absurd stamps, step by step.
const LATEST_STAMP: Timestamp = Timestamp::FAR_FUTURE.minus_days(36_525);

/// The clock that packets drive: never goes back, whatever the stamps do.
///
/// A stamp a little behind (reordering, two capture threads) leaves the time where it is. A stamp more than a minute behind
/// re-anchors: from then on its differences move the time, so that one absurd stamp cannot freeze expiry for decades.
#[derive(Debug, Clone, Default)]
pub struct NetworkTime {
    now: Option<Timestamp>,
    /// Added to stamps since the last re-anchoring, nanoseconds; may be longer than half the range.
    offset: i128,
    jumps_back: u64,
}

impl NetworkTime {
    /// A clock that has seen no packet yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A clock that goes on where another ended, which is none where there was none.
    pub fn resume(ended: Option<Timestamp>) -> Self {
        Self { now: ended, ..Self::default() }
    }

    /// Takes one stamp in and returns the network time after it.
    #[inline]
    pub fn advance(&mut self, stamp: Timestamp) -> Timestamp {
        let stamp = stamp.min(LATEST_STAMP);
        let Some(now) = self.now else {
            self.now = Some(stamp);
            return stamp;
        };
        if self.offset == 0 && stamp >= now {
            self.now = Some(stamp);
            return stamp;
        }
        self.advance_displaced(now, stamp)
    }

    #[cold]
    fn advance_displaced(&mut self, now: Timestamp, stamp: Timestamp) -> Timestamp {
        // Back on the original time line: forget the offset.
        if self.offset != 0 && stamp >= now.minus(REANCHOR) {
            self.offset = 0;
            self.now = Some(now.max(stamp));
            return now.max(stamp);
        }
        let shifted = i128::from(stamp.0) + self.offset;
        let shifted = Timestamp(shifted.clamp(i64::MIN.into(), LATEST.0.into()) as i64);
        // A leap to where no room is left would freeze time as well: it stays and goes on from here.
        let leap = shifted > LATEST_STAMP && shifted.since(now) > REANCHOR;
        if leap || now.since(shifted) > REANCHOR {
            self.jumps_back += u64::from(!leap);
            self.offset = i128::from(now.0) - i128::from(stamp.0);
            return now;
        }
        let next = now.max(shifted);
        self.now = Some(next);
        next
    }

    /// Goes on from where others are, if they are more than a minute ahead: there would be no time that both know.
    pub fn join(&mut self, others: Timestamp) {
        if let Some(now) = self.now.filter(|now| others.since(*now) > REANCHOR) {
            self.offset += i128::from(others.0) - i128::from(now.0);
            self.now = Some(others);
        }
    }

    /// The present network time; none before the first packet.
    pub fn now(&self) -> Option<Timestamp> {
        self.now
    }

    /// How often a stamp lay more than a minute behind network time.
    pub fn jumps_back(&self) -> u64 {
        self.jumps_back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_parts(seconds, 0)
    }

    #[test]
    fn never_goes_back() {
        let mut time = NetworkTime::new();
        assert_eq!(time.advance(at(100)), at(100));
        assert_eq!(time.advance(at(70)), at(100));
        assert_eq!(time.advance(at(101)), at(101));
        assert_eq!(time.jumps_back(), 0);
    }

    #[test]
    fn an_absurd_stamp_does_not_freeze_time() {
        let mut time = NetworkTime::new();
        time.advance(at(100));
        time.advance(at(2_000_000_000));
        assert_eq!(time.advance(at(101)), at(2_000_000_000));
        assert_eq!(time.advance(at(111)), at(2_000_000_010));
        assert_eq!(time.jumps_back(), 1);
    }

    #[test]
    fn a_clock_that_goes_on_for_another_does_not_go_back_either() {
        let mut time = NetworkTime::resume(Some(at(100)));
        assert_eq!(time.advance(at(99)), at(100));
        assert_eq!(time.advance(at(101)), at(101));
        let mut time = NetworkTime::resume(Some(at(1_000_000)));
        assert_eq!(time.advance(at(10)), at(1_000_000));
        assert_eq!(time.advance(at(12)), at(1_000_002));
        assert_eq!(NetworkTime::resume(None).advance(at(-5)), at(-5));
    }

    #[test]
    fn a_clock_that_joins_others_goes_on_from_theirs() {
        let mut time = NetworkTime::new();
        time.join(at(1_000_000));
        assert_eq!(time.advance(at(100)), at(100), "there was nothing to go on with");
        time.join(at(160));
        assert_eq!(time.advance(at(101)), at(101));
        time.join(at(1_000_000));
        assert_eq!([101, 99, 103].map(|s| time.advance(at(s))), [1_000_000, 1_000_000, 1_000_002].map(at));
        time.join(at(5));
        assert_eq!(time.advance(at(104)), at(1_000_003));
        assert_eq!(time.advance(at(1_000_004)), at(1_000_004), "and comes back to its own");
        assert_eq!(time.advance(at(1_000_005)), at(1_000_005));
    }

    #[test]
    fn returning_to_the_original_line_drops_the_offset() {
        let mut time = NetworkTime::new();
        time.advance(at(1_000_000));
        time.advance(at(10)); // another clock, far behind
        assert_eq!(time.advance(at(12)), at(1_000_002));
        assert_eq!(time.advance(at(1_000_001)), at(1_000_002));
        assert_eq!(time.advance(at(1_000_003)), at(1_000_003));
    }

    #[test]
    fn a_re_anchored_clock_ends_where_the_range_leaves_room() {
        let mut time = NetworkTime::new();
        time.advance(Timestamp::FAR_FUTURE);
        time.advance(at(0));
        for seconds in [100_000_000, 100_000_001, 100_000_002] {
            let now = time.advance(at(seconds));
            assert!(now.plus(Duration::from_secs(3600)) < Timestamp::FAR_FUTURE);
        }
    }

    #[test]
    fn the_latest_stamp_there_is_does_not_freeze_time_either() {
        let absurd = NetworkTime::new().advance(Timestamp::FAR_FUTURE);
        for ended in [None, Some(absurd)] {
            let mut time = NetworkTime::resume(ended);
            assert_eq!(time.advance(Timestamp::FAR_FUTURE), absurd);
            assert_eq!(time.advance(at(1_750_000_000)), absurd);
            assert_eq!(time.advance(at(1_750_000_007)), absurd.plus(Duration::from_secs(7)));
        }
    }

    /// Further apart than a difference of two stamps reaches.
    #[test]
    fn nor_does_the_earliest_one() {
        let mut time = NetworkTime::new();
        let now = time.advance(at(1_750_000_000));
        let early =
            |seconds| time.advance(Timestamp::from_nanos(i64::MIN).plus(Duration::from_secs(seconds)));
        assert_eq!([0, 7, 9].map(early), [0, 7, 9].map(|seconds| now.plus(Duration::from_secs(seconds))));
        assert_eq!(time.jumps_back(), 1);
    }

    /// Each leap forward after one back moves time on by as much as it leapt.
    #[test]
    fn leaps_of_decades_to_and_fro_do_not_use_time_up() {
        let mut time = NetworkTime::new();
        let decades = |number: i64| at(number * 315_360_000);
        for leap in 0..100 {
            time.advance(decades(5));
            time.advance(decades(9 - leap % 3));
        }
        let before = time.advance(decades(5));
        assert_eq!(
            time.advance(decades(5).plus(Duration::from_secs(7))),
            before.plus(Duration::from_secs(7))
        );
    }

    #[test]
    fn the_end_of_the_range_leaves_room() {
        let mut time = NetworkTime::new();
        let now = time.advance(Timestamp::FAR_FUTURE);
        assert!(now.plus(Duration::from_secs(3600)) < Timestamp::FAR_FUTURE);
        assert_eq!(time.advance(Timestamp::FAR_FUTURE), now);
    }

    #[test]
    fn differences_saturate() {
        assert_eq!(at(1).since(at(2)), Duration::ZERO);
        assert_eq!(Timestamp::FAR_FUTURE.plus(Duration::from_secs(1)), Timestamp::FAR_FUTURE);
    }
}
