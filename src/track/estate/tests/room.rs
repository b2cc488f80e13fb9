//! What a packet thread can take of deadlines and rings, against what the ceiling reckons with.

use super::super::super::event::NoSink;
use super::*;
use crate::config::room::Room;

/// A thread with everything that it can have of deadlines and rings, of either family: more SYNs, all of them ended before their time, than
/// it may keep; in every class, one after the other.
#[test]
fn no_thread_takes_more_than_is_reckoned_with() {
    let config = TableConfig { entries: 1 << 16, ..config() };
    let table = Arc::new(HalfOpenTable::new(&config, 1));
    let room = Room::new(config.entries);
    let mut tracker = Tracker::new(Arc::clone(&table), &config, usize::MAX);
    let ages = [250, 500, 1000, 1500, 2000, 3000].map(Duration::from_millis);
    let (mut now, mut most, mut untracked) = (0, 0, 0);
    for (class, age) in ages.into_iter().enumerate() {
        for family in 0..2 {
            table.learn_grace(server(family), age, at(now));
            let syns = room.ring as u32 + 10_000;
            for number in 0..syns {
                // A few clients, over and over: an entry each, which the next attempt of its tuple takes.
                let number = (number % 1024) * 2 + family;
                let mut syn = segment(number, TcpFlags::SYN, false, at(now));
                syn.seq = SeqNumber(most as u32 + number);
                most += 1;
                tracker.on_segment(&syn, &mut NoSink);
            }
            most = most.max(tracker.bytes());
            assert!(tracker.counts().untracked > untracked, "there was more than it takes");
            untracked = tracker.counts().untracked;
            let held = tracker.bytes() + table.waiting.bytes();
            assert!(held as u64 <= room.of_thread(), "{class} {family}: {held} of {}", room.of_thread());
            now += 100_000;
            tracker.advance(at(now), &mut NoSink);
        }
    }
    // And the rings are reckoned no larger than they get, once each has come round.
    for lane in [tracker.lanes.v4.rings(), tracker.lanes.v6.rings()].into_iter().flatten() {
        for class in 0..ages.len() {
            (0..table.waiting.size()).for_each(|_| lane.opened(lane.next_ticket(class), 0, true, false));
        }
    }
    assert_eq!(table.waiting.bytes(), 2 * 6 * 2 * room.ring);
}
