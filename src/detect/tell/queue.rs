//! Stage 4 of 5, detect: what is known of a server's SYN queue, in words.
//!
//! Decides nothing and keeps nothing.

use super::signal;
use crate::config::ServerConfig;
use crate::config::detect::DetectConfig;
use crate::detect::backlog::profile::Profile;
use crate::detect::backlog::{BacklogModel, Limit, Verdict};
use crate::detect::incident::{Evidence, ServerMode, ServerView};
use crate::detect::ledger::Key;
use crate::detect::watch::Watch;

/// What the occupancy alarm goes by. Only a server has a queue.
pub(super) fn occupancy(watch: &Watch, config: &DetectConfig) -> Option<Evidence> {
    let Key::Server(_) = watch.key else { return None };
    let (held, size) = (watch.held(), watch.size(config));
    let text = match watch.limit() {
        Some(limit) => format!(
            "{held:.0} entries, {:.0} of them unacknowledged for more than a second, of a SYN queue {} to hold {size:.0}",
            watch.lingering(),
            if limit.estimated { "that was seen" } else { "configured" },
        ),
        None => format!(
            "{held:.0} entries past the grace age, of a SYN queue with {} backlog of {size:.0}; an estimate: nothing is known of the queue itself",
            if watch.settings.backlog.is_some() { "a configured" } else { "an assumed" },
        ),
    };
    Some(signal("occupancy", held, watch.occupancy_threshold(config), text))
}

/// What the model of its queue says at the end of the last bin, where there is one.
pub(super) fn signals(watch: &Watch, all: &mut Vec<Evidence>) {
    let Some(reading) = &watch.queue else { return };
    let size = reading.limit.map_or(0.0, |limit| limit.entries as f64);
    let text = format!(
        "the SYN queue holds {} entries of {}, reckoned from its SYN-ACKs",
        reading.entries,
        words(reading.limit)
    );
    all.push(signal("backlog", reading.entries as f64, size, text));
    let seen = &reading.verdict;
    let text = format!(
        "{}: in the last seconds {:.0} SYN-ACKs were repeated and {:.0} were not, {:.0} SYNs had no answer, {:.0} SYN-ACKs came again after their ACK, {:.0} handshakes completed",
        says(seen),
        seen.repeated,
        seen.unrepeated,
        seen.unanswered,
        seen.after_ack,
        seen.completed
    );
    all.push(signal("server_mode", seen.confidence, 0.5, text));
}

/// Brings what an incident says of the queue up to date. The rest of its evidence is why it was raised, and stays.
pub(in crate::detect) fn follow(evidence: &mut Vec<Evidence>, watch: &Watch, config: &DetectConfig) {
    let mut present: Vec<Evidence> = occupancy(watch, config).into_iter().collect();
    signals(watch, &mut present);
    for signal in present {
        match evidence.iter_mut().find(|told| told.signal == signal.signal) {
            Some(told) => *told = signal,
            None => evidence.push(signal),
        }
    }
}

/// Entries in the queue of a server without a model, as far as its embryonic connections tell, and how many fit into it.
pub(super) fn without_model(watch: &Watch, servers: &[ServerConfig]) -> (f64, Option<u64>) {
    let configured = watch.settings.configured.and_then(|(index, _)| servers.get(index));
    let profile = configured.and_then(|server| server.profile.as_deref()).and_then(Profile::from_name);
    let size = watch.settings.backlog.map(|backlog| profile.unwrap_or_default().capacity(backlog));
    let [_, received, ..] = watch.gauges;
    // What is more than fits is not there: the server gave it up, and the sensor has not.
    let held = size.map_or(received, |size| received.min(i64::try_from(size).unwrap_or(i64::MAX)));
    (held as f64, size)
}

/// Puts what the model of a server's queue says into its view.
pub(in crate::detect) fn show(view: &mut ServerView, model: &BacklogModel) {
    let (entries, limit, full) = (model.occupancy() as f64, model.limit(), model.time_to_full());
    (view.backlog_occupancy, view.backlog_occupancy_estimated) = (entries, false);
    view.backlog_limit = limit.map(|limit| limit.entries);
    view.backlog_limit_estimated = limit.is_some_and(|limit| limit.estimated);
    view.backlog_time_to_full_seconds = full.map(|full| full.as_secs_f64());
    let text = match full {
        None if limit.is_none() => "the size of its SYN queue is not known".to_owned(),
        None => "its SYN queue does not fill at the present growth".to_owned(),
        Some(full) if full.is_zero() => "its SYN queue is full".to_owned(),
        Some(full) => format!("its SYN queue is full in {:.1} s at the present growth", full.as_secs_f64()),
    };
    if limit.is_some() {
        view.evidence.push(signal("time_to_full", full.map_or(0.0, |full| full.as_secs_f64()), 0.0, text));
    }
    if let Some((profile, inferred)) = model.profile() {
        view.profile = Some(profile.name());
        view.profile_inferred = inferred;
        if inferred {
            let text = format!("its SYN-ACKs come again when those of a {} host do", profile.name());
            view.evidence.push(signal("profile", 1.0, 1.0, text));
        }
    }
}

fn words(limit: Option<Limit>) -> String {
    match limit {
        Some(limit) if limit.estimated => format!("about {} (learned)", limit.entries),
        Some(limit) => limit.entries.to_string(),
        None => "an unknown number".to_owned(),
    }
}

fn says(verdict: &Verdict) -> &'static str {
    match verdict.mode {
        ServerMode::Queue => "it queues SYNs",
        ServerMode::Cookie => "it sends cookies",
        ServerMode::Drop => "it drops SYNs",
        ServerMode::AcceptOverflow if verdict.turned_away() => {
            "it repeats SYN-ACKs that were acknowledged: its program does not accept"
        }
        // Said of a queue with room only.
        ServerMode::AcceptOverflow => {
            "it lives and its SYN queue has room, yet it leaves SYNs without an answer: its program does not accept"
        }
        ServerMode::Unknown => "how it treats SYNs cannot be told",
    }
}
