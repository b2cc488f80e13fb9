//! Stage 4 of 5, detect: verdicts in words. Every signal with its value, its threshold and one plain sentence.
//!
//! Decides nothing and keeps nothing.

pub(super) mod queue;

use super::classify::{Features, share};
use super::incident::{Evidence, Incident, IncidentKind, Scope, ServerMode, ServerView, Severity};
use super::ledger::Key;
use super::scanner::EACH_PORT;
use super::scans::{Figures, Finding};
use super::statistic::{BINS_PER_SECOND, threshold};
use super::watch::Watch;
use crate::config::ServerConfig;
use crate::config::detect::{DetectConfig, Prefix, Side};
use crate::time::Timestamp;
use std::net::IpAddr;

/// What a key is called: its configured name where it is that server, else its address.
pub(super) fn name(watch: &Watch, servers: &[ServerConfig]) -> String {
    if let (Key::Server(_), Some((index, true))) = (watch.key, watch.settings.configured)
        && let Some(name) = servers.get(index).and_then(|server| server.name.clone())
    {
        return name;
    }
    watch.key.to_string()
}

fn signal(signal: &'static str, value: f64, threshold: f64, text: String) -> Evidence {
    // Three decimals are more than any of these is worth; rounding keeps the documents short.
    let round = |x: f64| (x * 1000.0).round() / 1000.0;
    Evidence { signal, value: round(value), threshold: round(threshold), text }
}

/// Every signal of a key as it stands.
pub(super) fn evidence(
    watch: &Watch,
    features: &Features,
    config: &DetectConfig,
    keys: usize,
    visibility: Option<f64>,
) -> Vec<Evidence> {
    let seconds = watch.window_bins() / BINS_PER_SECOND;
    let h = threshold(watch.settings.false_alarm_interval, keys);
    let expected = watch.expected() * BINS_PER_SECOND;
    let unresolved = features.units / seconds;
    let mut all = vec![
        signal(
            "cusum",
            watch.cusum.odds(),
            h,
            format!(
                "log-likelihood ratio of a flood against the baseline, over all its possible beginnings; above {h:.1}, one false alarm in {:.0} days",
                watch.settings.false_alarm_interval.as_secs_f64() / 86_400.0
            ),
        ),
        signal(
            "unresolved_rate",
            unresolved,
            expected,
            format!(
                "{unresolved:.2} attempts a second stayed unresolved over {seconds:.0} s; {expected:.2} are usual, with {:.1} times the variance of independent ones",
                watch.baseline.phi()
            ),
        ),
        signal(
            "completed_rate",
            features.completed / seconds,
            features.usual_completed / seconds,
            format!(
                "{:.2} handshakes a second completed; {:.2} are usual",
                features.completed / seconds,
                features.usual_completed / seconds
            ),
        ),
        signal(
            "repeated_share",
            features.repeated_share(),
            0.5,
            format!(
                "{:.0} % of the unresolved SYNs came again with the same sequence number, as those of real clients do",
                features.repeated_share() * 100.0
            ),
        ),
        signal(
            "answered_share",
            share(features.overdue_answered, features.overdue),
            0.2,
            format!(
                "{:.0} % of the unresolved attempts had a SYN-ACK",
                share(features.overdue_answered, features.overdue) * 100.0
            ),
        ),
    ];
    all.extend(queue::occupancy(watch, config));
    queue::signals(watch, &mut all);
    let (sources, sites) = watch.distinct();
    all.push(signal(
        "distinct_sources",
        sources,
        super::classify::FEW_SOURCES,
        format!("unresolved attempts of the last minute came from about {sources:.0} sources in {sites:.0} /24 or /48"),
    ));
    if features.copies > 0.0 {
        all.push(signal(
            "copies",
            features.copies,
            0.0,
            format!(
                "{:.0} copies of SYNs beyond the fourth, within seconds: no stack does that",
                features.copies
            ),
        ));
    }
    if features.answer_after_ack > 0.0 {
        all.push(signal(
            "answer_after_ack",
            features.answer_after_ack,
            (0.1 * features.completed).max(10.0),
            format!(
                "{:.0} SYN-ACKs came again, and by two timers, though they had been acknowledged: the accept queue did not take the connection",
                features.answer_after_ack
            ),
        ));
    }
    if features.not_taken > 0.0 {
        all.push(signal(
            "not_taken",
            features.not_taken,
            0.0,
            format!(
                "{:.0} attempts were acknowledged, and the server repeats their SYN-ACKs all the same: their ACKs are not valid, or it has no room to accept",
                features.not_taken
            ),
        ));
    }
    if let Some(visibility) = visibility.filter(|share| *share < 0.9) {
        all.push(signal(
            "visibility",
            visibility,
            0.9,
            format!("only {:.0} % of the SYN-ACKs belong to a SYN that was seen: the tap sees part of the traffic", visibility * 100.0),
        ));
    }
    if !watch.answers && watch.totals[1] > 0 {
        all.push(signal(
            "visibility",
            0.0,
            0.9,
            "handshakes complete without a SYN-ACK in sight: only the originators' direction is seen"
                .to_owned(),
        ));
    }
    if let Some(addr) = watch.key.addr().filter(|addr| !config.home.is_empty() && !is_home(config, *addr)) {
        all.push(signal(
            "outbound",
            1.0,
            1.0,
            format!("{addr} is not among the home prefixes: this leaves our own network"),
        ));
    }
    if watch.allowed > 0 {
        let reasons: Vec<&str> = config
            .allow
            .iter()
            .filter(|allowance| allowance.side == Side::Source)
            .map(|allowance| allowance.reason.as_str())
            .collect();
        all.push(signal(
            "allowed",
            watch.allowed as f64,
            0.0,
            format!(
                "{} unresolved attempts of allow-listed sources are not judged ({})",
                watch.allowed,
                reasons.join("; ")
            ),
        ));
    }
    if watch.excused >= 1.0 {
        let excused = f64::from(watch.excused);
        all.push(signal(
            "known_callers",
            excused,
            0.0,
            format!(
                "{excused:.0} calls in vain of sources that complete handshakes elsewhere are not judged"
            ),
        ));
    }
    if let Some(allowance) = watch.settings.allowance.and_then(|at| config.allow.get(at)) {
        all.push(signal("allowed", 1.0, 0.0, format!("counted and not judged: {}", allowance.reason)));
    }
    all
}

