//! What a run of ordinary connections looked like on the wire, as a file: one line a segment, compressed with zstd.
//!
//! ```text
//! 41 20003 c 02 2871123456 0 0 64     microseconds since the last, the client's port, who sends (client, server), flags in hexadecimal,
//!                                     sequence number, acknowledgement, bytes of data, time to live
//! ```
//!
//! Numbers are written as what they differ by from where that side stood, which is nothing most of the time.

use halfopen::capture::memory::MemorySource;
use halfopen::capture::{FrameSource, LinkType, SourceEvent, replay::ReplaySource};
use halfopen::decode::segment::{Endpoint, TcpFlags};
use halfopen::decode::{Decoded, decode};
use halfopen::synth::frame::{Packet, Wire};
use halfopen::time::Timestamp;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const SERVER: Endpoint = Endpoint::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), 80);

/// By the client's port, the next number of the client and of the server.
#[derive(Default)]
struct Numbers(HashMap<u16, [u32; 2]>);

impl Numbers {
    /// Where both sides of the segment stand: the sender first.
    fn of(&self, port: u16, of_client: bool) -> [u32; 2] {
        let [client, server] = self.0.get(&port).copied().unwrap_or_default();
        if of_client { [client, server] } else { [server, client] }
    }

    fn pass(&mut self, port: u16, of_client: bool, seq: u32, len: u16, flags: u8) {
        let takes = u32::from(flags & (TcpFlags::SYN | TcpFlags::FIN) != 0) + u32::from(len);
        self.0.entry(port).or_default()[usize::from(!of_client)] = seq.wrapping_add(takes);
    }
}

/// Writes what a capture has of the server's port 80.
pub fn write(capture: &Path, record: &Path) {
    let (mut text, mut numbers, mut last) = (String::new(), Numbers::default(), None);
    let mut source = ReplaySource::open(&[capture.to_owned()], None).unwrap();
    while let SourceEvent::Frame(frame) = source.next_event().unwrap() {
        let Decoded::Tcp(segment) = decode(&frame) else { continue };
        let of_client = segment.dst.port == SERVER.port;
        let port = if of_client { segment.src.port } else { segment.dst.port };
        let (seq, ack, flags, len) = (segment.seq.0, segment.ack.0, segment.flags.0, segment.payload_len);
        let [own, other] = numbers.of(port, of_client);
        let micros = last.map_or(0, |last| segment.ts.since(last).as_micros());
        let ack = if flags & TcpFlags::ACK == 0 { 0 } else { ack.wrapping_sub(other) };
        let who = if of_client { 'c' } else { 's' };
        let seq_off = seq.wrapping_sub(own);
        writeln!(text, "{micros} {port} {who} {flags:02x} {seq_off} {ack} {len} {}", segment.ttl).unwrap();
        numbers.pass(port, of_client, seq, len, flags);
        last = Some(segment.ts);
    }
    std::fs::write(record, zstd::encode_all(text.as_bytes(), 19).unwrap()).unwrap();
}

/// What a record has, between addresses made up, as frames.
pub fn read(record: &Path) -> (MemorySource, Vec<Packet>) {
    let mut text = String::new();
    zstd::Decoder::new(std::fs::File::open(record).unwrap()).unwrap().read_to_string(&mut text).unwrap();
    let (mut numbers, mut now) = (Numbers::default(), Timestamp::from_parts(1_750_000_000, 0));
    let (mut source, mut packets, mut frame) = (MemorySource::new("record"), Vec::new(), Vec::new());
    for line in text.lines() {
        let [micros, port, who, flags, seq, ack, len, ttl] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        now = now.plus(Duration::from_micros(micros.parse().unwrap()));
        let (port, of_client) = (port.parse().unwrap(), who == "c");
        let flags = u8::from_str_radix(flags, 16).unwrap();
        let number = |text: &str| text.parse::<u32>().unwrap();
        let [own, other] = numbers.of(port, of_client);
        let (seq, payload_len) = (own.wrapping_add(number(seq)), len.parse().unwrap());
        let ack = if flags & TcpFlags::ACK == 0 { 0 } else { other.wrapping_add(number(ack)) };
        numbers.pass(port, of_client, seq, payload_len, flags);
        let client = Endpoint::new(CLIENT.into(), port);
        let (src, dst) = if of_client { (client, SERVER) } else { (SERVER, client) };
        let ttl = ttl.parse().unwrap();
        let packet = Packet { ack, flags, ttl, payload_len, ..Packet::bare_syn(src, dst, seq) };
        Wire::default().write(&packet, &mut frame);
        source.push(now, LinkType::ETHERNET, frame.len() as u32, &frame);
        packets.push(packet);
    }
    (source, packets)
}
