//! Lines in files: what is on the disk is read back with std alone.

use super::*;
use crate::detect::incident::{Change, Incident, IncidentKind, Scope, ServerMode, Severity};
use crate::report::scratch::{Directory, in_own_mounts};
use crate::time::Timestamp;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::channel;

const PATIENCE: Duration = Duration::from_secs(30);

fn read(directory: &Directory, name: &str) -> String {
    fs::read_to_string(directory.0.join(name)).unwrap_or_else(|error| format!("{name}: {error}"))
}

fn entry(id: &str) -> JournalEntry {
    let at = Timestamp::from_parts(1_750_000_020, 900_000_000);
    let incident = Incident {
        id: id.to_owned(),
        kind: IncidentKind::SpoofedFlood,
        scope: Scope::Server,
        server: "198.51.100.10:80".to_owned(),
        severity: Severity::Critical,
        onset: at,
        detected_at: at,
        ended_at: None,
        end_reason: None,
        server_mode: ServerMode::Queue,
        server_mode_confidence: 1.0,
        syn_rate_peak: 1.5,
        attempts: 2,
        completed: 0,
        embryonic_peak: 2,
        backlog_occupancy_peak: 0.0,
        backlog_occupancy_estimated: false,
        distinct_sources: 2,
        capture_loss: 0.0,
        evidence: Vec::new(),
    };
    JournalEntry { ts: at, event: Change::Raised, incident }
}

#[test]
fn a_file_is_full_at_its_bound_and_no_sooner() {
    let directory = Directory::make();
    let mut file = RotatedFile::new(directory.0.join("j"), 10, 2);
    for line in ["aaaa\n", "bbbb\n", "c\n", "dddd\n", "eeeeeeeeeeeeeee\n", "f\n"] {
        file.write(line.as_bytes()).unwrap();
    }
    // 5 + 5 is exactly the bound; c opens the next; d still fits; e is longer than any file may be and stands alone.
    assert_eq!(directory.names(), ["j", "j.1", "j.2"]);
    assert_eq!(read(&directory, "j"), "f\n");
    assert_eq!(read(&directory, "j.1"), "eeeeeeeeeeeeeee\n");
    assert_eq!(read(&directory, "j.2"), "c\ndddd\n", "and the first is gone");
}

#[test]
fn none_is_kept_beside_where_none_is_asked_for() {
    let directory = Directory::make();
    let mut file = RotatedFile::new(directory.0.join("j"), 4, 0);
    for line in ["aa\n", "bb\n", "cc\n"] {
        file.write(line.as_bytes()).unwrap();
    }
    assert_eq!((directory.names(), read(&directory, "j")), (vec!["j".to_owned()], "cc\n".to_owned()));
}

#[test]
fn what_is_there_is_continued_also_after_half_a_line() {
    let directory = Directory::make();
    fs::write(directory.0.join("j"), "old\nhal").unwrap();
    RotatedFile::new(directory.0.join("j"), 100, 1).write(b"new\n").unwrap();
    assert_eq!(read(&directory, "j"), "old\nhal\nnew\n");
    // What is there counts towards the bound.
    RotatedFile::new(directory.0.join("j"), 12, 1).write(b"x\n").unwrap();
    assert_eq!(
        (read(&directory, "j.1"), read(&directory, "j")),
        ("old\nhal\nnew\n".to_owned(), "x\n".to_owned())
    );
}

#[test]
fn a_file_deleted_or_moved_meanwhile_is_made_anew() {
    let directory = Directory::make();
    let mut file = RotatedFile::new(directory.0.join("j"), 100, 1);
    file.write(b"a\n").unwrap();
    fs::remove_file(directory.0.join("j")).unwrap();
    file.write(b"b\n").unwrap();
    assert_eq!(read(&directory, "j"), "b\n");
    // As logrotate does.
    fs::rename(directory.0.join("j"), directory.0.join("j.old")).unwrap();
    file.write(b"c\n").unwrap();
    assert_eq!((read(&directory, "j.old"), read(&directory, "j")), ("b\n".to_owned(), "c\n".to_owned()));
    fs::remove_dir_all(&directory.0).unwrap();
    assert_eq!(file.write(b"d\n").unwrap_err().kind(), io::ErrorKind::NotFound);
    fs::create_dir_all(&directory.0).unwrap();
    file.write(b"e\n").unwrap();
    assert_eq!(read(&directory, "j"), "e\n");
}

#[test]
fn what_could_block_is_refused() {
    let directory = Directory::make();
    let made = Command::new("mkfifo").arg(directory.0.join("j")).status().unwrap();
    assert!(made.success());
    let error = RotatedFile::new(directory.0.join("j"), 100, 1).write(b"a\n").unwrap_err();
    assert_eq!(error.to_string(), "is not a regular file");
}

