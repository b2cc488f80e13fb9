//! Stage 5 of 5, report: a replay as one HTML file that needs nothing else: plots over the trace, incidents on its time axis, servers,
//! outcomes, latencies, what was not seen, and how to repeat it.
//!
//! No script, nothing loaded; everything from the trace is escaped. The same trace gives the same file.

use super::parts::{self, Cell, bar, class, plural};
use super::plot::{Band, Plot, Series, rate};
use super::{STYLE, band_title, embryonic};
use crate::detect::incident::{Incident, IncidentKind, Scope, ServerView};
use crate::report::history::{Sample, ServerSample, TRACE_STEP};
use crate::report::snapshot::{Histogram, LATENCY_BOUNDS, Snapshot};
use crate::report::summary::Replay;
use crate::report::text::{grouped, html, short, span, utc};
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

/// Servers shown.
const SERVERS: usize = 24;

/// Prefixes shown.
const PREFIXES: usize = 12;

/// Incidents shown whole; a trace full of scans has thousands.
const INCIDENTS: usize = 60;

/// What a figure is drawn over: the trace from its first frame to its last.
struct Trace<'a> {
    snapshot: &'a Snapshot,
    history: &'a [Sample],
    start: Timestamp,
    seconds: f64,
}

/// The file. `command` repeats it.
pub fn report(snapshot: &Snapshot, history: &[Sample], replay: &Replay, command: &str) -> String {
    let (first, last) = (replay.first.unwrap_or_default(), replay.last.unwrap_or_default());
    let seconds = last.since(first).as_secs_f64();
    // A trace begins with nothing: the curves begin with the bin of its first frame, not at the end of it.
    let begin = history.first().map(nothing_before);
    let history: Vec<Sample> = begin.into_iter().chain(history.iter().cloned()).collect();
    let trace = Trace { snapshot, history: &history, start: first, seconds };
    let mut out = String::with_capacity(128 << 10);
    let names = replay.files.join(", ");
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>halfopen: {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
        html(&names)
    );
    heading(&mut out, &trace, replay, &names);
    section(&mut out, "wide", "", |out| tiles(out, &trace));
    for figure in overall(&trace) {
        section(&mut out, "half", "", |out| figure.write(out));
    }
    section(&mut out, "wide", "Incidents", |out| incidents(out, &trace));
    section(&mut out, "wide", "Servers", |out| servers(out, &snapshot.servers));
    section(&mut out, "", "What became of the attempts", |out| parts::outcomes(out, snapshot));
    for (title, histogram) in [
        ("SYN to SYN-ACK", &snapshot.syn_ack_latency),
        ("SYN to ACK: the whole handshake", &snapshot.handshake_duration),
    ] {
        section(&mut out, "", title, |out| latency(out, histogram));
    }
    section(&mut out, "", "What was not seen", |out| unseen(out, snapshot));
    section(&mut out, "wide", "To repeat it", |out| {
        let _ = writeln!(out, "<pre>{}</pre>", html(command));
    });
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

/// A bin before the first sample nothing had been seen, of no server either.
fn nothing_before(first: &Sample) -> Sample {
    let none = |one: &ServerSample| ServerSample { attempts: 0, completed: 0, embryonic: 0, ..one.clone() };
    Sample {
        at: first.at.minus(TRACE_STEP),
        attempts: 0,
        completed: 0,
        untracked: 0,
        syn_sent: 0,
        syn_received: 0,
        frames: 0,
        drops: 0,
        servers: first.servers.iter().map(none).collect(),
    }
}

fn section(out: &mut String, class: &str, title: &str, content: impl FnOnce(&mut String)) {
    let _ = write!(out, "<section class=\"{class}\">");
    if !title.is_empty() {
        let _ = writeln!(out, "<h2>{title}</h2>");
    }
    content(out);
    out.push_str("</section>\n");
}

fn heading(out: &mut String, trace: &Trace<'_>, replay: &Replay, names: &str) {
    let all = &trace.snapshot.incidents;
    let (state, grave) = match all.iter().map(|incident| incident.severity).max() {
        None => ("no incident".to_owned(), "calm"),
        Some(severity) => (plural(all.len(), "incident"), class(severity)),
    };
    let time = match (replay.first, replay.last) {
        (Some(first), Some(last)) => format!("{} to {} UTC, {}", utc(first), utc(last), span(trace.seconds)),
        _ => "no frame".to_owned(),
    };
    let _ = write!(
        out,
        "<header><h1>halfopen report <small>{}</small></h1><span class=\"state {grave}\">{state}</span></header>\n\
         <p><b>{}</b> <span class=\"quiet\">{}</span></p>\n<p class=\"quiet\">{time}</p>\n<main>\n",
        html(env!("CARGO_PKG_VERSION")),
        html(names),
        html(&replay.link_types.join(", ")),
    );
}

fn tiles(out: &mut String, trace: &Trace<'_>) {
    let counts = &trace.snapshot.handshakes;
    let open = trace.history.iter().map(|sample| sample.syn_sent + sample.syn_received).max().unwrap_or(0);
    let fastest =
        rate(trace.history, 0.0, |sample| sample.attempts).iter().map(|point| point.1).fold(0.0, f64::max);
    out.push_str("<dl class=\"tiles\">");
    for (name, value) in [
        ("attempts", grouped(counts.attempts)),
        ("completed", grouped(counts.closed[0])),
        ("most attempts a second", short(fastest)),
        ("most embryonic at once", grouped(open)),
        ("frames", grouped(trace.snapshot.frames.read)),
    ] {
        let _ = write!(out, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }
    out.push_str("</dl>\n");
}

impl Trace<'_> {
    fn zero(&self) -> f64 {
        self.start.as_secs_f64()
    }

    fn figure<'p>(&self, title: &'p str, series: Vec<Series<'p>>, bands: Vec<Band<'p>>) -> Plot<'p> {
        let tick = |quarter: u32| {
            let at = self.seconds * f64::from(quarter) / 4.0;
            format!("+{}", span(if at < 10.0 { at } else { at.round() }).trim_end_matches(" 0 s"))
        };
        let ticks = std::iter::once("0 s".to_owned()).chain((1..=4).map(tick)).collect();
        Plot { title, range: (0.0, self.seconds), ticks, series, bands, live: false }
    }

    fn band<'p>(&self, incident: &Incident, title: &'p str) -> Band<'p> {
        let since = |at: Timestamp| at.as_secs_f64() - self.zero();
        let to = incident.ended_at.map_or(self.seconds, since);
        Band { from: since(incident.onset), to, title, class: class(incident.severity) }
    }

    /// One server's counter as a rate, or its gauge, from the samples it is in.
    fn of_server(&self, server: &str, rates: bool, of: fn(&ServerSample) -> u64) -> Vec<(f64, f64)> {
        let seen = self.history.iter().filter_map(|sample| {
            let one = sample.servers.iter().find(|one| &*one.server == server)?;
            Some((sample.at.as_secs_f64() - self.zero(), of(one)))
        });
        if !rates {
            return seen.map(|(at, value)| (at, value as f64)).collect();
        }
        let seen: Vec<(f64, u64)> = seen.collect();
        let grown = seen.windows(2).filter_map(|two| {
            let [before, after] = two else { return None };
            let seconds = after.0 - before.0;
            (seconds > 0.0).then(|| (after.0, after.1.saturating_sub(before.1) as f64 / seconds))
        });
        grown.collect()
    }
}

