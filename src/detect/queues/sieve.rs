//! Stage 4 of 5, detect: which notes are kept where more come within a bin than there is room for.
//!
//! Decides by what a note says and by how many there are in the whole bin, never by who came first: packet threads may have divided
//! the traffic in any way, and the same notes are left in the end. Those that are left stand for the others by their weight.
//! Knows notes and counts; no server, no model, no clock.

use super::MODELS;
use crate::detect::backlog::note::{Note, What};

/// Notes of one server that are thinned out together: what begins and ends an attempt, so that who is kept coming is kept going; and
/// apart from it what repeats itself, which is an entry each and is no more than a queue holds.
const CLASSES: usize = 2;
const UNITS: usize = CLASSES * MODELS;
/// A unit is thinned to one in `2^level`, the level being below this: at 2^15, what one unit may keep where all share alike stands for
/// seven million packets a second.
const LEVELS: usize = 16;
/// Of so many parts of the room one stays free after thinning: that pays for going through the others once.
const SLACK: usize = 8;

/// Notes of a bin, of one thread or of all.
///
/// A note's coin ([`Note::coin`]) is tossed by its content. A unit at level L keeps those of at least L zeros. The levels follow from the
/// counts alone: the room is divided by max-min fairness, and each unit has the lowest level at which it fits its part. Fewer notes
/// never have a higher level, so a thread that sees some of them keeps all that are kept in the end.
#[derive(Debug)]
pub(super) struct Sieve {
    notes: Vec<Note>,
    room: usize,
    /// Notes offered by unit, and of these by the zeros of their coin.
    offered: Box<[u32; UNITS]>,
    tossed: Box<[[u32; LEVELS]; UNITS]>,
    levels: Box<[u8; UNITS]>,
    /// Thinning makes no more room: what else comes is left out, first come. Only coins that somebody chose, or seven million packets
    /// a second, lead to it.
    full: bool,
}

fn unit(note: &Note) -> usize {
    let repeats = matches!(note.what, What::Repeated | What::RepeatedAfterAck);
    (usize::from(note.seat) * CLASSES + usize::from(repeats)) % UNITS
}

fn zeros(note: &Note) -> usize {
    (note.coin() as usize).min(LEVELS - 1)
}

impl Sieve {
    /// Empty; it holds at most so many notes, and asks for their memory when told to.
    pub(super) fn new(room: usize) -> Self {
        Self {
            notes: Vec::new(),
            room,
            offered: Box::new([0; UNITS]),
            tossed: Box::new([[0; LEVELS]; UNITS]),
            levels: Box::new([0; UNITS]),
            full: false,
        }
    }

    /// Takes all the memory it will need, if it has not.
    pub(super) fn reserve(&mut self) {
        self.notes.reserve_exact(self.room.saturating_sub(self.notes.len()));
    }

    /// Bytes of a full one.
    #[cfg(test)]
    pub(super) const fn bytes(room: usize) -> usize {
        room * size_of::<Note>() + UNITS * (size_of::<u32>() + size_of::<[u32; LEVELS]>() + 1)
    }

    /// What it holds so far.
    #[cfg(test)]
    pub(super) fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Takes a note in. Amortised O(1): going through all of them makes room for an eighth.
    #[inline]
    pub(super) fn offer(&mut self, note: Note) {
        let (unit, zeros) = (unit(&note), zeros(&note));
        let (offered, tossed) = (&mut self.offered[unit], &mut self.tossed[unit][zeros]);
        (*offered, *tossed) = (offered.saturating_add(1), tossed.saturating_add(1));
        if zeros >= usize::from(self.levels[unit]) {
            self.keep(note, unit, zeros);
        }
    }

    /// Takes in what another holds, of the seats that are `meant`, and empties it. Returns how many notes were offered for others.
    pub(super) fn absorb(&mut self, other: &mut Self, meant: impl Fn(u8) -> bool) -> u64 {
        let mut left_out = 0;
        let first = self.offered.iter().all(|offered| *offered == 0);
        for (unit, offered) in other.offered.iter().enumerate().filter(|(_, offered)| **offered > 0) {
            if meant((unit / CLASSES) as u8) {
                self.offered[unit] = self.offered[unit].saturating_add(*offered);
                for (sum, count) in self.tossed[unit].iter_mut().zip(&other.tossed[unit]) {
                    *sum = sum.saturating_add(*count);
                }
            } else {
                left_out += u64::from(*offered);
            }
        }
        if !other.notes.is_empty() {
            self.reserve();
        }
        if first && left_out == 0 && self.room == other.room {
            // Nobody else was there, and all of them are meant: what would be left of them is what they are.
            std::mem::swap(&mut self.notes, &mut other.notes);
            std::mem::swap(&mut self.levels, &mut other.levels);
            self.full = other.full;
        }
        for note in other.notes.drain(..).filter(|note| meant(note.seat)) {
            let (unit, zeros) = (unit(&note), zeros(&note));
            if zeros >= usize::from(self.levels[unit]) {
                self.keep(note, unit, zeros);
            }
        }
        other.clear();
        left_out
    }

