//! Files built by hand, byte by byte, after the format's specification.

use super::*;
use crate::capture::Frame;
use flate2::Compression as Level;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use std::io::{Cursor, Write};

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

#[test]
fn pcap_in_both_byte_orders_and_resolutions() {
    for big in [false, true] {
        for (magic, nanos) in [(0xa1b2_c3d4, 7_000), (0xa1b2_3c4d, 7)] {
            let file = Bytes::new(big).pcap(magic, (2, 4), 0, ETHERNET).record(u32::MAX, 7, 1500, &[9, 8, 7]);
            let (frames, errors) = read(file.out);
            let stamp = i64::from(u32::MAX) * 1_000_000_000 + nanos;
            assert_eq!(
                (frames, errors.len()),
                (vec![seen(stamp, 1, 1500, &[9, 8, 7])], 0),
                "{magic:x} {big}"
            );
        }
    }
}

#[test]
fn modified_pcap_has_longer_record_headers() {
    let file = Bytes::new(false).pcap(0xa1b2_cd34, (2, 4), 65_535, ETHERNET);
    let record = |file: Bytes, data: &[u8]| {
        file.word(1).word(0).word(data.len() as u32).word(99).word(2).half(0x0800).half(0).raw(data)
    };
    let (frames, errors) = read(record(record(file, &[1, 2]), &[3]).out);
    assert_eq!(errors, [""; 0]);
    assert_eq!(frames, [seen(1_000_000_000, 1, 99, &[1, 2]), seen(1_000_000_000, 1, 99, &[3])]);
}

#[test]
fn old_versions_write_the_wire_length_first() {
    for version in [(2, 2), (2, 3), (543, 0)] {
        let file = Bytes::new(true).pcap(0xa1b2_c3d4, version, 68, ETHERNET);
        let file = file.word(0).word(0).word(100).word(2).raw(&[5, 6]);
        assert_eq!(read(file.out).0, [seen(0, 1, 100, &[5, 6])], "{version:?}");
    }
    assert!(refusal(&Bytes::new(true).pcap(0xa1b2_c3d4, (3, 0), 0, 1).out).contains("version 3.0"));
}

#[test]
fn the_snapshot_length_of_the_header_does_not_matter() {
    for snaplen in [0, 1, u32::MAX] {
        let file =
            Bytes::new(false).pcap(0xa1b2_c3d4, (2, 4), snaplen, ETHERNET).record(0, 0, 70_000, &[0; 70_000]);
        assert_eq!(read(file.out).0[0].data.len(), 70_000);
    }
}

#[test]
fn frame_check_sequence_bits_are_not_part_of_the_link_type() {
    let file = Bytes::new(false).pcap(0xa1b2_c3d4, (2, 4), 0, 0x4400_0001).record(0, 0, 1, &[0]);
    assert_eq!(read(file.out).0[0].link, 1);
}

#[test]
fn an_unknown_link_type_is_delivered_for_decode_to_count() {
    let file = Bytes::new(false).pcap(0xa1b2_c3d4, (2, 4), 0, 10).record(0, 0, 1, &[0]);
    assert_eq!(read(file.out).0[0].link, 10);
}

#[test]
fn a_fraction_of_a_second_or_more_is_carried_over() {
    let file = Bytes::new(false).pcap(0xa1b2_c3d4, (2, 4), 0, ETHERNET).record(10, 2_500_000, 1, &[0]);
    assert_eq!(read(file.out).0[0].nanos, 12_500_000_000);
}

#[test]
fn an_absurd_length_ends_the_file_and_is_told_once() {
    let file = small_pcap().word(9).word(9).word(0x5400_0000).word(60).raw(&[0; 100]);
    let (frames, errors) = read(file.out);
    assert_eq!(frames.len(), 3);
    assert_eq!(
        errors,
        [
            "file 't': is damaged at byte 113: a packet claims 1409286144 captured bytes, more than the 262144 possible; \
         the 3 frames before it count; for the rest, copy or capture it again"
        ]
    );
}

#[test]
fn pcapng_with_sections_of_both_orders_and_interfaces_of_several_links() {
    let first = Bytes::new(true)
        .section()
        .interface(1, 0, &[(2, b"eth0")])
        .interface(113, 0, &[(9, &[9])])
        .block(0x0bad, Bytes::new(true).word(1).raw(b"custom"))
        .enhanced(1, 5, 70, &[1, 2, 3])
        .enhanced(0, 6, 71, &[4]);
    let second = Bytes::new(false).section().interface(276, 0, &[]).enhanced(0, 7, 72, &[5, 6]);
    let mut source =
        ReplaySource::from_reader("t", Cursor::new([first.out, second.out].concat()), None).unwrap();
    let mut count = 0;
    while let SourceEvent::Frame(_) = source.next_event().unwrap() {
        count += 1;
    }
    assert_eq!(count, 3);
    assert_eq!(source.link_types(), ["EN10MB", "LINUX_SLL", "LINUX_SLL2"]);
    source.publish();
    let stats = source.counters()[0].load();
    assert_eq!((stats.frames, stats.bytes, stats.up), (3, 213, false));
}

