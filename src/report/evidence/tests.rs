//! Kept frames, read back by tcpdump and tshark, and the bounds they are kept within.

use super::*;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicU32;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);
const ID: &str = "20250615T150640Z-spoofed_flood-000001";
const LATER: &str = "20250615T150641Z-port_scan-000002";

/// A SYN from 198.18.0.1:1234 to 198.51.100.10:80, on Ethernet; the kernel's checksums are not asked for.
fn syn() -> Vec<u8> {
    let mut frame = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 0x08, 0x00];
    frame.extend([0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 198, 18, 0, 1, 198, 51, 100, 10]);
    frame.extend([0x04, 0xd2, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    frame
}

fn kept(data: &[u8]) -> KeptFrame<'_> {
    let ts = Timestamp::from_parts(1_750_000_000, 123_456_789);
    KeptFrame { ts, link: ETHERNET, orig_len: data.len() as u32, data }
}

fn store(config: EvidenceConfig) -> Arc<FrameStore> {
    FrameStore::new(&config, &Arc::default()).unwrap()
}

fn add(store: &FrameStore, id: &str, data: &[u8], times: usize) {
    store.append(std::iter::repeat_n((id, kept(data)), times));
}

/// Frames in a file, by its own lengths.
fn frames(mut file: &[u8]) -> usize {
    file = &file[FILE_HEADER..];
    let mut count = 0;
    while !file.is_empty() {
        let kept = u32::from_le_bytes(file[8..12].try_into().unwrap()) as usize;
        file = &file[FRAME_HEADER + kept..];
        count += 1;
    }
    count
}

/// What a tool prints of a capture, given on its standard input.
fn printed(command: &mut Command, file: Vec<u8>) -> String {
    use std::io::Write;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|why| panic!("{command:?}: {why}; 'scripts/setup.sh --tests' installs it"));
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(&file));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn tcpdump_and_tshark_open_it() {
    let store = store(EvidenceConfig::default());
    store.begin(ID);
    add(&store, ID, &syn(), 2);
    let mut long = syn();
    long.extend([7; 1000]);
    add(&store, ID, &long, 1);
    let file = store.pcap(ID).unwrap();
    let text = printed(Command::new("tcpdump").args(["-n", "-tt", "--nano", "-r", "-"]), file.clone());
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    let expected = "1750000000.123456789 IP 198.18.0.1.1234 > 198.51.100.10.80: Flags [S], seq 1";
    assert!(lines.iter().all(|line| line.starts_with(expected)), "{text}");
    let fields = ["-e", "frame.len", "-e", "frame.cap_len", "-e", "tcp.dstport", "-e", "tcp.flags.syn"];
    let text = printed(Command::new("tshark").args(["-n", "-r", "-", "-T", "fields"]).args(fields), file);
    assert_eq!(text, "54\t54\t80\t1\n54\t54\t80\t1\n1054\t128\t80\t1\n");
}

#[test]
fn an_incident_without_frames_is_an_empty_capture() {
    let store = store(EvidenceConfig::default());
    store.begin(ID);
    let file = store.pcap(ID).unwrap();
    assert_eq!(printed(Command::new("tcpdump").args(["-n", "-r", "-"]), file), "");
    assert_eq!(store.pcap(LATER), None);
    assert!(!store.has(ID) && !store.has(LATER), "no frame to look at");
    add(&store, ID, &syn(), 1);
    assert!(store.has(ID));
}

#[test]
fn an_incident_is_bounded_and_so_are_all() {
    let config = EvidenceConfig {
        incident_bytes: 1000,
        memory_bytes: 3 * (OVERHEAD + 1000),
        ..EvidenceConfig::default()
    };
    let store = store(config);
    // 54 + 16 bytes each: 13 of them and the file's header are 934 bytes, one more 1,004.
    store.begin(ID);
    add(&store, ID, &syn(), 20);
    assert_eq!(store.pcap(ID).map(|file| (file.len(), frames(&file))), Some((934, 13)));
    assert_eq!(store.counts.frames.load(Ordering::Relaxed), 13);
    assert_eq!(store.counts.full.load(Ordering::Relaxed), 7);

    let ids: Vec<String> = (10..20).map(|n| format!("20250615T1507{n}Z-spoofed_flood-000001")).collect();
    for id in &ids {
        store.begin(id);
        add(&store, id, &syn(), 20);
        assert!(store.counts.bytes.load(Ordering::Relaxed) <= 3 * (OVERHEAD + 1000));
    }
    // Nothing ended, so the first keep what they have and the later go without.
    assert!(ids[..2].iter().all(|id| store.pcap(id).is_some_and(|file| frames(&file) == 13)));
    assert!(ids[3..].iter().all(|id| store.pcap(id).is_none_or(|file| frames(&file) < 13)));
    // What ended makes room, the oldest first.
    store.end(ID);
    store.end(&ids[0]);
    store.begin(LATER);
    add(&store, LATER, &syn(), 20);
    assert_eq!(store.pcap(ID), None);
    assert_eq!(store.pcap(LATER).map(|file| frames(&file)), Some(13));
}

