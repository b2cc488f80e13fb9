//! Stage 5 of 5, report: what leaves the process: metrics, HTTP, logs, JSON, the summary.
//!
//! Never decides anything. Reads snapshots; never sees a packet, a segment or the table.

pub mod snapshot;
