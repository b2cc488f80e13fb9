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
    let (held, size, threshold) = (watch.held(), watch.size(config), watch.occupancy_threshold(config));
    let backlog = if watch.settings.backlog.is_some() { "configured" } else { "assumed" };
    let text = match watch.limit() {
        Some(limit) => format!(
            "{held:.0} entries, {:.0} of them unacknowledged for more than a second, of a SYN queue {} to hold {}{}",
            watch.lingering(),
            if limit.estimated { "that was seen" } else { "configured" },
            limit.entries,
            if threshold >= size { "; so many are usual that this raises no alarm" } else { "" },
        ),
        None if watch.never_answered() => {
            format!(
                "{held:.0} attempts past the grace age, at a server that never answered: no queue of it was seen"
            )
        }
        None if threshold >= size => format!(
            "{held:.0} attempts past the grace age; so many are usual that only more than {threshold:.0} alarm, whatever the {backlog} backlog of {size:.0} says"
        ),
        None => format!(
            "{held:.0} attempts past the grace age, held against the {backlog} backlog of {size:.0}; an estimate: nothing is known of the SYN queue itself"
        ),
    };
    Some(signal("occupancy", held, threshold, text))
}

/// What the model of its queue says at the end of the last bin, where there is one.
pub(super) fn signals(watch: &Watch, all: &mut Vec<Evidence>) {
    let Some(reading) = &watch.queue else { return };
    let size = reading.limit.map_or(0.0, |limit| limit.entries as f64);
    let text = format!(
        "the SYN queue holds {} entries{}, reckoned from its SYN-ACKs",
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

/// Of how many, where that is known.
fn words(limit: Option<Limit>) -> String {
    match limit {
        Some(limit) if limit.estimated => format!(" of about {} (learned)", limit.entries),
        Some(limit) => format!(" of {}", limit.entries),
        None => String::new(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::segment::Endpoint;
    use crate::detect::backlog::Reading;
    use crate::detect::tally::{Count, Gauge, Tally};
    use crate::detect::watch::Settings;
    use std::net::Ipv4Addr;

    /// A server with so many attempts past the grace age, answered or not.
    fn server(lingering: i64, answered: bool, servers: &[ServerConfig]) -> Watch {
        let config = DetectConfig::default();
        let key = Key::Server(Endpoint::new(Ipv4Addr::new(192, 0, 2, 10).into(), 80));
        let mut watch = Watch::new(key, Settings::of(key, &config, servers), 0);
        let mut tally = Tally::default();
        if answered {
            tally.count(Count::Answered, 1);
        }
        tally.shift(if answered { Gauge::OverdueReceived } else { Gauge::OverdueSent }, lingering);
        watch.take(1, &tally);
        watch
    }

    fn told(watch: &Watch) -> String {
        occupancy(watch, &DetectConfig::default()).unwrap().text
    }

    fn reading(limit: Option<Limit>) -> Box<Reading> {
        let verdict = Verdict {
            mode: ServerMode::Queue,
            confidence: 1.0,
            repeated: 9.0,
            unrepeated: 0.0,
            unanswered: 0.0,
            after_ack: 0.0,
            completed: 3.0,
            beyond_loss: false,
        };
        Box::new(Reading { entries: 12, old: 4, limit, growth: 0.0, full_within: None, verdict })
    }

    #[test]
    fn no_queue_is_told_of_that_nobody_saw() {
        let config = DetectConfig::default();
        let dead = server(30_080, false, &[]);
        assert_eq!(
            told(&dead),
            "30080 attempts past the grace age, at a server that never answered: no queue of it was seen"
        );
        assert_eq!(dead.fill(&config), (0.0, true));
        let mut host = server(30_080, true, &[]);
        host.key = Key::Host(Ipv4Addr::new(192, 0, 2, 10).into());
        assert_eq!(host.fill(&config), (0.0, true), "only a server has a queue");
        // More than an assumed backlog says that it was assumed wrongly; a queue is full at most.
        assert_eq!(server(30_080, true, &[]).fill(&config), (1.0, true));
        assert_eq!(server(32, true, &[]).fill(&config), (0.25, true));
    }

    #[test]
    fn a_threshold_beyond_the_queue_is_told_with_its_reason() {
        let mut watch = server(40, true, &[]);
        assert_eq!(
            told(&watch),
            "40 attempts past the grace age, held against the assumed backlog of 128; an estimate: nothing is known of the SYN queue itself"
        );
        watch.usual_occupancy = 44.6;
        let one = occupancy(&watch, &DetectConfig::default()).unwrap();
        assert_eq!(one.threshold, 356.8);
        assert_eq!(
            one.text,
            "40 attempts past the grace age; so many are usual that only more than 357 alarm, whatever the assumed backlog of 128 says"
        );
        let backlog = Some(511);
        let addr = Ipv4Addr::new(192, 0, 2, 10).into();
        let mine = ServerConfig {
            name: None,
            address: addr,
            prefix_len: 32,
            port: Some(80),
            backlog,
            profile: None,
        };
        let watch = server(40, true, &[mine]);
        assert!(told(&watch).contains("held against the configured backlog of 511;"), "{}", told(&watch));
    }

    #[test]
    fn a_modelled_queue_is_told_by_its_own_size() {
        let mut watch = server(4, true, &[]);
        watch.queue = Some(reading(Some(Limit { entries: 128, estimated: true })));
        let text = "12 entries, 4 of them unacknowledged for more than a second, of a SYN queue that was seen to hold 128";
        assert_eq!(told(&watch), text);
        watch.usual_occupancy = 44.6;
        assert_eq!(told(&watch), format!("{text}; so many are usual that this raises no alarm"));
        for (limit, of) in [
            (None, ""),
            (Some(Limit { entries: 128, estimated: true }), " of about 128 (learned)"),
            (Some(Limit { entries: 512, estimated: false }), " of 512"),
        ] {
            watch.queue = Some(reading(limit));
            let mut all = Vec::new();
            signals(&watch, &mut all);
            assert_eq!(
                all[0].text,
                format!("the SYN queue holds 12 entries{of}, reckoned from its SYN-ACKs")
            );
        }
    }
}
