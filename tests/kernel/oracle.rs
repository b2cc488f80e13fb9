//! What a forecast that knows everything but the future would make of a case: how much of a miss is chance.
//!
//! The kernel's rule (net/ipv4/inet_connection_sock.c, `reqsk_timer_handler`) entry by entry, written down a second time and not the
//! sensor's own, with arrivals as the case sends them. A forecaster who knows the rule, every entry and its timers looks once a second,
//! as the comparison does, and says at half full when the queue will be full: the middle of what futures drawn at random make of it.
//! One is told the true rate; the other has it from the SYNs that came so far, which is as well as it can be known.

use halfopen::synth::random::SplitMix64;

/// Steps a second.
const STEPS: usize = 20;
/// Ends of an entry's timers, seconds, late by what the kernel's wheel is.
const ENDS: [f64; 6] = [1.02, 3.04, 7.17, 15.3, 31.4, 64.4];
/// Nobody looks further ahead, seconds: the model does not either.
const HORIZON: usize = 120;
/// Futures of one forecast; odd, for the one in the middle holds.
const FUTURES: usize = 9;
/// Runs of one case.
const RUNS: u64 = 100;
/// A forecast is a miss from here on, as a share of what then happened.
pub const MISS: f64 = 0.3;

/// How SYNs come.
#[derive(Debug, Clone, Copy)]
pub struct Arrivals {
    pub rate: f64,
    pub backlog: u32,
    /// Share that comes again 0.6 to 2.6 s later, and share that is reset after 0.3 s.
    pub duplicates: f64,
    pub resets: f64,
}

/// Shares of runs in which a forecaster misses.
#[derive(Debug, Clone, Copy)]
pub struct Chance {
    /// One who is told the true rate.
    pub rate_told: f64,
    /// One who has it from what he saw.
    pub rate_seen: f64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    stage: usize,
    /// Which of its timers is the running one: an older one does nothing.
    timer: u32,
    alive: bool,
}

#[derive(Debug, Clone, Copy)]
enum Due {
    Timer(u32, u32),
    Again(u32),
    Reset(u32),
}

#[derive(Debug, Clone)]
struct Kernel {
    arrivals: Arrivals,
    step: usize,
    len: u32,
    young: u32,
    entries: Vec<Entry>,
    due: Vec<Vec<Due>>,
    came: u32,
}

impl Kernel {
    fn new(arrivals: Arrivals) -> Self {
        Self { arrivals, step: 0, len: 0, young: 0, entries: Vec::new(), due: Vec::new(), came: 0 }
    }

    fn is_full(&self) -> bool {
        self.len > self.arrivals.backlog
    }

    fn at(&mut self, seconds: f64, what: Due) {
        let step = self.step + ((seconds * STEPS as f64).round() as usize).max(1);
        if self.due.len() <= step {
            self.due.resize(step + 1, Vec::new());
        }
        self.due[step].push(what);
    }

    /// Lets one step pass, in which SYNs come at this rate.
    fn pass(&mut self, rate: f64, random: &mut SplitMix64) {
        self.step += 1;
        let due = self.due.get_mut(self.step).map(std::mem::take).unwrap_or_default();
        for what in due {
            match what {
                Due::Timer(id, timer) => self.go_off(id, timer),
                Due::Again(id) if self.entries[id as usize].alive => self.run_timer(id),
                Due::Reset(id) if self.entries[id as usize].alive => self.leave(id),
                Due::Again(_) | Due::Reset(_) => {}
            }
        }
        for _ in 0..random.poisson(rate / STEPS as f64) {
            self.come(random);
        }
    }

    fn come(&mut self, random: &mut SplitMix64) {
        self.came += 1;
        if self.is_full() {
            return;
        }
        let id = self.entries.len() as u32;
        self.entries.push(Entry { stage: 0, timer: 0, alive: true });
        (self.len, self.young) = (self.len + 1, self.young + 1);
        self.run_timer(id);
        if random.chance(self.arrivals.duplicates) {
            self.at(0.6 + 2.0 * random.unit(), Due::Again(id));
        } else if random.chance(self.arrivals.resets) {
            self.at(0.3, Due::Reset(id));
        }
    }

