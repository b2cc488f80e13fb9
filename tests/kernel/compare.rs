//! A record put through the sensor's own tracker and the model, and the model's count beside the kernel's.

use super::truth::{Packet, SERVER, Truth};
use halfopen::config::{DetectConfig, ServerConfig, TableConfig};
use halfopen::detect::backlog::BacklogModel;
use halfopen::detect::backlog::profile::Profile;
use halfopen::detect::incident::{Incident, IncidentKind, JournalEntry, ServerView};
use halfopen::detect::observe::Observations;
use halfopen::detect::{CaptureLoss, Detector};
use halfopen::time::Timestamp;
use halfopen::track::event::HandshakeEvent;
use halfopen::track::table::HalfOpenTable;
use halfopen::track::tracker::Tracker;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// One sample: what the kernel held and what the model said.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// Seconds since the first sample.
    pub second: f64,
    pub kernel: u32,
    /// The model's count in the middle of the time in which the kernel was asked.
    pub model: u64,
    /// Its lowest and its highest in that time: the kernel walks its table while packets arrive.
    pub range: (u64, u64),
    /// What the queue holds at the most: as configured, or as learned.
    pub limit: Option<u64>,
    /// Seconds to full, as foreseen.
    pub time_to_full: Option<f64>,
}

impl Point {
    /// How far the model was off, entries.
    pub fn off(&self) -> i64 {
        let (kernel, (low, high)) = (i64::from(self.kernel), self.range);
        (low as i64 - kernel).max(0) + (high as i64 - kernel).min(0)
    }
}

struct Replay {
    tracker: Tracker,
    model: BacklogModel,
    events: Vec<HandshakeEvent>,
}

impl Replay {
    fn new(truth: &Truth, configured: bool) -> Self {
        let config = TableConfig { entries: 1 << 19, remembered: 1 << 16, ..TableConfig::default() };
        let table = Arc::new(HalfOpenTable::new(&config, 1));
        let tracker = Tracker::new(table, &config, usize::MAX);
        let backlog = truth.about["backlog"].as_u64().filter(|_| configured);
        let drops = configured && truth.about["cookies"] == 0;
        let profile = if drops { Profile::LinuxNoCookies } else { Profile::Linux };
        Self { tracker, model: BacklogModel::new(profile, backlog, 1), events: Vec::new() }
    }

    fn take(&mut self, packet: &Packet) {
        self.pass(packet.at);
        self.tracker.on_segment(&packet.segment(), &mut self.events);
        self.tell();
    }

    fn pass(&mut self, now: Timestamp) {
        self.tracker.advance(now, &mut self.events);
        self.tell();
        self.model.advance(now);
    }

    fn tell(&mut self) {
        for event in self.events.drain(..) {
            self.model.on_event(&event);
        }
    }
}

/// The points of a record. `configured`: the model is told the backlog, and whether cookies are off.
pub fn points(truth: &Truth, configured: bool) -> Vec<Point> {
    let mut replay = Replay::new(truth, configured);
    let mut packets = truth.packets.iter().peekable();
    let first = truth.samples[0].at;
    let mut points = Vec::new();
    for sample in &truth.samples {
        let blur = Duration::from_secs_f64(sample.blur / 1000.0);
        let mut range = (u64::MAX, 0);
        let mut middle = None;
        for until in [sample.at.minus(blur), sample.at, sample.at.plus(blur)] {
            while let Some(packet) = packets.next_if(|packet| packet.at <= until) {
                replay.take(packet);
                if packet.at >= sample.at.minus(blur) {
                    range = include(range, replay.model.occupancy());
                }
            }
            replay.pass(until);
            range = include(range, replay.model.occupancy());
            if until == sample.at {
                let model = &replay.model;
                let time_to_full = model.time_to_full().map(|time| time.as_secs_f64());
                let limit = model.limit().map(|limit| limit.entries);
                middle = Some((model.occupancy(), limit, time_to_full));
            }
        }
        let (model, limit, time_to_full) = middle.unwrap();
        let second = sample.at.since(first).as_secs_f64();
        points.push(Point { second, kernel: sample.entries, model, range, limit, time_to_full });
    }
    points
}

/// What a whole sensor makes of a record.
#[derive(Debug)]
pub struct Seen {
    /// What the API shows of the server at each sample.
    pub views: Vec<ServerView>,
    /// What the journal says.
    pub journal: Vec<JournalEntry>,
    /// The incident of the server that ran at each sample.
    pub incidents: Vec<Option<Incident>>,
    /// How the server treated SYNs, by the incidents that ran at the samples.
    pub told_modes: BTreeSet<&'static str>,
}

impl Seen {
    /// Seconds between the first sample and the first incident of these kinds.
    pub fn raised(&self, truth: &Truth, wanted: impl Fn(IncidentKind) -> bool) -> Option<f64> {
        let entry = self.journal.iter().find(|entry| wanted(entry.incident.kind))?;
        Some(entry.ts.as_secs_f64() - truth.samples[0].at.as_secs_f64())
    }
}

/// Puts a record through tracker and detector, after a quiet minute. `configured`: the server's address, port and backlog are;
/// its kind of host never is.
pub fn seen(truth: &Truth, configured: bool) -> Seen {
    seen_from(truth, configured, Duration::ZERO)
}

