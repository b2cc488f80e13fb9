//! Stage 3 of 5, track: what time does to attempts: overdue at the grace age, expired at their timeout, evicted in an emergency.
//!
//! Costs O(1) a deadline, never walks the table, and stops at a budget. No clock but the network time handed in.

use super::event::{EventKind, EventSink, HandshakeEvent, HandshakeState, Outcome};
use super::flow::{TupleV4, TupleV6};
use super::handshake::Attempt;
use super::lane::{Due, Laned, Record, Waits};
use super::remembered::{End, Ended};
use super::table::{Fate, Place};
use super::tracker::{AT_ONCE, Tracker};
use super::waiting::{StillOpen, Young};
use crate::time::Timestamp;
use std::time::Duration;

/// Deadlines are looked at on multiples of this, of network time: often enough that nothing shows, seldom enough that a flood does
/// not pay for it with each packet. The same multiples for every thread, so that what comes first does not depend on who else
/// has packets.
const STRIDE: Duration = Duration::from_millis(1);

/// Deadlines looked at together, their memory asked for beforehand.
const BATCH: usize = 32;

/// So many young attempts at the end, and so many for each that ended well, are no handshakes on their way: 10,000 new connections a
/// second on a path of 100 ms have as many, but then the first of them are complete after those 100 ms.
const IN_FLIGHT: u64 = 1000;
const IN_FLIGHT_EACH: u64 = 100;

