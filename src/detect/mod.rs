//! Stage 4 of 5, detect: handshake events to incidents.
//!
//! Sees events only, never a segment, never the table. No I/O, no clock.
//!
//! ```text
//!  packet thread                        the one detector, twice a second of network time
//!  Observations  --absorb-->  sums of a bin  --evaluate-->  judge: scans, servers, hosts, prefixes, sensor --> incidents
//!  (slots, sketches)          (slots)                       (statistic, classify, episode, tell)
//! ```

mod admission;
pub mod backlog;
mod callers;
mod classify;
mod discovery;
mod docket;
mod drought;
mod episode;
mod hash;
mod heavy;
mod heritage;
pub mod incident;
mod judge;
mod ledger;
pub mod memory;
pub mod observe;
mod occupancy;
mod probe;
mod queues;
mod recommend;
mod scanner;
mod scans;
mod served;
mod settings;
mod slots;
mod sources;
mod statistic;
mod subnets;
mod tally;
mod tell;
mod watch;
mod weigh;

use self::discovery::Discoveries;
use self::hash::KeyedHash;
use self::incident::{Discovery, Incident, JournalEntry, ServerView, Sighting};
use self::judge::{Bin, Court};
use self::observe::{FOLD_SLOTS, Observations, fold_key};
use self::queues::Queues;
use self::slots::Slots;
use self::statistic::BIN;
use self::tally::{Count, Gauge, Tally};
use crate::config::ServerConfig;
use crate::config::detect::DetectConfig;
use crate::decode::segment::Endpoint;
use crate::time::Timestamp;
use std::time::Duration;

/// Frames since the last call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CaptureLoss {
    /// Captured.
    pub frames: u64,
    /// Lost before us.
    pub dropped: u64,
}

impl CaptureLoss {
    /// Share that was lost, 0 to 1.
    pub fn share(self) -> f64 {
        let all = self.frames.saturating_add(self.dropped);
        if all == 0 { 0.0 } else { self.dropped as f64 / all as f64 }
    }
}

/// Servers whose sums one bin can hold apart, from all threads together; what is more is folded into prefixes.
const PENDING_SLOTS: usize = 16_384;
/// Empty bins that are walked one by one; after them nothing is left that time could change, and the rest is skipped.
const WALKED_BINS: u64 = 1200;

/// Decides, for all packet threads together. Touched once a bin by each of them; costs nothing in between.
#[derive(Debug)]
pub struct Detector {
    court: Court,
    pending: Slots,
    folds: Slots,
    other: Tally,
    folded: u64,
    /// Number of the open bin and its start; none before the first call.
    open: Option<(u64, Timestamp)>,
    now: Timestamp,
    /// Sums over everything ever seen, to tell what the views leave out.
    totals: [u64; 3],
    gauges: [i64; 2],
    queues: Queues,
    discoveries: Discoveries,
}

impl Detector {
    /// A detector that has seen nothing. `seed` keys every hash: random where live, fixed in replay, and the same as that of the
    /// [`Observations`] given to it.
    pub fn new(config: &DetectConfig, servers: &[ServerConfig], seed: u64) -> Self {
        Self {
            court: Court::new(config, servers, seed),
            pending: Slots::new(PENDING_SLOTS),
            folds: Slots::new(FOLD_SLOTS),
            other: Tally::default(),
            folded: 0,
            open: None,
            now: Timestamp::EPOCH,
            totals: [0; 3],
            gauges: [0; 2],
            queues: Queues::new(servers, seed),
            discoveries: Discoveries::new(KeyedHash::new(seed)),
        }
    }

    /// Tells a thread that begins whose queues are modelled. Without it the thread learns it at the end of its first bin.
    pub fn introduce(&self, observations: &mut Observations) {
        self.queues.introduce(&mut observations.notes);
    }

