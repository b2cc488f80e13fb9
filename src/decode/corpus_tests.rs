//! Real captures against counts by an independent tracker, where the corpus lies beside the project.

use super::segment::TcpFlags;
use super::{Decoded, decode};
use crate::capture::{Frame, LinkType};
use crate::time::Timestamp;
use pcap_parser::traits::PcapNGPacketBlock;
use pcap_parser::{Block, PcapBlockOwned, PcapError, create_reader};
use std::io::{Cursor, Read};
use std::path::Path;

/// Counts as the truth has them: by flag, so that a SYN-RST is in two.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    packets: u64,
    tcp: u64,
    syn: u64,
    synack: u64,
    rst: u64,
}

/// Where we count otherwise than the truth, by file: what we count, and why that is right.
const DEVIATIONS: &[(&str, Counts, &str)] = &[
    (
        "cisco-fabric-path.pcap",
        Counts { packets: 130, tcp: 32, syn: 32, synack: 0, rst: 0 },
        "the truth does not look into FabricPath; Zeek has two packets in each of its 16 connections, tshark 32 SYNs",
    ),
    (
        "pbb.pcap",
        Counts { packets: 12, tcp: 8, syn: 1, synack: 1, rst: 0 },
        "the truth does not look into 802.1ah; tshark has these counts, and Zeek the connection, 5 and 3 packets",
    ),
    (
        "ip-discarder-truncated-tcp-oob.pcapng",
        Counts { packets: 1, tcp: 0, syn: 0, synack: 0, rst: 0 },
        "cut before the flags: the truth counts the packet as TCP by its protocol number, we as truncated",
    ),
    (
        "tcp_header_heapoverflow.pcap",
        Counts { packets: 1, tcp: 0, syn: 0, synack: 0, rst: 0 },
        "cut before the flags: the truth counts the packet as TCP by its protocol number, we as truncated",
    ),
];

fn count(counts: &mut Counts, link: LinkType, orig_len: u32, data: &[u8]) {
    counts.packets += 1;
    let Decoded::Tcp(segment) = decode(&Frame { ts: Timestamp::EPOCH, link, orig_len, data }) else { return };
    counts.tcp += 1;
    let has = |mask| segment.flags.has(mask);
    match (has(TcpFlags::SYN), has(TcpFlags::ACK)) {
        (true, true) => counts.synack += 1,
        (true, false) => counts.syn += 1,
        (false, _) => {}
    }
    counts.rst += u64::from(has(TcpFlags::RST));
}

/// The link type of a file header; the upper half of the field may tell of check sequences at the end of frames.
fn link_type(field: i32) -> LinkType {
    LinkType((field & 0xffff) as u16)
}

/// Reads a capture file of either format, as far as it can be read.
fn read(path: &Path) -> Counts {
    let mut bytes = std::fs::read(path).unwrap();
    if path.extension().is_some_and(|extension| extension == "gz") {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(Cursor::new(bytes)).read_to_end(&mut plain).unwrap();
        bytes = plain;
    }
    let mut counts = Counts::default();
    let mut reader = create_reader(1 << 21, Cursor::new(bytes)).unwrap();
    let mut links = Vec::new();
    loop {
        let link = |links: &[LinkType], interface: u32| links[usize::try_from(interface).unwrap()];
        let exhausted = reader.reader_exhausted();
        match reader.next() {
            Ok((used, block)) => {
                match block {
                    PcapBlockOwned::LegacyHeader(header) => {
                        links = vec![link_type(header.network.0)];
                    }
                    PcapBlockOwned::Legacy(packet) => {
                        count(&mut counts, links[0], packet.origlen, packet.data)
                    }
                    PcapBlockOwned::NG(Block::SectionHeader(_)) => links.clear(),
                    PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
                        links.push(link_type(interface.linktype.0));
                    }
                    PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                        count(&mut counts, link(&links, packet.if_id), packet.origlen, packet.packet_data());
                    }
                    PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
                        count(&mut counts, link(&links, 0), packet.origlen, packet.packet_data());
                    }
                    PcapBlockOwned::NG(_) => {}
                }
                reader.consume_noshift(used);
            }
            Err(PcapError::Eof) => return counts,
            Err(PcapError::Incomplete(_)) if exhausted => return counts,
            Err(PcapError::Incomplete(_)) => reader.refill().unwrap(),
            Err(_) => return counts,
        }
    }
}

#[test]
fn real_captures_count_as_the_truth_does() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    let Ok(truth) = std::fs::read(corpus.join("truth.json")) else {
        println!("skipped: no corpus at {}", corpus.display());
        return;
    };
    let truth: serde_json::Value = serde_json::from_slice(&truth).unwrap();
    let mut wrong = Vec::new();
    let mut exact = 0;
    for entry in truth.as_array().unwrap() {
        let name = entry["file"].as_str().unwrap();
        let field = |key: &str| entry["truth"][key].as_u64().unwrap();
        let expected = Counts {
            packets: field("packets"),
            tcp: field("tcp"),
            syn: field("syn"),
            synack: field("synack"),
            rst: field("rst"),
        };
        let found = read(&corpus.join(name));
        let deviation = DEVIATIONS.iter().find(|(file, ..)| name.ends_with(file));
        exact += usize::from(found == expected);
        if found != deviation.map_or(expected, |(_, counts, _)| *counts) {
            wrong.push(format!("{name}:\n  truth {expected:?}\n  found {found:?}\n  {}", entry["tshark"]));
        }
    }
    println!("{exact} files count exactly as the truth does; otherwise, and why:");
    for (file, _, why) in DEVIATIONS {
        println!("  {file}: {why}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