fn is_home(config: &DetectConfig, addr: IpAddr) -> bool {
    config.home.iter().any(|prefix: &Prefix| prefix.contains(addr))
}

/// A server as the API shows it.
pub(super) fn view(
    watch: &Watch,
    now: Timestamp,
    servers: &[ServerConfig],
    config: &DetectConfig,
    keys: usize,
    visibility: Option<f64>,
) -> ServerView {
    let features = watch.features(now, false);
    let mut evidence = evidence(watch, &features, config, keys, visibility);
    evidence.insert(
        0,
        signal("verdict", f64::from(u8::from(watch.incident.is_some())), 1.0, watch.verdict.to_owned()),
    );
    let [sent, received, ..] = watch.gauges;
    let (mode, confidence) = watch.mode(&features);
    let (held, size) = queue::without_model(watch, servers);
    ServerView {
        server: name(watch, servers),
        endpoint: if let Key::Server(at) = watch.key { Some(at) } else { None },
        configured: watch.settings.configured.is_some(),
        attempts: watch.totals[0],
        completed: watch.totals[1],
        unresolved: watch.totals[2],
        embryonic_syn_sent: sent.unsigned_abs(),
        embryonic_syn_received: received.unsigned_abs(),
        backlog_occupancy: held,
        backlog_occupancy_estimated: true,
        backlog_limit: size,
        backlog_limit_estimated: false,
        backlog_time_to_full_seconds: None,
        profile: None,
        profile_inferred: false,
        distinct_sources: watch.distinct().0.round() as u64,
        mode,
        mode_confidence: confidence,
        evidence,
    }
}

/// So many of them, in words.
fn count(number: f64, what: &str) -> String {
    format!("{number:.0} {what}{}", if number.round() == 1.0 { "" } else { "s" })
}

/// An incident of one source, or of one address with unsolicited answers.
pub(super) fn of_source(finding: &Finding, now: Timestamp, loss: f64, config: &DetectConfig) -> Incident {
    let whole = finding.source.is_whole();
    let source = if whole { finding.source.addr().to_string() } else { finding.source.to_string() };
    let (evidence, sources, rate) = match finding.figures {
        Figures::Source(seen) => (
            vec![
                signal(
                    "failed_servers",
                    seen.servers,
                    f64::from(config.scan_ports),
                    format!(
                        "{source} failed at about {} of {}, by {}, in {}",
                        count(seen.servers, "port"),
                        count(seen.hosts, "host"),
                        count(seen.ports, "port number"),
                        count(seen.failed, "attempt")
                    ),
                ),
                signal(
                    "failed_hosts",
                    seen.hosts,
                    f64::from(config.scan_hosts),
                    format!("about {}", count(seen.hosts, "different host")),
                ),
                signal(
                    "unacknowledged_share",
                    share(seen.unacknowledged, seen.failed),
                    0.7,
                    format!(
                        "{:.0} % of its attempts got a SYN-ACK that it neither acknowledged nor reset",
                        share(seen.unacknowledged, seen.failed) * 100.0
                    ),
                ),
                signal(
                    "source_rate",
                    seen.left_rate,
                    config.source_flood_rate,
                    format!(
                        "{:.0} failed attempts a second, {:.0} of them not refused",
                        seen.rate, seen.left_rate
                    ),
                ),
                signal(
                    "attempts_per_port",
                    seen.left_each(),
                    EACH_PORT,
                    format!("{:.1} attempts that were not refused at each port", seen.left_each()),
                ),
            ],
            1,
            seen.rate,
        ),
        Figures::Stray { answers, syn_acks, peers, sent } => (
            vec![signal(
                "unsolicited_answers",
                answers,
                f64::from(config.backscatter),
                format!(
                    "{source} {} {answers:.0} answers ({syn_acks:.0} SYN-ACKs) within a minute for which no SYN was seen, {} about {peers:.0} addresses",
                    if sent { "sent" } else { "got" },
                    if sent { "to" } else { "from" },
                ),
            )],
            0,
            finding.events * BINS_PER_SECOND,
        ),
    };
    Incident {
        id: String::new(),
        kind: finding.kind,
        scope: if whole { Scope::Host } else { Scope::Prefix },
        server: finding.victim.map_or(source, |victim| victim.to_string()),
        severity: if finding.kind == IncidentKind::DirectFlood {
            Severity::Critical
        } else {
            Severity::Warning
        },
        onset: now.minus(super::statistic::BIN).minus(config.initial_grace),
        detected_at: now,
        ended_at: None,
        end_reason: None,
        server_mode: ServerMode::Unknown,
        server_mode_confidence: 0.0,
        syn_rate_peak: rate,
        attempts: if let Figures::Source(seen) = finding.figures { seen.failed as u64 } else { 0 },
        completed: 0,
        embryonic_peak: 0,
        backlog_occupancy_peak: 0.0,
        backlog_occupancy_estimated: true,
        distinct_sources: sources,
        capture_loss: loss,
        evidence,
    }
}
