//! Configuration: the keys of stage 4 and of what is kept of incidents. Ranges carry their reasons.

use super::detect::{Allowance, DetectConfig, Prefix, Rule, Side};
use super::parse::{boolean, bytes, duration, integer, list, number, string};
use super::reader::{Reader, Section};
use super::record::{EvidenceConfig, JournalConfig};
use super::value;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;
use toml::de::{DeTable, DeValue};

/// More often than hourly nobody would read them; beyond a century the logarithm in the threshold no longer moves.
const FALSE_ALARM: RangeInclusive<Duration> = Duration::from_secs(3600)..=Duration::from_secs(3_155_760_000);
/// A flood of one attempt is none to speak of, but may be asked for; a million in an episode is past every queue there is.
const FLOOR: RangeInclusive<u64> = 1..=1_000_000;
/// Up to what a 10 Gbit/s link can carry.
const RATE: RangeInclusive<f64> = 0.1..=1e7;
/// Below a hundredth every backlog has less than one entry of tolerance.
const SHARE: RangeInclusive<f64> = 0.01..=1.0;
/// What the table's queues tell apart: a shorter age would be rounded up to the one end, a longer down to the other.
const GRACE: RangeInclusive<Duration> = Duration::from_millis(250)..=Duration::from_secs(3);
/// About a kilobyte each: 64 MB at the upper end. Below 16 not even a small office fits.
const WATCHED: RangeInclusive<u64> = 16..=65_536;

/// The `[detect]` section; `[[server]]` and `[[allow]]` add to it.
pub(super) fn detect(mut section: Section<'_, '_, '_, '_>) -> DetectConfig {
    let mut detect = DetectConfig::default();
    let count = |value: &DeValue<'_>, range| integer(value, range).map(|n| n as usize);
    let small = |value: &DeValue<'_>, range| integer(value, range).map(|n| n as u32);
    section.set(&mut detect.false_alarm_interval, "false_alarm_interval", "\"10000000s\"", |value| {
        duration(value, FALSE_ALARM)
    });
    section.set(&mut detect.floor, "floor", "20", |value| integer(value, FLOOR));
    section.set(&mut detect.critical_rate, "critical_rate", "100.0", |value| number(value, RATE));
    section.set(&mut detect.occupancy, "occupancy", "0.25", |value| number(value, SHARE));
    // Linux takes at most 2^31 - 1, and no host more.
    section.set(&mut detect.assumed_backlog, "assumed_backlog", "128", |value| {
        integer(value, 1..=i32::MAX as u64)
    });
    section.set(&mut detect.initial_grace, "initial_grace", "\"1.5s\"", |value| duration(value, GRACE));
    section.set(&mut detect.min_grace, "min_grace", "\"250ms\"", |value| duration(value, GRACE));
    section.set(&mut detect.max_grace, "max_grace", "\"3s\"", |value| duration(value, GRACE));
    // Under a second every pause ends an incident; after an hour nobody would call it the same one.
    section.set(&mut detect.calm, "calm", "\"30s\"", |value| {
        duration(value, Duration::from_secs(1)..=Duration::from_secs(3600))
    });
    section.set(&mut detect.scan_ports, "scan_ports", "15", |value| small(value, 2..=65_535));
    section.set(&mut detect.scan_hosts, "scan_hosts", "30", |value| small(value, 2..=65_535));
    section
        .set(&mut detect.source_flood_rate, "source_flood_rate", "4000.0", |value| number(value, 1.0..=1e7));
    section.set(&mut detect.backscatter, "backscatter", "30", |value| small(value, 2..=1_000_000));
    section.set(&mut detect.observe, "observe", "false", boolean);
    section.set(&mut detect.max_servers, "max_servers", "4096", |value| count(value, WATCHED));
    section.set(&mut detect.max_hosts, "max_hosts", "4096", |value| count(value, WATCHED));
    section.set(&mut detect.max_prefixes, "max_prefixes", "2048", |value| count(value, WATCHED));
    // Each has its evidence, some 2 kB, and the API lists them all.
    section.set(&mut detect.max_incidents, "max_incidents", "512", |value| count(value, 1..=10_000));
    section.set(&mut detect.home, "home", "[\"198.51.100.0/24\"]", |value| list(value, prefix));
    if !(detect.min_grace..=detect.max_grace).contains(&detect.initial_grace) {
        let (least, most) = (detect.min_grace, detect.max_grace);
        let what = format!(
            "{:?} is not within min_grace to max_grace, {least:?} to {most:?}; change one of the three",
            detect.initial_grace
        );
        section.complain(&["initial_grace", "min_grace", "max_grace"], &what);
    }
    section.finish();
    detect
}

/// The keys of a `[[server]]` that say how to judge it.
pub(super) fn rule(section: &mut Section<'_, '_, '_, '_>) -> Rule {
    let nowhere = Prefix::new(std::net::Ipv4Addr::UNSPECIFIED.into(), 0);
    Rule {
        false_alarm_interval: section
            .take("false_alarm_interval", "\"10000000s\"", |value| duration(value, FALSE_ALARM)),
        floor: section.take("floor", "20", |value| integer(value, FLOOR)),
        critical_rate: section.take("critical_rate", "100.0", |value| number(value, RATE)),
        occupancy: section.take("occupancy", "0.25", |value| number(value, SHARE)),
        observe: section.take("observe", "false", boolean),
        ..Rule::new(nowhere, None)
    }
}

