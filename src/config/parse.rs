//! Configuration: which keys there are, and what each may be. Ranges carry their reasons.

use super::detect::{Prefix, Rule};
use super::reader::{Problem, Problems, Reader, Section, nearest};
use super::{
    CaptureConfig, Config, FilterCheck, LogConfig, LogFormat, LogLevel, PROFILES, ServerConfig, limits,
    sections, trust, value, web,
};
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Most problems told of one file: more are not read, and a reload would fill the log with them.
const MOST_TOLD: usize = 100;

/// Text to configuration, or what is wrong with it, [`MOST_TOLD`] problems at most.
pub(super) fn parse(file: &str, text: &str, filter: FilterCheck<'_>) -> Result<Config, Problems> {
    let mut reader = Reader::new(text);
    let (document, syntax) = DeTable::parse_recoverable(text);
    let config = read(&mut reader, document.get_ref(), filter);
    let mut list: Vec<Problem> = Vec::new();
    let mut broken: HashSet<Option<usize>> = HashSet::new();
    for error in &syntax {
        let line = error.span().map(|span| reader.line(&span));
        // What follows the first error of a line is about the parser's guesses.
        if !broken.insert(line) {
            continue;
        }
        let what = format!(
            "{}; see toml.io for the syntax",
            error.message().replace('\n', ", ").replace(char::is_control, " ")
        );
        list.push(Problem { line, key: String::new(), what });
    }
    // What the parser recovered from a broken line means nothing; the other lines are still checked.
    list.extend(reader.finish().into_iter().filter(|problem| !broken.contains(&problem.line)));
    list.sort_by_key(|problem| problem.line);
    if let Some(rest) = list.len().checked_sub(MOST_TOLD).filter(|&rest| rest > 0) {
        list.truncate(MOST_TOLD);
        let line = list.last().and_then(|problem| problem.line);
        let what = format!("and {rest} more problems behind these; mend these first");
        list.push(Problem { line, key: String::new(), what });
    }
    if list.is_empty() { Ok(config) } else { Err(Problems { file: file.to_owned(), list }) }
}

fn read(reader: &mut Reader<'_>, document: &DeTable<'_>, filter: FilterCheck<'_>) -> Config {
    let mut config = Config::default();
    let mut top = Section::new(reader, "", document);
    if let Some((table, reader)) = table(&mut top, "capture") {
        config.capture = capture(Section::new(reader, "capture", table), filter);
    }
    if let Some((table, reader)) = table(&mut top, "table") {
        config.table = super::table::half_open(Section::new(reader, "table", table));
    }
    if let Some((table, reader)) = table(&mut top, "established") {
        config.table.established = super::table::established(Section::new(reader, "established", table));
    }
    if let Some((table, reader)) = table(&mut top, "detect") {
        config.detect = sections::detect(Section::new(reader, "detect", table));
    }
    if let Some((table, reader)) = table(&mut top, "web") {
        config.web = web::section(Section::new(reader, "web", table));
    }
    if let Some((table, reader)) = table(&mut top, "log") {
        config.log = log(Section::new(reader, "log", table));
    }
    if let Some((table, reader)) = table(&mut top, "journal") {
        config.journal = sections::journal(Section::new(reader, "journal", table));
    }
    if let Some((table, reader)) = table(&mut top, "evidence") {
        config.evidence = sections::evidence(Section::new(reader, "evidence", table));
    }
    if let Some((table, reader)) = table(&mut top, "state") {
        config.state = trust::state(Section::new(reader, "state", table));
    }
    if let Some((table, reader)) = table(&mut top, "limits") {
        config.limits = limits::limits(Section::new(reader, "limits", table));
    }
    if let Some((table, reader)) = table(&mut top, "privileges") {
        config.privileges = trust::privileges(Section::new(reader, "privileges", table));
    }
    let rules: Vec<Rule>;
    (config.servers, rules) = servers(&mut top).into_iter().unzip();
    config.detect.rules = sections::inherit(&rules);
    for_each_table(&mut top, "allow", |reader, span, table| {
        config.detect.allow.extend(sections::allowance(reader, span, table));
    });
    top.finish();
    config
}

/// A section's table and the reader to read it with.
fn table<'x, 'a, 't, 'i>(
    top: &'x mut Section<'_, 'a, 't, 'i>,
    key: &'static str,
) -> Option<(&'t DeTable<'i>, &'x mut Reader<'a>)> {
    let (value, reader) = top.raw(key)?;
    let Some(table) = value.get_ref().as_table() else {
        reader.problem(&value.span(), key, &format!("must be a section; write [{key}] on a line of its own"));
        return None;
    };
    Some((table, reader))
}

