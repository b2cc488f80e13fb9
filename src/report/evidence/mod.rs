//! Stage 5 of 5, report: the evidence: a few frames of every incident, kept as what tcpdump and Wireshark open.
//!
//! Bounded in bytes for an incident, in memory and on the disk. Decides neither which incidents there are nor which frames belong
//! to them; does not look into a frame.

mod disk;

pub use disk::DiskWriter;

use crate::config::EvidenceConfig;
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Bytes kept of a frame: Ethernet, a tag, IPv6 and TCP with all of its options fit; data hardly does.
pub const FRAME_BYTES: usize = 128;

/// What an incident costs besides its frames, bytes: its id, its place in the map.
const OVERHEAD: u64 = 256;

/// The header of a capture file, and of each frame in it, bytes (draft-ietf-opsawg-pcap).
const FILE_HEADER: usize = 24;
const FRAME_HEADER: usize = 16;

/// LINKTYPE_ETHERNET: what a file without a frame says it holds.
const ETHERNET: u16 = 1;

/// A frame to keep.
#[derive(Debug, Clone, Copy)]
pub struct KeptFrame<'a> {
    /// When it was captured.
    pub ts: Timestamp,
    /// Its number in the LINKTYPE registry.
    pub link: u16,
    /// Its length on the wire.
    pub orig_len: u32,
    /// Its first bytes; those beyond [`FRAME_BYTES`] are not kept.
    pub data: &'a [u8],
}

/// What became of the frames that were chosen. All but `bytes` are monotone.
#[derive(Debug, Default)]
pub struct EvidenceCounts {
    /// Frames kept.
    pub frames: AtomicU64,
    /// Left out: the incident or the memory was full.
    pub full: AtomicU64,
    /// Left out: of another link type than the incident's first frame; a capture file has one.
    pub link_type: AtomicU64,
    /// Left out: more in one tick than a packet thread hands over.
    pub burst: AtomicU64,
    /// Files that could not be written; each is tried again.
    pub errors: AtomicU64,
    /// Bytes in memory now.
    pub bytes: AtomicU64,
}

/// Frames of incidents, by the incidents' ids.
#[derive(Debug)]
pub struct FrameStore {
    config: EvidenceConfig,
    counts: Arc<EvidenceCounts>,
    recordings: Mutex<Recordings>,
    /// There is something to write, or no more to come.
    news: Condvar,
}

#[derive(Debug, Default)]
struct Recordings {
    by_id: BTreeMap<String, Recording>,
    /// Bytes of all, with what they cost besides.
    bytes: u64,
    begun: u64,
    closed: bool,
}

#[derive(Debug)]
struct Recording {
    /// Which it was, by beginning.
    number: u64,
    link: Option<u16>,
    /// Frames with their headers, as the file has them.
    frames: Vec<u8>,
    ended: bool,
    /// There are frames that are not on the disk.
    unwritten: bool,
}

impl FrameStore {
    /// A store without frames; none where the configuration wants none.
    pub fn new(config: &EvidenceConfig, counts: &Arc<EvidenceCounts>) -> Option<Arc<Self>> {
        (config.memory_bytes > 0).then(|| {
            Arc::new(Self {
                config: config.clone(),
                counts: Arc::clone(counts),
                recordings: Mutex::default(),
                news: Condvar::new(),
            })
        })
    }

    /// An incident began.
    pub fn begin(&self, id: &str) {
        let mut recordings = self.lock();
        if !recordings.make_room(OVERHEAD, self.config.memory_bytes) || recordings.by_id.contains_key(id) {
            return;
        }
        recordings.begun += 1;
        let number = recordings.begun;
        let recording = Recording { number, link: None, frames: Vec::new(), ended: false, unwritten: false };
        recordings.by_id.insert(id.to_owned(), recording);
        recordings.bytes += OVERHEAD;
        self.counts.bytes.store(recordings.bytes, Ordering::Relaxed);
    }

    /// An incident ended; what was kept of it may go when others need the room.
    pub fn end(&self, id: &str) {
        if let Some(recording) = self.lock().by_id.get_mut(id) {
            recording.ended = true;
        }
    }

