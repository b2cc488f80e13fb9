//! Stage 5 of 5, report: what detection recommends to configure, as a TOML file with the figures behind each line.

use super::Replay;
use crate::detect::incident::Recommendation;
use crate::report::snapshot::Snapshot;
use crate::report::text::{grouped, printable, span};
use std::fmt::Write;
use std::time::Duration;

/// The configuration. `initial_grace` is the grace age in force before one is learned.
pub fn recommended(
    list: &[Recommendation],
    snapshot: &Snapshot,
    replay: &Replay,
    initial_grace: Duration,
) -> String {
    let mut out = String::new();
    let files = replay.files.iter().map(|file| printable(file)).collect::<Vec<_>>().join(", ");
    let _ = writeln!(
        out,
        "# Recommended by halfopen {} after {} of traffic ({} frames, {} attempts) in {files}.",
        env!("CARGO_PKG_VERSION"),
        span(replay.duration().as_secs_f64()),
        grouped(snapshot.frames.read),
        grouped(snapshot.handshakes.attempts),
    );
    out.push_str("# What is not here stays as it is: see config/halfopen.toml for every key. Rates are those of peace; what an\n");
    out.push_str(
        "# incident brought is not in them. Your own prefixes cannot be guessed: set detect.home.\n",
    );
    if list.is_empty() {
        out.push_str("#\n# No server was seen to complete handshakes; nothing is recommended.\n");
    }
    let slowest = list.iter().filter(|one| one.grace > initial_grace).max_by_key(|one| one.grace);
    if let Some(slowest) = slowest {
        let _ = write!(
            out,
            "\n[detect]\n# Handshakes of {} are slow: {} are its grace age, and no less should be assumed of others.\ninitial_grace = \"{}ms\"\n",
            slowest.server,
            span(slowest.grace.as_secs_f64()),
            slowest.grace.as_millis()
        );
    }
    for one in list {
        server(&mut out, one, snapshot);
    }
    out
}

fn server(out: &mut String, one: &Recommendation, snapshot: &Snapshot) {
    let at = one.server.to_string();
    let _ = write!(
        out,
        "\n# {at}: {} attempts, {} completed. Usual: {:.2} attempts/s, {:.2} completed/s, {:.2} unresolved/s with {:.1} times\n\
         # the variance of independent ones; at most {:.0} entries past the grace age of {}.\n",
        grouped(one.attempts),
        grouped(one.completed),
        one.attempt_rate,
        one.completed_rate,
        one.unresolved_rate,
        one.dispersion,
        one.occupancy,
        span(one.grace.as_secs_f64()),
    );
    if !one.settled {
        out.push_str("# Less than two minutes of peace: these figures are partly assumed, and no threshold is drawn from them. Use a longer trace.\n");
    }
    let called = one.name.as_deref().unwrap_or(&at);
    let kinds: Vec<&str> = snapshot
        .incidents
        .iter()
        .filter(|incident| incident.server == called)
        .map(|incident| incident.kind.as_label())
        .collect();
    if !kinds.is_empty() {
        let _ = writeln!(out, "# Incidents meanwhile: {}.", kinds.join(", "));
    }
    out.push_str("[[server]]\n");
    let text = |text: &str| toml::Value::String(text.to_owned()).to_string();
    if let Some(name) = &one.name {
        let _ = writeln!(out, "name = {}", text(name));
    }
    let _ = writeln!(out, "address = \"{}\"\nport = {}", one.server.addr, one.server.port);
    match one.backlog {
        Some(backlog) => _ = writeln!(out, "backlog = {backlog}"),
        None => out.push_str(
            "# backlog: not seen from here; the smaller of the listen() backlog and net.core.somaxconn.\n",
        ),
    }
    if let Some(profile) = &one.profile {
        let _ = writeln!(out, "profile = {}", text(profile));
    }
    if let Some(floor) = one.floor {
        let reach = one.reach;
        let _ = writeln!(
            out,
            "# In peace up to {reach:.0} stay unresolved within 10 s: the mean and four deviations.\nfloor = {floor}"
        );
    }
    if let Some(rate) = one.critical_rate {
        let usual = 5.0 * one.unresolved_rate;
        let _ = write!(out, "# Five times what stays unresolved in peace is {usual:.1}/s");
        if let Some(backlog) = one.backlog {
            let _ = write!(out, "; {:.1}/s fill its queue in 5 s", backlog as f64 / 5.0);
        }
        let _ = writeln!(out, ".\ncritical_rate = {rate:?}");
    }
}
