//! Stage 3 of 5, track: what follows from a step: the attempt changes, the ledger counts, an event says so.
//!
//! Decides nothing: what a segment does is decided in `handshake`.

use super::event::{EventKind, EventSink, HandshakeEvent, HandshakeState, Outcome};
use super::flow::Flow;
use super::handshake::{Attempt, Step};
use super::remembered::{End, Ended};
use super::table::Fate;
use super::tracker::Tracker;
use crate::decode::segment::{Segment, SegmentKind};
use std::time::Duration;

/// Changes an attempt as a step says.
pub(super) fn take(attempt: &mut Attempt, step: Step) -> Fate {
    match step {
        Step::Answer { responder_isn } => {
            attempt.state = HandshakeState::SynReceived;
            attempt.responder_isn = responder_isn;
            attempt.early_ack = false;
            Fate::Keep
        }
        Step::RepeatSynAck { contested } => {
            attempt.contested |= contested;
            attempt.syn_ack_copies = (attempt.syn_ack_copies + 1).min(7);
            Fate::Keep
        }
        Step::EarlyAck { responder_isn } => {
            attempt.responder_isn = responder_isn;
            attempt.early_ack = true;
            Fate::Keep
        }
        Step::Spoken => {
            attempt.spoken = true;
            Fate::Keep
        }
        Step::Complete | Step::Refuse | Step::Reset => Fate::Remove,
        Step::Nothing | Step::Mismatch | Step::RepeatSyn | Step::Supersede | Step::Cross => Fate::Keep,
    }
}

impl Tracker {
    /// Counts and says what a step did.
    pub(super) fn took(
        &mut self,
        flow: &Flow,
        step: Step,
        before: &Attempt,
        segment: &Segment,
        sink: &mut impl EventSink,
    ) {
        let now = segment.ts;
        let age = now.since(before.opened_at);
        if segment.src == flow.resp && !matches!(step, Step::Nothing | Step::Mismatch) {
            self.table.visibility.heard(flow.resp, now);
        }
        // Counted before anything is told of it: what has left the table has ended, also where whoever hears it panics.
        let kind = match step {
            Step::Nothing
            | Step::EarlyAck { .. }
            | Step::RepeatSyn
            | Step::Supersede
            | Step::Cross
            | Step::Spoken => None,
            Step::Mismatch => {
                self.counts.mismatched += 1;
                Some(EventKind::Mismatched { reset: segment.kind == SegmentKind::Rst })
            }
            Step::Answer { .. } => {
                self.counts.answered();
                self.counts.syn_ack_latency.observe(age);
                Some(EventKind::Answered { after: age, overdue: before.overdue })
            }
            Step::RepeatSynAck { .. } => {
                self.counts.syn_ack_retransmissions += 1;
                let count = (before.syn_ack_copies + 1).min(7);
                Some(EventKind::SynAckRetransmitted { after_ack: false, age, count })
            }
            Step::Complete => {
                if segment.kind == SegmentKind::SynAck && before.state == HandshakeState::SynSent {
                    self.counts.syn_ack_latency.observe(age);
                }
                self.counts.handshake_duration.observe(age);
                self.table.remembered.remember(flow, Ended::of(before, End::Completed, now), now);
                Some(self.closed(before, Outcome::Completed, age))
            }
            Step::Refuse => {
                self.table.remembered.remember(flow, Ended::of(before, End::Reset, now), now);
                Some(self.closed(before, Outcome::Refused, age))
            }
            Step::Reset => {
                self.table.remembered.remember(flow, Ended::of(before, End::Reset, now), now);
                Some(self.closed(before, Outcome::Reset, age))
            }
        };
        self.amid(flow, step, before, segment, sink);
        if let Some(kind) = kind {
            sink.on_event(&HandshakeEvent { ts: now, flow: *flow, weight: 1 << before.level, kind });
        }
    }

    pub(super) fn closed(&mut self, before: &Attempt, outcome: Outcome, after: Duration) -> EventKind {
        self.counts.closed(outcome, before.state);
        EventKind::Closed { outcome, state: before.state, after, overdue: before.overdue }
    }
}
