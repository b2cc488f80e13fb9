//! What a kernel did, as a file: the packets of one port without their bytes, and what the kernel said it held.
//!
//! A text of lines, compressed with zstd:
//!
//! ```text
//! {"name":"128-9th","backlog":128,…}      the case, one line of JSON
//! t 1750000001.002 128 17                 a sample: when, how exact (milliseconds), entries in SYN_RECV
//! n 12 12 0 0 0                           the kernel's counters at that sample, where they changed, in the order of `COUNTERS`
//! 1520 S                                  a packet: microseconds since the last, what
//! 31 A                                    … of the connection opened last
//! 812 A 12                                … of the connection opened 12 before that
//! ```
//!
//! Packets: `S` a SYN with a new sequence number (which opens the next connection), `D` the same SYN again, `A` a SYN-ACK, `B` a
//! SYN-ACK with another sequence number than before, `K` an ACK of the SYN-ACK, `P` the same with data, `W` an ACK with the next number
//! but one, `R` a reset by the originator, `F` one by the server that acknowledges, `G` one that does not, at the number of `W`,
//! `X` an ACK of any number, `Y` the server's reset at that number. Addresses and sequence numbers mean nothing to the queue and are made up on reading.

use halfopen::decode::segment::{Endpoint, Segment, SegmentKind, SeqNumber, TcpFlags};
use halfopen::time::Timestamp;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

/// The `TcpExt` counters that tell of listeners. A pair of namespaces has one set: where several cases share them, they are those
/// of all of them together (`"alone": false`).
pub const COUNTERS: [&str; 5] =
    ["SyncookiesSent", "TCPReqQFullDoCookies", "TCPReqQFullDrop", "ListenDrops", "ListenOverflows"];

/// What the kernel said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// The middle of the time the question took.
    pub at: Timestamp,
    /// Half of that time, milliseconds.
    pub blur: f64,
    /// Entries in SYN_RECV.
    pub entries: u32,
    /// The counters, in the order of [`COUNTERS`].
    pub counters: [u64; 5],
}

/// One packet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Packet {
    pub at: Timestamp,
    pub what: u8,
    /// Number of its connection, in order of opening.
    pub connection: u32,
}

/// The record of one case.
#[derive(Debug, Clone, PartialEq)]
pub struct Truth {
    /// The case and the kernel it ran on.
    pub about: serde_json::Value,
    pub samples: Vec<Sample>,
    pub packets: Vec<Packet>,
}

/// One line of a record in order of time.
#[derive(Debug, Clone, Copy)]
pub enum Moment<'a> {
    Packet(&'a Packet),
    Sample(&'a Sample),
}

impl Truth {
    /// Writes the record.
    pub fn write(&self, path: &Path) {
        let mut text = format!("{}\n", self.about);
        let mut last = Timestamp::EPOCH;
        let mut opened = 0;
        let mut counted = [0; 5];
        for moment in self.moments() {
            match moment {
                Moment::Sample(Sample { at, blur, entries, counters }) => {
                    writeln!(text, "t {:.6} {blur:.1} {entries}", at.as_secs_f64()).unwrap();
                    if counted != *counters {
                        counted = *counters;
                        writeln!(text, "n {}", counted.map(|n| n.to_string()).join(" ")).unwrap();
                    }
                }
                Moment::Packet(packet) => {
                    if packet.what == b'S' {
                        opened = packet.connection;
                    }
                    let after = if last == Timestamp::EPOCH {
                        packet.at
                    } else {
                        Timestamp::EPOCH.plus(packet.at.since(last))
                    };
                    write!(text, "{} {}", after.as_nanos() / 1000, packet.what as char).unwrap();
                    match opened - packet.connection {
                        0 => text.push('\n'),
                        back => writeln!(text, " {back}").unwrap(),
                    }
                    last = packet.at;
                }
            }
        }
        std::fs::write(path, zstd::encode_all(text.as_bytes(), 19).unwrap()).unwrap();
    }

    /// Reads a record.
    pub fn read(path: &Path) -> Self {
        let mut text = String::new();
        let file = std::fs::File::open(path).unwrap();
        zstd::Decoder::new(file).unwrap().read_to_string(&mut text).unwrap();
        let (about, lines) = text.split_once('\n').unwrap();
        let mut truth =
            Self { about: serde_json::from_str(about).unwrap(), samples: Vec::new(), packets: Vec::new() };
        let (mut micros, mut opened) = (0_i64, None);
        let mut counters = [0; 5];
        for line in lines.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            if let ["t", at, blur, entries] = words[..] {
                let at = Timestamp::from_nanos((at.parse::<f64>().unwrap() * 1e6).round() as i64 * 1000);
                let (blur, entries) = (blur.parse().unwrap(), entries.parse().unwrap());
                truth.samples.push(Sample { at, blur, entries, counters });
                continue;
            }
            if let ["n", counts @ ..] = &words[..] {
                for (counter, count) in counters.iter_mut().zip(counts) {
                    *counter = count.parse().unwrap();
                }
                truth.samples.last_mut().unwrap().counters = counters;
                continue;
            }
            micros += words[0].parse::<i64>().unwrap();
            let what = words[1].as_bytes()[0];
            if what == b'S' {
                opened = Some(opened.map_or(0, |number: u32| number + 1));
            }
            let back: u32 = words.get(2).map_or(0, |word| word.parse().unwrap());
            let connection = opened.unwrap() - back;
            truth.packets.push(Packet { at: Timestamp::from_nanos(micros * 1000), what, connection });
        }
        truth
    }

    /// When the kernel had not yet sent a cookie or dropped, by its counters, and had 20 ms later: seconds since the first
    /// sample; none where it never did, or others share the counters.
    pub fn first_counted(&self) -> Option<f64> {
        // What a full accept queue drops is another matter, and counted as a drop too.
        let refusals = COUNTERS.iter().filter(|name| !name.contains("Overflows"));
        let first = refusals.filter_map(|name| self.about["moved"][*name].as_f64()).min_by(f64::total_cmp);
        first.map(|at| at - self.samples[0].at.as_secs_f64())
    }

    /// Packets and samples in order of time.
    pub fn moments(&self) -> impl Iterator<Item = Moment<'_>> {
        let mut samples = self.samples.iter().peekable();
        let mut packets = self.packets.iter().peekable();
        std::iter::from_fn(move || match (packets.peek(), samples.peek()) {
            (Some(packet), Some(sample)) if sample.at < packet.at => samples.next().map(Moment::Sample),
            (Some(_), _) => packets.next().map(Moment::Packet),
            (None, _) => samples.next().map(Moment::Sample),
        })
    }
}