    /// Keeps a note of this unit, whose coin has so many zeros, if there is room.
    #[inline]
    fn keep(&mut self, note: Note, unit: usize, zeros: usize) {
        if self.notes.len() >= self.room && !self.full {
            self.thin();
            self.full = self.notes.len() >= self.room;
        }
        if !self.full && zeros >= usize::from(self.levels[unit]) {
            self.notes.push(note);
        }
    }

    /// Sets the levels by what was offered so far, and keeps what fits.
    #[cold]
    fn thin(&mut self) {
        let (part, before) = (self.part(), *self.levels);
        for ((level, offered), tossed) in
            self.levels.iter_mut().zip(self.offered.iter()).zip(self.tossed.iter())
        {
            let (mut left, mut lowest) = (*offered, 0);
            while left > part && lowest < LEVELS - 1 {
                left = left.saturating_sub(tossed[lowest]);
                lowest += 1;
            }
            *level = lowest as u8;
        }
        if before != *self.levels {
            let levels = &self.levels;
            self.notes.retain(|note| zeros(note) >= usize::from(levels[unit(note)]));
        }
    }

    /// What each unit may keep: as much as it was offered, or as much as every other that would keep more.
    fn part(&self) -> u32 {
        let all = (self.room - self.room / SLACK) as u64;
        let kept = |part: u32| self.offered.iter().map(|offered| u64::from(*offered.min(&part))).sum::<u64>();
        let (mut fits, mut too_much) = (0, u32::try_from(all).unwrap_or(u32::MAX));
        if kept(too_much) <= all {
            return too_much;
        }
        while too_much - fits > 1 {
            let between = fits + (too_much - fits) / 2;
            *(if kept(between) <= all { &mut fits } else { &mut too_much }) = between;
        }
        fits
    }

    /// Ends a bin: hands over what is left in order of time, each note with the weight of those it stands for, and says how many were left
    /// out. `thinned` hears of the seats that this concerns.
    pub(super) fn drain(&mut self, mut each: impl FnMut(&Note), mut thinned: impl FnMut(u8)) -> u64 {
        let offered: u64 = self.offered.iter().map(|offered| u64::from(*offered)).sum();
        if offered == 0 {
            return 0;
        }
        self.thin();
        let kept = self.notes.len() as u64;
        for (unit, _) in self.levels.iter().enumerate().filter(|(_, level)| **level > 0) {
            thinned((unit / CLASSES) as u8);
        }
        // Two threads see the two directions of a tap; the order of threads must not matter.
        self.notes.sort_unstable_by_key(Note::rank);
        for note in &self.notes {
            each(&note.standing_for(self.levels[unit(note)]));
        }
        self.clear();
        offered.saturating_sub(kept)
    }

