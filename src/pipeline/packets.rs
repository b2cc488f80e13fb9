//! The loop of one packet thread. Frames of one source go through here, one after another, to the end.

use super::lens::Lens;
use super::relay::Relay;
use super::shared::{Published, Sensor, Thread};
use crate::capture::{CaptureError, Frame, FrameSource, SourceEvent};
use crate::decode::segment::{Segment, SegmentKind};
use crate::decode::{self, DecodeError, Decoded, NotTcp};
use crate::detect::observe::Observations;
use crate::time::{NetworkTime, Timestamp};
use crate::track::tracker::Tracker;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Length of a bin of network time, at whose end the detector looks (science 6.3).
pub(super) const BIN: Duration = Duration::from_millis(500);

/// Counts are published this often, of network time: half of the oldest a scrape may see them.
const PUBLISH_EVERY: Duration = Duration::from_millis(50);

/// Or after this many frames, where time stands still.
const PUBLISH_AFTER: u32 = 65_536;

/// Deadlines handled before one live packet, at most: under 5 ms even where every one misses the cache.
const LIVE_BUDGET: usize = 8192;

/// A silence longer than this is skipped rather than judged bin by bin: every default timeout and grace age has passed, incidents
/// have ended, and nothing more can happen in it. What expires later does so at the end of the silence.
const LONGEST_SILENCE: Duration = Duration::from_secs(120);

/// What frames became, as a thread counts it.
#[derive(Debug, Clone, Default)]
pub(super) struct FrameTally {
    pub(super) read: u64,
    pub(super) tcp: u64,
    pub(super) not_tcp: u64,
    pub(super) later_fragments: u64,
    pub(super) undecoded: [u64; DecodeError::ALL.len()],
    pub(super) segments: [u64; SegmentKind::ALL.len()],
}

struct PacketLoop<'a> {
    sensor: &'a Arc<Sensor>,
    thread: Arc<Thread>,
    time: NetworkTime,
    /// Its stamps are of the host's clock.
    is_live: bool,
    tracker: Tracker,
    relay: Relay<Observations>,
    frames: FrameTally,
    lens: Lens,
    bin_ends: Option<Timestamp>,
    publish_at: Timestamp,
    unpublished: u32,
}

impl Sensor {
    /// Runs the loop over one source on the calling thread until it ends. Several threads may do so at once: they share one table.
    ///
    /// # Errors
    /// What made the source unusable; everything before it is counted. What it left open another source goes on with, the next that
    /// is run.
    pub fn run_source<S: FrameSource>(self: &Arc<Self>, mut source: S) -> Result<(), CaptureError> {
        let mut packets = PacketLoop::new(self, &source);
        match catch_unwind(AssertUnwindSafe(|| packets.run(&mut source))) {
            Ok(ended) => {
                source.publish();
                // A capture that failed is opened again: then it shows what becomes of the attempts under way. Nothing follows a trace.
                packets.end(ended.is_ok() || !source.is_live());
                ended
            }
            Err(panic) => {
                // What was seen before it is still worth telling, as far as that goes: what began with it will be told to have ended.
                let _ = catch_unwind(AssertUnwindSafe(|| packets.end(false)));
                drop(packets);
                resume_unwind(panic)
            }
        }
    }
}

impl<'a> PacketLoop<'a> {
    fn new<S: FrameSource>(sensor: &'a Arc<Sensor>, source: &S) -> Self {
        let budget = if source.is_live() { LIVE_BUDGET } else { usize::MAX };
        let thread = sensor.enlist(source.counters());
        let tracker = Tracker::new(Arc::clone(&sensor.table), &sensor.table_config(), budget);
        Self {
            sensor,
            thread,
            time: NetworkTime::resume(tracker.resumes_at()),
            is_live: source.is_live(),
            tracker,
            relay: Relay::new(sensor.observations()),
            frames: FrameTally::default(),
            lens: Lens::new(sensor.evidence()),
            bin_ends: None,
            publish_at: Timestamp::EPOCH,
            unpublished: 0,
        }
    }

