//! Two capture threads on one scenario, each with its share of the connections, neither ahead of the other by more than a bin.
//!
//! Live interfaces keep time with each other by themselves; generated traffic is read as fast as a thread can, so that here the
//! two wait for each other at the end of every bin.

use halfopen::capture::{CaptureError, Frame, FrameSource, InterfaceCounters, LinkType, SourceEvent};
use halfopen::decode::{self, Decoded};
use halfopen::synth::Stream;
use halfopen::time::Timestamp;
use std::sync::{Arc, Barrier};
use std::time::Duration;

/// The sensor's bin.
const BIN: Duration = Duration::from_millis(500);

/// One of the two.
pub(crate) struct Half {
    stream: Stream,
    mine: u64,
    barrier: Arc<Barrier>,
    frame: Vec<u8>,
    /// The frame held back until the other is as far, with its stamp.
    held: Option<Timestamp>,
    /// The end of the present bin.
    end: Option<Timestamp>,
    /// The other may not have closed the last bin yet; what is learned from it holds for both before either goes on.
    closing: bool,
    over: bool,
    /// The latest frame of either.
    latest: Option<Timestamp>,
    counters: Arc<InterfaceCounters>,
}

/// Both.
pub(crate) fn halves(stream: &Stream) -> [Half; 2] {
    let barrier = Arc::new(Barrier::new(2));
    [0, 1].map(|mine| Half {
        stream: stream.clone(),
        mine,
        barrier: Arc::clone(&barrier),
        frame: Vec::new(),
        held: None,
        end: None,
        closing: false,
        over: false,
        latest: None,
        counters: InterfaceCounters::new("half"),
    })
}

impl Half {
    /// Both directions of a connection belong to the same half.
    fn is_mine(&self, ts: Timestamp) -> bool {
        let orig_len = self.frame.len() as u32;
        let frame = Frame { ts, link: LinkType::ETHERNET, orig_len, data: &self.frame };
        let Decoded::Tcp(segment) = decode::decode(&frame) else { return self.mine == 0 };
        (u64::from(segment.src.port) + u64::from(segment.dst.port)) % 2 == self.mine
    }

    /// Waits at the end of the bin; the next one begins.
    fn wait(&mut self, end: Timestamp) -> SourceEvent<'_> {
        self.barrier.wait();
        self.end = Some(end.plus(BIN));
        self.closing = true;
        SourceEvent::Idle(end)
    }
}

impl FrameSource for Half {
    fn next_event(&mut self) -> Result<SourceEvent<'_>, CaptureError> {
        if std::mem::take(&mut self.closing) {
            self.barrier.wait();
        }
        loop {
            let Some(ts) = self.held.take().or_else(|| self.stream.next_frame(&mut self.frame)) else {
                // What one has handed over the other waits for once more, so that both end with the same bin, and at the same time: a
                // silent interface goes on with the host's.
                if !std::mem::replace(&mut self.over, true) {
                    self.barrier.wait();
                    return Ok(self.latest.map_or(SourceEvent::End, SourceEvent::Idle));
                }
                return Ok(SourceEvent::End);
            };
            self.latest = Some(ts);
            let bin = BIN.as_nanos() as i64;
            let first = Timestamp::from_nanos((ts.as_nanos().div_euclid(bin) + 1) * bin);
            let Some(end) = self.end else {
                // The first word of both is the same, so that network time begins alike.
                self.end = Some(first);
                self.held = Some(ts);
                self.barrier.wait();
                return Ok(SourceEvent::Idle(ts));
            };
            if ts >= end {
                self.held = Some(ts);
                return Ok(self.wait(end));
            }
            if self.is_mine(ts) {
                let orig_len = self.frame.len() as u32;
                return Ok(SourceEvent::Frame(Frame {
                    ts,
                    link: LinkType::ETHERNET,
                    orig_len,
                    data: &self.frame,
                }));
            }
        }
    }

    fn publish(&mut self) {}

    fn counters(&self) -> Vec<Arc<InterfaceCounters>> {
        vec![Arc::clone(&self.counters)]
    }
}
