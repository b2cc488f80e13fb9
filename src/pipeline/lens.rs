//! What a packet thread keeps of frames, for the evidence of incidents: a few SYNs of the last seconds, always; a sample of the
//! frames of each running incident.
//!
//! Without an incident a frame costs one branch, a SYN two; nothing is allocated or locked for a frame.

use super::targets::Targets;
use crate::capture::{Frame, LinkType};
use crate::decode::segment::{Endpoint, Segment, SegmentKind};
use crate::report::evidence::{FRAME_BYTES, FrameStore, KeptFrame};
use crate::time::Timestamp;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// SYNs remembered from before an incident is known, at least [`SYN_SPACING`] apart: the last four seconds of a busy link, which
/// is longer than a detection takes (grace age and a second); the last 512 SYNs of a quiet one.
const SYNS: usize = 512;
/// 125 SYNs a second at most: copying costs nothing then, at any rate.
const SYN_SPACING: Duration = Duration::from_millis(8);

/// Frames kept between two hand-overs, 50 ms of network time: the first of a few incidents at once.
const BUFFER: usize = 512;

/// Frames of an incident that are kept one and all.
const FIRST: u64 = 200;
/// After them, so many of every doubling, as a power of two: 32. Ten million frames are 500 in the sample.
const PER_DOUBLING: u32 = 5;

/// One frame, without a pointer.
#[derive(Debug, Clone, Copy)]
struct Kept {
    ts: Timestamp,
    link: LinkType,
    orig_len: u32,
    len: u8,
    data: [u8; FRAME_BYTES],
    src: Endpoint,
    dst: Endpoint,
    target: usize,
}

impl Kept {
    fn of(frame: &Frame<'_>, segment: &Segment, target: usize) -> Self {
        let mut data = [0; FRAME_BYTES];
        let len = frame.data.len().min(FRAME_BYTES);
        if let (Some(place), Some(bytes)) = (data.get_mut(..len), frame.data.get(..len)) {
            place.copy_from_slice(bytes);
        }
        Self {
            ts: frame.ts,
            link: frame.link,
            orig_len: frame.orig_len,
            len: len as u8,
            data,
            src: segment.src,
            dst: segment.dst,
            target,
        }
    }

    fn frame(&self) -> KeptFrame<'_> {
        let data = self.data.get(..usize::from(self.len)).unwrap_or(&self.data);
        KeptFrame { ts: self.ts, link: self.link.0, orig_len: self.orig_len, data }
    }
}

/// One packet thread's eye on running incidents.
pub(super) struct Lens {
    /// Where kept frames go; none: nothing is kept.
    store: Option<Arc<FrameStore>>,
    targets: Arc<Targets>,
    watching: bool,
    /// The server last found, and its incident.
    latest: Option<(Endpoint, usize)>,
    /// Frames seen of each target.
    seen: Vec<u64>,
    /// Highest number of a target that this thread knew.
    known: u64,
    buffer: Vec<Kept>,
    burst: u64,
    /// The latest SYNs, oldest first.
    syns: VecDeque<Kept>,
    next_syn: Timestamp,
}

impl Lens {
    /// Sees nothing yet.
    pub(super) fn new(store: Option<Arc<FrameStore>>) -> Self {
        let (room, next_syn) = match store {
            Some(_) => (SYNS, Timestamp::EPOCH),
            None => (0, Timestamp::FAR_FUTURE),
        };
        Self {
            store,
            targets: Arc::default(),
            watching: false,
            latest: None,
            seen: Vec::new(),
            known: 0,
            buffer: Vec::new(),
            burst: 0,
            syns: VecDeque::with_capacity(room),
            next_syn,
        }
    }

    /// A frame, as captured, and the segment in it. Copies are given on, and made only then: what nobody is given a reference to stays in
    /// registers.
    #[inline(always)]
    pub(super) fn see(&mut self, frame: &Frame<'_>, segment: &Segment) {
        if segment.kind == SegmentKind::Syn && segment.ts >= self.next_syn {
            self.remember(*frame, *segment);
        }
        if self.watching {
            self.watch(*frame, *segment);
        }
    }