    /// Adds what a thread saw since the last time, and empties it. The order of threads does not matter.
    pub fn absorb(&mut self, observations: &mut Observations) {
        self.queues.absorb(&mut observations.notes);
        self.discoveries.absorb(&mut observations.discoveries);
        let Self { court, pending, folds, other, .. } = self;
        let Observations { slots, folds: their_folds, sketches, .. } = observations;
        let (totals, gauges) = (&mut self.totals, &mut self.gauges);
        let mut sum = |tally: &Tally| {
            for (total, what) in totals.iter_mut().zip([Count::Attempts, Count::Completed, Count::Overdue]) {
                *total += u64::from(tally[what]);
            }
            totals[2] += u64::from(tally[Count::NotTakenInTime]);
            for (gauge, which) in gauges.iter_mut().zip([Gauge::Sent, Gauge::Received]) {
                *gauge += tally.moved(which);
            }
        };
        slots.drain(|slot| {
            sum(&slot.tally);
            let place = match pending.get(&court.hash, slot.server) {
                Some(place) => Some(place),
                None => folds.get(&court.hash, fold_key(slot.server)),
            };
            if let Some(place) = place {
                place.tally.add(&slot.tally);
                place.looks.add(slot.looks);
                place.sources.union(&slot.sources, &mut court.sketches);
            } else {
                other.add(&slot.tally);
            }
            slot.sources.clear(sketches);
        });
        their_folds.drain(|slot| {
            sum(&slot.tally);
            if let Some(place) = folds.get(&court.hash, slot.server) {
                place.tally.add(&slot.tally);
                place.sources.union(&slot.sources, &mut court.sketches);
            } else {
                other.add(&slot.tally);
            }
            slot.sources.clear(sketches);
        });
        sum(&observations.other);
        other.add(&observations.other);
        observations.other = Tally::default();
        self.folded += std::mem::take(&mut observations.folded);
        let answers = std::mem::take(&mut observations.answers);
        court.served.absorb(&mut observations.served);
        court.scans.absorb(
            &court.hash,
            &observations.probes,
            &observations.strays,
            &observations.completions,
            answers,
        );
        observations.probes.clear();
        observations.completions.clear();
        observations.strays.clear();
        if observations.generation != court.ledger.generation {
            observations.generation = court.ledger.generation;
            observations.slots.set_known(&court.hash, court.ledger.servers().map(|(at, _)| at));
            if observations.allow != court.config.allow {
                observations.allow.clone_from(&court.config.allow);
                observations.allowed = vec![0; observations.allow.len()];
            }
        }
    }

    /// Closes every bin that ended by `now` and judges it; `journal` hears of each change, in order.
    ///
    /// What was absorbed since the last call belongs to the oldest of these bins: call it at least once a bin.
    pub fn evaluate(&mut self, now: Timestamp, capture: CaptureLoss, journal: &mut dyn FnMut(&JournalEntry)) {
        self.now = self.now.max(now);
        let (mut number, mut start) = *self.open.get_or_insert((1, now.minus(BIN)));
        let loss = capture.share();
        let mut walked = 0;
        while now.since(start) >= BIN {
            let end = start.plus(BIN);
            let bin = Bin { number, end, loss };
            let court = &mut self.court;
            self.queues.close(end, |at, reading| court.read_queue(at, Some(reading)));
            court.close(bin, &mut self.pending, &mut self.folds, &self.other);
            self.other = Tally::default();
            for at in std::mem::take(&mut court.troubled) {
                if let Some(gone) = self.queues.want(at, number) {
                    court.read_queue(gone, None);
                }
            }
            (number, start, walked) = (number + 1, end, walked + 1);
            let left = now.since(start).as_nanos() / BIN.as_nanos();
            if left > 0 && (walked >= WALKED_BINS || self.court.at_rest()) {
                let left = u64::try_from(left).unwrap_or(u64::MAX);
                // Nobody said anything at all, or the clock was set: windows empty, and that is all there is to learn from it.
                number = number.saturating_add(left.min(WALKED_BINS - walked.min(WALKED_BINS)));
                let skipped = BIN.saturating_mul(u32::try_from(left).unwrap_or(u32::MAX));
                start = if now.since(start.plus(skipped)) < BIN { start.plus(skipped) } else { now };
            }
        }
        self.open = Some((number, start));
        for entry in self.court.episodes.news.drain(..) {
            journal(&entry);
        }
    }

    /// Tells the half-open connections and the oddities found up to the last call of [`Self::evaluate`], as far as their rate allows.
    pub fn tell_discoveries(&mut self, hear: &mut dyn FnMut(&Sighting)) {
        self.discoveries.tell(self.now, hear);
    }

    /// The latest half-open connections found, oldest first.
    pub fn discoveries(&self) -> Vec<Discovery> {
        self.discoveries.listed()
    }

    /// Those that were counted and not told, so that nobody can fill the journal.
    pub fn discoveries_untold(&self) -> u64 {
        self.discoveries.untold()
    }

    /// The same of oddities.
    pub fn oddities_untold(&self) -> u64 {
        self.discoveries.oddities_untold()
    }

