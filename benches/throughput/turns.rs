//! Two readers of one trace that take turns within it, a few hundredths of a second each: what comes and goes on the machine is the same
//! for both, and what is left is their difference. Nobody reads while the other does.

use crate::own_time;
use halfopen::capture::replay::ReplaySource;
use halfopen::capture::{CaptureError, FrameSource, InterfaceCounters, SourceEvent};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

/// What one turn took: seconds that passed, and seconds of processor time of all threads.
pub(crate) type Took = [f64; 2];

/// Reads a source to its end.
pub(crate) type Reader<'a> = &'a (dyn Fn(&mut Turns) + Sync);

/// Has two readers read the same file, the first beginning, so many frames at a turn. What each whole turn of each of them took, in order.
pub(crate) fn in_turns(path: &Path, frames: u32, readers: [Reader<'_>; 2]) -> [Vec<Took>; 2] {
    let (to_first, first) = sync_channel(1);
    let (to_second, second) = sync_channel(1);
    to_first.send(()).expect("it is there");
    let run = |reader: Reader<'_>, mine, next| {
        let mut turns = Turns::new(path, frames, mine, next);
        reader(&mut turns);
        turns.took
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| run(readers[1], second, to_first));
        let one = scope.spawn(|| run(readers[0], first, to_second));
        [one, other].map(|thread| thread.join().expect("it read the file just written"))
    })
}

/// A file of which so many frames are read at a time, and then it is the other's turn.
pub(crate) struct Turns {
    source: ReplaySource,
    frames: u32,
    left: u32,
    mine: Receiver<()>,
    next: SyncSender<()>,
    begun: (Instant, f64),
    took: Vec<Took>,
}

impl Turns {
    /// Waits for its turn.
    fn new(path: &Path, frames: u32, mine: Receiver<()>, next: SyncSender<()>) -> Self {
        let source = crate::readers::open(path);
        let _ = mine.recv();
        Self {
            source,
            frames,
            left: frames,
            mine,
            next,
            begun: (Instant::now(), own_time()),
            took: Vec::new(),
        }
    }

    /// A turn is over. Where the other has read to its end there is nobody to wait for.
    #[cold]
    #[inline(never)]
    fn pass(&mut self) {
        self.took.push([self.begun.0.elapsed().as_secs_f64(), own_time() - self.begun.1]);
        if self.next.send(()).is_ok() {
            let _ = self.mine.recv();
        }
        self.left = self.frames;
        self.begun = (Instant::now(), own_time());
    }
}

impl FrameSource for Turns {
    #[inline(always)]
    fn next_event(&mut self) -> Result<SourceEvent<'_>, CaptureError> {
        if self.left == 0 {
            self.pass();
        }
        self.left -= 1;
        self.source.next_event()
    }

    fn publish(&mut self) {
        self.source.publish();
    }

    fn counters(&self) -> Vec<Arc<InterfaceCounters>> {
        self.source.counters()
    }
}
