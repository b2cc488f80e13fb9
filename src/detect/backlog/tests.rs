//! The rules by hand; that they are the kernel's is for tests/kernel.rs to say.

use super::*;
use crate::decode::segment::Endpoint;
use crate::detect::incident::ServerMode;
use crate::track::event::{EventKind, HandshakeState, Outcome};
use crate::track::flow::Flow;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr};

const START: f64 = 1_000_000.0;

fn at(seconds: f64) -> Timestamp {
    Timestamp::from_nanos(((START + seconds) * 1e9) as i64)
}

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn event(seconds: f64, number: u16, kind: EventKind) -> HandshakeEvent {
    let orig = Endpoint::new(IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1)), number);
    let resp = Endpoint::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)), 80);
    HandshakeEvent { ts: at(seconds), flow: Flow { orig, resp }, weight: 1, kind }
}

fn again(age: f64) -> EventKind {
    EventKind::SynAckRetransmitted { after_ack: false, age: secs(age), count: 1 }
}

fn closed(outcome: Outcome, after: f64) -> EventKind {
    let state = HandshakeState::SynReceived;
    EventKind::Closed { outcome, state, after: secs(after), overdue: false }
}

/// A SYN and its SYN-ACK.
fn open(model: &mut BacklogModel, seconds: f64, number: u16) {
    model.on_event(&event(seconds, number, EventKind::Opened));
    model.on_event(&event(seconds, number, EventKind::Answered { after: Duration::ZERO, overdue: false }));
}

fn occupancy(model: &mut BacklogModel, seconds: f64) -> u64 {
    model.advance(at(seconds));
    model.occupancy()
}

#[test]
fn an_entry_lives_as_long_as_its_syn_ack_comes_again() {
    let mut model = BacklogModel::new(Profile::Linux, Some(128), 1);
    open(&mut model, 0.0, 1);
    for age in [1.02, 3.05, 7.2, 15.3, 31.4] {
        assert_eq!(occupancy(&mut model, age - 0.01), 1, "before {age}");
        model.on_event(&event(age, 1, again(age)));
        assert_eq!(occupancy(&mut model, age + 1.0), 1, "after {age}");
    }
    assert_eq!(occupancy(&mut model, 62.9), 1);
    assert_eq!(occupancy(&mut model, 66.0), 0);
}

#[test]
fn an_entry_is_gone_when_its_syn_ack_does_not_come_again() {
    let mut model = BacklogModel::new(Profile::Linux, Some(128), 1);
    open(&mut model, 0.0, 1);
    assert_eq!(occupancy(&mut model, 0.9), 1);
    assert_eq!(occupancy(&mut model, 1.4), 0);
}

#[test]
fn completion_reset_and_refusal_free_the_place_and_supersession_does_not() {
    for (outcome, left) in
        [(Outcome::Completed, 0), (Outcome::Reset, 0), (Outcome::Refused, 0), (Outcome::Superseded, 1)]
    {
        let mut model = BacklogModel::new(Profile::Linux, Some(128), 1);
        open(&mut model, 0.0, 1);
        model.on_event(&event(0.3, 1, closed(outcome, 0.3)));
        assert_eq!(model.occupancy(), left, "{outcome:?}");
    }
}

#[test]
fn a_syn_that_comes_again_begins_the_timer_anew() {
    let mut model = BacklogModel::new(Profile::Linux, Some(128), 1);
    open(&mut model, 0.0, 1);
    model.on_event(&event(0.6, 1, again(0.6)));
    assert_eq!(occupancy(&mut model, 1.5), 1, "not due at 1 s");
    model.on_event(&event(1.62, 1, again(1.62)));
    assert_eq!(occupancy(&mut model, 3.5), 1, "the next is due at 3.6 s");
    assert_eq!(occupancy(&mut model, 4.2), 0, "and did not come");
}

#[test]
fn a_queue_over_half_full_of_old_entries_keeps_them_seven_seconds() {
    // Ten entries of a backlog of 16, none young: 20 > 16, so the limit is two repetitions (reqsk_timer_handler).
    let mut model = BacklogModel::new(Profile::Linux, Some(16), 1);
    for number in 0..10 {
        open(&mut model, 0.0, number);
    }
    for age in [1.02, 3.05] {
        for number in 0..10 {
            model.on_event(&event(age, number, again(age)));
        }
    }
    assert_eq!(occupancy(&mut model, 6.9), 10);
    // At 7 s they go until the queue is half full; the rest is waited for, and does not come again either.
    assert_eq!(occupancy(&mut model, 7.25), 8);
    assert_eq!(occupancy(&mut model, 8.0), 0);
}

