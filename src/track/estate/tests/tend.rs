//! What a tracker that ended left open, and one that runs meanwhile.

use super::*;

/// Does something while it is told something.
struct Meanwhile<F>(F);

impl<F: FnMut()> EventSink for Meanwhile<F> {
    fn on_event(&mut self, _: &HandshakeEvent) {
        (self.0)();
    }
}

/// One tends what another left, among its own and within its budget, until there is nothing left; its own are where they were also
/// after a panic, and whoever begins meanwhile gets the lanes and none besides.
#[test]
fn what_one_left_open_another_tends_beside_its_own() {
    let config = config();
    let table = Arc::new(HalfOpenTable::new(&config, 1));
    let new = || Tracker::new(Arc::clone(&table), &config, 10);
    let (mut first, mut second) = (new(), new());
    let mut sink = Nervous { heard: Vec::new(), patience: usize::MAX };
    for number in 0..40 {
        first.on_segment(&segment(number, TcpFlags::SYN, false, at(0)), &mut sink);
    }
    second.advance(at(9_000), &mut sink);
    second.on_segment(&segment(40, TcpFlags::SYN, false, at(9_000)), &mut sink);
    second.tend(at(9_000), &mut sink);
    assert_eq!(table.len(), 41, "nothing was left so far");
    drop(first);
    sink.heard.clear();
    for tick in 1..=4 {
        sink.patience = if tick == 3 { 4 } else { usize::MAX };
        let _ = catch_unwind(AssertUnwindSafe(|| second.tend(at(9_000 + tick), &mut sink)));
        assert_eq!(second.lanes.len(), 1, "its own");
        assert_eq!(
            sink.heard.len(),
            [10, 20, 25, 40][tick as usize - 1],
            "what fell due before a panic comes first"
        );
    }
    second.advance(at(9_000).plus(GRACE), &mut sink);
    assert_eq!(times(&sink.heard, 40).0, [at(9_000).plus(GRACE)]);
    for tick in 0..10 {
        second.tend(at(63_000 + tick), &mut sink);
    }
    assert!((0..40).all(|number| times(&sink.heard, number).1.len() == 1), "each at its time, and once");
    assert_eq!((table.len(), second.lanes.len()), (1, 1));
    assert_eq!(new().lanes.len(), 0);

    // Somebody who begins while they are tended.
    let beginner = std::thread::scope(|scope| {
        second.advance(at(80_000), &mut sink);
        let mut third = new();
        third.on_segment(&segment(42, TcpFlags::SYN, false, at(80_000)), &mut sink);
        drop(third);
        let mut begins = None;
        second.tend(at(90_000), &mut Meanwhile(|| begins = Some(scope.spawn(new))));
        begins.unwrap().join().unwrap()
    });
    assert_eq!(beginner.lanes.len(), 1);
}
