//! The model of a server's SYN queue, held against the kernel whose queue it is.
//!
//! Live, it needs root, for it makes its own network namespaces; elsewhere that test says that it was skipped, and the same
//! comparison is made with what was recorded. Nothing is sent outside the namespaces. `HALFOPEN_RECORD=tests/kernel/records`
//! keeps the records of a live run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test binary"
)]
#![allow(unreachable_pub, reason = "its modules are its own")]

#[path = "kernel/case.rs"]
mod case;
#[path = "kernel/compare.rs"]
mod compare;
#[path = "kernel/live.rs"]
mod live;
#[path = "kernel/oracle.rs"]
mod oracle;
#[path = "kernel/parties.rs"]
mod parties;
mod support;
#[path = "kernel/truth.rs"]
mod truth;
#[path = "kernel/views.rs"]
mod views;

use compare::{Agreement, Point, Seen};
use halfopen::detect::incident::{IncidentKind, JournalEntry, Severity};
use halfopen::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;
use truth::Truth;

/// Share of samples that must lie within max(3, 5 % of the backlog).
const ENOUGH: f64 = 0.95;
/// A mode shows within this time and is given up within it, seconds; the samples are a second apart.
const MODE_WITHIN: f64 = 5.0;
/// A queue that took longer to fill than this, seconds, is alarmed of before.
const SLOWLY: f64 = 2.0;
/// A perfect forecast that misses no more often than this hardly ever does: the model's must not either.
const HARDLY: f64 = 0.05;
/// How well the counters, looked at every 20 ms on a busy machine, and the packets agree, seconds.
const SAME: f64 = 0.5;

/// Not a test: what the parties inside the namespaces run.
#[test]
fn helper() {
    parties::main();
}

#[test]
fn the_kernel_agrees() {
    let keep = std::env::var_os("HALFOPEN_RECORD").map(PathBuf::from);
    let (complaints, forecasts) = (Mutex::new(String::new()), Forecasts::default());
    std::thread::scope(|scope| {
        for group in chosen() {
            let (keep, complaints, forecasts) = (&keep, &complaints, &forecasts);
            scope.spawn(move || {
                for truth in live::run_group(&group).unwrap_or_default() {
                    if let Some(directory) = keep {
                        truth.write(&directory.join(format!("{}.zst", name(&truth))));
                    }
                    complaints.lock().unwrap().push_str(&judge(&truth, forecasts));
                }
            });
        }
    });
    let complaints = complaints.into_inner().unwrap() + &forecasts.judge();
    assert!(complaints.is_empty(), "\n{complaints}");
}

#[test]
fn the_recorded_kernel_agrees() {
    let (mut complaints, forecasts) = (String::new(), Forecasts::default());
    let files = records();
    assert!(files.len() >= 80, "only {} records", files.len());
    let (left, right) = files.split_at(files.len() / 2);
    std::thread::scope(|scope| {
        let halves = [left, right].map(|files| {
            scope.spawn(|| files.iter().map(|file| judge(&Truth::read(file), &forecasts)).collect::<String>())
        });
        for half in halves {
            complaints.push_str(&half.join().unwrap());
        }
    });
    complaints.push_str(&forecasts.judge());
    assert!(complaints.is_empty(), "\n{complaints}");
}

/// All groups, or those cases whose names have `HALFOPEN_CASES` in them.
fn chosen() -> Vec<case::Group> {
    let Ok(word) = std::env::var("HALFOPEN_CASES") else { return case::groups() };
    let mut groups = case::groups();
    for group in &mut groups {
        group.cases.retain(|case| format!("{}-{}", group.name, case.name).contains(&word));
    }
    groups.retain(|group| !group.cases.is_empty());
    groups
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernel/records")
}

fn records() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn name(truth: &Truth) -> String {
    let word = |key: &str| truth.about[key].as_str().unwrap().to_owned();
    format!("{}-{}", word("group"), word("name"))
}

