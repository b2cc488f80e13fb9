//! Stage 3 of 5, track: the grace age of each server, past which an open attempt counts as unresolved.
//!
//! A fixed array of classes by keyed hash; detection learns the ages and the pipeline writes them here. No clock.

use crate::decode::segment::Endpoint;
use ahash::RandomState;
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

/// Servers share a class by chance of 1 in 65,536.
const CLASSES: usize = 1 << 16;

/// Grace ages by server.
pub(crate) struct GraceAges {
    classes: Box<[AtomicU8]>,
    hasher: RandomState,
}

impl GraceAges {
    pub(crate) fn new(hasher: RandomState) -> Self {
        Self { classes: (0..CLASSES).map(|_| AtomicU8::new(UNLEARNED)).collect(), hasher }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.classes.len()
    }

    fn class_of(&self, server: Endpoint) -> &AtomicU8 {
        &self.classes[self.hasher.hash_one(server) as usize % CLASSES]
    }

    /// Index into [`GRACE`].
    #[inline]
    pub(crate) fn class(&self, server: Endpoint) -> usize {
        usize::from(self.class_of(server).load(Ordering::Relaxed))
    }

    /// Sets a server's grace age, rounded up to one of [`GRACE`].
    pub(crate) fn learn(&self, server: Endpoint, age: Duration) {
        let class = GRACE.iter().position(|&step| step >= age).unwrap_or(GRACE.len() - 1);
        self.class_of(server).store(class as u8, Ordering::Relaxed);
    }
}
