//! Files as they lie on a disk: compressed, cut short, several of them, filtered, stopped.

use super::*;

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
