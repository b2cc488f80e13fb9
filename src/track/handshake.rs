//! Stage 3 of 5, track: what a segment does to an attempt. One pure `match`.
//!
//! Nothing here stores, logs, counts or reads a clock. Sequence numbers decide; flags alone never end an attempt.

use super::event::HandshakeState;
use super::waiting::Ticket;
use crate::decode::segment::{Segment, SegmentKind, SeqNumber, TcpFlags};
use crate::time::Timestamp;

/// One open attempt: (4-tuple, ISN) with what is known of its handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// Network time of its first SYN, to the microsecond.
    pub(crate) opened_at: Timestamp,
    /// The originator's initial sequence number.
    pub(crate) isn: SeqNumber,
    /// The responder's, where `state` is `SynReceived`; before that, what an early ACK acknowledged less one.
    pub(crate) responder_isn: SeqNumber,
    /// Data in the SYN (RFC 7413), bytes; a SYN-ACK may acknowledge any part of it. At most 16,383 is kept.
    pub(crate) syn_payload: u16,
    /// Where it stands.
    pub(crate) state: HandshakeState,
    /// Copies of its SYN, saturating at 15.
    pub(crate) syn_copies: u8,
    /// Copies of its SYN-ACK, saturating at 7.
    pub(crate) syn_ack_copies: u8,
    /// It stands for 2^level attempts.
    pub(crate) level: u8,
    /// Whether the originator's endpoint is the lower one of the key.
    pub(crate) originator_is_low: bool,
    /// Whether it passed the grace age; kept here only where it has no ticket.
    pub(crate) overdue: bool,
    /// Whether an ACK came before the SYN-ACK.
    pub(crate) early_ack: bool,
    /// Whether a SYN-ACK with another ISN than the first was seen.
    pub(crate) contested: bool,
    /// Whether the responder sent a SYN of its own on this tuple.
    pub(crate) crossed: bool,
    /// Whether the responder sent data before the originator's ACK was seen (RFC 7413, or that ACK was lost before us).
    pub(crate) spoken: bool,
    /// Where its wait for the grace age is noted.
    pub(crate) ticket: Ticket,
}

/// Who sent a segment, seen from the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    Originator,
    Responder,
}

/// What a segment does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing: it belongs to no handshake, or says nothing new about this one.
    Nothing,
    /// Its numbers fit no attempt of the tuple: forged or old. It may change nothing.
    Mismatch,
    /// The SYN again.
    RepeatSyn,
    /// A SYN with another ISN: another attempt takes the tuple.
    Supersede,
    /// The responder's own SYN crosses the originator's.
    Cross,
    /// SYN_SENT to SYN_RECEIVED.
    Answer { responder_isn: SeqNumber },
    /// The SYN-ACK again; contested where it carries another ISN than the first.
    RepeatSynAck { contested: bool },
    /// An ACK of a SYN-ACK not seen, though this responder's SYN-ACKs are visible: kept until one comes that it fits.
    EarlyAck { responder_isn: SeqNumber },
    /// The responder sent data though the originator's ACK was not seen: a later one may acknowledge that too.
    Spoken,
    /// The handshake is complete.
    Complete,
    /// The responder reset it.
    Refuse,
    /// The originator reset it.
    Reset,
}

/// How far beyond the handshake a segment may lie and still prove it complete, bytes: the unscaled window (RFC 9293 section
/// 3.1). Wide enough for the first flight, narrow enough that a blind forger needs 2^16 tries a connection.
const FIRST_FLIGHT: u32 = 65_535;

impl Attempt {
    /// Whether `ack` acknowledges this attempt's SYN, or the SYN and some of its data (RFC 9293 section 3.10.7.3, RFC 7413).
    fn acknowledged_by(&self, ack: SeqNumber) -> bool {
        ack.distance_from(self.isn.plus(1)) <= u32::from(self.syn_payload)
    }

    /// Whether `seq` is where the originator continues after its SYN.
    fn continued_at(&self, seq: SeqNumber) -> bool {
        self.acknowledged_by(seq)
    }

    /// Whether `seq` lies after the SYN and its data, within the first flight.
    fn beyond_syn(&self, seq: SeqNumber) -> bool {
        let distance = seq.distance_from(self.isn.plus(1));
        distance > u32::from(self.syn_payload) && distance <= FIRST_FLIGHT
    }

    /// Whether `number` lies at or after the responder's ISN + 1, within the first flight.
    fn in_responder_flight(&self, number: SeqNumber) -> bool {
        number.distance_from(self.responder_isn.plus(1)) <= FIRST_FLIGHT
    }

    /// Whether the responder takes `ack` for its SYN-ACK's: in SYN-RECEIVED that is SND.UNA < SEG.ACK =< SND.NXT (RFC 9293 section
    /// 3.10.7.4), one number as long as it has sent nothing but its SYN. Any other, of data too, it answers with a reset and keeps
    /// the entry; whoever holds a real address could fill its queue behind ACKs that only look like it.
    fn taken_by_responder(&self, ack: SeqNumber) -> bool {
        ack == self.responder_isn.plus(1) || (self.spoken && self.in_responder_flight(ack))
    }
}

