//! Stage 4 of 5, detect: the life of an incident. Raised once, updated while it runs, ended with a reason.
//!
//! Bounded: so many run at once, so many that ended are remembered; the journal has the rest. Decides nothing.

use super::incident::{Change, Incident, IncidentKind, JournalEntry, ServerMode, Severity};
use super::sources::{SketchPool, SourceSet};
use crate::time::Timestamp;
use std::collections::VecDeque;

/// Incidents that may run at once. Beyond it the newcomer is counted and not raised: 256 alarms say what 257 say.
pub(super) const MAX_RUNNING: usize = 256;

/// An incident that runs.
#[derive(Debug)]
pub(super) struct Running {
    /// As it is told.
    pub(super) incident: Incident,
    /// Bins in a row that looked like peace.
    pub(super) calm: u32,
    /// Bin of the last word in the journal.
    told: u64,
    /// The peak rate and the mode when last told.
    told_rate: f64,
    told_mode: ServerMode,
    opinion: Opinion,
    /// Sources of unresolved attempts since its onset.
    pub(super) sources: SourceSet,
    /// Totals (attempts, completed) of its key before the onset.
    pub(super) before: [u64; 2],
    /// What it had come to before a restart.
    pub(super) carried: Carried,
}

/// Figures of an incident from before a restart; zero where there was none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Carried {
    pub(super) attempts: u64,
    pub(super) completed: u64,
    pub(super) sources: u64,
}

/// What later looks make of an incident's kind.
#[derive(Debug, Clone, Copy, Default)]
struct Opinion {
    /// Kinds it had before.
    corrected: u32,
    /// Another kind, and looks in a row that said so.
    other: Option<(IncidentKind, u32)>,
}

/// Looks in a row that a correction may have to wait for: two minutes.
const MOST_LOOKS: u32 = 64;

impl Running {
    /// Its kind after another look. The first correction counts at once, each further one only when twice as many looks in a row
    /// say the same: who is paged for one kind is paged again for another, and what lies between two would do so for ever. That
    /// it is no mere crowd counts at once, however often it was taken for one.
    pub(super) fn look(&mut self, kind: IncidentKind) -> IncidentKind {
        let told = self.incident.kind;
        if kind == told {
            self.opinion.other = None;
            return told;
        }
        let looks = self.opinion.other.filter(|(other, _)| *other == kind).map_or(1, |(_, looks)| looks + 1);
        if told != IncidentKind::FlashCrowd && looks < MOST_LOOKS.min(1 << self.opinion.corrected.min(31)) {
            self.opinion.other = Some((kind, looks));
            return told;
        }
        self.opinion = Opinion { corrected: self.opinion.corrected + 1, other: None };
        kind
    }

    /// Distinct sources since the onset: at least as many as before a restart, for that sketch is gone.
    pub(super) fn distinct_sources(&self) -> u64 {
        (self.sources.estimate().0.round() as u64).max(self.carried.sources)
    }
}

/// All incidents.
#[derive(Debug)]
pub(super) struct Episodes {
    running: Vec<Option<Running>>,
    ended: VecDeque<Incident>,
    keep: usize,
    /// Raised so far, in the order of [`IncidentKind::ALL`]; a change of kind counts for the new one.
    pub(super) raised: [u64; 10],
    /// Not raised because too many were running.
    pub(super) suppressed: u64,
    /// What changed in this bin, in order.
    pub(super) news: Vec<JournalEntry>,
}

/// Updates of one incident come at least this many bins apart, unless its kind or severity changes: 10 s.
const UPDATE_EVERY: u64 = 20;

impl Episodes {
    /// None yet; `keep` that ended are remembered.
    pub(super) fn new(keep: usize) -> Self {
        Self {
            running: Vec::new(),
            ended: VecDeque::new(),
            keep,
            raised: [0; 10],
            suppressed: 0,
            news: Vec::new(),
        }
    }

