//! One conversation between two hosts: which segments it has and when. A pure function of its step number.
//!
//! No randomness and no state: whoever schedules it keeps the number of its next step and nothing else.

use super::frame::{Options, Packet};
use crate::decode::segment::{Endpoint, TcpFlags};
use std::time::Duration;

pub(super) const SYN: u8 = TcpFlags::SYN;
pub(super) const ACK: u8 = TcpFlags::ACK;
pub(super) const FIN: u8 = TcpFlags::FIN;
pub(super) const RST: u8 = TcpFlags::RST;
const PSH: u8 = TcpFlags::PSH;

/// Bytes in a data segment of a conversation: a small request fits, and traces stay small.
pub const SEGMENT_BYTES: u16 = 100;

/// Bytes a fast-open SYN carries.
pub(super) const FAST_OPEN_BYTES: u16 = 64;

/// How far a guessed number is off.
const GUESS: u32 = 0x1234_5678;

/// How closely a forged ACK follows its SYN: a frame or two of a fast link.
const BEHIND: Duration = Duration::from_micros(1);

/// What happens between the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// A handshake that completes, data both ways, an end.
    Exchange {
        /// How many SYNs nobody answers first.
        lost_syns: u8,
        /// Data segments from the originator.
        up: u16,
        /// Data segments from the responder.
        down: u16,
        /// How it ends.
        close: Close,
    },
    /// RST-ACK to the SYN.
    Refused,
    /// No answer; this many SYNs, sent again after 1, 3, 7, ... seconds as Linux does (RFC 6298 section 2).
    Unanswered {
        /// SYNs in all; at least one is sent.
        syns: u8,
    },
    /// SYN-ACKs and no acknowledgement; sent again after 1, 3, 7, 15, 31 seconds by a Linux queue, never by cookies.
    Abandoned {
        /// SYN-ACKs in all.
        syn_acks: u8,
    },
    /// The same, and between them one acknowledgement that the server does not take.
    InVain {
        /// By how much its number is too high; the server resets it then.
        beyond: u8,
        /// Milliseconds after the first SYN-ACK.
        after: u32,
        /// SYN-ACKs in all.
        syn_acks: u8,
    },
    /// The originator acknowledges a number it guessed, right behind its SYN; then the same.
    Guessed {
        /// SYN-ACKs in all; 0 where the server drops the SYN.
        syn_acks: u8,
    },
    /// The originator answers the SYN-ACK with a reset: a live host whose address was forged, or a scanner.
    ResetByOriginator,
    /// Data in the SYN, taken by the server (RFC 7413), then a close.
    FastOpen,
    /// Both send a SYN at once (RFC 9293 figure 7).
    SimultaneousOpen,
    /// The handshake completes on the wire, yet SYN-ACKs come again: the accept queue is full.
    AcceptOverflow {
        /// SYN-ACKs after the ACK.
        again: u8,
    },
    /// The originator loses its state and opens again on the same tuple (RFC 9293 figure 9).
    Reconnect,
    /// The originator loses its state and answers data with a reset (RFC 9293 figure 10).
    ResetOnData,
    /// A SYN-ACK from the responder that nobody asked for; this many copies on a Linux queue's schedule.
    StraySynAck {
        /// SYN-ACKs in all.
        copies: u8,
    },
    /// A refusal from the responder that nobody asked for.
    StrayReset,
}

/// How an exchange ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// FIN each way.
    Fin,
    /// A reset from the originator.
    Reset,
    /// Not within the trace.
    Never,
}

/// How the originator's SYN looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Time to live or hop limit where it is captured.
    pub ttl: u8,
    /// Receive window.
    pub window: u16,
    /// Options as a stack sends them, or none as tools do.
    pub stack: bool,
    /// ECE and CWR set, asking for ECN (RFC 3168 section 6.1.1).
    pub ecn: bool,
    /// Bytes of payload in the SYN.
    pub payload: u16,
}

impl Look {
    /// A Linux client some ten hops away.
    pub const STACK: Self = Self { ttl: 54, window: 64_240, stack: true, ecn: false, payload: 0 };
    /// A flooding tool: no options, a small window.
    pub const TOOL: Self = Self { ttl: 250, window: 512, stack: false, ecn: false, payload: 0 };
}

/// One conversation. Everything is seen from beside the responder: its answers come at once, the originator's after `rtt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conversation {
    /// The originator.
    pub orig: Endpoint,
    /// The responder.
    pub resp: Endpoint,
    /// The originator's initial sequence number.
    pub orig_isn: u32,
    /// The responder's.
    pub resp_isn: u32,
    /// From the responder to the originator and back.
    pub rtt: Duration,
    /// How long the responder takes to answer.
    pub answer: Duration,
    /// Quiet time between the last data and the close.
    pub idle: Duration,
    /// How the SYN looks.
    pub look: Look,
    /// What happens.
    pub script: Script,
}

