//! Stage 5 of 5, report: the journal read back: lines of files, in any number, become one row an incident.
//!
//! Holds so many incidents and so many bytes at most, whatever the files are. Opens nothing: whoever asks gives it streams.

use super::told::{Line, Told, line};
use crate::detect::incident::IncidentKind;
use crate::os_error;
use crate::time::Timestamp;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead};
use std::net::{IpAddr, SocketAddr};

/// Incidents kept where nobody asks for another number: years of a sensor's, and 20 MB of them at most as detection writes them.
pub const INCIDENTS: usize = 10_000;

/// Bytes that the incidents kept may hold together.
pub const BYTES: usize = 64 << 20;

/// A longer line is none: those of the sensor, with all their evidence, have some 2 KiB.
pub const LONGEST_LINE: usize = 64 << 10;

/// Lines that could not be read and are named, of one file.
const NAMED: usize = 5;

/// Which incidents are asked for; what is empty asks for all.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Those that went on then, or later.
    pub since: Option<Timestamp>,
    /// Those that had begun by then.
    pub until: Option<Timestamp>,
    /// Those on one of these: a name, `address:port`, a prefix, or an address with any port.
    pub servers: Vec<String>,
    /// Those of one of these kinds.
    pub kinds: Vec<IncidentKind>,
}

impl Wanted {
    fn holds(&self, told: &Told) -> bool {
        let ended_before = |since| told.ended_at.is_some_and(|ended| ended < since);
        !self.since.is_some_and(ended_before)
            && self.until.is_none_or(|until| told.onset <= until)
            && (self.kinds.is_empty() || self.kinds.contains(&told.kind))
            && (self.servers.is_empty() || self.servers.iter().any(|asked| is_on(told, asked)))
    }
}

/// Whether an incident is on what somebody typed.
fn is_on(told: &Told, asked: &str) -> bool {
    let with_port = || told.server.parse::<SocketAddr>().map(|server| server.ip());
    told.server == asked || asked.parse::<IpAddr>().is_ok_and(|asked| with_port() == Ok(asked))
}

/// What lines were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LineCounts {
    /// All but empty ones.
    pub read: u64,
    /// Changes of incidents.
    pub incidents: u64,
    /// Half-open connections.
    pub half_open: u64,
    /// Odd exchanges.
    pub oddities: u64,
    /// None of these: cut short, or something else altogether.
    pub damaged: u64,
}

/// Reads journals.
#[derive(Debug)]
pub struct Reader {
    wanted: Wanted,
    limit: usize,
    kept: HashMap<String, (Place, Told)>,
    /// The same, by who goes first when there are too many: those that ended before those that run, and of these who was told of
    /// longest ago.
    order: BTreeMap<Place, String>,
    bytes: usize,
    left_out: u64,
    lines: LineCounts,
}

/// Whether it still runs, and the number of the line that told so.
type Place = (bool, u64);

impl Reader {
    /// Keeps at most `limit` incidents.
    pub fn new(wanted: Wanted, limit: usize) -> Self {
        Self {
            wanted,
            limit,
            kept: HashMap::new(),
            order: BTreeMap::new(),
            bytes: 0,
            left_out: 0,
            lines: LineCounts::default(),
        }
    }

    /// Reads a stream to its end. Of several the older must come first: a later line says what is so now.
    pub fn read(&mut self, mut input: impl BufRead) -> Damage {
        let (mut damage, mut text) = (Damage::default(), Vec::new());
        for number in 1.. {
            match next_line(&mut input, &mut text) {
                Ok(Found::End) => break,
                Ok(Found::Line) if text.trim_ascii().is_empty() => {}
                Ok(Found::Line) => {
                    if let Err(why) = self.take(&text) {
                        damage.note(number, why);
                    }
                }
                Ok(Found::TooLong) => {
                    self.lines.read += 1;
                    self.lines.damaged += 1;
                    damage.note(number, format!("longer than {} KiB", LONGEST_LINE >> 10));
                }
                Err(error) => {
                    damage.broken = Some((number, error));
                    break;
                }
            }
        }
        damage
    }

    /// Bytes that the incidents kept hold; `BYTES` at most.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The lines read so far.
    pub const fn lines(&self) -> LineCounts {
        self.lines
    }

    fn take(&mut self, text: &[u8]) -> Result<(), String> {
        self.lines.read += 1;
        match line(text) {
            Ok((Line::Incident(told), _)) => {
                self.lines.incidents += 1;
                self.keep(*told);
            }
            Ok((Line::HalfOpen, _)) => self.lines.half_open += 1,
            Ok((Line::Oddity, _)) => self.lines.oddities += 1,
            Err(why) => {
                self.lines.damaged += 1;
                return Err(why);
            }
        }
        Ok(())
    }

