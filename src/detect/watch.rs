//! Stage 4 of 5, detect: what is known of one watched key, and how its bins add up.
//!
//! Keeps and sums; the verdict is reached elsewhere.

use super::backlog::Reading;
use super::drought::{Drought, Lateness};
use super::ledger::Key;
pub(super) use super::settings::{Settings, is_one_server};
use super::sources::{SketchPool, SourceSet};
use super::statistic::{Baseline, Cusum, Mean};
use super::tally::{CLASSES, Count, Gauge, Tally};
use std::time::Duration;

/// Bins of half a sliding window: features look at the last 5 to 10 s.
pub(super) const WINDOW: u64 = 10;
/// Bins of half the window of distinct sources: the last 30 to 60 s.
const SOURCE_WINDOW: u64 = 60;

/// Bins within which units must come for what they say to be of now: 2 s, as far as two looks at an incident are apart.
const RECENT: u64 = 4;

/// Bins whose totals are remembered: longer than the longest grace age.
const PAST: u64 = 16;

/// Time constant of [`Watch::busy`], bins.
pub(super) const BUSY_BINS: f64 = 60.0;

/// Failed attempts at one server that are charged to scanners within half a minute, at most: sixteen of them with eight each, be it at
/// once. Whoever goes on at the same server longer does not scan it, whatever else he asks for.
const SCANNED: f32 = 128.0;
/// What is left of them after a bin.
const SCANNED_LEFT: f32 = 0.98;

/// One watched key.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) key: Key,
    pub(super) settings: Settings,
    pub(super) cusum: Cusum,
    pub(super) baseline: Baseline,
    /// Attempts and completions a bin in peace.
    pub(super) attempts: Mean,
    pub(super) completed: Mean,
    /// The present and the last stretch of [`WINDOW`] bins.
    pub(super) window: [Tally; 2],
    pub(super) window_began: u64,
    /// Totals after each of the last bins: bin, attempts, completed.
    past: [[u64; 3]; PAST as usize],
    /// Before the present rise of the statistic: attempts, completed.
    pub(super) before: [u64; 2],
    /// Flood units since the statistic last was zero.
    pub(super) rise: f64,
    /// Flood units in those stretches.
    pub(super) units: [f64; 2],
    /// Flood units of the last bins, in half of the room that their mean has, to see an end.
    ring: [f32; WINDOW as usize],
    pub(super) recent: f64,
    /// Attempts and completions a bin, at the pace of about two seconds.
    pub(super) pace: [f64; 2],
    /// Completions a bin that the server took, at the pace of half a minute.
    pub(super) busy: f64,
    /// Attempts that failed and that turned out well, a bin, at the same pace.
    pub(super) fates: [f64; 2],
    /// What was expected when evidence began to rise; infinite in peace.
    pub(super) held: f64,
    /// Bins in a row with an alarm that was not raised.
    pub(super) alarming: u32,
    /// When they began, its grace age was shorter than a stack waits before it sends its SYN again.
    pub(super) near: bool,
    /// Flood units of the last bin.
    pub(super) last_units: f64,
    /// Of the last bin: attempts, completed, failed in any way, turned out well past the grace age.
    pub(super) latest: [u32; 4],
    /// The last bin it was brought up to.
    pub(super) bin: u64,
    /// The first bin its window may know of.
    pub(super) born: u64,
    /// The bin it was made in: later, where it began with what others knew.
    pub(super) made: u64,
    /// Attempts, completed, unresolved since it was made.
    pub(super) totals: [u64; 3],
    /// Embryonic attempts by [`Gauge`].
    pub(super) gauges: [i64; 4],
    /// Overdue attempts that turned out well, not yet set against flood units.
    pub(super) credit: f64,
    /// Copies of SYNs that stacks might have sent and did not.
    pub(super) spare_copies: f64,
    /// SYNs that no tracked attempt stands for, not yet charged.
    pub(super) unseen: f64,
    /// Sources of unresolved attempts, two stretches.
    pub(super) sources: [SourceSet; 2],
    sources_began: u64,
    /// Of these attempts, those that a stack may have made, and attempts whose SYN came again; in both stretches.
    pub(super) calls: [[f32; 2]; 2],
    /// Calls of sources that complete elsewhere, which are not judged, ever.
    pub(super) excused: f32,
    /// Failed attempts charged to scanners, fading.
    scanned: f32,
    /// Unresolved attempts that sources were counted of, and their distinct sources, a bin at the pace of `pace`.
    pub(super) each_bin: [f64; 2],
    /// Handshake times, fading.
    pub(super) times: [f64; CLASSES],
    /// Ever sent a SYN-ACK.
    pub(super) answers: bool,
    /// Evidence that nothing completes any more.
    pub(super) drought: Drought,
    /// What turns out well after its grace age.
    pub(super) lateness: Lateness,
    /// Usual share of attempts that complete.
    pub(super) success: Mean,
    /// Highest embryonic count in peace, fading.
    pub(super) usual_occupancy: f64,
    /// What the model of its queue says, where there is one.
    pub(super) queue: Option<Box<Reading>>,
    /// Bins in a row over the occupancy threshold.
    pub(super) crowded: u32,
    /// In the list of keys to look at though nothing came.
    pub(super) warm: bool,
    /// Hosts (for a site) or servers (for a host) that contributed to the last bin.
    pub(super) parts: f64,
    /// Number of its running incident.
    pub(super) incident: Option<usize>,
    /// What its incident was raised for: added attempts a bin of the hypothesis that led; infinite where another signal raised it.
    pub(super) alarmed_at: f64,
    /// Allow-listed unresolved attempts, ever.
    pub(super) allowed: u64,
    /// Grace age last told, to tell changes only.
    pub(super) grace_told: Duration,
    /// The latest verdict, for whoever asks why nothing was raised.
    pub(super) verdict: &'static str,
}