#[test]
fn pcapng_time_resolutions_and_offsets() {
    let table: [(&[u8], u64, i64); 7] = [
        (&[6], 1_500_000, 1_500_000_000),
        (&[9], 1_500_000_001, 1_500_000_001),
        (&[0], 3, 3_000_000_000),
        (&[12], 1_500_000_000_999, 1_500_000_000),
        (&[0x80 | 10], 1536, 1_500_000_000),
        (&[0x80 | 127], u64::MAX, 0),
        (&[127], u64::MAX, 0),
    ];
    for (resolution, units, nanos) in table {
        for big in [false, true] {
            let offset = if big { 10_i64.to_be_bytes() } else { 10_i64.to_le_bytes() };
            let file = Bytes::new(big)
                .section()
                .interface(1, 0, &[(9, resolution)])
                .interface(1, 0, &[(9, resolution), (14, &offset)])
                .enhanced(0, units, 1, &[0])
                .enhanced(1, units, 1, &[0]);
            let stamps: Vec<i64> = read(file.out).0.iter().map(|frame| frame.nanos).collect();
            assert_eq!(stamps, [nanos, nanos + 10_000_000_000], "{resolution:?}");
        }
    }
}

#[test]
fn simple_and_obsolete_packets() {
    let simple = |on_wire: u32, data: &[u8]| Bytes::new(false).word(on_wire).raw(data);
    let obsolete = Bytes::new(false).half(0).half(3).word(0).word(9).word(2).word(50).raw(&[7, 8]);
    let file = Bytes::new(false)
        .section()
        .interface(1, 4, &[])
        .block(3, simple(100, &[1, 2, 3, 4]))
        .block(2, obsolete)
        .block(3, simple(3, &[5, 6, 7]));
    let expected = [
        seen(0, 1, 100, &[1, 2, 3, 4]),
        seen(9_000, 1, 50, &[7, 8]),
        // Without a stamp of its own: time stands still. Padding is not data.
        seen(9_000, 1, 3, &[5, 6, 7]),
    ];
    assert_eq!(read(file.out), (expected.to_vec(), vec![]));
}

#[test]
fn damaged_pcapng_blocks_are_named() {
    let start = || Bytes::new(false).section().interface(1, 0, &[]);
    let mut lengths_differ = start().enhanced(0, 1, 1, &[0]).out;
    let end = lengths_differ.len() - 4;
    lengths_differ[end] ^= 4;
    let table = [
        (start().enhanced(1, 0, 1, &[0]).out, "interface 1, which nothing describes"),
        (start().word(6).word(13).word(0).out, "impossible length 13"),
        (start().word(6).word(0).word(0).out, "impossible length 0"),
        (start().word(6).word(16).word(0).word(16).out, "impossible length 16"),
        (
            start().block(6, Bytes::new(false).word(0).word(0).word(0).word(99).word(99)).out,
            "claims 99 captured",
        ),
        (lengths_differ, "before it and"),
        (
            Bytes::new(false).section().block(3, Bytes::new(false).word(1).word(1)).out,
            "before the description",
        ),
    ];
    for (bytes, expected) in table {
        let (frames, errors) = read(bytes);
        assert_eq!((frames.len(), errors.len()), (0, 1), "{expected}");
        assert!(errors[0].contains(expected), "{}", errors[0]);
    }
}

#[test]
fn what_is_not_a_capture_is_refused_in_one_line() {
    let xz = [0xfd, b'7', b'z', b'X', b'Z', 0, 0, 4];
    let table: [(&[u8], &str); 7] = [
        (b"", "file 't': is empty"),
        (b"hello, this is text", "begins with the text \"hello, this is t\""),
        (b"a", "begins with the text \"a\""),
        (&[0x7f, b'E', b'L', b'F', 2], "begins with the bytes 7f 45 4c 46 02"),
        (&[0xd4, 0xc3, 0xb2, 0xa1, 2, 0], "middle of its file header"),
        (&[0x0a, 0x0d, 0x0d, 0x0a, 28], "middle of a pcapng section header"),
        (&xz, "xz -dc FILE | halfopen replay -"),
    ];
    for (bytes, expected) in table {
        let text = refusal(bytes);
        assert!(text.contains(expected) && !text.contains('\n'), "{text}");
        assert!(text.contains("; "), "{text} says what mends it");
    }
    let missing = ReplaySource::open(&["/nonexistent.pcap".into()], None).unwrap_err().to_string();
    assert!(missing.contains("no such file or directory; check its name"), "{missing}");
    let directory = ReplaySource::open(&["/".into()], None).unwrap_err().to_string();
    assert!(directory.contains("is a directory; name a file in it"), "{directory}");
    let twice = ReplaySource::open(&["-".into(), "-".into()], None).unwrap_err().to_string();
    assert!(twice.contains("only once"), "{twice}");
}

