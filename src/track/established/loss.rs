//! Stage 3 of 5, track: how much of what connections say this tap does not see. An estimate from holes in their numbers.
//!
//! Plain counts of one packet thread; decides nothing but whether loss explains a silence.

/// Below so many segments nothing is known, and nothing is assumed lost.
const FEW: u32 = 64;

/// Counts are halved here, so that what is lost now outweighs what was lost an hour ago.
const MANY: u32 = 1 << 16;

/// A silence that loss makes once in a million is not explained by it: a busy tap has that many answers in a day.
const ODDS: f64 = 1e-6;

/// More than this share is not believed. Anybody can leave holes in the numbers of his own connections; by them alone he may put off
/// what is suspected of others, to the tenth repetition, and not keep it from being said.
const MOST: f64 = 0.25;

/// Segments that were due in the numbers of connections, and those of them that were not seen.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Loss {
    due: u32,
    missed: u32,
}

impl Loss {
    /// A segment came that was next.
    #[inline]
    pub(super) fn seen(&mut self) {
        self.due += 1;
        if self.due >= MANY {
            (self.due, self.missed) = (self.due / 2, self.missed / 2);
        }
    }

    /// One at least did not come: later numbers, or their acknowledgement, show it.
    #[inline]
    pub(super) fn missed(&mut self) {
        self.missed += 1;
        self.seen();
    }

    /// Whether so many answers in a row may well have been lost before this tap.
    pub(super) fn explains(self, silences: u8) -> bool {
        let share = (f64::from(self.missed) / f64::from(self.due.max(1))).min(MOST);
        self.due >= FEW && share.powi(silences.into()) > ODDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_is_lost_the_longer_a_silence_it_explains() {
        // By hand: 0.001^1 is above the odds and 0.001^3 is not, nor 0.1^7, whose two powers less are; 0.25^9 is and 0.25^11 is not, and
        // no more than a quarter is believed.
        for (one_in, explained) in [(1000, 1), (10, 5), (4, 9), (2, 9), (1, 9)] {
            let mut loss = Loss::default();
            assert!(!loss.explains(1), "nothing is known yet");
            for n in 0..200_000 {
                if n % one_in == 0 { loss.missed() } else { loss.seen() }
            }
            assert!(loss.explains(explained), "one in {one_in}");
            assert!(!loss.explains(explained + 2), "one in {one_in}");
        }
        let mut well = Loss::default();
        (0..1000).for_each(|_| well.seen());
        assert!(!well.explains(1));
    }
}
