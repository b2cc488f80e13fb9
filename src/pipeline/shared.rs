//! What the packet threads share: the table, the detector, the settings, and the counts each publishes.
//!
//! A thread takes a lock here on ticks of network time, never for a packet.

use super::closing::{Closing, UnderWay};
use super::packets::{BIN, FrameTally};
use super::targets::{Roster, Targets};
use crate::capture::InterfaceCounters;
use crate::config::{Config, TableConfig};
use crate::detect::incident::{Change, JournalEntry, Sighting};
use crate::detect::observe::Observations;
use crate::detect::{CaptureLoss, Detector};
use crate::report::evidence::FrameStore;
use crate::report::history::History;
use crate::time::Timestamp;
use crate::track::counts::LedgerCounts;
use crate::track::table::HalfOpenTable;
use ahash::RandomState;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// Called for every change of an incident, from the thread that judged it; must not block for long.
pub type Journal = Box<dyn FnMut(&JournalEntry) + Send>;

/// Called for every half-open connection that is told, likewise.
pub type Discovered = Box<dyn FnMut(&Sighting) + Send>;

/// Keys every hash of a repeatable sensor: any number, as long as it stays the same.
const REPEATABLE_SEED: u64 = 0x6861_6c66_6f70_656e;

/// What one thread publishes on its ticks.
#[derive(Debug, Clone, Default)]
pub(super) struct Published {
    pub(super) frames: FrameTally,
    pub(super) ledger: LedgerCounts,
    pub(super) network_time: Option<Timestamp>,
    pub(super) time_jumps: u64,
    pub(super) expiry_lag: Duration,
    pub(super) bytes: usize,
}

/// One packet thread, as the others see it.
pub(super) struct Thread {
    pub(super) published: Mutex<Published>,
    pub(super) interfaces: Vec<Arc<InterfaceCounters>>,
    /// What it had counted at the end of the last bin it handed over.
    pub(super) closed: Mutex<Published>,
    /// Network time up to which its observations were handed over, nanoseconds.
    reached: AtomicI64,
    ended: AtomicBool,
    settings: AtomicU64,
    targets: AtomicU64,
}

impl Published {
    /// Adds what a thread that ended had published.
    fn add(&mut self, ended: &Self) {
        self.frames.add(&ended.frames);
        self.ledger.merge(&ended.ledger);
        self.network_time = self.network_time.max(ended.network_time);
        self.time_jumps += ended.time_jumps;
    }
}

impl Thread {
    fn new(interfaces: Vec<Arc<InterfaceCounters>>) -> Self {
        Self {
            published: Mutex::default(),
            interfaces,
            closed: Mutex::default(),
            reached: AtomicI64::new(i64::MIN),
            ended: AtomicBool::new(false),
            settings: AtomicU64::new(0),
            targets: AtomicU64::new(0),
        }
    }

