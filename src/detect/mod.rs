//! Stage 4 of 5, detect: handshake events to incidents.
//!
//! Sees events only, never a segment, never the table. No I/O, no clock.

pub mod incident;
