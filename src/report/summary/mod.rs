//! Stage 5 of 5, report: what a replay came to: one JSON document, or one screen for people.
//!
//! The same snapshot gives the same text, but for `performance`. Decides nothing.

mod document;
mod recommended;
mod table;

pub use document::document;
pub use recommended::recommended;
pub use table::table;

use crate::time::Timestamp;
use std::time::Duration;

/// What the snapshot does not know of a replay.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Replay {
    /// The files as they were named.
    pub files: Vec<String>,
    /// Their link types by libpcap's names, without repetition.
    pub link_types: Vec<String>,
    /// The earliest stamp of a frame; none where there was no frame.
    pub first: Option<Timestamp>,
    /// The latest.
    pub last: Option<Timestamp>,
    /// What it cost.
    pub performance: Performance,
}

impl Replay {
    /// From the earliest to the latest frame.
    fn duration(&self) -> Duration {
        match (self.first, self.last) {
            (Some(first), Some(last)) => last.since(first),
            _ => Duration::ZERO,
        }
    }
}

/// What a replay cost. The only part of a summary that differs between two runs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Performance {
    /// By the clock on the wall.
    pub wall: Duration,
    /// Most memory held at once, bytes; 0 where the system does not tell.
    pub peak_rss: u64,
}

impl Performance {
    /// Frames a second; 0 where no time passed.
    fn rate(&self, frames: u64) -> f64 {
        let seconds = self.wall.as_secs_f64();
        if seconds > 0.0 { frames as f64 / seconds } else { 0.0 }
    }
}

/// Most memory this process has held at once, bytes: `VmHWM` of proc(5). 0 where there is no such file.
pub fn peak_rss() -> u64 {
    memory("VmHWM:")
}

/// What proc(5) says of this process's memory, bytes; 0 where there is no such file.
pub(super) fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes = |line: &str| line.strip_prefix(field)?.trim().strip_suffix(" kB")?.parse::<u64>().ok();
    status.lines().find_map(kilobytes).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests;
