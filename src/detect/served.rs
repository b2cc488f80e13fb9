//! Stage 4 of 5, detect: which sources completed a handshake lately, anywhere on the sensor, in constant memory.
//!
//! One bit a source, of its keyed hash (Bloom 1970, with one hash): no address is kept. Who never completed one passes for one that
//! did in as many cases as bits are set, which is known and reckoned with. Excuses callers of what never answered, and nothing else.

/// Bits: with 40,000 sources in two minutes a stranger passes in a quarter of all cases.
const BITS: u32 = 17;
/// Words of 64 bits, and words that say which of those changed.
const WORDS: usize = 1 << (BITS - 6);
const CHANGED: usize = WORDS / 64;
/// Bins of half of the time that is remembered: the last one to two minutes. Who tries a dead address beside a live one completes at
/// once; the longer it is remembered, the more pass by chance.
const HALF: u64 = 120;
/// With more bits set than this, what is left of those that did not pass by chance is a guess.
const TOO_FULL: f64 = 0.8;
/// Callers that are excused for each handshake that completes on the sensor: who tries a dead address beside live ones is served there at
/// least once; twice that, because bins vary. Whoever forges addresses of its clients cannot hide more.
const FOR_EACH_SERVED: f64 = 2.0;

/// A set of sources.
#[derive(Debug, Clone)]
struct Marks(Box<[u64; WORDS]>);

impl Marks {
    fn new() -> Self {
        Self(Box::new([0; WORDS]))
    }

    /// Where a source has its bit: the word, and the bit alone.
    #[inline]
    const fn place(source: u64) -> (usize, u64) {
        let at = source >> (64 - BITS);
        ((at >> 6) as usize, 1 << (at & 63))
    }

    fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }
}

/// A packet thread's part.
#[derive(Debug)]
pub(super) struct Noted {
    /// Sources that completed since the last tick, and the words of it that are not zero.
    fresh: Marks,
    changed: [u64; CHANGED],
    completed: u32,
    /// Those of all threads, as of the bins closed when it last handed over: the same for every thread.
    known: Marks,
    version: u64,
}

impl Noted {
    pub(super) fn new() -> Self {
        Self { fresh: Marks::new(), changed: [0; CHANGED], completed: 0, known: Marks::new(), version: 0 }
    }

    /// Notes that a source completed a handshake.
    #[inline]
    pub(super) fn note(&mut self, source: u64) {
        let (word, bit) = Marks::place(source);
        self.fresh.0[word] |= bit;
        self.changed[word >> 6] |= 1 << (word & 63);
        self.completed = self.completed.saturating_add(1);
    }

    /// Whether a source may have completed one.
    #[inline]
    pub(super) fn knows(&self, source: u64) -> bool {
        let (word, bit) = Marks::place(source);
        self.known.0[word] & bit != 0
    }

    /// Bytes it holds.
    #[cfg(test)]
    pub(super) const fn bytes() -> usize {
        2 * WORDS * 8 + size_of::<Self>()
    }
}

/// Those of all threads.
#[derive(Debug)]
pub(super) struct Served {
    /// The present and the last half of what is remembered, and both as they were when the last bin closed.
    now: Marks,
    before: Marks,
    known: Marks,
    changed: [u64; CHANGED],
    /// Bits set in `known`.
    set: u32,
    half: u64,
    version: u64,
    completed: u32,
    /// Handshakes completed a bin, at the pace of two seconds.
    pace: f64,
    /// Callers that may still be excused in this bin.
    left: f64,
}

impl Served {
    pub(super) fn new() -> Self {
        Self {
            now: Marks::new(),
            before: Marks::new(),
            known: Marks::new(),
            changed: [0; CHANGED],
            set: 0,
            half: 0,
            version: 0,
            completed: 0,
            pace: 0.0,
            left: 0.0,
        }
    }

    /// Takes what a thread noted, and tells it what was known when the last bin closed.
    pub(super) fn absorb(&mut self, noted: &mut Noted) {
        for (group, changed) in noted.changed.iter_mut().enumerate() {
            self.changed[group] |= *changed;
            let mut left = std::mem::take(changed);
            while left != 0 {
                let word = group << 6 | left.trailing_zeros() as usize;
                self.now.0[word] |= std::mem::take(&mut noted.fresh.0[word]);
                left &= left - 1;
            }
        }
        self.completed = self.completed.saturating_add(std::mem::take(&mut noted.completed));
        if noted.version != self.version {
            noted.version = self.version;
            noted.known.0.copy_from_slice(&*self.known.0);
        }
    }

    /// A bin is about to be judged.
    pub(super) fn open(&mut self) {
        self.pace = self.pace * 0.7 + f64::from(std::mem::take(&mut self.completed)) * 0.3;
        self.left = FOR_EACH_SERVED * self.pace;
    }