    /// Empties it. Returns how many notes were offered.
    pub(super) fn clear(&mut self) -> u64 {
        self.notes.clear();
        self.levels.fill(0);
        self.full = false;
        let mut all = 0;
        for (offered, tossed) in self.offered.iter_mut().zip(self.tossed.iter_mut()) {
            if *offered > 0 {
                all += u64::from(std::mem::take(offered));
                tossed.fill(0);
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::segment::Endpoint;
    use crate::detect::hash::KeyedHash;
    use crate::time::Timestamp;
    use crate::track::event::{EventKind, HandshakeEvent};
    use crate::track::flow::Flow;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    const ROOM: usize = 1024;
    const KEPT: usize = ROOM - ROOM / SLACK;

    /// The `number`-th attempt at a server begins, or shows that it is there.
    fn note(seat: u16, number: u32, repeated: bool) -> Note {
        let host = |net: [u8; 4], number: u32| Ipv4Addr::from_bits(u32::from_be_bytes(net) + number).into();
        let orig = Endpoint::new(host([198, 18, 0, 0], number % 50_000), 1024 + (number % 7) as u16);
        let flow = Flow { orig, resp: Endpoint::new(host([198, 51, 100, 0], 1), seat) };
        let ts = Timestamp::from_nanos(1_750_000_000_000_000_000 + i64::from(number) * 20_000);
        let kind = if repeated {
            EventKind::SynAckRetransmitted { after_ack: false, age: Duration::from_secs(1), count: 1 }
        } else {
            EventKind::Opened
        };
        Note::of(&HandshakeEvent { ts, flow, weight: 1, kind }, &KeyedHash::new(3), seat).unwrap()
    }

    /// What is left of these, in order, and how many were left out.
    fn left(parts: &mut [Sieve]) -> (Vec<Note>, Vec<u8>, u64) {
        let mut all = Sieve::new(ROOM);
        for part in parts {
            assert!(part.notes.len() <= ROOM);
            all.absorb(part, |_| true);
        }
        let (mut notes, mut seats) = (Vec::new(), Vec::new());
        let out = all.drain(|note| notes.push(*note), |seat| seats.push(seat));
        (notes, seats, out)
    }

    /// Kept of a unit, and what they stand for.
    fn of(notes: &[Note], wanted: usize) -> (usize, u64) {
        let mine = notes.iter().filter(|note| unit(note) == wanted);
        mine.fold((0, 0), |(kept, weight), note| (kept + 1, weight + u64::from(note.weight())))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// However the notes are divided among threads, and in whatever order they come: the same are left.
        #[test]
        fn the_same_notes_are_left_however_they_were_divided(
            amounts in prop::collection::vec((0_u16..128, 0_u32..6000, any::<bool>()), 1..8),
            threads in 1_usize..4,
            seed: u64,
        ) {
            let notes: Vec<Note> = amounts
                .iter()
                .zip(0..)
                .flat_map(|((seat, amount, repeated), which)| {
                    (0..*amount).map(move |number| note(*seat, which * 10_000 + number, *repeated))
                })
                .collect();
            let mut alone = [Sieve::new(ROOM)];
            notes.iter().for_each(|note| alone[0].offer(*note));
            let expected = left(&mut alone);
            let mut random = seed;
            let mut next = |below: usize| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (random >> 33) as usize % below
            };
            let mut shuffled = notes.clone();
            for at in (1..shuffled.len()).rev() {
                shuffled.swap(at, next(at + 1));
            }
            let mut several: Vec<Sieve> = (0..threads).map(|_| Sieve::new(ROOM)).collect();
            for note in shuffled {
                several[next(threads)].offer(note);
            }
            prop_assert_eq!(&left(&mut several), &expected);
            let (kept, seats, out) = expected;
            prop_assert!(kept.len() <= KEPT);
            prop_assert_eq!(kept.len() as u64 + out, notes.len() as u64);
            prop_assert_eq!(out > 0, notes.len() > KEPT);
            prop_assert_eq!(out > 0, !seats.is_empty());
        }
    }

    #[test]
    fn what_is_left_stands_for_what_is_not() {
        let mut sieve = Sieve::new(ROOM);
        for number in 0..200_000 {
            sieve.offer(note(5, number, false));
        }
        let (kept, seats, out) = left(&mut [sieve]);
        let (count, weight) = of(&kept, 10);
        assert_eq!((count, seats, out), (kept.len(), vec![5], 200_000 - count as u64));
        assert!((KEPT * 3 / 8..=KEPT).contains(&count), "one in 256 of 200,000: {count}");
        // One in 256: standard deviation 200,000 / sqrt(781), 3.6 %.
        assert!(weight.abs_diff(200_000) < 3 * 7200, "{weight}");
    }

    #[test]
    fn who_asks_for_little_gets_it_whatever_the_others_do() {
        let mut sieve = Sieve::new(ROOM);
        for number in 0..100_000 {
            sieve.offer(note(1, number, false));
            if number % 1000 == 0 {
                sieve.offer(note(1, number, true));
                for seat in 2..6 {
                    sieve.offer(note(seat, number, false));
                }
            }
        }
        let (kept, seats, _) = left(&mut [sieve]);
        assert_eq!(seats, [1]);
        assert_eq!(of(&kept, 3), (100, 100), "its repetitions");
        for seat in 2..6 {
            assert_eq!(of(&kept, 2 * seat), (100, 100), "server {seat}");
        }
    }

    /// Whoever knows the key, as in a replay anybody does, may send what every level keeps.
    #[test]
    fn coins_of_somebodys_choice_find_no_more_than_the_room() {
        let mut sieve = Sieve::new(16);
        let chosen: Vec<Note> = (0..)
            .map(|number| note(1, number, false))
            .filter(|note| zeros(note) == LEVELS - 1)
            .take(24)
            .collect();
        chosen.iter().for_each(|note| sieve.offer(*note));
        assert!(sieve.full && sieve.notes.len() == 16);
        let mut kept = 0;
        assert_eq!(sieve.drain(|_| kept += 1, |_| {}) + kept, 24);
        sieve.offer(chosen[0]);
        assert_eq!(sieve.notes.len(), 1, "a new bin");
    }

    #[test]
    fn an_attempt_is_kept_from_its_first_note_to_its_last() {
        let begun = note(1, 7, false);
        let tossed = |kind, after: u64| {
            let orig = Endpoint::new(Ipv4Addr::new(198, 18, 0, 7).into(), 1031);
            let ts = begun.ts.plus(Duration::from_nanos(after));
            let flow = Flow { orig, resp: Endpoint::new(Ipv4Addr::new(198, 51, 100, 1).into(), 1) };
            let event = HandshakeEvent { ts, flow, weight: 1, kind };
            Note::of(&event, &KeyedHash::new(3), 1).unwrap().coin()
        };
        let after = Duration::from_nanos(31_250_700);
        assert_eq!(tossed(EventKind::Answered { after, overdue: false }, 31_250_700), begun.coin());
        let coins: Vec<u32> = (0..64).map(|number| note(1, 50_000 * 7 * number, false).coin()).collect();
        assert!(coins.iter().any(|coin| *coin != coins[0]), "the same originator again is another attempt");
    }
}
