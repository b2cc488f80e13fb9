//! Stage 5 of 5, report: the evidence as files, one an incident, written while it runs.
//!
//! A file is always whole: it is written under another name and renamed. Of the directory, only what is named like an incident of
//! ours is read, counted or deleted.

use super::{FrameStore, Recordings};
use crate::config::EvidenceConfig;
use crate::report::journal::Trouble;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Frames are on the disk this long after they were kept; also the pause before a failed file is tried again.
const EVERY: Duration = Duration::from_secs(1);

const SUFFIX: &str = ".pcap";
const UNFINISHED: &str = ".pcap.part";

/// The thread that writes a store's frames into its directory.
#[derive(Debug)]
pub struct DiskWriter {
    store: Arc<FrameStore>,
    ended: Receiver<()>,
}

impl DiskWriter {
    /// Starts it, where the configuration names a directory.
    ///
    /// # Errors
    /// The host has no thread left.
    pub fn start(store: &Arc<FrameStore>) -> io::Result<Option<Self>> {
        let Some(directory) = store.config.path.clone() else { return Ok(None) };
        let (tell, ended) = sync_channel(1);
        let for_thread = Arc::clone(store);
        let work = move || {
            write_all(&for_thread, &directory);
            let _ = tell.send(());
        };
        std::thread::Builder::new().name("evidence".to_owned()).spawn(work)?;
        Ok(Some(Self { store: Arc::clone(store), ended }))
    }

    /// Waits until what is kept is written, for so long at most. Whether it is.
    pub fn finish(self, patience: Duration) -> bool {
        self.store.lock().closed = true;
        self.store.news.notify_one();
        self.ended.recv_timeout(patience).is_ok()
    }
}

fn write_all(store: &FrameStore, directory: &Path) {
    let mut trouble = Trouble::default();
    trouble.note("evidence", directory, prepare(directory));
    let mut recordings = store.lock();
    loop {
        let closed = recordings.closed;
        let files = recordings.take_unwritten();
        drop(recordings);
        for (id, file) in files {
            let written = write(directory, &id, &file, store.config.disk_bytes);
            if !trouble.note("evidence", directory, written) {
                store.counts.errors.fetch_add(1, Ordering::Relaxed);
                if let Some(recording) = store.lock().by_id.get_mut(&id) {
                    recording.unwritten = true;
                }
            }
        }
        recordings = store.lock();
        if closed {
            return;
        }
        if !recordings.closed {
            // Not at every frame: what comes within the pause is written at once.
            let waited = store.news.wait_timeout_while(recordings, EVERY, |recordings| !recordings.closed);
            recordings = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let idle = |recordings: &mut Recordings| {
            !recordings.closed && recordings.by_id.values().all(|recording| !recording.unwritten)
        };
        recordings = store.news.wait_while(recordings, idle).unwrap_or_else(PoisonError::into_inner);
    }
}

impl Recordings {
    /// Every file that has changed, taken as written.
    fn take_unwritten(&mut self) -> Vec<(String, Vec<u8>)> {
        let changed = self.by_id.iter_mut().filter(|(_, recording)| recording.unwritten);
        changed
            .map(|(id, recording)| {
                recording.unwritten = false;
                (id.clone(), recording.file())
            })
            .collect()
    }
}

/// Makes the directory where it is missing (not its parents), and removes what an earlier process left unfinished.
fn prepare(directory: &Path) -> io::Result<()> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if id_of(&path, UNFINISHED).is_some() {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn write(directory: &Path, id: &str, file: &[u8], limit: u64) -> io::Result<()> {
    if !is_id(id) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("'{id}' is no name of a file")));
    }
    let unfinished = directory.join(format!("{id}{UNFINISHED}"));
    let path = directory.join(format!("{id}{SUFFIX}"));
    prune(directory, &path, limit.saturating_sub(file.len() as u64))?;
    let written = File::create(&unfinished).and_then(|mut out| out.write_all(file));
    let written = written.and_then(|()| fs::rename(&unfinished, &path));
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    written
}

/// Deletes the oldest files until all but `about` hold `limit` bytes at most. Ids begin with the time of the onset, so the
/// first by name is the oldest.
fn prune(directory: &Path, about: &Path, limit: u64) -> io::Result<()> {
    let mut files: Vec<(PathBuf, u64)> = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if id_of(&path, SUFFIX).is_some() && path != about {
            files.push((path, entry.metadata()?.len()));
        }
    }
    files.sort();
    let mut sum: u64 = files.iter().map(|(_, len)| len).sum();
    for (path, len) in files {
        if sum <= limit {
            break;
        }
        fs::remove_file(path)?;
        sum -= len;
    }
    Ok(())
}

/// Whether the directory has a file of this incident.
pub(super) fn has(config: &EvidenceConfig, id: &str) -> bool {
    path(config, id).is_some_and(|path| path.is_file())
}

/// A file of the directory, where there is one.
pub(super) fn read(config: &EvidenceConfig, id: &str) -> Option<Vec<u8>> {
    let file = File::open(path(config, id)?).ok()?;
    let mut bytes = Vec::new();
    // Ours are no longer; what somebody else put there is cut.
    file.take(config.incident_bytes).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn path(config: &EvidenceConfig, id: &str) -> Option<PathBuf> {
    let directory = config.path.as_ref().filter(|_| is_id(id))?;
    Some(directory.join(format!("{id}{SUFFIX}")))
}

/// The id of the incident that a file is named after.
fn id_of<'p>(path: &'p Path, suffix: &str) -> Option<&'p str> {
    path.file_name()?.to_str()?.strip_suffix(suffix).filter(|id| is_id(id))
}

/// Whether this is an incident's id, as `20251122T171856Z-spoofed_flood-1a2b3c`, and so no path that leads elsewhere.
fn is_id(id: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    id.len() <= 80
        && id.chars().all(plain)
        && id.split('-').count() == 3
        && id.as_bytes().get(8) == Some(&b'T')
}