    /// Raises one; its number, or none where too many run.
    pub(super) fn raise(
        &mut self,
        bin: u64,
        mut incident: Incident,
        before: [u64; 2],
        sources: SourceSet,
    ) -> Option<usize> {
        let number = self.running.iter().position(Option::is_none).unwrap_or(self.running.len());
        if number >= MAX_RUNNING {
            self.suppressed += 1;
            return None;
        }
        incident.id = id(&incident);
        self.count(incident.kind);
        self.news.push(JournalEntry {
            ts: incident.detected_at,
            event: Change::Raised,
            incident: incident.clone(),
        });
        let (told_rate, told_mode) = (incident.syn_rate_peak, incident.server_mode);
        let (carried, opinion) = (Carried::default(), Opinion::default());
        self.seat(
            number,
            Running { incident, calm: 0, told: bin, told_rate, told_mode, opinion, sources, before, carried },
        );
        Some(number)
    }

    /// Goes on with one from before a restart, of which the journal knows; its number, or none where too many run.
    pub(super) fn resume(
        &mut self,
        incident: Incident,
        carried: Carried,
        sources: SourceSet,
    ) -> Option<usize> {
        let number = self.running.iter().position(Option::is_none).unwrap_or(self.running.len());
        if number >= MAX_RUNNING {
            return None;
        }
        let (told_rate, told_mode) = (incident.syn_rate_peak, incident.server_mode);
        let (before, opinion) = ([0; 2], Opinion::default());
        self.seat(
            number,
            Running { incident, calm: 0, told: 0, told_rate, told_mode, opinion, sources, before, carried },
        );
        Some(number)
    }

    fn seat(&mut self, number: usize, running: Running) {
        match self.running.get_mut(number) {
            Some(place) => *place = Some(running),
            None => self.running.push(Some(running)),
        }
    }

    /// Those that run, with their numbers.
    pub(super) fn running(&self) -> impl Iterator<Item = (usize, &Running)> {
        self.running.iter().enumerate().filter_map(|(number, running)| Some((number, running.as_ref()?)))
    }

    /// A running one.
    pub(super) fn get_mut(&mut self, number: usize) -> Option<&mut Running> {
        self.running.get_mut(number)?.as_mut()
    }

    /// Gives a running one its present kind and severity, and says so in the journal where that is news.
    pub(super) fn review(
        &mut self,
        number: usize,
        now: (u64, Timestamp),
        kind: IncidentKind,
        severity: Severity,
    ) {
        let Some(running) = self.running.get_mut(number).and_then(Option::as_mut) else { return };
        let (bin, ts) = now;
        let changed = running.incident.kind != kind;
        let graver =
            severity > running.incident.severity || (changed && severity != running.incident.severity);
        let a_while_ago = bin >= running.told + UPDATE_EVERY;
        let grew = running.incident.syn_rate_peak >= 2.0 * running.told_rate && a_while_ago;
        // That a server begins to send cookies, or to drop, is news.
        let turned = running.incident.server_mode != running.told_mode && a_while_ago;
        running.incident.kind = kind;
        if graver {
            running.incident.severity = severity;
        }
        if changed || graver || grew || turned {
            (running.told, running.told_rate) = (bin, running.incident.syn_rate_peak);
            running.told_mode = running.incident.server_mode;
            self.news.push(JournalEntry { ts, event: Change::Updated, incident: running.incident.clone() });
        }
        if changed {
            self.count(kind);
        }
    }

    /// Ends one.
    pub(super) fn end(&mut self, number: usize, ts: Timestamp, reason: &'static str, spare: &mut SketchPool) {
        let Some(mut running) = self.running.get_mut(number).and_then(Option::take) else { return };
        running.sources.clear(spare);
        running.incident.ended_at = Some(ts);
        running.incident.end_reason = Some(reason);
        self.news.push(JournalEntry { ts, event: Change::Ended, incident: running.incident.clone() });
        if self.ended.len() >= self.keep.max(1) {
            self.ended.pop_front();
        }
        self.ended.push_back(running.incident);
    }

    /// Those remembered and those that run, oldest detection first.
    pub(super) fn all(&self) -> Vec<Incident> {
        let running = self.running.iter().flatten().map(|running| &running.incident);
        let mut all: Vec<Incident> = self.ended.iter().chain(running).cloned().collect();
        all.sort_by(|a, b| (a.detected_at, &a.id).cmp(&(b.detected_at, &b.id)));
        all
    }

