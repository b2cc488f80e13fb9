//! Stage 4 of 5, detect: what is counted of one key in one stretch of time. Plain sums, so that threads may count apart.
//!
//! No judgement, no keys.

use crate::time::Timestamp;
use std::ops::{Index, IndexMut};
use std::time::Duration;

/// One counted thing. *Weighted* ones are estimates where the table samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    /// SYNs that began an attempt, tracked or not: exact.
    Attempts,
    /// Attempts that the tracked ones stand for; weighted.
    Represented,
    /// Got a SYN-ACK; weighted.
    Answered,
    /// Completed; weighted.
    Completed,
    /// Reset by the responder; weighted.
    Refused,
    /// Passed the grace age unresolved; weighted.
    Overdue,
    /// Of these, with a SYN-ACK; weighted.
    OverdueAnswered,
    /// Of the overdue, whose SYN had come again; weighted.
    OverdueRepeated,
    /// Reset by the originator after the SYN-ACK, before the grace age; weighted.
    Abandoned,
    /// Replaced by another ISN on the tuple before the grace age; weighted.
    Superseded,
    /// Evicted by the table before the grace age; weighted.
    Evicted,
    /// Completed or refused after all, past the grace age; weighted.
    Late,
    /// Attempts that came back: a second SYN, no sooner than a stack sends it.
    Returned,
    /// Fifth and later copies of a SYN: no stack sends them within 4 s.
    Copies,
    /// First repetitions of a SYN-ACK.
    AnswerRepeated,
    /// SYN-ACKs that came again after the ACK, by the first of the server's timers.
    AskedAgain,
    /// SYN-ACKs that came again after the ACK, by the second of the server's timers or a later one.
    AnswerAfterAck,
    /// Completed, and the server went on as if the ACK had not come; weighted.
    NotTaken,
    /// Of these, not counted as overdue before; weighted.
    NotTakenInTime,
    /// Tracked attempts whose source went into the sketch: not weighted.
    Sketched,
    /// Overdue by an allow-listed source: counted here and nowhere else.
    Allowed,
}

/// Number of [`Count`]s.
const COUNTS: usize = Count::Allowed as usize + 1;

/// Embryonic attempts as they come and go: differences, they may be negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gauge {
    /// SYN-ACK not seen.
    Sent,
    /// SYN-ACK seen.
    Received,
    /// Overdue, SYN-ACK not seen.
    OverdueSent,
    /// Overdue, SYN-ACK seen.
    OverdueReceived,
}

/// Number of [`Gauge`]s.
const GAUGES: usize = Gauge::OverdueReceived as usize + 1;

/// Upper bounds of the handshake times that are told apart: steps of the square root of two between the shortest and the
/// longest grace age; what is longer than the last is one more class.
pub(super) const PATIENCE: [Duration; 8] = [
    Duration::from_millis(125),
    Duration::from_millis(177),
    Duration::from_millis(250),
    Duration::from_millis(354),
    Duration::from_millis(500),
    Duration::from_millis(707),
    Duration::from_millis(1000),
    Duration::from_millis(1414),
];

/// Classes of handshake times.
pub(super) const CLASSES: usize = PATIENCE.len() + 1;

/// Counts of one key over one stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    counts: [u32; COUNTS],
    gauges: [i32; GAUGES],
    /// Completed handshakes by how long they took.
    pub(super) times: [u32; CLASSES],
    /// Latest packet, as opposed to a timer.
    pub(super) heard: Timestamp,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            counts: [0; COUNTS],
            gauges: [0; GAUGES],
            times: [0; CLASSES],
            heard: Timestamp::from_nanos(i64::MIN),
        }
    }
}

impl Tally {
    /// Adds another stretch or another thread's part of this one.
    pub(super) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine = mine.saturating_add(theirs);
        }
        for (mine, theirs) in self.gauges.iter_mut().zip(other.gauges) {
            *mine = mine.saturating_add(theirs);
        }
        for (mine, theirs) in self.times.iter_mut().zip(other.times) {
            *mine = mine.saturating_add(theirs);
        }
        self.heard = self.heard.max(other.heard);
    }

    /// Counts `n` more.
    #[inline]
    pub(super) fn count(&mut self, what: Count, n: u32) {
        let counter = &mut self[what];
        *counter = counter.saturating_add(n);
    }

    /// Moves a gauge.
    #[inline]
    pub(super) fn shift(&mut self, gauge: Gauge, by: i64) {
        let by = i32::try_from(by).unwrap_or(if by < 0 { i32::MIN } else { i32::MAX });
        self.gauges[gauge as usize] = self.gauges[gauge as usize].saturating_add(by);
    }

    /// A gauge's movement.
    pub(super) fn moved(&self, gauge: Gauge) -> i64 {
        i64::from(self.gauges[gauge as usize])
    }

    /// A count as a number to reckon with.
    #[inline]
    pub(super) fn of(&self, what: Count) -> f64 {
        f64::from(self[what])
    }

    /// Attempts that ended in a way that says how.
    pub(super) fn failed(&self) -> f64 {
        self.of(Count::Overdue)
            + self.of(Count::Abandoned)
            + self.of(Count::Superseded)
            + self.of(Count::NotTaken)
    }
}

impl Index<Count> for Tally {
    type Output = u32;

    fn index(&self, what: Count) -> &u32 {
        &self.counts[what as usize]
    }
}

impl IndexMut<Count> for Tally {
    fn index_mut(&mut self, what: Count) -> &mut u32 {
        &mut self.counts[what as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_saturate_and_gauges_go_both_ways() {
        let mut a = Tally::default();
        a.count(Count::Attempts, u32::MAX);
        a.count(Count::Attempts, 1);
        a.shift(Gauge::Sent, -3);
        let mut b = a;
        b.add(&a);
        assert_eq!(b[Count::Attempts], u32::MAX);
        assert_eq!(b.moved(Gauge::Sent), -6);
        b.shift(Gauge::Sent, i64::MAX);
        assert_eq!(b.moved(Gauge::Sent), i64::from(i32::MAX) - 6);
    }
}
