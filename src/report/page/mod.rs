//! Stage 5 of 5, report: the page at `/`: what the sensor sees now, the last minutes as plots, and the way to everything else.
//!
//! Made and escaped here, whole, and readable without scripts; the script asks for it again and puts in what changed.

mod parts;
mod plot;
mod replay;

pub use replay::report;

use super::history::Sample;
use super::overview::Overview;
use super::text::{bytes, grouped, html, short, span, utc};
use crate::detect::incident::{Incident, ServerView};
use parts::{Cell, bar, class, plural};
use plot::{Band, Plot, Series, gauge, rate};
use std::fmt::Write;

/// Servers shown; the API has all.
const SERVERS: usize = 20;

/// Incidents shown, likewise.
const INCIDENTS: usize = 12;

/// What the plots go back, seconds: as far as the history does.
const BACK: f64 = 300.0;

/// The page's style sheet; a file of its own so that the content policy can forbid inline styles.
pub(super) const STYLE: &str = include_str!("style.css");

/// Its script, likewise.
pub(super) const SCRIPT: &str = include_str!("page.js");

/// Its icon: what a browser asks for anyway.
pub(super) const ICON: &str = include_str!("icon.svg");

/// The page. `keeps` tells of which incidents frames are kept.
pub(super) fn page(overview: &Overview, telemetry_path: &str, keeps: &dyn Fn(&str) -> bool) -> String {
    let mut out = String::with_capacity(48 << 10);
    let running = overview.running();
    let (state, grave) = match overview.gravest() {
        None => ("Quiet: no incident is running".to_owned(), "calm"),
        Some(severity) => (format!("{} running", plural(running.len(), "incident")), class(severity)),
    };
    let title =
        if running.is_empty() { "halfopen".to_owned() } else { format!("({}) halfopen", running.len()) };
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <link rel=\"icon\" href=\"/icon.svg\">\n<link rel=\"stylesheet\" href=\"/style.css\">\n\
         <script src=\"/page.js\" defer></script>\n\
         <noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript>\n</head>\n<body>\n"
    );
    let time = overview.snapshot.network_time;
    let time = time.map_or_else(|| "no packet yet".to_owned(), |at| format!("{} UTC", &utc(at)[..19]));
    let _ = write!(
        out,
        "<header id=\"head\" data-live><h1>halfopen <small>{}</small></h1><span class=\"state {grave}\">{state}</span>\
         <span class=\"when\">network time {time}</span></header>\n\
         <p id=\"lost\" role=\"alert\">The sensor does not answer; what is shown is old.</p>\n<main>\n",
        html(env!("CARGO_PKG_VERSION"))
    );
    now(&mut out, overview);
    plots(&mut out, overview);
    servers(&mut out, overview);
    incidents(&mut out, overview, keeps);
    sensor(&mut out, overview);
    outcomes(&mut out, overview);
    links(&mut out, telemetry_path);
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

/// A part that the script replaces when it changes.
fn part(out: &mut String, id: &str, class: &str, heading: &str, content: impl FnOnce(&mut String)) {
    let _ = write!(out, "<section id=\"{id}\" class=\"{class}\" data-live>");
    if !heading.is_empty() {
        let _ = writeln!(out, "<h2>{heading}</h2>");
    }
    content(out);
    out.push_str("</section>\n");
}

