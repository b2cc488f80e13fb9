//! One table: the shape of each kind, written by hand.

use super::*;
use crate::detect::callers::LISTEN_TO_PROGRAMS;

fn peace() -> Features {
    Features {
        attempts: 1000.0,
        usual_attempts: 1000.0,
        completed: 980.0,
        usual_completed: 980.0,
        completing: 980.0,
        attempting: 1000.0,
        units: 20.0,
        usual_units: 20.0,
        overdue: 20.0,
        overdue_answered: 20.0,
        answered: 1000.0,
        sources: 20.0,
        history: 1000.0,
        answers: true,
        heard: 10.0,
        ..Features::default()
    }
}

#[test]
fn each_shape_has_its_name() {
    let flood = Features {
        attempts: 21_000.0,
        attempting: 21_000.0,
        units: 20_000.0,
        overdue: 20_000.0,
        overdue_answered: 20_000.0,
        answered: 21_000.0,
        sources: 19_000.0,
        entries: 20_000.0,
        ..peace()
    };
    let raise = Verdict::Raise;
    let gone = Features {
        dry: true,
        completed: 0.0,
        completing: 0.0,
        answered: 0.0,
        units: 900.0,
        overdue: 900.0,
        overdue_answered: 0.0,
        ..peace()
    };
    let cases = [
        ("many sources, completions flat", flood, raise(IncidentKind::SpoofedFlood)),
        ("one source", Features { sources: 1.0, ..flood }, raise(IncidentKind::DirectFlood)),
        (
            "two hundred bots, each a hundred times",
            Features { sources: 190.0, ..flood },
            raise(IncidentKind::DirectFlood),
        ),
        (
            "the server drops everything under the flood",
            Features { overdue_answered: 0.0, answered: 0.0, completed: 0.0, completing: 0.0, ..flood },
            raise(IncidentKind::SpoofedFlood),
        ),
        (
            "completions times twenty, a tenth still unresolved",
            Features { attempts: 20_000.0, completed: 18_000.0, units: 2_000.0, overdue: 2_000.0, ..peace() },
            raise(IncidentKind::FlashCrowd),
        ),
        (
            "a flood in a rush hour is a flood",
            Features { completed: 2_000.0, ..flood },
            raise(IncidentKind::SpoofedFlood),
        ),
        (
            "thirty bots, each eight times within a bin",
            Features { sources: 300.0, each_bin: [260.0, 40.0], usual_each_bin: 10.0, ..flood },
            raise(IncidentKind::DirectFlood),
        ),
        (
            "everything is answered, seconds too late",
            Features { completed: 980.0, completing: 980.0, dry: false, late: 900.0, ..gone },
            raise(IncidentKind::Outage),
        ),
        (
            "everything, at last, half of it within the window",
            Features {
                completed: 980.0,
                completing: 980.0,
                dry: false,
                late: 480.0,
                turning_out: 0.9,
                ..gone
            },
            Verdict::Wait,
        ),
        (
            "a flood as large as the load, whose clients all come late",
            Features {
                attempts: 2_000.0,
                attempting: 2_000.0,
                units: 1_000.0,
                overdue: 2_000.0,
                overdue_answered: 900.0,
                late: 980.0,
                turning_out: 0.5,
                ..peace()
            },
            raise(IncidentKind::SpoofedFlood),
        ),
        (
            "a flood beside clients that come late",
            Features { late: 480.0, turning_out: 0.9, ..flood },
            raise(IncidentKind::SpoofedFlood),
        ),
        ("silence, attempts as usual", gone, raise(IncidentKind::Outage)),
        (
            "silence has just begun, the last completions are still remembered",
            Features { completing: 500.0, dry: false, alarming: 2, ..gone },
            Verdict::Wait,
        ),
        (
            "half of a pool is gone, for six seconds",
            Features { completing: 500.0, dry: false, alarming: 12, ..gone },
            raise(IncidentKind::Outage),
        ),
        (
            "a few unanswered SYNs beside completions as usual",
            Features {
                attempts: 1_350.0,
                attempting: 1_350.0,
                units: 350.0,
                overdue: 350.0,
                overdue_answered: 0.0,
                sources: 340.0,
                entries: 350.0,
                ..peace()
            },
            raise(IncidentKind::SpoofedFlood),
        ),
        (
            "silence, and the same clients call five times as often",
            Features {
                attempts: 5_000.0,
                attempting: 5_000.0,
                completed: 0.0,
                completing: 0.0,
                dry: true,
                answered: 0.0,
                units: 4_000.0,
                overdue: 4_000.0,
                overdue_answered: 0.0,
                overdue_repeated: 3_000.0,
                ..peace()
            },
            raise(IncidentKind::Outage),
        ),
        (
            "a dead address and patient clients",
            Features {
                attempts: 60.0,
                units: 60.0,
                overdue: 60.0,
                overdue_repeated: 55.0,
                sources: 20.0,
                ..Features::default()
            },
            Verdict::DeadServer,
        ),
        (
            "a dead address and one host whose stack opens hundreds of connections a second",
            Features {
                attempts: 2_300.0,
                units: 2_300.0,
                overdue: 2_300.0,
                overdue_repeated: 2_200.0,
                sources: 1.0,
                entries: 2_300.0,
                ..Features::default()
            },
            raise(IncidentKind::DirectFlood),
        ),
        (
            "a dead address and a tool that repeats faster than any stack",
            Features {
                attempts: 60.0,
                units: 60.0,
                overdue: 60.0,
                overdue_repeated: 55.0,
                copies: 500.0,
                sources: 1.0,
                entries: 60.0,
                ..Features::default()
            },
            raise(IncidentKind::DirectFlood),
        ),
        (
            "a flood before anything else was ever seen",
            Features {
                attempts: 200.0,
                units: 200.0,
                overdue: 200.0,
                sources: 1.0,
                entries: 200.0,
                ..Features::default()
            },
            raise(IncidentKind::DirectFlood),
        ),
    ];
    for (name, features, expected) in cases {
        assert_eq!(features.verdict(), expected, "{name}");
    }
}

