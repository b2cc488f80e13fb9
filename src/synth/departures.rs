//! Conversations that leave the usual path: acknowledged in vain, opened with data, opened by both, opened again after a crash.
//!
//! As pure as [`Conversation::step`], which they are part of.

use super::conversation::{ACK, Conversation, FAST_OPEN_BYTES, FIN, RST, SYN, Step, retransmission};
use super::frame::Options;
use std::time::Duration;

impl Conversation {
    pub(super) fn in_vain(&self, n: u32, beyond: u32, after: Duration, syn_acks: u32) -> Option<Step> {
        let before = (0..syn_acks).filter(|copy| retransmission(*copy) <= after).count() as u32;
        let resets = u32::from(beyond > 0);
        let acked = self.answer + after;
        match n.checked_sub(1) {
            None => Some(self.syn(Duration::ZERO)),
            Some(n) if n < before => Some(self.syn_ack(self.answer + retransmission(n))),
            Some(n) if n == before => Some(self.up(acked, ACK, 1, 1 + beyond, 0)),
            Some(n) if n == before + resets => Some(self.down(acked + self.answer, RST, 1 + beyond, 0, 0)),
            Some(n) => {
                let copy = n - 1 - resets;
                let at = retransmission(copy).max(after + self.answer);
                (copy < syn_acks).then(|| self.syn_ack(self.answer + at))
            }
        }
    }

    pub(super) fn fast_open(&self, n: u32) -> Option<Step> {
        let taken = 1 + u32::from(FAST_OPEN_BYTES);
        let opened = self.answer + self.rtt;
        match n {
            0 => {
                let mut step = self.syn(Duration::ZERO);
                step.packet.options = Options::FastOpen { cookie: u64::from(self.resp_isn) << 16 };
                step.packet.payload_len = FAST_OPEN_BYTES;
                Some(step)
            }
            1 => {
                let mut step = self.syn_ack(self.answer);
                step.packet.ack = self.orig_isn.wrapping_add(taken);
                Some(step)
            }
            2 => Some(self.up(opened, ACK, taken, 1, 0)),
            3 => Some(self.up(opened + self.idle, FIN | ACK, taken, 1, 0)),
            4 => Some(self.down(opened + self.idle + self.answer, FIN | ACK, 1, taken + 1, 0)),
            5 => Some(self.up(opened + self.idle + opened, ACK, taken + 1, 2, 0)),
            _ => None,
        }
    }

    /// RFC 9293 figure 7: SYNs cross, then SYN-ACKs cross, each with the sequence number of its own SYN.
    pub(super) fn simultaneous_open(&self, n: u32) -> Option<Step> {
        match n {
            0 => Some(self.syn(Duration::ZERO)),
            1 => {
                let mut step = self.syn_ack(self.rtt / 4);
                (step.packet.flags, step.packet.ack) = (SYN, 0);
                Some(step)
            }
            2 => {
                let mut step = self.syn_ack(self.rtt / 2);
                step.packet.ack = self.orig_isn.wrapping_add(1);
                Some(step)
            }
            3 => {
                let mut step = self.syn(self.rtt);
                (step.packet.flags, step.packet.ack) = (SYN | ACK, self.resp_isn.wrapping_add(1));
                Some(step)
            }
            _ => None,
        }
    }

    /// RFC 9293 figure 9: SYN on an established tuple, challenge ACK, reset, the SYN again, a new handshake.
    pub(super) fn reconnect(&self, n: u32) -> Option<Step> {
        let again = Self {
            orig_isn: self.orig_isn.wrapping_add(0x0100_0000),
            resp_isn: self.resp_isn.wrapping_add(0x0200_0000),
            ..*self
        };
        let crashed = self.quiet();
        match n {
            0..3 => self.open(n, Duration::ZERO),
            3 => Some(again.syn(crashed)),
            // The challenge of RFC 5961 section 4.2: what the stale end still expects.
            4 => Some(self.down(crashed + self.answer, ACK, 1, 1, 0)),
            5 => Some(self.up(crashed + self.answer + self.rtt, RST, 1, 0, 0)),
            _ => again.open(n - 6, crashed + retransmission(1).max(self.answer + self.rtt)),
        }
    }
}
