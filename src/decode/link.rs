//! Stage 2 of 5, decode: from the first byte of a frame to an IP packet. Link headers, tags, labels.
//!
//! Knows link layers only; what an IP packet carries is not its business.

use super::DecodeError::{TruncatedLink, UnknownLink};
use super::layer::{Layer, Next, OTHER, Step};
use crate::capture::{Frame, LinkType};

/// Ethertypes (IEEE registry) that lead to an IP packet.
mod ethertype {
    pub(super) const IPV4: u16 = 0x0800;
    pub(super) const IPV6: u16 = 0x86dd;
    /// 802.1Q, 802.1ad, and what QinQ was before 802.1ad.
    pub(super) const VLAN: u16 = 0x8100;
    pub(super) const VLAN_SERVICE: u16 = 0x88a8;
    pub(super) const VLAN_OLD_QINQ: u16 = 0x9100;
    pub(super) const MPLS: u16 = 0x8847;
    pub(super) const MPLS_MULTICAST: u16 = 0x8848;
    pub(super) const PPPOE_SESSION: u16 = 0x8864;
    /// PPP as GRE carries it (RFC 2637).
    pub(super) const PPP: u16 = 0x880b;
    /// Transparent Ethernet Bridging (RFC 1701).
    pub(super) const BRIDGED_ETHERNET: u16 = 0x6558;
    /// Provider backbone bridges (802.1ah).
    pub(super) const PBB: u16 = 0x88e7;
    /// Cisco FabricPath.
    pub(super) const FABRIC_PATH: u16 = 0x8903;
    /// Up to here the field is a length, and LLC follows (IEEE 802.3 clause 3.2.6).
    pub(super) const MAX_LENGTH: u16 = 1500;
}

/// The first header of a frame, by the link type of its source.
pub(super) fn first<'a>(frame: &Frame<'a>) -> Step<'a> {
    let wire = usize::try_from(frame.orig_len).unwrap_or(usize::MAX).max(frame.data.len());
    let all = Layer { bytes: frame.data, wire };
    match frame.link {
        LinkType::ETHERNET => Ok(Next::Ethernet(all)),
        LinkType::RAW => Ok(Next::Ip(all)),
        LinkType::IPV4 => Ok(Next::Ipv4(all)),
        LinkType::IPV6 => Ok(Next::Ipv6(all)),
        LinkType::LINUX_SLL => cooked(all),
        LinkType::LINUX_SLL2 => cooked_v2(all),
        LinkType::NULL | LinkType::LOOP => loopback(all),
        LinkType::PPP => Ok(Next::Ppp(all)),
        LinkType::PPP_HDLC => ppp_hdlc(all),
        LinkType::PPP_ETHER => Ok(Next::Pppoe(all)),
        LinkType::C_HDLC => cisco_hdlc(all),
        _ => Err(UnknownLink),
    }
}

