//! Frames built by hand, header by header, each with the document that defines it.

use super::segment::{Endpoint, Segment, SegmentKind, SeqNumber, TcpFlags};
use super::{DecodeError, Decoded, MAX_HEADERS, NotTcp, decode, plain, walk};
use crate::capture::{Frame, LinkType};
use crate::time::Timestamp;
use proptest::prelude::*;
use std::net::IpAddr;

const TS: Timestamp = Timestamp::from_parts(1_750_000_000, 1);

/// A SYN from port 40000 to 443 with a maximum segment size of 1460 (RFC 9293 section 3.1 and 3.2).
const TCP: [u8; 24] = [
    0x9c, 0x40, 0x01, 0xbb, // ports
    0xde, 0xad, 0xbe, 0xef, // sequence number
    0x00, 0x00, 0x00, 0x00, // acknowledgement number
    0x60, 0x02, 0xfa, 0xf0, // data offset 6, SYN, window 64240
    0x00, 0x00, 0x00, 0x00, // checksum, left to the card; urgent pointer
    0x02, 0x04, 0x05, 0xb4, // kind 2, length 4, 1460
];

/// Two addresses and the type of what follows (IEEE 802.3 clause 3).
fn ethernet(ethertype: u16, inner: &[u8]) -> Vec<u8> {
    cat(&[&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1], &ethertype.to_be_bytes(), inner])
}

fn cat(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn len16(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap().to_be_bytes()
}

/// RFC 791 section 3.1, from 192.0.2.1 to 198.51.100.2, TTL 64, do not fragment.
fn ipv4(protocol: u8, inner: &[u8]) -> Vec<u8> {
    let [t0, t1] = len16(20 + inner.len());
    let header = [0x45, 0, t0, t1, 0, 0, 0x40, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 198, 51, 100, 2];
    cat(&[&header, inner])
}

/// RFC 8200 section 3, from 2001:db8::1 to 2001:db8::2, hop limit 64.
fn ipv6(next: u8, inner: &[u8]) -> Vec<u8> {
    let [p0, p1] = len16(inner.len());
    let mut header = [0; 40];
    header[..8].copy_from_slice(&[0x60, 0, 0, 0, p0, p1, next, 64]);
    header[8..24].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    header[24..].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    cat(&[&header, inner])
}

/// RFC 768.
fn udp(src: u16, dst: u16, inner: &[u8]) -> Vec<u8> {
    cat(&[&src.to_be_bytes(), &dst.to_be_bytes(), &len16(8 + inner.len()), &[0, 0], inner])
}

fn syn4() -> Vec<u8> {
    ipv4(6, &TCP)
}

fn syn6() -> Vec<u8> {
    ipv6(6, &TCP)
}

fn eth4() -> Vec<u8> {
    ethernet(0x0800, &syn4())
}

/// An IPv4 packet in Ethernet.
fn on_ethernet(protocol: u8, inner: &[u8]) -> Vec<u8> {
    ethernet(0x0800, &ipv4(protocol, inner))
}

/// GTP-U with its length (3GPP TS 29.281 section 5.1), in UDP, IPv4, Ethernet.
fn gtp_u(flags: u8, message: u8, inner: &[u8]) -> Vec<u8> {
    let gtp = cat(&[&[flags, message], &len16(inner.len()), &[0, 0, 0, 7], inner]);
    on_ethernet(17, &udp(2152, 2152, &gtp))
}

/// An IPv6 packet between Teredo addresses (RFC 4380 section 4).
fn teredo_packet() -> Vec<u8> {
    let mut packet = syn6();
    packet[8..16].copy_from_slice(&[0x20, 0x01, 0, 0, 192, 0, 2, 1]);
    packet
}

fn frame(link: LinkType, data: &[u8]) -> Frame<'_> {
    Frame { ts: TS, link, orig_len: u32::try_from(data.len()).unwrap(), data }
}

/// What every frame below carries.
fn expected(v6: bool) -> Segment {
    let (src, dst): (IpAddr, IpAddr) = if v6 {
        ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap())
    } else {
        ("192.0.2.1".parse().unwrap(), "198.51.100.2".parse().unwrap())
    };
    Segment {
        ts: TS,
        src: Endpoint::new(src, 40000),
        dst: Endpoint::new(dst, 443),
        seq: SeqNumber(0xdead_beef),
        ack: SeqNumber(0),
        flags: TcpFlags(TcpFlags::SYN),
        kind: SegmentKind::Syn,
        payload_len: 0,
        window: 64240,
        ttl: 64,
        options_len: 4,
    }
}

/// Each way to carry the SYN: what it is, link type, frame, whether the innermost packet is IPv6.
fn encapsulations() -> Vec<(&'static str, LinkType, Vec<u8>, bool)> {
    let mut all = links();
    all.extend(labels_and_sessions());
    all.extend(packets());
    all.extend(gre());
    all.extend(udp_tunnels());
    all
}

