//! Stage 5 of 5, report: who gets in: TLS, clients' certificates, passwords; read again where their files changed.
//!
//! Knows nothing of what is served. Reads the files it is named, and a clock for how often to look at them.

use super::door::Door;
use crate::config::WebFile;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Between two looks at the files: a renewed certificate is used within a second, and a flood of connections does not make a flood
/// of file accesses.
const LOOK: Duration = Duration::from_secs(1);

/// Who gets in, as the files have it now.
#[derive(Debug)]
pub struct Guard {
    file: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    door: Arc<Door>,
    looked: Option<Instant>,
    /// What the files were when they were last read, well or not.
    seen: Vec<Fingerprint>,
}

/// What changes with a file: device, inode, length, time of change; none where it is not there.
type Fingerprint = Option<(u64, u64, u64, i64, i64)>;

impl Guard {
    /// Everybody gets in, unencrypted.
    pub fn open() -> Self {
        Self { file: None, state: Mutex::new(State { door: Arc::default(), looked: None, seen: Vec::new() }) }
    }

    /// As the file says, which is in the exporter-toolkit's format.
    ///
    /// # Errors
    /// Each problem of the file, or of a certificate or key, as one line.
    pub fn load(file: &Path) -> Result<Self, Vec<String>> {
        let (door, seen) = read(file)?;
        let state = State { door: Arc::new(door), looked: None, seen };
        Ok(Self { file: Some(file.to_owned()), state: Mutex::new(state) })
    }

    /// Whether connections are encrypted and whether somebody must show who he is.
    pub fn demands(&self) -> (bool, bool) {
        let door = Arc::clone(&self.lock().door);
        (door.tls().is_some(), door.asks())
    }

    /// The files that are read again: the web configuration and those it names.
    pub fn files(file: &Path) -> Vec<PathBuf> {
        files(file)
    }

    /// The directories that are read again.
    pub fn directories(file: &Path) -> Vec<PathBuf> {
        let files = files(file);
        let directory = |file: &PathBuf| match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        files.iter().map(directory).collect()
    }

    /// Who gets in now. Looks at the files where it is time to; blocks for as long as reading them takes.
    pub(super) fn door(&self) -> Arc<Door> {
        let mut state = self.lock();
        let now = monotonic();
        if let Some(file) = &self.file
            && state.looked.is_none_or(|looked| now.duration_since(looked) >= LOOK)
        {
            state.looked = Some(now);
            Self::look(file, &mut state);
        }
        Arc::clone(&state.door)
    }

    fn look(file: &Path, state: &mut State) {
        let seen = fingerprints(file);
        if seen == state.seen {
            return;
        }
        match read(file) {
            Ok((door, seen)) => {
                (state.door, state.seen) = (Arc::new(door), seen);
                tracing::info!(msg = "web configuration read again", file = %file.display());
            }
            Err(problems) => {
                // Said once for each state of the files.
                state.seen = seen;
                for error in problems {
                    tracing::error!(msg = "web configuration not read again, the old one stays", error);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(file: &Path) -> Result<(Door, Vec<Fingerprint>), Vec<String>> {
    // Before they are read: what changes meanwhile is read again.
    let seen = fingerprints(file);
    let web = WebFile::load(file).map_err(|problems| problems.lines().collect::<Vec<_>>())?;
    Ok((Door::new(&web).map_err(|why| vec![why])?, seen))
}

/// The file and those it names.
fn files(file: &Path) -> Vec<PathBuf> {
    let mut files = vec![file.to_owned()];
    if let Ok(WebFile { tls: Some(tls), .. }) = WebFile::load(file) {
        files.extend([tls.cert, tls.key]);
        files.extend(tls.client_ca);
    }
    files
}

fn fingerprints(file: &Path) -> Vec<Fingerprint> {
    let of = |file: &PathBuf| {
        let found = fs::metadata(file).ok()?;
        Some((found.dev(), found.ino(), found.len(), found.ctime(), found.ctime_nsec()))
    };
    files(file).iter().map(of).collect()
}

/// For the time between looks.
#[allow(clippy::disallowed_methods)] // about files of this machine, not about the network
fn monotonic() -> Instant {
    Instant::now()
}
