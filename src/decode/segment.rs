//! Stage 2 of 5, decode: the type that leaves it. A `Segment` is one TCP segment without its bytes.
//!
//! No state, no clock, no I/O. Nothing above this file sees a byte of a packet.

use crate::time::Timestamp;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;

/// An address and a TCP port. 20 bytes, where `SocketAddr` takes 32 for fields a handshake does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// The IP address.
    pub addr: IpAddr,
    /// The TCP port; 0 is counted like any other.
    pub port: u16,
}

impl Endpoint {
    /// An endpoint from its parts.
    pub const fn new(addr: IpAddr, port: u16) -> Self {
        Self { addr, port }
    }
}

impl Hash for Endpoint {
    /// One word for IPv4, two for IPv6: hashed several times a packet, and the derived one takes an address for a slice.
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let port = u64::from(self.port);
        match self.addr {
            IpAddr::V4(addr) => state.write_u64(u64::from(addr.to_bits()) << 16 | port),
            IpAddr::V6(addr) => {
                state.write_u128(addr.to_bits());
                state.write_u64(port | 1 << 48);
            }
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.addr {
            IpAddr::V4(addr) => write!(f, "{addr}:{}", self.port),
            IpAddr::V6(addr) => write!(f, "[{addr}]:{}", self.port),
        }
    }
}

/// A TCP sequence number: arithmetic modulo 2^32 (RFC 9293 section 3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SeqNumber(pub u32);

impl SeqNumber {
    /// This number moved forward, modulo 2^32.
    #[must_use]
    pub const fn plus(self, by: u32) -> Self {
        Self(self.0.wrapping_add(by))
    }

    /// How far this number lies after `other`, modulo 2^32.
    pub const fn distance_from(self, other: Self) -> u32 {
        self.0.wrapping_sub(other.0)
    }
}

/// The TCP flags of one segment: the eight of the flag byte (RFC 9293 section 3.1, RFC 3168).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push function.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement field is significant.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer is significant.
    pub const URG: u8 = 0x20;
    /// ECN echo.
    pub const ECE: u8 = 0x40;
    /// Congestion window reduced.
    pub const CWR: u8 = 0x80;

    /// Whether all of `mask` are set.
    pub const fn has(self, mask: u8) -> bool {
        self.0 & mask == mask
    }
}

/// What a segment is to a handshake. Every flag byte has exactly one kind (contract: `segments`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SegmentKind {
    /// SYN set; ACK, RST and FIN clear.
    Syn,
    /// SYN and ACK set; RST and FIN clear.
    SynAck,
    /// ACK set; SYN, RST and FIN clear.
    Ack,
    /// FIN set; SYN and RST clear.
    Fin,
    /// RST set; SYN clear.
    Rst,
    /// A set that no stack sends: SYN with FIN or RST, or none of SYN, ACK, FIN, RST.
    Odd,
}

impl SegmentKind {
    /// Every kind, in the order of the contract's `segments` object.
    pub const ALL: [Self; 6] = [Self::Syn, Self::SynAck, Self::Ack, Self::Fin, Self::Rst, Self::Odd];

    /// Classifies a flag byte. ECE, CWR, PSH and URG never change the kind: ECN and AccECN set them on SYNs.
    #[inline]
    pub const fn of(flags: TcpFlags) -> Self {
        const SYN: u8 = TcpFlags::SYN;
        const ACK: u8 = TcpFlags::ACK;
        const SYN_ACK: u8 = SYN | ACK;
        match flags.0 & (SYN | ACK | TcpFlags::FIN | TcpFlags::RST) {
            SYN => Self::Syn,
            SYN_ACK => Self::SynAck,
            ACK => Self::Ack,
            bits if bits & SYN != 0 => Self::Odd,
            bits if bits & TcpFlags::RST != 0 => Self::Rst,
            bits if bits & TcpFlags::FIN != 0 => Self::Fin,
            _ => Self::Odd,
        }
    }

    /// The name in metrics and JSON.
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Syn => "syn",
            Self::SynAck => "syn_ack",
            Self::Ack => "ack",
            Self::Fin => "fin",
            Self::Rst => "rst",
            Self::Odd => "odd",
        }
    }
}

