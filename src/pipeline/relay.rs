//! Events on their way from the tracker to the detector's sums, a few thousand at a time, and what is to be done with the sums. Where so
//! many come that it matters, a second thread does both while the packet thread goes on.
//!
//! Decides nothing and loses nothing: everything is done in the order in which it was asked for.

use super::shared::lock;
use crate::track::event::{EventSink, HandshakeEvent};
use crate::track::packed::PackedEvents;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{Builder, JoinHandle, available_parallelism};

/// Events handed over together: enough that waking a thread for them (some ten microseconds on a virtual machine) costs each of them
/// next to nothing, few enough that both sides find them in a cache. Fewer in a bin are summed up by the packet thread itself, in about
/// a millisecond.
const BATCH: usize = 16_384;

/// Batches there are: one being filled, one being summed up, and as many between them as come while a bin is judged, in a few
/// milliseconds. Then the packet thread waits, as it would if it did the work itself.
const BATCHES: usize = 4;

/// What is to be done with the sums.
type Act<S> = Box<dyn FnOnce(&mut S) + Send>;

/// What a second thread is handed: events to sum up, and what is to be done thereafter.
struct Work<S> {
    events: PackedEvents,
    then: Option<Act<S>>,
}

/// What comes back: the batch, and what something panicked with on the way.
type Back = (PackedEvents, Option<Box<dyn Any + Send>>);

/// Takes a packet thread's events in, for `S`: its sums.
pub(super) struct Relay<S> {
    sums: Arc<Mutex<S>>,
    filling: PackedEvents,
    /// Emptied, to be filled again.
    spare: Vec<PackedEvents>,
    /// Handed over and not come back.
    under_way: usize,
    /// Whether a batch was handed over since the sums were last acted on.
    busy: bool,
    second: Second<S>,
}

/// The thread that sums up.
enum Second<S> {
    /// Nothing asked for one so far.
    NotYet,
    /// This machine has one processor, or no thread could be had: the packet thread does it.
    Nobody,
    Somebody {
        work: SyncSender<Work<S>>,
        done: Receiver<Back>,
        thread: JoinHandle<()>,
    },
}

impl<S: EventSink + Send + 'static> Relay<S> {
    /// Sums up into `sums`.
    pub(super) fn new(sums: S) -> Self {
        let alone = available_parallelism().is_ok_and(|processors| processors.get() == 1);
        Self {
            sums: Arc::new(Mutex::new(sums)),
            filling: PackedEvents::with_capacity(BATCH),
            spare: Vec::with_capacity(BATCHES),
            under_way: 0,
            busy: false,
            second: if alone { Second::Nobody } else { Second::NotYet },
        }
    }

    /// The sums, with everything in them that was said so far.
    pub(super) fn settled(&mut self) -> MutexGuard<'_, S> {
        while self.under_way > 0 {
            let back = self.take_back();
            self.spare.push(back);
        }
        sum_up(&self.sums, &mut self.filling);
        lock(&self.sums)
    }

    /// Has something done with the sums when everything said so far is in them; what is said later goes in afterwards. After a busy
    /// time the second thread does it; else it is done on return.
    pub(super) fn then(&mut self, act: impl FnOnce(&mut S) + Send + 'static) {
        if std::mem::take(&mut self.busy) {
            self.hand_over(Some(Box::new(act)));
        } else {
            act(&mut self.settled());
        }
    }

    /// Goes on with other sums; those so far are given up.
    pub(super) fn restart(&mut self, sums: S) {
        *self.settled() = sums;
    }

    /// The batch is full.
    #[cold]
    fn pass_on(&mut self) {
        if matches!(self.second, Second::NotYet) {
            self.second = Second::start(&self.sums);
        }
        if matches!(self.second, Second::Somebody { .. }) {
            self.busy = true;
            self.hand_over(None);
        } else {
            sum_up(&self.sums, &mut self.filling);
        }
    }

    fn hand_over(&mut self, then: Option<Act<S>>) {
        let work = Work { events: std::mem::take(&mut self.filling), then };
        if let Second::Somebody { work: to, .. } = &self.second {
            // Never waits: there is room for as many as there are batches. Nor does it fail: the thread lives as long as this sender.
            let _ = to.send(work);
        }
        self.under_way += 1;
        // One that came back is still in a cache; a new one is not.
        self.filling = match self.spare.pop().or_else(|| self.came_back()) {
            Some(empty) => empty,
            None if self.under_way < BATCHES => PackedEvents::with_capacity(BATCH),
            None => self.take_back(),
        };
    }

    /// A batch that the other thread is done with, if there is one.
    fn came_back(&mut self) -> Option<PackedEvents> {
        let Second::Somebody { done, .. } = &self.second else { return None };
        let back = done.try_recv().ok()?;
        self.under_way -= 1;
        Some(self.received(back))
    }

    /// Waits for the oldest batch under way.
    fn take_back(&mut self) -> PackedEvents {
        self.under_way -= 1;
        let back = match &self.second {
            Second::Somebody { done, .. } => done.recv().ok(),
            Second::NotYet | Second::Nobody => None,
        };
        back.map_or_else(|| PackedEvents::with_capacity(BATCH), |back| self.received(back))
    }

    /// Where the other thread panicked this one does, for the supervisor to see.
    fn received(&mut self, (batch, panic): Back) -> PackedEvents {
        match panic {
            None => batch,
            Some(panic) => {
                self.spare.push(batch);
                resume_unwind(panic)
            }
        }
    }
}

