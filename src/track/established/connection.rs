//! Stage 3 of 5, track: one established connection, and what a segment says about its ends. Pure: numbers in, a finding out.
//!
//! Stores nothing, counts nothing, reads no clock. Sequence numbers decide: a segment whose numbers do not fit what both sides
//! said before changes nothing, so that a forger who does not see the connection cannot make a finding.

use super::{Loss, Opening};
use crate::decode::segment::{Segment, SegmentKind, SeqNumber, TcpFlags};
use std::time::Duration;

/// How far a number may lie behind what was seen and the segment still be taken: an unscaled window of reordering.
const BEHIND: u32 = 1 << 16;

/// How far ahead: what a tap may lose in a burst before the connection is no longer followed. A blind forger hits both numbers
/// of a segment once in 2^23 tries.
const AHEAD: u32 = 1 << 20;

/// Repetitions without an answer from which a connection is suspected: R1 of RFC 9293 section 3.8.3, at least 3. What is repeated
/// comes before them, a first probe as well.
const TRIES: u8 = 3;

/// No stack repeats itself more often without an answer (Linux tcp_retries2, 15; tcp_keepalive_probes, 9; Windows 10): whoever goes on
/// is answered where this tap does not see it.
const GIVES_UP: u8 = 15;

/// Data comes again after twice the pause before (RFC 6298 section 5.5) until that is at its longest, which need not be less than
/// 60 s (section 2.5), in units of a gap.
const LONGEST: u16 = 60_000 / 16;

/// Repetitions closer together than this are one: half of the least retransmission time-out of Linux (TCP_RTO_MIN, 200 ms).
const APART: u32 = 100;

/// How long after a segment the reset that it provoked may come: three times the initial retransmission time-out of RFC 6298,
/// past any round trip.
const PROVOKED: u32 = 3_000;

/// How long after its reset the SYN that reset a connection may come again: twice the longest pause between two copies of it (Linux:
/// the sixth time-out, 32 s; tcp_syn_retries). Linux itself sends it within some 10 ms.
const COMES_AGAIN: u32 = 64_000;

/// A reset of another hop distance than its host's other segments was sent by something between the two (RFC 9293 knows no such
/// thing; Weaver, Sommer, Paxson 2009 do). One hop is left to a route that changes.
const HOPS: u8 = 1;

/// What a segment showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) what: Found,
    /// Whether the end that is gone is the lower one of the tuple; the other one is stale: it still holds the connection.
    pub(crate) gone_is_low: bool,
    /// Whether the connection's originator is the lower one.
    pub(crate) originator_is_low: bool,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// The end that is gone connected again from the same port, reset the old connection and repeats its SYN.
    Reconnect,
    /// It answered data or a probe with a bare reset; so long after the first of these.
    ResetOnData(Duration),
    /// It has been silent for so long, while the other repeats data or probes.
    Suspected(Duration),
}

/// What there is to know beside a segment and its connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context {
    /// Network time, milliseconds modulo 2^32.
    pub(super) now: u32,
    /// Milliseconds.
    pub(super) suspect_after: u32,
    /// ISN and age of the attempt that the segment's sender has open on the tuple.
    pub(super) attempt: Option<(SeqNumber, Duration)>,
}

const ORIGINATOR_IS_HIGH: u8 = 1;
/// And the bit above it for the higher side: it holds the connection, for it said more than its part of the handshake.
const HOLDS: u8 = 1 << 1;
/// The side that spoke last waits for an answer.
const WAITS: u8 = 1 << 3;
const HIGH_SPOKE_LAST: u8 = 1 << 4;
const SUSPECTED: u8 = 1 << 5;
/// Reset by a side that has a SYN of its own on the way.
const RECONNECTING: u8 = 1 << 6;
const HIGH_RECONNECTS: u8 = 1 << 7;

