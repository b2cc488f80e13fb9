//! Stage 4 of 5, detect: handshake events to incidents.
//!
//! Sees events only, never a segment, never the table. No I/O, no clock.

mod hash;
mod heavy;
pub mod incident;
mod sources;
mod statistic;
mod tally;