    fn run_timer(&mut self, id: u32) {
        let entry = &mut self.entries[id as usize];
        entry.timer += 1;
        let (stage, timer) = (entry.stage, entry.timer);
        let began = stage.checked_sub(1).map_or(0.0, |before| ENDS[before]);
        self.at(ENDS[stage] - began, Due::Timer(id, timer));
    }

    fn leave(&mut self, id: u32) {
        let entry = &mut self.entries[id as usize];
        entry.alive = false;
        self.len -= 1;
        self.young -= u32::from(entry.stage == 0);
    }

    fn go_off(&mut self, id: u32, timer: u32) {
        let Entry { stage, timer: running, alive } = self.entries[id as usize];
        if !alive || running != timer {
            return;
        }
        let mut retries = 5;
        if 2 * self.len > self.arrivals.backlog.max(8) {
            let mut young = 2 * self.young;
            while retries > 2 && self.len >= young {
                retries -= 1;
                young *= 2;
            }
        }
        if stage >= retries {
            return self.leave(id);
        }
        self.young -= u32::from(stage == 0);
        self.entries[id as usize].stage += 1;
        self.run_timer(id);
    }

    /// Seconds until it is full at this rate.
    fn fill(&mut self, rate: f64, random: &mut SplitMix64) -> Option<f64> {
        let began = self.step;
        while !self.is_full() && self.step < began + HORIZON * STEPS {
            self.pass(rate, random);
        }
        self.is_full().then(|| (self.step - began) as f64 / STEPS as f64)
    }

    /// The middle of what futures make of it.
    fn forecast(&self, rate: f64, random: &mut SplitMix64) -> Option<f64> {
        let mut times: Vec<f64> =
            (0..FUTURES).map(|_| self.clone().fill(rate, random).unwrap_or(f64::INFINITY)).collect();
        times.sort_by(f64::total_cmp);
        Some(times[FUTURES / 2]).filter(|time| time.is_finite())
    }
}

/// How often a perfect forecast of such a case misses, among the runs of it that fill the queue, and not within two seconds; none where
/// hardly any does.
pub fn chance(arrivals: Arrivals) -> Option<Chance> {
    let mut random = SplitMix64::split(7, u64::from(arrivals.backlog));
    let (mut runs, mut told, mut seen) = (0_u32, 0_u32, 0_u32);
    for _ in 0..RUNS {
        let mut kernel = Kernel::new(arrivals);
        // Samples lie anywhere in the second in which the flood begins.
        let first = random.below(STEPS as u64) as usize;
        let mut half = None;
        while kernel.step < HORIZON * STEPS && !kernel.is_full() {
            kernel.pass(arrivals.rate, &mut random);
            let looked = kernel.step % STEPS == first;
            if half.is_none() && looked && 2 * kernel.len >= arrivals.backlog && !kernel.is_full() {
                half = Some(kernel.clone());
            }
        }
        let Some(half) = half.filter(|_| kernel.is_full() && kernel.step > 2 * STEPS) else { continue };
        let happened = (kernel.step - half.step) as f64 / STEPS as f64;
        let rate_seen = f64::from(half.came) / (half.step as f64 / STEPS as f64);
        let misses = |forecast: Option<f64>| is_miss(forecast, happened);
        runs += 1;
        told += u32::from(misses(half.forecast(arrivals.rate, &mut random)));
        seen += u32::from(misses(half.forecast(rate_seen, &mut random)));
    }
    let share = |count: u32| f64::from(count) / f64::from(runs);
    (u64::from(runs) >= RUNS / 10).then(|| Chance { rate_told: share(told), rate_seen: share(seen) })
}

/// Whether a forecast is further off than it may be.
pub fn is_miss(forecast: Option<f64>, happened: f64) -> bool {
    forecast.is_none_or(|time| (time / happened - 1.0).abs() > MISS)
}