    /// Keeps frames, each with its incident's id. One lock for all of them.
    pub fn append<'a>(&self, frames: impl Iterator<Item = (&'a str, KeptFrame<'a>)>) {
        let mut recordings = self.lock();
        for (id, frame) in frames {
            let count = recordings.append(id, &frame, &self.config, &self.counts);
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.counts.bytes.store(recordings.bytes, Ordering::Relaxed);
        self.news.notify_one();
    }

    /// Counts frames that a packet thread had no room for.
    pub fn count_burst(&self, frames: u64) {
        self.counts.burst.fetch_add(frames, Ordering::Relaxed);
    }

    /// The capture file of an incident: from memory, else from the disk; none where no frame of it is kept.
    pub fn pcap(&self, id: &str) -> Option<Vec<u8>> {
        let in_memory = self.lock().by_id.get(id).map(Recording::file);
        in_memory.or_else(|| disk::read(&self.config, id))
    }

    /// Whether a frame of an incident is kept, in memory or on the disk.
    pub fn has(&self, id: &str) -> bool {
        let in_memory = self.lock().by_id.get(id).is_some_and(|recording| !recording.frames.is_empty());
        in_memory || disk::has(&self.config, id)
    }

    fn lock(&self) -> MutexGuard<'_, Recordings> {
        self.recordings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recordings {
    /// Appends one frame where there is room. The count that it belongs to.
    fn append<'c>(
        &mut self,
        id: &str,
        frame: &KeptFrame<'_>,
        config: &EvidenceConfig,
        counts: &'c EvidenceCounts,
    ) -> &'c AtomicU64 {
        let data = frame.data.get(..FRAME_BYTES).unwrap_or(frame.data);
        let need = (FRAME_HEADER + data.len()) as u64;
        let Some(recording) = self.by_id.get(id) else { return &counts.full };
        if recording.link.is_some_and(|link| link != frame.link) {
            return &counts.link_type;
        }
        let full = (FILE_HEADER + recording.frames.len()) as u64 + need > config.incident_bytes;
        if full || !self.make_room(need, config.memory_bytes) {
            return &counts.full;
        }
        let Some(recording) = self.by_id.get_mut(id) else { return &counts.full };
        recording.link = Some(frame.link);
        recording.unwritten = true;
        recording.push(frame, data);
        self.bytes += need;
        &counts.frames
    }

    /// Whether so many bytes more fit; what ended goes for them, the oldest first.
    fn make_room(&mut self, need: u64, limit: u64) -> bool {
        while self.bytes.saturating_add(need) > limit {
            let ended = self.by_id.iter().filter(|(_, recording)| recording.ended);
            let Some(id) = ended.min_by_key(|(_, recording)| recording.number).map(|(id, _)| id.clone())
            else {
                return false;
            };
            if let Some(gone) = self.by_id.remove(&id) {
                self.bytes -= OVERHEAD + gone.frames.len() as u64;
            }
        }
        true
    }
}

impl Recording {
    fn push(&mut self, frame: &KeptFrame<'_>, data: &[u8]) {
        // A stamp that the format cannot hold, before 1970 or after 2106, becomes the nearest that it can.
        let nanos = frame.ts.as_nanos().max(0);
        let seconds = u32::try_from(nanos / 1_000_000_000).unwrap_or(u32::MAX);
        let fraction = (nanos % 1_000_000_000) as u32;
        let kept = data.len() as u32;
        for word in [seconds, fraction, kept, frame.orig_len.max(kept)] {
            self.frames.extend_from_slice(&word.to_le_bytes());
        }
        self.frames.extend_from_slice(data);
    }

    /// The whole file: the classic format with its nanosecond magic number, little-endian.
    fn file(&self) -> Vec<u8> {
        let mut file = Vec::with_capacity(FILE_HEADER + self.frames.len());
        file.extend_from_slice(&0xa1b2_3c4d_u32.to_le_bytes());
        file.extend_from_slice(&2_u16.to_le_bytes());
        file.extend_from_slice(&4_u16.to_le_bytes());
        file.extend_from_slice(&[0; 8]);
        file.extend_from_slice(&(FRAME_BYTES as u32).to_le_bytes());
        file.extend_from_slice(&u32::from(self.link.unwrap_or(ETHERNET)).to_le_bytes());
        file.extend_from_slice(&self.frames);
        file
    }
}

#[cfg(test)]
mod tests;
