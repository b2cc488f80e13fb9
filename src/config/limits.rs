//! Configuration: one ceiling for the memory of the process, and what each part may take of it.
//!
//! Every map and buffer has a cap of its own; here they are added up before anything is allocated, and where the sum is too large the
//! half-open table, which is most of it, is made smaller. What that takes says `room`. `make torture` holds the process against the
//! ceiling.

use super::parse::bytes;
use super::reader::Section;
use super::room::Room;
use super::{Config, TableConfig};

/// The ceiling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Most bytes the process may hold, resident, its capture buffers included. Default 512 MB.
    pub memory: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self { memory: 512 << 20 }
    }
}

/// Of a remembered attempt: an IPv6 tuple and its stamp.
const REMEMBERED: u64 = 56;

/// Of a watched key with its place in the map.
const KEY: u64 = 1_600;

/// Of an incident with its evidence, in the list and on its way to the journal.
const INCIDENT: u64 = 8 << 10;

/// What does not depend on the configuration: the program, its runtime and heap 32 MiB; sketches, slots and scans of the detector
/// 48 MiB (a test of the detector bounds it and four threads by 64); answers to 128 connections, 24 MiB.
const FIXED: u64 = 104 << 20;

/// Sums, sketches and batches of a packet thread, besides the kernel's buffer and what it keeps of the table's attempts.
const THREAD: u64 = 8 << 20;

/// How the ceiling was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fit {
    /// Most bytes by this configuration, reckoned.
    pub reckoned: u64,
    /// Entries of the table where it had to be made smaller.
    pub table_was: Option<usize>,
}

impl Config {
    /// Most bytes that `sources` captures with this configuration can take, reckoned from the caps.
    pub fn reckoned_memory(&self, sources: usize) -> u64 {
        let detect = &self.detect;
        let keys = (detect.max_servers + detect.max_hosts + detect.max_prefixes + self.servers.len()) as u64;
        // Those that run, 256 at most, and those that ended.
        let incidents = detect.max_incidents as u64 + 256;
        let room = Room::new(self.table.entries);
        FIXED
            + sources as u64 * (u64::from(self.capture.buffer) + THREAD + room.of_thread())
            + room.of_maps()
            + self.table.remembered as u64 * REMEMBERED
            + self.table.established.memory as u64
            + keys * KEY
            + incidents * INCIDENT
            + self.evidence.memory_bytes
    }

    /// Makes the table as small as the ceiling asks for.
    ///
    /// # Errors
    /// What is too large besides the table, and what mends it.
    pub fn fit(&mut self, sources: usize) -> Result<Fit, String> {
        let (limit, reckoned) = (self.limits.memory, self.reckoned_memory(sources));
        if reckoned <= limit {
            return Ok(Fit { reckoned, table_was: None });
        }
        // As few as may be configured, and the step in which fewer are tried.
        const LEAST: usize = 1024;
        let was = self.table.entries;
        let with = |entries| {
            let table = TableConfig { entries, ..self.table.clone() };
            Self { table, ..self.clone() }.reckoned_memory(sources)
        };
        // The largest that fits, for more entries never take less: so many steps do, and `above` do not.
        let (mut fitting, mut above) = (0, was.div_ceil(LEAST));
        while above - fitting > 1 {
            let between = fitting.midpoint(above);
            if with(between * LEAST) <= limit {
                fitting = between;
            } else {
                above = between;
            }
        }
        if fitting == 0 {
            let rest = with(LEAST);
            return Err(format!(
                "limits.memory of {} MiB is too little: {} MiB go to {sources} captures of {} MiB each, the detector, the least table and the rest; \
                 raise it, or lower capture.buffer, established.memory, table.remembered or detect.max_servers",
                limit >> 20,
                rest >> 20,
                self.capture.buffer >> 20
            ));
        }
        self.table.entries = fitting * LEAST;
        Ok(Fit { reckoned: self.reckoned_memory(sources), table_was: Some(was) })
    }
}

/// The `[limits]` section.
pub(super) fn limits(mut section: Section<'_, '_, '_, '_>) -> LimitsConfig {
    let mut limits = LimitsConfig::default();
    // Below 160 MiB not even the least table fits beside the rest; above 1 TiB a typing error is likelier.
    section.set(&mut limits.memory, "memory", "\"512MiB\"", |value| bytes(value, 160 << 20..=1 << 40));
    section.finish();
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_fit_as_they_are() {
        let mut config = Config::default();
        let fit = config.fit(1).unwrap();
        assert_eq!((config.table.entries, fit.table_was), (Config::default().table.entries, None));
        assert_eq!(fit.reckoned >> 20, 497, "MiB, of 512");
    }

    /// Each capture has deadlines and rings of its own, and the kernel's buffer.
    #[test]
    fn two_captures_leave_room_for_fewer_entries() {
        let mut config = Config::default();
        let fit = config.fit(2).unwrap();
        assert_eq!((config.table.entries, fit.table_was), (570_368, Some(1 << 20)));
        assert!(fit.reckoned <= 512 << 20, "{}", fit.reckoned >> 20);
    }

    #[test]
    fn a_table_too_large_is_made_to_fit_and_nothing_else_is_touched() {
        for memory in [240 << 20, 256 << 20, 300 << 20, 1 << 30] {
            let mut config = Config::default();
            config.limits.memory = memory;
            config.table.entries = 1 << 28;
            let fit = config.fit(1).unwrap();
            assert_eq!(fit.table_was, Some(1 << 28));
            assert!(fit.reckoned <= memory);
            let entries = config.table.entries + 1024;
            let more = Config { table: TableConfig { entries, ..config.table.clone() }, ..config.clone() };
            assert!(more.reckoned_memory(1) > memory, "{entries} fit as well");
            let table = TableConfig { entries: 1 << 28, ..config.table.clone() };
            assert_eq!(Config { table, ..config.clone() }.capture, Config::default().capture);
        }
    }

    #[test]
    fn every_cap_counts() {
        let reckoned = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.reckoned_memory(1)
        };
        let before = reckoned(|_| {});
        let caps: [fn(&mut Config); 9] = [
            |config| config.capture.buffer += 1 << 20,
            |config| config.table.entries += 1 << 20,
            |config| config.table.remembered += 1 << 20,
            |config| config.table.established.memory += 1 << 20,
            |config| config.detect.max_servers += 1 << 10,
            |config| config.detect.max_hosts += 1 << 10,
            |config| config.detect.max_prefixes += 1 << 10,
            |config| config.detect.max_incidents += 1 << 10,
            |config| config.evidence.memory_bytes += 1 << 20,
        ];
        for (number, cap) in caps.into_iter().enumerate() {
            assert!(reckoned(cap) > before, "cap {number}");
        }
    }

    #[test]
    fn what_cannot_fit_says_what_would() {
        let mut config = Config::default();
        config.limits.memory = 160 << 20;
        let why = config.fit(4).unwrap_err();
        assert!(why.contains("capture.buffer") && why.contains("; "), "{why}");
    }
}
