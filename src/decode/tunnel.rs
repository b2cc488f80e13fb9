//! Stage 2 of 5, decode: what an IP packet carries besides TCP itself, where that can be another packet.
//!
//! GRE is named by the IP header. The tunnels on UDP are named by a port only, which anyone may use: each must look like itself
//! in every field that is fixed, or the packet is plain UDP and not TCP. That is never an error.

use super::DecodeError::{self, TruncatedNetwork};
use super::layer::{Layer, Next, OTHER, Packet, Step};
use super::{link, network};

/// Ethertypes that GRE gives a meaning of its own.
mod gre_type {
    /// ERSPAN I and II.
    pub(super) const ERSPAN: u16 = 0x88be;
    /// ERSPAN III.
    pub(super) const ERSPAN_III: u16 = 0x22eb;
    /// PPP in the enhanced header of PPTP.
    pub(super) const PPP: u16 = 0x880b;
}

/// GRE: version 0 with checksum, key and sequence number (RFC 2784, RFC 2890), version 1 as PPTP has it (RFC 2637).
pub(super) fn gre(layer: Layer<'_>) -> Step<'_> {
    const CHECKSUM: u16 = 0x8000;
    const ROUTING: u16 = 0x4000;
    const KEY: u16 = 0x2000;
    const SEQUENCE: u16 = 0x1000;
    const ACKNOWLEDGEMENT: u16 = 0x0080;
    let ([f0, f1, p0, p1], rest) = layer.split::<4>().ok_or(TruncatedNetwork)?;
    let (flags, protocol) = (u16::from_be_bytes([*f0, *f1]), u16::from_be_bytes([*p0, *p1]));
    let word = |flag: u16| if flags & flag != 0 { 4 } else { 0 };
    match flags & 0x0007 {
        // Source routes are of the past, and a receiver of RFC 2784 drops them (section 2.3).
        0 if flags & ROUTING != 0 => OTHER,
        0 => {
            let optional = word(CHECKSUM) + word(KEY) + word(SEQUENCE);
            let inner = rest.skip(optional).ok_or(TruncatedNetwork)?;
            match protocol {
                // Type I has no header of its own, and no sequence number by which to know it.
                gre_type::ERSPAN if flags & SEQUENCE == 0 => Ok(Next::Ethernet(inner)),
                gre_type::ERSPAN | gre_type::ERSPAN_III => erspan(inner),
                // Below this, keepalives (0) and lengths, which GRE does not have.
                low if low < 0x0600 => OTHER,
                ethertype => Ok(link::typed(ethertype, inner)),
            }
        }
        // Without a sequence number there is no payload, only an acknowledgement (RFC 2637 section 4.1).
        1 if protocol == gre_type::PPP && flags & SEQUENCE != 0 => {
            let inner = rest.skip(8 + word(ACKNOWLEDGEMENT)).ok_or(TruncatedNetwork)?;
            let length = rest.be16(0).map_or(inner.wire, usize::from);
            Ok(Next::Ppp(inner.declared(length.min(inner.wire))))
        }
        _ => OTHER,
    }
}

/// ERSPAN II (8 bytes, version 1) and III (12 bytes, version 2, with 8 more where the O bit is set), as in
/// draft-foschiano-erspan sections 4.2 and 4.3.
fn erspan(layer: Layer<'_>) -> Step<'_> {
    match layer.nibble().ok_or(TruncatedNetwork)? {
        1 => Ok(Next::Ethernet(layer.skip(8).ok_or(TruncatedNetwork)?)),
        2 => {
            let (header, rest) = layer.split::<12>().ok_or(TruncatedNetwork)?;
            let platform = if header[11] & 0x01 != 0 { 8 } else { 0 };
            let inner = rest.skip(platform).ok_or(TruncatedNetwork)?;
            // The frame type: 0 is Ethernet, 2 an IP packet.
            match header[10] >> 2 & 0x1f {
                0 => Ok(Next::Ethernet(inner)),
                2 => Ok(Next::Ip(inner)),
                _ => OTHER,
            }
        }
        _ => OTHER,
    }
}

/// Reads one tunnel header; none where the bytes are not that tunnel's.
type Tunnel = for<'a> fn(Layer<'a>) -> Option<Step<'a>>;

/// UDP (RFC 768), and the tunnels that the IANA registry gives a port.
pub(super) fn udp<'a>(packet: &Packet<'a>) -> Step<'a> {
    const VXLAN: u16 = 4789;
    /// Linux had VXLAN here before the registry had it, and still has by default.
    const VXLAN_LINUX: u16 = 8472;
    const GENEVE: u16 = 6081;
    const GTP_U: u16 = 2152;
    const TEREDO: u16 = 3544;
    let Some(([s0, s1, d0, d1, l0, l1, _, _], rest)) = packet.payload.split::<8>() else {
        return OTHER;
    };
    let (src, dst) = (u16::from_be_bytes([*s0, *s1]), u16::from_be_bytes([*d0, *d1]));
    // VXLAN and Geneve senders take any source port (RFC 7348 section 5, RFC 8926 section 3.3); GTP-U and Teredo answer from theirs.
    let tunnel: Tunnel = match (src, dst) {
        (_, VXLAN | VXLAN_LINUX) => vxlan,
        (_, GENEVE) => geneve,
        (_, GTP_U) | (GTP_U, _) => gtp_u,
        (_, TEREDO) | (TEREDO, _) => teredo,
        _ => return OTHER,
    };
    let inner = match usize::from(u16::from_be_bytes([*l0, *l1])) {
        // Segmentation left to the network card.
        0 => rest,
        // In a first fragment the length is that of the whole datagram, and the bytes end before it.
        length if packet.first_fragment => rest.declared(length.saturating_sub(8)),
        length => rest.declared(length.saturating_sub(8).min(rest.wire)),
    };
    tunnel(inner).unwrap_or(OTHER)
}

