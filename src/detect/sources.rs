//! Stage 4 of 5, detect: how many different sources, in constant memory.
//!
//! HyperLogLog (Flajolet et al. 2007) with linear counting for small numbers. A union of two sketches is the sketch of the union,
//! so threads may count apart. Knows no address, only hashes.

/// A HyperLogLog of `M` registers, a power of two from 64 to 65,536; standard error 1.04 / sqrt(M). One byte a register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Distinct<const M: usize> {
    registers: [u8; M],
}

/// Bits of a rank, and their mask.
const RANK_BITS: u32 = 6;
const RANK: u32 = (1 << RANK_BITS) - 1;

impl<const M: usize> Default for Distinct<M> {
    fn default() -> Self {
        Self { registers: [0; M] }
    }
}

impl<const M: usize> Distinct<M> {
    /// Takes one hash in.
    #[inline]
    pub(super) fn insert(&mut self, hash: u64) {
        self.note(Self::print(hash));
    }

    /// What it keeps of one hash: the number of its register, above six bits of its rank, which is 59 at most.
    #[inline]
    fn print(hash: u64) -> u32 {
        let bits = M.trailing_zeros();
        let rank = ((hash << bits) | 1 << (bits - 1)).leading_zeros() + 1;
        ((hash >> (64 - bits)) as u32) << RANK_BITS | rank
    }

    #[inline]
    fn note(&mut self, print: u32) {
        // The top bits picked the register: they are below M by construction.
        if let Some(register) = self.registers.get_mut((print >> RANK_BITS) as usize) {
            *register = (*register).max((print & RANK) as u8);
        }
    }

    /// Whether one hash, of which this is left, may have gone in; see [`is_within`](Self::is_within).
    fn has(&self, print: u32) -> bool {
        self.registers.get((print >> RANK_BITS) as usize).is_some_and(|rank| u32::from(*rank) >= print & RANK)
    }

    /// Becomes the sketch of both sets.
    pub(super) fn union(&mut self, other: &Self) {
        for (mine, theirs) in self.registers.iter_mut().zip(&other.registers) {
            *mine = (*mine).max(*theirs);
        }
    }

    /// Whether all that went in may have gone into the other too: sure where it did, and wrong for one hash that did not in as few
    /// cases as the other has registers in use.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        self.registers.iter().zip(&other.registers).all(|(mine, theirs)| mine <= theirs)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.registers.fill(0);
    }

    /// How many different hashes went in, estimated.
    pub(super) fn estimate(&self) -> f64 {
        Self::estimate_of(self.registers.iter().copied())
    }

    /// The estimate of the union with another, without making it.
    pub(super) fn estimate_with(&self, other: &Self) -> f64 {
        Self::estimate_of(self.registers.iter().zip(&other.registers).map(|(&a, &b)| a.max(b)))
    }

    fn estimate_of(registers: impl Iterator<Item = u8>) -> f64 {
        let m = M as f64;
        let (mut empty, mut sum) = (0u32, 0.0);
        for rank in registers {
            empty += u32::from(rank == 0);
            // 2 to the power of minus the rank: a double with that exponent. Ranks end at 64.
            sum += f64::from_bits((1023 - u64::from(rank)) << 52);
        }
        let alpha = if M == 64 { 0.709 } else { 0.7213 / (1.0 + 1.079 / m) };
        let raw = alpha * m * m / sum;
        if raw <= 2.5 * m && empty > 0 { m * (m / f64::from(empty)).ln() } else { raw }
    }
}

/// Registers of the sketches a server has: 3.25 % standard error.
pub(super) const SOURCE_REGISTERS: usize = 1024;

/// Sources of one server's unresolved attempts, each (an IPv4 address, an IPv6 /64) and by site (/24, /48).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SourceSketch {
    /// Each source.
    pub(super) each: Distinct<SOURCE_REGISTERS>,
    /// Sites.
    pub(super) sites: Distinct<SOURCE_REGISTERS>,
}

impl SourceSketch {
    fn note(&mut self, [each, site]: Print) {
        self.each.note(each.into());
        self.sites.note(site.into());
    }

    /// Becomes the sketch of both.
    pub(super) fn union(&mut self, other: &Self) {
        self.each.union(&other.each);
        self.sites.union(&other.sites);
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.each.clear();
        self.sites.clear();
    }
}

/// Hashes of one source, as a sketch takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SourceHash {
    /// Of the source.
    pub(super) each: u64,
    /// Of its site.
    pub(super) site: u64,
}

