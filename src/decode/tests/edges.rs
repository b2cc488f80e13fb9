//! Headers at their limits: lengths that lie, fragments, other protocols, tunnels that are none.

use super::*;

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
