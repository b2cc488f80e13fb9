//! Stage 2 of 5, decode: bytes of a frame to a `Segment`, or the reason why not. Pure functions.
//!
//! No state, no clock, no map, no I/O, no allocation. May touch pnet_packet.

mod layer;
mod link;
mod network;
pub mod segment;
mod transport;
mod tunnel;

use crate::capture::{Frame, LinkType};
use layer::{Next, OTHER, Packet, Step};
use network::protocol;
use segment::Segment;
use std::net::{IpAddr, Ipv4Addr};

/// What became of a frame. Every frame is exactly one of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded {
    /// A TCP segment.
    Tcp(Segment),
    /// Decoded, and not TCP: another protocol, or a later fragment, in which no TCP header can be.
    NotTcp(NotTcp),
    /// Not decoded.
    Undecoded(DecodeError),
}

/// Why a frame is not TCP; fragments are told apart because they can hide it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotTcp {
    /// Another protocol.
    Other,
    /// A fragment that is not the first of a TCP packet.
    LaterFragment,
}

/// Why a frame was not decoded. The label is a metric label and a JSON key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DecodeError {
    /// The capture ends inside the link-layer header or its tags.
    TruncatedLink,
    /// The capture, or the packet around it, ends inside an IP header, its extension headers or a tunnel header.
    TruncatedNetwork,
    /// The capture or the IP packet ends before the 14th byte of the TCP header, where the flags are.
    TruncatedTransport,
    /// The IP version is neither 4 nor 6, or not the one that the header before announces.
    BadVersion,
    /// IPv4 header length below 20 bytes or beyond the total length (RFC 791 section 3.1).
    BadHeaderLength,
    /// An IP total length smaller than its header.
    BadTotalLength,
    /// A first fragment sent too short for the flags of its TCP header (RFC 1858 section 3).
    TinyFragment,
    /// More tunnels or tags nested than are followed.
    TooDeep,
    /// A link type that is not decoded.
    UnknownLink,
}

impl DecodeError {
    /// Every reason; series exist for all of them from the start.
    pub const ALL: [Self; 9] = [
        Self::TruncatedLink,
        Self::TruncatedNetwork,
        Self::TruncatedTransport,
        Self::BadVersion,
        Self::BadHeaderLength,
        Self::BadTotalLength,
        Self::TinyFragment,
        Self::TooDeep,
        Self::UnknownLink,
    ];

    /// The label in metrics and JSON.
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::TruncatedLink => "truncated_link",
            Self::TruncatedNetwork => "truncated_network",
            Self::TruncatedTransport => "truncated_transport",
            Self::BadVersion => "bad_version",
            Self::BadHeaderLength => "bad_header_length",
            Self::BadTotalLength => "bad_total_length",
            Self::TinyFragment => "tiny_fragment",
            Self::TooDeep => "too_deep",
            Self::UnknownLink => "unknown_link",
        }
    }
}

/// Headers followed before a frame is given up: eight encapsulations of four headers each (link, tag, IP, tunnel), twice what
/// any network in use stacks. The bound is what keeps a frame of nothing but tags or tunnels cheap.
const MAX_HEADERS: usize = 32;

/// The innermost TCP segment of a frame, or why there is none.
///
/// Every frame ends as exactly one of the three, whatever its bytes. Checksums are not verified: senders leave them to the network
/// card. A frame that the snapshot length cut counts as far as its bytes go.
#[inline]
pub fn decode(frame: &Frame<'_>) -> Decoded {
    match plain(frame) {
        Some(segment) => Decoded::Tcp(segment),
        None => walk(frame),
    }
}

/// The plain path: Ethernet, IPv4 without options, no fragment offset, TCP. Nearly every frame of a flood is one, so they cost a
/// handful of branches; whatever is odd in the slightest is [`walk`]'s, which must come to the same segment (held by a test).
#[inline(always)]
pub fn plain(frame: &Frame<'_>) -> Option<Segment> {
    const ETHERNET: usize = 14;
    const IPV4: usize = 20;
    let header = frame.data.first_chunk::<{ ETHERNET + IPV4 + transport::HEADER }>()?;
    let (link, rest) = header.split_first_chunk::<ETHERNET>()?;
    let (ip, rest) = rest.split_first_chunk::<IPV4>()?;
    let tcp = rest.first_chunk::<{ transport::HEADER }>()?;
    let [0x45, _, l0, l1, _, _, f0, f1, ttl, protocol::TCP, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = *ip
    else {
        return None;
    };
    let total = usize::from(u16::from_be_bytes([l0, l1]));
    // An offset. A first fragment of this length holds the whole header, so it need not be told from a whole packet.
    let later_fragment = u16::from_be_bytes([f0, f1]) & 0x1fff != 0;
    if frame.link != LinkType::ETHERNET
        || link[12..] != [0x08, 0x00]
        || later_fragment
        || total < IPV4 + transport::HEADER
    {
        return None;
    }
    let src = IpAddr::V4(Ipv4Addr::new(s0, s1, s2, s3));
    let dst = IpAddr::V4(Ipv4Addr::new(d0, d1, d2, d3));
    Some(transport::segment(frame.ts, src, dst, ttl, tcp, total - IPV4))
}

/// Every other path: one header a turn, outermost first. Right for plain frames too, and slower.
#[inline(never)]
pub fn walk(frame: &Frame<'_>) -> Decoded {
    let mut step = link::first(frame);
    for _ in 0..MAX_HEADERS {
        step = match step {
            Ok(Next::Ethernet(layer)) => link::ethernet(layer),
            Ok(Next::Vlan(layer)) => link::vlan(layer),
            Ok(Next::Llc(layer)) => link::llc(layer),
            Ok(Next::Mpls(layer)) => link::mpls(layer),
            Ok(Next::Pppoe(layer)) => link::pppoe(layer),
            Ok(Next::Ppp(layer)) => link::ppp(layer),
            Ok(Next::Ip(layer)) => network::ip(layer),
            Ok(Next::Ipv4(layer)) => network::ipv4(layer),
            Ok(Next::Ipv6(layer)) => network::ipv6(layer),
            Ok(Next::Payload(packet)) => payload(frame, &packet),
            Ok(Next::Tcp(_) | Next::NotTcp(_)) | Err(_) => break,
        };
    }
    match step {
        Ok(Next::Tcp(segment)) => Decoded::Tcp(segment),
        Ok(Next::NotTcp(why)) => Decoded::NotTcp(why),
        Err(reason) => Decoded::Undecoded(reason),
        Ok(_) => Decoded::Undecoded(DecodeError::TooDeep),
    }
}

/// What an IP packet carries: TCP, another packet, a header in between, or nothing for us.
#[inline]
fn payload<'a>(frame: &Frame<'_>, packet: &Packet<'a>) -> Step<'a> {
    match packet.protocol {
        protocol::TCP => transport::tcp(frame.ts, packet).map(Next::Tcp),
        protocol::UDP => tunnel::udp(packet),
        protocol::IPV4 => Ok(Next::Ipv4(packet.payload)),
        protocol::IPV6 => Ok(Next::Ipv6(packet.payload)),
        protocol::GRE => tunnel::gre(packet.payload),
        _ => network::extension(packet).unwrap_or(OTHER),
    }
}

#[cfg(test)]
mod corpus_tests;
#[cfg(test)]
mod tests;