fn capture(mut section: Section<'_, '_, '_, '_>, filter: FilterCheck<'_>) -> CaptureConfig {
    let mut capture = CaptureConfig::default();
    section.set(&mut capture.interfaces, "interfaces", "[\"eth0\"]", |value| {
        let names = list(value, string)?;
        CaptureConfig::check_interfaces(&names).map(|()| names)
    });
    section.set(&mut capture.filter, "filter", "\"net 198.51.100.0/24\"", |value| {
        let Some(text) = Some(string(value)?).filter(|text| !text.trim().is_empty()) else { return Ok(None) };
        filter(&text).map_err(|why| format!("'{text}' does not compile: {why}; see pcap-filter(7)"))?;
        Ok(Some(text))
    });
    // 96 holds Ethernet, IPv6 and TCP with options; 262144 is libpcap's own most.
    section
        .set(&mut capture.snaplen, "snaplen", "512", |value| integer(value, 96..=262_144).map(|n| n as u32));
    // libpcap takes a C int.
    section.set(&mut capture.buffer, "buffer", "\"64MiB\"", |value| {
        bytes(value, 65_536..=(1 << 30)).map(|n| n as u32)
    });
    section.set(&mut capture.promiscuous, "promiscuous", "true", boolean);
    section.finish();
    capture
}

fn log(mut section: Section<'_, '_, '_, '_>) -> LogConfig {
    let mut log = LogConfig::default();
    section
        .set(&mut log.level, "level", "\"info\"", |value| one_of(value, &LogLevel::ALL, LogLevel::as_label));
    section.set(&mut log.format, "format", "\"logfmt\"", |value| {
        one_of(value, &LogFormat::ALL, LogFormat::as_label)
    });
    section.finish();
    log
}

/// Names that metrics give a meaning of their own.
const RESERVED_NAMES: [&str; 2] = ["other", "sensor"];

/// Most entries of a list: each server is looked through for every new one seen, and has series of its own.
const MOST_ENTRIES: usize = 4096;

fn servers(top: &mut Section<'_, '_, '_, '_>) -> Vec<(ServerConfig, Rule)> {
    let mut servers = Vec::new();
    let mut known = Known::default();
    for_each_table(top, "server", |reader, span, table| {
        let Some((server, rule)) = server(reader, span, table) else {
            return;
        };
        let own_line = reader.line(span);
        if let Some((what, line)) = known.conflict(&server, own_line) {
            reader.problem(
                span,
                "server",
                &format!("{what} the server on line {line} has; remove or change one"),
            );
        }
        servers.push((server, rule));
    });
    servers
}

/// Every table of a list such as `[[server]]`; what is no table of it is a problem.
fn for_each_table<'a, 'i>(
    top: &mut Section<'_, 'a, '_, 'i>,
    key: &'static str,
    mut each: impl FnMut(&mut Reader<'a>, &Range<usize>, &DeTable<'i>),
) {
    let Some((value, reader)) = top.raw(key) else {
        return;
    };
    let Some(entries) = value.get_ref().as_array() else {
        let what = format!("must be a list; write [[{key}]], with two brackets, before each");
        reader.problem(&value.span(), key, &what);
        return;
    };
    if entries.len() > MOST_ENTRIES {
        let what = format!("{} entries are more than {MOST_ENTRIES}; name prefixes instead", entries.len());
        reader.problem(&value.span(), key, &what);
        return;
    }
    for entry in entries.iter() {
        match entry.get_ref().as_table() {
            Some(table) => each(reader, &entry.span(), table),
            None => {
                let what = format!("must be a table; write [[{key}]] and its keys below");
                reader.problem(&entry.span(), key, &what);
            }
        }
    }
}

fn server(reader: &mut Reader<'_>, span: &Range<usize>, table: &DeTable<'_>) -> Option<(ServerConfig, Rule)> {
    let mut section = Section::new(reader, "server", table);
    let name = section.take("name", "\"shop\"", |value| {
        let name = string(value)?;
        if name.trim().is_empty() || name.chars().any(char::is_control) || name.len() > 100 {
            return Err("must be 1 to 100 printable characters".to_owned());
        }
        if RESERVED_NAMES.contains(&name.as_str()) {
            return Err(format!("'{name}' has a meaning of its own in the metrics; choose another name"));
        }
        if name.parse::<SocketAddr>().is_ok() {
            return Err(format!("'{name}' is what a server without a name is called; choose another name"));
        }
        Ok(name)
    });
    let missing = section.raw("address").is_none();
    let address = section.take("address", "\"198.51.100.10\"", |value| value::prefix(&string(value)?));
    let port = section.take("port", "443", |value| integer(value, 0..=65_535).map(|n| n as u16));
    // Linux takes at most 2^31 - 1, and no host more.
    let backlog = section.take("backlog", "511", |value| integer(value, 1..=i32::MAX as u64));
    let profile = section.take("profile", "\"linux\"", profile);
    let rule = sections::rule(&mut section);
    section.finish();
    if missing {
        reader.problem(span, "server.address", "is missing; for example address = \"198.51.100.10\"");
    }
    let (address, prefix_len) = address?;
    let rule = Rule { prefix: Prefix::new(address, prefix_len), port, ..rule };
    Some((ServerConfig { name, address, prefix_len, port, backlog, profile }, rule))
}

/// The servers read so far, by what no two may share, each with its line.
#[derive(Default)]
struct Known {
    places: HashMap<(IpAddr, u8, Option<u16>), usize>,
    names: HashMap<String, usize>,
}