#[test]
fn the_queue_holds_one_more_than_the_backlog_and_then_sends_cookies() {
    let mut model = BacklogModel::new(Profile::Linux, Some(16), 1);
    for number in 0..40 {
        open(&mut model, 0.01 * f64::from(number), number);
    }
    assert_eq!(model.occupancy(), 17);
    assert_eq!(model.limit(), Some(Limit { entries: 17, estimated: false }));
    assert_eq!(model.time_to_full(), Some(Duration::ZERO));
    for number in 0..17 {
        let opened = 0.01 * f64::from(number);
        model.on_event(&event(opened + 1.02, number, again(1.02)));
    }
    assert_eq!(occupancy(&mut model, 2.0), 17);
    let verdict = model.mode();
    assert_eq!(verdict.mode, ServerMode::Cookie);
    assert!(verdict.unrepeated > 15.0 && verdict.confidence > 0.5, "{verdict:?}");
}

#[test]
fn a_server_that_never_repeats_holds_nothing() {
    let mut model = BacklogModel::new(Profile::Linux, Some(128), 1);
    for number in 0..400_u16 {
        open(&mut model, 0.05 * f64::from(number), number);
    }
    assert_eq!(occupancy(&mut model, 20.0), 0);
    assert_eq!(model.mode().mode, ServerMode::Cookie);
}

#[test]
fn an_unanswered_syn_is_a_drop_where_the_queue_is_full_and_the_accept_queue_s_where_it_has_room() {
    for (entries, lives, mode) in [
        (17, false, ServerMode::Drop),
        (1, true, ServerMode::AcceptOverflow),
        // Silence is how an outage looks.
        (1, false, ServerMode::Unknown),
    ] {
        let mut model = BacklogModel::new(Profile::LinuxNoCookies, Some(16), 1);
        for number in 0..entries {
            open(&mut model, 0.0, number);
        }
        if lives {
            open(&mut model, 0.6, 50);
        }
        for number in 0..entries {
            model.on_event(&event(1.02, number, again(1.02)));
        }
        for number in 100..120 {
            model.on_event(&event(1.1, number, EventKind::Opened));
        }
        if lives {
            // An entry of before speaks after the SYNs that nobody answers.
            model.on_event(&event(1.62, 50, again(1.02)));
        }
        model.advance(at(2.4));
        assert_eq!(model.mode().mode, mode, "{entries} entries, lives {lives}");
    }
}

#[test]
fn a_few_lost_repetitions_of_a_server_that_drops_are_no_cookies() {
    let mut model = BacklogModel::new(Profile::Linux, Some(16), 1);
    for number in 0..17 {
        open(&mut model, 0.01 * f64::from(number), number);
    }
    for number in 0..250_u16 {
        let born = 0.2 + f64::from(number) / 100.0;
        if number == 85 {
            for entry in 0..11 {
                model.on_event(&event(1.03 + 0.01 * f64::from(entry), entry, again(1.03)));
            }
        }
        model.on_event(&event(born, 100 + number, EventKind::Opened));
    }
    model.advance(at(2.7));
    let verdict = model.mode();
    assert_eq!(verdict.mode, ServerMode::Drop, "{verdict:?}");
    assert!(model.recent.sends_cookies(), "the test itself: {verdict:?}");
}

#[test]
fn a_syn_ack_after_the_ack_is_accept_overflow() {
    let mut model = BacklogModel::new(Profile::Linux, Some(128), 1);
    for number in 0..5 {
        open(&mut model, 0.0, number);
        model.on_event(&event(0.1, number, closed(Outcome::Completed, 0.1)));
    }
    assert_eq!(model.occupancy(), 0);
    for (count, age) in [(1, 1.02), (2, 3.05)] {
        assert_ne!(model.mode().mode, ServerMode::AcceptOverflow, "one that comes once may be deferred");
        for number in 0..5 {
            let kind = EventKind::SynAckRetransmitted { after_ack: true, age: secs(age), count };
            model.on_event(&event(age, number, kind));
        }
    }
    assert_eq!(model.mode().mode, ServerMode::AcceptOverflow);
    assert_eq!(model.occupancy(), 5, "they never left");
    model.advance(at(8.0));
    assert_ne!(model.mode().mode, ServerMode::AcceptOverflow, "it is over");
}