/// One TCP segment as the ledger needs it. `Copy`, no borrowed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Network time of its arrival.
    pub ts: Timestamp,
    /// Who sent it.
    pub src: Endpoint,
    /// To whom.
    pub dst: Endpoint,
    /// Sequence number.
    pub seq: SeqNumber,
    /// Acknowledgement number; meaningful where `flags` has ACK.
    pub ack: SeqNumber,
    /// The flag byte.
    pub flags: TcpFlags,
    /// What the flags make of it.
    pub kind: SegmentKind,
    /// TCP payload in bytes, by the IP length (not the captured length).
    pub payload_len: u16,
    /// Receive window as sent, unscaled.
    pub window: u16,
    /// Time to live or hop limit of the innermost IP header.
    pub ttl: u8,
    /// Length of the TCP options in bytes, 0 to 40. Zero on a SYN marks a tool, not a stack.
    pub options_len: u8,
}

#[cfg(test)]
mod tests {
    use super::*;
    use SegmentKind::{Ack, Fin, Odd, Rst, Syn, SynAck};

    /// The control bits from the least significant up, as RFC 9293 figure 1 has them from right to left.
    const BITS: &str = "FSRPAUEC";

    /// By hand, from the contract's sentence: what each set of the four flags that matter is.
    const KINDS: [(&str, SegmentKind); 16] = [
        ("", Odd),
        ("F", Fin),
        ("S", Syn),
        ("FS", Odd),
        ("R", Rst),
        ("FR", Rst),
        ("SR", Odd),
        ("FSR", Odd),
        ("A", Ack),
        ("FA", Fin),
        ("SA", SynAck),
        ("FSA", Odd),
        ("RA", Rst),
        ("FRA", Rst),
        ("SRA", Odd),
        ("FSRA", Odd),
    ];

    #[test]
    fn every_flag_byte_has_the_kind_of_the_table() {
        let mut seen = std::collections::BTreeSet::new();
        for (letters, kind) in KINDS {
            for others in [
                "", "P", "U", "E", "C", "PU", "PE", "PC", "UE", "UC", "EC", "PUE", "PUC", "PEC", "UEC",
                "PUEC",
            ] {
                let byte = format!("{letters}{others}")
                    .chars()
                    .map(|letter| 2u32.pow(u32::try_from(BITS.find(letter).unwrap()).unwrap()))
                    .sum::<u32>();
                let byte = u8::try_from(byte).unwrap();
                assert_eq!(SegmentKind::of(TcpFlags(byte)), kind, "{letters}{others} = {byte:#04x}");
                seen.insert(byte);
            }
        }
        assert_eq!(seen.len(), 256, "the table names every byte once");
    }

    #[test]
    fn flag_constants_are_where_the_rfc_has_them() {
        let flags = [
            (TcpFlags::FIN, 'F'),
            (TcpFlags::SYN, 'S'),
            (TcpFlags::RST, 'R'),
            (TcpFlags::PSH, 'P'),
            (TcpFlags::ACK, 'A'),
            (TcpFlags::URG, 'U'),
            (TcpFlags::ECE, 'E'),
            (TcpFlags::CWR, 'C'),
        ];
        for (mask, letter) in flags {
            assert_eq!(mask.trailing_zeros(), u32::try_from(BITS.find(letter).unwrap()).unwrap());
            assert_eq!(mask.count_ones(), 1);
        }
        assert!(TcpFlags(0x12).has(TcpFlags::SYN | TcpFlags::ACK));
        assert!(!TcpFlags(0x02).has(TcpFlags::SYN | TcpFlags::ACK));
    }

    #[test]
    fn sequence_numbers_wrap() {
        assert_eq!(SeqNumber(u32::MAX).plus(1), SeqNumber(0));
        assert_eq!(SeqNumber(1).distance_from(SeqNumber(u32::MAX)), 2);
    }

    #[test]
    fn labels_are_the_contract_s() {
        let labels: Vec<_> = SegmentKind::ALL.iter().map(|kind| kind.as_label()).collect();
        assert_eq!(labels, ["syn", "syn_ack", "ack", "fin", "rst", "odd"]);
    }
}