#[test]
fn the_mode_is_what_the_wire_shows() {
    let base =
        Features { overdue: 100.0, overdue_answered: 100.0, attempts: 200.0, attempting: 200.0, ..peace() };
    let cases = [
        ("repeats", Features { answer_repeated: 90.0, ..base }, ServerMode::Queue),
        ("never repeats, long enough", base, ServerMode::Cookie),
        ("never repeats, too short to say", Features { heard: 1.0, ..base }, ServerMode::Unknown),
        ("nothing is due to be repeated yet", Features { attempting: 900.0, ..base }, ServerMode::Unknown),
        ("stopped answering", Features { answered: 0.0, overdue_answered: 0.0, ..base }, ServerMode::Drop),
        ("repeats after the ACK", Features { answer_after_ack: 300.0, ..base }, ServerMode::AcceptOverflow),
        ("nothing unresolved", Features { overdue: 0.0, overdue_answered: 0.0, ..base }, ServerMode::Unknown),
    ];
    for (name, features, expected) in cases {
        let (mode, confidence) = features.mode();
        assert_eq!(mode, expected, "{name}");
        assert!((0.0..=1.0).contains(&confidence), "{name}: {confidence}");
    }
}

#[test]
fn who_calls_what_never_answered_is_listened_to() {
    // Thirty unresolved within seconds, each of another source, and the alarm has just begun.
    let calls = Features {
        units: 30.0,
        overdue: 30.0,
        entries: 30.0,
        sources: 30.0,
        calls: [30.0, 0.0],
        each_bin: [5.0, 5.0],
        alarming: 1,
        dead: true,
        ..Features::default()
    };
    let long = Features { alarming: LISTEN_TO_PROGRAMS + 1, ..calls };
    let [flood, direct] = [IncidentKind::SpoofedFlood, IncidentKind::DirectFlood].map(Verdict::Raise);
    let many = Features { sources: 90.0, entries: 90.0, units: 90.0, calls: [90.0, 0.0], ..calls };
    let fast = Features { units: 120.0, entries: 120.0, overdue: 120.0, sources: 120.0, ..calls };
    let fast = Features { calls: [120.0, 0.0], ..fast };
    let cases = [
        ("nobody knows yet", calls, Verdict::Listen),
        ("none of them comes again", long, flood),
        ("they come again", Features { calls: [45.0, 0.0], ..calls }, Verdict::DeadServer),
        ("each of them much too often", Features { each_bin: [10.0, 5.0], alarming: 7, ..calls }, direct),
        ("their SYNs come again late", Features { calls: [30.0, 15.0], ..calls }, Verdict::DeadServer),
        ("more than programs are wait for a stack's timer", many, Verdict::Listen),
        ("and no longer", Features { alarming: LISTEN + 1, ..many }, flood),
        ("as many as a hundred are not waited for", fast, flood),
        ("no stack sends SYNs without options", Features { calls: [3.0, 2.0], ..calls }, flood),
        ("most were only counted", Features { units: 90.0, ..calls }, flood),
        ("it answered once", Features { answers: true, dead: false, ..calls }, flood),
        ("it completed once, where answers are not seen", Features { dead: false, ..calls }, flood),
    ];
    for (what, features, verdict) in cases {
        assert_eq!(features.verdict(), verdict, "{what}");
    }
}

#[test]
fn nothing_is_answered_though_as_many_may_be_usual() {
    let begun =
        |overdue, overdue_answered| Features { overdue, overdue_answered, usual_units: 70.0, ..peace() };
    for (overdue, answered, expected) in [
        (60.0, 0.0, true),
        (60.0, 11.0, true),
        (60.0, 13.0, false),
        (200.0, 70.0, true),
        (200.0, 97.0, false),
    ] {
        assert_eq!(begun(overdue, answered).mostly_unanswered(), expected, "{answered} of {overdue}");
    }
}
