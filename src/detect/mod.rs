//! Stage 4 of 5, detect: handshake events to incidents.
//!
//! Sees events only, never a segment, never the table. No I/O, no clock.

pub mod incident;
pub mod observe;

use crate::config::{DetectConfig, ServerConfig};
use crate::decode::segment::Endpoint;
use crate::time::Timestamp;
use incident::{Incident, JournalEntry, ServerView};
use observe::Observations;
use std::time::Duration;

/// Lost frames since the last call.
#[derive(Debug, Clone, Copy, Default)]
pub struct CaptureLoss {
    /// Captured.
    pub frames: u64,
    /// Lost.
    pub dropped: u64,
}

/// Stand-in.
#[derive(Debug)]
pub struct Detector {}

#[allow(missing_docs)]
impl Detector {
    pub fn new(_config: &DetectConfig, _servers: &[ServerConfig], _seed: u64) -> Self {
        Self {}
    }
    pub fn absorb(&mut self, _observations: &mut Observations) {}
    pub fn evaluate(
        &mut self,
        _now: Timestamp,
        _capture: CaptureLoss,
        _journal: &mut dyn FnMut(&JournalEntry),
    ) {
    }
    pub fn servers(&self, _top: usize) -> Vec<ServerView> {
        Vec::new()
    }
    pub fn incidents(&self) -> Vec<Incident> {
        Vec::new()
    }
    pub fn raised(&self) -> [u64; 10] {
        [0; 10]
    }
    pub fn grace_updates(&mut self, _f: &mut dyn FnMut(Endpoint, Duration)) {}
    pub fn reconfigure(&mut self, _config: &DetectConfig, _servers: &[ServerConfig]) {}
}