/// Everything a record must show; what it does not, in words.
fn judge(truth: &Truth, forecasts: &Forecasts) -> String {
    let (name, backlog) = (name(truth), truth.about["backlog"].as_u64().unwrap());
    let points = compare::points(truth, true);
    let agreement = Agreement::of(&points, backlog);
    let mut complaints = String::new();
    let mut say = |what: String| writeln!(complaints, "{name}: {what}").unwrap();
    if agreement.within < ENOUGH {
        say(agreement.to_string());
    }
    let refused = refusal(truth, &mut say);
    if refused.is_none() && is_far_from_full(&name) {
        println!("{name:32} {agreement}");
        return complaints;
    }
    let seen = compare::seen(truth, true);
    let (alarm, began) = (seen.raised(truth, is_flood), compare::began(truth));
    println!("{name:32} {agreement}; began {began:.1}, alarm {alarm:.1?}, refused {refused:.2?}");
    if let Some(refused) = refused.filter(|refused| refused - began > SLOWLY)
        && !name.contains("not-accepting")
        && alarm.is_none_or(|alarm| alarm >= refused)
    {
        say(format!("the alarm came at {alarm:.2?}, but a SYN was refused its place at {refused:.2}"));
    }
    if let Some((half, happened)) = forecast(&points, truth, refused.filter(|at| at - began > SLOWLY))
        && let Err(what) = forecasts.take(&name, truth, half, happened)
    {
        say(what);
    }
    // Far beyond what the queue holds, it is full from start to end.
    if name.ends_with("-5th") || name.ends_with("-whole") || name.ends_with("-5-fold") {
        let wanted = if truth.about["cookies"] == 0 { "drop" } else { "cookie" };
        modes(&seen, wanted, refused.unwrap_or_default(), truth, &mut say);
    }
    if !name.contains("not-accepting") {
        stretches(&seen, truth, &mut say);
    }
    let kinds: BTreeSet<&str> = seen.journal.iter().map(|entry| entry.incident.kind.as_label()).collect();
    if name.contains("not-accepting") {
        modes(&seen, "accept_overflow", refused.unwrap_or_default(), truth, &mut say);
        if let Err(what) = does_not_accept(&seen) {
            say(what);
        }
    }
    if name.contains("in-vain") && !seen.journal.iter().any(|entry| is_flood(entry.incident.kind)) {
        say(format!("a flood that acknowledges in vain was taken for {kinds:?}"));
    }
    // What waits for data is neither turned away nor a flood.
    if name.contains("deferring") && !kinds.is_empty() {
        say(format!("a server that defers was taken for {kinds:?}"));
    }
    let profile = seen.views.last().and_then(|view| view.profile.clone());
    let wanted = if name.starts_with("always-cookies") { None } else { Some("linux") };
    if profile.as_deref() != wanted {
        say(format!("its host is told to be {profile:?}"));
    }
    complaints
}

/// What the model foresaw at half full, and how long it took from then; none where its queue was not half full before `refused`, or
/// never as full as the model was told it may be: then the refusal was another one, of an entry whose SYN-ACK could not be sent.
fn forecast(points: &[Point], truth: &Truth, refused: Option<f64>) -> Option<(Option<f64>, f64)> {
    let backlog = truth.about["backlog"].as_u64().unwrap();
    let most = points.iter().map(|point| f64::from(point.kernel)).fold(0.0, f64::max);
    let half = points.iter().find(|point| point.model * 2 >= backlog && most >= 0.95 * backlog as f64)?;
    refused.filter(|at| *at > half.second).map(|at| (half.time_to_full, at - half.second))
}

/// What was foreseen of queues that fill at random: how often a perfect forecast of such a case misses, and whether this one did.
#[derive(Debug, Default)]
struct Forecasts(Mutex<Vec<(f64, bool)>>);

impl Forecasts {
    /// Takes one. Where SYNs are evenly spaced, or a perfect forecast hardly ever misses, it must hold; the others are held to it all
    /// together.
    fn take(&self, name: &str, truth: &Truth, foreseen: Option<f64>, happened: f64) -> Result<(), String> {
        let missed = oracle::is_miss(foreseen, happened);
        let complaint = || Err(format!("at half full {foreseen:?} s were foreseen; it took {happened:.2}"));
        if truth.about["even"] == true {
            return if missed { complaint() } else { Ok(()) };
        }
        let share = |word, share| if name.contains(word) { share } else { 0.0 };
        let chance = oracle::chance(oracle::Arrivals {
            rate: truth.about["rate"].as_f64().unwrap(),
            backlog: truth.about["backlog"].as_u64().unwrap() as u32,
            duplicates: share("duplicates", 0.3),
            resets: share("resets", 0.5),
        });
        let Some(chance) = chance else {
            // A machine that holds the sender up and lets it catch up at once fills what such a flood does not.
            println!(
                "{name:32} it filled in {happened:.2} s, which SYNs at this rate hardly ever do: no forecast is held to it"
            );
            return Ok(());
        };
        println!(
            "{name:32} at half full {foreseen:.2?} s were foreseen; it took {happened:.2}. A perfect forecast misses {:.0} % of such \
             runs, and {:.0} % if it is told the true rate",
            chance.rate_seen * 100.0,
            chance.rate_told * 100.0
        );
        if missed && chance.rate_seen <= HARDLY {
            return complaint();
        }
        self.0.lock().unwrap().push((chance.rate_seen, missed));
        Ok(())
    }

