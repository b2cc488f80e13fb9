//! Stage 5 of 5, report: the series about the process itself: what it gave up.
//!
//! Plain numbers handed in; asks the system nothing.

use super::{Families, names};
use crate::report::metrics::family::Family;

/// The layers, in the order in which they are applied; a sensor that confines nothing shows them at 0.
const LAYERS: [&str; 5] = ["user", "capabilities", "no_new_privs", "landlock", "seccomp"];

/// What is shown of the process.
#[derive(Debug, Default)]
pub(super) struct Trust {
    /// Layers of confinement by label, and whether each holds.
    pub(super) layers: Vec<(&'static str, bool)>,
}

impl Trust {
    pub(super) fn collect(&self, families: &mut Families) {
        let mut confined = Family::new(families, names::CONFINED, &["layer"]);
        for layer in LAYERS {
            let holds = self.layers.iter().any(|(known, holds)| *known == layer && *holds);
            confined.sample(&[layer], f64::from(u8::from(holds)));
        }
    }
}