    /// Configured servers first, in their order, then the `top` busiest others, then `other` for all that is left.
    pub fn servers(&self, top: usize) -> Vec<ServerView> {
        let court = &self.court;
        let keys = court.ledger.server_count();
        let show = |watch| {
            let mut view =
                tell::view(watch, self.now, &court.servers, &court.config, keys, court.scans.visibility());
            if let Some((at, model)) = view.endpoint.and_then(|at| Some((at, self.queues.get(at)?))) {
                tell::queue::show(&mut view, model);
                view.backlog_occupancy_estimated |= self.queues.is_sampled(at);
            }
            view
        };
        let mut views: Vec<ServerView> = Vec::new();
        for (index, server) in court.servers.iter().enumerate() {
            let name = server.name.clone().unwrap_or_else(|| configured_name(server));
            let mine = court.ledger.servers().filter(|(_, watch)| {
                watch.settings.configured.is_some_and(|(configured, _)| configured == index)
            });
            let mut sum = ServerView { configured: true, ..empty(name.clone()) };
            let exact = watch::is_one_server(server);
            for (_, watch) in mine {
                let view = show(watch);
                if exact {
                    sum = ServerView { server: name.clone(), ..view };
                } else {
                    add(&mut sum, &view);
                }
            }
            views.push(sum);
        }
        let mut others: Vec<_> =
            court.ledger.servers().filter(|(_, watch)| watch.settings.configured.is_none()).collect();
        others.sort_by_key(|(at, watch)| (std::cmp::Reverse(watch.totals[0]), *at));
        views.extend(others.into_iter().take(top).map(|(_, watch)| show(watch)));
        let mut rest = empty("other".to_owned());
        let left = |all: u64, of: fn(&ServerView) -> u64| all.saturating_sub(views.iter().map(of).sum());
        rest.attempts = left(self.totals[0], |view| view.attempts);
        rest.completed = left(self.totals[1], |view| view.completed);
        rest.unresolved = left(self.totals[2], |view| view.unresolved);
        rest.embryonic_syn_sent = left(self.gauges[0].max(0).unsigned_abs(), |view| view.embryonic_syn_sent);
        rest.embryonic_syn_received =
            left(self.gauges[1].max(0).unsigned_abs(), |view| view.embryonic_syn_received);
        views.push(rest);
        views
    }

    /// Incidents that run and those that ended and are remembered, oldest first.
    pub fn incidents(&self) -> Vec<Incident> {
        self.court.episodes.all()
    }

    /// Incidents raised so far, in the order of [`incident::IncidentKind::ALL`].
    pub fn raised(&self) -> [u64; 10] {
        self.court.episodes.raised
    }

    /// Events that were counted by prefix only, for want of room, and keys that found no place: both ever.
    pub fn folded(&self) -> (u64, u64) {
        (self.folded, self.court.ledger.refused)
    }

    /// Events that the model of a server's queue did not hear of, because too many came within half a second; others stood for them.
    /// Ever.
    pub fn backlog_notes_dropped(&self) -> u64 {
        self.queues.dropped()
    }

    /// Tells every server whose grace age changed since the last call, in the order of addresses.
    pub fn grace_updates(&mut self, tell: &mut dyn FnMut(Endpoint, Duration)) {
        let keys: Vec<Endpoint> = self.court.ledger.servers().map(|(at, _)| at).collect();
        let config = &self.court.config;
        for at in keys {
            let key = ledger::Key::Server(at);
            if let Some(number) = self.court.ledger.find(key)
                && let Some(watch) = self.court.ledger.get_mut(number)
            {
                let grace = watch.grace(config);
                let told = if watch.grace_told.is_zero() { config.initial_grace } else { watch.grace_told };
                if grace != told {
                    watch.grace_told = grace;
                    tell(at, grace);
                }
            }
        }
    }

    /// Applies a new configuration; what was learned and what runs is kept. Limits on memory need a restart.
    pub fn reconfigure(&mut self, config: &DetectConfig, servers: &[ServerConfig]) {
        let bin = self.open.map_or(0, |(number, _)| number);
        self.court.reconfigure(config, servers, bin);
        self.queues.configure(servers);
    }
}

fn configured_name(server: &ServerConfig) -> String {
    match (server.port, watch::is_one_server(server)) {
        (Some(port), true) => Endpoint::new(server.address, port).to_string(),
        (Some(port), false) => format!("{}/{}:{port}", server.address, server.prefix_len),
        (None, _) => format!("{}/{}", server.address, server.prefix_len),
    }
}

fn empty(server: String) -> ServerView {
    ServerView { server, ..ServerView::default() }
}

/// Adds a server to the view of a configured prefix: sums, and of what has no sum the worst.
fn add(sum: &mut ServerView, view: &ServerView) {
    sum.attempts += view.attempts;
    sum.completed += view.completed;
    sum.unresolved += view.unresolved;
    sum.embryonic_syn_sent += view.embryonic_syn_sent;
    sum.embryonic_syn_received += view.embryonic_syn_received;
    if view.backlog_occupancy >= sum.backlog_occupancy {
        sum.backlog_occupancy = view.backlog_occupancy;
        sum.backlog_occupancy_estimated = view.backlog_occupancy_estimated;
        sum.mode = view.mode;
        sum.mode_confidence = view.mode_confidence;
        sum.evidence.clone_from(&view.evidence);
        // The size of the queue that is meant, not of another.
        (sum.backlog_limit, sum.backlog_limit_estimated) = (view.backlog_limit, view.backlog_limit_estimated);
    }
    let full = sum.backlog_time_to_full_seconds.into_iter().chain(view.backlog_time_to_full_seconds);
    sum.backlog_time_to_full_seconds = full.min_by(f64::total_cmp);
    sum.distinct_sources = sum.distinct_sources.max(view.distinct_sources);
}

#[cfg(test)]
#[path = "scenario_tests.rs"]
mod scenario_tests;
