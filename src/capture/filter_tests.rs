//! Frames built by hand after the encapsulations' own specifications, matched by libpcap's interpreter.

use super::*;

/// An Ethernet header with tags, up to and including the last ethertype.
fn ethernet(tags: &[u16], ethertype: u16) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for tag in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend([0, 100]);
    }
    frame.extend(ethertype.to_be_bytes());
    frame
}

fn ipv4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let length = 20 + payload.len() as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 1]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0, 198, 18, 0, 1, 198, 18, 0, 2]);
    packet.extend(payload);
    packet
}

fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    let address = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    packet.extend(address.iter().chain(&[1]).chain(&address).chain(&[2]));
    packet.extend(payload);
    packet
}

fn tcp(port: u16) -> Vec<u8> {
    let mut segment = port.to_be_bytes().repeat(2);
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    segment
}

fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = [40_000_u16.to_be_bytes(), port.to_be_bytes()].concat();
    datagram.extend((8 + payload.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

fn frame(tags: &[u16], packet: &[u8]) -> Vec<u8> {
    let ethertype = if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
    [ethernet(tags, ethertype), packet.to_vec()].concat()
}

fn matches(expression: &str, frame: &[u8]) -> bool {
    compile(LinkType::ETHERNET, expression).unwrap().filter(frame)
}

/// What may hold TCP, one frame for each way it may.
fn carriers() -> Vec<(&'static str, Vec<u8>)> {
    let inner = ipv4(6, 0, &tcp(80));
    let inner_frame = frame(&[], &inner);
    let vxlan = [&[8, 0, 0, 0, 0, 0, 1, 0], inner_frame.as_slice()].concat();
    let fragment_header = [17, 0, 0, 1, 0, 0, 0, 9];
    let mut all = vec![
        ("TCP over IPv4", frame(&[], &inner)),
        ("TCP over IPv6", frame(&[], &ipv6(6, &tcp(80)))),
        (
            "TCP behind a hop-by-hop header",
            frame(&[], &ipv6(0, &[&[6, 0, 1, 4, 0, 0, 0, 0], &tcp(80)[..]].concat())),
        ),
        (
            "TCP in an IPv6 fragment",
            frame(&[], &ipv6(44, &[&[6, 0, 0, 1, 0, 0, 0, 9], &tcp(80)[..]].concat())),
        ),
        ("first TCP fragment", frame(&[], &ipv4(6, 0x2000, &tcp(80)))),
        ("later TCP fragment", frame(&[], &ipv4(6, 0x00b9, &[0; 64]))),
        ("MPLS", [ethernet(&[], 0x8847), vec![0, 1, 1, 64], inner.clone()].concat()),
        ("MPLS multicast", [ethernet(&[], 0x8848), vec![0, 1, 1, 64], inner.clone()].concat()),
        ("PPPoE", [ethernet(&[], 0x8864), vec![0x11, 0, 0, 1, 0, 42, 0, 0x21], inner.clone()].concat()),
        ("GRE", frame(&[], &ipv4(47, 0, &[&[0, 0, 8, 0], inner.as_slice()].concat()))),
        ("IP in IP", frame(&[], &ipv4(4, 0, &inner))),
        ("IPv6 in IPv4", frame(&[], &ipv4(41, 0, &ipv6(6, &tcp(80))))),
        ("VXLAN over IPv6", frame(&[], &ipv6(17, &udp(4789, &vxlan)))),
        ("a fragmented VXLAN packet", frame(&[], &ipv4(17, 0x2000, &udp(4789, &vxlan)))),
        (
            "a VXLAN packet fragmented by IPv6",
            frame(&[], &ipv6(44, &[&fragment_header[..], &udp(4789, &vxlan)].concat())),
        ),
    ];
    for (name, tag) in [("802.1Q", 0x8100), ("802.1ad", 0x88a8), ("old QinQ", 0x9100)] {
        all.push((name, frame(&[tag], &inner)));
        all.push((name, frame(&[tag, 0x8100], &inner)));
        all.push((name, frame(&[tag, 0x8100, 0x8100], &ipv6(6, &tcp(443)))));
    }
    for (name, port) in [("VXLAN", 4789), ("Linux VXLAN", 8472), ("Geneve", 6081), ("GTP-U", 2152)] {
        all.push((name, frame(&[], &ipv4(17, 0, &udp(port, &vxlan)))));
    }
    all
}

#[test]
fn ours_keeps_every_carrier_of_tcp() {
    for (name, frame) in carriers() {
        assert!(matches(&ours(), &frame), "{name} is dropped");
    }
}

#[test]
fn ours_drops_what_can_hold_no_tcp() {
    let table = [
        ("ARP", [ethernet(&[], 0x0806), vec![0; 46]].concat()),
        ("DNS", frame(&[], &ipv4(17, 0, &udp(53, &[0; 30])))),
        ("QUIC", frame(&[], &ipv4(17, 0, &udp(443, &[0; 30])))),
        ("QUIC over IPv6", frame(&[], &ipv6(17, &udp(443, &[0; 30])))),
        ("ICMP", frame(&[], &ipv4(1, 0, &[8, 0, 0, 0, 0, 0, 0, 0]))),
        ("ICMPv6", frame(&[], &ipv6(58, &[128, 0, 0, 0, 0, 0, 0, 0]))),
    ];
    for (name, frame) in table {
        assert!(!matches(&ours(), &frame), "{name} is kept");
    }
}

/// The trap that the module comment speaks of, held so that nobody walks into it again.
#[test]
fn a_plain_tcp_filter_loses_most_carriers() {
    let lost = carriers().iter().filter(|(_, frame)| !matches("tcp", frame)).count();
    assert!(lost > 15, "{lost}");
}

#[test]
fn ours_compiles_for_every_link_type_we_decode() {
    for link in LinkType::DECODED {
        let expression = live_expression(link, None).unwrap();
        compile(link, &expression).unwrap_or_else(|why| panic!("{link:?}: {why}"));
        let with_user = live_expression(link, Some("port 80 or host 198.18.0.1")).unwrap();
        compile(link, &with_user).unwrap_or_else(|why| panic!("{link:?}: {why}"));
    }
}

#[test]
fn a_users_filter_means_the_same_behind_tags() {
    let tags: [&[u16]; 5] = [&[], &[0x8100], &[0x88a8], &[0x88a8, 0x8100], &[0x8100, 0x8100]];
    let table = [
        ("port 80", 80, true),
        ("port 80", 443, false),
        ("not port 80", 80, false),
        ("not port 80", 443, true),
        ("port 80 or port 443", 443, true),
        ("src host 198.18.0.1 and tcp[tcpflags] & tcp-syn != 0", 1, true),
        ("dst host 198.18.0.1", 1, false),
    ];
    for tags in tags {
        for (user, port, expected) in table {
            let expression = behind_tags(LinkType::ETHERNET, user);
            let frame = frame(tags, &ipv4(6, 0, &tcp(port)));
            assert_eq!(matches(&expression, &frame), expected, "{user}, port {port}, tags {tags:x?}");
        }
    }
}

#[test]
fn an_expression_with_its_own_offsets_is_left_alone() {
    for user in ["vlan 100 and tcp", "mpls", "(pppoes and tcp)"] {
        assert_eq!(behind_tags(LinkType::ETHERNET, user), user);
    }
    assert_eq!(behind_tags(LinkType::LINUX_SLL, "port 80"), "port 80");
    assert_ne!(behind_tags(LinkType::ETHERNET, "host vlans.example"), "host vlans.example");
}

#[test]
fn a_parenthesis_too_many_cannot_undo_ours() {
    for user in ["tcp) or (udp", "port 80 or", "tcp prot 80", "("] {
        let error = live_expression(LinkType::ETHERNET, Some(user)).unwrap_err().to_string();
        assert!(error.starts_with(&format!("filter '{user}': ")) && !error.contains('\n'), "{error}");
    }
    assert_eq!(live_expression(LinkType::ETHERNET, Some("  ")).unwrap(), ours());
}

/// The ports named in decode's dispatch, read from its source so that a new one cannot be forgotten here.
#[test]
fn ours_keeps_every_udp_tunnel_that_decode_follows() {
    let source = include_str!("../decode/tunnel.rs");
    let ports: Vec<u16> = source
        .lines()
        .filter_map(|line| {
            line.trim().strip_prefix("const ")?.split_once(": u16 = ")?.1.strip_suffix(';')?.parse().ok()
        })
        .collect();
    for port in [4789, 8472, 6081, 2152, 3544] {
        assert!(ports.contains(&port), "{port} was not found among {ports:?}");
    }
    for port in ports {
        assert!(matches(&ours(), &frame(&[], &ipv4(17, 0, &udp(port, &[0; 64])))), "{port} over IPv4");
        assert!(matches(&ours(), &frame(&[], &ipv6(17, &udp(port, &[0; 64])))), "{port} over IPv6");
        let mut answer = udp(port, &[0; 64]);
        answer.swap(0, 2);
        answer.swap(1, 3);
        assert!(matches(&ours(), &frame(&[], &ipv4(17, 0, &answer))), "from {port}");
    }
}

#[test]
fn check_refuses_what_compiles_nowhere() {
    for good in ["port 80", "vlan 100 and tcp", "mpls", "inbound"] {
        assert_eq!(check(good), Ok(()), "{good}");
    }
    for bad in ["junk junk", "tcp prot 80", "("] {
        assert!(check(bad).is_err_and(|why| !why.contains('\n')), "{bad}");
    }
}