impl<S: EventSink + Send + 'static> EventSink for Relay<S> {
    #[inline(always)]
    fn on_event(&mut self, event: &HandshakeEvent) {
        self.filling.push(event);
        if self.filling.is_full() {
            self.pass_on();
        }
    }
}

impl<S> Drop for Relay<S> {
    fn drop(&mut self) {
        if let Second::Somebody { work, thread, .. } = std::mem::replace(&mut self.second, Second::Nobody) {
            // Without a sender it ends by itself, when it has summed up what is left.
            drop(work);
            let _ = thread.join();
        }
    }
}

impl<S: EventSink + Send + 'static> Second<S> {
    fn start(sums: &Arc<Mutex<S>>) -> Self {
        let (work, works) = sync_channel::<Work<S>>(BATCHES);
        let (back, done) = sync_channel(BATCHES);
        let sums = Arc::clone(sums);
        let thread = Builder::new().name("events".to_owned()).spawn(move || {
            for work in works {
                if back.send(work_off(&sums, work)).is_err() {
                    break;
                }
            }
        });
        thread.map_or(Self::Nobody, |thread| Self::Somebody { work, done, thread })
    }
}

/// Where something panics the rest is done all the same: an attempt that ends in sums which lack its beginning is missed there for ever.
fn work_off<S: EventSink>(sums: &Mutex<S>, Work { mut events, then }: Work<S>) -> Back {
    let summed = catch_unwind(AssertUnwindSafe(|| sum_up(sums, &mut events)));
    let the_rest = catch_unwind(AssertUnwindSafe(|| sum_up(sums, &mut events)));
    let acted = catch_unwind(AssertUnwindSafe(|| then.into_iter().for_each(|act| act(&mut lock(sums)))));
    (events, summed.and(the_rest).and(acted).err())
}