#[test]
fn a_full_disk_loses_whole_lines_and_is_left_as_it_was() {
    let test = "report::journal::tests::a_full_disk_loses_whole_lines_and_is_left_as_it_was";
    let Some(place) = in_own_mounts(test, "size=64k") else { return };
    let path = place.join("j");
    let mut file = RotatedFile::new(path.clone(), 1 << 30, 1);
    let line = [b"x".repeat(2999), b"\n".to_vec()].concat();
    let mut written = 0;
    let error = loop {
        match file.write(&line) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 100, "64 KiB do not hold 300 kB");
    };
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(fs::metadata(&path).unwrap().len(), written * 3000, "no half line");
    assert!(file.write(&line).is_err());
    // Room again: the very next line is written, behind whole lines.
    fs::write(place.join("j"), b"").unwrap();
    file.write(b"{}\n").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"{}\n");
}

#[test]
fn a_read_only_place_is_an_error_until_it_is_none() {
    let test = "report::journal::tests::a_read_only_place_is_an_error_until_it_is_none";
    let Some(place) = in_own_mounts(test, "size=64k") else { return };
    let remount = |how: &str| {
        let status = Command::new("mount").args(["-o", how]).arg(&place).status().unwrap();
        assert!(status.success());
    };
    let mut file = RotatedFile::new(place.join("j"), 1 << 20, 1);
    remount("remount,ro");
    assert_eq!(file.write(b"a\n").unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
    remount("remount,rw");
    file.write(b"b\n").unwrap();
    assert_eq!(fs::read(place.join("j")).unwrap(), b"b\n");
}

#[test]
fn changes_become_lines_in_their_order() {
    let directory = Directory::make();
    let counts = Arc::new(JournalCounts::default());
    let config = JournalConfig { path: Some(directory.0.join("j")), ..JournalConfig::default() };
    let journal = Journal::start(&config, &counts).unwrap().unwrap();
    let recorder = journal.recorder();
    for id in ["1", "2", "3"] {
        recorder.record(&entry(id));
    }
    assert!(journal.finish(PATIENCE));
    let text = read(&directory, "j");
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: Vec<_> = lines.iter().map(|line| line["incident"]["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["1", "2", "3"]);
    assert_eq!((&lines[0]["event"], &lines[0]["ts"]), (&"raised".into(), &1_750_000_020.9.into()));
    assert_eq!(counts.written.load(Ordering::Relaxed), 3);
    assert!(Journal::start(&JournalConfig::default(), &counts).unwrap().is_none(), "no path, no journal");
}

#[test]
fn a_place_that_cannot_be_written_is_counted_and_survived() {
    let directory = Directory::make();
    let counts = Arc::new(JournalCounts::default());
    let config = JournalConfig { path: Some(directory.0.join("no/such/j")), ..JournalConfig::default() };
    let journal = Journal::start(&config, &counts).unwrap().unwrap();
    let recorder = journal.recorder();
    recorder.record(&entry("1"));
    recorder.record(&entry("2"));
    assert!(journal.finish(PATIENCE));
    assert_eq!((counts.errors.load(Ordering::Relaxed), counts.written.load(Ordering::Relaxed)), (2, 0));
}

#[test]
fn a_writer_that_hangs_costs_lines_and_nothing_else() {
    let counts = Arc::new(JournalCounts::default());
    let (entered, inside) = channel();
    let (release, released) = channel::<()>();
    let write = move |_: &[u8]| {
        let _ = entered.send(());
        released.recv().is_ok()
    };
    let journal = Journal::with_writer(2, &counts, write).unwrap();
    let recorder = journal.recorder();
    recorder.record(&entry("written"));
    inside.recv_timeout(PATIENCE).unwrap();
    for _ in 0..5 {
        recorder.record(&entry("two wait, three are lost"));
    }
    assert_eq!(counts.dropped.load(Ordering::Relaxed), 3);
    for _ in 0..3 {
        release.send(()).unwrap();
    }
    assert!(journal.finish(PATIENCE));
    assert_eq!((counts.written.load(Ordering::Relaxed), counts.errors.load(Ordering::Relaxed)), (3, 0));
}

#[test]
fn the_end_does_not_wait_for_ever() {
    let counts = Arc::new(JournalCounts::default());
    let (release, released) = channel::<()>();
    let journal = Journal::with_writer(2, &counts, move |_| released.recv().is_ok()).unwrap();
    journal.recorder().record(&entry("1"));
    assert!(!journal.finish(Duration::from_millis(20)));
    drop(release);
}

#[test]
fn trouble_is_said_once_an_episode() {
    let mut trouble = Trouble::default();
    let path = PathBuf::from("j");
    let fail = || Err(io::Error::from(io::ErrorKind::StorageFull));
    let results: Vec<bool> = [fail(), fail(), Ok(()), Ok(())]
        .into_iter()
        .map(|result| trouble.note("journal", &path, result))
        .collect();
    assert_eq!(results, [false, false, true, true]);
}