    /// Makes one thread of all that ended and that nobody but the list knows any more: their counts go on counting, and a capture that fails
    /// for weeks leaves no more behind than one.
    fn unite_ended(threads: &mut Vec<Arc<Self>>) {
        let (mut gone, mut place) = (Vec::new(), 0);
        // Each is asked once: a report that is being made lets go of one at any moment.
        threads.retain(|thread| {
            let is_gone = thread.ended.load(Ordering::Relaxed) && Arc::strong_count(thread) == 1;
            if is_gone {
                gone.push(Arc::clone(thread));
            } else {
                place += usize::from(gone.is_empty());
            }
            !is_gone
        });
        if gone.len() < 2 {
            gone.into_iter().for_each(|thread| threads.insert(place, thread));
            return;
        }
        let one = Self::new(gone.iter().flat_map(|thread| thread.interfaces.clone()).collect());
        for thread in gone {
            lock(&one.published).add(&lock(&thread.published));
            lock(&one.closed).add(&lock(&thread.closed));
            one.reached.fetch_max(thread.reached.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        one.ended.store(true, Ordering::Relaxed);
        // Where the first of them was, so that the interfaces stay in order.
        threads.insert(place, Arc::new(one));
    }
}

/// The detector and what only it needs.
pub(super) struct Judge {
    pub(super) detector: Detector,
    journal: Journal,
    discovered: Option<Discovered>,
    roster: Roster,
    evaluated: Timestamp,
    frames: u64,
    drops: u64,
}

struct Settings {
    config: Config,
    version: u64,
}

/// The whole sensor: give it sources with [`Sensor::run_source`], one thread each, and read it through `SnapshotSource`.
pub struct Sensor {
    pub(super) table: Arc<HalfOpenTable>,
    pub(super) threads: Mutex<Vec<Arc<Thread>>>,
    pub(super) judge: Mutex<Judge>,
    settings: Mutex<Settings>,
    settings_version: AtomicU64,
    evidence: OnceLock<Arc<FrameStore>>,
    targets: Mutex<Arc<Targets>>,
    targets_version: AtomicU64,
    pub(super) under_way: Arc<UnderWay>,
    pub(super) history: Mutex<History>,
    seed: u64,
}

impl Sensor {
    /// A sensor for live traffic: its hashes are keyed at random, because attackers choose what is hashed.
    pub fn new(config: &Config, journal: Journal) -> Arc<Self> {
        Self::seeded(config, RandomState::new().hash_one("halfopen"), History::last_minutes(), journal)
    }

    /// A sensor for replay: the same trace gives the same output, always.
    pub fn repeatable(config: &Config, journal: Journal) -> Arc<Self> {
        Self::seeded(config, REPEATABLE_SEED, History::whole_trace(), journal)
    }

    fn seeded(config: &Config, seed: u64, history: History, journal: Journal) -> Arc<Self> {
        let detector = Detector::new(&config.detect, &config.servers, seed);
        let mut roster = Roster::default();
        roster.set_servers(&config.servers);
        let judge = Judge {
            detector,
            journal,
            discovered: None,
            roster,
            evaluated: Timestamp::EPOCH,
            frames: 0,
            drops: 0,
        };
        Arc::new(Self {
            table: Arc::new(HalfOpenTable::new(&config.table, seed)),
            threads: Mutex::new(Vec::new()),
            judge: Mutex::new(judge),
            settings: Mutex::new(Settings { config: config.clone(), version: 0 }),
            settings_version: AtomicU64::new(0),
            evidence: OnceLock::new(),
            targets: Mutex::default(),
            targets_version: AtomicU64::new(0),
            under_way: Arc::default(),
            history: Mutex::new(history),
            seed,
        })
    }

    /// Keeps frames of incidents in `store` from now on; packet threads that run already keep none. The first store stays.
    pub fn keep_evidence(&self, store: Arc<FrameStore>) {
        let _ = self.evidence.set(store);
    }

    /// Tells `hear` of half-open connections from now on, at most so many a second as the detector lets through.
    pub fn on_discovery(&self, hear: Discovered) {
        lock(&self.judge).discovered = Some(hear);
    }

    pub(super) fn evidence(&self) -> Option<Arc<FrameStore>> {
        self.evidence.get().cloned()
    }

    /// Applies what can change while running: servers, thresholds, timeouts.
    pub fn reload(&self, config: &Config) {
        let mut settings = lock(&self.settings);
        settings.config = config.clone();
        settings.version += 1;
        let mut judge = lock(&self.judge);
        judge.detector.reconfigure(&config.detect, &config.servers);
        judge.roster.set_servers(&config.servers);
        drop(judge);
        self.settings_version.store(settings.version, Ordering::Release);
    }

    /// The configuration in force.
    pub fn config(&self) -> Config {
        lock(&self.settings).config.clone()
    }

    pub(super) fn table_config(&self) -> TableConfig {
        lock(&self.settings).config.table.clone()
    }

    pub(super) fn observations(&self) -> Observations {
        let settings = lock(&self.settings);
        let mut new = Observations::new(&settings.config.detect, &settings.config.servers, self.seed);
        lock(&self.judge).detector.introduce(&mut new);
        new
    }

    /// A new packet thread.
    pub(super) fn enlist(&self, mut interfaces: Vec<Arc<InterfaceCounters>>) -> Arc<Thread> {
        // A capture that failed and was opened again counts on where it was: it is listed once.
        let mut threads = lock(&self.threads);
        Thread::unite_ended(&mut threads);
        let known = |new: &Arc<InterfaceCounters>| {
            threads.iter().flat_map(|thread| &thread.interfaces).any(|old| Arc::ptr_eq(old, new))
        };
        interfaces.retain(|new| !known(new));
        let thread = Arc::new(Thread::new(interfaces));
        thread.settings.store(self.settings_version.load(Ordering::Acquire), Ordering::Relaxed);
        threads.push(Arc::clone(&thread));
        thread
    }

    /// The thread's first sign of life, within the bin that begins at `start`: from now on the others wait for its bins.
    pub(super) fn reaches(&self, thread: &Thread, start: Timestamp) {
        let mut judge = lock(&self.judge);
        thread.reached.store(start.as_nanos(), Ordering::Relaxed);
        // The first thread says where the first bin begins; without it the second one's first frame would end a bin anywhere.
        if judge.evaluated == Timestamp::EPOCH {
            judge.evaluated = start;
        }
    }

    /// Takes what a thread observed up to the end of a bin; judges the bin once every thread has closed it.
    pub(super) fn bin_closed(&self, closing: Closing, observations: &mut Observations) {
        self.take(&closing, observations, false);
    }

    /// A thread's last words, in the bin that its capture ended in. Nothing is judged beyond: no silence was seen there.
    pub(super) fn thread_ended(&self, closing: Closing, observations: &mut Observations) {
        self.take(&closing, observations, true);
    }

    fn take(&self, closing: &Closing, observations: &mut Observations, last: bool) {
        let mut judge = lock(&self.judge);
        judge.detector.absorb(observations);
        let mut closed = lock(&closing.thread.closed);
        // The bin of a thread that panicked may come in after its end, when all that it counted is here already.
        if !closing.thread.ended.load(Ordering::Relaxed) {
            closed.clone_from(&closing.counts);
        }
        drop(closed);
        closing.thread.reached.store(closing.end.as_nanos(), Ordering::Relaxed);
        if last {
            closing.thread.ended.store(true, Ordering::Relaxed);
        }
        self.evaluate(&mut judge);
    }

    /// A thread that ended in whatever way: nobody waits for it any more. Its counts stay in the sums; its deadlines are the table's now.
    pub(super) fn thread_gone(&self, thread: &Thread) {
        let mut published = lock(&thread.published);
        (published.bytes, published.expiry_lag) = (0, Duration::ZERO);
        let mut closed = lock(&thread.closed);
        closed.clone_from(&published);
        thread.ended.store(true, Ordering::Relaxed);
    }

    /// Up to when everything was judged; none before the first bin. Moves for as long as every capture lives, also on silent links.
    pub fn judged(&self) -> Option<Timestamp> {
        Some(lock(&self.judge).evaluated).filter(|at| *at != Timestamp::EPOCH)
    }

    /// Judges what all threads have closed.
    fn evaluate(&self, judge: &mut Judge) {
        let (reached, frames, drops) = self.progress();
        let now = Timestamp::from_nanos(reached);
        if now <= judge.evaluated {
            return;
        }
        let loss = CaptureLoss { frames: frames - judge.frames, dropped: drops - judge.drops };
        (judge.evaluated, judge.frames, judge.drops) = (now, frames, drops);
        let Judge { detector, journal, discovered, roster, .. } = judge;
        let evidence = self.evidence.get();
        let mut changed = false;
        detector.evaluate(now, loss, &mut |entry| {
            journal(entry);
            if let Some(store) = evidence {
                changed |= roster.hear(entry);
                match entry.event {
                    Change::Raised => store.begin(&entry.incident.id),
                    Change::Ended => store.end(&entry.incident.id),
                    Change::Updated => {}
                }
            }
        });
        let mut nobody = |_: &Sighting| {};
        let hear: &mut dyn FnMut(&Sighting) = match discovered {
            Some(hear) => &mut **hear,
            None => &mut nobody,
        };
        detector.tell_discoveries(hear);
        if changed {
            *lock(&self.targets) = Arc::new(roster.targets());
            self.targets_version.fetch_add(1, Ordering::Release);
        }
        // From where every thread has waited for this: see `closing`.
        let from = now.plus(BIN);
        judge.detector.grace_updates(&mut |server, age| self.table.learn_grace(server, age, from));
        self.remember(&judge.detector, now);
    }

    /// How far all running threads are, or the last of those that ended where none runs, and what they captured and lost so far.
    fn progress(&self) -> (i64, u64, u64) {
        let threads = lock(&self.threads);
        // A thread that has not seen its first frame is not waited for: its interface may stay silent for ever.
        let reached = |thread: &Arc<Thread>| thread.reached.load(Ordering::Relaxed);
        let running = threads.iter().filter(|thread| !thread.ended.load(Ordering::Relaxed));
        let least = running.map(reached).filter(|&at| at != i64::MIN).min();
        let least = least.or_else(|| threads.iter().map(reached).max()).unwrap_or(i64::MIN);
        let (mut frames, mut drops) = (0, 0);
        for counters in threads.iter().flat_map(|thread| &thread.interfaces) {
            frames += counters.frames.load(Ordering::Relaxed);
            drops += counters.drops_kernel.load(Ordering::Relaxed)
                + counters.drops_interface.load(Ordering::Relaxed);
        }
        (least, frames, drops)
    }

    /// The settings a thread has not adopted yet, if there are any.
    pub(super) fn changed_settings(&self, thread: &Thread) -> Option<(TableConfig, Observations)> {
        let version = self.settings_version.load(Ordering::Acquire);
        if thread.settings.swap(version, Ordering::Relaxed) == version {
            return None;
        }
        Some((self.table_config(), self.observations()))
    }

    /// The incidents to keep frames of, where they changed since a thread last asked.
    pub(super) fn changed_targets(&self, thread: &Thread) -> Option<Arc<Targets>> {
        let version = self.targets_version.load(Ordering::Acquire);
        (thread.targets.swap(version, Ordering::Relaxed) != version).then(|| lock(&self.targets).clone())
    }
}

/// A thread that panicked left plain numbers behind; they are still worth reading.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::mpsc::{TryRecvError, channel};

    /// A report that is being made knows a thread that ended, and is done with it at any moment.
    #[test]
    fn threads_that_ended_are_united_whole_whoever_lets_go_of_one_meanwhile() {
        let ended = || {
            let thread = Thread::new(Vec::new());
            lock(&thread.published).frames.read = 1;
            thread.ended.store(true, Ordering::Relaxed);
            Arc::new(thread)
        };
        let (report, known) = channel::<Arc<Thread>>();
        std::thread::scope(|scope| {
            scope.spawn(move || while known.try_recv().map(drop) != Err(TryRecvError::Disconnected) {});
            let lost = (0..50_000).filter(|_| {
                let mut threads = vec![ended(), ended(), ended()];
                report.send(Arc::clone(&threads[0])).unwrap();
                let united = catch_unwind(AssertUnwindSafe(|| Thread::unite_ended(&mut threads)));
                let left: u64 = threads.iter().map(|thread| lock(&thread.published).frames.read).sum();
                united.is_err() || left != 3
            });
            let lost = lost.count();
            drop(report);
            assert_eq!(lost, 0, "times of 50,000");
        });
    }
}