/// What `segment`, sent by `sender`, does to `attempt`.
///
/// `responder_visible`: SYN-ACKs of this responder have been seen. Then an ACK alone proves nothing, because whoever forged the
/// SYN knows its ISN and can send that ACK too; only one that fits the responder's ISN counts.
pub(crate) fn next(
    attempt: &Attempt,
    sender: Sender,
    segment: &Segment,
    responder_visible: impl FnOnce() -> bool,
) -> Step {
    use HandshakeState::{SynReceived, SynSent};
    use SegmentKind::{Ack, Fin, Odd, Rst, Syn, SynAck};
    use Sender::{Originator, Responder};

    match (attempt.state, sender, segment.kind) {
        // The same ISN is the same attempt, whatever its flags and options (AccECN falls back on retransmission, RFC 9768).
        (SynSent | SynReceived, Originator, Syn) => {
            if segment.seq == attempt.isn {
                Step::RepeatSyn
            } else {
                Step::Supersede
            }
        }
        // Both sides open at once (RFC 9293 figure 7), or the responder opens the other way while this attempt lingers.
        (SynSent | SynReceived, Responder, Syn) => Step::Cross,
        // A SYN-ACK answers where it acknowledges the SYN; if the originator has already acknowledged it, that was the handshake.
        (SynSent, Responder, SynAck) => {
            if !attempt.acknowledged_by(segment.ack) {
                Step::Mismatch
            } else if attempt.early_ack && attempt.responder_isn == segment.seq {
                Step::Complete
            } else {
                Step::Answer { responder_isn: segment.seq }
            }
        }
        // A further SYN-ACK is a retransmission. One with another ISN comes from a responder that forgot, or from a forger: the
        // originator believes the first, and so do we, but the responder's word on data counts from then on whatever its number.
        (SynReceived, Responder, SynAck) => {
            if attempt.acknowledged_by(segment.ack) {
                Step::RepeatSynAck { contested: segment.seq != attempt.responder_isn }
            } else {
                Step::Mismatch
            }
        }
        // The originator's SYN-ACK acknowledges the other side's crossing SYN; once its own SYN is answered, that completes it.
        (SynSent, Originator, SynAck) => {
            if attempt.crossed && segment.seq == attempt.isn {
                Step::EarlyAck { responder_isn: segment.ack.plus(u32::MAX) }
            } else {
                Step::Mismatch
            }
        }
        (SynReceived, Originator, SynAck) => {
            if attempt.crossed && segment.seq == attempt.isn && segment.ack == attempt.responder_isn.plus(1) {
                Step::Complete
            } else {
                Step::Mismatch
            }
        }
        // An ACK where no SYN-ACK was seen: with only this direction visible it completes, else it waits for the SYN-ACK it fits.
        (SynSent, Originator, Ack | Fin) => {
            let continues = attempt.continued_at(segment.seq);
            if !continues && !attempt.beyond_syn(segment.seq) {
                Step::Mismatch
            } else if !responder_visible() {
                Step::Complete
            } else if continues {
                Step::EarlyAck { responder_isn: segment.ack.plus(u32::MAX) }
            } else {
                Step::Nothing
            }
        }
        // The third segment of the handshake, or a later one that could not exist without it (the ACK was lost before us).
        (SynReceived, Originator, Ack | Fin) => {
            let proves = attempt.continued_at(segment.seq) || attempt.beyond_syn(segment.seq);
            if proves && attempt.taken_by_responder(segment.ack) { Step::Complete } else { Step::Mismatch }
        }
        // The responder acknowledges data after the SYN: it has the originator's ACK, though we saw neither that nor the SYN-ACK.
        (SynSent, Responder, Ack | Fin) => {
            let fits = attempt.early_ack && attempt.in_responder_flight(segment.seq);
            if fits && attempt.beyond_syn(segment.ack) { Step::Complete } else { Step::Nothing }
        }
        // Likewise after the SYN-ACK. The responder's data before that proves nothing: Fast Open sends it early.
        (SynReceived, Responder, Ack | Fin) => {
            let fits = attempt.contested || attempt.in_responder_flight(segment.seq);
            if fits && attempt.beyond_syn(segment.ack) {
                Step::Complete
            } else if fits && segment.payload_len > 0 && !attempt.spoken {
                Step::Spoken
            } else {
                Step::Nothing
            }
        }
        // In SYN_SENT a reset is valid where it acknowledges the SYN (RFC 9293 section 3.10.7.3).
        (SynSent, Responder, Rst) => {
            if segment.flags.has(TcpFlags::ACK) && attempt.acknowledged_by(segment.ack) {
                Step::Refuse
            } else {
                Step::Mismatch
            }
        }
        // After its SYN-ACK the responder resets at its next number, or by acknowledging the SYN as it would for a closed port.
        (SynReceived, Responder, Rst) => {
            let at_next = segment.seq == attempt.responder_isn.plus(1);
            if at_next || (segment.flags.has(TcpFlags::ACK) && attempt.acknowledged_by(segment.ack)) {
                Step::Refuse
            } else {
                Step::Mismatch
            }
        }
        // The originator aborts before an answer: at the number after its SYN, or at its ISN where its stack counts so. It may be
        // forged with the SYN, so detection takes it for a failure.
        (SynSent, Originator, Rst) => {
            if attempt.continued_at(segment.seq) || segment.seq == attempt.isn {
                Step::Reset
            } else {
                Step::Mismatch
            }
        }
        // After the answer only at the number after its SYN (RFC 9293 figures 8 and 11): left of the window, at its ISN, the
        // responder drops it (section 3.10.7.4) and keeps the entry.
        (SynReceived, Originator, Rst) => {
            if attempt.continued_at(segment.seq) {
                Step::Reset
            } else {
                Step::Mismatch
            }
        }
        // No stack sends these; they say nothing.
        (SynSent | SynReceived, Originator | Responder, Odd) => Step::Nothing,
    }
}
