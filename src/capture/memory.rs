//! Stage 1 of 5, capture: frames from memory, for tests, benchmarks and fuzzing. May not read a clock or a file.

use super::{CaptureError, Frame, FrameSource, InterfaceCounters, LinkType, SourceEvent};
use crate::time::Timestamp;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Frames, and idle moments where a test wants them, in the order they were put in.
///
/// All bytes lie in one arena beside a small index, so that a million frames cost two allocations and a
/// benchmark measures the pipeline rather than the heap.
#[derive(Debug)]
pub struct MemorySource {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    next: usize,
    frames: u64,
    wire_bytes: u64,
    counters: Arc<InterfaceCounters>,
}

#[derive(Debug, Clone)]
enum Entry {
    Frame { ts: Timestamp, link: LinkType, orig_len: u32, data: Range<usize> },
    Idle(Timestamp),
}

impl MemorySource {
    /// A source with nothing in it yet; `name` is that of its counters.
    pub fn new(name: impl Into<String>) -> Self {
        let counters = InterfaceCounters::new(name);
        counters.up.store(true, Ordering::Relaxed);
        Self { bytes: Vec::new(), entries: Vec::new(), next: 0, frames: 0, wire_bytes: 0, counters }
    }

    /// A source of these frames: time stamp, link type, length on the wire, captured bytes.
    pub fn from_frames(frames: &[(Timestamp, LinkType, u32, Vec<u8>)]) -> Self {
        let mut source = Self::new("memory");
        source.bytes.reserve_exact(frames.iter().map(|frame| frame.3.len()).sum());
        source.entries.reserve_exact(frames.len());
        for (ts, link, orig_len, data) in frames {
            source.push(*ts, *link, *orig_len, data);
        }
        source
    }

    /// Adds a frame; `orig_len` is its length on the wire, of which `data` was captured.
    pub fn push(&mut self, ts: Timestamp, link: LinkType, orig_len: u32, data: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(data);
        self.entries.push(Entry::Frame { ts, link, orig_len, data: start..self.bytes.len() });
    }

    /// Adds a moment in which nothing came while the wall clock said `now`.
    pub fn push_idle(&mut self, now: Timestamp) {
        self.entries.push(Entry::Idle(now));
    }

    /// Starts again from the first entry; counters keep what they have.
    pub fn rewind(&mut self) {
        self.next = 0;
    }

    /// How many frames and idle moments it holds.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl FrameSource for MemorySource {
    #[inline]
    fn next_event(&mut self) -> Result<SourceEvent<'_>, CaptureError> {
        let Some(entry) = self.entries.get(self.next) else {
            self.publish();
            return Ok(SourceEvent::End);
        };
        self.next += 1;
        Ok(match entry {
            Entry::Frame { ts, link, orig_len, data } => {
                self.frames += 1;
                self.wire_bytes += u64::from(*orig_len);
                let data = &self.bytes[data.clone()];
                SourceEvent::Frame(Frame { ts: *ts, link: *link, orig_len: *orig_len, data })
            }
            Entry::Idle(now) => SourceEvent::Idle(*now),
        })
    }

    fn publish(&mut self) {
        self.counters.frames.store(self.frames, Ordering::Relaxed);
        self.counters.bytes.store(self.wire_bytes, Ordering::Relaxed);
    }

    fn counters(&self) -> Vec<Arc<InterfaceCounters>> {
        vec![Arc::clone(&self.counters)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_back_what_was_put_in_and_counts_it() {
        let mut source = MemorySource::new("test");
        source.push(Timestamp::from_parts(1, 5), LinkType::ETHERNET, 60, &[1, 2, 3]);
        source.push_idle(Timestamp::from_parts(2, 0));
        source.push(Timestamp::from_parts(0, 0), LinkType::RAW, 40, &[]);

        let mut seen = Vec::new();
        loop {
            match source.next_event().unwrap() {
                SourceEvent::Frame(f) => seen.push((f.ts.as_nanos(), f.link.0, f.orig_len, f.data.to_vec())),
                SourceEvent::Idle(now) => seen.push((now.as_nanos(), 0, 0, vec![])),
                SourceEvent::End => break,
            }
        }
        assert_eq!(
            seen,
            [(1_000_000_005, 1, 60, vec![1, 2, 3]), (2_000_000_000, 0, 0, vec![]), (0, 101, 40, vec![])]
        );
        let stats = source.counters()[0].load();
        assert_eq!((stats.frames, stats.bytes, stats.up), (2, 100, true));
        assert!(matches!(source.next_event().unwrap(), SourceEvent::End));
        source.rewind();
        assert!(matches!(source.next_event().unwrap(), SourceEvent::Frame(_)));
    }
}
