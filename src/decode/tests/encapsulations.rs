//! Every way to carry a SYN that is decoded, by its specification, and that each leads to it.

use super::*;

/// Each way to carry the SYN: what it is, link type, frame, whether the innermost packet is IPv6.
pub(super) fn encapsulations() -> Vec<(&'static str, LinkType, Vec<u8>, bool)> {
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
