//! Stage 4 of 5, detect: stand-in.

use crate::config::{DetectConfig, ServerConfig};
use crate::track::event::{EventSink, HandshakeEvent};

/// Deltas.
#[derive(Debug, Default)]
pub struct Observations {}

impl Observations {
    /// Empty.
    pub fn new(_config: &DetectConfig, _servers: &[ServerConfig], _seed: u64) -> Self {
        Self {}
    }
}

impl EventSink for Observations {
    fn on_event(&mut self, _event: &HandshakeEvent) {}
}