/// One lock for all of them.
fn sum_up<S: EventSink>(sums: &Mutex<S>, events: &mut PackedEvents) {
    if events.is_empty() {
        return;
    }
    let mut sums = lock(sums);
    events.drain(|event| sums.on_event(event));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::segment::Endpoint;
    use crate::time::Timestamp;
    use crate::track::event::EventKind;
    use crate::track::flow::Flow;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn event(number: u32) -> HandshakeEvent {
        let end = Endpoint::new(Ipv4Addr::LOCALHOST.into(), 80);
        let flow = Flow { orig: end, resp: end };
        let ts = Timestamp::from_nanos(number.into());
        HandshakeEvent { ts, flow, weight: 1, kind: EventKind::SimultaneousOpen }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// However many come between two looks: all are there, in their order.
        #[test]
        fn nothing_is_lost_and_the_order_stays(
            bins in prop::collection::vec(0..3 * (BATCHES * BATCH) as u32, 0..6),
            alone: bool,
        ) {
            let mut relay = Relay::new(Vec::new());
            if alone {
                relay.second = Second::Nobody;
            }
            let mut said = 0;
            for bin in bins {
                for _ in 0..bin {
                    relay.on_event(&event(said));
                    said += 1;
                }
                let sums = relay.settled();
                prop_assert_eq!(sums.len(), said as usize);
                prop_assert!(sums.iter().enumerate().all(|(at, event)| event.ts.as_nanos() == at as i64));
            }
        }

        /// What is done with the sums finds in them what was said before, and nothing of what was said after.
        #[test]
        fn acts_come_between_what_was_said_before_and_after(
            bins in prop::collection::vec(0..3 * (BATCHES * BATCH) as u32, 0..6),
            alone: bool,
        ) {
            let mut relay = Relay::new(Vec::new());
            if alone {
                relay.second = Second::Nobody;
            }
            let found = Arc::new(Mutex::new(Vec::new()));
            let mut said = 0;
            for bin in &bins {
                for _ in 0..*bin {
                    relay.on_event(&event(said));
                    said += 1;
                }
                let found = Arc::clone(&found);
                relay.then(move |sums| {
                    lock(&found).push(sums.len() as u32);
                    sums.clear();
                });
            }
            drop(relay.settled());
            prop_assert_eq!(&*lock(&found), &bins);
        }
    }

    /// Takes its time, so that all batches are under way at once.
    struct Slow(Vec<u32>, SyncSender<()>, Receiver<()>);

    impl EventSink for Slow {
        fn on_event(&mut self, event: &HandshakeEvent) {
            if self.0.is_empty() {
                self.1.send(()).unwrap();
                self.2.recv().unwrap();
            }
            self.0.push(event.ts.as_nanos() as u32);
        }
    }

    #[test]
    fn a_second_thread_sums_up_and_the_batches_stay_as_many() {
        let ((begun, wait), (go, may_go)) = (sync_channel(1), sync_channel(1));
        let mut relay = Relay::new(Slow(Vec::new(), begun, may_go));
        relay.second = Second::NotYet;
        let before_waiting = (BATCHES - 1) * BATCH;
        for number in 0..before_waiting - 1 {
            relay.on_event(&event(number as u32));
        }
        wait.recv().unwrap();
        assert_eq!(relay.under_way, BATCHES - 2, "this thread goes on while the other is held up");
        go.send(()).unwrap();
        for number in before_waiting - 1..20 * BATCH {
            relay.on_event(&event(number as u32));
        }
        assert!(relay.settled().0.iter().enumerate().all(|(at, number)| at as u32 == *number));
        assert_eq!(relay.under_way, 0);
        assert!(relay.spare.len() < BATCHES, "{}", relay.spare.len());
    }

    struct Broken;

    impl EventSink for Broken {
        fn on_event(&mut self, _: &HandshakeEvent) {
            panic!("broken");
        }
    }

    #[test]
    fn a_panic_of_the_second_thread_is_one_of_the_first() {
        let mut relay = Relay::new(Broken);
        relay.second = Second::NotYet;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            for number in 0..20 * BATCH {
                relay.on_event(&event(number as u32));
            }
        }));
        assert_eq!(outcome.unwrap_err().downcast_ref(), Some(&"broken"));
    }

    /// Panics once, at the event of this number, and takes its time before.
    struct Once(Vec<u32>, u32, Option<Receiver<()>>);

    impl EventSink for Once {
        fn on_event(&mut self, event: &HandshakeEvent) {
            let number = event.ts.as_nanos() as u32;
            if number == self.1
                && let Some(go) = self.2.take()
            {
                go.recv().unwrap();
                // As a panic unwinds, without the message of one.
                resume_unwind(Box::new("on purpose, of a test"));
            }
            self.0.push(number);
        }
    }

    /// Whatever was handed over by then: only the event that was being taken is gone. So what ends later ends in the sums as well.
    #[test]
    fn a_panic_of_the_second_thread_loses_nothing_that_was_handed_over() {
        let (go, may_go) = sync_channel(1);
        let mut relay = Relay::new(Once(Vec::new(), 100, Some(may_go)));
        relay.second = Second::NotYet;
        let mut said = 0;
        let mut say = |relay: &mut Relay<Once>, until: usize| {
            while said < until as u32 {
                said += 1;
                relay.on_event(&event(said - 1));
            }
        };
        say(&mut relay, (BATCHES - 1) * BATCH);
        let acted = Arc::new(Mutex::new(0));
        let act = Arc::clone(&acted);
        go.send(()).unwrap();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            relay.then(move |sums| *lock(&act) = sums.0.len());
            say(&mut relay, 20 * BATCH);
            drop(relay.settled());
        }));
        assert!(panicked.is_err());
        let sums = relay.settled();
        let all = (0..said).filter(|number| *number != 100);
        assert!(sums.0.iter().copied().eq(all), "{} of {said}", sums.0.len());
        assert_eq!(*lock(&acted), (BATCHES - 1) * BATCH - 1);
    }
}
