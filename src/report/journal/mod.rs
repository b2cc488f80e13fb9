//! Stage 5 of 5, report: the journal: every change of an incident, and what showed on single connections, as one JSON object a line,
//! in a file.
//!
//! Never holds up who records: a bounded queue and a thread of its own lie between. What cannot be written is counted, said once
//! for each episode of trouble, and lost; the sensor goes on. Decides nothing.

mod file;
mod listing;
mod moment;
mod reader;
mod told;

pub use file::RotatedFile;
pub use moment::Moment;
pub use reader::{Account, BYTES, Damage, INCIDENTS, LONGEST_LINE, LineCounts, Reader, Wanted, first_stamp};
pub use told::{Clue, Told};

use crate::config::JournalConfig;
use crate::detect::incident::{Discovery, Exchange, JournalEntry, Sighting};
use crate::time::Timestamp;
use serde::{Serialize, Serializer};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

/// Changes that wait for the disk: all incidents that may run at once, raised, changed and ended within one stall. Some 3 MB.
const QUEUE: usize = 1024;

/// Between two looks at a full queue, while the sensor stops.
const PAUSE: Duration = Duration::from_millis(10);

/// What waits for the writer; none tells it to end.
type Message = Option<Line>;

/// One line.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Line {
    Incident(JournalEntry),
    Sighting(SightingLine),
}

/// The line of what showed on one connection: `event` is `half_open` or `oddity`, and names the object beside it.
#[derive(Debug, Clone, Serialize)]
pub struct SightingLine {
    #[serde(serialize_with = "seconds")]
    ts: Timestamp,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    half_open: Option<Discovery>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oddity: Option<Exchange>,
}

impl From<&Sighting> for SightingLine {
    fn from(seen: &Sighting) -> Self {
        match seen {
            Sighting::HalfOpen(found) => {
                Self { ts: found.ts, event: "half_open", half_open: Some(found.clone()), oddity: None }
            }
            Sighting::Oddity(odd) => {
                Self { ts: odd.ts, event: "oddity", half_open: None, oddity: Some(odd.clone()) }
            }
        }
    }
}

fn seconds<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(at.as_secs_f64())
}

/// What became of the changes recorded. All monotone.
#[derive(Debug, Default)]
pub struct JournalCounts {
    /// Lines written.
    pub written: AtomicU64,
    /// Lines lost because they could not be written.
    pub errors: AtomicU64,
    /// Lines lost because the writer was too far behind.
    pub dropped: AtomicU64,
}

/// The journal of a sensor.
#[derive(Debug)]
pub struct Journal {
    queue: SyncSender<Message>,
    ended: Receiver<()>,
    counts: Arc<JournalCounts>,
}

/// A journal's side of whoever records.
#[derive(Debug, Clone)]
pub struct Recorder {
    queue: SyncSender<Message>,
    counts: Arc<JournalCounts>,
}

impl Journal {
    /// Starts the journal, where the configuration names a file. A file that cannot be opened now is tried again with every line:
    /// a sensor watches also where it cannot write.
    ///
    /// # Errors
    /// The host has no thread left.
    pub fn start(config: &JournalConfig, counts: &Arc<JournalCounts>) -> io::Result<Option<Self>> {
        let Some(path) = config.path.clone() else { return Ok(None) };
        let mut file = RotatedFile::new(path.clone(), config.max_bytes, config.keep);
        let mut trouble = Trouble::default();
        // Told at the start rather than with the first incident.
        trouble.note("journal", &path, file.open());
        let write = move |line: &[u8]| trouble.note("journal", &path, file.write(line));
        Self::with_writer(QUEUE, counts, write).map(Some)
    }

    /// A journal whose lines go to `write`, which says whether it wrote them; at most `queue` lines wait.
    fn with_writer(
        queue: usize,
        counts: &Arc<JournalCounts>,
        mut write: impl FnMut(&[u8]) -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, entries) = sync_channel::<Message>(queue);
        let (tell, ended) = sync_channel(1);
        let for_thread = Arc::clone(counts);
        let work = move || {
            let mut line = Vec::new();
            for entry in entries.into_iter().map_while(|message| message) {
                line.clear();
                let written = serde_json::to_writer(&mut line, &entry).is_ok() && {
                    line.push(b'\n');
                    write(&line)
                };
                let count = if written { &for_thread.written } else { &for_thread.errors };
                count.fetch_add(1, Ordering::Relaxed);
            }
            let _ = tell.send(());
        };
        std::thread::Builder::new().name("journal".to_owned()).spawn(work)?;
        Ok(Self { queue, ended, counts: Arc::clone(counts) })
    }

    /// For whoever has changes to record.
    pub fn recorder(&self) -> Recorder {
        Recorder { queue: self.queue.clone(), counts: Arc::clone(&self.counts) }
    }

    /// Waits until what was recorded so far is written, for about so long at most: a disk that hangs holds nobody up. Whether it
    /// is; what is recorded later counts as dropped.
    pub fn finish(self, patience: Duration) -> bool {
        let looks = patience.as_millis() / PAUSE.as_millis();
        for _ in 0..=looks {
            match self.queue.try_send(None) {
                Err(TrySendError::Full(_)) => std::thread::sleep(PAUSE),
                Ok(()) => return self.ended.recv_timeout(patience).is_ok(),
                Err(TrySendError::Disconnected(_)) => return false,
            }
        }
        false
    }
}

impl Recorder {
    /// Records a change, or counts it as dropped where the writer is too far behind. Never blocks.
    pub fn record(&self, entry: &JournalEntry) {
        self.send(Line::Incident(entry.clone()));
    }

    /// Records what showed on one connection likewise.
    pub fn record_sighting(&self, seen: &Sighting) {
        self.send(Line::Sighting(SightingLine::from(seen)));
    }

    fn send(&self, line: Line) {
        if self.queue.try_send(Some(line)).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Says once that something fails and once that it works again.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    failing: bool,
}

impl Trouble {
    /// Takes a result in; whether it was a success.
    pub(super) fn note(&mut self, what: &str, path: &Path, result: io::Result<()>) -> bool {
        let failed = result.is_err();
        match result {
            Err(error) if !self.failing => {
                let why = super::text::unwritten(path, &error);
                tracing::error!(msg = "cannot write, trying on", what, error = why);
            }
            Ok(()) if self.failing => tracing::info!(msg = "written again", what, file = %path.display()),
            _ => {}
        }
        self.failing = failed;
        !failed
    }
}

#[cfg(test)]
mod reader_tests;
#[cfg(test)]
mod tests;
