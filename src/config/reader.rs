//! Configuration: reads a TOML table key by key and remembers every problem with its line. Knows no key by itself.

use crate::os_error;
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One thing wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1; none where the file as a whole is meant.
    pub line: Option<usize>,
    /// The key, with its section; empty where the text is no TOML.
    pub key: String,
    /// What is wrong, and after a semicolon what would mend it.
    pub what: String,
}

/// Everything wrong with one configuration file, in the order of its lines. Displays one line a problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// The file.
    pub file: String,
    /// At least one.
    pub list: Vec<Problem>,
}

impl Problems {
    /// The one problem of the file as a whole.
    pub(super) fn of_file(file: String, what: String) -> Self {
        Self { file, list: vec![Problem { line: None, key: String::new(), what }] }
    }

    /// Each problem as one line, whatever characters the file's name has.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.list.iter().map(|problem| {
            let mut line = format!("{}: ", self.file);
            if let Some(number) = problem.line {
                line.push_str(&format!("line {number}: "));
            }
            if !problem.key.is_empty() {
                line.push_str(&format!("{}: ", problem.key));
            }
            line.push_str(&problem.what);
            os_error::one_line(&line)
        })
    }
}

/// Most bytes of a configuration: some 4096 servers with every key and a comment take half of it.
const LARGEST: u64 = 1 << 20;

/// The text of a file, or why there is none and what mends it.
pub(super) fn text(file: &Path) -> Result<String, String> {
    let unreadable = |error: std::io::Error| os_error::unreadable(&error);
    // Asked before it is opened: opening a pipe waits for whoever writes to it.
    let metadata = std::fs::metadata(file).map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(unreadable(ErrorKind::IsADirectory.into()));
    }
    if !metadata.is_file() {
        return Err("is not a regular file; name a file that can be read again".to_owned());
    }
    const TOO_LARGE: &str = "is larger than 1 MiB; name a configuration file";
    if metadata.len() > LARGEST {
        return Err(TOO_LARGE.to_owned());
    }
    let mut text = String::new();
    let file = File::open(file).map_err(unreadable)?;
    file.take(LARGEST + 1).read_to_string(&mut text).map_err(|error| {
        if error.kind() == ErrorKind::InvalidData {
            "is not text; save it as UTF-8 text".to_owned()
        } else {
            unreadable(error)
        }
    })?;
    if text.len() as u64 > LARGEST {
        return Err(TOO_LARGE.to_owned());
    }
    Ok(text)
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in self.lines().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&line)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The text and the problems found in it so far.
pub(super) struct Reader<'a> {
    text: &'a str,
    /// Where each line begins.
    starts: Vec<usize>,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts, problems: Vec::new() }
    }

    /// The line a byte of the text lies on, from 1.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        let at = span.start.min(self.text.len());
        self.starts.partition_point(|&start| start <= at)
    }

    /// Notes a problem at a place of the text. Control characters from the file do not reach a terminal.
    pub(super) fn problem(&mut self, span: &Range<usize>, key: &str, what: &str) {
        // Longer than any message with words of ours; only a value quoted in it can be.
        const LONGEST: usize = 500;
        let clean = |text: &str| {
            text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect::<String>()
        };
        let problem = Problem { line: Some(self.line(span)), key: clean(key), what: clean(what) };
        self.problems.push(problem);
    }

    /// Every problem, by line.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| problem.line);
        self.problems
    }
}

/// One table being read: each `take` names a key it may have; `finish` reports the keys nobody took.
pub(super) struct Section<'r, 'a, 't, 'i> {
    reader: &'r mut Reader<'a>,
    name: &'static str,
    table: &'t DeTable<'i>,
    known: Vec<&'static str>,
}

impl<'r, 'a, 't, 'i> Section<'r, 'a, 't, 'i> {
    /// `name` stands before the keys in problems; empty for the top of the file.
    pub(super) fn new(reader: &'r mut Reader<'a>, name: &'static str, table: &'t DeTable<'i>) -> Self {
        Self { reader, name, table, known: Vec::new() }
    }

    /// The raw value of a key with the reader, for nested tables.
    pub(super) fn raw(&mut self, key: &'static str) -> Option<(&'t Spanned<DeValue<'i>>, &mut Reader<'a>)> {
        self.known.push(key);
        let (_, value) = self.table.iter().find(|(name, _)| name.get_ref() == key)?;
        Some((value, self.reader))
    }

    /// The value of a key where it is there and right; `example` is what the problem tells the user to write.
    pub(super) fn take<T>(
        &mut self,
        key: &'static str,
        example: &str,
        parse: impl FnOnce(&DeValue<'i>) -> Result<T, String>,
    ) -> Option<T> {
        let path = self.path(key);
        let (value, reader) = self.raw(key)?;
        match parse(value.get_ref()) {
            Ok(value) => Some(value),
            Err(what) => {
                let mend = if what.contains("; ") {
                    String::new()
                } else {
                    format!("; for example {key} = {example}")
                };
                reader.problem(&value.span(), &path, &format!("{what}{mend}"));
                None
            }
        }
    }

    /// As `take`, into a place that holds the default.
    pub(super) fn set<T>(
        &mut self,
        place: &mut T,
        key: &'static str,
        example: &str,
        parse: impl FnOnce(&DeValue<'i>) -> Result<T, String>,
    ) {
        if let Some(value) = self.take(key, example, parse) {
            *place = value;
        }
    }

    /// Notes a problem of several keys together, at the first of them that is there.
    pub(super) fn complain(&mut self, keys: &[&str], what: &str) {
        let there = |key: &&&str| self.table.iter().any(|(name, _)| name.get_ref() == **key);
        let Some(key) = keys.iter().find(there) else { return };
        if let Some((name, _)) = self.table.iter().find(|(name, _)| name.get_ref() == *key) {
            let path = self.path(key);
            self.reader.problem(&name.span(), &path, what);
        }
    }

    /// Reports the keys that are not known, each with the nearest that is.
    pub(super) fn finish(self) {
        for (key, _) in self.table.iter() {
            let name = key.get_ref().as_ref();
            if self.known.contains(&name) {
                continue;
            }
            let what = match nearest(name, &self.known) {
                Some(near) => format!("unknown key; did you mean '{near}'?"),
                None => format!("unknown key; known here: {}", self.known.join(", ")),
            };
            let path = self.path(name);
            self.reader.problem(&key.span(), &path, &what);
        }
    }

    fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }
}

/// The known word most like this one, if any is like it at all.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    // 0.75 accepts two slips in a short word and refuses words that share only letters.
    const ALIKE: f64 = 0.75;
    let score = |candidate: &str| strsim::jaro_winkler(&word.to_lowercase(), candidate);
    let best = known.iter().copied().max_by(|a, b| score(a).total_cmp(&score(b)))?;
    (score(best) >= ALIKE).then_some(best)
}
