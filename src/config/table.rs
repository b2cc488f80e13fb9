//! Configuration: the keys of stage 3. Ranges carry their reasons.

use super::parse::{bytes, duration, integer};
use super::reader::Section;
use super::{EstablishedConfig, TableConfig};
use std::ops::RangeInclusive;
use std::time::Duration;

/// The `[table]` section.
pub(super) fn half_open(mut section: Section<'_, '_, '_, '_>) -> TableConfig {
    /// Longer than the longest grace age, 3 s, so that an attempt is called overdue before it expires; shorter than 71 minutes,
    /// at which an entry's stamp comes round.
    const LIFE: RangeInclusive<Duration> = Duration::from_secs(4)..=Duration::from_secs(3600);
    let mut table = TableConfig::default();
    // 2^28 entries are some 20 GB: beyond that a typing error is likelier than a table.
    section.set(&mut table.entries, "entries", "1048576", |value| {
        integer(value, 1024..=1 << 28).map(|n| n as usize)
    });
    section.set(&mut table.syn_sent_timeout, "syn_sent_timeout", "\"63s\"", |value| duration(value, LIFE));
    section.set(&mut table.syn_received_timeout, "syn_received_timeout", "\"63s\"", |value| {
        duration(value, LIFE)
    });
    section.set(&mut table.emergency_timeout, "emergency_timeout", "\"5s\"", |value| {
        // Shorter than a grace age it takes hold when that has passed.
        duration(value, Duration::from_secs(1)..=Duration::from_secs(3600))
    });
    section.set(&mut table.remembered, "remembered", "262144", |value| {
        integer(value, 0..=1 << 28).map(|n| n as usize)
    });
    section.finish();
    table
}

/// The `[established]` section.
pub(super) fn established(mut section: Section<'_, '_, '_, '_>) -> EstablishedConfig {
    let mut established = EstablishedConfig::default();
    // 16 GiB follow 400 million connections, more than one link carries.
    section.set(&mut established.memory, "memory", "\"8MiB\"", |value| {
        bytes(value, 0..=16 << 30).map(|n| n as usize)
    });
    // Fewer than one in a thousand is found too seldom to be worth the memory that it then takes.
    section.set(&mut established.sample, "sample", "1", |value| integer(value, 1..=1000).map(|n| n as u32));
    section.set(&mut established.suspect_after, "suspect_after", "\"10s\"", |value| {
        // Three repetitions of Linux, which waits 0.2 s at first, take 1.4 s; after 15 min it has given the connection up.
        duration(value, Duration::from_secs(1)..=Duration::from_secs(900))
    });
    section.finish();
    established
}
