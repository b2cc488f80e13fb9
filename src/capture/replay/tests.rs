//! Files built by hand, byte by byte, after the format's specification.

use super::*;
use crate::capture::Frame;
use flate2::Compression as Level;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use std::io::{Cursor, Write};

mod files;
mod formats;

const ETHERNET: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    nanos: i64,
    link: u16,
    on_wire: u32,
    data: Vec<u8>,
}

fn seen(nanos: i64, link: u16, on_wire: u32, data: &[u8]) -> Seen {
    Seen { nanos, link, on_wire, data: data.to_vec() }
}

/// All frames, and all errors.
fn drain(mut source: ReplaySource) -> (Vec<Seen>, Vec<String>) {
    let (mut frames, mut errors) = (Vec::new(), Vec::new());
    loop {
        match source.next_event() {
            Ok(SourceEvent::Frame(Frame { ts, link, orig_len, data })) => {
                frames.push(seen(ts.as_nanos(), link.0, orig_len, data));
            }
            Ok(SourceEvent::Idle(_)) => panic!("a replay has no idle moments"),
            Ok(SourceEvent::End) => break,
            Err(error) => errors.push(error.to_string()),
        }
    }
    assert!(matches!(source.next_event(), Ok(SourceEvent::End)), "the end stays the end");
    (frames, errors)
}

fn read(bytes: Vec<u8>) -> (Vec<Seen>, Vec<String>) {
    drain(ReplaySource::from_reader("t", Cursor::new(bytes), None).unwrap())
}

fn refusal(bytes: &[u8]) -> String {
    ReplaySource::from_reader("t", Cursor::new(bytes.to_vec()), None).unwrap_err().to_string()
}

/// Writes words in one byte order.
#[derive(Clone)]
struct Bytes {
    big: bool,
    out: Vec<u8>,
}

impl Bytes {
    fn new(big: bool) -> Self {
        Self { big, out: Vec::new() }
    }

    fn half(mut self, value: u16) -> Self {
        self.out.extend(if self.big { value.to_be_bytes() } else { value.to_le_bytes() });
        self
    }

    fn word(mut self, value: u32) -> Self {
        self.out.extend(if self.big { value.to_be_bytes() } else { value.to_le_bytes() });
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.out.extend_from_slice(bytes);
        self
    }

    fn pcap(self, magic: u32, version: (u16, u16), snaplen: u32, link: u32) -> Self {
        self.word(magic).half(version.0).half(version.1).word(0).word(0).word(snaplen).word(link)
    }

    fn record(self, seconds: u32, fraction: u32, on_wire: u32, data: &[u8]) -> Self {
        self.word(seconds).word(fraction).word(data.len() as u32).word(on_wire).raw(data)
    }

    /// A pcapng block: padded body between its lengths.
    fn block(self, kind: u32, body: Self) -> Self {
        let mut body = body.out;
        body.resize(body.len().next_multiple_of(4), 0);
        let length = body.len() as u32 + 12;
        self.word(kind).word(length).raw(&body).word(length)
    }

    fn section(self) -> Self {
        let body = Self::new(self.big).word(0x1a2b_3c4d).half(1).half(0).word(u32::MAX).word(u32::MAX);
        self.block(0x0a0d_0d0a, body)
    }

    fn interface(self, link: u16, snaplen: u32, options: &[(u16, &[u8])]) -> Self {
        let mut body = Self::new(self.big).half(link).half(0).word(snaplen);
        for (code, value) in options {
            body = body.half(*code).half(value.len() as u16).raw(value);
            body.out.resize(body.out.len().next_multiple_of(4), 0);
        }
        if !options.is_empty() {
            body = body.word(0);
        }
        self.block(1, body)
    }

    fn enhanced(self, interface: u32, units: u64, on_wire: u32, data: &[u8]) -> Self {
        let body = Self::new(self.big)
            .word(interface)
            .word((units >> 32) as u32)
            .word(units as u32)
            .word(data.len() as u32)
            .word(on_wire)
            .raw(data);
        self.block(6, body)
    }
}

fn small_pcap() -> Bytes {
    Bytes::new(false)
        .pcap(0xa1b2_c3d4, (2, 4), 65_535, ETHERNET)
        .record(1, 2, 60, &[1; 14])
        .record(3, 4, 61, &[2; 20])
        .record(5, 6, 62, &[3; 7])
}

fn small_pcapng() -> Bytes {
    Bytes::new(false)
        .section()
        .interface(1, 0, &[])
        .enhanced(0, 1_000_002, 60, &[1; 14])
        .enhanced(0, 3_000_004, 61, &[2; 20])
        .enhanced(0, 5_000_006, 62, &[3; 7])
}