    fn count(&mut self, kind: IncidentKind) {
        if let Some(at) = IncidentKind::ALL.iter().position(|k| *k == kind) {
            self.raised[at] += 1;
        }
    }
}

/// The same for the same episode, whatever the hash key: `20251122T171856Z-spoofed_flood-1a2b3c`.
fn id(incident: &Incident) -> String {
    // FNV-1a over the name and the onset: only to tell apart what began in the same second.
    let onset = incident.onset.as_nanos().to_be_bytes();
    let hash = incident
        .server
        .bytes()
        .chain([incident.scope as u8])
        .chain(onset)
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        });
    let seconds = incident.onset.as_nanos().div_euclid(1_000_000_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let tail = (hash ^ hash >> 32) & 0xFF_FFFF;
    format!(
        "{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z-{}-{tail:06x}",
        incident.kind.as_label()
    )
}

/// Days since 1970-01-01 to year, month, day of the Gregorian calendar, by 400-year cycles that begin on 1 March.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let cycle = shifted.div_euclid(146_097);
    let day_of_cycle = shifted.rem_euclid(146_097);
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = (
        cycle * 400 + year_of_cycle + i64::from(month >= 10),
        if month < 10 { month + 3 } else { month - 9 },
    );
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::incident::Scope;

    fn running(kind: IncidentKind) -> Running {
        let mut episodes = Episodes::new(1);
        let incident = Incident {
            id: String::new(),
            kind,
            scope: Scope::Server,
            server: "192.0.2.1:80".to_owned(),
            severity: Severity::Critical,
            onset: Timestamp::EPOCH,
            detected_at: Timestamp::EPOCH,
            ended_at: None,
            end_reason: None,
            server_mode: ServerMode::Unknown,
            server_mode_confidence: 0.0,
            syn_rate_peak: 0.0,
            attempts: 0,
            completed: 0,
            embryonic_peak: 0,
            backlog_occupancy_peak: 0.0,
            backlog_occupancy_estimated: true,
            distinct_sources: 0,
            capture_loss: 0.0,
            evidence: Vec::new(),
        };
        let number = episodes.raise(0, incident, [0; 2], SourceSet::None).unwrap();
        episodes.running[number].take().unwrap()
    }

    /// What looks make of it, one after another: how many changes of kind.
    fn changes(running: &mut Running, looks: impl Iterator<Item = IncidentKind>) -> usize {
        let corrected = looks.map(|kind| {
            let told = running.look(kind);
            let changed = told != running.incident.kind;
            running.incident.kind = told;
            usize::from(changed)
        });
        corrected.sum()
    }

    #[test]
    fn what_lies_between_two_kinds_does_not_change_for_ever() {
        use IncidentKind::{FlashCrowd, Outage, SpoofedFlood};
        let one_another = |each: usize| (0..3600).map(move |n| [Outage, SpoofedFlood][n / each % 2]);
        for (each, most) in [(1, 1), (2, 2), (5, 3), (60, 6)] {
            let mut flood = running(SpoofedFlood);
            let seen = changes(&mut flood, one_another(each));
            assert!((1..=most).contains(&seen), "{seen} changes, every {each} looks");
        }
        // The first correction counts at once, and so does what lasts, in the end.
        let mut flood = running(SpoofedFlood);
        assert_eq!(flood.look(Outage), Outage);
        changes(&mut flood, one_another(1));
        flood.incident.kind = SpoofedFlood;
        assert_eq!(changes(&mut flood, std::iter::repeat_n(Outage, MOST_LOOKS as usize)), 1);
        // A crowd that turns out to be a flood is one at once, whatever was before.
        flood.incident.kind = FlashCrowd;
        assert_eq!(flood.look(SpoofedFlood), SpoofedFlood);
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        // Checked with `date -u -d @N +%F`.
        for (days, date) in [
            (0, (1970, 1, 1)),
            (-1, (1969, 12, 31)),
            (11_016, (2000, 2, 29)),
            (20_414, (2025, 11, 22)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(civil(days), date, "{days}");
        }
    }
}