#[test]
fn a_file_with_only_a_header_has_no_frames() {
    let empty = Bytes::new(false).pcap(0xa1b2_c3d4, (2, 4), 65_535, ETHERNET);
    assert_eq!(read(empty.out), (vec![], vec![]));
}

#[test]
fn compressed_files_are_told_by_their_bytes() {
    let plain = small_pcap().out;
    let expected = read(plain.clone()).0;
    let gzip = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Level::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let half = plain.len() / 2;
    let members = [gzip(&plain[..half]), gzip(&plain[half..])].concat();
    let zstd = zstd::encode_all(plain.as_slice(), 0).unwrap();
    for bytes in [gzip(&plain), members, zstd.clone()] {
        assert_eq!(read(bytes), (expected.clone(), vec![]));
    }
    let whole = gzip(&plain);
    let (_, errors) = read(whole[..whole.len() - 6].to_vec());
    assert!(errors[0].contains("its gzip data ends early"), "{errors:?}");
    // So small a file is one zstd block, of which nothing can be read unless it is whole.
    assert_eq!(refusal(&zstd[..zstd.len() - 6]), "file 't': its zstd data ends early");
}

/// Cut anywhere: the frames that are whole are given, and what is cut is told unless the cut lies between records.
#[test]
fn truncated_at_every_byte() {
    for whole in [small_pcap().out, small_pcapng().out] {
        let (frames, _) = read(whole.clone());
        assert_eq!(frames.len(), 3);
        let mut most = 0;
        for end in 0..whole.len() {
            let Ok(source) = ReplaySource::from_reader("t", Cursor::new(whole[..end].to_vec()), None) else {
                assert_eq!(most, 0, "refused at {end} although {most} frames are whole");
                continue;
            };
            let (got, errors) = drain(source);
            assert_eq!(got, frames[..got.len()], "at {end}");
            assert!(got.len() >= most, "at {end}");
            most = got.len();
            assert!(errors.len() <= 1);
            if let Some(error) = errors.first() {
                assert!(error.contains(&format!("the {} frames before", got.len())), "{error}");
            }
        }
        assert_eq!(most, 2);
    }
}

#[test]
fn a_filter_applies_to_every_frame() {
    let frame = |ethertype: [u8; 2]| [&[0; 12][..], &ethertype, &[0; 46]].concat();
    let file = small_pcap().record(7, 0, 60, &frame([8, 6])).record(8, 0, 60, &frame([8, 0]));
    let source = ReplaySource::from_reader("t", Cursor::new(file.out.clone()), Some("arp")).unwrap();
    let frames = drain(source).0;
    assert_eq!(frames.iter().map(|frame| frame.nanos).collect::<Vec<_>>(), [7_000_000_000]);
    let error = ReplaySource::from_reader("t", Cursor::new(file.out), Some("tcp prot 80")).unwrap_err();
    assert!(error.to_string().starts_with("filter 'tcp prot 80': "), "{error}");
}

#[test]
fn stopping_ends_it_before_the_next_frame() {
    let mut source = ReplaySource::from_reader("t", Cursor::new(small_pcap().out), None).unwrap();
    assert!(matches!(source.next_event(), Ok(SourceEvent::Frame(_))));
    source.stop_handle().stop();
    assert!(matches!(source.next_event(), Ok(SourceEvent::End)));
    assert_eq!(source.counters()[0].load().frames, 1);
}

#[test]
fn a_damaged_file_does_not_end_the_others() {
    let file = |bytes: Vec<u8>| open_stream("t".into(), Box::new(Cursor::new(bytes)), None).unwrap();
    let mut cut = small_pcap().out;
    cut.truncate(cut.len() - 1);
    let source =
        ReplaySource::over(vec![file(cut), file(small_pcap().out)], Arc::default(), StopHandle::new());
    let (frames, errors) = drain(source);
    assert_eq!((frames.len(), errors.len()), (5, 1));
}

#[test]
fn progress_reaches_the_size_of_the_file() {
    let path = std::env::temp_dir().join(format!("halfopen-progress-{}.pcap", std::process::id()));
    std::fs::write(&path, small_pcap().out).unwrap();
    let source = ReplaySource::open(std::slice::from_ref(&path), None).unwrap();
    let progress = source.progress();
    let names = source.file_names();
    drain(source);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(names, [path.display().to_string()]);
    assert_eq!((progress.bytes_read(), progress.total()), (113, Some(113)));
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