fn now(out: &mut String, overview: &Overview) {
    let snapshot = &overview.snapshot;
    let counts = &snapshot.handshakes;
    let open = counts.open_syn_sent.saturating_add(counts.open_syn_received);
    let latest = |of| rate(&overview.history, 0.0, of).last().map_or(0.0, |point| point.1);
    let drops: u64 =
        snapshot.interfaces.iter().map(|view| view.drops_kernel.saturating_add(view.drops_interface)).sum();
    let tiles = [
        ("attempts a second", short(latest(|sample| sample.attempts)), String::new()),
        ("completed a second", short(latest(|sample| sample.completed)), String::new()),
        ("embryonic connections", grouped(open), format!("of {}", short(snapshot.table.limit as f64))),
        ("attempts so far", grouped(counts.attempts), String::new()),
        ("completed so far", grouped(counts.closed[0]), String::new()),
        ("half-open suspected", grouped(snapshot.half_open.suspected), String::new()),
        ("frames lost before us", grouped(drops), String::new()),
    ];
    part(out, "now", "wide", "", |out| {
        out.push_str("<dl class=\"tiles\">");
        for (name, value, more) in tiles {
            let id = name.replace(' ', "-");
            let _ =
                write!(out, "<div><dt>{name}</dt><dd id=\"{id}\">{value} <small>{more}</small></dd></div>");
        }
        out.push_str("</dl>\n");
    });
}

/// When the newest sample is, seconds; the plots' axis ends there.
fn newest(history: &[Sample]) -> f64 {
    history.last().map_or(0.0, |sample| sample.at.as_secs_f64())
}

fn plots(out: &mut String, overview: &Overview) {
    let history = &overview.history;
    let zero = newest(history);
    let ticks = || ["-5 min", "-4", "-3", "-2", "-1 min", "now"].map(str::to_owned).to_vec();
    let titles: Vec<String> = overview.snapshot.incidents.iter().map(band_title).collect();
    let bands = || -> Vec<Band<'_>> {
        let shown = overview.snapshot.incidents.iter().zip(&titles);
        let bands = shown.map(|(incident, title)| Band {
            from: incident.onset.as_secs_f64() - zero,
            to: incident.ended_at.map_or(0.0, |at| at.as_secs_f64() - zero),
            title,
            class: class(incident.severity),
        });
        bands.filter(|band| band.to > -BACK && band.from < 0.0).collect()
    };
    let figures = [
        Plot {
            title: "Attempts and completions, a second",
            range: (-BACK, 0.0),
            ticks: ticks(),
            series: vec![
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
            bands: bands(),
            live: true,
        },
        Plot {
            title: "Embryonic connections",
            range: (-BACK, 0.0),
            ticks: ticks(),
            series: embryonic(history, zero),
            bands: bands(),
            live: true,
        },
    ];
    for (figure, id) in figures.iter().zip(["rates", "embryonic"]) {
        part(out, id, "half", "", |out| figure.write(out));
    }
}

fn embryonic(history: &[Sample], zero: f64) -> Vec<Series<'static>> {
    vec![
        Series {
            name: "SYN_RECEIVED",
            class: "received",
            points: gauge(history, zero, |sample| sample.syn_received),
            filled: true,
        },
        Series {
            name: "SYN_SENT",
            class: "sent",
            points: gauge(history, zero, |sample| sample.syn_sent),
            filled: false,
        },
    ]
}

fn band_title(incident: &Incident) -> String {
    format!("{} on {}", incident.kind.as_label().replace('_', " "), incident.server)
}

fn incidents(out: &mut String, overview: &Overview, keeps: &dyn Fn(&str) -> bool) {
    let all = &overview.snapshot.incidents;
    let running = overview.running();
    let ended = all.iter().rev().filter(|incident| incident.ended_at.is_some());
    part(out, "incidents", "tall", "Incidents", |out| {
        if all.is_empty() {
            out.push_str("<p class=\"quiet\">None so far.</p>\n");
        }
        for (index, incident) in running.iter().copied().chain(ended).take(INCIDENTS).enumerate() {
            let open = index == 0 && incident.ended_at.is_none();
            parts::incident(out, incident, None, open, keeps(&incident.id));
        }
        more(out, all.len(), INCIDENTS, "/api/v1/incidents");
    });
}

