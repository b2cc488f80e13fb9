//! Stage 5 of 5, report: tables, bars and incidents as HTML, for the live page and the replay's report.
//!
//! Every cell that came from outside is escaped here. No style attribute: the page's content policy allows none.

use crate::detect::incident::{Incident, ServerView, Severity};
use crate::report::snapshot::Snapshot;
use crate::report::text::{grouped, html, short, span, utc};
use crate::time::Timestamp;
use std::fmt::Write;

/// One cell: words to escape, or markup made here.
pub(super) enum Cell {
    /// Escaped when it is written.
    Text(String),
    /// Made by this module of escaped parts.
    Markup(String),
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// A table that scrolls by itself where the screen is narrow.
pub(super) fn table(out: &mut String, headers: &[&str], rows: impl Iterator<Item = Vec<Cell>>) {
    out.push_str("<div class=\"scroll\"><table>\n");
    if headers.iter().any(|header| !header.is_empty()) {
        out.push_str("<thead><tr>");
        for header in headers {
            let _ = write!(out, "<th scope=\"col\">{}</th>", html(header));
        }
        out.push_str("</tr></thead>\n");
    }
    out.push_str("<tbody>\n");
    for row in rows {
        out.push_str("<tr>");
        for cell in row {
            let _ = match cell {
                Cell::Text(text) => write!(out, "<td>{}</td>", html(&text)),
                Cell::Markup(markup) => write!(out, "<td>{markup}</td>"),
            };
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table></div>\n");
}

pub(super) fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{} {noun}s", grouped(count as u64)) }
}

/// The class of a severity; also its name for people.
pub(super) const fn class(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

/// A share of something as a bar with words; the share may be above 1, the bar is full then.
pub(super) fn bar(share: f64, words: &str) -> Cell {
    let grave = match share {
        s if s >= 0.9 => " critical",
        s if s >= 0.6 => " warning",
        _ => "",
    };
    let width = (share.clamp(0.0, 1.0) * 100.0).round();
    Cell::Markup(format!(
        "<span class=\"bar{grave}\"><svg viewBox=\"0 0 100 1\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
         <rect width=\"{width}\" height=\"1\"/></svg><span>{}</span></span>",
        html(words)
    ))
}

/// Its SYN queue: what it is reckoned to hold, of what it can.
fn queue(view: &ServerView) -> Cell {
    let held = view.backlog_occupancy;
    match view.backlog_limit {
        Some(limit) => bar(held / (limit.max(1) as f64), &format!("{held:.0} of {}", grouped(limit))),
        None if held < 0.5 => "".into(),
        None => format!("{} of ?", short(held)).into(),
    }
}

/// Whether this is what is left of all servers that have no row of their own.
pub(super) fn folded(view: &ServerView) -> bool {
    !view.configured && view.endpoint.is_none() && view.server == "other"
}

/// Those that have a row: all but an empty `other`.
pub(super) fn shown(views: &[ServerView]) -> impl Iterator<Item = &ServerView> {
    views.iter().filter(|view| !folded(view) || view.attempts > 0)
}

/// Servers as rows.
pub(super) fn servers<'a>(out: &mut String, views: impl Iterator<Item = &'a ServerView>) {
    let rows = views.map(|view| -> Vec<Cell> {
        let embryonic = view.embryonic_syn_sent.saturating_add(view.embryonic_syn_received);
        vec![
            view.server.as_str().into(),
            queue(view),
            grouped(embryonic).into(),
            grouped(view.unresolved).into(),
            grouped(view.attempts).into(),
            grouped(view.completed).into(),
            grouped(view.distinct_sources).into(),
            view.mode.as_label().into(),
        ]
    });
    let headers =
        ["server", "SYN queue", "embryonic", "unresolved", "attempts", "completed", "sources", "mode"];
    table(out, &headers, rows);
}

/// One incident with its figures and evidence. Times are counted from `zero`, where there is one; `frames` of it can be asked for.
pub(super) fn incident(
    out: &mut String,
    incident: &Incident,
    zero: Option<Timestamp>,
    open: bool,
    frames: bool,
) {
    let grave = class(incident.severity);
    // In a report they all are.
    let over = if incident.ended_at.is_some() && zero.is_none() { " over" } else { "" };
    let kind = incident.kind.as_label().replace('_', " ");
    let _ = writeln!(
        out,
        "<article class=\"incident {grave}{over}\"><h3>{grave}: {kind} on {}</h3>",
        html(&incident.server)
    );
    let moment = |at: Timestamp| match zero {
        Some(zero) => format!("+{:.1} s", at.since(zero).as_secs_f64()),
        None => utc(at).chars().take(19).chain(" UTC".chars()).collect(),
    };
    let running = if zero.is_some() { "not over at the end" } else { "running" };
    let end = match incident.ended_at {
        Some(at) => format!(
            "over at {} after {} ({})",
            moment(at),
            span(at.since(incident.onset).as_secs_f64()),
            incident.end_reason.unwrap_or("ended")
        ),
        None => format!("<b>{running}</b>"),
    };
    let _ = writeln!(
        out,
        "<p>since {}, found {} later, {end}</p>",
        moment(incident.onset),
        span(incident.detected_at.since(incident.onset).as_secs_f64())
    );
    let loss = match incident.capture_loss {
        loss if loss > 0.0 => format!(", {:.1} % of the frames lost before us", loss * 100.0),
        _ => String::new(),
    };
    let _ = writeln!(
        out,
        "<p>{} attempts, {} completed, at most {} embryonic, peak {} SYN/s, {} sources, server mode {}{loss}</p>",
        grouped(incident.attempts),
        grouped(incident.completed),
        grouped(incident.embryonic_peak),
        short(incident.syn_rate_peak),
        grouped(incident.distinct_sources),
        html(incident.server_mode.as_label()),
    );
    if !incident.evidence.is_empty() {
        let open = if open { " open" } else { "" };
        let _ =
            write!(out, "<details id=\"why-{}\"{open}><summary>evidence</summary><ul>", html(&incident.id));
        for evidence in &incident.evidence {
            let _ = write!(out, "<li>{}</li>", html(&evidence.text));
        }
        out.push_str("</ul></details>\n");
    }
    if frames {
        let id = html(&incident.id);
        let _ = writeln!(
            out,
            "<p><a href=\"/api/v1/incidents/{id}/pcap\" download>its frames, for tcpdump and Wireshark</a></p>"
        );
    }
    out.push_str("</article>\n");
}

/// What became of every attempt: the closing law, row by row.
pub(super) fn outcomes(out: &mut String, snapshot: &Snapshot) {
    let counts = &snapshot.handshakes;
    let share = |count: u64| match counts.attempts {
        0 => String::new(),
        attempts => format!("{:.1} %", 100.0 * count as f64 / attempts as f64),
    };
    let row = |name: &str, count: u64| -> Vec<Cell> {
        vec![name.into(), grouped(count).into(), share(count).into()]
    };
    let mut rows = vec![row("attempts", counts.attempts)];
    rows.extend(
        crate::report::metrics::OUTCOMES.iter().zip(counts.closed).map(|(name, count)| row(name, count)),
    );
    rows.push(row("open in SYN_SENT", counts.open_syn_sent));
    rows.push(row("open in SYN_RECEIVED", counts.open_syn_received));
    table(out, &["outcome", "", "of attempts"], rows.into_iter());
    if counts.untracked > 0 {
        let _ = writeln!(
            out,
            "<p class=\"quiet\">and {} SYNs that the full table could only count</p>",
            grouped(counts.untracked)
        );
    }
}