impl Watch {
    /// A key nothing is known of.
    pub(super) fn new(key: Key, settings: Settings, bin: u64) -> Self {
        Self {
            key,
            settings,
            cusum: Cusum::default(),
            baseline: Baseline::default(),
            attempts: Mean::default(),
            completed: Mean::default(),
            window: [Tally::default(); 2],
            window_began: bin,
            past: [[0; 3]; PAST as usize],
            before: [0; 2],
            rise: 0.0,
            units: [0.0; 2],
            ring: [0.0; WINDOW as usize],
            recent: 0.0,
            pace: [0.0; 2],
            busy: 0.0,
            fates: [0.0; 2],
            held: f64::INFINITY,
            alarming: 0,
            near: false,
            last_units: 0.0,
            latest: [0; 4],
            bin,
            born: bin,
            made: bin,
            totals: [0; 3],
            gauges: [0; 4],
            credit: 0.0,
            spare_copies: 0.0,
            unseen: 0.0,
            sources: [SourceSet::None, SourceSet::None],
            sources_began: bin,
            calls: [[0.0; 2]; 2],
            excused: 0.0,
            scanned: 0.0,
            each_bin: [0.0; 2],
            times: [0.0; CLASSES],
            answers: false,
            drought: Drought::default(),
            lateness: Lateness::default(),
            success: Mean::default(),
            usual_occupancy: 0.0,
            queue: None,
            crowded: 0,
            warm: false,
            parts: 0.0,
            incident: None,
            alarmed_at: f64::INFINITY,
            allowed: 0,
            grace_told: Duration::ZERO,
            verdict: "quiet",
        }
    }

