//! Frames built by hand, header by header, each with the document that defines it.

use super::segment::{Endpoint, Segment, SegmentKind, SeqNumber, TcpFlags};
use super::{DecodeError, Decoded, MAX_HEADERS, NotTcp, decode, plain, walk};
use crate::capture::{Frame, LinkType};
use crate::time::Timestamp;
use std::net::IpAddr;

mod damage;
mod edges;
mod encapsulations;

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
