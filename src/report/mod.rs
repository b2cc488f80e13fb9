//! Stage 5 of 5, report: what leaves the process: metrics, HTTP, logs, JSON, the summary.
//!
//! Never decides anything. Reads snapshots; never sees a packet, a segment or the table.

pub mod evidence;
pub mod history;
pub mod http;
pub mod journal;
pub mod logs;
pub mod metrics;
pub mod overview;
pub mod page;
#[cfg(test)]
mod scratch;
pub mod snapshot;
pub mod state;
pub mod summary;
pub mod text;

pub use text::unwritten;