/// The same by a sensor whose bins begin so much later: where the edge of a bin falls is chance.
pub fn seen_from(truth: &Truth, configured: bool, later: Duration) -> Seen {
    let server = ServerConfig {
        name: None,
        address: SERVER.addr,
        prefix_len: 32,
        port: Some(SERVER.port),
        backlog: truth.about["backlog"].as_u64(),
        profile: None,
    };
    let table = TableConfig { entries: 1 << 19, remembered: 1 << 16, ..TableConfig::default() };
    let (config, servers) = (DetectConfig::default(), [server]);
    let servers = if configured { &servers[..] } else { &[] };
    let mut tracker = Tracker::new(Arc::new(HalfOpenTable::new(&table, 1)), &table, usize::MAX);
    let mut observations = Observations::new(&config, servers, 1);
    let mut detector = Detector::new(&config, servers, 1);
    let mut packets = truth.packets.iter().peekable();
    let mut now = truth.samples[0].at.minus(Duration::from_secs(60)).plus(later);
    let (mut views, mut journal, mut told_modes) = (Vec::new(), Vec::new(), BTreeSet::new());
    let mut incidents = Vec::new();
    for sample in &truth.samples {
        while now <= sample.at {
            while let Some(packet) = packets.next_if(|packet| packet.at <= now) {
                tracker.advance(packet.at, &mut observations);
                tracker.on_segment(&packet.segment(), &mut observations);
            }
            tracker.advance(now, &mut observations);
            detector.absorb(&mut observations);
            detector.evaluate(now, CaptureLoss::default(), &mut |entry| journal.push(entry.clone()));
            now = now.plus(Duration::from_millis(500));
        }
        views.push(detector.servers(1).swap_remove(0));
        let told = detector.incidents();
        told_modes.extend(told.iter().map(|incident| incident.server_mode.as_label()));
        incidents.push(told.into_iter().find(|incident| incident.ended_at.is_none()));
    }
    Seen { views, journal, incidents, told_modes }
}

fn include((low, high): (u64, u64), value: u64) -> (u64, u64) {
    (low.min(value), high.max(value))
}

/// When the first SYN came, seconds since the first sample.
pub fn began(truth: &Truth) -> f64 {
    let first = truth.packets.first().map_or(truth.samples[0].at, |packet| packet.at);
    first.as_secs_f64() - truth.samples[0].at.as_secs_f64()
}

/// When the server first refused a SYN its place, seconds since the first sample: it sent a SYN-ACK that it never repeated, or
/// nothing. Told from the packets, by hindsight; none where it never did.
pub fn first_refusal(truth: &Truth) -> Option<f64> {
    refusals(truth).first().copied()
}

/// When it did, each time.
fn refusals(truth: &Truth) -> Vec<f64> {
    let connections = truth.packets.iter().map(|packet| packet.connection + 1).max().unwrap_or(0);
    let mut seen = vec![(Timestamp::EPOCH, 0_u32, false); connections as usize];
    for packet in &truth.packets {
        let (opened, answers, ended) = &mut seen[packet.connection as usize];
        match packet.what {
            b'S' => *opened = packet.at,
            b'A' | b'B' => *answers += 1,
            b'K' | b'P' | b'R' | b'F' => *ended = true,
            _ => {}
        }
    }
    let first = truth.samples[0].at;
    // The last ones had no time to repeat.
    let end = truth.samples.last().unwrap().at.minus(Duration::from_secs(2));
    let refused = seen.iter().filter(|(opened, answers, ended)| *answers < 2 && !ended && *opened < end);
    let mut times: Vec<f64> =
        refused.map(|(opened, ..)| opened.as_secs_f64() - first.as_secs_f64()).collect();
    times.sort_by(f64::total_cmp);
    times
}

/// From when to when it refused SYNs at least once a second.
pub fn stretches(truth: &Truth) -> Vec<(f64, f64)> {
    let mut stretches: Vec<(f64, f64)> = Vec::new();
    for at in refusals(truth) {
        match stretches.last_mut() {
            Some((_, to)) if at - *to <= 1.0 => *to = at,
            _ => stretches.push((at, at)),
        }
    }
    stretches
}

/// How far the model was off.
#[derive(Debug, Clone, Copy)]
pub struct Agreement {
    /// Share of samples within max(3, 5 % of the backlog).
    pub within: f64,
    /// Mean and largest difference, entries; and the mean with its sign.
    pub mean: f64,
    pub largest: u64,
    pub bias: f64,
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { within, mean, largest, bias } = self;
        write!(f, "{:5.1} % within, {mean:.1} off on average ({bias:+.1}), {largest} at most", within * 100.0)
    }
}

impl Agreement {
    pub fn of(points: &[Point], backlog: u64) -> Self {
        let allowed = (backlog as f64 * 0.05).max(3.0);
        let count = points.len() as f64;
        let sum = |of: fn(&Point) -> f64| points.iter().map(of).sum::<f64>() / count;
        Self {
            within: points.iter().filter(|point| point.off().unsigned_abs() as f64 <= allowed).count() as f64
                / count,
            mean: sum(|point| point.off().unsigned_abs() as f64),
            largest: points.iter().map(|point| point.off().unsigned_abs()).max().unwrap_or(0),
            bias: sum(|point| point.off() as f64),
        }
    }
}
