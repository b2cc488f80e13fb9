//! Stage 5 of 5, report: the log, on standard error, never in colour.
//!
//! Says what happened to the sensor and to servers; nothing per packet at any level. Every line has its words in `msg`, as
//! Prometheus and its exporters do.

use crate::config::{LogConfig, LogFormat, LogLevel};
use crate::detect::incident::{Change, JournalEntry, Severity, Sighting};
use std::sync::OnceLock;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The form that was started with.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// How log lines are written; none before logging is started.
pub fn format() -> Option<LogFormat> {
    FORMAT.get().copied()
}

/// Starts logging. A second call changes nothing.
pub fn start(config: LogConfig) {
    let _ = FORMAT.set(config.format);
    let level = match config.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    // Below us only what is wrong matters: libraries explain themselves at info.
    let filter = tracing_subscriber::filter::Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("halfopen", level);
    let layer = match config.format {
        LogFormat::Logfmt => tracing_logfmt::builder()
            .with_target(false)
            .with_span_name(false)
            .with_span_path(false)
            .layer()
            .with_writer(std::io::stderr)
            .boxed(),
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_target(false)
            .with_writer(std::io::stderr)
            .boxed(),
    };
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
}

/// One line for one change of an incident.
pub fn incident(entry: &JournalEntry) {
    let incident = &entry.incident;
    let change = match entry.event {
        Change::Raised => "incident raised",
        Change::Updated => "incident updated",
        Change::Ended => "incident ended",
    };
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                msg = change,
                id = incident.id,
                kind = incident.kind.as_label(),
                server = incident.server,
                server_mode = incident.server_mode.as_label(),
                syn_rate_peak = incident.syn_rate_peak,
                attempts = incident.attempts,
                completed = incident.completed,
                embryonic_peak = incident.embryonic_peak,
                distinct_sources = incident.distinct_sources,
                end_reason = incident.end_reason.unwrap_or_default(),
            )
        };
    }
    match (entry.event, incident.severity) {
        (Change::Ended, _) | (_, Severity::Info) => line!(info),
        (_, Severity::Warning | Severity::Critical) => line!(warn),
    }
}

/// One line for what showed on one connection. An oddity harms nobody and anybody can send it: only for who asks for details.
pub fn sighting(seen: &Sighting) {
    match seen {
        Sighting::HalfOpen(found) => tracing::info!(
            msg = "half-open connection",
            case = found.case,
            crashed = found.crashed,
            stale = found.stale,
            originator = found.originator,
            responder = found.responder,
            seconds = found.duration.as_secs_f64(),
        ),
        Sighting::Oddity(odd) => tracing::debug!(
            msg = "oddity",
            kind = odd.kind,
            originator = odd.originator,
            responder = odd.responder,
        ),
    }
}
