//! The state file: what is on the disk after each fault is read back with std alone.

use super::*;
use crate::report::scratch::{Directory, in_own_mounts};
use std::fs;
use std::path::Path;

fn file_in(directory: &Directory) -> StateFile {
    StateFile::new(directory.0.join("s"))
}

fn state(file: &StateFile) -> Vec<u8> {
    match file.read() {
        Found::State(bytes, age) => {
            assert!(age < Duration::from_secs(60), "{age:?}");
            bytes
        }
        other @ (Found::Nothing | Found::Unusable(_)) => panic!("{other:?}"),
    }
}

#[test]
fn what_was_written_is_read() {
    let directory = Directory::make();
    let file = file_in(&directory);
    assert_eq!(file.read(), Found::Nothing);
    for bytes in [&b"{}"[..], b"", b"two\nlines\n", &[0, 255, 10]] {
        assert!(file.write(bytes).unwrap() > bytes.len() as u64);
        assert_eq!(state(&file), bytes);
        assert_eq!(directory.names(), ["s"], "nothing is left beside it");
    }
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_checksum_is_that_of_the_standard() {
    let directory = Directory::make();
    file_in(&directory).write(b"123456789").unwrap();
    let text = fs::read_to_string(directory.0.join("s")).unwrap();
    // The check value of CRC-32/ISO-HDLC.
    assert!(text.starts_with("halfopen-state 1 cbf43926 9 "), "{text}");
}

#[test]
fn every_damage_is_seen_and_set_aside() {
    let directory = Directory::make();
    let file = file_in(&directory);
    file.write(b"0123456789").unwrap();
    let whole = fs::read(file.path()).unwrap();
    let unusable = |bytes: &[u8]| {
        fs::write(file.path(), bytes).unwrap();
        let Found::Unusable(why) = file.read() else { panic!("{:?}", String::from_utf8_lossy(bytes)) };
        assert!(!why.contains('\n') && why.chars().all(|c| !c.is_control()), "{why}");
    };
    for end in 0..whole.len() {
        unusable(&whole[..end]);
    }
    unusable(&[&whole[..], b"x"].concat());
    let body = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for place in (0..body).chain(body..whole.len()) {
        // The time it was written is all that may be anything.
        let written = whole[..body].iter().rposition(|byte| *byte == b' ').unwrap();
        if (written + 1..body - 1).contains(&place) {
            continue;
        }
        let mut changed = whole.clone();
        changed[place] ^= 0x15;
        unusable(&changed);
    }
    for foreign in [
        &b""[..],
        b"\n",
        b"[section]\nkey = 1\n",
        b"halfopen-state 2 00000000 0 0\n",
        &[0x7f; 500],
        b"halfopen-state \x1b[31m 0 0 0\n",
    ] {
        unusable(foreign);
    }
    let aside = file.set_aside().unwrap();
    assert_eq!(aside, Path::new(&directory.0).join("s.unusable"));
    assert_eq!(file.read(), Found::Nothing);
    assert_eq!(directory.names(), ["s.unusable"]);
}

#[test]
fn a_failed_write_leaves_the_old_one() {
    let directory = Directory::make();
    let file = file_in(&directory);
    file.write(b"old").unwrap();
    // A directory in the way: no right of root's gets past it, as one would past a file's mode.
    fs::create_dir(directory.0.join("s.new")).unwrap();
    assert!(file.write(b"new").is_err());
    assert_eq!(state(&file), b"old");
}

#[test]
fn a_place_that_is_no_file_is_not_waited_for() {
    let directory = Directory::make();
    fs::create_dir(directory.0.join("s")).unwrap();
    assert!(matches!(file_in(&directory).read(), Found::Unusable(_)));
}

#[test]
fn it_is_written_on_news_and_once_more_at_the_end() {
    let directory = Directory::make();
    let counts = Arc::default();
    let config = StateConfig { every: Duration::from_secs(600), ..StateConfig::default() };
    let (asked, times) = std::sync::mpsc::channel();
    let remember = Box::new(move || {
        asked.send(()).unwrap();
        b"bytes".to_vec()
    });
    let writer = StateWriter::start(file_in(&directory), &config, remember, &counts).unwrap();
    writer.nudge().news();
    times.recv_timeout(Duration::from_secs(30)).unwrap();
    assert!(writer.finish(Duration::from_secs(30)));
    assert_eq!(counts.written.load(Ordering::Relaxed), 2);
    assert_eq!(state(&file_in(&directory)), b"bytes");
}

#[test]
fn a_place_that_cannot_be_written_is_counted_and_tried_on() {
    let directory = Directory::make();
    let counts: Arc<StateCounts> = Arc::default();
    let place = directory.0.join("gone");
    let file = StateFile::new(place.join("s"));
    let config = StateConfig { every: Duration::from_millis(500), ..StateConfig::default() };
    let writer = StateWriter::start(file.clone(), &config, Box::new(|| b"x".to_vec()), &counts).unwrap();
    let wait = |count: &AtomicU64| {
        while count.load(Ordering::Relaxed) == 0 {
            std::thread::yield_now();
        }
    };
    wait(&counts.errors);
    fs::create_dir(&place).unwrap();
    wait(&counts.written);
    assert_eq!(state(&file), b"x");
    assert!(writer.finish(Duration::from_secs(30)));
}

#[test]
fn a_full_or_read_only_disk_leaves_the_old_one() {
    let test = "report::state::tests::a_full_or_read_only_disk_leaves_the_old_one";
    let Some(place) = in_own_mounts(test, "size=64k") else { return };
    let file = StateFile::new(place.join("s"));
    let kind = |result: io::Result<u64>| result.unwrap_err().kind();
    file.write(b"old").unwrap();
    assert_eq!(kind(file.write(&[b'x'; 100_000])), io::ErrorKind::StorageFull);
    assert_eq!(state(&file), b"old");
    file.write(b"room again, for what was begun is gone").unwrap();
    let remount = |how: &str| {
        let status = std::process::Command::new("mount").args(["-o", how]).arg(&place).status().unwrap();
        assert!(status.success());
    };
    remount("remount,ro");
    assert_eq!(kind(file.write(b"new")), io::ErrorKind::ReadOnlyFilesystem);
    assert_eq!(state(&file), b"room again, for what was begun is gone");
    remount("remount,rw");
    file.write(b"new").unwrap();
    assert_eq!(state(&file), b"new");
}
