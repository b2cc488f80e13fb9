//! Stage 5 of 5, report: the replay summary for people: one screen, the closing law in full, no colour.

use super::Replay;
use crate::detect::incident::{Incident, ServerView};
use crate::report::metrics::{OUTCOMES, SEGMENT_KINDS};
use crate::report::snapshot::{Histogram, LATENCY_BOUNDS, Snapshot};
use crate::report::text::{aligned, bytes, grouped, printable, severity, span, utc};
use crate::time::Timestamp;

/// Servers shown: as many as fit one screen beside the rest. `--json` and `--metrics` have them all.
const SERVERS: usize = 10;

/// Incidents shown, likewise.
const INCIDENTS: usize = 20;

/// The summary, lines ended by newlines.
pub fn table(snapshot: &Snapshot, replay: &Replay) -> String {
    let mut out = String::new();
    let mut section = |title: &str, lines: Vec<String>| {
        for (index, line) in lines.iter().enumerate() {
            let title = if index == 0 { title } else { "" };
            out.push_str(format!("{title:<12}{line}").trim_end());
            out.push('\n');
        }
    };
    section("source", source(replay));
    section("frames", frames(snapshot));
    section("segments", vec![counts(SEGMENT_KINDS.iter().copied().zip(snapshot.segments), false)]);
    section("handshakes", handshakes(snapshot));
    section("latency", latency(snapshot));
    section("servers", servers(&snapshot.servers));
    section("incidents", incidents(&snapshot.incidents, replay.first));
    section("cost", vec![cost(snapshot, replay)]);
    out
}

fn source(replay: &Replay) -> Vec<String> {
    let files = match replay.files.as_slice() {
        [first, _, .., last] if replay.files.len() > 3 => {
            format!("{} files, {} to {}", replay.files.len(), printable(first), printable(last))
        }
        files => files.iter().map(|file| printable(file)).collect::<Vec<_>>().join(", "),
    };
    let links = if replay.link_types.is_empty() {
        String::new()
    } else {
        format!(" ({})", replay.link_types.join(", "))
    };
    let time = match (replay.first, replay.last) {
        (Some(first), Some(last)) => {
            format!("{} to {} UTC, {}", utc(first), utc(last), span(replay.duration().as_secs_f64()))
        }
        _ => "no frame".to_owned(),
    };
    vec![format!("{files}{links}"), time]
}

fn frames(snapshot: &Snapshot) -> Vec<String> {
    let frames = &snapshot.frames;
    let undecoded: u64 = frames.undecoded.iter().map(|(_, count)| count).sum();
    let law = format!(
        "{} read = {} TCP + {} not TCP + {} undecoded",
        grouped(frames.read),
        grouped(frames.tcp),
        grouped(frames.not_tcp),
        grouped(undecoded)
    );
    let mut lines = vec![law];
    if undecoded > 0 {
        lines.push(format!("undecoded: {}", counts(frames.undecoded.iter().copied(), true)));
    }
    if frames.later_fragments > 0 {
        lines.push(format!("{} later fragments hide TCP", grouped(frames.later_fragments)));
    }
    lines
}

/// `5 syn, 3 ack`; without those at zero where asked.
fn counts<'a>(pairs: impl Iterator<Item = (&'a str, u64)>, only_seen: bool) -> String {
    let seen = pairs.filter(|(_, count)| !only_seen || *count > 0);
    seen.map(|(name, count)| format!("{} {name}", grouped(count))).collect::<Vec<_>>().join(", ")
}

fn handshakes(snapshot: &Snapshot) -> Vec<String> {
    let counts = &snapshot.handshakes;
    let ended: Vec<String> = OUTCOMES
        .iter()
        .zip(counts.closed)
        .map(|(name, count)| format!("{} {name}", grouped(count)))
        .collect();
    let mut lines = vec![
        format!("{} attempts = {}", grouped(counts.attempts), ended.join(" + ")),
        format!(
            "  + {} open in syn_sent + {} open in syn_received",
            grouped(counts.open_syn_sent),
            grouped(counts.open_syn_received)
        ),
        format!(
            "{} SYNs and {} SYN-ACKs again, {} SYNs untracked, {} segments mismatched",
            grouped(counts.syn_retransmissions),
            grouped(counts.syn_ack_retransmissions),
            grouped(counts.untracked),
            grouped(counts.mismatched)
        ),
    ];
    if counts.backscatter_syn_ack + counts.backscatter_rst > 0 {
        let (syn_acks, resets) = (grouped(counts.backscatter_syn_ack), grouped(counts.backscatter_rst));
        lines.push(format!("backscatter: {syn_acks} SYN-ACKs, {resets} resets"));
    }
    let half_open = &snapshot.half_open;
    if half_open.reconnect + half_open.reset_on_data + half_open.suspected > 0 {
        lines.push(format!(
            "half-open: {} found by reconnect, {} by reset on data, {} suspected",
            grouped(half_open.reconnect),
            grouped(half_open.reset_on_data),
            grouped(half_open.suspected)
        ));
    }
    lines
}