/// What a rule leaves out comes from the next wider one that covers it: the detector takes the most specific as it is.
pub(super) fn inherit(rules: &[Rule]) -> Vec<Rule> {
    let changes = |rule: &Rule| *rule != Rule::new(rule.prefix, rule.port);
    let within = |inner: &Rule, outer: &Rule| {
        outer.prefix.len() <= inner.prefix.len()
            && outer.prefix.contains(inner.prefix.addr())
            && (outer.port.is_none() || outer.port == inner.port)
    };
    let filled = |rule: &Rule| {
        let mut wider: Vec<&Rule> = rules.iter().filter(|outer| within(rule, outer)).collect();
        wider.sort_by_key(|outer| std::cmp::Reverse((outer.prefix.len(), outer.port.is_some())));
        wider.into_iter().fold(Rule::new(rule.prefix, rule.port), |sum, outer| Rule {
            false_alarm_interval: sum.false_alarm_interval.or(outer.false_alarm_interval),
            floor: sum.floor.or(outer.floor),
            critical_rate: sum.critical_rate.or(outer.critical_rate),
            occupancy: sum.occupancy.or(outer.occupancy),
            observe: sum.observe.or(outer.observe),
            ..sum
        })
    };
    rules.iter().map(filled).filter(changes).collect()
}

/// One `[[allow]]`: whom, and why.
pub(super) fn allowance(
    reader: &mut Reader<'_>,
    span: &Range<usize>,
    table: &DeTable<'_>,
) -> Option<Allowance> {
    let mut section = Section::new(reader, "allow", table);
    let there = [section.raw("source").is_some(), section.raw("server").is_some()];
    let source = section.take("source", "\"192.0.2.7\"", prefix);
    let server = section.take("server", "\"198.51.100.99\"", prefix);
    let port = section.take("port", "443", |value| integer(value, 0..=65_535).map(|n| n as u16));
    let reasoned = section.raw("reason").is_some();
    let reason = section.take("reason", "\"our own scanner, every Monday\"", |value| {
        let reason = string(value)?;
        if reason.trim().is_empty() || reason.chars().any(char::is_control) || reason.chars().count() > 200 {
            return Err("must be 1 to 200 printable characters".to_owned());
        }
        Ok(reason)
    });
    section.finish();
    match there {
        [true, true] => {
            reader.problem(
                span,
                "allow",
                "has both source and server; write two [[allow]], each with one of them",
            );
            return None;
        }
        [false, false] => {
            let what = "says neither source nor server; for example source = \"192.0.2.7\"";
            reader.problem(span, "allow", what);
        }
        _ => {}
    }
    if !reasoned {
        let what = "is missing; say why it is not judged, for example reason = \"our own scanner\"";
        reader.problem(span, "allow.reason", what);
    }
    let (side, prefix) = source.map(|p| (Side::Source, p)).or(server.map(|p| (Side::Server, p)))?;
    Some(Allowance { side, prefix, port, reason: reason? })
}

/// The `[journal]` section.
pub(super) fn journal(mut section: Section<'_, '_, '_, '_>) -> JournalConfig {
    let mut journal = JournalConfig::default();
    section.set(&mut journal.path, "path", "\"/var/log/halfopen/incidents.jsonl\"", path);
    // A line is 2 to 4 kB: below 64 KiB files would change by the minute; above 1 TiB a typing error is likelier.
    section.set(&mut journal.max_bytes, "max_bytes", "\"16MiB\"", |value| bytes(value, 64 << 10..=1 << 40));
    section.set(&mut journal.keep, "keep", "4", |value| integer(value, 0..=1000).map(|n| n as u32));
    section.finish();
    journal
}

/// The `[evidence]` section.
pub(super) fn evidence(mut section: Section<'_, '_, '_, '_>) -> EvidenceConfig {
    let mut evidence = EvidenceConfig::default();
    section.set(&mut evidence.path, "path", "\"/var/lib/halfopen/evidence\"", path);
    // 4 KiB hold 28 frames of full length; beyond 16 MiB tcpdump is the tool.
    section.set(&mut evidence.incident_bytes, "incident_bytes", "\"64KiB\"", |value| {
        bytes(value, 4 << 10..=16 << 20)
    });
    section.set(&mut evidence.memory_bytes, "memory_bytes", "\"4MiB\"", |value| bytes(value, 0..=1 << 30));
    section
        .set(&mut evidence.disk_bytes, "disk_bytes", "\"256MiB\"", |value| bytes(value, 64 << 10..=1 << 40));
    section.finish();
    evidence
}

fn prefix(value: &DeValue<'_>) -> Result<Prefix, String> {
    value::prefix(&string(value)?).map(|(addr, len)| Prefix::new(addr, len))
}

/// A path; an empty one is none.
pub(super) fn path(value: &DeValue<'_>) -> Result<Option<PathBuf>, String> {
    let text = string(value)?;
    if text.contains('\0') {
        return Err("must be a path".to_owned());
    }
    Ok(Some(PathBuf::from(text)).filter(|path| !path.as_os_str().is_empty()))
}