    /// Takes the counts of one bin in.
    pub(super) fn take(&mut self, bin: u64, tally: &Tally) {
        let passed = bin.saturating_sub(self.bin).min(10_000);
        self.scanned *= SCANNED_LEFT.powi(passed as i32);
        self.roll(bin);
        self.window[0].add(tally);
        for (total, what) in self.totals.iter_mut().zip([Count::Attempts, Count::Completed, Count::Overdue]) {
            *total += u64::from(tally[what]);
        }
        self.totals[2] += u64::from(tally[Count::NotTakenInTime]);
        for (gauge, which) in self.gauges.iter_mut().zip([
            Gauge::Sent,
            Gauge::Received,
            Gauge::OverdueSent,
            Gauge::OverdueReceived,
        ]) {
            // An attempt older than the watch may end in it: never below zero.
            *gauge = (*gauge + tally.moved(which)).max(0);
        }
        self.answers |= tally[Count::Answered] > 0;
        self.allowed += u64::from(tally[Count::Allowed]);
        for (mine, new) in self.times.iter_mut().zip(tally.times) {
            *mine += f64::from(new);
        }
        let sum: f64 = self.times.iter().sum();
        if sum > 20_000.0 {
            self.times.iter_mut().for_each(|n| *n /= 2.0);
        }
        let ends = [tally.failed(), tally.of(Count::Completed) + tally.of(Count::Refused)];
        for (fate, new) in self.fates.iter_mut().zip(ends) {
            *fate = *fate * 0.7 + new * 0.3;
        }
        let failed =
            tally[Count::Overdue].saturating_add(tally[Count::Refused]).saturating_sub(tally[Count::Late]);
        for (pace, what) in self.pace.iter_mut().zip([Count::Attempts, Count::Completed]) {
            *pace = *pace * 0.7 + tally.of(what) * 0.3;
        }
        self.lateness.take(tally);
        self.each_bin = self.each_bin.map(|mean| mean * 0.7);
        let taken = tally.of(Count::Completed) - tally.of(Count::NotTaken);
        self.busy = (self.busy + (taken - self.busy) / BUSY_BINS).max(0.0);
        self.latest = [tally[Count::Attempts], tally[Count::Completed], failed, tally[Count::Late]];
        self.past[(bin % PAST) as usize] = [bin, self.totals[0], self.totals[1]];
    }

    /// Attempts and completions up to and with a bin, as far back as is remembered.
    pub(super) fn totals_at(&self, bin: u64) -> [u64; 2] {
        let at =
            self.past.iter().filter(|past| past[0] <= bin && past[0] >= self.born).max_by_key(|past| past[0]);
        match at {
            Some([_, attempts, completed]) => [*attempts, *completed],
            // Nothing is that old: either it is younger, or it was idle for so long that the oldest will do.
            None if self.born > bin => [0, 0],
            None => self.past.iter().map(|past| [past[1], past[2]]).min().unwrap_or_default(),
        }
    }

    /// Whether so many failed attempts of the present bin, all by scanners, may be charged to them.
    pub(super) fn is_only_scanned(&mut self, failed: f64) -> bool {
        self.scanned += failed as f32;
        self.scanned <= SCANNED
    }

    /// Notes the flood units of the present bin.
    pub(super) fn note_units(&mut self, units: f64) {
        self.units[0] += units;
        self.last_units = units;
        self.ring[(self.bin % WINDOW) as usize] = units as f32;
        self.recent = self.ring.iter().copied().map(f64::from).sum::<f64>() / WINDOW as f64;
    }

    /// Whether units come as they did over the last bins, in two seconds of them: what only decays is over.
    pub(super) fn goes_on(&self) -> bool {
        let lately = (0..RECENT).map(|back| self.ring[(self.bin.wrapping_sub(back) % WINDOW) as usize]);
        lately.map(f64::from).sum::<f64>() >= 0.5 * self.recent * RECENT as f64
    }