/// A connection in 36 bytes. Sides are numbered: 0 is the lower endpoint of the tuple, 1 the higher. Times are milliseconds
/// modulo 2^32: a connection silent for more than 24 days looks young, and is the last to make room.
#[derive(Debug, Clone, Copy)]
pub(super) struct Connection {
    /// The number after the last that each side sent.
    next: [u32; 2],
    /// The last acknowledgement of each side.
    acked: [u32; 2],
    /// ISN of the SYN whose sender reset the connection.
    isn: u32,
    /// The last segment that fitted.
    seen: u32,
    /// The first segment that waits for an answer.
    asked: u32,
    /// Time between the last two repetitions, in units of 16 ms.
    gap: u16,
    /// When a side reset it that has a SYN of its own on the way, in units of [`RESET_UNIT`] modulo 2^16: 18 hours.
    reset: u16,
    /// Time to live of each side's segments; 0 before the first.
    ttl: [u8; 2],
    /// Repetitions without an answer, at the pace of probes or with back-off.
    tries: u8,
    flags: u8,
}

impl Connection {
    /// Nobody's.
    pub(super) const NONE: Self = Self {
        next: [0; 2],
        acked: [0; 2],
        isn: 0,
        seen: 0,
        asked: 0,
        gap: 0,
        reset: 0,
        ttl: [0; 2],
        tries: 0,
        flags: 0,
    };

    pub(super) fn new(opening: &Opening, now: u32) -> Self {
        let Opening { originator_next, responder_next, originator_is_low, .. } = *opening;
        let sides = |originator, responder| match originator_is_low {
            true => [originator, responder],
            false => [responder, originator],
        };
        let originator = usize::from(!originator_is_low);
        Self {
            next: sides(originator_next.0, responder_next.0),
            acked: sides(responder_next.0, originator_next.0),
            seen: now,
            flags: (u8::from(!originator_is_low) * ORIGINATOR_IS_HIGH) | (HOLDS << originator),
            ..Self::NONE
        }
    }

    /// Milliseconds since the last segment that fitted.
    pub(super) fn silent_for(&self, now: u32) -> u32 {
        // Another thread's time may lie a little behind.
        (now.wrapping_sub(self.seen) as i32).max(0).unsigned_abs()
    }

    pub(super) fn is_suspected(&self) -> bool {
        self.has(SUSPECTED)
    }

