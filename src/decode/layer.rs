//! Stage 2 of 5, decode: what one header leaves for the next. Bytes, the length they stand for, and what to read them as.
//!
//! No protocol knowledge beyond names; no index that could fail.

use super::segment::Segment;
use super::{DecodeError, NotTcp};
use std::net::IpAddr;

/// What a header leaves: the captured bytes behind it, and how many there were on the wire.
///
/// `bytes` can be shorter than `wire` (snapshot length), and never reaches beyond the length an outer header declared, so
/// Ethernet padding is gone once an IP header was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layer<'a> {
    /// What was captured of it.
    pub(super) bytes: &'a [u8],
    /// Its length on the wire, as the innermost length field so far (or the capture) tells.
    pub(super) wire: usize,
}

impl<'a> Layer<'a> {
    /// The first `N` bytes and the layer behind them; none where fewer were captured.
    #[inline]
    pub(super) fn split<const N: usize>(self) -> Option<(&'a [u8; N], Self)> {
        let (head, bytes) = self.bytes.split_first_chunk()?;
        Some((head, Self { bytes, wire: self.wire.saturating_sub(N) }))
    }

    /// The layer behind `count` bytes; none where fewer were captured.
    #[inline]
    pub(super) fn skip(self, count: usize) -> Option<Self> {
        Some(Self { bytes: self.bytes.get(count..)?, wire: self.wire.saturating_sub(count) })
    }

    /// This layer with the length that a header declares for it. What was captured beyond is trailer or padding.
    #[inline]
    pub(super) fn declared(self, wire: usize) -> Self {
        Self { bytes: self.bytes.get(..wire).unwrap_or(self.bytes), wire }
    }

    /// The big-endian 16-bit field at `at`; none where it was not captured.
    #[inline]
    pub(super) fn be16(self, at: usize) -> Option<u16> {
        self.bytes.get(at..)?.first_chunk().map(|field| u16::from_be_bytes(*field))
    }

    /// The high half of the first byte, which is the version of an IP header (RFC 791 section 3.1, RFC 8200 section 3).
    #[inline]
    pub(super) fn nibble(self) -> Option<u8> {
        self.bytes.first().map(|byte| byte >> 4)
    }
}

/// What the IP header leaves for the protocol above it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packet<'a> {
    /// Source address.
    pub(super) src: IpAddr,
    /// Destination address.
    pub(super) dst: IpAddr,
    /// Time to live or hop limit.
    pub(super) ttl: u8,
    /// What `payload` is, by the IANA protocol number.
    pub(super) protocol: u8,
    /// Whether more fragments of this packet follow: `payload` may then be any part of the header above.
    pub(super) first_fragment: bool,
    /// What the packet carries.
    pub(super) payload: Layer<'a>,
}

/// What comes next in a frame.
#[derive(Debug, Clone, Copy)]
pub(super) enum Next<'a> {
    /// An Ethernet header.
    Ethernet(Layer<'a>),
    /// A VLAN tag behind its ethertype.
    Vlan(Layer<'a>),
    /// An IEEE 802.2 LLC header.
    Llc(Layer<'a>),
    /// One MPLS label.
    Mpls(Layer<'a>),
    /// A PPPoE session header.
    Pppoe(Layer<'a>),
    /// A PPP frame, with or without address and control bytes.
    Ppp(Layer<'a>),
    /// An IP packet of either version.
    Ip(Layer<'a>),
    /// An IPv4 packet.
    Ipv4(Layer<'a>),
    /// An IPv6 packet.
    Ipv6(Layer<'a>),
    /// What an IP packet carries.
    Payload(Packet<'a>),
    /// The end: TCP.
    Tcp(Segment),
    /// The end: something else.
    NotTcp(NotTcp),
}

/// One header read, or the reason why not.
pub(super) type Step<'a> = Result<Next<'a>, DecodeError>;

/// Another protocol than TCP.
pub(super) const OTHER: Step<'static> = Ok(Next::NotTcp(NotTcp::Other));