/// VXLAN (RFC 7348 section 5): the I flag alone, or with the group policy extension; reserved bytes zero.
fn vxlan(layer: Layer<'_>) -> Option<Step<'_>> {
    let (header, inner) = layer.split::<8>()?;
    let well_formed = matches!(header, [0x08, 0, 0, 0, _, _, _, 0] | [0x88, _, _, _, _, _, _, 0]);
    (well_formed && inner.wire >= 14).then_some(Ok(Next::Ethernet(inner)))
}

/// Geneve (RFC 8926 section 3.4): version 0, not a control packet, reserved bits zero, options, then an ethertype.
fn geneve(layer: Layer<'_>) -> Option<Step<'_>> {
    let ([version_and_length, flags, p0, p1, _, _, _, reserved], rest) = layer.split::<8>()?;
    const CRITICAL: u8 = 0x40;
    if version_and_length & 0xc0 != 0 || flags & !CRITICAL != 0 || *reserved != 0 {
        return None;
    }
    let options = usize::from(version_and_length & 0x3f) * 4;
    if rest.wire < options {
        return None;
    }
    let Some(inner) = rest.skip(options) else { return Some(Err(TruncatedNetwork)) };
    match u16::from_be_bytes([*p0, *p1]) {
        0x0800 | 0x86dd => plain_ip(inner),
        0x6558 if inner.wire >= 14 => Some(Ok(Next::Ethernet(inner))),
        _ => None,
    }
}

/// GTP-U (3GPP TS 29.281 section 5): version 1, a T-PDU, a length that fits; optional fields, extension headers.
fn gtp_u(layer: Layer<'_>) -> Option<Step<'_>> {
    const OPTIONAL: u8 = 0x07;
    const EXTENSION: u8 = 0x04;
    const T_PDU: u8 = 255;
    let ([flags, message, l0, l1, ..], rest) = layer.split::<8>()?;
    let length = usize::from(u16::from_be_bytes([*l0, *l1]));
    // Version 1, protocol type GTP, and the spare bit that senders leave clear.
    if flags & 0xf8 != 0x30 || *message != T_PDU || length > rest.wire {
        return None;
    }
    let inner = rest.declared(length);
    if flags & OPTIONAL == 0 {
        return plain_ip(inner);
    }
    let Some(([_, _, _, extension], rest)) = inner.split::<4>() else {
        return (inner.wire >= 4).then_some(Err(TruncatedNetwork));
    };
    match gtp_u_extensions(if flags & EXTENSION != 0 { *extension } else { 0 }, rest)? {
        Ok(inner) => plain_ip(inner),
        Err(reason) => Some(Err(reason)),
    }
}

/// What lies behind the extension headers: each has its length in words of 4 bytes, contents, and the type of the next as its
/// last byte (TS 29.281 section 5.2.1).
fn gtp_u_extensions(mut next: u8, mut rest: Layer<'_>) -> Option<Result<Layer<'_>, DecodeError>> {
    /// More than any 3GPP release defines for one packet.
    const MAX_EXTENSIONS: usize = 8;
    for _ in 0..MAX_EXTENSIONS {
        if next == 0 {
            break;
        }
        let size = match rest.bytes.first() {
            Some(words) => usize::from(*words) * 4,
            None => return (rest.wire > 0).then_some(Err(TruncatedNetwork)),
        };
        if size == 0 || size > rest.wire {
            return None;
        }
        let Some(behind) = rest.skip(size) else { return Some(Err(TruncatedNetwork)) };
        next = rest.bytes.get(size - 1).copied()?;
        rest = behind;
    }
    (next == 0).then_some(Ok(rest))
}

/// Teredo (RFC 4380 sections 5.1.1 and 5.2): authentication and origin indication may come first, then exactly one IPv6
/// packet, one end of which has an address of 2001::/32.
fn teredo(layer: Layer<'_>) -> Option<Step<'_>> {
    let mut layer = layer;
    if let Some(([0, 1, client, authentication], rest)) = layer.split::<4>() {
        // Client identifier, authentication value, nonce (8), confirmation (1).
        layer = rest.skip(usize::from(*client) + usize::from(*authentication) + 9)?;
    }
    if let Some(([0, 0, _, _, _, _, _, _], rest)) = layer.split::<8>() {
        layer = rest;
    }
    let (header, _) = layer.split::<40>()?;
    let declared = 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
    let teredo_address = header[8..12] == [0x20, 0x01, 0, 0] || header[24..28] == [0x20, 0x01, 0, 0];
    (layer.nibble() == Some(6) && declared == layer.wire && teredo_address).then_some(Ok(Next::Ipv6(layer)))
}

/// An IP packet behind a header that does not prove itself: only where its lengths fit.
fn plain_ip(layer: Layer<'_>) -> Option<Step<'_>> {
    if layer.wire < 20 {
        return None;
    }
    match layer.bytes.len() {
        // Too little was captured to see the lengths.
        0..=5 if layer.bytes.len() < layer.wire => Some(Err(TruncatedNetwork)),
        _ => network::fits(layer).then_some(Ok(Next::Ip(layer))),
    }
}
