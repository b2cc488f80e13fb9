//! Stage 5's sections on what is kept of incidents: the journal's lines and the evidence's frames.
//!
//! Plain values with their defaults and reasons; no parsing here.

use std::path::PathBuf;

/// Stage 5: the journal, one JSON object a line for every change of an incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalConfig {
    /// The file; none: no journal. Default none: a sensor writes nowhere it was not told to.
    pub path: Option<PathBuf>,
    /// Bytes after which the next line goes to a new file. Default 16 MiB, some 8,000 changes.
    pub max_bytes: u64,
    /// Full files kept beside the current one: `path.1` is the latest of them. Default 4: with it 80 MiB in all.
    pub keep: u32,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self { path: None, max_bytes: 16 << 20, keep: 4 }
    }
}

/// Stage 5: the evidence, a few frames of every incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceConfig {
    /// A directory for one pcap file an incident; none: in memory only. Default none.
    pub path: Option<PathBuf>,
    /// Most bytes of one incident. Default 64 KiB: some 700 SYNs, the first 200 and 32 of every doubling after them.
    pub incident_bytes: u64,
    /// Most bytes in memory, of all incidents; the oldest that ended go first. Default 4 MiB. 0 keeps none.
    pub memory_bytes: u64,
    /// Most bytes in the directory; the oldest files go first. Default 256 MiB: 4,096 incidents.
    pub disk_bytes: u64,
}

impl Default for EvidenceConfig {
    fn default() -> Self {
        Self { path: None, incident_bytes: 64 << 10, memory_bytes: 4 << 20, disk_bytes: 256 << 20 }
    }
}
