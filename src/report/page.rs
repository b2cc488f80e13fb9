//! Stage 5 of 5, report: the page at `/`: what the sensor sees now, and the way to everything else.
//!
//! One document without scripts; everything that came from outside is escaped.

use super::snapshot::Snapshot;
use super::text::{bytes, grouped, html, utc};
use crate::detect::incident::{Incident, ServerView, Severity};
use std::fmt::Write;

/// Servers and incidents shown; the API has all.
const ROWS: usize = 20;

/// The page's style sheet; a file of its own so that the content policy can forbid inline styles.
pub(super) const STYLE: &str = "\
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }
body { max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .2rem .6rem; border-bottom: 1px solid #8884; }
th:first-child, td:first-child { text-align: left; }
.critical { color: #c22; font-weight: 600; } .warning { color: #b60; font-weight: 600; }
.scroll { overflow-x: auto; } nav a { margin-right: 1rem; } p.quiet { opacity: .7; }
";

/// The page.
pub(super) fn page(snapshot: &Snapshot, telemetry_path: &str) -> String {
    let mut out = String::with_capacity(8 << 10);
    out.push_str(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<meta http-equiv=\"refresh\" content=\"5\">\n\
         <title>halfopen</title>\n<link rel=\"stylesheet\" href=\"/style.css\">\n</head>\n<body>\n",
    );
    let running: Vec<&Incident> =
        snapshot.incidents.iter().filter(|incident| incident.ended_at.is_none()).collect();
    let _ = writeln!(out, "<h1>halfopen {}</h1>", html(env!("CARGO_PKG_VERSION")));
    let state = match running.iter().map(|incident| incident.severity).max() {
        None => "<p>Quiet: no incident is running.</p>".to_owned(),
        Some(severity) => {
            format!("<p class=\"{}\">{} running.</p>", class(severity), plural(running.len(), "incident"))
        }
    };
    out.push_str(&state);
    overview(&mut out, snapshot);
    capture(&mut out, snapshot);
    servers(&mut out, &snapshot.servers);
    incidents(&mut out, &snapshot.incidents);
    links(&mut out, telemetry_path);
    out.push_str("</body>\n</html>\n");
    out
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

const fn class(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

/// A table: headers, then rows of cells that are escaped here.
fn table(out: &mut String, headers: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    out.push_str("<div class=\"scroll\"><table>\n<thead><tr>");
    for header in headers {
        let _ = write!(out, "<th scope=\"col\">{}</th>", html(header));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        out.push_str("<tr>");
        for cell in row {
            let _ = write!(out, "<td>{}</td>", html(&cell));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table></div>\n");
}

fn overview(out: &mut String, snapshot: &Snapshot) {
    let (counts, held) = (&snapshot.handshakes, &snapshot.table);
    let open = counts.open_syn_sent.saturating_add(counts.open_syn_received);
    let mut rows = vec![
        ("embryonic connections", format!("{} of {}", grouped(open), grouped(held.limit))),
        ("of these in SYN_SENT", grouped(counts.open_syn_sent)),
        ("of these in SYN_RECEIVED", grouped(counts.open_syn_received)),
        ("attempts", grouped(counts.attempts)),
    ];
    rows.extend(
        super::metrics::OUTCOMES.iter().zip(counts.closed).map(|(name, count)| (*name, grouped(count))),
    );
    rows.push(("untracked SYNs", grouped(counts.untracked)));
    rows.push(("half-open connections suspected", grouped(snapshot.half_open.suspected)));
    rows.push((
        "table",
        format!("{}{}", bytes(held.bytes), if held.emergency { ", nearly full: short timeouts" } else { "" }),
    ));
    let time =
        snapshot.network_time.map_or_else(|| "no packet yet".to_owned(), |at| format!("{} UTC", utc(at)));
    rows.push(("network time", time));
    out.push_str("<h2>Handshakes</h2>\n");
    table(out, &["", ""], rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]));
}

fn capture(out: &mut String, snapshot: &Snapshot) {
    out.push_str("<h2>Capture</h2>\n");
    let rows = snapshot.interfaces.iter().map(|view| {
        let drops = view.drops_kernel.saturating_add(view.drops_interface);
        let up = if view.up { "capturing" } else { "down" };
        vec![view.name.clone(), up.to_owned(), grouped(view.frames), bytes(view.bytes), grouped(drops)]
    });
    table(out, &["interface", "state", "frames", "bytes", "lost before us"], rows);
}

fn servers(out: &mut String, views: &[ServerView]) {
    let _ = writeln!(out, "<h2>Servers</h2>");
    let rows = views.iter().take(ROWS).map(|view| {
        let limit = view.backlog_limit.map_or_else(|| "?".to_owned(), grouped);
        vec![
            view.server.clone(),
            grouped(view.attempts),
            grouped(view.completed),
            grouped(view.unresolved),
            grouped(view.embryonic_syn_sent.saturating_add(view.embryonic_syn_received)),
            format!("{:.0} of {limit}", view.backlog_occupancy),
            grouped(view.distinct_sources),
            view.mode.as_label().to_owned(),
        ]
    });
    let headers =
        ["server", "attempts", "completed", "unresolved", "embryonic", "SYN queue", "sources", "mode"];
    table(out, &headers, rows);
    more(out, views.len(), "/api/v1/servers");
}

fn incidents(out: &mut String, list: &[Incident]) {
    out.push_str("<h2>Incidents</h2>\n");
    if list.is_empty() {
        out.push_str("<p class=\"quiet\">None so far.</p>\n");
        return;
    }
    let rows = list.iter().rev().take(ROWS).map(|incident| {
        let why = incident.evidence.first().map_or_else(String::new, |evidence| evidence.text.clone());
        vec![
            incident.server.clone(),
            incident.kind.as_label().to_owned(),
            class(incident.severity).to_owned(),
            utc(incident.onset),
            incident.ended_at.map_or_else(|| "running".to_owned(), utc),
            why,
        ]
    });
    table(out, &["about", "kind", "severity", "onset (UTC)", "ended", "why"], rows);
    more(out, list.len(), "/api/v1/incidents");
}

fn more(out: &mut String, count: usize, path: &str) {
    if count > ROWS {
        let _ = writeln!(out, "<p class=\"quiet\"><a href=\"{path}\">and {} more</a></p>", count - ROWS);
    }
}

fn links(out: &mut String, telemetry_path: &str) {
    out.push_str("<h2>More</h2>\n<nav>");
    for path in super::http::LINKS.iter().copied().chain([telemetry_path]) {
        let path = html(path);
        let _ = write!(out, "<a href=\"{path}\">{path}</a> ");
    }
    out.push_str("</nav>\n");
}