/// The server of every record.
pub const SERVER: Endpoint = Endpoint::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)), 80);

impl Packet {
    /// The segment it stands for.
    pub fn segment(&self) -> Segment {
        let number = self.connection;
        // Any numbers will do, so long as they differ from one connection to the next.
        let isn = number.wrapping_mul(0x9e37_79b9) ^ 0x5bd1_e995;
        let answer = !isn.rotate_left(7);
        let any = answer.rotate_left(13) ^ 0x1234_5678;
        let address = Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 0).to_bits() | (number & 0x1_ffff));
        let originator = Endpoint::new(IpAddr::V4(address), 1024 + (number >> 17) as u16);
        let (flags, from_originator) = match self.what {
            b'S' | b'D' => (TcpFlags::SYN, true),
            b'A' | b'B' => (TcpFlags::SYN | TcpFlags::ACK, false),
            b'K' | b'P' | b'W' | b'X' => (TcpFlags::ACK, true),
            b'R' => (TcpFlags::RST, true),
            b'F' => (TcpFlags::RST | TcpFlags::ACK, false),
            b'G' | b'Y' => (TcpFlags::RST, false),
            other => panic!("'{}' is no packet", other as char),
        };
        let answer = if self.what == b'B' { answer.wrapping_add(1) } else { answer };
        let (seq, ack) = match self.what {
            b'S' | b'D' => (isn, 0),
            b'A' | b'B' | b'F' => (answer, isn.wrapping_add(1)),
            b'W' => (isn.wrapping_add(1), answer.wrapping_add(2)),
            b'G' => (answer.wrapping_add(2), 0),
            b'X' => (isn.wrapping_add(1), any),
            b'Y' => (any, 0),
            _ => (isn.wrapping_add(1), answer.wrapping_add(1)),
        };
        let (src, dst) = if from_originator { (originator, SERVER) } else { (SERVER, originator) };
        Segment {
            ts: self.at,
            src,
            dst,
            seq: SeqNumber(seq),
            ack: SeqNumber(ack),
            flags: TcpFlags(flags),
            kind: SegmentKind::of(TcpFlags(flags)),
            payload_len: u16::from(self.what == b'P'),
            window: 512,
            ttl: 64,
            options_len: 0,
        }
    }
}

/// Makes packets of one port of what was captured there.
#[derive(Debug, Default)]
pub struct Recorder {
    pub packets: Vec<Packet>,
    open: HashMap<Endpoint, Connection>,
    opened: u32,
}

#[derive(Debug, Clone, Copy)]
struct Connection {
    number: u32,
    isn: SeqNumber,
    answer: Option<SeqNumber>,
    /// What an ACK of any number acknowledged.
    any: Option<SeqNumber>,
    /// Segments of the established connection already noted: two are enough to tell an ACK and the data after it.
    noted: u8,
}

impl Recorder {
    /// Takes a segment to or from the port.
    pub fn take(&mut self, segment: &Segment, to_server: bool) {
        let originator = if to_server { segment.src } else { segment.dst };
        let known = self.open.get(&originator).copied();
        let (what, connection) = match (segment.kind, to_server, known) {
            (SegmentKind::Syn, true, Some(known)) if known.isn == segment.seq => (b'D', known),
            (SegmentKind::Syn, true, _) => {
                self.opened += 1;
                (
                    b'S',
                    Connection {
                        number: self.opened - 1,
                        isn: segment.seq,
                        answer: None,
                        any: None,
                        noted: 0,
                    },
                )
            }
            (SegmentKind::SynAck, false, Some(known)) => {
                let same = known.answer.is_none_or(|answer| answer == segment.seq);
                (if same { b'A' } else { b'B' }, Connection { answer: Some(segment.seq), ..known })
            }
            (SegmentKind::Ack, true, Some(known)) if known.noted < 2 => {
                let beyond = known.answer.is_some_and(|answer| segment.ack == answer.plus(2));
                let right = known.answer.is_some_and(|answer| segment.ack == answer.plus(1));
                let (what, any) = match segment.payload_len {
                    0 if beyond => (b'W', known.any),
                    0 if right => (b'K', known.any),
                    0 => (b'X', Some(segment.ack)),
                    _ => (b'P', known.any),
                };
                (what, Connection { noted: known.noted + 1, any, ..known })
            }
            (SegmentKind::Rst, true, Some(known)) => (b'R', known),
            (SegmentKind::Rst, false, Some(known)) => {
                let what = match segment.flags.has(TcpFlags::ACK) {
                    true => b'F',
                    false if known.any == Some(segment.seq) => b'Y',
                    false => b'G',
                };
                (what, known)
            }
            _ => return,
        };
        self.open.insert(originator, connection);
        self.packets.push(Packet { at: segment.ts, what, connection: connection.number });
    }
}
