//! Stage 5 of 5, report: a point in time as people type it, to ask for a part of the journal.
//!
//! Reads no clock: whoever asks says what time it is.

use crate::report::text::utc;
use crate::time::Timestamp;
use std::str::FromStr;
use std::time::Duration;

/// A point in time, or so long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Then.
    At(Timestamp),
    /// So long before now.
    Ago(Duration),
}

impl Moment {
    /// The point that is meant, where it is `now`.
    pub const fn from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(before) => now.minus(before),
        }
    }
}

impl FromStr for Moment {
    type Err = String;

    /// `2026-11-22`, `2026-11-22 17:30`, with seconds, with T and Z; seconds since 1970; `90s`, `15m`, `24h`, `7d` ago.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        ago(text).or_else(|| epoch(text)).or_else(|| date(text)).ok_or_else(|| {
            "no point in time; write 2026-11-22, '2026-11-22 17:30' (UTC), seconds since 1970, or 24h, 7d for so long ago".to_owned()
        })
    }
}

fn ago(text: &str) -> Option<Moment> {
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    let number: u32 = text[..text.len() - 1].parse().ok()?;
    Some(Moment::Ago(Duration::from_secs(u64::from(number) * unit)))
}

fn epoch(text: &str) -> Option<Moment> {
    let seconds: f64 = text.parse().ok().filter(|seconds: &f64| (0.0..9.2e9).contains(seconds))?;
    Some(Moment::At(Timestamp::from_nanos((seconds * 1e6).round() as i64 * 1000)))
}

fn date(text: &str) -> Option<Moment> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (day, time) = text.split_once([' ', 'T']).unwrap_or((text, "00:00"));
    let mut numbers = day.split('-').map(digits);
    let (year, month, day_of_month) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let mut parts = time.splitn(3, ':');
    let (hour, minute) = (digits(parts.next()?)?, digits(parts.next()?)?);
    let second: f64 = match parts.next() {
        Some(part) if part.starts_with(|c: char| c.is_ascii_digit()) => part.parse().ok()?,
        Some(_) => return None,
        None => 0.0,
    };
    if numbers.next().is_some() || hour > 23 || minute > 59 || !(0.0..60.0).contains(&second) {
        return None;
    }
    let midnight = Timestamp::from_parts(days(year, month, day_of_month)? * 86_400, 0);
    // A day that does not exist would be another one.
    if !utc(midnight).starts_with(&format!("{year:04}-{month:02}-{day_of_month:02} ")) {
        return None;
    }
    let micros = (second * 1e6).round() as i64;
    let since = (hour * 3600 + minute * 60) * 1_000_000 + micros;
    Some(Moment::At(Timestamp::from_nanos(midnight.as_nanos() + since * 1000)))
}

/// A number of at most four digits.
fn digits(text: &str) -> Option<i64> {
    let plain = !text.is_empty() && text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

/// Days from 1970-01-01, for the years that a `Timestamp` has. The other way round than in `text::utc`: years begin in March.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1700..2262).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    Some(year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type() {
        // By date -u -d '...' +%s.
        for (text, seconds) in [
            ("1970-01-01", 0),
            ("2000-02-29", 951_782_400),
            ("2025-06-15 15:06:40", 1_750_000_000),
            ("2025-06-15T15:06:40Z", 1_750_000_000),
            ("2025-06-15 15:06", 1_749_999_960),
            ("2100-03-01", 4_107_542_400),
            ("1969-12-31 23:59", -60),
            ("1750000000", 1_750_000_000),
        ] {
            assert_eq!(text.parse(), Ok(Moment::At(Timestamp::from_parts(seconds, 0))), "{text}");
        }
        let half = Moment::At(Timestamp::from_parts(1_750_000_000, 500_000_000));
        assert_eq!("2025-06-15 15:06:40.5".parse(), Ok(half));
        assert_eq!("1750000000.5".parse(), Ok(half));
        for (text, seconds) in [("90s", 90), ("15m", 900), ("24h", 86_400), ("7d", 604_800)] {
            assert_eq!(text.parse(), Ok(Moment::Ago(Duration::from_secs(seconds))), "{text}");
        }
        let now = Timestamp::from_parts(1_750_000_000, 0);
        assert_eq!("1m".parse::<Moment>().unwrap().from(now), Timestamp::from_parts(1_749_999_940, 0));
    }

    #[test]
    fn what_is_no_point_in_time() {
        for text in [
            "",
            "yesterday",
            "2025-02-29",
            "2025-13-01",
            "2025-06",
            "2025-06-15-1",
            "2025-06-15 24:00",
            "2025-06-15 12:60",
            "2025-06-15 12:00:60",
            "2025-06-15 12:00:-1",
            "12:00",
            "-5",
            "nan",
            "1e300",
            "h",
            "5w",
            "é",
        ] {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
    }
}