/// `TCP_DEFER_ACCEPT` of 1 s: a bare ACK is passed over until the first timer; the SYN-ACK comes once more and its answer is taken.
#[test]
fn a_deferral_of_one_second_is_no_accept_overflow() {
    for (silent, held) in [(1, 9..=11), (2, 4..=6), (10, 0..=2)] {
        let mut model = BacklogModel::new(Profile::Linux, Some(128), 1);
        let mut events: Vec<HandshakeEvent> = Vec::new();
        for number in 0..300_u16 {
            let born = f64::from(number) / 10.0;
            for kind in [EventKind::Opened, EventKind::Answered { after: Duration::ZERO, overdue: false }] {
                events.push(event(born, number, kind));
            }
            events.push(event(born + 0.02, number, closed(Outcome::Completed, 0.02)));
            if number % silent == 0 {
                let kind = EventKind::SynAckRetransmitted { after_ack: true, age: secs(1.02), count: 1 };
                events.push(event(born + 1.02, number, kind));
            }
        }
        events.sort_by_key(|event| event.ts);
        for event in events.iter().filter(|event| event.ts < at(29.0)) {
            model.on_event(event);
            assert_ne!(model.mode().mode, ServerMode::AcceptOverflow, "1 of {silent} silent");
        }
        model.advance(at(29.0));
        assert!(held.contains(&model.occupancy()), "1 of {silent} silent: {}", model.occupancy());
    }
}

#[test]
fn time_to_full_follows_the_kernel_s_rule() {
    // 128 / 5 a second fill a queue of 128 in 5 s; half of that is left at half full.
    let mut model = BacklogModel::new(Profile::Linux, Some(128), 1);
    for number in 0..64_u16 {
        open(&mut model, f64::from(number) * 5.0 / 128.0, number);
        let repeated = f64::from(number) * 5.0 / 128.0;
        if repeated > 1.02 {
            let old = number - 27;
            model.on_event(&event(repeated, old, again(repeated - f64::from(old) * 5.0 / 128.0)));
        }
    }
    let foreseen = model.time_to_full().unwrap().as_secs_f64();
    assert!((2.0..3.2).contains(&foreseen), "{foreseen}");
    let mut model = BacklogModel::new(Profile::Linux, Some(128), 1);
    for number in 0..4_u16 {
        open(&mut model, f64::from(number) * 30.0 / 128.0, number);
    }
    assert_eq!(model.time_to_full(), None);
}

#[test]
fn other_hosts_keep_entries_as_long_as_their_sources_say() {
    for (profile, repetitions, life) in [
        (Profile::FreeBsd, &[1.0, 3.0, 7.0][..], 15.0),
        (Profile::Windows, &[3.0, 9.0][..], 21.0),
        (Profile::Conntrack, &[][..], 60.0),
        (Profile::Fixed(secs(20.0)), &[][..], 20.0),
    ] {
        let mut model = BacklogModel::new(profile, Some(100), 1);
        open(&mut model, 0.0, 1);
        for age in repetitions {
            model.on_event(&event(*age, 1, again(*age)));
        }
        assert_eq!(occupancy(&mut model, life - 0.5), 1, "{profile:?}");
        assert_eq!(occupancy(&mut model, life + 0.8), 0, "{profile:?}");
    }
}

#[test]
fn a_host_that_nobody_named_is_known_by_its_schedule_and_gone_by_from_then_on() {
    for (profile, ages, life) in [
        (Profile::FreeBsd, &[1.0, 3.0, 7.0][..], 15.0),
        (Profile::Windows, &[3.0, 9.0][..], 21.0),
        (Profile::Linux, &[1.0, 3.0, 7.0, 15.0, 31.0][..], 63.0),
    ] {
        let mut model = BacklogModel::new(None::<Profile>, Some(1000), 1);
        assert_eq!(model.profile(), None);
        // Two SYNs a second for two minutes, and what the host repeats of them, in order.
        let mut events: Vec<(f64, HandshakeEvent)> = Vec::new();
        for number in 0..240_u16 {
            let born = f64::from(number) / 2.0;
            events.push((born, event(born, number, EventKind::Opened)));
            let answered = EventKind::Answered { after: Duration::ZERO, overdue: false };
            events.push((born, event(born, number, answered)));
            for (count, age) in (1..).zip(ages) {
                let kind = EventKind::SynAckRetransmitted { after_ack: false, age: secs(age + 0.03), count };
                events.push((born + age + 0.03, event(born + age + 0.03, number, kind)));
            }
        }
        events.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (_, event) in events.iter().filter(|(at, _)| *at < 110.0) {
            model.on_event(event);
        }
        model.advance(at(110.0));
        assert_eq!(model.profile(), Some((profile, true)));
        let held = model.occupancy() as f64;
        assert!((held / (2.0 * life) - 1.0).abs() < 0.06, "{profile:?}: {held} of {}", 2.0 * life);
        // What somebody configured is not doubted.
        let configured = BacklogModel::new(Profile::Conntrack, Some(1000), 1);
        assert_eq!(configured.profile(), Some((Profile::Conntrack, false)));
    }
}

