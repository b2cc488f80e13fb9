//! Stage 3 of 5, track: where segments meet the connections that are followed, and what was found becomes an event.
//!
//! Decides nothing: what a segment means is decided in `established`, what it does to an attempt in `handshake`. A SYN that opens an
//! attempt costs nothing here: the ledger holds it, and a connection is looked up only for what follows it.

use super::established::suspects::Suspect;
use super::established::{Finding, Found, Opening};
use super::event::{EventKind, EventSink, HalfOpenCase, HandshakeEvent, HandshakeState, Oddity};
use super::flow::{self, AnyTuple, Flow, Tuple};
use super::handshake::{Attempt, Step};
use super::tracker::Tracker;
use crate::decode::segment::{Segment, SegmentKind, TcpFlags};
use std::time::Duration;

impl Tracker {
    /// A segment of no open attempt: somebody's data, acknowledgement, FIN or reset.
    #[inline]
    pub(super) fn follow(
        &mut self,
        hash: u64,
        src_is_low: bool,
        segment: &Segment,
        sink: &mut impl EventSink,
    ) {
        let heard = || self.table.visibility.heard(segment.src, segment.ts);
        if let Some(finding) =
            self.table.established.follow(hash, src_is_low, segment, None, &mut self.loss, heard)
        {
            self.found(finding, Duration::ZERO, segment, sink);
        }
    }

    /// What a segment did to an open attempt of its tuple, seen by the connection that may have the tuple too.
    pub(super) fn amid(
        &mut self,
        flow: &Flow,
        step: Step,
        attempt: &Attempt,
        segment: &Segment,
        sink: &mut impl EventSink,
    ) {
        match step {
            Step::Complete => self.enter(flow, attempt, segment, sink),
            Step::Reset if attempt.state == HandshakeState::SynReceived => {
                self.table.disowned.note(flow, attempt.isn.plus(1), segment.ts);
                self.odd(flow, Oddity::DisownedSyn, segment, sink);
            }
            Step::Nothing | Step::Mismatch => {
                if attempt.state == HandshakeState::SynSent {
                    self.beside(flow, attempt, segment, sink);
                }
                let own = segment.src == flow.orig && attempt.state == HandshakeState::SynSent;
                let age = segment.ts.since(attempt.opened_at);
                self.follow_beside(own.then_some((attempt, age)), segment, sink);
            }
            Step::Answer { .. }
            | Step::RepeatSynAck { .. }
            | Step::EarlyAck { .. }
            | Step::Refuse
            | Step::Reset
            | Step::RepeatSyn
            | Step::Supersede
            | Step::Cross
            | Step::Spoken => {}
        }
    }

    /// A SYN-ACK again after its handshake was complete.
    pub(super) fn answered_again(&mut self, segment: &Segment, sink: &mut impl EventSink) {
        self.follow_beside(None, segment, sink);
    }

    /// A SYN that opened an attempt; whether its originator has just disowned another.
    pub(super) fn after_disowned(&mut self, flow: &Flow, segment: &Segment, sink: &mut impl EventSink) {
        let Some(number) = self.table.disowned.find(flow, segment.ts) else { return };
        if segment.seq.plus(1) != number {
            self.table.disowned.forget(flow);
            self.odd(flow, Oddity::OldDuplicateSyn, segment, sink);
        }
    }

    /// A SYN that came again. Costs one load where no connection waits for it.
    #[inline]
    pub(super) fn syn_again(
        &mut self,
        hash: u64,
        attempt: &Attempt,
        segment: &Segment,
        sink: &mut impl EventSink,
    ) {
        if self.table.established.has_reconnecting(segment.ts)
            && let Some(finding) = self.table.established.syn_again(hash, segment.seq, segment.ts)
        {
            self.found(finding, segment.ts.since(attempt.opened_at), segment, sink);
        }
    }

    /// Follows the connection of a complete handshake, from the segment that completed it on.
    fn enter(&mut self, flow: &Flow, attempt: &Attempt, segment: &Segment, sink: &mut impl EventSink) {
        let of_originator = segment.src == flow.orig;
        let known = attempt.state == HandshakeState::SynReceived || attempt.early_ack;
        let responder_next = match (known, of_originator) {
            (true, _) => attempt.responder_isn.plus(1),
            // The responder's SYN was not seen; its originator has acknowledged it, or it is this segment.
            (false, true) => segment.ack,
            (false, false) => segment.seq.plus(1),
        };
        let opening = Opening {
            originator_next: attempt.isn.plus(1),
            responder_next,
            isn: attempt.isn,
            originator_is_low: attempt.originator_is_low,
            both_seen: attempt.state == HandshakeState::SynReceived || !of_originator,
        };
        let (key, _) = flow::tuple(segment.src, segment.dst);
        let hash = self.table.hash(&key);
        if let Some(finding) = self.table.established.enter(hash, &opening, segment.ts) {
            self.found(finding, segment.ts.since(attempt.opened_at), segment, sink);
        }
        if segment.kind != SegmentKind::SynAck {
            // It may carry data that waits for an answer, or close at once.
            self.follow_beside(None, segment, sink);
        }
    }