fn overall<'a>(trace: &Trace<'a>) -> [Plot<'a>; 2] {
    let (history, zero) = (trace.history, trace.zero());
    // Too many bands would hide the lines; those of scans say least.
    let bands = || -> Vec<Band<'a>> {
        let scan = |kind| matches!(kind, IncidentKind::PortScan | IncidentKind::HostScan);
        let grave = trace.snapshot.incidents.iter();
        let grave = grave.filter(|incident| incident.scope != Scope::Host && !scan(incident.kind));
        grave.take(INCIDENTS).map(|incident| trace.band(incident, incident.kind.as_label())).collect()
    };
    [
        trace.figure(
            "Attempts and completions, a second",
            vec![
                Series {
                    name: "attempts",
                    class: "attempts",
                    points: rate(history, zero, |s| s.attempts),
                    filled: true,
                },
                Series {
                    name: "completed",
                    class: "completed",
                    points: rate(history, zero, |s| s.completed),
                    filled: false,
                },
            ],
            bands(),
        ),
        trace.figure("Embryonic connections", embryonic(history, zero), bands()),
    ]
}

fn incidents(out: &mut String, trace: &Trace<'_>) {
    let all = &trace.snapshot.incidents;
    if all.is_empty() {
        out.push_str("<p class=\"quiet\">None.</p>\n");
    }
    let mut order: Vec<&Incident> = all.iter().collect();
    order.sort_by_key(|incident| (std::cmp::Reverse(incident.severity), incident.onset));
    for incident in order.iter().take(INCIDENTS) {
        parts::incident(out, incident, Some(trace.start), true, false);
        let attempts = trace.of_server(&incident.server, true, |one| one.attempts);
        if attempts.len() < 2 {
            continue;
        }
        let completed = trace.of_server(&incident.server, true, |one| one.completed);
        let embryonic = trace.of_server(&incident.server, false, |one| one.embryonic);
        let (title, about) = (format!("{}, a second", incident.server), band_title(incident));
        let series = vec![
            Series { name: "attempts", class: "attempts", points: attempts, filled: true },
            Series { name: "completed", class: "completed", points: completed, filled: false },
        ];
        trace.figure(&title, series, vec![trace.band(incident, &about)]).write(out);
        let title = format!("{}, embryonic connections", incident.server);
        let series = vec![Series { name: "embryonic", class: "received", points: embryonic, filled: true }];
        trace.figure(&title, series, vec![trace.band(incident, &about)]).write(out);
    }
    if all.len() > INCIDENTS {
        let _ = writeln!(
            out,
            "<p class=\"quiet\">and {} more: replay --json lists them</p>",
            all.len() - INCIDENTS
        );
    }
}