    #[cold]
    fn remember(&mut self, frame: Frame<'_>, segment: Segment) {
        self.next_syn = segment.ts.plus(SYN_SPACING);
        if self.syns.len() == SYNS {
            self.syns.pop_front();
        }
        self.syns.push_back(Kept::of(&frame, &segment, 0));
    }

    #[inline(never)]
    fn watch(&mut self, frame: Frame<'_>, segment: Segment) {
        // What a connection carries is nobody's business here, and tells nothing of a handshake.
        if segment.payload_len > 0 && matches!(segment.kind, SegmentKind::Ack | SegmentKind::Fin) {
            return;
        }
        if let Some(target) = self.target_of(&segment)
            && self.is_chosen(target)
        {
            self.keep(Kept::of(&frame, &segment, target));
        }
    }

    /// The incident a segment belongs to. In a flood most go to one server: it is found without a lookup.
    fn target_of(&mut self, segment: &Segment) -> Option<usize> {
        if let Some((server, target)) = self.latest
            && server == segment.dst
        {
            return Some(target);
        }
        if let Some(target) = self.targets.server(segment.dst) {
            self.latest = Some((segment.dst, target));
            return Some(target);
        }
        self.targets.find(segment.src, segment.dst)
    }

    /// Whether the next frame of a target is in the sample.
    fn is_chosen(&mut self, target: usize) -> bool {
        let Some(seen) = self.seen.get_mut(target) else { return false };
        *seen += 1;
        is_sampled(*seen)
    }

    fn keep(&mut self, kept: Kept) {
        if self.buffer.len() < BUFFER {
            self.buffer.push(kept);
        } else {
            self.burst += 1;
        }
    }

    /// Hands over what was kept. Called on ticks.
    pub(super) fn hand_over(&mut self) {
        let Some(store) = &self.store else { return };
        if !self.buffer.is_empty() {
            let list = &self.targets.list;
            let with_id = |kept: &'_ Kept| list.get(kept.target).map(|target| &*target.id);
            store.append(self.buffer.iter().filter_map(|kept| Some((with_id(kept)?, kept.frame()))));
            self.buffer.clear();
        }
        if self.burst > 0 {
            store.count_burst(std::mem::take(&mut self.burst));
        }
    }

    /// Incidents began or ended. Those that are new get what is remembered of the time before.
    pub(super) fn turn_to(&mut self, targets: Arc<Targets>) {
        self.hand_over();
        self.latest = None;
        let old = std::mem::replace(&mut self.targets, targets);
        let counted = |number: u64| {
            let at = old.list.binary_search_by_key(&number, |target| target.number).ok()?;
            self.seen.get(at).copied()
        };
        let seen = self.targets.list.iter().map(|target| counted(target.number).unwrap_or(0)).collect();
        self.seen = seen;
        self.watching = self.store.is_some() && !self.targets.list.is_empty();
        if !self.watching {
            // Nothing to hold it for; the next incident pays for it once.
            self.buffer = Vec::new();
            return;
        }
        self.buffer.reserve_exact(BUFFER - self.buffer.len());
        let known = self.known;
        let syns = std::mem::take(&mut self.syns);
        for syn in &syns {
            let target = self.targets.find(syn.src, syn.dst);
            let is_new = |at: &usize| self.targets.list.get(*at).is_some_and(|target| target.number > known);
            if let Some(target) = target.filter(is_new)
                && self.is_chosen(target)
            {
                self.keep(Kept { target, ..*syn });
            }
        }
        self.syns = syns;
        self.known = self.targets.list.iter().map(|target| target.number).fold(known, u64::max);
        self.hand_over();
    }
}

/// Whether the `n`th frame of an incident, from 1, is kept.
fn is_sampled(n: u64) -> bool {
    n <= FIRST || n & ((1 << n.ilog2().saturating_sub(PER_DOUBLING)) - 1) == 0
}

#[cfg(test)]
#[path = "lens_tests.rs"]
mod tests;