#[test]
fn a_deferred_connection_is_held_and_is_not_turned_away() {
    let mut model = BacklogModel::new(Profile::Linux, Some(128), 1);
    let mut events: Vec<HandshakeEvent> = Vec::new();
    for number in 0..60_u16 {
        let born = f64::from(number);
        for kind in [EventKind::Opened, EventKind::Answered { after: Duration::ZERO, overdue: false }] {
            events.push(event(born, number, kind));
        }
        events.push(event(born + 0.1, number, closed(Outcome::Completed, 0.1)));
        // Every second one keeps silent: asked again at the end of the third timer, 7 s.
        if number % 2 == 0 {
            let kind = EventKind::SynAckRetransmitted { after_ack: true, age: secs(7.1), count: 1 };
            events.push(event(born + 7.1, number, kind));
        }
    }
    events.sort_by_key(|event| event.ts);
    events.iter().filter(|event| event.ts < at(50.0)).for_each(|event| model.on_event(event));
    model.advance(at(50.0));
    assert!((3..=4).contains(&model.occupancy()), "{}", model.occupancy());
    assert_ne!(model.mode().mode, ServerMode::AcceptOverflow);
}

#[test]
fn connection_tracking_keeps_what_the_server_does_not_answer() {
    let mut model = BacklogModel::new(Profile::Conntrack, Some(100), 1);
    model.on_event(&event(0.0, 1, EventKind::Opened));
    assert_eq!(occupancy(&mut model, 119.0), 1);
    assert_eq!(occupancy(&mut model, 121.0), 0);
}

#[test]
fn profiles_have_the_names_of_the_configuration() {
    for name in crate::config::PROFILES {
        assert!(
            Profile::from_name(name).is_some_and(|profile| !matches!(profile, Profile::Fixed(_))),
            "{name}"
        );
    }
    assert_eq!(Profile::from_name("1.5"), Some(Profile::Fixed(secs(1.5))));
    assert_eq!(Profile::from_name("lniux"), None);
}

#[test]
fn its_memory_is_what_it_says() {
    let cohorts = 700 * 36;
    let displaced = 256 * 4 * 8;
    let deferral = 144 * 4;
    assert!(size_of::<BacklogModel>() < 1700, "{}", size_of::<BacklogModel>());
    assert!(cohorts + displaced + deferral + size_of::<BacklogModel>() < 36_000);
    assert_eq!(size_of::<Note>(), 24);
}

proptest! {
    /// Whatever comes, in whatever order: no panic, no count below nothing, never more than the queue holds, and in the end nothing.
    #[test]
    fn any_events_leave_it_sound(
        events in prop::collection::vec((0_u32..70_000, 0_u16..40, 0_u8..7, 0_u32..70_000), 1..300),
        profile in 0_usize..6,
    ) {
        let profiles = [
            Profile::Linux, Profile::LinuxNoCookies, Profile::FreeBsd, Profile::Windows, Profile::Conntrack,
            Profile::Fixed(secs(5.0)),
        ];
        let mut model = BacklogModel::new(profiles[profile], Some(16), 1);
        for (millis, number, kind, age) in events {
            let (seconds, age) = (f64::from(millis) / 1000.0, f64::from(age) / 1000.0);
            let kind = match kind {
                0 => EventKind::Opened,
                1 | 2 => EventKind::Answered { after: secs(age / 1000.0), overdue: false },
                3 | 4 => again(age),
                5 => closed(Outcome::Completed, age),
                _ => closed(Outcome::Reset, age),
            };
            model.on_event(&event(seconds, number, kind));
            prop_assert!(model.occupancy() <= 17);
            prop_assert!(model.queue.young() <= model.queue.len());
            prop_assert!((0.0..=1.0).contains(&model.mode().confidence));
        }
        model.time_to_full();
        prop_assert_eq!(occupancy(&mut model, 300.0), 0);
    }
}
