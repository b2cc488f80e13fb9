//! The state file: what is on the disk after each fault is read back with std alone.

use super::*;
use std::fs;
use std::path::{Path, PathBuf};

struct Directory(PathBuf);

impl Directory {
    fn make() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("halfopen-state-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> StateFile {
        StateFile::new(self.0.join("s"))
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(&self.0).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
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
    let file = directory.file();
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
    directory.file().write(b"123456789").unwrap();
    let text = fs::read_to_string(directory.0.join("s")).unwrap();
    // The check value of CRC-32/ISO-HDLC.
    assert!(text.starts_with("halfopen-state 1 cbf43926 9 "), "{text}");
}

#[test]
fn every_damage_is_seen_and_set_aside() {
    let directory = Directory::make();
    let file = directory.file();
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
    let file = directory.file();
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
    assert!(matches!(directory.file().read(), Found::Unusable(_)));
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
    let writer = StateWriter::start(directory.file(), &config, remember, &counts).unwrap();
    writer.nudge().news();
    times.recv_timeout(Duration::from_secs(30)).unwrap();
    assert!(writer.finish(Duration::from_secs(30)));
    assert_eq!(counts.written.load(Ordering::Relaxed), 2);
    assert_eq!(state(&directory.file()), b"bytes");
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