    /// No more may miss than of perfect forecasts would: one sum of such runs in a hundred has as many by chance.
    fn judge(&self) -> String {
        let all = self.0.lock().unwrap();
        let missed = all.iter().filter(|(_, missed)| *missed).count() as f64;
        let expected: f64 = all.iter().map(|(chance, _)| chance).sum();
        let deviation = all.iter().map(|(chance, _)| chance * (1.0 - chance)).sum::<f64>().sqrt();
        println!(
            "{missed} of {} forecasts of random arrivals missed; of perfect ones {expected:.1} would, give or take {deviation:.1}",
            all.len()
        );
        // Half of one more, because misses come whole.
        if missed > expected + 2.33 * deviation + 0.5 {
            format!(
                "{missed} forecasts missed; of perfect ones {expected:.1} would, give or take {deviation:.1}\n"
            )
        } else {
            String::new()
        }
    }
}

/// Whether it was told, and not as a flood, that a server does not accept. Until its accept queue is full, every client that comes is
/// served, and so many that come at once are a crowd: that may be told, as no more than information, and is taken back then.
fn does_not_accept(seen: &Seen) -> Result<(), String> {
    let mut last = BTreeMap::new();
    for JournalEntry { incident, .. } in &seen.journal {
        let crowd = incident.kind == IncidentKind::FlashCrowd && incident.severity == Severity::Info;
        if !crowd && incident.kind != IncidentKind::AcceptOverflow {
            return Err(format!("a server that does not accept was taken for {}", incident.kind.as_label()));
        }
        last.insert(incident.id.clone(), incident.kind);
    }
    let told = last.values().filter(|kind| **kind == IncidentKind::AcceptOverflow).count();
    match told {
        1 if last.len() == 1 => Ok(()),
        _ => Err(format!("a server that does not accept was told as {last:?}")),
    }
}

/// When the kernel first sent a cookie or dropped a SYN: by its own counters where they are this case's alone, else by hindsight
/// from the packets; seconds since the first sample.
fn refusal(truth: &Truth, say: &mut dyn FnMut(String)) -> Option<f64> {
    let (counted, packets) = (truth.first_counted(), compare::first_refusal(truth));
    if truth.about["alone"] != true {
        return packets;
    }
    // The two tell the same: that is what hindsight rests on where counters are shared.
    if counted.zip(packets).is_some_and(|(counted, packets)| (packets - counted).abs() > SAME)
        || counted.is_some() != packets.is_some()
    {
        say(format!("by its counters the kernel refused at {counted:.2?}, by the packets at {packets:.2?}"));
    }
    counted
}

/// A rate that does not fill a queue: where it did not, the detector has nothing to foresee and no mode to tell, and is looked at for
/// one size of queue only, for the sake of time.
fn is_far_from_full(name: &str) -> bool {
    let far = ["126th", "63rd", "30th", "15th"].iter().any(|share| name.ends_with(share));
    far && !name.contains("128-")
}

fn is_flood(kind: IncidentKind) -> bool {
    matches!(kind, IncidentKind::SpoofedFlood | IncidentKind::DirectFlood | IncidentKind::CarpetFlood)
}

/// The mode shows within 5 s of the first refusal and is gone within 5 s of the last packet that came to the server; the incident
/// has it too.
fn modes(seen: &Seen, wanted: &str, from: f64, truth: &Truth, say: &mut dyn FnMut(String)) {
    let second = |at: Timestamp| at.as_secs_f64() - truth.samples[0].at.as_secs_f64();
    let last_syn = truth.packets.iter().rfind(|packet| packet.what == b'S');
    let last_syn = last_syn.map_or(0.0, |packet| second(packet.at));
    let shown = || {
        let views = seen.views.iter().zip(&truth.samples);
        views
            .filter(|(view, _)| view.mode.as_label() == wanted)
            .map(|(view, sample)| (view, second(sample.at)))
    };
    let first = shown().next().map(|(_, second)| second);
    if first.is_none_or(|first| first > from + MODE_WITHIN) {
        say(format!("{wanted} from {first:?}, but the first refusal was at {from:.1}"));
    }
    if let Some((_, late)) = shown().find(|(_, second)| *second > last_syn + MODE_WITHIN) {
        say(format!("still {wanted} at {late:.0}, though the last SYN came at {last_syn:.1}"));
    }
    if shown().any(|(view, _)| !(view.mode_confidence > 0.0 && view.mode_confidence <= 1.0)) {
        say(format!("{wanted} without a measure of how sure that is"));
    }
    if !seen.told_modes.contains(wanted) {
        say(format!("no incident says {wanted}"));
    }
}