/// What the two sketches keep of one source: 10 bits of a register and 6 of a rank each. Of two sources in 100,000 it is the same.
type Print = [u16; 2];

impl SourceHash {
    fn print(self) -> Print {
        [self.each, self.site].map(|hash| Distinct::<SOURCE_REGISTERS>::print(hash) as u16)
    }
}

/// A few sources, as they would go into a sketch: as many as have room beside the pointer to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Few {
    len: u8,
    prints: [Print; FEW],
}

/// Sources of a [`Few`].
const FEW: usize = 5;

impl Few {
    fn prints(&self) -> &[Print] {
        self.prints.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Whether there was room for it, or no need of any.
    fn add(&mut self, print: Print) -> bool {
        if self.prints().contains(&print) {
            return true;
        }
        let Some(place) = self.prints.get_mut(usize::from(self.len)) else { return false };
        *place = print;
        self.len += 1;
        true
    }

    fn sites(&self) -> usize {
        let sites = self.prints().iter().map(|print| print[1]);
        sites
            .enumerate()
            .filter(|(n, site)| self.prints().iter().take(*n).all(|print| print[1] != *site))
            .count()
    }
}

/// Which sources: none, one, a few, or a sketch of many. Most keys never need the sketch.
#[derive(Debug, Clone, Default)]
pub(super) enum SourceSet {
    /// None yet.
    #[default]
    None,
    /// Always the same.
    One(SourceHash),
    /// A few.
    Few(Few),
    /// Several.
    Many(Box<SourceSketch>),
    /// More than a few, and no sketch was left to count them in.
    Uncounted,
}

impl SourceSet {
    /// Takes one source in, with a sketch from `spare` when more come than are a few.
    #[inline]
    pub(super) fn insert(&mut self, source: SourceHash, spare: &mut SketchPool) {
        match self {
            Self::Many(sketch) => {
                sketch.each.insert(source.each);
                sketch.sites.insert(source.site);
            }
            Self::One(only) if only.each == source.each => {}
            Self::None => *self = Self::One(source),
            Self::One(_) | Self::Few(_) => self.note(source.print(), spare),
            Self::Uncounted => {}
        }
    }

    /// Becomes the union of both.
    pub(super) fn union(&mut self, other: &Self, spare: &mut SketchPool) {
        match other {
            Self::None => {}
            Self::One(source) => self.insert(*source, spare),
            Self::Few(few) => few.prints().iter().for_each(|print| self.note(*print, spare)),
            Self::Many(theirs) => {
                self.spread(spare);
                if let Self::Many(mine) = self {
                    mine.union(theirs);
                }
            }
            Self::Uncounted => {
                if !matches!(self, Self::Many(_)) {
                    *self = Self::Uncounted;
                }
            }
        }
    }

    /// Takes in what is left of one source.
    fn note(&mut self, print: Print, spare: &mut SketchPool) {
        match self {
            Self::None => *self = Self::Few(Few::default()),
            Self::One(only) => {
                let first = only.print();
                *self = Self::Few(Few { len: 1, prints: [first; FEW] });
            }
            Self::Few(_) | Self::Many(_) | Self::Uncounted => {}
        }
        if let Self::Few(few) = self
            && !few.add(print)
        {
            self.spread(spare);
        }
        if let Self::Many(sketch) = self {
            sketch.note(print);
        }
    }

    /// Empties it and gives its sketch back.
    pub(super) fn clear(&mut self, spare: &mut SketchPool) {
        if let Self::Many(sketch) = std::mem::take(self) {
            spare.give_back(sketch);
        }
    }

    /// Sources and sites, estimated where they are many; a set that could not be counted says the least it can be.
    pub(super) fn estimate(&self) -> (f64, f64) {
        match self {
            Self::None => (0.0, 0.0),
            Self::One(_) => (1.0, 1.0),
            Self::Few(few) => (f64::from(few.len), few.sites() as f64),
            Self::Many(sketch) => (sketch.each.estimate(), sketch.sites.estimate()),
            Self::Uncounted => (FEW as f64 + 1.0, 1.0),
        }
    }

    /// Whether all of its sources may be among these, see [`Distinct::is_within`]; not where they could not be counted.
    pub(super) fn is_within(&self, all: &Distinct<SOURCE_REGISTERS>) -> bool {
        match self {
            Self::None => true,
            Self::One(source) => all.has(source.print()[0].into()),
            Self::Few(few) => few.prints().iter().all(|print| all.has(print[0].into())),
            Self::Many(sketch) => sketch.each.is_within(all),
            Self::Uncounted => false,
        }
    }