fn latency(snapshot: &Snapshot) -> Vec<String> {
    let line = |name: &str, histogram: &Histogram| {
        let count = histogram.count();
        if count == 0 {
            return format!("{name:<16}none seen");
        }
        let at = |share: f64| match quantile(histogram, share) {
            Some(seconds) => format!("{:<10}", format!("<= {}", span(seconds))),
            None => "> 63 s    ".to_owned(),
        };
        let (p50, p90, p99) = (at(0.5), at(0.9), at(0.99));
        format!("{name:<16}p50 {p50} p90 {p90} p99 {p99} of {}", grouped(count))
    };
    vec![line("SYN to SYN-ACK", &snapshot.syn_ack_latency), line("SYN to ACK", &snapshot.handshake_duration)]
}

/// The upper bound of the bucket a quantile lies in, for no more is known of it; none beyond the last bound.
fn quantile(histogram: &Histogram, share: f64) -> Option<f64> {
    let rank = share * histogram.count() as f64;
    let mut below = 0.0;
    for (&count, bound) in histogram.buckets.iter().zip(LATENCY_BOUNDS) {
        below += count as f64;
        if count > 0 && below >= rank {
            return Some(bound);
        }
    }
    None
}

fn servers(views: &[ServerView]) -> Vec<String> {
    if views.is_empty() {
        return vec!["none seen".to_owned()];
    }
    let header = ["server", "attempts", "completed", "unresolved", "embryonic", "queue", "sources", "mode"];
    let mut rows: Vec<[String; 8]> = vec![header.map(str::to_owned)];
    for view in views.iter().take(SERVERS) {
        let queue = match view.backlog_limit {
            Some(limit) => format!("{:.0}/{limit}", view.backlog_occupancy),
            None => format!("{:.0}/?", view.backlog_occupancy),
        };
        rows.push([
            printable(&view.server),
            grouped(view.attempts),
            grouped(view.completed),
            grouped(view.unresolved),
            grouped(view.embryonic_syn_sent.saturating_add(view.embryonic_syn_received)),
            queue,
            grouped(view.distinct_sources),
            view.mode.as_label().to_owned(),
        ]);
    }
    let mut lines = aligned(&rows, 1..7);
    if views.len() > SERVERS {
        lines.push(format!("and {} more", views.len() - SERVERS));
    }
    lines
}

fn incidents(list: &[Incident], start: Option<Timestamp>) -> Vec<String> {
    if list.is_empty() {
        return vec!["none".to_owned()];
    }
    let mut lines = Vec::new();
    let since = |at: Timestamp| start.map_or(0.0, |start| at.since(start).as_secs_f64());
    for incident in list.iter().take(INCIDENTS) {
        let end = match incident.ended_at {
            Some(at) => format!("ended at +{:.1} s ({})", since(at), incident.end_reason.unwrap_or("ended")),
            None => "not ended".to_owned(),
        };
        lines.push(format!(
            "{} {} on {}: onset +{:.1} s, detected +{:.1} s, {end}",
            severity(incident.severity),
            incident.kind.as_label(),
            printable(&incident.server),
            since(incident.onset),
            since(incident.detected_at),
        ));
        lines.push(format!(
            "  peak {:.1} SYN/s, {} attempts, {} completed, {} embryonic, {} sources, mode {}",
            incident.syn_rate_peak,
            grouped(incident.attempts),
            grouped(incident.completed),
            grouped(incident.embryonic_peak),
            grouped(incident.distinct_sources),
            incident.server_mode.as_label(),
        ));
        lines.extend(incident.evidence.iter().map(|evidence| format!("  {}", printable(&evidence.text))));
    }
    if list.len() > INCIDENTS {
        lines.push(format!("and {} more", list.len() - INCIDENTS));
    }
    lines
}

fn cost(snapshot: &Snapshot, replay: &Replay) -> String {
    let performance = &replay.performance;
    let rate = grouped(performance.rate(snapshot.frames.read).round() as u64);
    format!(
        "{}, {rate} frames/s, {} of memory at most",
        span(performance.wall.as_secs_f64()),
        bytes(performance.peak_rss)
    )
}
