//! One TCP segment to the bytes of one frame: Ethernet, tags, tunnels, IPv4 or IPv6, TCP. Checksums are right.
//!
//! Allocates nothing once the caller's buffer has grown.

use crate::decode::segment::{Endpoint, TcpFlags};
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr};

/// One TCP segment, as it is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Who sends it.
    pub src: Endpoint,
    /// To whom. Of the same address family.
    pub dst: Endpoint,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flag byte, of [`TcpFlags`]' bits.
    pub flags: u8,
    /// Receive window.
    pub window: u16,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// IPv4 identification.
    pub id: u16,
    /// TCP options.
    pub options: Options,
    /// Bytes of payload.
    pub payload_len: u16,
}

impl Packet {
    /// A bare SYN as flooding tools send it: no options.
    pub const fn bare_syn(src: Endpoint, dst: Endpoint, isn: u32) -> Self {
        Self {
            src,
            dst,
            seq: isn,
            ack: 0,
            flags: TcpFlags::SYN,
            window: 512,
            ttl: 64,
            id: (isn >> 16) as u16,
            options: Options::None,
            payload_len: 0,
        }
    }
}

/// The TCP options of one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Options {
    /// None.
    None,
    /// MSS alone: 4 bytes.
    Mss,
    /// What Linux puts on a SYN: MSS, SACK permitted, timestamps, window scale; 20 bytes.
    Syn {
        /// TSval.
        sent: u32,
        /// TSecr.
        echo: u32,
    },
    /// Timestamps alone, as on every later segment: 12 bytes.
    Timestamps {
        /// TSval.
        sent: u32,
        /// TSecr.
        echo: u32,
    },
    /// MSS and a fast-open cookie of 8 bytes (RFC 7413 section 4.1.1): 16 bytes.
    FastOpen {
        /// The cookie.
        cookie: u64,
    },
}

/// The largest segment an Ethernet takes: 1500 - 20 - 20 bytes.
const MSS: [u8; 4] = [2, 4, 0x05, 0xb4];

impl Options {
    fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::None => {}
            Self::Mss => out.extend_from_slice(&MSS),
            Self::Syn { sent, echo } => {
                out.extend_from_slice(&MSS);
                out.extend_from_slice(&[4, 2, 8, 10]);
                out.extend_from_slice(&sent.to_be_bytes());
                out.extend_from_slice(&echo.to_be_bytes());
                out.extend_from_slice(&[1, 3, 3, 7]);
            }
            Self::Timestamps { sent, echo } => {
                out.extend_from_slice(&[1, 1, 8, 10]);
                out.extend_from_slice(&sent.to_be_bytes());
                out.extend_from_slice(&echo.to_be_bytes());
            }
            Self::FastOpen { cookie } => {
                out.extend_from_slice(&MSS);
                out.extend_from_slice(&[34, 10]);
                out.extend_from_slice(&cookie.to_be_bytes());
                out.extend_from_slice(&[1, 1]);
            }
        }
    }

    const fn len(self) -> usize {
        match self {
            Self::None => 0,
            Self::Mss => 4,
            Self::Syn { .. } => 20,
            Self::Timestamps { .. } => 12,
            Self::FastOpen { .. } => 16,
        }
    }
}

/// What a frame is wrapped in between the Ethernet header and the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Encapsulation {
    /// Nothing.
    #[default]
    None,
    /// An 802.1Q tag with this VLAN.
    Vlan(u16),
    /// An 802.1ad service tag and an 802.1Q tag.
    Qinq {
        /// The service tag's VLAN.
        outer: u16,
        /// The customer tag's VLAN.
        inner: u16,
    },
    /// VXLAN with this network identifier (RFC 7348), in IPv4 between two documentation addresses.
    Vxlan(u32),
    /// GRE without options (RFC 2784), in IPv4 between two documentation addresses.
    Gre,
}

