//! Stage 3 of 5, track: segments a few at a time, the memory of all of them asked for before the first is worked off.
//!
//! Decides nothing and keeps nothing back for longer than a batch: the tracker does with each segment what it would have done at once.

use super::event::EventSink;
use super::flow::{self, AnyTuple, TupleV4, TupleV6};
use super::table::Spot;
use super::tracker::Tracker;
use crate::decode::segment::Segment;

/// Segments that wait for the memory they will need: enough that an access to memory is over when its segment's turn comes, few
/// enough that what was asked for is still in the first-level cache.
pub(super) const BATCH: usize = 32;

/// A segment, and where its attempt is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Located {
    segment: Segment,
    src_is_low: bool,
    spot: AnySpot,
}

/// A spot of either family.
#[derive(Debug, Clone, Copy)]
pub(super) enum AnySpot {
    V4(Spot<TupleV4>),
    V6(Spot<TupleV6>),
}

impl Tracker {
    /// Takes one segment, which has its effect within the next 32 or at [`Self::catch_up`]; its `ts` is network time.
    #[inline]
    pub fn take(&mut self, segment: Segment, sink: &mut impl EventSink) {
        let located = self.locate(segment);
        match &located.spot {
            AnySpot::V4(spot) => self.table.prefetch(spot),
            AnySpot::V6(spot) => self.table.prefetch(spot),
        }
        self.pending.push(located);
        if self.pending.len() == BATCH {
            self.catch_up(sink);
        }
    }

    /// Works off what was taken, each segment at its own time.
    pub fn catch_up(&mut self, sink: &mut impl EventSink) {
        let mut pending = std::mem::take(&mut self.pending);
        for located in &pending {
            self.advance(located.segment.ts, sink);
            self.on_located(located, sink);
        }
        pending.clear();
        self.pending = pending;
    }

    #[inline(always)]
    pub(super) fn locate(&self, segment: Segment) -> Located {
        let (tuple, src_is_low) = flow::tuple(segment.src, segment.dst);
        let spot = match tuple {
            AnyTuple::V4(key) => AnySpot::V4(self.table.spot(key)),
            AnyTuple::V6(key) => AnySpot::V6(self.table.spot(key)),
        };
        Located { segment, src_is_low, spot }
    }

    #[inline]
    pub(super) fn on_located(&mut self, located: &Located, sink: &mut impl EventSink) {
        let Located { segment, src_is_low, spot } = located;
        match spot {
            AnySpot::V4(spot) => self.on_tuple(spot, *src_is_low, segment, sink),
            AnySpot::V6(spot) => self.on_tuple(spot, *src_is_low, segment, sink),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{Frame, LinkType};
    use crate::config::TableConfig;
    use crate::decode::{Decoded, decode};
    use crate::synth::Scenario;
    use crate::synth::kinds::{Answers, Flood, Handshakes};
    use crate::synth::scenario::Traffic;
    use crate::time::NetworkTime;
    use crate::track::event::HandshakeEvent;
    use crate::track::table::HalfOpenTable;
    use std::sync::Arc;
    use std::time::Duration;

    #[derive(Default)]
    struct Events(Vec<HandshakeEvent>);

    impl EventSink for Events {
        fn on_event(&mut self, event: &HandshakeEvent) {
            self.0.push(*event);
        }
    }

    fn segments() -> Vec<Segment> {
        let flood = Flood { rate: 2_000.0, answers: Answers::Queue, ..Flood::default() };
        let handshakes = Handshakes { rate: 300.0, ..Handshakes::default() };
        let scenario = Scenario::new(9, Duration::from_secs(8))
            .with(Traffic::Flood(flood))
            .with(Traffic::Handshakes(handshakes));
        let (mut found, mut time) = (Vec::new(), NetworkTime::new());
        scenario.stream().for_each(|at, bytes| {
            let ts = time.advance(at);
            let frame = Frame { ts, link: LinkType::ETHERNET, orig_len: bytes.len() as u32, data: bytes };
            if let Decoded::Tcp(segment) = decode(&frame) {
                found.push(segment);
            }
        });
        found
    }

    /// Every event, in order: with a table so small that it evicts, samples and refuses as well.
    #[test]
    fn a_batch_does_what_its_segments_do_one_by_one() {
        let config = TableConfig { entries: 4_096, ..TableConfig::default() };
        let tracker = || Tracker::new(Arc::new(HalfOpenTable::new(&config, 1)), &config, usize::MAX);
        let (mut one_by_one, mut batched) = (tracker(), tracker());
        let (mut told, mut expected) = (Events::default(), Events::default());
        for segment in segments() {
            one_by_one.advance(segment.ts, &mut expected);
            one_by_one.on_segment(&segment, &mut expected);
            batched.take(segment, &mut told);
        }
        batched.catch_up(&mut told);
        assert!(expected.0.len() > 10_000, "{}", expected.0.len());
        assert_eq!(told.0, expected.0);
    }
}
