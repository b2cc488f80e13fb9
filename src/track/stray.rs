//! Stage 3 of 5, track: segments of no open attempt: late copies of one that ended, backscatter, or somebody's data.
//!
//! Opens and ends nothing.

use super::event::{EventKind, EventSink, HandshakeEvent};
use super::flow::Flow;
use super::tracker::Tracker;
use crate::decode::segment::{Segment, SegmentKind, TcpFlags};

/// So many of the responder's timers sent the SYN-ACK again, one of them at least after the ACK that completed the attempt. One may be
/// that ACK lost behind us, a round trip longer than the timer, or a connection deferred until data comes (`TCP_DEFER_ACCEPT` sends
/// one SYN-ACK at the end of the deferral and takes its answer; net/ipv4/inet_connection_sock.c, `syn_ack_recalc`).
///
/// The ledger keeps such an attempt as completed: a counter never goes back, and the originator did acknowledge the SYN-ACK, which is
/// all that the outcome says. That the server did not take it is said beside it, once.
const NOT_TAKEN: u8 = 2;

impl Tracker {
    /// A segment of no open attempt: a late copy of one that ended, backscatter, or somebody's data.
    pub(super) fn on_stray(&mut self, segment: &Segment, sink: &mut impl EventSink) {
        match segment.kind {
            SegmentKind::SynAck => self.on_stray_syn_ack(segment, sink),
            SegmentKind::Rst => self.on_stray_reset(segment, sink),
            SegmentKind::Syn | SegmentKind::Ack | SegmentKind::Fin | SegmentKind::Odd => {}
        }
    }

    fn on_stray_syn_ack(&mut self, segment: &Segment, sink: &mut impl EventSink) {
        let flow = Flow { orig: segment.dst, resp: segment.src };
        let Some((ended, timers)) = self.table.remembered.repeated(&flow, segment.ack, segment.ts) else {
            // It may answer a SYN that was only counted.
            if !self.table.shares.refused_lately(segment.src, segment.ts) {
                self.counts.unsolicited_syn_ack += 1;
                let kind = EventKind::UnsolicitedSynAck;
                sink.on_event(&HandshakeEvent { ts: segment.ts, flow, weight: 1, kind });
            }
            return;
        };
        self.counts.syn_ack_retransmissions += 1;
        self.answered_again(segment, sink);
        let weight = 1 << ended.level;
        let (after_ack, age) = (ended.end.is_completed(), ended.age(segment.ts));
        self.table.visibility.heard(flow.resp, segment.ts);
        let kind =
            EventKind::SynAckRetransmitted { after_ack, age, count: if after_ack { timers } else { 0 } };
        sink.on_event(&HandshakeEvent { ts: segment.ts, flow, weight, kind });
        if after_ack && timers == NOT_TAKEN {
            self.counts.not_taken += 1;
            let kind = EventKind::NotTaken { overdue: ended.overdue };
            sink.on_event(&HandshakeEvent { ts: segment.ts, flow, weight, kind });
        }
    }

    fn on_stray_reset(&mut self, segment: &Segment, sink: &mut impl EventSink) {
        let flow = Flow { orig: segment.dst, resp: segment.src };
        let back = Flow { orig: segment.src, resp: segment.dst };
        // It ends a connection whose handshake we saw: neither backscatter nor the end of an attempt.
        if [flow, back].iter().any(|flow| self.table.remembered.find(flow).is_some()) {
            return;
        }
        // Only a refusal has this shape (RFC 9293 section 3.5.2, group 1); other resets end connections we joined midway.
        let refusal = segment.flags.has(TcpFlags::ACK) && segment.seq.0 == 0;
        if refusal && !self.table.shares.refused_lately(segment.src, segment.ts) {
            self.counts.unsolicited_rst += 1;
            let kind = EventKind::UnsolicitedRst;
            sink.on_event(&HandshakeEvent { ts: segment.ts, flow, weight: 1, kind });
        }
    }
}