/// One segment of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// When, counted from the first.
    pub after: Duration,
    /// Whether the originator sends it.
    pub from_originator: bool,
    /// The segment.
    pub packet: Packet,
}

/// When copy number `n` of a SYN or SYN-ACK is sent: 0, 1, 3, 7, 15, 31, 63 s. The first timeout is 1 s and each doubles it.
pub fn retransmission(n: u32) -> Duration {
    Duration::from_secs((1 << n.min(16)) - 1)
}

impl Conversation {
    /// Step number `n`; none after the last. Times never go back from one step to the next.
    pub fn step(&self, n: u32) -> Option<Step> {
        let answered = self.answer;
        match self.script {
            Script::Exchange { lost_syns, up, down, close } => {
                let lost = u32::from(lost_syns);
                if n < lost {
                    return Some(self.syn(retransmission(n)));
                }
                self.exchange(n - lost, retransmission(lost), up.into(), down.into(), close)
            }
            Script::Refused => match n {
                0 => Some(self.syn(Duration::ZERO)),
                1 => Some(self.refusal(answered)),
                _ => None,
            },
            Script::Unanswered { syns } => (n < u32::from(syns.max(1))).then(|| self.syn(retransmission(n))),
            Script::Abandoned { syn_acks } => match n {
                0 => Some(self.syn(Duration::ZERO)),
                _ if n <= u32::from(syn_acks) => Some(self.syn_ack(answered + retransmission(n - 1))),
                _ => None,
            },
            Script::InVain { beyond, after, syn_acks } => {
                self.in_vain(n, beyond.into(), Duration::from_millis(after.into()), syn_acks.into())
            }
            Script::Guessed { syn_acks } => match n {
                0 => Some(self.syn(Duration::ZERO)),
                1 => Some(self.up(BEHIND, ACK, 1, GUESS, 0)),
                _ if n - 2 < u32::from(syn_acks) => Some(self.syn_ack(answered + retransmission(n - 2))),
                _ => None,
            },
            Script::ResetByOriginator => match n {
                0 => Some(self.syn(Duration::ZERO)),
                1 => Some(self.syn_ack(answered)),
                2 => Some(self.up(answered + self.rtt, RST, 1, 0, 0)),
                _ => None,
            },
            Script::FastOpen => self.fast_open(n),
            Script::SimultaneousOpen => self.simultaneous_open(n),
            Script::AcceptOverflow { again } => match n {
                0..3 => self.open(n, Duration::ZERO),
                _ if n - 3 < u32::from(again) => {
                    // The queue's timer runs from the first SYN-ACK, whatever the ACK does.
                    Some(self.syn_ack(answered + self.rtt.max(retransmission(n - 2))))
                }
                _ => None,
            },
            Script::Reconnect => self.reconnect(n),
            Script::ResetOnData => match n {
                0..3 => self.open(n, Duration::ZERO),
                3 => Some(self.down(self.quiet(), PSH | ACK, 1, 1, SEGMENT_BYTES)),
                // RFC 9293 section 3.5.2: the reset's sequence number is the acknowledgement of what it answers; no ACK.
                4 => Some(self.up(self.quiet() + self.rtt, RST, 1, 0, 0)),
                _ => None,
            },
            Script::StraySynAck { copies } => {
                (n < u32::from(copies.max(1))).then(|| self.syn_ack(retransmission(n)))
            }
            Script::StrayReset => (n == 0).then(|| self.refusal(Duration::ZERO)),
        }
    }

    /// The three segments of a handshake whose SYN comes at `base`.
    pub(super) fn open(&self, n: u32, base: Duration) -> Option<Step> {
        match n {
            0 => Some(self.syn(base)),
            1 => Some(self.syn_ack(base + self.answer)),
            2 => Some(self.up(base + self.answer + self.rtt, ACK, 1, 1, 0)),
            _ => None,
        }
    }

