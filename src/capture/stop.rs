//! Stage 1 of 5, capture: the flag that ends a source. May not block, and knows no signal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells a source to end; clones share one flag.
///
/// A live source looks at it at least ten times a second, a replay before every frame; both answer with
/// [`SourceEvent::End`](super::SourceEvent::End) from then on.
#[derive(Debug, Clone, Default)]
pub struct StopHandle(Arc<AtomicBool>);

impl StopHandle {
    /// A flag that is not raised.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends every source that holds this flag. There is no way back.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether [`stop`](Self::stop) was called. Relaxed: the flag guards no other memory.
    #[inline]
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl From<Arc<AtomicBool>> for StopHandle {
    /// Shares a flag that already exists, as a signal handler keeps one.
    fn from(flag: Arc<AtomicBool>) -> Self {
        Self(flag)
    }
}
