//! Stage 5 of 5, report: the series about the process itself: what it gave up, what it keeps.
//!
//! Plain numbers handed in; asks the system nothing.

use super::{Families, names, one};
use crate::report::metrics::family::Family;
use crate::report::state::StateCounts;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The layers, in the order in which they are applied; a sensor that confines nothing shows them at 0.
const LAYERS: [&str; 5] = ["user", "capabilities", "no_new_privs", "landlock", "seccomp"];

/// What is shown of the process.
#[derive(Debug, Default)]
pub(super) struct Trust {
    /// Layers of confinement by label, and whether each holds.
    pub(super) layers: Vec<(&'static str, bool)>,
    /// What becomes of the state file.
    pub(super) state: Arc<StateCounts>,
    /// Captures that failed and were opened again.
    pub(super) restarts: Arc<AtomicU64>,
    /// The ceiling for memory, and what the caps add up to, bytes.
    pub(super) memory: [u64; 2],
}

impl Trust {
    pub(super) fn collect(&self, families: &mut Families) {
        let mut confined = Family::new(families, names::CONFINED, &["layer"]);
        for layer in LAYERS {
            let holds = self.layers.iter().any(|(known, holds)| *known == layer && *holds);
            confined.sample(&[layer], f64::from(u8::from(holds)));
        }
        drop(confined);
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        one(families, names::MEMORY_LIMIT, self.memory[0]);
        one(families, names::MEMORY_RECKONED, self.memory[1]);
        one(families, names::CAPTURE_RESTARTS, load(&self.restarts));
        one(families, names::STATE_WRITTEN, load(&self.state.written));
        one(families, names::STATE_ERRORS, load(&self.state.errors));
        one(families, names::STATE_SET_ASIDE, load(&self.state.set_aside));
        one(families, names::STATE_BYTES, load(&self.state.bytes));
    }
}
