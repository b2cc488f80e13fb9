//! The binary's own part: the only file of it that names the capture stage's sources.

use halfopen::capture::filter;
use halfopen::capture::interfaces::{default_route_interface, interfaces as listed};
pub(super) use halfopen::capture::live::LiveSource;
use halfopen::capture::replay::{Progress, ReplaySource};
use halfopen::capture::stop::StopHandle;
use halfopen::capture::{CaptureError, FrameSource, InterfaceCounters, SourceEvent};
use halfopen::config::CaptureConfig;
use halfopen::time::Timestamp;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

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
    // One named twice would be counted twice.
    let mut known = HashSet::new();
    names.retain(|name| known.insert(name.clone()));
    let open = |name: String| LiveSource::open(&name, config, stop.clone()).map(|source| (name, source));
    names.into_iter().map(open).collect()
}

/// Why a BPF expression does not compile, where it does not.
pub(super) fn check_filter(expression: &str) -> Result<(), String> {
    filter::check(expression)
}

/// What a replay showed besides its frames.
#[derive(Debug, Default)]
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
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

impl Watched {
    /// Opens files; `-` is standard input.
    pub(super) fn open(files: &[PathBuf], filter: Option<&str>) -> Result<Self, CaptureError> {
        Ok(Self { source: ReplaySource::open(files, filter)?, first: None, last: None })
    }

    pub(super) fn progress(&self) -> Arc<Progress> {
        self.source.progress()
    }

    pub(super) fn stop_handle(&self) -> StopHandle {
        self.source.stop_handle()
    }

    /// What there was, after the loop ended with `result`. Errors come behind the last frame, one for each damaged file; the
    /// loop ends at the first, so the others are collected here.
    pub(super) fn into_seen(mut self, result: Result<(), CaptureError>) -> Seen {
        let mut errors = Vec::new();
        let mut next = result;
        while let Err(error) = next {
            errors.push(error.to_string());
            next = self.source.next_event().map(|_| ());
        }
        errors.extend(self.source.undecoded().iter().map(ToString::to_string));
        Seen { first: self.first, last: self.last, link_types: self.source.link_types(), errors }
    }
}

impl FrameSource for Watched {
    #[inline]
    fn next_event(&mut self) -> Result<SourceEvent<'_>, CaptureError> {
        let event = self.source.next_event()?;
        if let SourceEvent::Frame(frame) = event {
            self.first = Some(self.first.map_or(frame.ts, |first| first.min(frame.ts)));
            self.last = Some(self.last.map_or(frame.ts, |last| last.max(frame.ts)));
        }
        Ok(event)
    }

    fn publish(&mut self) {
        self.source.publish();
    }

    fn counters(&self) -> Vec<Arc<InterfaceCounters>> {
        self.source.counters()
    }
}