proptest! {
    /// Merged output is ordered by stamp and file where each file is, keeps each file's own order, and loses nothing.
    #[test]
    fn merging_is_a_stable_merge(files in prop::collection::vec(prop::collection::vec(0_u32..20, 0..30), 2..6)) {
        let mut sources = Vec::new();
        let mut expected = Vec::new();
        for (index, stamps) in files.iter().enumerate() {
            let mut stamps = stamps.clone();
            stamps.sort_unstable();
            let mut bytes = Bytes::new(index % 2 == 0).pcap(0xa1b2_c3d4, (2, 4), 0, ETHERNET);
            for (at, stamp) in stamps.iter().enumerate() {
                bytes = bytes.record(*stamp, 0, 60, &[index as u8, at as u8]);
                expected.push((*stamp, vec![index as u8, at as u8]));
            }
            sources.push(open_stream(index.to_string(), Box::new(Cursor::new(bytes.out)), None).unwrap());
        }
        expected.sort();
        let source = ReplaySource::over(sources, Arc::default(), StopHandle::new());
        let merged: Vec<(u32, Vec<u8>)> =
            drain(source).0.into_iter().map(|f| ((f.nanos / 1_000_000_000) as u32, f.data)).collect();
        prop_assert_eq!(merged, expected);
    }

    /// Files whose stamps jump back are still read whole and each in its own order.
    #[test]
    fn merging_keeps_every_files_own_order(files in prop::collection::vec(prop::collection::vec(0_u32..20, 0..30), 2..5)) {
        let mut sources = Vec::new();
        for (index, stamps) in files.iter().enumerate() {
            let mut bytes = Bytes::new(false).pcap(0xa1b2_c3d4, (2, 4), 0, ETHERNET);
            for (at, stamp) in stamps.iter().enumerate() {
                bytes = bytes.record(*stamp, 0, 60, &[index as u8, at as u8]);
            }
            sources.push(open_stream(index.to_string(), Box::new(Cursor::new(bytes.out)), None).unwrap());
        }
        let merged = drain(ReplaySource::over(sources, Arc::default(), StopHandle::new())).0;
        for (index, stamps) in files.iter().enumerate() {
            let own: Vec<u8> = merged.iter().filter(|f| f.data[0] == index as u8).map(|f| f.data[1]).collect();
            prop_assert_eq!(own, (0..stamps.len() as u8).collect::<Vec<_>>());
        }
    }

    /// Nothing a file holds makes a panic.
    #[test]
    fn arbitrary_bytes_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), ng: bool) {
        let mut bytes = if ng { small_pcapng().out } else { small_pcap().out };
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(source) = ReplaySource::from_reader("t", Cursor::new(bytes), None) {
            drain(source);
        }
    }
}

#[test]
fn frames_of_a_link_type_nobody_decodes_are_given_and_told() {
    let file =
        Bytes::new(false).pcap(0xa1b2_c3d4, (2, 4), 0, 4242).record(1, 0, 1, &[0]).record(2, 0, 1, &[0]);
    // With a filter too: it could not be meant for them.
    for filter in [None, Some("port 80")] {
        let mut source = ReplaySource::from_reader("t", Cursor::new(file.out.clone()), filter).unwrap();
        let mut frames = 0;
        while let SourceEvent::Frame(_) = source.next_event().unwrap() {
            frames += 1;
        }
        let told: Vec<String> = source.undecoded().iter().map(ToString::to_string).collect();
        let expected = "file 't': link type 4242 is not decoded by halfopen; its 2 frames count as undecoded; \
             capture on an interface of another link type, or on 'any'";
        assert_eq!((frames, told), (2, vec![expected.to_owned()]));
    }
    let known = ReplaySource::from_reader("t", Cursor::new(small_pcap().out), None).unwrap();
    assert!(known.undecoded().is_empty());
}

#[test]
fn a_file_of_every_link_type_is_read_in_time() {
    let mut file = Bytes::new(false).section();
    for link in 0..60_000_u32 {
        file = file.block(1, Bytes::new(false).word(link).word(0));
        file = file.block(6, Bytes::new(false).word(link).word(0).word(0).word(0).word(0));
    }
    let mut source = ReplaySource::from_reader("t", Cursor::new(file.out), Some("port 80")).unwrap();
    while let SourceEvent::Frame(_) = source.next_event().unwrap() {}
    assert_eq!(source.link_types().len(), 64);
    let told = source.undecoded();
    assert!(told[0].to_string().contains(" and more are not decoded by halfopen"), "{}", told[0]);
}