impl Known {
    /// Adds a server. What it has in common with one before it that it must not, and that one's line.
    fn conflict(&mut self, server: &ServerConfig, line: usize) -> Option<(String, usize)> {
        let place = self.places.insert((server.address, server.prefix_len, server.port), line);
        let named =
            server.name.as_ref().and_then(|name| Some((name, self.names.insert(name.clone(), line)?)));
        match (place, named) {
            (Some(before), _) => Some(("same address and port as".to_owned(), before)),
            (None, Some((name, before))) => Some((format!("same name '{name}' as"), before)),
            (None, None) => None,
        }
    }
}

fn profile(value: &DeValue<'_>) -> Result<String, String> {
    // An entry outlives neither a tenth of a second nor an hour on any host.
    const LIFE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
    if let Some(name) = value.as_str() {
        if PROFILES.contains(&name) {
            return Ok(name.to_owned());
        }
        if !name.starts_with(|c: char| c.is_ascii_digit()) {
            let hint = nearest(name, &PROFILES).map_or_else(
                || format!("use {} or seconds", PROFILES.join(", ")),
                |near| format!("did you mean '{near}'?"),
            );
            return Err(format!("unknown profile '{name}'; {hint}"));
        }
    }
    Ok(duration(value, LIFE)?.as_secs_f64().to_string())
}

pub(super) fn string(value: &DeValue<'_>) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| expected("a string", value))
}

pub(super) fn boolean(value: &DeValue<'_>) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| expected("true or false", value))
}

pub(super) fn parsed<T: FromStr<Err = String>>(value: &DeValue<'_>) -> Result<T, String> {
    string(value)?.parse()
}

/// One value, or a list of them.
pub(super) fn list<T>(
    value: &DeValue<'_>,
    item: impl Fn(&DeValue<'_>) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    match value.as_array() {
        Some(array) => array.iter().map(|value: &Spanned<DeValue<'_>>| item(value.get_ref())).collect(),
        None => item(value).map(|one| vec![one]),
    }
}

pub(super) fn integer(value: &DeValue<'_>, range: RangeInclusive<u64>) -> Result<u64, String> {
    let integer = value.as_integer().ok_or_else(|| expected("an integer", value))?;
    let number = i128::from_str_radix(integer.as_str(), integer.radix())
        .map_err(|_| format!("{} is too large", integer.as_str()))?;
    let number = u64::try_from(number)
        .map_err(|_| format!("{number} is not within {} to {}", range.start(), range.end()))?;
    within(number, range)
}

/// A number of bytes, or a size such as `32MiB`.
pub(super) fn bytes(value: &DeValue<'_>, range: RangeInclusive<u64>) -> Result<u64, String> {
    let bytes = match value.as_str() {
        Some(text) => value::size(text)?,
        None => integer(value, 0..=u64::MAX)?,
    };
    within(bytes, range)
}

/// A number with or without a decimal point.
pub(super) fn number(value: &DeValue<'_>, range: RangeInclusive<f64>) -> Result<f64, String> {
    let number = if let Some(float) = value.as_float() {
        float
            .as_str()
            .replace('_', "")
            .parse::<f64>()
            .map_err(|_| format!("{} is no number", float.as_str()))?
    } else if value.is_integer() {
        // Exact below 2^53, beyond which no range goes.
        integer(value, 0..=u64::MAX)? as f64
    } else {
        return Err(expected("a number", value));
    };
    if range.contains(&number) {
        Ok(number)
    } else {
        Err(format!("{number} is not within {} to {}", range.start(), range.end()))
    }
}

fn within(number: u64, range: RangeInclusive<u64>) -> Result<u64, String> {
    if range.contains(&number) {
        Ok(number)
    } else {
        Err(format!("{number} is not within {} to {}", range.start(), range.end()))
    }
}

pub(super) fn duration(value: &DeValue<'_>, range: RangeInclusive<Duration>) -> Result<Duration, String> {
    let life = if let Some(text) = value.as_str() {
        value::duration(text)?
    } else if let Some(float) = value.as_float() {
        let seconds = float.as_str().parse::<f64>().ok();
        let life = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        life.ok_or_else(|| format!("{} is not a time", float.as_str()))?
    } else if value.is_integer() {
        Duration::from_secs(integer(value, 0..=u64::MAX)?)
    } else {
        return Err(expected("a time such as \"63s\"", value));
    };
    if range.contains(&life) {
        Ok(life)
    } else {
        Err(format!("{life:?} is not within {:?} to {:?}", range.start(), range.end()))
    }
}

pub(super) fn one_of<T: Copy>(
    value: &DeValue<'_>,
    all: &[T],
    label: fn(T) -> &'static str,
) -> Result<T, String> {
    let text = string(value)?;
    all.iter().copied().find(|&candidate| label(candidate) == text).ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|&candidate| label(candidate)).collect();
        format!("'{text}' is none of {}", names.join(", "))
    })
}

fn expected(what: &str, value: &DeValue<'_>) -> String {
    format!("expected {what}, found {}", value.type_str())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