    /// In the place of what was known of it. What is not asked for any more goes, so that the last line decides.
    fn keep(&mut self, told: Told) {
        if let Some((place, _)) = self.kept.get(&told.id) {
            self.drop_at(*place);
        }
        if !self.wanted.holds(&told) {
            return;
        }
        let place = (told.ended_at.is_none(), self.lines.read);
        self.bytes += held(&told);
        self.order.insert(place, told.id.clone());
        self.kept.insert(told.id.clone(), (place, told));
        while self.kept.len() > self.limit || self.bytes > BYTES {
            let Some((&first, _)) = self.order.first_key_value() else { break };
            self.drop_at(first);
            self.left_out += 1;
        }
    }

    fn drop_at(&mut self, place: Place) {
        let dropped = self.order.remove(&place).and_then(|id| self.kept.remove(&id));
        self.bytes -= dropped.map_or(0, |(_, told)| held(&told));
    }

    /// What was read, the incidents by when they began.
    pub fn finish(self) -> Account {
        let mut incidents: Vec<Told> = self.kept.into_values().map(|(_, told)| told).collect();
        incidents.sort_by(|a, b| (a.onset, &a.id).cmp(&(b.onset, &b.id)));
        Account { incidents, left_out: self.left_out, lines: self.lines }
    }
}

/// Bytes that keeping it takes: its id is there three times.
fn held(told: &Told) -> usize {
    told.bytes() + 2 * (told.id.len() + size_of::<(Place, String)>())
}

/// The time of the first line that can be read, of the first few: to find out which of two files is the older.
pub fn first_stamp(mut input: impl BufRead) -> Option<Timestamp> {
    let mut text = Vec::new();
    for _ in 0..100 {
        match next_line(&mut input, &mut text).ok()? {
            Found::End => return None,
            Found::TooLong => {}
            Found::Line => {
                if let Ok((_, ts)) = line(&text) {
                    return Some(ts);
                }
            }
        }
    }
    None
}

/// What the journals told.
#[derive(Debug)]
pub struct Account {
    /// As asked for, by when they began.
    pub incidents: Vec<Told>,
    /// Rows that were dropped because there were too many; an incident told of again afterwards may be counted twice.
    pub left_out: u64,
    /// What it was read from.
    pub lines: LineCounts,
}

/// What was wrong with a file.
#[derive(Debug, Default)]
pub struct Damage {
    count: u64,
    named: Vec<(u64, String)>,
    broken: Option<(u64, io::Error)>,
}

impl Damage {
    fn note(&mut self, number: u64, why: String) {
        self.count += 1;
        if self.named.len() < NAMED {
            self.named.push((number, why));
        }
    }

    /// One line that says so, where there is something to say.
    pub fn told(&self, file: &str) -> Option<String> {
        let mut parts: Vec<String> =
            self.named.iter().map(|(number, why)| format!("line {number} is {why}")).collect();
        let more = self.count - self.named.len() as u64;
        if more > 0 {
            parts.push(format!("and {more} more"));
        }
        let mut text = parts.join(", ");
        if self.count > 0 {
            let lines = if self.count == 1 { "it was" } else { "they were" };
            text.push_str(&format!("; {lines} left out, the rest was read"));
        }
        if let Some((number, error)) = &self.broken {
            let ends = error.kind() == io::ErrorKind::UnexpectedEof;
            let why = if ends { "its compressed data ends early".to_owned() } else { os_error::words(error) };
            let glue = if text.is_empty() { "" } else { "; " };
            text.push_str(&format!("{glue}it cannot be read from line {number} on: {why}"));
        }
        (!text.is_empty()).then(|| os_error::one_line(&format!("file '{file}': {text}")))
    }
}

enum Found {
    Line,
    /// Longer than a line may be: what it says was skipped.
    TooLong,
    End,
}

/// The next line, without its end; holds no more of it than a line may have.
fn next_line(input: &mut impl BufRead, text: &mut Vec<u8>) -> io::Result<Found> {
    text.clear();
    let (mut some, mut too_long) = (false, false);
    loop {
        let chunk = match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        let end = chunk.iter().position(|&byte| byte == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        too_long |= text.len() + part.len() > LONGEST_LINE;
        if !too_long {
            text.extend_from_slice(part);
        }
        some |= !chunk.is_empty();
        let last = end.is_some() || chunk.is_empty();
        let used = part.len() + usize::from(end.is_some());
        input.consume(used);
        if last {
            return Ok(match (some, too_long) {
                (false, _) => Found::End,
                (true, true) => Found::TooLong,
                (true, false) => Found::Line,
            });
        }
    }
}
