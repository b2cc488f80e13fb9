//! The binary's own part: the only file of it that names the capture stage's sources.

use super::standin::{
    LiveSource, Progress, ReplaySource, StopHandle, default_route_interface, interfaces as listed,
};
use halfopen::capture::{CaptureError, FrameSource, InterfaceCounters, SourceEvent};
use halfopen::config::CaptureConfig;
use halfopen::time::Timestamp;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

pub(super) use super::standin::StopHandle as Stop;

/// An interface, as it is listed.
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) link_type: String,
    pub(super) state: String,
    pub(super) addresses: String,
}

/// Every interface that can be captured on.
pub(super) fn interfaces() -> Result<Vec<Interface>, CaptureError> {
    let described = listed()?.into_iter().map(|info| Interface {
        link_type: info.link_name(),
        state: info.state(),
        addresses: info.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        name: info.name,
    });
    Ok(described.collect())
}

/// Opens every configured interface, or that of the default route. One that cannot be opened is an error for all: a tap of which
/// one direction is missing misleads.
pub(super) fn live(
    config: &CaptureConfig,
    stop: &StopHandle,
) -> Result<Vec<(String, LiveSource)>, CaptureError> {
    let mut names = config.interfaces.clone();
    if names.is_empty() {
        names.push(default_route_interface()?);
    }
    let open = |name: String| LiveSource::open(&name, config, stop.clone()).map(|source| (name, source));
    names.into_iter().map(open).collect()
}

/// What a replay showed besides its frames.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// The earliest stamp.
    pub(super) first: Option<Timestamp>,
    /// The latest.
    pub(super) last: Option<Timestamp>,
    /// Link types, by libpcap's names.
    pub(super) link_types: Vec<String>,
    /// What was wrong with the files; everything before it counts.
    pub(super) errors: Vec<String>,
}

/// A replay that remembers what the summary needs.
pub(super) struct Watched {
    source: ReplaySource,
    seen: Seen,
    shared: Arc<Mutex<Seen>>,
}

impl Watched {
    /// Opens files; `-` is standard input.
    pub(super) fn open(files: &[PathBuf], filter: Option<&str>) -> Result<Self, CaptureError> {
        let source = ReplaySource::open(files, filter)?;
        Ok(Self { source, seen: Seen::default(), shared: Arc::default() })
    }

    pub(super) fn progress(&self) -> Arc<Progress> {
        self.source.progress()
    }

    pub(super) fn stop_handle(&self) -> StopHandle {
        self.source.stop_handle()
    }

    /// What it has seen, brought up to date when it ends and now and then before.
    pub(super) fn seen(&self) -> Arc<Mutex<Seen>> {
        Arc::clone(&self.shared)
    }

    fn share(&mut self) {
        self.seen.link_types = self.source.link_types();
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&self.seen);
    }
}

impl FrameSource for Watched {
    fn next_event(&mut self) -> Result<SourceEvent<'_>, CaptureError> {
        match self.source.next_event() {
            Ok(SourceEvent::Frame(frame)) => {
                self.seen.first = Some(self.seen.first.map_or(frame.ts, |first| first.min(frame.ts)));
                self.seen.last = Some(self.seen.last.map_or(frame.ts, |last| last.max(frame.ts)));
                Ok(SourceEvent::Frame(frame))
            }
            // Errors come after the last frame, one for each damaged file; `drop` collects the others.
            Err(error) => {
                self.seen.errors.push(error.to_string());
                Ok(SourceEvent::End)
            }
            other => other,
        }
    }

    fn publish(&mut self) {
        self.source.publish();
        self.share();
    }

    fn counters(&self) -> Vec<Arc<InterfaceCounters>> {
        self.source.counters()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !self.seen.errors.is_empty() {
            while let Err(error) = self.source.next_event() {
                self.seen.errors.push(error.to_string());
            }
        }
        self.share();
    }
}
