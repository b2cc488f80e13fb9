//! The loop: event, advance, expire, decode, track, detect. Live and replay run it alike.
//!
//! The only file besides the binary that knows all five stages.

use crate::capture::{CaptureError, FrameSource, SourceEvent};
use crate::config::Config;
use crate::detect::incident::JournalEntry;
use crate::report::snapshot::{EmbryonicView, Snapshot, SnapshotSource};
use std::sync::Arc;

/// Called for every change of an incident, from the packet thread that found it; must not block for long.
pub type Journal = Box<dyn FnMut(&JournalEntry) + Send>;

/// What the packet threads share: the table, the counters, the detector.
pub struct Sensor {}

impl Sensor {
    /// A sensor with an empty table.
    pub fn new(_config: &Config, _journal: Journal) -> Arc<Self> {
        Arc::new(Self {})
    }

    /// Applies what can change while running: servers, thresholds, timeouts. The rest needs a restart and is named in the result.
    pub fn reload(&self, _config: &Config) -> Vec<&'static str> {
        Vec::new()
    }

    /// Runs the loop over one source on the calling thread until it ends. Several threads may do so at once: they share one table.
    ///
    /// # Errors
    /// What made the source unusable; everything before it is counted.
    pub fn run_source<S: FrameSource>(self: &Arc<Self>, mut source: S) -> Result<(), CaptureError> {
        while !matches!(source.next_event()?, SourceEvent::End) {}
        Ok(())
    }

    /// Says that no more frames will come: the last bins are judged. Open attempts stay open.
    pub fn finish(&self) {}
}

impl SnapshotSource for Sensor {
    fn snapshot(&self) -> Snapshot {
        Snapshot::default()
    }

    fn embryonic(&self, _server: Option<&str>, _limit: usize) -> Vec<EmbryonicView> {
        Vec::new()
    }
}