    /// A bin was judged: what came in it is known from now on.
    pub(super) fn close(&mut self, bin: u64) {
        let half = bin / HALF;
        if half != self.half {
            std::mem::swap(&mut self.before, &mut self.now);
            self.now.0.fill(0);
            if half != self.half + 1 {
                self.before.0.fill(0);
            }
            self.half = half;
            self.known.0.copy_from_slice(&*self.before.0);
            self.set = self.known.count();
            self.version += 1;
        }
        if self.changed.iter().all(|group| *group == 0) {
            return;
        }
        self.version += 1;
        for (group, changed) in self.changed.iter_mut().enumerate() {
            let mut left = std::mem::take(changed);
            while left != 0 {
                let word = group << 6 | left.trailing_zeros() as usize;
                let known = &mut self.known.0[word];
                self.set -= known.count_ones();
                *known |= self.now.0[word];
                self.set += known.count_ones();
                left &= left - 1;
            }
        }
    }

    /// How many of so many failed calls were made by sources that completed elsewhere, where `passed` have a bit that is set: less
    /// those that have it by chance, and no more than are left to be excused in this bin.
    pub(super) fn excuse(&mut self, passed: f64, calls: f64) -> f64 {
        let chance = f64::from(self.set) / f64::from(1_u32 << BITS);
        if passed <= 0.0 || chance > TOO_FULL {
            return 0.0;
        }
        let known = ((passed - chance * calls) / (1.0 - chance)).clamp(0.0, self.left);
        self.left -= known;
        known
    }

    /// Bytes it holds.
    #[cfg(test)]
    pub(super) const fn bytes() -> usize {
        3 * WORDS * 8 + size_of::<Self>()
    }
}

#[cfg(test)]
mod tests {
    use super::super::hash::finish;
    use super::*;

    /// Everybody in `sources` completes in bin `bin`, seen by two threads.
    fn complete(served: &mut Served, threads: &mut [Noted; 2], bin: u64, sources: impl Iterator<Item = u64>) {
        for source in sources {
            threads[(source % 2) as usize].note(finish(source));
        }
        threads.iter_mut().for_each(|thread| served.absorb(thread));
        served.open();
        served.close(bin);
    }

    #[test]
    fn who_completed_is_known_to_every_thread_for_a_minute_at_least() {
        let (mut served, mut threads) = (Served::new(), [Noted::new(), Noted::new()]);
        complete(&mut served, &mut threads, 100, 0..1000);
        for bin in 101..=400 {
            complete(&mut served, &mut threads, bin, std::iter::empty());
            let known = |thread: &Noted| (0..1000).filter(|source| thread.knows(finish(*source))).count();
            let [one, other] = [known(&threads[0]), known(&threads[1])];
            assert_eq!(one, other);
            // They came in the first half of minutes; a thread is told what was known before its tick.
            let expected = if bin <= 240 { 1000 } else { 0 };
            assert_eq!(one, expected, "bin {bin}");
        }
        assert_eq!(served.set, 0);
    }

    #[test]
    fn strangers_that_pass_by_chance_are_not_excused() {
        for crowd in [0_u64, 2000, 40_000, 150_000] {
            let (mut served, mut threads) = (Served::new(), [Noted::new(), Noted::new()]);
            complete(&mut served, &mut threads, 0, 0..crowd.max(1));
            let all = served.now.count();
            complete(&mut served, &mut threads, 1, std::iter::empty());
            assert_eq!(served.set, all);
            served.left = f64::INFINITY;
            let calls = 10_000;
            let strangers = (1 << 40..(1 << 40) + calls).filter(|n| threads[0].knows(finish(*n))).count();
            let excused = served.excuse(strangers as f64, calls as f64);
            // Five standard deviations of the share that passes.
            let share = strangers as f64 / calls as f64;
            let noise = 5.0 * (share * (1.0 - share) * calls as f64).sqrt() / (1.0 - share);
            assert!(excused <= noise, "{crowd}: {strangers} pass, {excused} excused");
            let clients = served.excuse(calls as f64, calls as f64);
            assert!((clients - calls as f64).abs() < 1e-6, "{crowd}: {clients}");
        }
    }

    #[test]
    fn no_more_are_excused_than_are_served() {
        let (mut served, mut threads) = (Served::new(), [Noted::new(), Noted::new()]);
        for bin in 0..20 {
            complete(&mut served, &mut threads, bin, (0..10).map(|n| bin * 10 + n));
        }
        served.open();
        served.open();
        let first = served.excuse(1000.0, 1000.0);
        assert!((5.0..=20.0).contains(&first), "{first}");
        assert_eq!(served.excuse(1000.0, 1000.0), 0.0);
    }
}
