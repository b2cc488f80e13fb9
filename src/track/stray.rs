//! Stage 3 of 5, track: segments of no open attempt: late copies of one that ended, backscatter, or somebody's data.
//!
//! Opens and ends nothing.

use super::event::{EventKind, EventSink, HandshakeEvent};
use super::flow::Flow;
use super::remembered::{End, Ended};
use super::tracker::Tracker;
use crate::decode::segment::{Segment, SegmentKind, TcpFlags};

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
        let fits =
            |ended: &Ended| segment.ack.distance_from(ended.isn.plus(1)) <= u32::from(ended.syn_payload);
        let kind = match self.table.remembered.find(&flow).filter(fits) {
            Some(ended) => {
                self.counts.syn_ack_retransmissions += 1;
                self.answered_again(segment, sink);
                let age = ended.age(segment.ts);
                EventKind::SynAckRetransmitted { after_ack: ended.end == End::Completed, age, count: 0 }
            }
            // It may answer a SYN that was only counted.
            None if self.table.shares.refused_lately(segment.src, segment.ts) => return,
            None => {
                self.counts.unsolicited_syn_ack += 1;
                EventKind::UnsolicitedSynAck
            }
        };
        sink.on_event(&HandshakeEvent { ts: segment.ts, flow, weight: 1, kind });
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
