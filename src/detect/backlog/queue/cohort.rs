//! Stage 4 of 5, detect: the entries of a queue that came at about the same time, and what they showed of themselves.
//!
//! Plain numbers; whoever owns them counts.

use crate::detect::backlog::profile::STAGES;

/// Entries whose SYN came at about the same time.
///
/// By the SYN and not by the SYN-ACK that makes the entry: an event tells the age since the SYN, so that whoever leaves is looked for
/// in the cohort that took him in, however far the sensor is from the server.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cohort {
    /// Entries by how many of their timers went off.
    pub(super) stages: [u32; STAGES],
    /// SYN-ACKs that were cookies, as it seems: sent while the queue was full.
    pub(super) doubtful: u32,
    /// SYNs without a SYN-ACK.
    pub(super) unanswered: u32,
    /// Had their first repetition.
    pub(super) repeated: u32,
}

/// What a cohort showed once its first timer was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::detect::backlog) struct Shown {
    /// SYN-ACKs that came again: an entry each.
    pub(in crate::detect::backlog) repeated: u64,
    /// SYN-ACKs that did not: no entry, though one was reckoned with.
    pub(in crate::detect::backlog) unrepeated: u64,
    /// The same where none was reckoned with.
    pub(in crate::detect::backlog) cookies: u64,
    /// SYNs without an answer.
    pub(in crate::detect::backlog) unanswered: u64,
}
