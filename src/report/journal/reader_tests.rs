//! Journals read back: lines written by hand, and any bytes.

use super::*;
use crate::detect::incident::IncidentKind;
use proptest::prelude::*;
use std::io::Cursor;

/// A line by hand: the contract's fields that a listing shows, the others left out.
fn told(ts: f64, event: &str, id: &str, more: &str) -> String {
    format!(
        r#"{{"ts":{ts},"event":"{event}","incident":{{"id":"{id}","kind":"spoofed_flood","scope":"server","server":"192.0.2.10:443","severity":"critical","onset":1750000020.5,"detected_at":1750000021.5{more}}}}}"#
    ) + "\n"
}

fn read(text: impl AsRef<[u8]>, wanted: Wanted, limit: usize) -> (Account, Damage) {
    let mut reader = Reader::new(wanted, limit);
    let damage = reader.read(Cursor::new(text.as_ref()));
    (reader.finish(), damage)
}

fn ids(account: &Account) -> Vec<&str> {
    account.incidents.iter().map(|told| told.id.as_str()).collect()
}

#[test]
fn the_last_line_decides() {
    let journal = [
        told(
            1_750_000_021.5,
            "raised",
            "one",
            r#","syn_rate_peak":1800.0,"attempts":2000,"server_mode":"queue""#,
        ),
        told(1_750_000_022.0, "raised", "two", r#","ended_at":null,"end_reason":null"#),
        told(
            1_750_000_030.0,
            "updated",
            "one",
            r#","syn_rate_peak":2123.0,"attempts":20000,"server_mode":"queue""#,
        ),
        told(
            1_750_000_050.5,
            "ended",
            "one",
            r#","syn_rate_peak":2123.0,"attempts":53959,"server_mode":"queue","ended_at":1750000045.5,"end_reason":"quiet","evidence":[{"signal":"cusum","value":null,"threshold":18.8,"text":"why"}]"#,
        ),
        told(1_750_000_052.0, "updated", "two", ""),
        r#"{"ts":1750000053.0,"event":"half_open","half_open":{"case":"reconnect"}}"#.to_owned() + "\n\n",
        r#"{"ts":1750000053.0,"event":"oddity","oddity":{"kind":"challenge_ack"}}"#.to_owned() + "\r\n",
    ];
    let (account, damage) = read(journal.concat(), Wanted::default(), INCIDENTS);
    assert_eq!(damage.told("j"), None);
    let expected = "\
id   severity  kind           on              began (UTC)          ended (UTC)          lasted  peak SYN/s  attempts  mode     why it ended
one  CRITICAL  spoofed_flood  192.0.2.10:443  2025-06-15 15:07:00  2025-06-15 15:07:25    25 s       2,123    53,959  queue    quiet
two  CRITICAL  spoofed_flood  192.0.2.10:443  2025-06-15 15:07:00  not ended            > 31.5 s           ?         0  unknown
2 incidents, 1 not ended; of 7 lines 5 tell of incidents, 1 of half-open connections, 1 of oddities, 0 of nothing
";
    // The column is as wide as its widest.
    let squeezed = |text: &str| {
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    assert_eq!(squeezed(&account.table()), squeezed(expected));

    let document: serde_json::Value = serde_json::from_str(&account.document().unwrap()).unwrap();
    let one = &document["incidents"][0];
    assert_eq!(one["evidence"][0]["text"], "why");
    assert_eq!(one["onset"], 1_750_000_020.5);
    assert_eq!((&one["last_told"], &one["ended_at"]), (&1_750_000_050.5.into(), &1_750_000_045.5.into()));
    assert_eq!(document["lines"]["read"], 7);
}

#[test]
fn one_that_goes_on_after_a_restart_has_not_ended() {
    let journal = told(1.0, "ended", "one", r#","ended_at":1750000045.5"#) + &told(2.0, "updated", "one", "");
    let (account, _) = read(journal, Wanted::default(), INCIDENTS);
    assert_eq!(account.incidents[0].ended_at, None);
}

#[test]
fn damaged_lines_are_named_and_stop_nothing() {
    let good = |id: &str| told(1_750_000_021.5, "raised", id, "");
    let whole = good("cut");
    let mut journal = good("first");
    journal += &whole[..whole.len() / 2];
    journal += "\n# a comment\n";
    journal += r#"{"other":"json"}"#;
    journal += "\n";
    journal += &good("strange").replace("spoofed_flood", "mood");
    journal += r#"{"ts":1.0,"event":"ended"}"#;
    journal += "\n";
    journal += &good("when").replace("\"onset\":1750000020.5", "\"onset\":1e300");
    journal += &good(&"x".repeat(LONGEST_LINE));
    journal += &good("second");
    journal += &whole[..whole.len() - 9];
    let (account, damage) = read(journal, Wanted::default(), INCIDENTS);
    assert_eq!(ids(&account), ["first", "second"]);
    assert_eq!((account.lines.read, account.lines.incidents, account.lines.damaged), (10, 2, 8));
    let line = damage.told("a\nb").unwrap();
    assert!(line.starts_with("file 'a\\nb': line 2 is cut short, line 3 is no JSON, line 4 is no line of a journal (missing field `ts`), line 5 is no line of a journal (unknown variant `mood`, "), "{line}");
    assert!(line.ends_with("line 6 is no line of a journal (it lacks what its event names), and 3 more; they were left out, the rest was read"), "{line}");
}

#[test]
fn what_breaks_off_is_said_and_what_came_before_counts() {
    struct Broken;
    impl io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
    let text = told(1.0, "raised", "one", "") + "{";
    let input = io::Read::chain(Cursor::new(text), Broken);
    let mut reader = Reader::new(Wanted::default(), INCIDENTS);
    let damage = reader.read(io::BufReader::new(input));
    assert_eq!(
        damage.told("j.gz").unwrap(),
        "file 'j.gz': it cannot be read from line 2 on: its compressed data ends early"
    );
    assert_eq!(ids(&reader.finish()), ["one"]);
}

#[test]
fn only_what_is_asked_for_is_listed() {
    let mut journal = told(1.0, "ended", "early", r#","ended_at":1750000045.5"#);
    journal += &told(2.0, "raised", "runs", "");
    journal += &told(3.0, "raised", "scan", "")
        .replace("spoofed_flood", "port_scan")
        .replace("192.0.2.10:443", "2001:db8::9");
    journal += &told(3.5, "raised", "six", "").replace("192.0.2.10:443", "[2001:db8::9]:80");
    journal += &told(4.0, "raised", "late", "").replace("1750000020.5", "1750009999.5");
    let at = |seconds| Some(Timestamp::from_parts(seconds, 0));
    for (wanted, expected) in [
        (Wanted::default(), &["early", "runs", "scan", "six", "late"][..]),
        (Wanted { since: at(1_750_000_046), ..Wanted::default() }, &["runs", "scan", "six", "late"]),
        (Wanted { since: at(1_750_000_045), ..Wanted::default() }, &["early", "runs", "scan", "six", "late"]),
        (Wanted { until: at(1_750_000_100), ..Wanted::default() }, &["early", "runs", "scan", "six"]),
        (Wanted { until: at(1_750_000_020), ..Wanted::default() }, &[]),
        (Wanted { servers: vec!["192.0.2.10".to_owned()], ..Wanted::default() }, &["early", "runs", "late"]),
        (
            Wanted { servers: vec!["192.0.2.10:443".to_owned()], ..Wanted::default() },
            &["early", "runs", "late"],
        ),
        (Wanted { servers: vec!["192.0.2.1".to_owned()], ..Wanted::default() }, &[]),
        (Wanted { servers: vec!["2001:db8:0::9".to_owned()], ..Wanted::default() }, &["six"]),
        (Wanted { servers: vec!["2001:db8::9".to_owned()], ..Wanted::default() }, &["scan", "six"]),
        (Wanted { kinds: vec![IncidentKind::PortScan], ..Wanted::default() }, &["scan"]),
    ] {
        let asked = format!("{wanted:?}");
        assert_eq!(ids(&read(&journal, wanted, INCIDENTS).0), expected, "{asked}");
    }
    // It turned out to be another kind: the last line decides here too.
    journal = told(1.0, "raised", "one", "")
        + &told(2.0, "updated", "one", "").replace("spoofed_flood", "direct_flood");
    let wanted = Wanted { kinds: vec![IncidentKind::SpoofedFlood], ..Wanted::default() };
    assert_eq!(ids(&read(journal, wanted, INCIDENTS).0), [""; 0]);
}

#[test]
fn too_many_make_room_those_that_ended_first() {
    let mut journal = told(1.0, "raised", "runs", "");
    for number in 0..10 {
        journal += &told(2.0, "ended", &format!("{number}"), r#","ended_at":1750000045.5"#);
    }
    let (account, _) = read(&journal, Wanted::default(), 3);
    assert_eq!(ids(&account), ["8", "9", "runs"]);
    assert_eq!(account.left_out, 8);
    let last = account.table().lines().last().unwrap().to_owned();
    assert!(last.starts_with("8 rows were left out"), "{last}");
}

#[test]
fn whatever_the_lines_hold_memory_is_bounded() {
    let evidence =
        format!(r#","evidence":[{{"signal":"s","value":1,"threshold":1,"text":"{}"}}]"#, "x".repeat(60_000));
    let mut reader = Reader::new(Wanted::default(), 1_000_000);
    for number in 0..3_000 {
        let line = told(1.0, "raised", &number.to_string(), &evidence);
        assert_eq!(reader.read(Cursor::new(line)).told("j"), None);
        assert!(reader.bytes() <= BYTES);
    }
    let account = reader.finish();
    // 3,000 * 60,000 bytes are 172 MiB.
    assert!((1000..1200).contains(&account.incidents.len()), "{}", account.incidents.len());
    assert_eq!(account.left_out + account.incidents.len() as u64, 3_000);
}

#[test]
fn the_older_of_two_files_is_told_by_its_first_line() {
    let text = "half a li\n".to_owned() + &told(7.5, "raised", "one", "") + &told(1.0, "raised", "two", "");
    assert_eq!(first_stamp(Cursor::new(text)), Some(Timestamp::from_parts(7, 500_000_000)));
    assert_eq!(first_stamp(Cursor::new("nothing\n")), None);
}

/// What must hold for any bytes. The fuzz target asks for more.
fn holds(bytes: &[u8]) {
    let (account, damage) = read(bytes, Wanted::default(), 4);
    let (lines, shown) = (account.lines, account.incidents.len());
    assert_eq!(lines.read, lines.incidents + lines.half_open + lines.oddities + lines.damaged);
    assert!(shown <= 4 && shown as u64 + account.left_out <= lines.incidents);
    assert_eq!(damage.told("f").is_some(), lines.damaged > 0);
    let text = account.table() + &damage.told("f").unwrap_or_default();
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
}

proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        holds(&bytes);
    }

    #[test]
    fn any_change_of_a_journal(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..20),
        ids in proptest::collection::vec(0..8_u8, 1..12),
        cut in any::<proptest::sample::Index>(),
    ) {
        let lines = ids.iter().map(|id| {
            let ended = if id % 2 == 0 { r#","ended_at":1750000045.5,"end_reason":"quiet""# } else { "" };
            told(1_750_000_021.5, "updated", &id.to_string(), ended)
        });
        let mut bytes = lines.collect::<String>().into_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len()));
        holds(&bytes);
    }
}
