//! Stage 1 of 5, capture: frames copied out of the kernel's ring, some hundred at a time. May not allocate once it is warm.

use crate::capture::{Frame, LinkType};
use crate::time::Timestamp;
use pcap::{Active, Capture};

/// Frames a batch. At the 512 bytes of the default snapshot length they fill 256 KiB at most, which stays in the
/// second-level cache until they are decoded; SYNs fill a seventh of it.
const FRAMES: usize = 512;

/// Nanoseconds a unit of the sub-second field: what `open` asked for.
const UNIT: i64 = if cfg!(target_os = "linux") { 1 } else { 1000 };

/// Frames read and not yet given.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    next: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    ts: Timestamp,
    orig_len: u32,
    start: usize,
    end: usize,
}

impl Batch {
    /// Whether all of it was given.
    #[inline]
    pub(super) fn is_spent(&self) -> bool {
        self.next == self.entries.len()
    }

    /// Replaces what is in it by what the ring holds now; never waits. How many frames that were.
    pub(super) fn refill(&mut self, capture: &mut Capture<Active>) -> Result<usize, pcap::Error> {
        self.bytes.clear();
        self.entries.clear();
        self.next = 0;
        let Self { bytes, entries, .. } = self;
        capture.dispatch(Some(FRAMES), |packet| {
            let start = bytes.len();
            bytes.extend_from_slice(packet.data);
            let stamp = packet.header.ts;
            entries.push(Entry {
                ts: Timestamp::from_parts(stamp.tv_sec, stamp.tv_usec * UNIT),
                orig_len: packet.header.len,
                start,
                end: bytes.len(),
            });
        })
    }

    /// The next frame; only while it is not spent.
    #[inline]
    pub(super) fn next(&mut self, link: LinkType) -> Frame<'_> {
        let Entry { ts, orig_len, start, end } = self.entries[self.next];
        self.next += 1;
        Frame { ts, link, orig_len, data: &self.bytes[start..end] }
    }
}