fn links() -> Vec<(&'static str, LinkType, Vec<u8>, bool)> {
    let eth = LinkType::ETHERNET;
    let [snap_length_0, snap_length_1] = len16(8 + syn4().len());
    vec![
        ("Ethernet, IPv4", eth, eth4(), false),
        ("Ethernet, IPv6", eth, ethernet(0x86dd, &syn6()), true),
        ("802.1Q clause 9.6", eth, ethernet(0x8100, &cat(&[&[0, 42, 8, 0], &syn4()])), false),
        (
            "802.1ad service tag",
            eth,
            ethernet(0x88a8, &cat(&[&[0, 1, 0x81, 0, 0, 42, 8, 0], &syn4()])),
            false,
        ),
        (
            "QinQ before 802.1ad",
            eth,
            ethernet(0x9100, &cat(&[&[0, 1, 0x81, 0, 0, 42, 8, 0], &syn4()])),
            false,
        ),
        (
            "802.1ah clause 9.8, backbone tag in a VLAN",
            eth,
            ethernet(0x8100, &cat(&[&[0, 1, 0x88, 0xe7, 0, 0, 0, 9], &eth4()])),
            false,
        ),
        ("FabricPath: forwarding tag and TTL", eth, ethernet(0x8903, &cat(&[&[0, 0x60], &eth4()])), false),
        (
            "RFC 1042, SNAP in 802.3",
            eth,
            cat(&[
                &[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, snap_length_0, snap_length_1],
                &[0xaa, 0xaa, 0x03, 0, 0, 0, 0x08, 0x00],
                &syn4(),
            ]),
            false,
        ),
        ("raw IPv4", LinkType::RAW, syn4(), false),
        ("raw IPv6", LinkType::RAW, syn6(), true),
        ("LINKTYPE_IPV4", LinkType::IPV4, syn4(), false),
        ("LINKTYPE_IPV6", LinkType::IPV6, syn6(), true),
        ("NULL, little endian", LinkType::NULL, cat(&[&[2, 0, 0, 0], &syn4()]), false),
        ("NULL, big endian", LinkType::NULL, cat(&[&[0, 0, 0, 2], &syn4()]), false),
        ("NULL, IPv6 on Darwin", LinkType::NULL, cat(&[&[30, 0, 0, 0], &syn6()]), true),
        ("NULL, IPv6 on FreeBSD", LinkType::NULL, cat(&[&[28, 0, 0, 0], &syn6()]), true),
        ("LOOP, IPv6 on OpenBSD", LinkType::LOOP, cat(&[&[0, 0, 0, 24], &syn6()]), true),
        (
            "LINKTYPE_LINUX_SLL",
            LinkType::LINUX_SLL,
            cat(&[&[0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 0x08, 0x00], &syn4()]),
            false,
        ),
        (
            "LINKTYPE_LINUX_SLL, VLAN",
            LinkType::LINUX_SLL,
            cat(&[&[0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 0x81, 0x00, 0, 42, 0x86, 0xdd], &syn6()]),
            true,
        ),
        (
            "LINKTYPE_LINUX_SLL, 802.2",
            LinkType::LINUX_SLL,
            cat(&[
                &[0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 0x00, 0x04],
                &[0xaa, 0xaa, 0x03, 0, 0, 0, 0x08, 0x00],
                &syn4(),
            ]),
            false,
        ),
        (
            "LINKTYPE_LINUX_SLL2",
            LinkType::LINUX_SLL2,
            cat(&[&[0x08, 0x00, 0, 0, 0, 0, 0, 3, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0], &syn4()]),
            false,
        ),
        ("RFC 1547 section 4.3.1", LinkType::C_HDLC, cat(&[&[0x0f, 0, 0x08, 0x00], &syn4()]), false),
        ("Cisco HDLC as PPP_HDLC", LinkType::PPP_HDLC, cat(&[&[0x8f, 0, 0x86, 0xdd], &syn6()]), true),
    ]
}

fn labels_and_sessions() -> Vec<(&'static str, LinkType, Vec<u8>, bool)> {
    let eth = LinkType::ETHERNET;
    let [l0, l1] = len16(2 + syn4().len());
    // Label 16, then label 17 at the bottom of the stack.
    let stack = [0, 1, 0x00, 64, 0, 1, 0x11, 64];
    // A destination address that begins like an IPv4 header, and one with the nibble of a control word.
    let mut frame_4 = eth4();
    frame_4[0] = 0x45;
    let mut frame_0 = eth4();
    frame_0[..3].copy_from_slice(&[0x00, 0x00, 0x5e]);
    vec![
        ("RFC 3032, IPv4", eth, ethernet(0x8847, &cat(&[&stack, &syn4()])), false),
        ("RFC 3032, IPv6", eth, ethernet(0x8848, &cat(&[&stack, &syn6()])), true),
        ("RFC 4448, control word", eth, ethernet(0x8847, &cat(&[&stack, &[0, 0, 0, 7], &eth4()])), false),
        ("RFC 4448, no control word", eth, ethernet(0x8847, &cat(&[&stack, &eth4()])), false),
        ("RFC 4448, no control word, nibble 4", eth, ethernet(0x8847, &cat(&[&stack, &frame_4])), false),
        ("RFC 4448, no control word, nibble 0", eth, ethernet(0x8847, &cat(&[&stack, &frame_0])), false),
        (
            "RFC 2516",
            eth,
            ethernet(0x8864, &cat(&[&[0x11, 0, 0, 5], &[l0, l1], &[0x00, 0x21], &syn4()])),
            false,
        ),
        (
            "LINKTYPE_PPP_ETHER",
            LinkType::PPP_ETHER,
            cat(&[&[0x11, 0, 0, 5], &[l0, l1], &[0x00, 0x21], &syn4()]),
            false,
        ),
        ("RFC 1661", LinkType::PPP, cat(&[&[0x00, 0x57], &syn6()]), true),
        ("RFC 1661, protocol compressed", LinkType::PPP, cat(&[&[0x21], &syn4()]), false),
        ("RFC 1662", LinkType::PPP, cat(&[&[0xff, 0x03, 0x00, 0x21], &syn4()]), false),
        ("RFC 1662, protocol compressed", LinkType::PPP_HDLC, cat(&[&[0xff, 0x03, 0x57], &syn6()]), true),
        ("RFC 3032 section 4.3, MPLS in PPP", LinkType::PPP, cat(&[&[0x02, 0x81], &stack, &syn4()]), false),
    ]
}

