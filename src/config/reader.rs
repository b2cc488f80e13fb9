//! Configuration: reads a TOML table key by key and remembers every problem with its line. Knows no key by itself.

use std::fmt;
use std::io::ErrorKind;
use std::ops::Range;
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
    /// The one problem that the file cannot be read.
    pub(super) fn unreadable(file: String, error: &std::io::Error) -> Self {
        let mends = [
            (ErrorKind::NotFound, "name an existing file"),
            (ErrorKind::PermissionDenied, "make it readable for this user"),
            (ErrorKind::InvalidData, "save it as UTF-8 text"),
        ];
        let mend =
            mends.iter().find(|(kind, _)| *kind == error.kind()).map_or("check the path", |(_, mend)| mend);
        // The operating system's words, without the number that Rust adds.
        let why = error.to_string();
        let why = why.split(" (os error").next().unwrap_or(&why).to_owned();
        Self { file, list: vec![Problem { line: None, key: String::new(), what: format!("{why}; {mend}") }] }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}: ", self.file)?;
            if let Some(line) = problem.line {
                write!(f, "line {line}: ")?;
            }
            if !problem.key.is_empty() {
                write!(f, "{}: ", problem.key)?;
            }
            f.write_str(&problem.what)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The text and the problems found in it so far.
pub(super) struct Reader<'a> {
    text: &'a str,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, problems: Vec::new() }
    }

    /// The line a byte of the text lies on, from 1.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        let end = span.start.min(self.text.len());
        1 + self.text.as_bytes()[..end].iter().filter(|&&byte| byte == b'\n').count()
    }

    /// Notes a problem at a place of the text. Control characters from the file do not reach a terminal.
    pub(super) fn problem(&mut self, span: &Range<usize>, key: &str, what: &str) {
        let clean =
            |text: &str| text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
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