/// The ends of tunnels: the last two addresses of the first documentation prefix.
const TUNNEL: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 253), Ipv4Addr::new(192, 0, 2, 254)];

/// The link: its hardware addresses and what packets are wrapped in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wire {
    /// Destination hardware address.
    pub to: [u8; 6],
    /// Source hardware address.
    pub from: [u8; 6],
    /// Tags and tunnels.
    pub encapsulation: Encapsulation,
}

impl Default for Wire {
    /// Locally administered addresses, nothing wrapped.
    fn default() -> Self {
        Self { to: [2, 0, 0, 0, 0, 2], from: [2, 0, 0, 0, 0, 1], encapsulation: Encapsulation::None }
    }
}

impl Wire {
    /// The default wire with these tags and tunnels.
    pub fn wrapped(encapsulation: Encapsulation) -> Self {
        Self { encapsulation, ..Self::default() }
    }

    /// Writes `packet` as one frame into `out`, replacing what it held. A frame below 60 bytes stays so, as captures on the
    /// sending host show it.
    pub fn write(&self, packet: &Packet, out: &mut Vec<u8>) {
        out.clear();
        let ip_len = ip_length(packet);
        match self.encapsulation {
            Encapsulation::None => self.ethernet(ether_type(packet), out),
            Encapsulation::Vlan(vlan) => {
                self.ethernet(0x8100, out);
                tag(vlan, ether_type(packet), out);
            }
            Encapsulation::Qinq { outer, inner } => {
                self.ethernet(0x88a8, out);
                tag(outer, 0x8100, out);
                tag(inner, ether_type(packet), out);
            }
            Encapsulation::Vxlan(vni) => {
                self.ethernet(0x0800, out);
                let udp_len = 8 + 8 + 14 + ip_len;
                ipv4_header(TUNNEL[0], TUNNEL[1], 17, 0, 64, udp_len, out);
                // The source port carries the flow's entropy (RFC 7348 section 5); a zero UDP checksum is allowed over IPv4.
                out.extend_from_slice(&(0xc000 | (packet.src.port & 0x3fff)).to_be_bytes());
                out.extend_from_slice(&4789_u16.to_be_bytes());
                out.extend_from_slice(&(udp_len as u16).to_be_bytes());
                out.extend_from_slice(&[0, 0, 8, 0, 0, 0]);
                out.extend_from_slice(&(vni << 8).to_be_bytes());
                self.ethernet(ether_type(packet), out);
            }
            Encapsulation::Gre => {
                self.ethernet(0x0800, out);
                ipv4_header(TUNNEL[0], TUNNEL[1], 47, 0, 64, 4 + ip_len, out);
                out.extend_from_slice(&[0, 0]);
                out.extend_from_slice(&ether_type(packet).to_be_bytes());
            }
        }
        ip_and_tcp(packet, out);
    }

    fn ethernet(&self, ether_type: u16, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to);
        out.extend_from_slice(&self.from);
        out.extend_from_slice(&ether_type.to_be_bytes());
    }
}

const TCP_HEADER: usize = 20;

fn tcp_length(packet: &Packet) -> usize {
    TCP_HEADER + packet.options.len() + usize::from(packet.payload_len)
}

fn ip_length(packet: &Packet) -> usize {
    tcp_length(packet) + if packet.src.addr.is_ipv4() { 20 } else { 40 }
}

const fn ether_type(packet: &Packet) -> u16 {
    if packet.src.addr.is_ipv4() { 0x0800 } else { 0x86dd }
}

fn tag(vlan: u16, ether_type: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(&(vlan & 0x0fff).to_be_bytes());
    out.extend_from_slice(&ether_type.to_be_bytes());
}

