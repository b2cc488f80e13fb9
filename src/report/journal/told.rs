//! Stage 5 of 5, report: a line of the journal as it is read back.
//!
//! Believes nothing: a line may come from another version, from half a write, or from anybody. Does no input of its own.

use crate::detect::incident::{IncidentKind, Scope, ServerMode, Severity};
use crate::time::Timestamp;
use serde::de::{Error, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Pieces of evidence that are kept of one incident: several times what a detector gives.
const CLUES: usize = 32;

/// What an incident was when the journal last told of it, in the contract's form. Times are those of the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// The same in the journal, the API, metrics and logs.
    pub id: String,
    /// What it is.
    pub kind: IncidentKind,
    /// What it is about.
    pub scope: Scope,
    /// Name from the configuration, `address:port`, a prefix, a source for scans, or `sensor`.
    pub server: String,
    /// Who should hear of it.
    pub severity: Severity,
    /// When it began, estimated.
    #[serde(serialize_with = "seconds", deserialize_with = "moment")]
    pub onset: Timestamp,
    /// When it was raised.
    #[serde(serialize_with = "seconds", deserialize_with = "moment")]
    pub detected_at: Timestamp,
    /// When it ended; none where no line says that it did.
    #[serde(default, serialize_with = "optional_seconds", deserialize_with = "optional_moment")]
    pub ended_at: Option<Timestamp>,
    /// Why it ended.
    #[serde(default)]
    pub end_reason: Option<String>,
    /// How the server treated SYNs.
    #[serde(default)]
    pub server_mode: ServerMode,
    /// How sure that is, 0 to 1.
    #[serde(default)]
    pub server_mode_confidence: Option<f64>,
    /// Highest rate of attempts in a second.
    #[serde(default)]
    pub syn_rate_peak: Option<f64>,
    /// Attempts since the onset.
    #[serde(default)]
    pub attempts: u64,
    /// Of them completed.
    #[serde(default)]
    pub completed: u64,
    /// Most embryonic connections at once.
    #[serde(default)]
    pub embryonic_peak: u64,
    /// Highest estimated share of the server's SYN queue.
    #[serde(default)]
    pub backlog_occupancy_peak: Option<f64>,
    /// No model of its queue stood behind that.
    #[serde(default)]
    pub backlog_occupancy_estimated: bool,
    /// Distinct sources of unresolved attempts, estimated.
    #[serde(default)]
    pub distinct_sources: u64,
    /// Share of frames lost before the sensor meanwhile, 0 to 1.
    #[serde(default)]
    pub capture_loss: Option<f64>,
    /// Why.
    #[serde(default)]
    pub evidence: Vec<Clue>,
    /// Network time of the line that this is from.
    #[serde(skip_deserializing, serialize_with = "seconds")]
    pub last_told: Timestamp,
}

/// One signal behind a verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Clue {
    /// Its name, for example `cusum`.
    pub signal: String,
    /// Its value; none where it is no number, as JSON knows no infinity.
    pub value: Option<f64>,
    /// What it is compared with.
    pub threshold: Option<f64>,
    /// What that means.
    pub text: String,
}

impl Told {
    /// Bytes it holds, itself among them.
    pub(super) fn bytes(&self) -> usize {
        let clues = self.evidence.iter().map(|clue| clue.signal.capacity() + clue.text.capacity());
        size_of::<Self>()
            + self.id.capacity()
            + self.server.capacity()
            + self.end_reason.as_ref().map_or(0, String::capacity)
            + self.evidence.capacity() * size_of::<Clue>()
            + clues.sum::<usize>()
    }
}

/// What a line tells.
#[derive(Debug)]
pub(super) enum Line {
    Incident(Box<Told>),
    HalfOpen,
    Oddity,
}

#[derive(Deserialize)]
struct Fields {
    #[serde(deserialize_with = "moment")]
    ts: Timestamp,
    event: Event,
    incident: Option<Told>,
    half_open: Option<IgnoredAny>,
    oddity: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Event {
    Raised,
    Updated,
    Ended,
    HalfOpen,
    Oddity,
}

/// A line's meaning, and its network time.
///
/// # Errors
/// It is none of the journal's: why, in some words that go on from "is".
pub(super) fn line(bytes: &[u8]) -> Result<(Line, Timestamp), String> {
    let fields: Fields = serde_json::from_slice(bytes).map_err(|error| {
        let words = error.to_string();
        // The place in the line is of use where there is JSON only.
        let words = words.rsplit_once(" at line 1").map_or(words.as_str(), |(words, _)| words);
        match error.classify() {
            serde_json::error::Category::Eof => "cut short".to_owned(),
            serde_json::error::Category::Data => format!("no line of a journal ({words})"),
            serde_json::error::Category::Syntax | serde_json::error::Category::Io => "no JSON".to_owned(),
        }
    })?;
    let line = match fields {
        Fields { event: Event::Raised | Event::Updated | Event::Ended, incident: Some(mut told), .. } => {
            told.evidence.truncate(CLUES);
            told.evidence.shrink_to_fit();
            told.last_told = fields.ts;
            Line::Incident(Box::new(told))
        }
        Fields { event: Event::HalfOpen, half_open: Some(_), .. } => Line::HalfOpen,
        Fields { event: Event::Oddity, oddity: Some(_), .. } => Line::Oddity,
        _ => return Err("no line of a journal (it lacks what its event names)".to_owned()),
    };
    Ok((line, fields.ts))
}

/// Seconds since 1970 as the stamp that would be written as these seconds: a double does not hold every nanosecond, and what is
/// printed must be what was read.
fn stamp<E: Error>(seconds: f64) -> Result<Timestamp, E> {
    // The years 1678 to 2262, as `Timestamp` has them.
    if !seconds.is_finite() || seconds.abs() >= 9.2e9 {
        return Err(E::custom("a time that is none"));
    }
    let near = (seconds * 1e9).round();
    let stamps = [near, near.next_up(), near.next_down()].map(|nanos| Timestamp::from_nanos(nanos as i64));
    let same = |at: &Timestamp| at.as_secs_f64().to_bits() == seconds.to_bits();
    Ok(stamps.into_iter().find(same).unwrap_or(stamps[0]))
}

fn moment<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
    stamp(f64::deserialize(from)?)
}

fn optional_moment<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
    Option::<f64>::deserialize(from)?.map(stamp).transpose()
}

fn seconds<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(at.as_secs_f64())
}

fn optional_seconds<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(Timestamp::as_secs_f64).serialize(serializer)
}
