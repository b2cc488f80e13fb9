//! Stage 2 of 5, decode: the TCP header.
//!
//! The first 14 bytes make a segment: ports, sequence numbers, data offset, flags. What lies beyond and was not captured is 0.

use super::DecodeError;
use super::layer::Packet;
use super::segment::{Endpoint, Segment, SegmentKind, SeqNumber, TcpFlags};
use crate::time::Timestamp;
use std::net::IpAddr;

/// Up to and with the flag byte (RFC 9293 section 3.1).
const NEEDED: usize = 14;
/// The header without options.
pub(super) const HEADER: usize = 20;

/// The segment that an IP packet carries.
pub(super) fn tcp(ts: Timestamp, packet: &Packet<'_>) -> Result<Segment, DecodeError> {
    let payload = packet.payload;
    if let Some(header) = payload.bytes.first_chunk::<HEADER>() {
        return Ok(segment(ts, packet.src, packet.dst, packet.ttl, header, payload.wire));
    }
    if payload.bytes.len() < NEEDED {
        // A fragment whose sender cut the header is an evasion (RFC 1858 section 3), a capture that did is not.
        let sent_short = packet.first_fragment && payload.wire < NEEDED;
        return Err(if sent_short { DecodeError::TinyFragment } else { DecodeError::TruncatedTransport });
    }
    let mut header = [0; HEADER];
    for (to, from) in header.iter_mut().zip(payload.bytes) {
        *to = *from;
    }
    if payload.bytes.len() < 16 {
        // Half a window field is no window.
        header[14] = 0;
    }
    Ok(segment(ts, packet.src, packet.dst, packet.ttl, &header, payload.wire))
}

/// A segment from its header and the length of header and payload by the IP header.
///
/// A data offset below 5, or beyond the packet, leaves no payload and still is a segment: no stack would take it, but it was
/// sent at the server, floods are made of such, and trackers that sit beside count it.
#[inline(always)]
pub(super) fn segment(
    ts: Timestamp,
    src: IpAddr,
    dst: IpAddr,
    ttl: u8,
    header: &[u8; HEADER],
    length: usize,
) -> Segment {
    let [s0, s1, d0, d1, q0, q1, q2, q3, a0, a1, a2, a3, offset, flags, w0, w1, ..] = *header;
    let flags = TcpFlags(flags);
    let header_length = usize::from(offset >> 4) * 4;
    let payload = if header_length < HEADER { 0 } else { length.saturating_sub(header_length) };
    let options = header_length.min(length).saturating_sub(HEADER);
    Segment {
        ts,
        src: Endpoint::new(src, u16::from_be_bytes([s0, s1])),
        dst: Endpoint::new(dst, u16::from_be_bytes([d0, d1])),
        seq: SeqNumber(u32::from_be_bytes([q0, q1, q2, q3])),
        ack: SeqNumber(u32::from_be_bytes([a0, a1, a2, a3])),
        flags,
        kind: SegmentKind::of(flags),
        payload_len: u16::try_from(payload).unwrap_or(u16::MAX),
        window: u16::from_be_bytes([w0, w1]),
        ttl,
        options_len: options as u8,
    }
}