fn ip_and_tcp(packet: &Packet, out: &mut Vec<u8>) {
    let tcp_len = tcp_length(packet);
    let pseudo = match (packet.src.addr, packet.dst.addr) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            ipv4_header(src, dst, 6, packet.id, packet.ttl, tcp_len, out);
            sum(&src.octets()) + sum(&dst.octets())
        }
        (src, dst) => {
            let (src, dst) = (to_v6(src), to_v6(dst));
            out.extend_from_slice(&[0x60, 0, 0, 0]);
            out.extend_from_slice(&(tcp_len as u16).to_be_bytes());
            out.extend_from_slice(&[6, packet.ttl]);
            out.extend_from_slice(&src);
            out.extend_from_slice(&dst);
            sum(&src) + sum(&dst)
        }
    };
    let start = out.len();
    out.extend_from_slice(&packet.src.port.to_be_bytes());
    out.extend_from_slice(&packet.dst.port.to_be_bytes());
    out.extend_from_slice(&packet.seq.to_be_bytes());
    out.extend_from_slice(&packet.ack.to_be_bytes());
    let words = (TCP_HEADER + packet.options.len()) / 4;
    out.extend_from_slice(&[(words as u8) << 4, packet.flags]);
    out.extend_from_slice(&packet.window.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    packet.options.write(out);
    out.resize(start + tcp_len, b'.');
    // RFC 9293 section 3.1: the pseudo-header holds the addresses, the protocol and the TCP length.
    let check = fold(pseudo + 6 + tcp_len as u64 + sum(&out[start..]));
    out[start + 16..start + 18].copy_from_slice(&check.to_be_bytes());
}

fn ipv4_header(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, id: u16, ttl: u8, body: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0x45, 0]);
    out.extend_from_slice(&((20 + body) as u16).to_be_bytes());
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&[0x40, 0, ttl, protocol, 0, 0]); // do not fragment
    out.extend_from_slice(&src.octets());
    out.extend_from_slice(&dst.octets());
    let check = fold(sum(&out[start..]));
    out[start + 10..start + 12].copy_from_slice(&check.to_be_bytes());
}

/// An IPv4 address beside an IPv6 one is written as a mapped address, so that no packet is half of each.
fn to_v6(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The sum of 16-bit words of RFC 1071, not folded yet.
fn sum(bytes: &[u8]) -> u64 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let whole: u64 = pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum();
    whole + rest.first().map_or(0, |last| u64::from(*last) << 8)
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A SYN with Linux's options, its checksums worked out by hand from RFC 1071.
    #[test]
    fn a_syn_is_written_byte_for_byte() {
        let packet = Packet {
            src: Endpoint::new(Ipv4Addr::new(198, 18, 0, 1).into(), 40_000),
            dst: Endpoint::new(Ipv4Addr::new(192, 0, 2, 10).into(), 80),
            ..Packet::bare_syn(
                Endpoint::new(Ipv4Addr::UNSPECIFIED.into(), 0),
                Endpoint::new(Ipv4Addr::UNSPECIFIED.into(), 0),
                0x0001_0002,
            )
        };
        let mut out = vec![9; 300];
        Wire::default().write(&packet, &mut out);
        #[rustfmt::skip]
        let expected = [
            2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00,
            // 4500+0028+0001+4000+4006+c612+0001+c000+020a = 24d4c, folded 4d4e, inverted b2b1
            0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0xb2, 0xb1, 198, 18, 0, 1, 192, 0, 2, 10,
            // pseudo c612+0001+c000+020a+0006+0014, TCP 9c40+0050+0001+0002+5002+0200 = 276cc, folded 76ce, inverted 8931
            0x9c, 0x40, 0, 80, 0, 1, 0, 2, 0, 0, 0, 0, 0x50, 0x02, 0x02, 0x00, 0x89, 0x31, 0, 0,
        ];
        assert_eq!(out, expected);
    }

    #[test]
    fn odd_lengths_are_padded_in_the_sum_only() {
        assert_eq!(sum(&[0x12, 0x34, 0x56]), 0x1234 + 0x5600);
        assert_eq!(fold(0), 0xffff);
        assert_eq!(fold(0x1_ffff), 0xfffe);
    }
}
