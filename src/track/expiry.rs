//! Stage 3 of 5, track: what time does to attempts: overdue at the grace age, expired at their timeout, evicted in an emergency.
//!
//! Costs O(1) a deadline, never walks the table, and stops at a budget. No clock but the network time handed in.

use super::event::{EventKind, EventSink, HandshakeEvent, HandshakeState, Outcome};
use super::flow::{TupleV4, TupleV6};
use super::handshake::Attempt;
use super::lane::{Due, Waits};
use super::remembered::Ended;
use super::table::{Fate, Place};
use super::tracker::{Laned, Tracker};
use crate::time::Timestamp;
use std::time::Duration;

/// Deadlines are looked at this often at the most, of network time: often enough that nothing shows, seldom enough that a flood
/// does not pay for it with each packet.
const STRIDE: Duration = Duration::from_millis(1);

/// What became of a record that was due.
enum Fell {
    Overdue(Attempt),
    Stays,
    Expired(Attempt),
}

impl Tracker {
    /// Brings attempts up to network time `now`; call it before the segment that brought this time.
    #[inline]
    pub fn advance(&mut self, now: Timestamp, sink: &mut impl EventSink) {
        if now >= self.next_due {
            self.advance_to(now, sink);
        }
    }

    /// Says what of the open attempts would be overdue if nothing more came. Nothing expires: open stays open.
    pub fn finish(&mut self, sink: &mut impl EventSink) {
        self.settle::<TupleV4>(sink);
        self.settle::<TupleV6>(sink);
    }

    fn settle<K: Laned>(&mut self, sink: &mut impl EventSink) {
        let never = Duration::MAX;
        let waits = Waits { first: never, second: never };
        while let Some((due, class, key, opened_at, at)) =
            K::lane(self).pop_due(Timestamp::from_nanos(i64::MAX - 1), waits)
        {
            self.fall_due(due, class, key, opened_at, at, false, sink);
        }
    }

    fn advance_to(&mut self, now: Timestamp, sink: &mut impl EventSink) {
        let emergency = self.table.update_emergency();
        let waits = self.waits(emergency);
        let mut budget = self.budget;
        self.expire::<TupleV4>(now, waits, emergency, &mut budget, sink);
        self.expire::<TupleV6>(now, waits, emergency, &mut budget, sink);
        let due = [self.v4.next_due(waits), self.v6.next_due(waits)];
        let due = due.into_iter().flatten().min();
        self.lag = due.map_or(Duration::ZERO, |due| now.since(due));
        // In an emergency the waits change with the table, not with time: look again soon.
        let soon = now.plus(STRIDE);
        self.next_due = if emergency { soon } else { due.map_or(Timestamp::FAR_FUTURE, |due| due.max(soon)) };
    }

    fn waits(&self, emergency: bool) -> Waits {
        let timeouts = self.timeouts;
        let first = timeouts.syn_sent.min(timeouts.syn_received);
        let second = timeouts.syn_sent.max(timeouts.syn_received);
        let most = if emergency { timeouts.emergency } else { Duration::MAX };
        Waits { first: first.min(most), second: second.min(most) }
    }

    fn expire<K: Laned>(
        &mut self,
        now: Timestamp,
        waits: Waits,
        emergency: bool,
        budget: &mut usize,
        sink: &mut impl EventSink,
    ) {
        while *budget > 0 {
            let Some((due, class, key, opened_at, at)) = K::lane(self).pop_due(now, waits) else { return };
            *budget -= 1;
            self.fall_due(due, class, key, opened_at, at, emergency, sink);
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one record, spread out; a struct would only be built to be taken apart"
    )]
    fn fall_due<K: Laned>(
        &mut self,
        due: Due,
        class: usize,
        key: K,
        opened_at: Timestamp,
        at: Timestamp,
        emergency: bool,
        sink: &mut impl EventSink,
    ) {
        let waited = at.since(opened_at);
        let timeouts = self.timeouts;
        let decide = |attempt: &mut Attempt| {
            if !opened_then(attempt, opened_at) {
                return (Fate::Keep, None);
            }
            let before = *attempt;
            let life = match attempt.state {
                HandshakeState::SynSent => timeouts.syn_sent,
                HandshakeState::SynReceived => timeouts.syn_received,
            };
            match due {
                Due::Grace => {
                    attempt.overdue = true;
                    (Fate::Keep, Some(Fell::Overdue(before)))
                }
                Due::First | Due::Second if emergency || waited >= life => {
                    (Fate::Remove, Some(Fell::Expired(before)))
                }
                Due::First | Due::Second => (Fate::Keep, Some(Fell::Stays)),
            }
        };
        let mut fell = self.table.visit(&key, Place::First, decide).flatten();
        if fell.is_none() && self.table.has_crossed() {
            fell = self.table.visit(&key, Place::Crossed, decide).flatten();
        }
        match fell {
            // It ended before, or another attempt has its tuple: this record is of the past.
            None => {}
            Some(Fell::Stays) => K::lane(self).wait_on(due, class, key, opened_at),
            Some(Fell::Overdue(attempt)) => {
                K::lane(self).wait_on(due, class, key, opened_at);
                let kind = EventKind::Overdue {
                    state: attempt.state,
                    syn_retransmissions: attempt.syn_copies,
                    syn_ack_retransmissions: attempt.syn_ack_copies,
                };
                let flow = key.flow(attempt.originator_is_low);
                sink.on_event(&HandshakeEvent { ts: at, flow, weight: 1 << attempt.level, kind });
            }
            Some(Fell::Expired(attempt)) => self.expired(key, &attempt, at, sink),
        }
    }

    fn expired<K: Laned>(&mut self, key: K, attempt: &Attempt, at: Timestamp, sink: &mut impl EventSink) {
        let flow = key.flow(attempt.originator_is_low);
        let after = at.since(attempt.opened_at);
        let (outcome, life) = match attempt.state {
            HandshakeState::SynSent => (Outcome::Unanswered, self.timeouts.syn_sent),
            HandshakeState::SynReceived => (Outcome::Abandoned, self.timeouts.syn_received),
        };
        // A record's time is kept to the microsecond.
        let outcome = if after + Duration::from_micros(1) < life { Outcome::Evicted } else { outcome };
        if outcome == Outcome::Evicted {
            // What the server still sends for it was asked for.
            self.table.shares.refused(flow.resp, at);
        }
        if attempt.syn_copies > 0 {
            // A stack that retransmits may do so once more; a flood's SYNs come once and are not worth the place.
            let ended = Ended { isn: attempt.isn, syn_payload: attempt.syn_payload, completed: false };
            self.table.remembered.remember(&flow, ended, at);
        }
        let kind = self.closed(attempt, outcome, after);
        sink.on_event(&HandshakeEvent { ts: at, flow, weight: 1 << attempt.level, kind });
    }
}

/// Whether the attempt is the one a record was made for; records keep microseconds.
fn opened_then(attempt: &Attempt, opened_at: Timestamp) -> bool {
    let distance = attempt.opened_at.as_nanos() - opened_at.as_nanos();
    (0..1000).contains(&distance)
}
