//! Stage 2 of 5, decode: bytes of a frame to a `Segment`, or the reason why not. Pure functions.
//!
//! No state, no clock, no map, no I/O, no allocation. May touch pnet_packet.

pub mod segment;

use segment::Segment;

/// What became of a frame. Every frame is exactly one of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded {
    /// A TCP segment.
    Tcp(Segment),
    /// Decoded, and not TCP: another protocol, or a later fragment, in which no TCP header can be.
    NotTcp(NotTcp),
    /// Not decoded.
    Undecoded(DecodeError),
}

/// Why a frame is not TCP; fragments are told apart because they can hide it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotTcp {
    /// Another protocol.
    Other,
    /// A fragment that is not the first of a TCP packet.
    LaterFragment,
}

/// Why a frame was not decoded. The label is a metric label and a JSON key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DecodeError {
    /// The capture ends inside the link-layer header or its tags.
    TruncatedLink,
    /// The capture ends inside an IP header or its extension headers.
    TruncatedNetwork,
    /// The capture or the IP packet ends before the 14th byte of the TCP header, where the flags are.
    TruncatedTransport,
    /// The IP version is neither 4 nor 6 where an IP packet must be.
    BadVersion,
    /// IPv4 header length below 20 bytes or beyond the total length (RFC 791 section 3.1).
    BadHeaderLength,
    /// An IP total length smaller than its header.
    BadTotalLength,
    /// TCP data offset below 5 (RFC 9293 section 3.1).
    BadDataOffset,
    /// A first fragment too short for a TCP header (RFC 1858).
    TinyFragment,
    /// More tunnels or tags nested than are followed.
    TooDeep,
    /// A link type that is not decoded.
    UnknownLink,
}

impl DecodeError {
    /// Every reason; series exist for all of them from the start.
    pub const ALL: [Self; 10] = [
        Self::TruncatedLink,
        Self::TruncatedNetwork,
        Self::TruncatedTransport,
        Self::BadVersion,
        Self::BadHeaderLength,
        Self::BadTotalLength,
        Self::BadDataOffset,
        Self::TinyFragment,
        Self::TooDeep,
        Self::UnknownLink,
    ];

    /// The label in metrics and JSON.
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::TruncatedLink => "truncated_link",
            Self::TruncatedNetwork => "truncated_network",
            Self::TruncatedTransport => "truncated_transport",
            Self::BadVersion => "bad_version",
            Self::BadHeaderLength => "bad_header_length",
            Self::BadTotalLength => "bad_total_length",
            Self::BadDataOffset => "bad_data_offset",
            Self::TinyFragment => "tiny_fragment",
            Self::TooDeep => "too_deep",
            Self::UnknownLink => "unknown_link",
        }
    }
}