/// Ethernet II and 802.3: two addresses and a type or length.
pub(super) fn ethernet(layer: Layer<'_>) -> Step<'_> {
    let (header, rest) = layer.split::<14>().ok_or(TruncatedLink)?;
    Ok(typed(u16::from_be_bytes([header[12], header[13]]), rest))
}

/// A VLAN tag: two bytes of control information, then the type of what it tags (802.1Q clause 9.6).
pub(super) fn vlan(layer: Layer<'_>) -> Step<'_> {
    let ([_, _, high, low], rest) = layer.split::<4>().ok_or(TruncatedLink)?;
    Ok(typed(u16::from_be_bytes([*high, *low]), rest))
}

/// What a type or length field announces.
#[inline]
pub(super) fn typed(ethertype: u16, rest: Layer<'_>) -> Next<'_> {
    match ethertype {
        ethertype::IPV4 => Next::Ipv4(rest),
        ethertype::IPV6 => Next::Ipv6(rest),
        ethertype::VLAN | ethertype::VLAN_SERVICE | ethertype::VLAN_OLD_QINQ => Next::Vlan(rest),
        length if length <= ethertype::MAX_LENGTH => {
            Next::Llc(rest.declared(usize::from(length).min(rest.wire)))
        }
        other => typed_rare(other, rest),
    }
}

#[inline(never)]
fn typed_rare(ethertype: u16, rest: Layer<'_>) -> Next<'_> {
    // The inner frame's position behind a backbone tag: priorities and I-SID take 4 bytes (802.1ah clause 9.8); behind a
    // FabricPath tag, the forwarding tag and TTL take 2.
    let inner_at = match ethertype {
        ethertype::MPLS | ethertype::MPLS_MULTICAST => return Next::Mpls(rest),
        ethertype::PPPOE_SESSION => return Next::Pppoe(rest),
        ethertype::PPP => return Next::Ppp(rest),
        ethertype::BRIDGED_ETHERNET => 0,
        ethertype::PBB => 4,
        ethertype::FABRIC_PATH => 2,
        _ => return Next::NotTcp(super::NotTcp::Other),
    };
    // Cut inside the tag: the Ethernet header behind it is missing too, and says so.
    Next::Ethernet(rest.skip(inner_at).unwrap_or(Layer { bytes: &[], wire: 0 }))
}

/// LLC, and SNAP where it follows (IEEE 802.2; RFC 1042).
pub(super) fn llc(layer: Layer<'_>) -> Step<'_> {
    const SNAP: [u8; 3] = [0xaa, 0xaa, 0x03];
    const IP: [u8; 3] = [0x06, 0x06, 0x03];
    let (header, rest) = layer.split::<3>().ok_or(TruncatedLink)?;
    match *header {
        IP => Ok(Next::Ipv4(rest)),
        SNAP => {
            let (snap, rest) = rest.split::<5>().ok_or(TruncatedLink)?;
            match *snap {
                // The OUI of encapsulated Ethernet, and the one of bridge tunnels (802.1H).
                [0, 0, 0, high, low] | [0, 0, 0xf8, high, low] => {
                    match u16::from_be_bytes([high, low]) {
                        // A length would announce LLC again, which SNAP cannot carry.
                        length if length <= ethertype::MAX_LENGTH => OTHER,
                        ethertype => Ok(typed(ethertype, rest)),
                    }
                }
                _ => OTHER,
            }
        }
        _ => OTHER,
    }
}

/// One MPLS label (RFC 3032 section 2.1): label, traffic class, bottom of stack, TTL.
pub(super) fn mpls(layer: Layer<'_>) -> Step<'_> {
    let (label, rest) = layer.split::<4>().ok_or(TruncatedLink)?;
    if label[2] & 0x01 == 0 { Ok(Next::Mpls(rest)) } else { below_labels(rest) }
}

/// What lies below the last label. Nothing says what it is: the first nibble is the custom (RFC 4928 section 3), 0 marks a
/// control word (RFC 4385 section 3), 1 an associated channel (RFC 5586), and an Ethernet pseudowire without control word
/// may begin with any (RFC 4448 section 4.6), so where an address could be taken for a nibble the ethertypes decide.
fn below_labels(rest: Layer<'_>) -> Step<'_> {
    let nibble = rest.nibble().ok_or(TruncatedLink)?;
    let inner = rest.skip(4).filter(|_| nibble == 0);
    match nibble {
        4 | 6 if super::network::fits(rest) || !is_ethernet(rest) => Ok(Next::Ip(rest)),
        1 if !is_ethernet(rest) => OTHER,
        _ => match inner {
            Some(frame) if is_ethernet(frame) => Ok(Next::Ethernet(frame)),
            // With the whole word zero and no known type in either place, an 802.3 frame behind a control word.
            Some(frame) if !is_ethernet(rest) && rest.be16(0) == Some(0) => Ok(Next::Ethernet(frame)),
            _ => Ok(Next::Ethernet(rest)),
        },
    }
}

/// Whether an Ethernet header of a common type may begin here.
fn is_ethernet(layer: Layer<'_>) -> bool {
    const ARP: u16 = 0x0806;
    const LLDP: u16 = 0x88cc;
    const SLOW_PROTOCOLS: u16 = 0x8809;
    const LOOPBACK: u16 = 0x9000;
    const PPPOE_DISCOVERY: u16 = 0x8863;
    layer.be16(12).is_some_and(|ethertype| {
        matches!(ethertype, ARP | LLDP | SLOW_PROTOCOLS | LOOPBACK | PPPOE_DISCOVERY)
            || (ethertype > ethertype::MAX_LENGTH && !matches!(typed(ethertype, layer), Next::NotTcp(_)))
    })
}

/// The PPPoE session header (RFC 2516 section 4): version and type 1, code 0, session, length.
pub(super) fn pppoe(layer: Layer<'_>) -> Step<'_> {
    let (header, rest) = layer.split::<6>().ok_or(TruncatedLink)?;
    match *header {
        [0x11, 0x00, _, _, high, low] => {
            let length = usize::from(u16::from_be_bytes([high, low]));
            Ok(Next::Ppp(rest.declared(length.min(rest.wire))))
        }
        _ => OTHER,
    }
}

/// PPP (RFC 1661): the address and control bytes ff 03 may be compressed away, and the protocol to one byte, which is then
/// odd (RFC 1661 sections 6.5 and 6.6).
pub(super) fn ppp(layer: Layer<'_>) -> Step<'_> {
    const IPV4: u16 = 0x0021;
    const IPV6: u16 = 0x0057;
    const MPLS: u16 = 0x0281;
    const MPLS_MULTICAST: u16 = 0x0283;
    let layer = match layer.bytes {
        [0xff, 0x03, ..] => layer.skip(2).ok_or(TruncatedLink)?,
        [0xff] => return Err(TruncatedLink),
        _ => layer,
    };
    let (protocol, rest) = match layer.split::<1>() {
        Some(([low], rest)) if low & 1 == 1 => (u16::from(*low), rest),
        _ => {
            let (protocol, rest) = layer.split::<2>().ok_or(TruncatedLink)?;
            (u16::from_be_bytes(*protocol), rest)
        }
    };
    match protocol {
        IPV4 => Ok(Next::Ipv4(rest)),
        IPV6 => Ok(Next::Ipv6(rest)),
        MPLS | MPLS_MULTICAST => Ok(Next::Mpls(rest)),
        _ => OTHER,
    }
}

/// PPP in HDLC-like framing (RFC 1662), or Cisco's, told by the first byte (LINKTYPE_PPP_HDLC).
fn ppp_hdlc(layer: Layer<'_>) -> Step<'_> {
    match layer.bytes {
        [0x0f | 0x8f, ..] => cisco_hdlc(layer),
        _ => Ok(Next::Ppp(layer)),
    }
}

/// Cisco HDLC (RFC 1547 section 4.3.1): address, control, and an ethertype.
fn cisco_hdlc(layer: Layer<'_>) -> Step<'_> {
    let ([_, _, high, low], rest) = layer.split::<4>().ok_or(TruncatedLink)?;
    match u16::from_be_bytes([*high, *low]) {
        length if length <= ethertype::MAX_LENGTH => OTHER,
        ethertype => Ok(typed(ethertype, rest)),
    }
}

/// BSD loopback: the protocol family as the host numbers it. NULL has it in the capturing host's byte order, LOOP in network
/// order; families are small, so the order shows.
fn loopback(layer: Layer<'_>) -> Step<'_> {
    let (family, rest) = layer.split::<4>().ok_or(TruncatedLink)?;
    let (big, little) = (u32::from_be_bytes(*family), u32::from_le_bytes(*family));
    match big.min(little) {
        2 => Ok(Next::Ipv4(rest)),
        // IPv6 on Linux; NetBSD and OpenBSD; FreeBSD; Darwin.
        10 | 24 | 28 | 30 => Ok(Next::Ipv6(rest)),
        _ => OTHER,
    }
}

/// Linux cooked capture (LINKTYPE_LINUX_SLL): packet type, ARPHRD type, address length, address, protocol.
fn cooked(layer: Layer<'_>) -> Step<'_> {
    let (header, rest) = layer.split::<16>().ok_or(TruncatedLink)?;
    Ok(cooked_protocol(
        u16::from_be_bytes([header[2], header[3]]),
        u16::from_be_bytes([header[14], header[15]]),
        rest,
    ))
}

/// Linux cooked capture v2 (LINKTYPE_LINUX_SLL2): protocol, reserved, interface, ARPHRD type, packet type, address.
fn cooked_v2(layer: Layer<'_>) -> Step<'_> {
    let (header, rest) = layer.split::<20>().ok_or(TruncatedLink)?;
    Ok(cooked_protocol(
        u16::from_be_bytes([header[8], header[9]]),
        u16::from_be_bytes([header[0], header[1]]),
        rest,
    ))
}

fn cooked_protocol(arphrd: u16, protocol: u16, rest: Layer<'_>) -> Next<'_> {
    /// The kernel's ETH_P_802_2: an 802.2 header follows; other values this low are not lengths either.
    const LLC: u16 = 0x0004;
    match (arphrd, protocol) {
        // Frame relay, 802.11 with and without radiotap, netlink: the protocol field means something else.
        (770 | 801..=803 | 824, _) => Next::NotTcp(super::NotTcp::Other),
        (_, LLC) => Next::Llc(rest),
        (_, low) if low <= ethertype::MAX_LENGTH => Next::NotTcp(super::NotTcp::Other),
        (_, ethertype) => typed(ethertype, rest),
    }
}
