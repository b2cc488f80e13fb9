//! Scenarios: what traffic a trace holds, as a TOML file that people read and write.
//!
//! Every duration is in seconds, every rate in conversations a second, every share between 0 and 1. Unknown keys are errors.
//!
//! ```toml
//! description = "a forged flood beside ordinary traffic"
//! seed = 7
//! duration = 60
//!
//! [[traffic]]
//! kind = "handshakes"
//! servers = "192.0.2.10:80"
//! rate = 100
//!
//! [[traffic]]
//! kind = "flood"
//! servers = "192.0.2.10:80"
//! rate = 2000
//! start = 20
//! duration = 30
//!
//! [expect]                 # whatever the reader of the result wants to hold it against; not looked at here
//! kind = "spoofed_flood"
//! ```

use super::kinds::{Backscatter, Flood, Handshakes, Scan};
use super::stream::Stream;
use crate::time::Timestamp;
use serde::{Deserialize, Deserializer};
use std::time::Duration;

/// A trace to be made.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is about, in one sentence.
    #[serde(default)]
    pub description: String,
    /// Another seed gives another trace of the same kind.
    #[serde(default)]
    pub seed: u64,
    /// When it begins, seconds since 1970. Default 1,750,000,000 (15 June 2025).
    #[serde(default = "default_epoch")]
    pub epoch: i64,
    /// Nothing is captured after this time.
    #[serde(deserialize_with = "seconds")]
    pub duration: Duration,
    /// Where and how well it is captured.
    #[serde(default)]
    pub sensor: Sensor,
    /// What happens, all at once.
    #[serde(default)]
    pub traffic: Vec<Traffic>,
    /// For whoever judges the result.
    #[serde(default)]
    pub expect: toml::Table,
}

const fn default_epoch() -> i64 {
    1_750_000_000
}

/// The place of capture and its faults.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sensor {
    /// Share of frames never captured.
    pub loss: f64,
    /// Share of frames captured twice, as a mirror of both ports does.
    pub duplicates: f64,
    /// Which directions are seen.
    pub direction: Direction,
    /// Steps of the capturing clock.
    pub clock_jumps: Vec<ClockJump>,
}

/// Which directions of a conversation are captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Both.
    #[default]
    Both,
    /// Originator to responder only.
    ToServers,
    /// Responder to originator only.
    FromServers,
}

/// The capturing clock steps: stamps from `at` on are displaced.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockJump {
    /// When, by the right clock.
    #[serde(deserialize_with = "seconds")]
    pub at: Duration,
    /// How far, seconds; negative is back. Adds up with earlier jumps.
    pub by: f64,
}

/// One kind of traffic.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Traffic {
    /// Real clients and their handshakes: ordinary load, flash crowds, outages.
    Handshakes(Handshakes),
    /// SYNs from forged (or few, real) sources: floods of every kind, carpets, reflection.
    Flood(Flood),
    /// One host trying many ports or many hosts.
    Scan(Scan),
    /// SYN-ACKs or refusals that nobody here asked for.
    Backscatter(Backscatter),
}

/// Why a scenario cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// Not TOML, or not a scenario.
    #[error("line {line}: {what}")]
    Syntax {
        /// The line, counted from 1; of a `[[traffic]]`, that of its header.
        line: usize,
        /// What is wrong, in one line.
        what: String,
    },
    /// A figure that cannot be.
    #[error("traffic {number}: {what}")]
    Traffic {
        /// Which `[[traffic]]`, counted from 1.
        number: usize,
        /// What is wrong.
        what: &'static str,
    },
}

impl Scenario {
    /// An empty scenario of this length.
    pub fn new(seed: u64, duration: Duration) -> Self {
        Self {
            description: String::new(),
            seed,
            epoch: default_epoch(),
            duration,
            sensor: Sensor::default(),
            traffic: Vec::new(),
            expect: toml::Table::new(),
        }
    }

    /// The same with more traffic.
    #[must_use]
    pub fn with(mut self, traffic: Traffic) -> Self {
        self.traffic.push(traffic);
        self
    }

    /// Reads a scenario file's text.
    ///
    /// # Errors
    /// What is wrong and where.
    pub fn from_toml(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let what = error.message().lines().collect::<Vec<_>>().join(", ");
            ScenarioError::Syntax { line: before.matches('\n').count() + 1, what }
        })?;
        for (index, traffic) in scenario.traffic.iter().enumerate() {
            traffic.check().map_err(|what| ScenarioError::Traffic { number: index + 1, what })?;
        }
        Ok(scenario)
    }

    /// Its frames, from the first.
    pub fn stream(&self) -> Stream {
        Stream::new(self)
    }

    /// When it begins.
    pub const fn start(&self) -> Timestamp {
        Timestamp::from_parts(self.epoch, 0)
    }
}

pub(super) fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(from)?;
    Duration::try_from_secs_f64(seconds).map_err(|why| serde::de::Error::custom(format!("{seconds}: {why}")))
}

pub(super) fn optional_seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    seconds(from).map(Some)
}
