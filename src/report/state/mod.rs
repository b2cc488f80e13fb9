//! Stage 5 of 5, report: the state file: what a restart must not lose, written again and again by a thread of its own.
//!
//! Knows nothing of what the bytes mean. Never holds up a packet: who writes asks for the bytes, nobody hands them over. What cannot
//! be written is counted and said once for each episode of trouble; the sensor goes on.

mod file;

pub use file::{Found, StateFile, examine};

use super::journal::Trouble;
use crate::config::StateConfig;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Between two writes, however much happens: a flood of incidents is written twice a second.
const SHORTEST: Duration = Duration::from_millis(500);

/// What became of the state. All monotone but the size.
#[derive(Debug, Default)]
pub struct StateCounts {
    /// Times written.
    pub written: AtomicU64,
    /// Times it could not be.
    pub errors: AtomicU64,
    /// Files set aside because they were damaged or not ours.
    pub set_aside: AtomicU64,
    /// Bytes of the file.
    pub bytes: AtomicU64,
}

/// Gives the bytes to write, as of now.
pub type Remember = Box<dyn Fn() -> Vec<u8> + Send>;

enum Message {
    /// Something happened that a crash should not lose.
    News,
    /// Write once more, and end.
    End,
}

/// Writes the state until it is told to end.
#[derive(Debug)]
pub struct StateWriter {
    queue: SyncSender<Message>,
    ended: Receiver<bool>,
}

/// For whoever knows of news.
#[derive(Debug, Clone)]
pub struct Nudge(SyncSender<Message>);

impl Nudge {
    /// Has the state written soon. Never blocks: one message waiting says what two say.
    pub fn news(&self) {
        let _ = self.0.try_send(Message::News);
    }
}

impl StateWriter {
    /// Writes to `file` what `remember` gives, every so often and soon after news.
    ///
    /// # Errors
    /// The host has no thread left.
    pub fn start(
        file: StateFile,
        config: &StateConfig,
        remember: Remember,
        counts: &Arc<StateCounts>,
    ) -> io::Result<Self> {
        let (queue, messages) = sync_channel(1);
        let (tell, ended) = sync_channel(1);
        let (every, counts) = (config.every, Arc::clone(counts));
        let mut trouble = Trouble::default();
        let mut write = move || {
            let bytes = remember();
            let written = file.write(&bytes);
            counts.bytes.store(written.as_ref().copied().unwrap_or(0), Ordering::Relaxed);
            let well = trouble.note("state", file.path(), written.map(|_| ()));
            let count = if well { &counts.written } else { &counts.errors };
            count.fetch_add(1, Ordering::Relaxed);
            well
        };
        let work = move || {
            let (mut earliest, mut latest) = (monotonic(), monotonic() + every);
            loop {
                let wait = latest.saturating_duration_since(monotonic());
                let last = match messages.recv_timeout(wait) {
                    Ok(Message::News) => {
                        latest = latest.min(earliest);
                        false
                    }
                    Err(RecvTimeoutError::Timeout) => false,
                    Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => true,
                };
                if last || monotonic() >= latest {
                    let well = write();
                    let now = monotonic();
                    (earliest, latest) = (now + SHORTEST, now + every);
                    if last {
                        let _ = tell.send(well);
                        return;
                    }
                }
            }
        };
        std::thread::Builder::new().name("state".to_owned()).spawn(work)?;
        Ok(Self { queue, ended })
    }

    /// For whoever knows of news.
    pub fn nudge(&self) -> Nudge {
        Nudge(self.queue.clone())
    }

    /// Writes once more and ends, within about this time: a disk that hangs holds nobody up. Whether it is written.
    pub fn finish(self, patience: Duration) -> bool {
        let pause = Duration::from_millis(10);
        let mut message = Message::End;
        for _ in 0..=patience.as_millis() / pause.as_millis() {
            match self.queue.try_send(message) {
                Ok(()) => return self.ended.recv_timeout(patience).unwrap_or(false),
                Err(std::sync::mpsc::TrySendError::Full(back)) => message = back,
                Err(std::sync::mpsc::TrySendError::Disconnected(_)) => return false,
            }
            std::thread::sleep(pause);
        }
        false
    }
}

/// For the time between writes, which is about this machine and not about the network.
#[allow(clippy::disallowed_methods)]
fn monotonic() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests;
