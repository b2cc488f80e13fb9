//! Stage 4 of 5, detect: whether a server leaves more SYNs without an answer than it usually does, beyond chance.
//!
//! A likelihood ratio over the fates of SYNs, one after the other; no queue, no clock, nothing by flow.
//!
//! A tap that loses a tenth of all frames makes a tenth of all SYNs look unanswered, and some servers leave half of them so for good
//! reasons. A few in a row, or a few seconds without an answer, are then chance and come once an hour: only what the server's own
//! usual share does not explain tells anything (Wald 1945; Page 1954). Whether handshakes complete is not asked beside it: a
//! server that answers none completes none, and one that answers completes from the clients' point of view though its accept
//! queue is full.

/// Share without an answer of a server that turns SYNs away: all, but for what is asked in the moments in which it has room.
const TURNED_AWAY: f64 = 0.97;
/// Share without an answer of a server of which nothing is known, and how many SYNs that is worth: what a poor tap loses.
const ASSUMED: (f64, f64) = (0.1, 20.0);
/// No less is taken for usual: any link loses something now and then.
const LEAST: f64 = 0.02;
/// SYNs that the usual share is learned from; older ones count less and less.
const REMEMBERED: f64 = 2000.0;
/// One false alarm in e^18.8 SYNs at the least (Lorden 1971), as one in 116 days elsewhere at two looks a second.
const BEYOND_CHANCE: f64 = 18.8;

/// The fates of a server's SYNs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Neglect {
    /// SYNs without an answer, and all, as remembered.
    unanswered: f64,
    all: f64,
    /// Log-likelihood ratio of "nearly none is answered" against "as many as usual", never below 0.
    ratio: f64,
}

impl Default for Neglect {
    fn default() -> Self {
        let (share, worth) = ASSUMED;
        Self { unanswered: share * worth, all: worth, ratio: 0.0 }
    }
}

impl Neglect {
    /// So many SYNs were answered.
    pub(super) fn answered(&mut self, count: f64) {
        let usual = self.usual();
        self.weigh(count * ((1.0 - TURNED_AWAY) / (1.0 - usual)).ln());
        self.learn(0.0, count);
    }

    /// So many were not.
    pub(super) fn left(&mut self, count: f64) {
        let usual = self.usual();
        self.weigh(count * (TURNED_AWAY / usual).ln());
        self.learn(count, count);
    }

    /// Whether chance does not explain it.
    pub(super) fn is_beyond_chance(&self) -> bool {
        self.ratio >= BEYOND_CHANCE
    }

    /// The usual share, and a standard error on top: what is hardly known yet may be more.
    fn usual(&self) -> f64 {
        let share = self.unanswered / self.all;
        (share + (share * (1.0 - share) / self.all).sqrt()).clamp(LEAST, TURNED_AWAY)
    }

    /// What lies far beyond is not remembered: ten answers say that it is over.
    fn weigh(&mut self, by: f64) {
        self.ratio = (self.ratio + by).clamp(0.0, 2.0 * BEYOND_CHANCE);
    }

    /// What is told already is not usual. What is not yet told is, for a server of which nothing is known may always have been so.
    fn learn(&mut self, unanswered: f64, all: f64) {
        if self.ratio < BEYOND_CHANCE {
            self.unanswered += unanswered;
            self.all += all;
            if self.all > REMEMBERED {
                let rest = REMEMBERED / 2.0 / self.all;
                (self.unanswered, self.all) = (self.unanswered * rest, self.all * rest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SplitMix64, from 0 to 1.
    fn unit(state: &mut u64) -> f64 {
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    #[test]
    fn no_usual_share_is_beyond_chance() {
        // 200 servers of each kind, 5,000 SYNs each, known from the first.
        for tenths in 0..=7 {
            let share = f64::from(tenths) / 10.0;
            let told = (0..200_u64).filter(|seed| {
                let (mut neglect, mut random) = (Neglect::default(), seed << 8 | tenths as u64);
                (0..5_000).any(|_| {
                    if unit(&mut random) < share {
                        neglect.left(1.0)
                    } else {
                        neglect.answered(1.0)
                    }
                    neglect.is_beyond_chance()
                })
            });
            let told = told.count();
            assert_eq!(told, 0, "of 200 servers that leave {share} of their SYNs without an answer");
        }
    }

    #[test]
    fn a_server_that_turns_all_away_is_told_and_one_that_answers_again_is_not() {
        let mut unknown = Neglect::default();
        let needed = (1..100).find(|_| {
            unknown.left(1.0);
            unknown.is_beyond_chance()
        });
        assert_eq!(needed, Some(26), "one that nothing is known of");
        // The more it usually leaves, the more it takes.
        for (every, most) in [(0, 5), (100, 6), (10, 10), (5, 14), (2, 32)] {
            let mut neglect = Neglect::default();
            for number in 1..=400 {
                if every > 0 && number % every == 0 { neglect.left(1.0) } else { neglect.answered(1.0) }
            }
            let needed = (1..100).find(|_| {
                neglect.left(1.0);
                neglect.is_beyond_chance()
            });
            assert!(needed.is_some_and(|needed| needed <= most), "{needed:?} after 1 of {every}");
            for _ in 0..300 {
                neglect.left(1.0);
            }
            let back = (1..100).find(|_| {
                neglect.answered(1.0);
                !neglect.is_beyond_chance()
            });
            assert!(back.is_some_and(|back| back <= 13), "{back:?} after 1 of {every}");
        }
    }
}