    /// Takes whatever the source gives, to its end.
    fn run(&mut self, source: &mut impl FrameSource) -> Result<(), CaptureError> {
        loop {
            // Every arm named: `?` takes the whole event apart and puts it together again, which a processor waits for.
            match source.next_event() {
                Ok(SourceEvent::Frame(frame)) => {
                    if self.on_frame(&frame) {
                        source.publish();
                    }
                    if source.may_wait() {
                        self.catch_up();
                    }
                }
                Ok(SourceEvent::Idle(stamp)) => {
                    self.on_idle(stamp);
                    source.publish();
                    self.publish();
                }
                Ok(SourceEvent::End) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// One frame through the stages; whether counts were published.
    #[inline]
    fn on_frame(&mut self, frame: &Frame<'_>) -> bool {
        let mut now = self.time.advance(frame.ts);
        if self.bin_ends.is_none_or(|end| now >= end) {
            now = self.close_bins(now);
        }
        self.frames.read += 1;
        // Plain ones apart: that they are of IPv4 is then known all the way to the table, and no piece of them is put together twice.
        match decode::plain(&Frame { ts: now, ..*frame }) {
            Some(segment) => self.on_segment(frame, segment),
            None => self.on_another(*frame, now),
        }
        self.unpublished += 1;
        let due = now >= self.publish_at || self.unpublished >= PUBLISH_AFTER;
        if due {
            self.publish();
        }
        due
    }

    #[inline(always)]
    fn on_segment(&mut self, frame: &Frame<'_>, segment: Segment) {
        self.frames.tcp += 1;
        self.frames.segments[segment.kind as usize] += 1;
        self.tracker.take(segment, &mut self.relay);
        self.lens.see(frame, &segment);
    }

    /// A frame that is not plain.
    #[inline(never)]
    fn on_another(&mut self, frame: Frame<'_>, now: Timestamp) {
        match decode::walk(&Frame { ts: now, ..frame }) {
            Decoded::Tcp(segment) => self.on_segment(&frame, segment),
            Decoded::NotTcp(NotTcp::Other) => self.frames.not_tcp += 1,
            Decoded::NotTcp(NotTcp::LaterFragment) => {
                self.frames.not_tcp += 1;
                self.frames.later_fragments += 1;
            }
            Decoded::Undecoded(error) => self.frames.undecoded[error as usize] += 1,
        }
    }

    /// Nothing comes; network time moves to `stamp`, or stays; attempts age, bins close.
    fn on_idle(&mut self, stamp: Timestamp) {
        let mut now = self.time.advance(stamp);
        if self.bin_ends.is_none_or(|end| now >= end) {
            now = self.close_bins(now);
        }
        self.catch_up();
        self.tracker.advance(now, &mut self.relay);
    }

    /// What waits for memory has its effect.
    #[inline]
    fn catch_up(&mut self) {
        self.tracker.catch_up(&mut self.relay);
    }

    /// Closes what ends by `now`; the network time thereafter.
    #[cold]
    fn close_bins(&mut self, now: Timestamp) -> Timestamp {
        let Some(mut end) = self.bin_ends else {
            return self.begin(now);
        };
        let silent_from = end.plus(LONGEST_SILENCE);
        self.catch_up();
        while end <= now {
            self.tracker.advance(end, &mut self.relay);
            if self.is_live {
                // A trace that is over has told what it left open; a capture that failed may come back, and what it left is in the way.
                self.tracker.tend(end, &mut self.relay);
            }
            self.publish();
            self.close_bin(end);
            end = if end > silent_from { bin_end_after(now.max(end)) } else { end.plus(BIN) };
        }
        self.bin_ends = Some(end);
        self.sensor.table.established.suspects.age(now);
        // Settings that a reload changed, if it did.
        if let Some((table, observations)) = self.sensor.changed_settings(&self.thread) {
            self.tracker.reconfigure(&table);
            self.relay.restart(observations);
        }
        now
    }

    /// The first sign of life. Whoever begins where everything was judged long ago would hold all judging up until it is as far; captures
    /// of one host differ so much only where another saw an absurd stamp, and time went on from there.
    fn begin(&mut self, mut now: Timestamp) -> Timestamp {
        if self.is_live
            && let Some(judged) = self.sensor.judged()
        {
            self.time.join(judged);
            now = self.time.now().unwrap_or(now);
        }
        let end = bin_end_after(now);
        self.bin_ends = Some(end);
        self.sensor.reaches(&self.thread, end.minus(BIN));
        now
    }

    /// Has a bin judged, while frames of the next are read; what came of the one before has its effect from here on, however long
    /// that took: what is found in a trace may not hang on how fast it is read.
    fn close_bin(&mut self, end: Timestamp) {
        let closing = self.sensor.closing(&self.thread, end);
        if let Some(targets) = self.sensor.changed_targets(&self.thread) {
            self.lens.turn_to(targets);
        }
        let sensor = Arc::clone(self.sensor);
        self.relay.then(move |observations| sensor.bin_closed(closing, observations));
    }

    #[cold]
    fn publish(&mut self) {
        self.catch_up();
        self.unpublished = 0;
        self.publish_counts();
        self.lens.hand_over();
    }

    fn publish_counts(&mut self) {
        let now = self.time.now();
        self.publish_at = now.unwrap_or(Timestamp::EPOCH).plus(PUBLISH_EVERY);
        let mut published = self.thread.published.lock().unwrap_or_else(PoisonError::into_inner);
        let Published { frames, ledger, network_time, time_jumps, expiry_lag, bytes } = &mut *published;
        frames.clone_from(&self.frames);
        ledger.clone_from(self.tracker.counts());
        *network_time = now;
        *time_jumps = self.time.jumps_back();
        *expiry_lag = self.tracker.lag();
        *bytes = self.tracker.bytes();
    }

    /// The source is exhausted. Where nothing comes after it, what is still open is judged as far as that can be said.
    fn end(&mut self, for_good: bool) {
        self.catch_up();
        if let (Some(end), Some(now)) = (self.bin_ends, self.time.now()) {
            if for_good {
                self.tracker.finish(now, &mut self.relay);
            } else {
                self.tracker.advance(now, &mut self.relay);
            }
            self.publish();
            let mut observations = self.relay.settled();
            let closing = self.sensor.closing(&self.thread, end);
            self.sensor.thread_ended(closing, &mut observations);
        }
        self.publish();
    }
}

impl Drop for PacketLoop<'_> {
    /// Also where it ends by one panic after another: what it counted since it last published belongs to the sum, for another thread will
    /// close what this one opened; and the other threads' bins must not wait for it for ever.
    fn drop(&mut self) {
        self.publish_counts();
        self.sensor.thread_gone(&self.thread);
    }
}

/// The first multiple of the bin length after `now`, so that all threads close the same bins.
fn bin_end_after(now: Timestamp) -> Timestamp {
    let bin = BIN.as_nanos() as i64;
    Timestamp::from_nanos((now.as_nanos().div_euclid(bin) + 1).saturating_mul(bin))
}

#[cfg(test)]
mod tests;
