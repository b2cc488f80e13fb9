//! Attempts that open within the same microsecond.

use super::*;

/// Two SYNs of one tuple within a microsecond have records that look alike. With rings and, beyond the last of them, without.
#[test]
fn of_two_attempts_at_once_only_the_one_that_is_open_falls_overdue() {
    for rings in [true, false] {
        let config = config();
        let table = Arc::new(HalfOpenTable::new(&config, 1));
        if !rings {
            (0..31).for_each(|_| drop(table.waiting.lane()));
        }
        let mut events = Vec::new();
        let mut tracker = Tracker::new(Arc::clone(&table), &config, usize::MAX);
        for isn in [1, 2] {
            let mut syn = segment(0, TcpFlags::SYN, false, at(0));
            syn.seq = SeqNumber(isn);
            tracker.on_segment(&syn, &mut events);
        }
        for seconds in 1..70 {
            tracker.advance(at(seconds * 1000), &mut events);
        }
        let (overdue, ended) = times(&events, 0);
        assert_eq!(overdue, [at(0).plus(GRACE)], "rings: {rings}");
        let life = at(0).plus(Duration::from_secs(63));
        assert_eq!(ended, [(at(0), Outcome::Superseded, false), (life, Outcome::Unanswered, true)]);
        assert_eq!((table.len(), tracker.lanes.len()), (0, 0));
    }
}