fn packets() -> Vec<(&'static str, LinkType, Vec<u8>, bool)> {
    let eth = LinkType::ETHERNET;
    let mut options = ipv4(6, &cat(&[&[0x94, 0x04, 0, 0], &TCP]));
    options[0] = 0x46;
    let ext = |next: u8, header: &[u8], last: u8| {
        let mut chain = cat(&[header, &TCP]);
        chain[0] = last;
        ethernet(0x86dd, &ipv6(next, &chain))
    };
    vec![
        ("RFC 2113, router alert", eth, ethernet(0x0800, &options), false),
        ("RFC 8200 section 4.3, hop by hop", eth, ext(0, &[0, 0, 1, 4, 0, 0, 0, 0], 6), true),
        (
            "RFC 8200 section 4.6, 16 bytes of options",
            eth,
            ext(60, &[0, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 6),
            true,
        ),
        ("RFC 8200 section 4.4, routing", eth, ext(43, &[0, 0, 4, 0, 0, 0, 0, 0], 6), true),
        ("RFC 6946, atomic fragment", eth, ext(44, &[0, 0, 0, 0, 1, 2, 3, 4], 6), true),
        ("RFC 8200 section 4.5, first fragment", eth, ext(44, &[0, 0, 0, 1, 1, 2, 3, 4], 6), true),
        ("RFC 6275, mobility", eth, ext(135, &[0, 0, 0, 0, 0, 0, 0, 0], 6), true),
        ("RFC 7401, HIP", eth, ext(139, &[0, 0, 0, 0, 0, 0, 0, 0], 6), true),
        ("RFC 5533, shim6", eth, ext(140, &[0, 0, 0, 0, 0, 0, 0, 0], 6), true),
        (
            "RFC 4302, IPv6",
            eth,
            ext(51, &[0, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9], 6),
            true,
        ),
        ("RFC 4302, IPv4", eth, on_ethernet(51, &cat(&[&[6, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1], &TCP])), false),
        ("two extension headers", eth, ext(0, &[60, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0], 60), true),
        ("RFC 2003, 4in4", eth, on_ethernet(4, &syn4()), false),
        ("RFC 2473, 4in6", eth, ethernet(0x86dd, &ipv6(4, &syn4())), false),
        ("RFC 4213, 6in4", eth, on_ethernet(41, &syn6()), true),
        ("RFC 2473, 6in6", eth, ethernet(0x86dd, &ipv6(41, &syn6())), true),
    ]
}

fn gre() -> Vec<(&'static str, LinkType, Vec<u8>, bool)> {
    let eth = LinkType::ETHERNET;
    let gre = |header: &[u8], inner: &[u8]| on_ethernet(47, &cat(&[header, inner]));
    let ppp = cat(&[&[0xff, 0x03, 0x00, 0x21], &syn4()]);
    let [p0, p1] = len16(ppp.len());
    let erspan_3 = [0x20, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    let erspan_3_platform = [0x20, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    let erspan_3_ip = [0x20, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2 << 2, 0];
    vec![
        ("RFC 2784", eth, gre(&[0, 0, 0x08, 0x00], &syn4()), false),
        ("RFC 2784, checksum", eth, gre(&[0x80, 0, 0x86, 0xdd, 1, 2, 0, 0], &syn6()), true),
        ("RFC 2890, key", eth, gre(&[0x20, 0, 0x08, 0x00, 0, 0, 0, 7], &syn4()), false),
        (
            "RFC 2890, checksum, key, sequence",
            eth,
            gre(&[0xb0, 0, 0x08, 0x00, 1, 2, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1], &syn4()),
            false,
        ),
        (
            "RFC 7637, Transparent Ethernet Bridging, key",
            eth,
            gre(&[0x20, 0, 0x65, 0x58, 0, 0, 7, 0], &eth4()),
            false,
        ),
        ("RFC 4023, MPLS", eth, gre(&[0, 0, 0x88, 0x47, 0, 1, 0x01, 64], &syn4()), false),
        ("RFC 2637, sequence", eth, gre(&[0x30, 1, 0x88, 0x0b, p0, p1, 0, 9, 0, 0, 0, 1], &ppp), false),
        (
            "RFC 2637, sequence and acknowledgement",
            eth,
            gre(&[0x30, 0x81, 0x88, 0x0b, p0, p1, 0, 9, 0, 0, 0, 1, 0, 0, 0, 1], &ppp),
            false,
        ),
        ("ERSPAN I", eth, gre(&[0, 0, 0x88, 0xbe], &eth4()), false),
        (
            "ERSPAN II",
            eth,
            gre(&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 7, 0, 5, 0, 0, 0, 0x12], &eth4()),
            false,
        ),
        ("ERSPAN III", eth, gre(&cat(&[&[0x10, 0, 0x22, 0xeb, 0, 0, 0, 1], &erspan_3]), &eth4()), false),
        (
            "ERSPAN III, platform",
            eth,
            gre(&cat(&[&[0x10, 0, 0x22, 0xeb, 0, 0, 0, 1], &erspan_3_platform]), &eth4()),
            false,
        ),
        (
            "ERSPAN III, IP",
            eth,
            gre(&cat(&[&[0x10, 0, 0x22, 0xeb, 0, 0, 0, 1], &erspan_3_ip]), &syn6()),
            true,
        ),
    ]
}

/// These begin with `UDP`: cut short, they are plain UDP.
fn udp_tunnels() -> Vec<(&'static str, LinkType, Vec<u8>, bool)> {
    let eth = LinkType::ETHERNET;
    let over_udp =
        |port: u16, header: &[u8], inner: &[u8]| on_ethernet(17, &udp(50000, port, &cat(&[header, inner])));
    vec![
        ("UDP, RFC 7348", eth, over_udp(4789, &[8, 0, 0, 0, 0, 0, 7, 0], &eth4()), false),
        (
            "UDP, RFC 7348 on the port of Linux",
            eth,
            over_udp(8472, &[8, 0, 0, 0, 0, 0, 7, 0], &eth4()),
            false,
        ),
        ("UDP, VXLAN group policy", eth, over_udp(4789, &[0x88, 0, 0, 5, 0, 0, 7, 0], &eth4()), false),
        (
            "UDP, RFC 7348 over IPv6",
            eth,
            ethernet(0x86dd, &ipv6(17, &udp(1, 4789, &cat(&[&[8, 0, 0, 0, 0, 0, 7, 0], &eth4()])))),
            false,
        ),
        ("UDP, RFC 8926", eth, over_udp(6081, &[0, 0, 0x65, 0x58, 0, 0, 7, 0], &eth4()), false),
        (
            "UDP, RFC 8926, options",
            eth,
            over_udp(6081, &[1, 0x40, 0x65, 0x58, 0, 0, 7, 0, 1, 2, 0x80, 0], &eth4()),
            false,
        ),
        ("UDP, RFC 8926, IPv6", eth, over_udp(6081, &[0, 0, 0x86, 0xdd, 0, 0, 7, 0], &syn6()), true),
        ("UDP, TS 29.281", eth, gtp_u(0x30, 255, &syn4()), false),
        ("UDP, TS 29.281, sequence number", eth, gtp_u(0x32, 255, &cat(&[&[0, 1, 0, 0], &syn6()])), true),
        (
            "UDP, TS 29.281, PDU session container and another",
            eth,
            gtp_u(0x34, 255, &cat(&[&[0, 0, 0, 0x85], &[1, 0, 9, 0xc0], &[1, 0, 0, 0], &syn4()])),
            false,
        ),
        ("UDP, RFC 4380", eth, over_udp(3544, &[], &teredo_packet()), true),
        ("UDP, RFC 4380, origin", eth, over_udp(3544, &[0, 0, 1, 2, 3, 4, 5, 6], &teredo_packet()), true),
        (
            "UDP, RFC 4380, authentication and origin",
            eth,
            over_udp(
                3544,
                &[0, 1, 1, 2, 9, 8, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 1, 2, 3, 4, 5, 6],
                &teredo_packet(),
            ),
            true,
        ),
    ]
}

fn decoded(link: LinkType, data: &[u8]) -> Decoded {
    decode(&frame(link, data))
}

#[track_caller]
fn tcp(decoded: Decoded) -> Segment {
    match decoded {
        Decoded::Tcp(segment) => segment,
        Decoded::NotTcp(_) | Decoded::Undecoded(_) => panic!("not a segment: {decoded:?}"),
    }
}

/// What the SYN of `name` is to be: Teredo has addresses of its own.
fn expected_in(name: &str, v6: bool) -> Segment {
    let mut segment = expected(v6);
    if name.contains("RFC 4380") {
        segment.src.addr = "2001:0:c000:201::1".parse().unwrap();
    }
    segment
}

#[test]
fn every_encapsulation_leads_to_the_same_syn() {
    for (name, link, data, v6) in encapsulations() {
        assert_eq!(decoded(link, &data), Decoded::Tcp(expected_in(name, v6)), "{name}");
    }
}

#[test]
fn every_encapsulation_cut_anywhere_is_a_segment_or_a_reason() {
    use DecodeError::{TruncatedLink, TruncatedNetwork, TruncatedTransport};
    for (name, link, data, v6) in encapsulations() {
        let tcp_at = data.windows(8).position(|window| window == &TCP[..8]).unwrap();
        for cut in 0..data.len() {
            let found = decode(&Frame { data: &data[..cut], ..frame(link, &data) });
            let at = format!("{name}, cut at {cut} of {}", data.len());
            if cut >= tcp_at + 14 {
                let mut whole = expected_in(name, v6);
                whole.window = if cut >= tcp_at + 16 { whole.window } else { 0 };
                assert_eq!(found, Decoded::Tcp(whole), "{at}");
            } else if cut > tcp_at {
                assert_eq!(found, Decoded::Undecoded(TruncatedTransport), "{at}");
            } else if name.starts_with("UDP") && found == Decoded::NotTcp(NotTcp::Other) {
                // Cut before the tunnel can be told from plain UDP, but not before UDP can be told.
                assert!(cut >= 14 + 20, "{at}");
            } else {
                let reasons = [TruncatedLink, TruncatedNetwork, TruncatedTransport];
                assert!(reasons.iter().any(|reason| found == Decoded::Undecoded(*reason)), "{at}: {found:?}");
            }
        }
    }
}

#[test]
fn a_frame_that_really_ends_early_is_no_panic_either() {
    for (_, link, data, _) in encapsulations() {
        for cut in 0..data.len() {
            let _ = decoded(link, &data[..cut]);
        }
    }
}

#[test]
fn the_plain_path_agrees_with_the_long_one() {
    for (name, link, data, _) in encapsulations() {
        if let Some(segment) = plain(&frame(link, &data)) {
            assert_eq!(Decoded::Tcp(segment), walk(&frame(link, &data)), "{name}");
        }
    }
    assert!(plain(&frame(LinkType::ETHERNET, &eth4())).is_some());
}

#[test]
fn payload_is_what_the_ip_header_says() {
    // 40 bytes of packet in a frame padded to 60, its check sequence captured too (IEEE 802.3 clause 4.2.3.3).
    let mut bare = TCP[..20].to_vec();
    bare[12] = 0x50;
    let padded = cat(&[&on_ethernet(6, &bare), &[0; 10]]);
    assert_eq!(tcp(decoded(LinkType::ETHERNET, &padded)).payload_len, 0);
    let tagged = ethernet(0x8100, &cat(&[&[0, 1, 8, 0], &ipv4(6, &bare), &[0; 6]]));
    assert_eq!(tcp(decoded(LinkType::ETHERNET, &tagged)).payload_len, 0);
    let checked = cat(&[&ethernet(0x86dd, &ipv6(6, &bare)), &[1, 2, 3, 4]]);
    assert_eq!(tcp(decoded(LinkType::ETHERNET, &checked)).payload_len, 0);
    // 1000 bytes of payload of which none was captured.
    let full = on_ethernet(6, &cat(&[&TCP, &[7; 1000]]));
    for cut in [54, 58, 1058] {
        let found = decode(&Frame { data: &full[..cut], ..frame(LinkType::ETHERNET, &full) });
        assert_eq!(tcp(found).payload_len, 1000);
    }
}

#[test]
fn length_zero_takes_the_length_of_the_frame() {
    let payload = vec![7; 3000];
    // Segmentation offload: the card will cut and fill the total length.
    let mut offloaded = on_ethernet(6, &cat(&[&TCP, &payload]));
    offloaded[16..18].fill(0);
    assert_eq!(tcp(decoded(LinkType::ETHERNET, &offloaded)).payload_len, 3000);
    let cut = Frame { data: &offloaded[..60], ..frame(LinkType::ETHERNET, &offloaded) };
    assert_eq!(tcp(decode(&cut)).payload_len, 3000);
    // RFC 2675 section 3: payload length 0, the jumbo option has it.
    let mut jumbo = ethernet(0x86dd, &ipv6(0, &cat(&[&[6, 0, 0xc2, 4, 0, 0, 0x0b, 0xd8], &TCP, &payload])));
    jumbo[18..20].fill(0);
    assert_eq!(tcp(decoded(LinkType::ETHERNET, &jumbo)).payload_len, 3000);
    // More than the field holds: as much as it holds.
    let big = cat(&[&jumbo, &[7; 70000]]);
    assert_eq!(tcp(decoded(LinkType::ETHERNET, &big)).payload_len, u16::MAX);
}

#[test]
fn data_offset_outside_the_packet_is_a_segment_without_payload() {
    for (offset, options) in [(0u8, 0), (4, 0), (5, 0), (6, 4), (7, 4), (15, 4)] {
        let mut data = eth4();
        data[14 + 20 + 12] = offset << 4;
        let segment = tcp(decoded(LinkType::ETHERNET, &data));
        assert_eq!(segment.options_len, options, "data offset {offset}");
        assert_eq!(segment.payload_len, if offset == 5 { 4 } else { 0 }, "data offset {offset}");
        assert_eq!(segment.kind, SegmentKind::Syn);
    }
}

#[test]
fn an_ip_packet_of_fourteen_tcp_bytes_is_a_segment_and_of_thirteen_is_not() {
    let data = on_ethernet(6, &TCP[..14]);
    let segment = tcp(decoded(LinkType::ETHERNET, &cat(&[&data, &[0xff; 20]])));
    assert_eq!(
        (segment.kind, segment.window, segment.payload_len, segment.options_len),
        (SegmentKind::Syn, 0, 0, 0)
    );
    let short = cat(&[&on_ethernet(6, &TCP[..13]), &[0xff; 20]]);
    assert_eq!(decoded(LinkType::ETHERNET, &short), Decoded::Undecoded(DecodeError::TruncatedTransport));
}

#[test]
fn fragments() {
    let fragment = |field: [u8; 2], protocol: u8, inner: &[u8]| {
        let mut data = on_ethernet(protocol, inner);
        data[20..22].copy_from_slice(&field);
        data
    };
    let eth = LinkType::ETHERNET;
    // The first of several is parsed (RFC 791 section 3.2), the rest cannot be.
    assert_eq!(decoded(eth, &fragment([0x20, 0], 6, &TCP)), Decoded::Tcp(expected(false)));
    assert_eq!(decoded(eth, &fragment([0x20, 1], 6, &TCP)), Decoded::NotTcp(NotTcp::LaterFragment));
    assert_eq!(decoded(eth, &fragment([0x00, 185], 6, &TCP)), Decoded::NotTcp(NotTcp::LaterFragment));
    for bit in 0..13 {
        let data = fragment((1u16 << bit).to_be_bytes(), 6, &TCP);
        assert_eq!(decoded(eth, &data), Decoded::NotTcp(NotTcp::LaterFragment), "offset {}", 1 << bit);
    }
    // The reserved bit (RFC 3514) and do not fragment.
    assert_eq!(decoded(eth, &fragment([0xc0, 0], 6, &TCP)), Decoded::Tcp(expected(false)));
    assert_eq!(decoded(eth, &fragment([0x00, 185], 17, &TCP)), Decoded::NotTcp(NotTcp::Other));
    // RFC 1858 section 3: the flags are in the second.
    assert_eq!(
        decoded(eth, &fragment([0x20, 0], 6, &TCP[..8])),
        Decoded::Undecoded(DecodeError::TinyFragment)
    );
    assert_eq!(
        decoded(eth, &fragment([0x00, 0], 6, &TCP[..8])),
        Decoded::Undecoded(DecodeError::TruncatedTransport)
    );
    let whole = fragment([0x20, 0], 6, &TCP);
    let cut = Frame { data: &whole[..14 + 20 + 8], ..frame(eth, &whole) };
    assert_eq!(decode(&cut), Decoded::Undecoded(DecodeError::TruncatedTransport));
    // RFC 8200 section 4.5.
    let v6 = |next: u8, high: u8, low: u8, inner: &[u8]| {
        ethernet(0x86dd, &ipv6(44, &cat(&[&[next, 0, high, low, 0, 0, 0, 1], inner])))
    };
    assert_eq!(decoded(eth, &v6(6, 0, 8, &TCP)), Decoded::NotTcp(NotTcp::LaterFragment));
    assert_eq!(decoded(eth, &v6(60, 0, 8, &TCP)), Decoded::NotTcp(NotTcp::LaterFragment));
    assert_eq!(decoded(eth, &v6(17, 0, 8, &TCP)), Decoded::NotTcp(NotTcp::Other));
    assert_eq!(decoded(eth, &v6(6, 0, 1, &TCP[..8])), Decoded::Undecoded(DecodeError::TinyFragment));
}

#[test]
fn a_first_fragment_of_a_tunnel_is_followed() {
    // The datagram is longer than this fragment of it, and the inner packet with it.
    let mut data = gtp_u(0x30, 255, &ipv4(6, &cat(&[&TCP, &[7; 1000]])));
    data.truncate(14 + 20 + 8 + 8 + 20 + 24 + 400);
    let fragment = u16::try_from(data.len() - 14).unwrap();
    data[16..18].copy_from_slice(&fragment.to_be_bytes());
    data[20..22].copy_from_slice(&[0x20, 0]);
    assert_eq!(tcp(decoded(LinkType::ETHERNET, &data)).payload_len, 1000);
}

#[test]
fn wrong_ip_headers_have_their_reason() {
    let with = |at: usize, bytes: &[u8]| {
        let mut data = eth4();
        data[14 + at..14 + at + bytes.len()].copy_from_slice(bytes);
        decoded(LinkType::ETHERNET, &data)
    };
    assert_eq!(with(0, &[0x65]), Decoded::Undecoded(DecodeError::BadVersion));
    assert_eq!(with(0, &[0x15]), Decoded::Undecoded(DecodeError::BadVersion));
    assert_eq!(with(0, &[0x44]), Decoded::Undecoded(DecodeError::BadHeaderLength));
    assert_eq!(with(0, &[0x4f]), Decoded::Undecoded(DecodeError::BadHeaderLength));
    assert_eq!(with(2, &[0, 19]), Decoded::Undecoded(DecodeError::BadTotalLength));
    assert_eq!(decoded(LinkType::RAW, &[0x70; 40]), Decoded::Undecoded(DecodeError::BadVersion));
    let announced = ethernet(0x86dd, &syn4());
    assert_eq!(decoded(LinkType::ETHERNET, &announced), Decoded::Undecoded(DecodeError::BadVersion));
    assert_eq!(decoded(LinkType(10), &eth4()), Decoded::Undecoded(DecodeError::UnknownLink));
}

#[test]
fn other_protocols_are_not_tcp() {
    let snap = |oui: [u8; 3], kind: [u8; 2]| cat(&[&[0xaa, 0xaa, 0x03], &oui, &kind, &syn4()]);
    let mut other = vec![
        ("ARP, RFC 826", ethernet(0x0806, &[0; 28])),
        ("LLDP", ethernet(0x88cc, &[0; 28])),
        ("PPPoE discovery, RFC 2516", ethernet(0x8863, &[0x11, 9, 0, 0, 0, 0])),
        ("PPPoE session with a code", ethernet(0x8864, &cat(&[&[0x11, 1, 0, 5, 0, 46, 0, 0x21], &syn4()]))),
        ("spanning tree", ethernet(38, &cat(&[&[0x42, 0x42, 0x03], &[0; 43]]))),
        ("SNAP of Cisco", ethernet(50, &snap([0, 0, 0x0c], [0x20, 0]))),
        (
            "SNAP with a length for a type",
            ethernet(60, &cat(&[&[0xaa, 0xaa, 0x03, 0, 0, 0, 0, 52], &snap([0, 0, 0], [0x08, 0x00])])),
        ),
        ("neither a length nor a type", ethernet(1501, &syn4())),
        ("ICMP with TCP in it, RFC 792", on_ethernet(1, &cat(&[&[3, 3, 0, 0, 0, 0, 0, 0], &syn4()]))),
        ("ESP, RFC 4303", on_ethernet(50, &TCP)),
        ("ESP in UDP, RFC 3948", on_ethernet(17, &udp(4500, 4500, &TCP))),
        ("no next header, RFC 8200", ethernet(0x86dd, &ipv6(59, &TCP))),
        ("extension headers are IPv6's", on_ethernet(60, &cat(&[&[6, 0, 1, 4, 0, 0, 0, 0], &TCP]))),
        ("UDP with half a header", on_ethernet(17, &[0, 1, 0, 2])),
        ("DNS", on_ethernet(17, &udp(50000, 53, &eth4()))),
        (
            "MPLS, associated channel, RFC 5586",
            ethernet(0x8847, &cat(&[&[0, 1, 1, 64, 0x10, 0, 0, 7], &[0; 40]])),
        ),
        ("GRE keepalive", on_ethernet(47, &[0, 0, 0, 0])),
        ("GRE with routes, RFC 1701", on_ethernet(47, &cat(&[&[0x40, 0, 8, 0, 0, 0, 0, 0], &syn4()]))),
        ("GRE version 2", on_ethernet(47, &cat(&[&[0, 2, 8, 0], &syn4()]))),
        (
            "PPTP acknowledgement, RFC 2637",
            on_ethernet(47, &[0x20, 0x81, 0x88, 0x0b, 0, 0, 0, 9, 0, 0, 0, 1]),
        ),
        ("PPTP, LCP", on_ethernet(47, &[0x30, 1, 0x88, 0x0b, 0, 4, 0, 9, 0, 0, 0, 1, 0xff, 3, 0xc0, 0x21])),
        (
            "ERSPAN III of another frame type",
            on_ethernet(
                47,
                &cat(&[&[0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4, 0], &eth4()]),
            ),
        ),
    ];
    for (name, data) in other.drain(..) {
        assert_eq!(decoded(LinkType::ETHERNET, &data), Decoded::NotTcp(NotTcp::Other), "{name}");
    }
    let cooked = |arphrd: [u8; 2], protocol: [u8; 2]| cat(&[&[0, 0], &arphrd, &[0; 10], &protocol, &syn4()]);
    for (name, link, data) in [
        ("netlink, LINKTYPE_LINUX_SLL", LinkType::LINUX_SLL, cooked([0x03, 0x38], [8, 0])),
        ("raw 802.3 of Novell, LINKTYPE_LINUX_SLL", LinkType::LINUX_SLL, cooked([0, 1], [0, 1])),
        ("AF_UNIX, LINKTYPE_NULL", LinkType::NULL, cat(&[&[1, 0, 0, 0], &syn4()])),
        ("LCP, RFC 1661", LinkType::PPP, vec![0xff, 3, 0xc0, 0x21, 1, 1, 0, 4]),
        ("SLARP", LinkType::C_HDLC, vec![0x8f, 0, 0x80, 0x35, 0, 0, 0, 2]),
    ] {
        assert_eq!(decoded(link, &data), Decoded::NotTcp(NotTcp::Other), "{name}");
    }
}

#[test]
fn plain_udp_on_a_tunnel_port_is_plain_udp() {
    let eth = LinkType::ETHERNET;
    let mut cases = vec![
        ("VXLAN without I", on_ethernet(17, &udp(1, 4789, &cat(&[&[0; 8], &eth4()])))),
        ("VXLAN, reserved bits", on_ethernet(17, &udp(1, 4789, &cat(&[&[8, 1, 0, 0, 0, 0, 7, 0], &eth4()])))),
        ("VXLAN, reserved byte", on_ethernet(17, &udp(1, 4789, &cat(&[&[8, 0, 0, 0, 0, 0, 7, 1], &eth4()])))),
        ("VXLAN, no room for a frame", on_ethernet(17, &udp(1, 4789, &[8, 0, 0, 0, 0, 0, 7, 0, 1, 2, 3]))),
        (
            "VXLAN, from its port",
            on_ethernet(17, &udp(4789, 53, &cat(&[&[8, 0, 0, 0, 0, 0, 7, 0], &eth4()]))),
        ),
        (
            "Geneve version 1",
            on_ethernet(17, &udp(1, 6081, &cat(&[&[0x40, 0, 0x65, 0x58, 0, 0, 7, 0], &eth4()]))),
        ),
        (
            "Geneve control",
            on_ethernet(17, &udp(1, 6081, &cat(&[&[0, 0x80, 0x65, 0x58, 0, 0, 7, 0], &eth4()]))),
        ),
        ("Geneve, options too long", on_ethernet(17, &udp(1, 6081, &[63, 0, 0x65, 0x58, 0, 0, 7, 0, 1, 2]))),
        ("GTP version 2", gtp_u(0x50, 255, &syn4())),
        ("GTP prime", gtp_u(0x20, 255, &syn4())),
        ("GTP, spare bit", gtp_u(0x38, 255, &syn4())),
        ("GTP, extension longer than it", gtp_u(0x34, 255, &[0, 0, 0, 0x85, 200, 0, 0, 0])),
        (
            "GTP, more extensions than there are",
            gtp_u(0x34, 255, &cat(&[&[0, 0, 0, 0x85], &[1, 0, 0, 0x85].repeat(8), &syn4()])),
        ),
        ("GTP echo", gtp_u(0x32, 1, &[0, 1, 0, 0])),
        ("GTP end marker", gtp_u(0x30, 254, &[])),
        ("GTP, no IP packet in it", gtp_u(0x30, 255, &[0x70; 40])),
        ("GTP, IP longer than it", gtp_u(0x30, 255, &syn4()[..30])),
        ("GTP, extension of no length", gtp_u(0x34, 255, &cat(&[&[0, 0, 0, 0x85, 0, 0, 0, 0], &syn4()]))),
        ("Teredo, another address", on_ethernet(17, &udp(1, 3544, &syn6()))),
        ("Teredo, longer than the packet", on_ethernet(17, &udp(1, 3544, &cat(&[&teredo_packet(), &[0]])))),
    ];
    for port in [4789, 8472, 6081, 2152, 3544] {
        for byte in [0, 0x08, 0x30, 0x45, 0x60, 0xff] {
            cases.push(("a byte repeated", on_ethernet(17, &udp(port, port, &[byte; 60]))));
        }
    }
    for (name, data) in cases {
        assert_eq!(decoded(eth, &data), Decoded::NotTcp(NotTcp::Other), "{name}: {data:02x?}");
    }
}

#[test]
fn depth_is_bounded() {
    let nest = |levels: usize| (0..levels).fold(syn4(), |inner, _| ipv4(4, &inner));
    assert_eq!(decoded(LinkType::RAW, &nest(8)), Decoded::Tcp(expected(false)));
    assert_eq!(decoded(LinkType::RAW, &nest(MAX_HEADERS)), Decoded::Undecoded(DecodeError::TooDeep));
    let tags = ethernet(0x8100, &[0, 1, 0x81, 0].repeat(400));
    assert_eq!(decoded(LinkType::ETHERNET, &tags), Decoded::Undecoded(DecodeError::TooDeep));
    let labels = ethernet(0x8847, &[0; 1400]);
    assert_eq!(decoded(LinkType::ETHERNET, &labels), Decoded::Undecoded(DecodeError::TooDeep));
    let options = ethernet(0x86dd, &ipv6(60, &[60, 0, 1, 4, 0, 0, 0, 0].repeat(180)));
    assert_eq!(decoded(LinkType::ETHERNET, &options), Decoded::Undecoded(DecodeError::TooDeep));
}

#[test]
fn labels_of_reasons_are_distinct() {
    let labels: std::collections::BTreeSet<_> =
        DecodeError::ALL.iter().map(|reason| reason.as_label()).collect();
    assert_eq!(labels.len(), DecodeError::ALL.len());
}

const LINKS: [LinkType; 12] = [
    LinkType::NULL,
    LinkType::ETHERNET,
    LinkType::PPP,
    LinkType::PPP_HDLC,
    LinkType::PPP_ETHER,
    LinkType::RAW,
    LinkType::C_HDLC,
    LinkType::LOOP,
    LinkType::LINUX_SLL,
    LinkType::IPV4,
    LinkType::IPV6,
    LinkType::LINUX_SLL2,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_on_any_link_end(data in prop::collection::vec(any::<u8>(), 0..200), orig_len in any::<u32>()) {
        for link in LINKS {
            let _ = decode(&Frame { ts: TS, link, orig_len, data: &data });
        }
    }

    /// A valid frame with a few bytes changed, cut, with any length on the wire: it ends, and where the plain path takes it, the
    /// long one comes to the same.
    #[test]
    fn damaged_frames_end_and_both_paths_agree(
        which in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
        orig_len in 0u32..70_000,
    ) {
        let all = encapsulations();
        let (_, link, mut data, _) = all[which.index(all.len())].clone();
        for (at, byte) in damage {
            let at = at.index(data.len());
            data[at] = byte;
        }
        if !whole {
            data.truncate(cut.index(data.len()));
        }
        let frame = Frame { ts: TS, link, orig_len, data: &data };
        let long = walk(&frame);
        prop_assert_eq!(decode(&frame), long);
        if let Decoded::Tcp(segment) = long {
            prop_assert_eq!(segment.kind, SegmentKind::of(segment.flags));
            prop_assert!(segment.options_len <= 40);
        }
    }

    /// Every field of the plain path, against the view of another crate.
    #[test]
    fn plain_frames_read_as_pnet_reads_them(header in prop::array::uniform20(any::<u8>()), addresses in any::<[u8; 8]>(), ttl: u8, rest in 0usize..1400) {
        use pnet_packet::tcp::TcpPacket;
        let mut data = on_ethernet(6, &cat(&[&header, &vec![0; rest]]));
        data[22] = ttl;
        data[26..34].copy_from_slice(&addresses);
        let view = TcpPacket::new(&header).unwrap();
        let segment = tcp(decoded(LinkType::ETHERNET, &data));
        let [s0, s1, s2, s3, d0, d1, d2, d3] = addresses;
        prop_assert_eq!(segment.src, Endpoint::new(IpAddr::from([s0, s1, s2, s3]), view.get_source()));
        prop_assert_eq!(segment.dst, Endpoint::new(IpAddr::from([d0, d1, d2, d3]), view.get_destination()));
        prop_assert_eq!(segment.seq.0, view.get_sequence());
        prop_assert_eq!(segment.ack.0, view.get_acknowledgement());
        prop_assert_eq!(segment.flags.0, view.get_flags());
        prop_assert_eq!(segment.window, view.get_window());
        prop_assert_eq!(segment.ttl, ttl);
        let offset = usize::from(view.get_data_offset()) * 4;
        let payload = if offset < 20 { 0 } else { (20 + rest).saturating_sub(offset) };
        prop_assert_eq!(usize::from(segment.payload_len), payload);
    }
}
