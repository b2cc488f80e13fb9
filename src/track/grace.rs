//! Stage 3 of 5, track: the grace age of each server, past which an open attempt counts as unresolved.
//!
//! A fixed array of classes; detection learns the ages and the pipeline writes them here. No clock.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// The ages there are. Between 0.25 s, under which a slow path looks like an attack, and 3 s, over which an attack has done its
/// harm; one queue each.
pub(crate) const GRACE: [Duration; 6] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(1500),
    Duration::from_secs(2),
    Duration::from_secs(3),
];

/// For a server nobody has learned yet: 1.5 s. Every stack has sent its SYN or SYN-ACK a second time after 1 s (RFC 6298 section
/// 2.1); at that very age the copy may still be on its way.
const UNLEARNED: u8 = 3;

/// One for each place that `shares` gives servers; they share a class by chance of 1 in 65,536.
const CLASSES: usize = 1 << 16;

/// Grace ages by the place of a server.
pub(crate) struct GraceAges(Box<[AtomicU8]>);

impl GraceAges {
    pub(crate) fn new() -> Self {
        Self((0..CLASSES).map(|_| AtomicU8::new(UNLEARNED)).collect())
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.len()
    }

    /// Index into [`GRACE`].
    #[inline]
    pub(crate) fn class(&self, place: u16) -> usize {
        usize::from(self.0[usize::from(place)].load(Ordering::Relaxed))
    }

    /// Sets a server's grace age, rounded up to one of [`GRACE`].
    pub(crate) fn learn(&self, place: u16, age: Duration) {
        let class = GRACE.iter().position(|&step| step >= age).unwrap_or(GRACE.len() - 1);
        self.0[usize::from(place)].store(class as u8, Ordering::Relaxed);
    }
}