    /// Brings windows, means and sums up to a bin, as if nothing had come since.
    pub(super) fn roll(&mut self, bin: u64) {
        let idle = bin.saturating_sub(self.bin + 1);
        if idle > 0 {
            self.drought.pause(idle as f64, self.completed.value());
            for passed in 0..idle.min(WINDOW) {
                self.ring[((bin - 1 - passed) % WINDOW) as usize] = 0.0;
            }
            let fade = 0.7_f64.powf(idle.min(1000) as f64);
            self.pace = self.pace.map(|pace| pace * fade);
            self.lateness.fade(fade);
            self.each_bin = self.each_bin.map(|mean| mean * fade);
            self.busy *= (1.0 - 1.0 / BUSY_BINS).powf(idle.min(1000) as f64);
            if self.incident.is_none() && self.cusum.largest() == 0.0 {
                self.baseline.learn_silence(idle);
                self.attempts.learn(0.0, idle);
                self.completed.learn(0.0, idle);
                self.usual_occupancy *= 0.9999_f64.powf(idle.min(1_000_000) as f64);
            }
        }
        self.bin = self.bin.max(bin);
        let passed = bin.saturating_sub(self.window_began);
        if passed >= WINDOW {
            let [now, before] = &mut self.window;
            *before = if passed < 2 * WINDOW { *now } else { Tally::default() };
            *now = Tally::default();
            self.units = [0.0, if passed < 2 * WINDOW { self.units[0] } else { 0.0 }];
            self.window_began = bin - passed % WINDOW;
        }
    }

    /// Brings the sources' window up to a bin.
    pub(super) fn roll_sources(&mut self, bin: u64, spare: &mut SketchPool) {
        let passed = bin.saturating_sub(self.sources_began);
        if passed >= SOURCE_WINDOW {
            self.sources.swap(0, 1);
            self.sources[0].clear(spare);
            self.calls = [[0.0; 2], self.calls[0]];
            if passed >= 2 * SOURCE_WINDOW {
                self.sources[1].clear(spare);
                self.calls[1] = [0.0; 2];
            }
            self.sources_began = bin - passed % SOURCE_WINDOW;
        }
    }

    /// Takes in the sources of the bin just taken in, which `entries` unresolved attempts had; a stack may have made `calls` of them.
    pub(super) fn note_sources(
        &mut self,
        bin: u64,
        [entries, calls, returned]: [f64; 3],
        sources: &SourceSet,
        spare: &mut SketchPool,
    ) {
        self.roll_sources(bin, spare);
        self.sources[0].union(sources, spare);
        let [made, again] = &mut self.calls[0];
        (*made, *again) = (*made + calls as f32, *again + returned as f32);
        // A few are known one by one; only more are worth reading a sketch.
        let distinct = match sources {
            SourceSet::One(_) => entries.min(1.0),
            SourceSet::Few(_) | SourceSet::Many(_) => sources.estimate().0.min(entries),
            SourceSet::None | SourceSet::Uncounted => entries,
        };
        self.each_bin[0] += 0.3 * entries;
        self.each_bin[1] += 0.3 * distinct;
    }

    /// Gives its sketches back.
    pub(super) fn release(&mut self, spare: &mut SketchPool) {
        self.sources.iter_mut().for_each(|set| set.clear(spare));
    }

    /// A count over both stretches of the window.
    pub(super) fn both(&self, what: Count) -> f64 {
        self.sum(|tally| tally.of(what))
    }

    /// A sum over both stretches of the window.
    pub(super) fn sum(&self, of: impl Fn(&Tally) -> f64) -> f64 {
        self.window.iter().map(of).sum()
    }

    /// Bins the window covers.
    pub(super) fn window_bins(&self) -> f64 {
        let since_born = self.bin.saturating_sub(self.born) + 1;
        (self.bin - self.window_began + 1 + WINDOW).min(since_born.max(1)) as f64
    }

    /// Distinct sources and sites of unresolved attempts in the last minute.
    pub(super) fn distinct(&self) -> (f64, f64) {
        let [now, before] = &self.sources;
        now.estimate_with(before)
    }
}
