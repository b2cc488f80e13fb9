//! Stage 5 of 5, report: numbers, times and foreign words as people read them.
//!
//! Pure functions. Nothing from the network or a file name reaches a terminal or a page unescaped.

use crate::detect::incident::Severity;
use crate::os_error;
use crate::time::Timestamp;
use std::fmt::Write;
use std::io;
use std::ops::Range;
use std::path::Path;

/// One line on a file that cannot be written: what, why, what mends it.
pub fn unwritten(path: &Path, error: &io::Error) -> String {
    format!("file '{}': cannot be written: {}", path.display(), os_error::unwritable(error))
}

/// An integer with its thousands apart: `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate or a gauge for a place without room: `0.25`, `12`, `1,234`, `56.7k`, `1.2M`.
pub fn short(number: f64) -> String {
    match number {
        n if n >= 1e9 => format!("{}G", figures(n / 1e9)),
        n if n >= 1e6 => format!("{}M", figures(n / 1e6)),
        n if n >= 1e4 => format!("{}k", figures(n / 1e3)),
        n if n >= 100.0 => grouped(n.round() as u64),
        n => figures(n),
    }
}

/// A time span with three figures and a fitting unit: `0.25 ms`, `1.5 s`, `2 h 5 min`.
pub fn span(seconds: f64) -> String {
    match seconds {
        s if s < 0.001 => format!("{} µs", figures(s * 1e6)),
        s if s < 1.0 => format!("{} ms", figures(s * 1e3)),
        s if s < 120.0 => format!("{} s", figures(s)),
        s if s < 7200.0 => format!("{:.0} min {:.0} s", (s / 60.0).floor(), (s % 60.0).floor()),
        s => format!("{:.0} h {:.0} min", (s / 3600.0).floor(), (s % 3600.0 / 60.0).floor()),
    }
}

/// A number with three significant figures and no trailing zeros.
fn figures(number: f64) -> String {
    let decimals = match number.abs() {
        n if n >= 100.0 => 0,
        n if n >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{number:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Bytes with a binary unit: `1.5 MiB`.
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let (mut value, mut unit) = (number as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{} {}", figures(value), UNITS[unit])
}

/// A date and time in UTC, to the microsecond: `2025-06-15 15:06:40.000001`.
pub fn utc(at: Timestamp) -> String {
    let micros = at.as_nanos().div_euclid(1000);
    let (seconds, fraction) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years are counted from March, so that the leap day comes last; 400 Gregorian years have 146,097 days.
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) =
        (year + era * 400 + i64::from(month >= 10), if month < 10 { month + 3 } else { month - 9 });
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{fraction:06}")
}

/// Text for a terminal: control characters, which could move its cursor or change its title, are spelled out.
pub fn printable(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            let _ = write!(clean, "{}", c.escape_default());
        } else {
            clean.push(c);
        }
    }
    clean
}

/// Columns two spaces apart: `numbers` to the right, the others to the left.
pub fn aligned<const N: usize>(rows: &[[String; N]], numbers: Range<usize>) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if numbers.contains(&column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// A severity as a table has it: what must be seen is in capitals.
pub const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "WARNING",
        Severity::Critical => "CRITICAL",
    }
}

/// Text for an HTML page, in content and in quoted attributes.
pub fn html(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0.000_05, 0.0123, 1.5, 59.5, 125.0, 7500.0].map(span),
            ["50 µs", "12.3 ms", "1.5 s", "59.5 s", "2 min 5 s", "2 h 5 min"]
        );
        assert_eq!(
            [0.0, 0.254, 12.0, 99.96, 1234.4, 56_700.0, 1_200_000.0].map(short),
            ["0", "0.25", "12", "100", "1,234", "56.7k", "1.2M"]
        );
        assert_eq!([0, 1023, 1536, 80 << 20].map(bytes), ["0 B", "1023 B", "1.5 KiB", "80 MiB"]);
    }

    #[test]
    fn dates_as_date_1_prints_them() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00.000000"),
            (951_782_400, "2000-02-29 00:00:00.000000"),
            (1_750_000_000, "2025-06-15 15:06:40.000000"),
            (4_107_542_399, "2100-02-28 23:59:59.000000"),
            (4_107_542_400, "2100-03-01 00:00:00.000000"),
            (-1, "1969-12-31 23:59:59.000000"),
        ] {
            assert_eq!(utc(Timestamp::from_parts(seconds, 0)), expected);
        }
    }

    #[test]
    fn foreign_words_are_harmless() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(html("<a href='x'>\"&"), "&lt;a href=&#39;x&#39;&gt;&quot;&amp;");
    }
}
