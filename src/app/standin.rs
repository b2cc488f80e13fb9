//! Holds the place of the capture stage's sources until they are merged: the same signatures, and an error that says so.

use halfopen::capture::{CaptureError, FrameSource, InterfaceCounters, SourceEvent};
use halfopen::config::CaptureConfig;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const WHY: &str = "this build has no capture stage";

/// As `halfopen::capture::stop::StopHandle`.
#[derive(Debug, Clone, Default)]
pub(super) struct StopHandle(Arc<AtomicBool>);

impl StopHandle {
    pub(super) fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// As `halfopen::capture::replay::Progress`.
pub(super) struct Progress;

impl Progress {
    pub(super) fn bytes_read(&self) -> u64 {
        0
    }

    pub(super) fn total(&self) -> Option<u64> {
        None
    }
}

/// As `halfopen::capture::interfaces::InterfaceInfo`.
pub(super) struct InterfaceInfo {
    pub(super) name: String,
    pub(super) addresses: Vec<IpAddr>,
}

impl InterfaceInfo {
    pub(super) fn link_name(&self) -> String {
        String::new()
    }

    pub(super) fn state(&self) -> String {
        String::new()
    }
}

/// As `halfopen::capture::interfaces::interfaces`.
pub(super) fn interfaces() -> Result<Vec<InterfaceInfo>, CaptureError> {
    Err(CaptureError::Live { name: "*".to_owned(), why: WHY.to_owned() })
}

/// As `halfopen::capture::interfaces::default_route_interface`.
pub(super) fn default_route_interface() -> Result<String, CaptureError> {
    Err(CaptureError::Live { name: "*".to_owned(), why: WHY.to_owned() })
}

/// As `halfopen::capture::live::LiveSource`.
pub(super) struct LiveSource;

impl LiveSource {
    pub(super) fn open(name: &str, _: &CaptureConfig, _: StopHandle) -> Result<Self, CaptureError> {
        Err(CaptureError::Live { name: name.to_owned(), why: WHY.to_owned() })
    }
}

/// As `halfopen::capture::replay::ReplaySource`.
pub(super) struct ReplaySource;

impl ReplaySource {
    pub(super) fn open(files: &[PathBuf], _: Option<&str>) -> Result<Self, CaptureError> {
        let path = files.first().map(|file| file.display().to_string()).unwrap_or_default();
        Err(CaptureError::Open { path, why: WHY.to_owned() })
    }

    pub(super) fn progress(&self) -> Arc<Progress> {
        Arc::new(Progress)
    }

    pub(super) fn stop_handle(&self) -> StopHandle {
        StopHandle::default()
    }

    pub(super) fn link_types(&self) -> Vec<String> {
        Vec::new()
    }
}

macro_rules! ends {
    ($($source:ty),*) => {$(
        impl FrameSource for $source {
            fn next_event(&mut self) -> Result<SourceEvent<'_>, CaptureError> {
                Ok(SourceEvent::End)
            }

            fn publish(&mut self) {}

            fn counters(&self) -> Vec<Arc<InterfaceCounters>> {
                Vec::new()
            }
        }
    )*};
}

ends!(LiveSource, ReplaySource);