/// A SYN that has waited so long for its answer at the end was, most likely, never going to get one: nearly every round trip on Earth
/// takes less, those by satellites of the Earth's turn apart. Enough to count it with what else its originator failed at; not
/// enough to say anything of the server, which may be slow, or of one attempt.
const LONG_UNANSWERED: Duration = Duration::from_millis(300);

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
        self.lanes.until = self.lanes.until.max(Some(now));
        if now >= self.next_due {
            self.advance_to(now, sink);
        }
    }

    /// Nothing comes after `now`. What has reached its grace age by then is overdue; what is younger may only have been on its way,
    /// and nobody knows what would have become of it: open stays open. Two kinds are told as overdue all the same, for there is no
    /// doubt about them: a SYN without any option, which no stack sends, and handshakes so many that some had to be complete. Should
    /// another tracker go on with this one's deadlines after all, it tells nothing twice. Of the others, SYNs that have waited longer
    /// than nearly any round trip are told as [`EventKind::Unfinished`].
    pub fn finish(&mut self, now: Timestamp, sink: &mut impl EventSink) {
        self.next_due = AT_ONCE;
        self.advance(now, sink);
        let mut young = Young::default();
        for rings in [self.lanes.v4.rings(), self.lanes.v6.rings()].into_iter().flatten() {
            let Young { bare, other } = rings.young();
            young = Young { bare: young.bare + bare, other: young.other + other };
        }
        let ended_well = self.counts.outcome(Outcome::Completed) + self.counts.outcome(Outcome::Refused);
        let hopeless = young.other >= IN_FLIGHT.max(IN_FLIGHT_EACH * ended_well);
        if young.bare > 0 || hopeless {
            let wanted = |open: &StillOpen| hopeless || open.bare;
            self.lanes.v4.tell_young(wanted, |record, open| overdue(record, open, sink));
            self.lanes.v6.tell_young(wanted, |record, open| overdue(record, open, sink));
        }
        self.lanes.v4.look_at_young(|record, open| unfinished(record, open, now, sink));
        self.lanes.v6.look_at_young(|record, open| unfinished(record, open, now, sink));
    }

    fn advance_to(&mut self, now: Timestamp, sink: &mut impl EventSink) {
        let now = stride_before(now);
        let emergency = self.table.update_emergency();
        let waits = self.waits(emergency);
        let mut budget = self.budget;
        self.expire::<TupleV4>(now, waits, emergency, &mut budget, sink);
        self.expire::<TupleV6>(now, waits, emergency, &mut budget, sink);
        let due = [self.lanes.v4.next_due(waits), self.lanes.v6.next_due(waits)];
        let due = due.into_iter().flatten().min();
        self.lag = due.map_or(Duration::ZERO, |due| now.since(due));
        // In an emergency the waits change with the table, not with time: look again soon.
        let soon = now.plus(STRIDE);
        self.next_due = if emergency {
            soon
        } else {
            due.map_or(Timestamp::FAR_FUTURE, |due| stride_after(due).max(soon))
        };
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
        loop {
            // First what a panic left of a batch: rings and queues go in step.
            while let Some(record) = K::of(&mut self.lanes).falling.pop_front() {
                self.fall_due(record, emergency, sink);
            }
            let Self { lanes, table, .. } = self;
            let lane = K::of(lanes);
            lane.pop_due(now, waits, BATCH.min(*budget));
            if lane.falling.is_empty() {
                break;
            }
            *budget -= lane.falling.len();
            let noted = lane.rings().is_some();
            for record in lane.falling.iter().filter(|record| record.due != Due::Grace || !noted) {
                table.prefetch(&table.spot(record.key));
            }
        }
    }

    fn fall_due<K: Laned>(&mut self, record: Record<K>, emergency: bool, sink: &mut impl EventSink) {
        match (record.due, K::of(&mut self.lanes).rings()) {
            (Due::Grace, Some(rings)) => {
                if let Some(open) = rings.reached(record.class) {
                    K::of(&mut self.lanes).wait_on(record);
                    if !open.told {
                        overdue(record, open, sink);
                    }
                }
            }
            (Due::Grace | Due::First | Due::Second, _) => self.look_up(record, emergency, sink),
        }
    }

    /// Looks a record's attempt up in the table and does what is due.
    fn look_up<K: Laned>(&mut self, record: Record<K>, emergency: bool, sink: &mut impl EventSink) {
        let Record { due, key, opened_at, at, .. } = record;
        let timeouts = self.timeouts;
        let table = &*self.table;
        let decide = |attempt: &mut Attempt| {
            if attempt.opened_at != opened_at {
                return (Fate::Keep, None);
            }
            let age = at.since(opened_at);
            let life = match attempt.state {
                HandshakeState::SynSent => timeouts.syn_sent,
                HandshakeState::SynReceived => timeouts.syn_received,
            };
            let mut before = *attempt;
            match due {
                // Another opened on its tuple within the same microsecond and was superseded: that one's record came first.
                Due::Grace if before.overdue => (Fate::Keep, None),
                Due::Grace => {
                    attempt.overdue = true;
                    (Fate::Keep, Some(Fell::Overdue(before)))
                }
                Due::First | Due::Second if emergency || age >= life => {
                    before.overdue = table.waiting.overdue(attempt, age);
                    table.waiting.ended(attempt, age);
                    (Fate::Remove, Some(Fell::Expired(before)))
                }
                Due::First | Due::Second => (Fate::Keep, Some(Fell::Stays)),
            }
        };
        let spot = table.spot(key);
        let mut fell = table.visit(&spot, Place::First, at, decide).flatten();
        if fell.is_none() && table.has_crossed() {
            fell = table.visit(&spot, Place::Crossed, at, decide).flatten();
        }
        match fell {
            // It ended before, or another attempt has its tuple: this record is of the past.
            None => {}
            Some(Fell::Stays) => K::of(&mut self.lanes).wait_on(record),
            Some(Fell::Overdue(attempt)) => {
                K::of(&mut self.lanes).wait_on(record);
                overdue(record, StillOpen::from(&attempt), sink);
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
        let outcome = if after < life { Outcome::Evicted } else { outcome };
        if outcome == Outcome::Evicted || outcome == Outcome::Abandoned {
            // What the server still sends for it was asked for; a queue may keep it longer than we do.
            self.table.shares.refused(flow.resp, at);
        }
        if attempt.syn_copies > 0 {
            // A stack that retransmits may do so once more; a flood's SYNs come once and are not worth the place.
            self.table.remembered.remember(&flow, Ended::of(attempt, End::Expired, at), at);
        }
        let kind = self.closed(attempt, outcome, after);
        sink.on_event(&HandshakeEvent { ts: at, flow, weight: 1 << attempt.level, kind });
    }
}

fn overdue<K: Laned>(record: Record<K>, open: StillOpen, sink: &mut impl EventSink) {
    let kind = EventKind::Overdue {
        state: open.state,
        syn_retransmissions: open.syn_copies,
        syn_ack_retransmissions: open.syn_ack_copies,
        bare: open.bare,
    };
    let flow = record.key.flow(open.originator_is_low);
    sink.on_event(&HandshakeEvent { ts: record.at, flow, weight: 1 << open.level, kind });
}

/// Tells of a SYN that has waited for long where the capture ends.
fn unfinished<K: Laned>(record: Record<K>, open: StillOpen, now: Timestamp, sink: &mut impl EventSink) {
    if open.state == HandshakeState::SynSent && now.since(record.opened_at) >= LONG_UNANSWERED {
        let flow = record.key.flow(open.originator_is_low);
        let kind = EventKind::Unfinished;
        sink.on_event(&HandshakeEvent { ts: now, flow, weight: 1 << open.level, kind });
    }
}

/// The last multiple of [`STRIDE`] that is not after `at`.
fn stride_before(at: Timestamp) -> Timestamp {
    let stride = STRIDE.as_nanos() as i64;
    Timestamp::from_nanos(at.as_nanos().div_euclid(stride).saturating_mul(stride))
}

/// The first multiple of [`STRIDE`] that is not before `at`.
fn stride_after(at: Timestamp) -> Timestamp {
    let before = stride_before(at);
    if before < at { before.plus(STRIDE) } else { before }
}
