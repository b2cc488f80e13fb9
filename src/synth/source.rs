//! A scenario as a source of the pipeline: no file between the two.

use super::stream::Stream;
use crate::capture::{CaptureError, Frame, FrameSource, InterfaceCounters, LinkType, SourceEvent};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Frames of a [`Stream`], one after the other, as fast as they are asked for.
#[derive(Debug)]
pub struct SynthSource {
    stream: Stream,
    frame: Vec<u8>,
    counters: Arc<InterfaceCounters>,
    frames: u64,
    bytes: u64,
}

impl SynthSource {
    /// A source that ends with the stream.
    pub fn new(stream: Stream) -> Self {
        let counters = InterfaceCounters::new("synth");
        counters.up.store(true, Ordering::Relaxed);
        Self { stream, frame: Vec::with_capacity(256), counters, frames: 0, bytes: 0 }
    }
}

impl FrameSource for SynthSource {
    fn next_event(&mut self) -> Result<SourceEvent<'_>, CaptureError> {
        let Some(ts) = self.stream.next_frame(&mut self.frame) else {
            self.publish();
            self.counters.up.store(false, Ordering::Relaxed);
            return Ok(SourceEvent::End);
        };
        let orig_len = self.frame.len() as u32;
        self.frames += 1;
        self.bytes += u64::from(orig_len);
        Ok(SourceEvent::Frame(Frame { ts, link: LinkType::ETHERNET, orig_len, data: &self.frame }))
    }

    fn publish(&mut self) {
        self.counters.frames.store(self.frames, Ordering::Relaxed);
        self.counters.bytes.store(self.bytes, Ordering::Relaxed);
    }

    fn counters(&self) -> Vec<Arc<InterfaceCounters>> {
        vec![Arc::clone(&self.counters)]
    }
}