    pub(super) fn is_reconnecting(&self) -> bool {
        self.has(RECONNECTING)
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn set(&mut self, flag: u8, on: bool) {
        self.flags = if on { self.flags | flag } else { self.flags & !flag };
    }

    fn found(&self, what: Found, gone: usize) -> Finding {
        Finding { what, gone_is_low: gone == 0, originator_is_low: !self.has(ORIGINATOR_IS_HIGH) }
    }

    /// The side that spoke last.
    fn speaker(&self) -> usize {
        usize::from(self.has(HIGH_SPOKE_LAST))
    }

    /// Whether both ends are known to have held the connection.
    pub(super) fn both_hold(&self) -> bool {
        self.flags & (HOLDS | HOLDS << 1) == HOLDS | HOLDS << 1
    }

    /// A SYN with this ISN came, and not for the first time.
    pub(super) fn syn_again(&self, isn: SeqNumber, now: u32) -> Option<Finding> {
        let gone = usize::from(self.has(HIGH_RECONNECTS));
        // One more, because another thread's time may lie a little behind.
        let waited = reset_unit(now).wrapping_add(1).wrapping_sub(self.reset);
        let in_time = u32::from(waited) * RESET_UNIT <= COMES_AGAIN + RESET_UNIT;
        (self.is_reconnecting() && in_time && self.isn == isn.0).then(|| self.found(Found::Reconnect, gone))
    }

    /// Whether both numbers of a segment are those of the last one of `side`, as in a challenge (RFC 5961 section 4).
    pub(super) fn repeats_itself(&self, side: usize, segment: &Segment) -> bool {
        segment.ack.0 == self.acked[side] && segment.seq.0 == self.next[side]
    }

    /// Whether a segment of `side` is one of the responder, who takes part in the connection.
    pub(super) fn is_word_of_responder(&self, side: usize, segment: &Segment) -> bool {
        let of_originator = side == usize::from(self.has(ORIGINATOR_IS_HIGH));
        !of_originator
            && matches!(segment.kind, SegmentKind::Ack | SegmentKind::Fin)
            && self.fits(side, segment)
    }

    /// Takes a segment of `side`: whether the connection is still followed, and what was found.
    pub(super) fn take(
        &mut self,
        side: usize,
        segment: &Segment,
        context: &Context,
        loss: &mut Loss,
    ) -> (bool, Option<Finding>) {
        match segment.kind {
            SegmentKind::Rst => self.reset(side, segment, context),
            SegmentKind::Ack if self.fits(side, segment) => (true, self.spoken(side, segment, context, loss)),
            // Whoever closes in good order is not gone; what follows a FIN is no discovery.
            SegmentKind::Fin if self.fits(side, segment) => (false, None),
            // It has not taken the handshake's last acknowledgement: its accept queue is full, or that was lost.
            SegmentKind::SynAck => {
                self.set(HOLDS << side, false);
                (true, None)
            }
            SegmentKind::Ack | SegmentKind::Fin | SegmentKind::Syn | SegmentKind::Odd => (true, None),
        }
    }

    /// Whether both numbers of a segment fit what both sides said before.
    fn fits(&self, side: usize, segment: &Segment) -> bool {
        let other = 1 - side;
        let between = |number: u32, from: u32, to: u32| {
            let span = to.wrapping_sub(from).wrapping_add(BEHIND + AHEAD);
            number.wrapping_sub(from).wrapping_add(BEHIND) <= span
        };
        segment.flags.has(TcpFlags::ACK)
            && between(segment.ack.0, self.acked[side], self.next[other])
            && between(segment.seq.0, self.acked[other], self.next[side])
    }

    fn spoken(
        &mut self,
        side: usize,
        segment: &Segment,
        context: &Context,
        loss: &mut Loss,
    ) -> Option<Finding> {
        let Context { now, suspect_after, .. } = *context;
        let other = 1 - side;
        let (seq, len) = (segment.seq.0, u32::from(segment.payload_len));
        let end = seq.wrapping_add(len);
        let silence = self.silent_for(now);
        // A keepalive or a window probe lies before the next number and brings nothing new (RFC 9293 section 3.8.4).
        let probe = len <= 1 && seq == self.next[side].wrapping_sub(1);
        let again = len > 0 && is_after_or_at(self.next[side], end);
        let news = segment.ack.0 != self.acked[side] && is_after_or_at(segment.ack.0, self.acked[side]);
        if self.has(WAITS) && (self.speaker() == other || news) {
            // The answer, or at least a sign of life: also one that only the other side saw.
            self.set(WAITS | SUSPECTED, false);
        }
        if self.is_reconnecting() && usize::from(self.has(HIGH_RECONNECTS)) == side {
            // It speaks on the connection that it seemed to have forgotten: the SYN was not its own.
            self.set(RECONNECTING, false);
        }
        if self.flags & (HOLDS << other | WAITS) == 0 && silence >= PROVOKED {
            // Had the other side not taken the handshake's last acknowledgement, its reset had come by now.
            self.set(HOLDS << other, true);
        }
        let repeated = probe || again;
        let mut tried = false;
        if len > 0 || probe {
            if !self.has(WAITS) {
                self.set(WAITS, true);
                (self.asked, self.gap, self.tries) = (now, 0, 0);
            } else if repeated && silence >= APART {
                let gap = u16::try_from(silence / 16).unwrap_or(u16::MAX);
                tried = in_pace(gap, self.gap, probe);
                self.tries = if tried { self.tries.saturating_add(1) } else { 1 };
                self.gap = gap;
            }
        }
        self.note_loss(side, segment, loss);
        if is_after_or_at(end, self.next[side]) {
            self.next[side] = end;
        }
        if news {
            self.acked[side] = segment.ack.0;
        }
        if is_after_or_at(segment.ack.0, self.next[other]) {
            // It acknowledges what the tap did not see.
            self.next[other] = segment.ack.0;
        }
        self.ttl[side] = segment.ttl;
        self.seen = now;
        self.set(HOLDS << side, true);
        self.set(HIGH_SPOKE_LAST, side == 1);
        let waited = (now.wrapping_sub(self.asked) as i32).max(0).unsigned_abs();
        // Whose segments the tap never sees is silent only to us.
        let silent = self.ttl[other] != 0 && self.both_hold() && waited >= suspect_after;
        if self.tries > GIVES_UP {
            self.set(SUSPECTED, false);
        } else if tried && self.tries >= TRIES && silent && !self.is_suspected() && !loss.explains(self.tries)
        {
            self.set(SUSPECTED, true);
            return Some(self.found(Found::Suspected(Duration::from_millis(u64::from(waited))), other));
        }
        None
    }

    /// Notes whether a segment of `side` that fits leaves a hole in the numbers, before they are brought up to it.
    fn note_loss(&self, side: usize, segment: &Segment, loss: &mut Loss) {
        let beyond = |number: u32, next: u32| number != next && is_after_or_at(number, next);
        if beyond(segment.seq.0, self.next[side]) || beyond(segment.ack.0, self.next[1 - side]) {
            loss.missed();
        }
        if segment.payload_len > 1 && is_after_or_at(segment.seq.0, self.next[side]) {
            loss.seen();
        }
    }

    fn reset(&mut self, side: usize, segment: &Segment, context: &Context) -> (bool, Option<Finding>) {
        let Context { now, attempt, .. } = *context;
        let other = 1 - side;
        let flight = self.next[side].wrapping_sub(self.acked[other]);
        if segment.seq.0.wrapping_sub(self.acked[other]) > flight {
            // No stack takes it (RFC 5961 section 3): forged, or long out of date.
            return (true, None);
        }
        let hops = self.ttl[side] == 0 || self.ttl[side].abs_diff(segment.ttl) <= HOPS;
        // Without a connection a stack resets at the number that the segment it got acknowledged, and says nothing more (RFC 9293
        // section 3.5.2); with one it acknowledges too when it aborts.
        let forgot = !segment.flags.has(TcpFlags::ACK)
            && segment.seq.0 == self.acked[other]
            && hops
            && self.both_hold();
        let silence = self.silent_for(now);
        if let Some((isn, age)) = attempt {
            // It spoke on the connection after its SYN: then that was not its own.
            let alive = self.speaker() == side && u128::from(silence) < age.as_millis();
            if forgot && !alive {
                (self.isn, self.reset) = (isn.0, reset_unit(now));
                self.set(RECONNECTING, true);
                self.set(HIGH_RECONNECTS, side == 1);
                return (true, None);
            }
        } else if forgot && self.has(WAITS) && self.speaker() == other && silence <= PROVOKED {
            let waited = (now.wrapping_sub(self.asked) as i32).max(0).unsigned_abs();
            let after = Duration::from_millis(u64::from(waited));
            return (false, Some(self.found(Found::ResetOnData(after), side)));
        }
        (false, None)
    }
}

/// Whether a repetition came at the pace of one who hears nothing, so long after another: probes come evenly or with back-off, data
/// with back-off only; a quarter less is the clock's and the path's.
fn in_pace(gap: u16, before: u16, probe: bool) -> bool {
    let (gap, before) = (u32::from(gap), u32::from(before));
    let even = gap * 4 >= before * 3;
    let backs_off = gap * 2 >= before * 3 || (even && before >= u32::from(LONGEST) * 3 / 4);
    backs_off || (probe && even)
}

/// Milliseconds of a unit of the time of a reset.
const RESET_UNIT: u32 = 1000;

fn reset_unit(now: u32) -> u16 {
    (now / RESET_UNIT) as u16
}

/// Whether the SYN that reset a connection at `reset` may still come again.
pub(super) fn may_come_again(reset: u32, now: u32) -> bool {
    (now.wrapping_sub(reset) as i32) <= COMES_AGAIN as i32
}

/// Whether a number lies at or after another, modulo 2^32.
fn is_after_or_at(number: u32, other: u32) -> bool {
    number.wrapping_sub(other) as i32 >= 0
}