    /// Sources and sites of two sets together, estimated.
    pub(super) fn estimate_with(&self, other: &Self) -> (f64, f64) {
        match (self, other) {
            (Self::One(a), Self::One(b)) => {
                (if a.each == b.each { 1.0 } else { 2.0 }, if a.site == b.site { 1.0 } else { 2.0 })
            }
            (Self::Many(a), Self::Many(b)) => {
                (a.each.estimate_with(&b.each), a.sites.estimate_with(&b.sites))
            }
            (Self::None | Self::Uncounted, _) | (_, Self::None | Self::Uncounted) => {
                let (a, b) = (self.estimate(), other.estimate());
                (a.0.max(b.0), a.1.max(b.1))
            }
            _ => {
                let mut all = SourceSketch::default();
                for set in [self, other] {
                    match set {
                        Self::Many(sketch) => all.union(sketch),
                        Self::None | Self::One(_) | Self::Few(_) | Self::Uncounted => {
                            set.few().prints().iter().for_each(|print| all.note(*print))
                        }
                    }
                }
                (all.each.estimate(), all.sites.estimate())
            }
        }
    }

    fn spread(&mut self, spare: &mut SketchPool) {
        if matches!(self, Self::Many(_)) {
            return;
        }
        let few = self.few();
        *self = spare.take().map_or(Self::Uncounted, Self::Many);
        if let Self::Many(sketch) = self {
            few.prints().iter().for_each(|print| sketch.note(*print));
        }
    }

    /// Those that it knows one by one.
    fn few(&self) -> Few {
        let mut few = Few::default();
        match self {
            Self::One(only) => (few.len, few.prints[0]) = (1, only.print()),
            Self::Few(known) => few = *known,
            Self::None | Self::Many(_) | Self::Uncounted => {}
        }
        few
    }
}

/// Sketches that are not in use. At most `limit` exist: they are made when first needed and never freed.
#[derive(Debug)]
pub(super) struct SketchPool {
    #[allow(clippy::vec_box, reason = "sketches move between owners by pointer, two kilobytes each")]
    spare: Vec<Box<SourceSketch>>,
    made: usize,
    limit: usize,
}

impl SketchPool {
    /// A pool that will make at most `limit` sketches.
    pub(super) fn new(limit: usize) -> Self {
        Self { spare: Vec::new(), made: 0, limit }
    }

    fn take(&mut self) -> Option<Box<SourceSketch>> {
        if let Some(sketch) = self.spare.pop() {
            return Some(sketch);
        }
        if self.made == self.limit {
            return None;
        }
        self.made += 1;
        Some(Box::default())
    }

    fn give_back(&mut self, mut sketch: Box<SourceSketch>) {
        sketch.clear();
        self.spare.push(sketch);
    }
}

#[cfg(test)]
mod tests {
    use super::super::hash::KeyedHash;
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn hash_of(seed: u64, n: u32) -> u64 {
        KeyedHash::new(seed).source(IpAddr::V4(Ipv4Addr::from_bits(n)))
    }

    #[test]
    fn the_error_stays_within_three_sigma() {
        // Standard error 1.04 / sqrt(m), from the paper; the hash is an independent key each time. Around 2.5 m the two
        // estimators meet and the paper itself reports a bias of a few per cent: allow two more there.
        for (n, extra) in [(10_u32, 0.0_f64), (200, 0.0), (2_560, 0.03), (50_000, 0.0), (500_000, 0.0)] {
            for seed in 0..8 {
                let mut sketch = Distinct::<1024>::default();
                (0..n).for_each(|i| sketch.insert(hash_of(seed, i)));
                let error = (sketch.estimate() - f64::from(n)).abs() / f64::from(n);
                let sigma: f64 = 1.04 / 32.0;
                assert!(error < (3.0 * sigma + extra).max(1.0 / f64::from(n)), "n {n} seed {seed}: {error}");
            }
        }
    }

    #[test]
    fn a_register_takes_the_rank_of_the_first_one_bit() {
        let mut sketch = Distinct::<64>::default();
        sketch.insert(5 << 58 | 1 << 57); // register 5, first bit after the index is set
        assert_eq!(sketch.registers[5], 1);
        sketch.insert(5 << 58 | 1 << 50);
        assert_eq!(sketch.registers[5], 8);
        sketch.insert(5 << 58); // no bit at all: the rank of all 58, plus one
        assert_eq!(sketch.registers[5], 59);
    }