/// Wherever the kernel refused SYNs their place for 5 s on end, its mode shows within 5 s and until the end; and 5 s after, where it
/// refused none meanwhile, no more.
fn stretches(seen: &Seen, truth: &Truth, say: &mut dyn FnMut(String)) {
    let wanted = if truth.about["cookies"] == 0 { "drop" } else { "cookie" };
    let second = |at: Timestamp| at.as_secs_f64() - truth.samples[0].at.as_secs_f64();
    let views = seen.views.iter().zip(&truth.samples);
    let shows: Vec<(f64, &str)> =
        views.map(|(view, sample)| (second(sample.at), view.mode.as_label())).collect();
    let refused = compare::stretches(truth);
    for (from, to) in refused.iter().filter(|(from, to)| to - from >= MODE_WITHIN) {
        let held = shows.iter().filter(|(at, _)| (from + MODE_WITHIN..=*to).contains(at));
        let missing: Vec<_> = held.filter(|(_, mode)| *mode != wanted).collect();
        if !missing.is_empty() {
            say(format!("SYNs were refused from {from:.1} to {to:.1}, but not {wanted}: {missing:.0?}"));
        }
    }
    for (at, _) in shows.iter().filter(|(_, mode)| *mode == wanted) {
        if !refused.iter().any(|(from, to)| (*from - 0.5..*to + MODE_WITHIN).contains(at)) {
            say(format!("{wanted} at {at:.0}, and no SYN was refused in the 5 s before"));
        }
    }
}

/// A server of which nothing is configured: its host is told by its schedule, its size learned, both marked; and what it does is
/// told as well.
#[test]
fn a_server_nobody_configured_is_known_by_its_behaviour() {
    for case in ["cookies-128-5th", "no-cookies-511-9th", "cookies-1024-5th"] {
        let truth = Truth::read(&directory().join(format!("{case}.zst")));
        let seen = compare::seen(&truth, false);
        let most = truth.samples.iter().map(|sample| f64::from(sample.entries)).fold(0.0, f64::max);
        let view = seen.views.last().unwrap();
        let learned = view.backlog_limit.unwrap_or_else(|| panic!("{case}: no size learned")) as f64;
        assert!((learned / most - 1.0).abs() < 0.2, "{case}: learned {learned}, held {most}");
        assert!(view.backlog_limit_estimated && !view.backlog_occupancy_estimated && !view.configured);
        assert_eq!((view.profile.as_deref(), view.profile_inferred), (Some("linux"), true), "{case}");
        let wanted = if truth.about["cookies"] == 0 { "drop" } else { "cookie" };
        let modes: BTreeSet<&str> = seen.views.iter().map(|view| view.mode.as_label()).collect();
        assert!(modes.contains(wanted), "{case}: {modes:?}");
    }
    for case in ["mixed-128-not-accepting", "mixed-511-not-accepting"] {
        let truth = Truth::read(&directory().join(format!("{case}.zst")));
        let seen = compare::seen(&truth, false);
        let kinds: BTreeSet<&str> = seen.journal.iter().map(|entry| entry.incident.kind.as_label()).collect();
        assert_eq!(kinds, BTreeSet::from(["accept_overflow"]), "{case}");
    }
}

/// Where the edges of the sensor's bins fall is chance. A crowd that has not yet met a full accept queue is one; from then on it is
/// not, and never is there a flood.
#[test]
fn a_server_that_does_not_accept_is_told_wherever_bins_begin() {
    for case in ["mixed-128-not-accepting", "mixed-511-not-accepting"] {
        let truth = Truth::read(&directory().join(format!("{case}.zst")));
        for later in (0..10).map(|tenth| Duration::from_millis(100 * tenth)) {
            let seen = compare::seen_from(&truth, true, later);
            let told = does_not_accept(&seen);
            assert!(told.is_ok(), "{case}, bins {later:?} later: {told:?}");
        }
    }
}
