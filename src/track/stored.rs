//! Stage 3 of 5, track: an attempt as the table keeps it.
//!
//! Packing only: nothing is looked up, counted or timed here.

use super::handshake::Attempt;
use super::waiting::Ticket;
use crate::decode::segment::SeqNumber;
use crate::time::Timestamp;
use crate::track::event::HandshakeState;
use std::time::Duration;

/// An attempt in 20 bytes. Its opening is kept as 32 bits of microseconds, which come round in 71 minutes: no attempt lives as
/// long, because timeouts are shorter (`config`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored([u32; 5]);

impl Stored {
    #[inline]
    pub(crate) fn pack(attempt: &Attempt) -> Self {
        let flag = |on: bool, bit: u32| u32::from(on) << bit;
        let bits = u32::from(attempt.syn_payload.min(0x3fff))
            | u32::from(attempt.syn_copies.min(15)) << 14
            | u32::from(attempt.syn_ack_copies.min(7)) << 18
            | u32::from(attempt.level.min(15)) << 21
            | flag(attempt.state == HandshakeState::SynReceived, 25)
            | flag(attempt.originator_is_low, 26)
            | flag(attempt.overdue, 27)
            | flag(attempt.early_ack, 28)
            | flag(attempt.crossed, 29)
            | flag(attempt.contested, 30)
            | flag(attempt.spoken, 31);
        Self([micros(attempt.opened_at), attempt.isn.0, attempt.responder_isn.0, bits, attempt.ticket.0])
    }

    #[inline]
    pub(crate) fn unpack(self, now: Timestamp) -> Attempt {
        let [opened, isn, responder_isn, bits, ticket] = self.0;
        let flag = |bit: u32| bits >> bit & 1 == 1;
        let micros_ago = micros(now).wrapping_sub(opened);
        // Another thread's time may lie behind that of the one that opened it: then it has just opened, and is not 71 minutes old.
        let opened_at = if micros_ago > AHEAD {
            now.to_micros().plus(Duration::from_micros(u64::from(micros_ago.wrapping_neg())))
        } else {
            now.to_micros().minus(Duration::from_micros(u64::from(micros_ago)))
        };
        Attempt {
            opened_at,
            isn: SeqNumber(isn),
            responder_isn: SeqNumber(responder_isn),
            syn_payload: (bits & 0x3fff) as u16,
            syn_copies: (bits >> 14 & 15) as u8,
            syn_ack_copies: (bits >> 18 & 7) as u8,
            level: (bits >> 21 & 15) as u8,
            state: if flag(25) { HandshakeState::SynReceived } else { HandshakeState::SynSent },
            originator_is_low: flag(26),
            overdue: flag(27),
            early_ack: flag(28),
            crossed: flag(29),
            contested: flag(30),
            spoken: flag(31),
            ticket: Ticket(ticket),
        }
    }
}

/// An opening up to 2^29 microseconds (9 minutes) after the time it is looked at lies ahead; anything else lies behind, up to 62
/// minutes, which is longer than any timeout.
const AHEAD: u32 = u32::MAX - (1 << 29);

fn micros(at: Timestamp) -> u32 {
    at.as_nanos().div_euclid(1000) as u32
}

#[cfg(test)]
mod tests {
    use super::super::flow::{TupleV4, TupleV6};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_ipv4_entry_takes_32_bytes() {
        assert_eq!(size_of::<(TupleV4, Stored)>(), 32);
        assert_eq!(size_of::<(TupleV6, Stored)>(), 56);
    }

    proptest! {
        #[test]
        fn packing_loses_nothing(
            opened in -2_000_000_000_000_000i64..4_000_000_000_000_000, age in -500_000_000i64..3_700_000_000, isn in any::<u32>(), responder_isn in any::<u32>(), syn_payload in 0u16..0x4000,
            syn_copies in 0u8..16, syn_ack_copies in 0u8..8, level in 0u8..13, flags in any::<[bool; 7]>(), ticket in any::<u32>(),
        ) {
            let opened_at = Timestamp::from_nanos(opened * 1000);
            let attempt = Attempt {
                opened_at,
                isn: SeqNumber(isn),
                responder_isn: SeqNumber(responder_isn),
                syn_payload, syn_copies, syn_ack_copies, level,
                state: if flags[0] { HandshakeState::SynReceived } else { HandshakeState::SynSent },
                originator_is_low: flags[1],
                overdue: flags[2],
                early_ack: flags[3],
                crossed: flags[4],
                contested: flags[5],
                spoken: flags[6],
                ticket: Ticket(ticket),
            };
            let now = Timestamp::from_nanos(opened_at.as_nanos() + age * 1000);
            prop_assert_eq!(Stored::pack(&attempt).unpack(now), attempt);
        }
    }
}