/// Those in trouble first: with a running incident, then by what is embryonic and by all attempts; `other` last, where anything is in it.
fn servers(out: &mut String, overview: &Overview) {
    let running = overview.running();
    let rank = |view: &ServerView| {
        let flagged = running.iter().any(|incident| incident.server == view.server);
        let embryonic = view.embryonic_syn_sent.saturating_add(view.embryonic_syn_received);
        (parts::folded(view), !flagged, std::cmp::Reverse((embryonic, view.attempts)))
    };
    let mut views: Vec<&ServerView> = parts::shown(&overview.snapshot.servers).collect();
    views.sort_by_key(|view| rank(view));
    let count = views.len();
    part(out, "servers", "wide", "Servers", |out| {
        parts::servers(out, views.into_iter().take(SERVERS));
        more(out, count, SERVERS, "/api/v1/servers");
    });
}

fn outcomes(out: &mut String, overview: &Overview) {
    part(out, "outcomes", "", "What became of the attempts", |out| parts::outcomes(out, &overview.snapshot));
}

fn sensor(out: &mut String, overview: &Overview) {
    let snapshot = &overview.snapshot;
    let (counts, held) = (&snapshot.handshakes, &snapshot.table);
    let open = counts.open_syn_sent.saturating_add(counts.open_syn_received);
    let undecoded: u64 = snapshot.frames.undecoded.iter().map(|(_, count)| count).sum();
    let reasons: Vec<String> = snapshot
        .frames
        .undecoded
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| format!("{reason} {}", grouped(*count)))
        .collect();
    let share = open as f64 / held.limit.max(1) as f64;
    let emergency = if held.emergency { ", nearly full: short timeouts" } else { "" };
    let rows: Vec<Vec<Cell>> = vec![
        vec!["table".into(), bar(share, &format!("{} of {}{emergency}", grouped(open), grouped(held.limit)))],
        vec!["entries tracked as a sample".into(), grouped(held.sampled).into()],
        vec!["expiry behind network time".into(), span(held.expiry_lag).into()],
        vec![
            "CPU".into(),
            format!(
                "{:.1} % of a core, {} in all",
                overview.process.cpu_share * 100.0,
                span(overview.process.cpu)
            )
            .into(),
        ],
        vec![
            "memory".into(),
            format!("{}, of it {} for the table", bytes(overview.process.resident), bytes(held.bytes)).into(),
        ],
        vec![
            "frames".into(),
            format!("{} read, {} TCP", grouped(snapshot.frames.read), grouped(snapshot.frames.tcp)).into(),
        ],
        vec![
            "frames not decoded".into(),
            if reasons.is_empty() { grouped(undecoded) } else { reasons.join(", ") }.into(),
        ],
    ];
    part(out, "sensor", "", "The sensor itself", |out| {
        parts::table(out, &["", ""], rows.into_iter());
        let interfaces = snapshot.interfaces.iter().map(|view| -> Vec<Cell> {
            let state = if view.up {
                "capturing".into()
            } else {
                Cell::Markup("<b class=\"critical\">down</b>".to_owned())
            };
            vec![
                view.name.as_str().into(),
                state,
                grouped(view.frames).into(),
                bytes(view.bytes).into(),
                grouped(view.drops_kernel).into(),
                grouped(view.drops_interface).into(),
            ]
        });
        let headers = ["interface", "state", "frames", "bytes", "lost in kernel", "lost in card"];
        parts::table(out, &headers, interfaces);
    });
}

fn more(out: &mut String, count: usize, shown: usize, path: &str) {
    if count > shown {
        let _ = writeln!(out, "<p class=\"quiet\"><a href=\"{path}\">and {} more</a></p>", count - shown);
    }
}

fn links(out: &mut String, telemetry_path: &str) {
    part(out, "links", "wide", "", |out| {
        out.push_str("<nav>");
        for path in super::http::LINKS.iter().copied().chain([telemetry_path]) {
            let path = html(path);
            let _ = write!(out, "<a href=\"{path}\">{path}</a> ");
        }
        out.push_str("</nav>\n");
    });
}
