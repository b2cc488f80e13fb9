//! What the sensor says of a recorded queue: its size, its count, what an incident says of it.

use super::*;

/// Where nobody says how large the queue is, its size is learned from when it was full.
#[test]
fn the_size_is_learned() {
    let mut learned = 0;
    for case in [
        "cookies-128-5th",
        "cookies-511-5th",
        "cookies-1024-9th",
        "no-cookies-511-9th",
        "no-cookies-1024-5th",
    ] {
        let truth = Truth::read(&directory().join(format!("{case}.zst")));
        let points = compare::points(&truth, false);
        let most = points.iter().map(|point| f64::from(point.kernel)).fold(0.0, f64::max);
        let limit = points.last().unwrap().limit.unwrap_or_else(|| panic!("{case}: nothing learned")) as f64;
        assert!((limit / most - 1.0).abs() < 0.1, "{case}: learned {limit}, held {most}");
        learned += 1;
    }
    assert_eq!(learned, 5);
}

/// The way from the packets to what the API shows of a configured server.
#[test]
fn the_server_s_view_has_the_kernel_s_count() {
    let truth = Truth::read(&directory().join("cookies-128-63rd.zst"));
    let views = compare::seen(&truth, true).views;
    assert_eq!(views.len(), truth.samples.len());
    // Half a second may pass before the detector hears: one entry at this rate, beside what the model may be off.
    for (view, sample) in views.iter().zip(&truth.samples) {
        let off = (view.backlog_occupancy - f64::from(sample.entries)).abs();
        assert!(off <= 128.0 * 0.05 + 2.0, "{off} at {}", sample.at);
    }
    let last = views.last().unwrap();
    assert_eq!((last.backlog_limit, last.mode.as_label()), (Some(129), "queue"));
    let text = |signal: &str| {
        &last
            .evidence
            .iter()
            .find(|evidence| evidence.signal == signal)
            .unwrap_or_else(|| panic!("{signal}"))
            .text
    };
    assert!(text("backlog").contains("of 129"), "{}", text("backlog"));
    assert!(text("time_to_full").contains("does not fill"), "{}", text("time_to_full"));
    assert_eq!(last.backlog_time_to_full_seconds, None);
    assert_eq!((last.profile.as_deref(), last.profile_inferred), (Some("linux"), true));
    assert!(!last.backlog_occupancy_estimated && !last.backlog_limit_estimated && last.mode_confidence > 0.2);
}

/// An incident is raised while the queue fills, and goes on while it is full: what is said of the queue is what it holds now, and never
/// more than fits.
#[test]
fn what_an_incident_says_of_the_queue_follows_it() {
    for (case, size) in
        [("cookies-511-5th", 512.0), ("no-cookies-128-5th", 129.0), ("mixed-128-not-accepting", 129.0)]
    {
        let truth = Truth::read(&directory().join(format!("{case}.zst")));
        let seen = compare::seen(&truth, true);
        let (mut looked, mut before) = (0, 0.0);
        let last_syn = truth.packets.iter().rfind(|packet| packet.what == b'S').unwrap().at;
        let samples = seen.views.iter().zip(&seen.incidents).zip(&truth.samples);
        for ((view, incident), sample) in samples {
            assert_eq!(view.backlog_limit.map(|limit| limit as f64), Some(size), "{case}");
            assert!(view.backlog_occupancy <= size, "{case}: {} of {size}", view.backlog_occupancy);
            let said = |signal| {
                let evidence = &incident.as_ref()?.evidence;
                Some(evidence.iter().find(|evidence| evidence.signal == signal).unwrap())
            };
            // It is brought up to date every two seconds, while the flood lasts.
            let steady = (view.backlog_occupancy - before).abs() <= 0.05 * size;
            before = view.backlog_occupancy;
            let Some(said) = said("backlog").zip(said("server_mode")).filter(|_| steady) else { continue };
            if view.mode.as_label() == "queue" || sample.at > last_syn {
                continue;
            }
            let (backlog, mode) = said;
            assert!(
                (backlog.value - view.backlog_occupancy).abs() <= 0.2 * size,
                "{case}: {} beside {}",
                backlog.text,
                view.backlog_occupancy
            );
            assert_eq!(backlog.threshold, size, "{case}");
            let room = mode.text.contains("has room");
            assert!(
                !room || view.backlog_occupancy * 4.0 < size,
                "{case}: {} beside {}",
                mode.text,
                backlog.text
            );
            looked += 1;
        }
        assert!(looked >= 20, "{case}: {looked}");
    }
}

/// Half of the sources reset 0.3 s after their SYN: they are young while they stay, and the queue keeps others for it.
#[test]
fn those_who_come_and_go_are_reckoned_with() {
    let truth = Truth::read(&directory().join("mixed-511-resets-flooded.zst"));
    let (foreseen, happened) =
        forecast(&compare::points(&truth, true), &truth, compare::first_refusal(&truth)).unwrap();
    assert!(!oracle::is_miss(foreseen, happened), "{foreseen:?} foreseen, {happened} happened");
}
