//! Stage 2 of 5, decode: IPv4, IPv6 and its extension headers, fragments.
//!
//! pnet's views clamp lengths silently, so every length is checked here before one is used.

use super::DecodeError::{BadHeaderLength, BadTotalLength, BadVersion, TruncatedNetwork};
use super::NotTcp;
use super::layer::{Layer, Next, Packet, Step};
use pnet_packet::ipv4::{Ipv4Flags, Ipv4Packet};
use pnet_packet::ipv6::Ipv6Packet;
use std::net::IpAddr;

/// Protocol numbers (IANA registry) that are followed.
pub(super) mod protocol {
    /// IPv6 hop-by-hop options (RFC 8200 section 4.3).
    pub(in crate::decode) const HOP_BY_HOP: u8 = 0;
    /// IPv4 in IP (RFC 2003).
    pub(in crate::decode) const IPV4: u8 = 4;
    /// TCP.
    pub(in crate::decode) const TCP: u8 = 6;
    /// UDP, for the tunnels on it.
    pub(in crate::decode) const UDP: u8 = 17;
    /// IPv6 in IP (RFC 4213).
    pub(in crate::decode) const IPV6: u8 = 41;
    /// IPv6 routing header (RFC 8200 section 4.4).
    pub(in crate::decode) const ROUTING: u8 = 43;
    /// IPv6 fragment header (RFC 8200 section 4.5).
    pub(in crate::decode) const FRAGMENT: u8 = 44;
    /// GRE (RFC 2784).
    pub(in crate::decode) const GRE: u8 = 47;
    /// Authentication header (RFC 4302).
    pub(in crate::decode) const AUTHENTICATION: u8 = 51;
    /// IPv6 destination options (RFC 8200 section 4.6).
    pub(in crate::decode) const DESTINATION_OPTIONS: u8 = 60;
    /// IPv6 mobility header (RFC 6275).
    pub(in crate::decode) const MOBILITY: u8 = 135;
    /// Host identity protocol (RFC 7401).
    pub(in crate::decode) const HIP: u8 = 139;
    /// Shim6 (RFC 5533).
    pub(in crate::decode) const SHIM6: u8 = 140;
}

/// An IP packet where the layer below does not say which version.
pub(super) fn ip(layer: Layer<'_>) -> Step<'_> {
    match layer.nibble().ok_or(TruncatedNetwork)? {
        4 => ipv4(layer),
        6 => ipv6(layer),
        _ => Err(BadVersion),
    }
}

/// Whether a whole IP packet with possible lengths may begin here; for places where no field says that one does.
pub(super) fn fits(layer: Layer<'_>) -> bool {
    match (layer.nibble(), layer.bytes) {
        (Some(4), [first, _, high, low, ..]) => {
            let (header, total) =
                (usize::from(first & 0x0f) * 4, usize::from(u16::from_be_bytes([*high, *low])));
            header >= 20 && total >= header && total <= layer.wire
        }
        (Some(6), [_, _, _, _, high, low, ..]) => {
            40 + usize::from(u16::from_be_bytes([*high, *low])) <= layer.wire
        }
        _ => false,
    }
}

/// IPv4 with its options (RFC 791 section 3.1).
pub(super) fn ipv4(layer: Layer<'_>) -> Step<'_> {
    let view = Ipv4Packet::new(layer.bytes).ok_or(TruncatedNetwork)?;
    if view.get_version() != 4 {
        return Err(BadVersion);
    }
    let header = usize::from(view.get_header_length()) * 4;
    let total = match usize::from(view.get_total_length()) {
        // Segmentation was left to the network card when this was captured: the frame knows the length.
        0 => layer.wire,
        total => total,
    };
    if total < 20 {
        return Err(BadTotalLength);
    }
    if header < 20 || header > total {
        return Err(BadHeaderLength);
    }
    let protocol = view.get_next_level_protocol().0;
    if view.get_fragment_offset() != 0 {
        return Ok(Next::NotTcp(later_fragment(protocol, false)));
    }
    Ok(Next::Payload(Packet {
        src: IpAddr::V4(view.get_source()),
        dst: IpAddr::V4(view.get_destination()),
        ttl: view.get_ttl(),
        protocol,
        first_fragment: view.get_flags() & Ipv4Flags::MoreFragments != 0,
        payload: layer.skip(header).ok_or(TruncatedNetwork)?.declared(total - header),
    }))
}

/// The IPv6 header (RFC 8200 section 3).
pub(super) fn ipv6(layer: Layer<'_>) -> Step<'_> {
    let view = Ipv6Packet::new(layer.bytes).ok_or(TruncatedNetwork)?;
    if view.get_version() != 6 {
        return Err(BadVersion);
    }
    let rest = layer.skip(40).ok_or(TruncatedNetwork)?;
    let payload = match usize::from(view.get_payload_length()) {
        // A jumbogram (RFC 2675 section 3), or segmentation left to the network card: the frame knows the length.
        0 => rest.wire,
        length => length,
    };
    Ok(Next::Payload(Packet {
        src: IpAddr::V6(view.get_source()),
        dst: IpAddr::V6(view.get_destination()),
        ttl: view.get_hop_limit(),
        protocol: view.get_next_header().0,
        first_fragment: false,
        payload: rest.declared(payload),
    }))
}

/// One header between the IP header and what the packet carries; none where there is no such header here.
///
/// IPv4 has the authentication header only.
pub(super) fn extension<'a>(packet: &Packet<'a>) -> Option<Step<'a>> {
    match packet.protocol {
        protocol::AUTHENTICATION => {}
        protocol::HOP_BY_HOP
        | protocol::ROUTING
        | protocol::DESTINATION_OPTIONS
        | protocol::FRAGMENT
        | protocol::MOBILITY
        | protocol::HIP
        | protocol::SHIM6
            if packet.src.is_ipv6() => {}
        _ => return None,
    }
    Some(read_extension(packet))
}

#[inline(never)]
fn read_extension<'a>(packet: &Packet<'a>) -> Step<'a> {
    let layer = packet.payload;
    let (header, _) = layer.split::<8>().ok_or(TruncatedNetwork)?;
    let [next, length, ..] = *header;
    let mut inner = Packet { protocol: next, ..*packet };
    let size = match packet.protocol {
        protocol::FRAGMENT => {
            let offset_and_more = u16::from_be_bytes([header[2], header[3]]);
            if offset_and_more >> 3 != 0 {
                return Ok(Next::NotTcp(later_fragment(next, true)));
            }
            // Neither an offset nor more to come: an atomic fragment, a whole packet (RFC 6946).
            inner.first_fragment |= offset_and_more & 1 != 0;
            8
        }
        // In words of 4 bytes, less 2 (RFC 4302 section 2.2).
        protocol::AUTHENTICATION => (usize::from(length) + 2) * 4,
        // In words of 8 bytes, less 1 (RFC 8200 section 4.2).
        _ => (usize::from(length) + 1) * 8,
    };
    inner.payload = layer.skip(size).ok_or(TruncatedNetwork)?;
    Ok(Next::Payload(inner))
}

/// What a fragment with an offset is: no header of the packet is in it. The fragment header of IPv6 names the first header of
/// the fragmented part, and behind options that may still be TCP.
fn later_fragment(protocol: u8, ipv6: bool) -> NotTcp {
    match protocol {
        protocol::TCP | protocol::AUTHENTICATION => NotTcp::LaterFragment,
        protocol::DESTINATION_OPTIONS | protocol::ROUTING if ipv6 => NotTcp::LaterFragment,
        _ => NotTcp::Other,
    }
}
