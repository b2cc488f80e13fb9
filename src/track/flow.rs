//! Stage 3 of 5, track: the keys. Who opened a connection to whom.
//!
//! No state, no clock, no I/O.

use crate::decode::segment::Endpoint;
use std::fmt;

/// A connection attempt's two ends, by role. Eq and Hash are by both ends and the direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The originator: who sent the SYN.
    pub orig: Endpoint,
    /// The responder, also called the server: whom the SYN was sent to.
    pub resp: Endpoint,
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.orig, self.resp)
    }
}
