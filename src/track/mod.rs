//! Stage 3 of 5, track: segments to handshake events, through a table of the embryonic connections.
//!
//! No bytes, no I/O, no clock, no metrics: it returns what happened.

pub mod event;
pub mod flow;
