//! Stage 5 of 5, report: what the journals told, as a table for people and as one JSON document.
//!
//! Pure functions of what was read.

use super::reader::{Account, LineCounts};
use super::told::Told;
use crate::report::text::{aligned, grouped, printable, severity, short, span, utc};
use crate::time::Timestamp;
use serde::Serialize;

/// The form of the document (contract: `schema`).
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    incidents: &'a [Told],
    left_out: u64,
    lines: LineCounts,
}

impl Account {
    /// One JSON document.
    ///
    /// # Errors
    /// None but what a serialiser may have.
    pub fn document(&self) -> serde_json::Result<String> {
        let (incidents, left_out, lines) = (self.incidents.as_slice(), self.left_out, self.lines);
        serde_json::to_string_pretty(&Document { schema: SCHEMA, incidents, left_out, lines })
    }

    /// A row an incident, and what else there was; lines ended by newlines.
    pub fn table(&self) -> String {
        let mut rows = vec![
            [
                "id",
                "severity",
                "kind",
                "on",
                "began (UTC)",
                "ended (UTC)",
                "lasted",
                "peak SYN/s",
                "attempts",
                "mode",
                "why it ended",
            ]
            .map(str::to_owned),
        ];
        rows.extend(self.incidents.iter().map(row));
        let mut lines = if self.incidents.is_empty() { Vec::new() } else { aligned(&rows, 6..9) };
        lines.push(self.sums());
        if self.left_out > 0 {
            lines.push(format!(
                "{} rows were left out, those that ended longest ago first; --limit keeps more, --since and --server ask for fewer",
                grouped(self.left_out)
            ));
        }
        lines.join("\n") + "\n"
    }

    fn sums(&self) -> String {
        let (lines, all) = (&self.lines, self.incidents.len() as u64);
        let running = self.incidents.iter().filter(|told| told.ended_at.is_none()).count();
        format!(
            "{} {}, {running} not ended; of {} lines {} tell of incidents, {} of half-open connections, {} of oddities, {} of nothing",
            grouped(all),
            if all == 1 { "incident" } else { "incidents" },
            grouped(lines.read),
            grouped(lines.incidents),
            grouped(lines.half_open),
            grouped(lines.oddities),
            grouped(lines.damaged),
        )
    }
}

fn row(told: &Told) -> [String; 11] {
    let lasted = |until: Timestamp| span(until.since(told.onset).as_secs_f64());
    let (ended, lasted) = match told.ended_at {
        Some(at) => (second(at), lasted(at)),
        // So long at least: nobody has told of it since.
        None => ("not ended".to_owned(), format!("> {}", lasted(told.last_told))),
    };
    [
        printable(&told.id),
        severity(told.severity).to_owned(),
        told.kind.as_label().to_owned(),
        printable(&told.server),
        second(told.onset),
        ended,
        lasted,
        told.syn_rate_peak.map_or_else(|| "?".to_owned(), short),
        grouped(told.attempts),
        told.server_mode.as_label().to_owned(),
        printable(told.end_reason.as_deref().unwrap_or_default()),
    ]
}

/// A date and time without the fraction of its second.
fn second(at: Timestamp) -> String {
    let whole = utc(at);
    whole.split_once('.').map_or(whole.as_str(), |(second, _)| second).to_owned()
}
