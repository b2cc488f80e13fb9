//! The formats as their specifications have them, and what is told of damaged ones.

use super::*;

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