fn servers(out: &mut String, views: &[ServerView]) {
    if views.is_empty() {
        out.push_str("<p class=\"quiet\">None seen.</p>\n");
        return;
    }
    parts::servers(out, parts::shown(views).take(SERVERS));
    if views.len() > SERVERS {
        let _ = writeln!(
            out,
            "<p class=\"quiet\">and {} more: replay --metrics lists them</p>",
            views.len() - SERVERS
        );
    }
    let mut prefixes: BTreeMap<String, [u64; 4]> = BTreeMap::new();
    for view in views {
        let Some(endpoint) = view.endpoint else { continue };
        let sums = prefixes.entry(prefix(endpoint.addr)).or_default();
        let embryonic = view.embryonic_syn_sent.saturating_add(view.embryonic_syn_received);
        for (sum, more) in sums.iter_mut().zip([1, view.attempts, view.completed, embryonic]) {
            *sum = sum.saturating_add(more);
        }
    }
    let mut sorted: Vec<_> = prefixes.into_iter().filter(|(_, sums)| sums[0] > 1).collect();
    sorted.sort_by_key(|(_, sums)| std::cmp::Reverse(sums[1]));
    if sorted.is_empty() {
        return;
    }
    out.push_str("<h2>Their prefixes</h2>\n");
    let rows = sorted.into_iter().take(PREFIXES).map(|(prefix, sums)| -> Vec<Cell> {
        std::iter::once(prefix.into()).chain(sums.map(|sum| grouped(sum).into())).collect()
    });
    parts::table(out, &["prefix", "servers", "attempts", "completed", "embryonic"], rows);
}

/// The /24 or /48 of an address, as detection groups them.
fn prefix(addr: IpAddr) -> String {
    match addr {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(v6) => {
            let [a, b, c, ..] = v6.segments();
            format!("{}/48", std::net::Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
        }
    }
}

/// A row for each bucket from the first to the last that is not empty.
fn latency(out: &mut String, histogram: &Histogram) {
    let count = histogram.count();
    let (Some(first), Some(last)) = (
        histogram.buckets.iter().position(|&bucket| bucket > 0),
        histogram.buckets.iter().rposition(|&bucket| bucket > 0),
    ) else {
        out.push_str("<p class=\"quiet\">None seen.</p>\n");
        return;
    };
    let rows = (first..=last).map(|index| -> Vec<Cell> {
        let bucket = histogram.buckets[index];
        let bound =
            LATENCY_BOUNDS.get(index).map_or("more".to_owned(), |bound| format!("≤ {}", span(*bound)));
        let share = bucket as f64 / count as f64;
        // Long is no trouble here: half of the colour scale is left unused.
        let Cell::Markup(drawn) = bar(share, &grouped(bucket)) else { return Vec::new() };
        let drawn = drawn.replace(" critical", "").replace(" warning", "");
        vec![bound.into(), Cell::Markup(drawn), format!("{:.1} %", share * 100.0).into()]
    });
    parts::table(out, &["", "handshakes", ""], rows);
    let _ = writeln!(
        out,
        "<p class=\"quiet\">{} in all, {} on average</p>",
        grouped(count),
        span(histogram.sum / count as f64)
    );
}

fn unseen(out: &mut String, snapshot: &Snapshot) {
    let frames = &snapshot.frames;
    let counts = &snapshot.handshakes;
    let mut rows: Vec<(String, u64)> = frames
        .undecoded
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| (format!("frames not decoded: {}", reason.replace('_', " ")), *count))
        .collect();
    rows.extend(
        [
            ("frames that are not TCP", frames.not_tcp),
            ("later fragments that hide TCP", frames.later_fragments),
            ("SYNs the full table could only count", counts.untracked),
            ("entries tracked as a sample", snapshot.table.sampled),
            ("ACKs and resets that fit no attempt", counts.mismatched),
            ("SYN-ACKs and refusals nobody asked for", counts.backscatter_syn_ack + counts.backscatter_rst),
        ]
        .map(|(name, count)| (name.to_owned(), count)),
    );
    let rows = rows.into_iter().filter(|(_, count)| *count > 0);
    let rows: Vec<Vec<Cell>> = rows.map(|(name, count)| vec![name.into(), grouped(count).into()]).collect();
    if rows.is_empty() {
        out.push_str("<p class=\"quiet\">Nothing: every frame is a TCP segment that was followed.</p>\n");
        return;
    }
    parts::table(out, &["", ""], rows.into_iter());
}