#[test]
fn one_capture_has_one_link_type() {
    let store = store(EvidenceConfig::default());
    store.begin(ID);
    add(&store, ID, &syn(), 1);
    let raw = syn().split_off(14);
    store.append(std::iter::once((ID, KeptFrame { link: 101, ..kept(&raw) })));
    assert_eq!(store.pcap(ID).map(|file| frames(&file)), Some(1));
    assert_eq!(store.counts.link_type.load(Ordering::Relaxed), 1);
}

#[test]
fn none_is_kept_where_none_is_wanted() {
    let config = EvidenceConfig { memory_bytes: 0, ..EvidenceConfig::default() };
    assert!(FrameStore::new(&config, &Arc::default()).is_none());
}

/// A directory of one test, removed with the value.
struct Directory(PathBuf);

impl Directory {
    fn make() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("halfopen-evidence-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn config(&self) -> EvidenceConfig {
        EvidenceConfig { path: Some(self.0.join("e")), ..EvidenceConfig::default() }
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.join("e")).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn frames_are_on_the_disk_while_the_incident_runs_and_outlive_the_process() {
    let directory = Directory::make();
    let before = store(directory.config());
    let writer = DiskWriter::start(&before).unwrap().unwrap();
    before.begin(ID);
    add(&before, ID, &syn(), 3);
    let path = directory.0.join("e").join(format!("{ID}.pcap"));
    // The writer is another thread: it is asked until it has written.
    let mut file = Vec::new();
    for _ in 0..3000 {
        file = fs::read(&path).unwrap_or_default();
        if !file.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(frames(&file), 3);
    // Deleted meanwhile: the next frames bring all of it back.
    fs::remove_file(&path).unwrap();
    add(&before, ID, &syn(), 1);
    assert!(writer.finish(PATIENCE));
    assert_eq!(frames(&fs::read(&path).unwrap()), 4);

    let after = store(directory.config());
    assert_eq!(after.pcap(ID).map(|file| frames(&file)), Some(4));
    assert!(after.has(ID) && !after.has(LATER) && !after.has("../x"));
}

#[test]
fn the_directory_is_bounded_and_what_is_not_ours_is_left_alone() {
    let directory = Directory::make();
    // Files of 24 + 70 bytes: two fit, three do not.
    let store = store(EvidenceConfig { disk_bytes: 200, ..directory.config() });
    fs::create_dir(directory.0.join("e")).unwrap();
    for name in ["notes.pcap", "20250101T000000Z-outage-00000a.pcap.part", "0-0-0.pcap"] {
        fs::write(directory.0.join("e").join(name), [0; 500]).unwrap();
    }
    let ids = [10, 11, 12].map(|n| format!("20250615T1507{n}Z-spoofed_flood-000001"));
    for id in &ids {
        store.begin(id);
        add(&store, id, &syn(), 1);
    }
    let writer = DiskWriter::start(&store).unwrap().unwrap();
    assert!(writer.finish(PATIENCE));
    let ours = [&ids[1], &ids[2]].map(|id| format!("{id}.pcap"));
    assert_eq!(
        directory.names(),
        [&["0-0-0.pcap".to_owned()], &ours[..], &["notes.pcap".to_owned()]].concat()
    );
    assert_eq!(store.counts.errors.load(Ordering::Relaxed), 0);
}

#[test]
fn a_place_that_cannot_be_written_is_counted_and_served_from_memory() {
    let directory = Directory::make();
    let store =
        store(EvidenceConfig { path: Some(directory.0.join("no/such")), ..EvidenceConfig::default() });
    store.begin(ID);
    add(&store, ID, &syn(), 1);
    let writer = DiskWriter::start(&store).unwrap().unwrap();
    assert!(writer.finish(PATIENCE));
    // Twice, where the writer was through once before it was told to finish.
    assert!((1..=2).contains(&store.counts.errors.load(Ordering::Relaxed)));
    assert!(store.pcap(ID).is_some());
}

#[test]
fn an_id_leads_nowhere_else() {
    let directory = Directory::make();
    fs::create_dir(directory.0.join("e")).unwrap();
    fs::write(directory.0.join("secret.pcap"), b"x").unwrap();
    let store = store(directory.config());
    for id in
        ["../secret", "..", "", "/etc/passwd", "20250615T150640Z-x-../../secret", "20250615T150640Z-x-%2e"]
    {
        assert_eq!(store.pcap(id), None, "{id}");
    }
}