    fn follow_beside(
        &mut self,
        attempt: Option<(&Attempt, Duration)>,
        segment: &Segment,
        sink: &mut impl EventSink,
    ) {
        let attempt = attempt.map(|(attempt, age)| (attempt.isn, age));
        let (key, src_is_low) = flow::tuple(segment.src, segment.dst);
        let hash = self.table.hash(&key);
        let heard = || self.table.visibility.heard(segment.src, segment.ts);
        let finding =
            self.table.established.follow(hash, src_is_low, segment, attempt, &mut self.loss, heard);
        if let Some(finding) = finding {
            self.found(finding, Duration::ZERO, segment, sink);
        }
    }

    /// Segments beside an unanswered SYN that RFC 9293 has a name for.
    fn beside(&mut self, flow: &Flow, attempt: &Attempt, segment: &Segment, sink: &mut impl EventSink) {
        let of_responder = segment.src == flow.resp;
        let acknowledges = segment.ack.distance_from(attempt.isn.plus(1)) <= u32::from(attempt.syn_payload);
        match segment.kind {
            // The answer to an older SYN than the one on the way; its originator will reset it.
            SegmentKind::SynAck if of_responder => self.table.disowned.note(flow, segment.ack, segment.ts),
            SegmentKind::Rst if !of_responder && !segment.flags.has(TcpFlags::ACK) => {
                if self.table.disowned.find(flow, segment.ts) == Some(segment.seq) {
                    self.table.disowned.forget(flow);
                    self.odd(flow, Oddity::OldDuplicateSyn, segment, sink);
                }
            }
            SegmentKind::Ack
                if of_responder && segment.payload_len == 0 && !acknowledges && !attempt.crossed =>
            {
                let (key, src_is_low) = flow::tuple(segment.src, segment.dst);
                // Where the connection is not followed, the shape has to do.
                if self.table.established.repeats_itself(self.table.hash(&key), src_is_low, segment)
                    != Some(false)
                {
                    self.odd(flow, Oddity::ChallengeAck, segment, sink);
                }
            }
            SegmentKind::Syn
            | SegmentKind::SynAck
            | SegmentKind::Ack
            | SegmentKind::Fin
            | SegmentKind::Rst
            | SegmentKind::Odd => {}
        }
    }

    fn odd(&mut self, flow: &Flow, oddity: Oddity, segment: &Segment, sink: &mut impl EventSink) {
        self.counts.odd(oddity);
        let kind = EventKind::Oddity(oddity);
        sink.on_event(&HandshakeEvent { ts: segment.ts, flow: *flow, weight: 1, kind });
    }

    /// Counts and says what was found; `since_syn` is the age of the SYN that showed it.
    #[cold]
    fn found(&mut self, finding: Finding, since_syn: Duration, segment: &Segment, sink: &mut impl EventSink) {
        let (key, _) = flow::tuple(segment.src, segment.dst);
        let flow = match key {
            AnyTuple::V4(key) => key.flow(finding.originator_is_low),
            AnyTuple::V6(key) => key.flow(finding.originator_is_low),
        };
        let (case, after) = match finding.what {
            Found::Reconnect => (HalfOpenCase::Reconnect, since_syn),
            Found::ResetOnData(after) => (HalfOpenCase::ResetOnData, after),
            Found::Suspected(after) => (HalfOpenCase::Suspected, after),
        };
        let originator_is_gone = finding.gone_is_low == finding.originator_is_low;
        if case == HalfOpenCase::Suspected
            && let Some(place) = self.table.established.suspect_key(self.table.hash(&key))
        {
            let gone = if originator_is_gone { flow.orig } else { flow.resp };
            let since = segment.ts.minus(after);
            self.table.established.suspects.add(place, Suspect { flow, gone, since, last: segment.ts });
        }
        self.counts.half_open(case);
        let kind = EventKind::HalfOpen { case, originator_is_gone, after };
        sink.on_event(&HandshakeEvent { ts: segment.ts, flow, weight: 1, kind });
    }
}