    #[test]
    fn a_part_is_within_the_whole_and_a_stranger_hardly_ever() {
        let (mut whole, mut part) = (Distinct::<1024>::default(), Distinct::<1024>::default());
        (0..20).for_each(|i| whole.insert(hash_of(9, i)));
        assert!(part.is_within(&whole));
        (5..15).for_each(|i| part.insert(hash_of(9, i)));
        assert!(part.is_within(&whole) && !whole.is_within(&part));
        let strangers = (100..1100).filter(|i| {
            let mut one = Distinct::<1024>::default();
            one.insert(hash_of(9, *i));
            one.is_within(&whole)
        });
        // 20 of 1,024 registers: two per cent at most, three sigma on top.
        assert!(strangers.count() <= 33);
    }

    #[test]
    fn a_union_is_the_sketch_of_the_union() {
        let (mut left, mut right, mut both) =
            (Distinct::<256>::default(), Distinct::default(), Distinct::default());
        for i in 0..3000 {
            let hash = hash_of(7, i);
            if i % 3 == 0 {
                left.insert(hash)
            } else {
                right.insert(hash)
            }
            both.insert(hash);
        }
        left.union(&right);
        assert_eq!(left, both);
    }

    #[test]
    fn a_set_spreads_only_beyond_a_few_and_the_pool_is_bounded() {
        let mut pool = SketchPool::new(1);
        let source = |n: u64| SourceHash { each: n.wrapping_mul(0x9E37_79B9_7F4A_7C15), site: n << 32 };
        let (mut a, mut b) = (SourceSet::None, SourceSet::None);
        (0..100).for_each(|_| a.insert(source(1), &mut pool));
        assert!(matches!(a, SourceSet::One(_)));
        (0..10).for_each(|n| a.insert(source(n % 5), &mut pool));
        assert!(matches!(a, SourceSet::Few(_)));
        assert_eq!(a.estimate().0, 5.0);
        (0..100).for_each(|n| a.insert(source(n), &mut pool));
        assert!((a.estimate().0 - 100.0).abs() < 10.0);
        (0..6).for_each(|n| b.insert(source(n), &mut pool));
        assert!(matches!(b, SourceSet::Uncounted));
        assert_eq!(b.estimate().0, 6.0);
        a.clear(&mut pool);
        b.clear(&mut pool);
        (0..6).for_each(|n| b.insert(source(n), &mut pool));
        assert!(matches!(b, SourceSet::Many(_)));
        assert_eq!(b.estimate().0.round(), 6.0);
    }

    #[test]
    fn a_few_sources_take_no_room_and_are_those_of_the_sketch() {
        // One source takes 16 bytes, and a tag; five of them no more.
        assert_eq!(size_of::<SourceSet>(), 24);
        let mut pool = SketchPool::new(8);
        let source = |n: u32| SourceHash { each: hash_of(3, n), site: hash_of(4, n >> 1) };
        let (mut few, mut sketch) = (SourceSet::None, SourceSketch::default());
        for n in 0..5 {
            few.insert(source(n), &mut pool);
            sketch.each.insert(source(n).each);
            sketch.sites.insert(source(n).site);
        }
        assert_eq!(few.estimate(), (5.0, 3.0));
        assert!(few.is_within(&sketch.each));
        let mut more = SourceSet::None;
        (3..7).for_each(|n| more.insert(source(n), &mut pool));
        assert!(!more.is_within(&sketch.each));
        let both = few.estimate_with(&more);
        assert_eq!((both.0.round(), both.1.round()), (7.0, 4.0));
        few.union(&more, &mut pool);
        assert_eq!(few.estimate(), both);
    }

    #[test]
    fn union_of_sets_does_not_depend_on_the_order() {
        let mut pool = SketchPool::new(16);
        let source = |n: u32| SourceHash { each: hash_of(3, n), site: hash_of(4, n >> 8) };
        let parts: Vec<SourceSet> = [0..1, 0..0, 5..300, 1..4]
            .into_iter()
            .map(|range| {
                let mut set = SourceSet::None;
                range.for_each(|n| set.insert(source(n), &mut pool));
                set
            })
            .collect();
        let mut estimates = Vec::new();
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]] {
            let mut all = SourceSet::None;
            order.iter().for_each(|i| all.union(&parts[*i], &mut pool));
            estimates.push(all.estimate());
        }
        assert!(estimates.windows(2).all(|pair| pair[0] == pair[1]));
    }
}