    fn exchange(&self, n: u32, base: Duration, up: u32, down: u32, close: Close) -> Option<Step> {
        if n < 3 {
            return self.open(n, base);
        }
        let n = n - 3;
        let opened = base + self.answer + self.rtt;
        let size = u32::from(SEGMENT_BYTES);
        // Segments of one burst follow each other as on a link of 1 Gbit/s.
        let pace = Duration::from_micros(1);
        if n < up {
            return Some(self.up(opened + pace * n, PSH | ACK, 1 + n * size, 1, SEGMENT_BYTES));
        }
        let (n, sent) = (n - up, opened + pace * up);
        let received = sent + self.answer;
        if n < down {
            let seq = 1 + n * size;
            return Some(self.down(received + pace * n, PSH | ACK, seq, 1 + up * size, SEGMENT_BYTES));
        }
        let n = n - down;
        let (seq_up, seq_down) = (1 + up * size, 1 + down * size);
        let heard = received + pace * down + self.rtt;
        let closing = heard + self.idle;
        match (close, n) {
            (_, 0) if down > 0 => Some(self.up(heard, ACK, seq_up, seq_down, 0)),
            (Close::Never, _) => None,
            (Close::Reset, _) if n == u32::from(down > 0) => {
                Some(self.up(closing, RST | ACK, seq_up, seq_down, 0))
            }
            (Close::Reset, _) => None,
            (Close::Fin, _) => match n - u32::from(down > 0) {
                0 => Some(self.up(closing, FIN | ACK, seq_up, seq_down, 0)),
                1 => Some(self.down(closing + self.answer, FIN | ACK, seq_down, seq_up + 1, 0)),
                2 => Some(self.up(closing + self.answer + self.rtt, ACK, seq_up + 1, seq_down + 1, 0)),
                _ => None,
            },
        }
    }

    pub(super) fn quiet(&self) -> Duration {
        self.answer + self.rtt + self.idle
    }

    pub(super) fn syn(&self, after: Duration) -> Step {
        let ecn = if self.look.ecn { TcpFlags::ECE | TcpFlags::CWR } else { 0 };
        let mut step = self.up(after, SYN | ecn, 0, 0, self.look.payload);
        step.packet.ack = 0;
        step.packet.options = match self.look.stack {
            true => Options::Syn { sent: clock(after), echo: 0 },
            false => Options::None,
        };
        step
    }

    pub(super) fn syn_ack(&self, after: Duration) -> Step {
        let mut step = self.down(after, SYN | ACK, 0, 1, 0);
        step.packet.options = match self.look.stack {
            true => Options::Syn { sent: clock(after), echo: clock(Duration::ZERO) },
            false => Options::Mss,
        };
        step
    }

    /// RFC 9293 section 3.10.7.1: to a SYN without an ACK the reset has sequence number 0 and acknowledges the SYN.
    fn refusal(&self, after: Duration) -> Step {
        let acknowledged = 1 + u32::from(self.look.payload);
        let mut step = self.down(after, RST | ACK, 0, acknowledged, 0);
        (step.packet.seq, step.packet.window, step.packet.options) = (0, 0, Options::None);
        step
    }

    /// A segment of the originator; its numbers count from the two initial ones.
    pub(super) fn up(&self, after: Duration, flags: u8, seq: u32, ack: u32, payload_len: u16) -> Step {
        let packet = Packet {
            src: self.orig,
            dst: self.resp,
            seq: self.orig_isn.wrapping_add(seq),
            ack: if flags & ACK == 0 { 0 } else { self.resp_isn.wrapping_add(ack) },
            flags,
            window: if flags & RST == 0 { self.look.window } else { 0 },
            ttl: self.look.ttl,
            id: identification(self.orig_isn, after),
            options: self.later_options(flags, after),
            payload_len,
        };
        Step { after, from_originator: true, packet }
    }

    /// A segment of the responder, a Linux host one hop away.
    pub(super) fn down(&self, after: Duration, flags: u8, seq: u32, ack: u32, payload_len: u16) -> Step {
        let packet = Packet {
            src: self.resp,
            dst: self.orig,
            seq: self.resp_isn.wrapping_add(seq),
            ack: self.orig_isn.wrapping_add(ack),
            flags,
            window: 65_160,
            ttl: 63,
            id: identification(self.resp_isn, after),
            options: self.later_options(flags, after),
            payload_len,
        };
        Step { after, from_originator: false, packet }
    }

    fn later_options(&self, flags: u8, after: Duration) -> Options {
        // Linux sends no timestamps on a reset that answers nothing it knows.
        if !self.look.stack || flags & RST != 0 {
            return Options::None;
        }
        Options::Timestamps { sent: clock(after), echo: clock(after.saturating_sub(self.rtt)) }
    }
}

/// A host's timestamp clock: milliseconds, as on Linux, from an arbitrary start.
const fn clock(after: Duration) -> u32 {
    0x1000_0000_u32.wrapping_add(after.as_millis() as u32)
}

/// Differs between a segment and its retransmission, as de-duplication expects of separate packets (RFC 6864 section 4).
const fn identification(isn: u32, after: Duration) -> u16 {
    (isn ^ isn >> 16) as u16 ^ (after.as_micros() as u16).wrapping_mul(0x9e37)
}

#[cfg(test)]
#[path = "conversation_tests.rs"]
mod tests;
