//! Stage 4 of 5, detect: how far a server is from the sensor, by how long its SYN-ACKs take.
//!
//! No queue, no flow, no clock. An entry is made half of that way before the sensor sees its SYN-ACK, so that timers seem late by it.

use std::time::Duration;

/// An answer this much later than usual does not belong to its SYN's cohort: within it, repetitions come when that cohort's do.
const UNUSUAL: Duration = Duration::from_millis(20);
/// It is no longer than this: an answer later still is one to a SYN that came again (RFC 6298: after 1 s).
const LONGEST: Duration = Duration::from_secs(1);
/// A sensor this near to the server sees no SYN on its way: at ten thousand a second, one.
const BESIDE: Duration = Duration::from_micros(100);
/// Answers that tell it at first.
const FIRST: u8 = 16;

/// From a SYN to its SYN-ACK, as most take.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Way {
    usual: Duration,
    /// Answers it was first learned from.
    answers: u8,
}

impl Way {
    /// As most take.
    pub(super) fn usual(&self) -> Duration {
        self.usual
    }

    /// The longest that ordinary answers take; none where that is no time.
    pub(super) fn longest(&self) -> Option<Duration> {
        (self.usual >= BESIDE).then_some(2 * self.usual)
    }

    /// Takes in what an answer took, and says whether that was unusually long.
    pub(super) fn took(&mut self, after: Duration) -> bool {
        if self.answers < FIRST {
            // The shortest of the first.
            self.usual = if self.answers == 0 { after } else { after.min(self.usual) };
            self.answers += 1;
        }
        let late = after > self.usual + UNUSUAL;
        // Then a low expectile, in steps so small that three of four answers may be to SYNs that came again.
        self.usual = if after > self.usual {
            self.usual + ((after - self.usual) / 8).min(UNUSUAL / 3)
        } else {
            self.usual - ((self.usual - after) / 2).min(UNUSUAL)
        };
        self.usual = self.usual.min(LONGEST);
        late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_learned_at_once_and_answers_to_second_syns_do_not_move_it() {
        let mut way = Way::default();
        assert_eq!(way.longest(), None);
        for number in 0..400_u64 {
            // Every second SYN is lost, and the one after a second answered.
            let again = number % 2 == 0;
            let late = way.took(Duration::from_millis(if again { 1080 } else { 80 }));
            assert_eq!(late, again && number > 0, "{number}");
            assert!(number == 0 || (80..100).contains(&way.usual().as_millis()), "{:?}", way.usual());
        }
        for _ in 0..200 {
            way.took(Duration::from_millis(3));
        }
        assert_eq!(way.usual().as_millis(), 3, "another route");
        for _ in 0..200 {
            way.took(Duration::from_millis(150));
        }
        assert_eq!(way.usual().as_millis(), 149, "and back");
    }
}
