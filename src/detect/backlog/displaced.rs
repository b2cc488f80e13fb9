//! Stage 4 of 5, detect: the few entries whose timers do not run from their SYN.
//!
//! A SYN that comes again makes the server answer again and begin the running timer anew (net/ipv4/tcp_minisocks.c,
//! `tcp_check_req`); a SYN-ACK that answers the second SYN belongs to an entry younger than the attempt. A cache of fixed size: a
//! newcomer takes the place, and what is forgotten is corrected when its SYN-ACK comes again, or does not.

use crate::time::Timestamp;

/// Places: with twice as many as fit into the usual backlog, few lose theirs.
const PLACES: usize = 512;

/// From when the timers of an entry run, by a keyed hash of its originator.
#[derive(Debug)]
pub(super) struct Displaced {
    places: Box<[(u64, Timestamp)]>,
    /// Places ever taken: none are looked up before the first.
    used: bool,
}

impl Displaced {
    pub(super) fn new() -> Self {
        Self { places: vec![(0, Timestamp::EPOCH); PLACES].into(), used: false }
    }

    fn place(hash: u64) -> usize {
        (hash % PLACES as u64) as usize
    }

    /// From when this entry's timers run, where that is not its SYN.
    pub(super) fn birth(&self, hash: u64) -> Option<Timestamp> {
        if !self.used {
            return None;
        }
        self.places.get(Self::place(hash)).filter(|(holder, _)| *holder == hash).map(|(_, birth)| *birth)
    }

    /// Notes it.
    pub(super) fn note(&mut self, hash: u64, birth: Timestamp) {
        self.used = true;
        if let Some(place) = self.places.get_mut(Self::place(hash)) {
            *place = (hash, birth);
        }
    }

    /// Its entry is gone.
    pub(super) fn forget(&mut self, hash: u64) {
        if self.used
            && let Some(place) = self.places.get_mut(Self::place(hash)).filter(|(holder, _)| *holder == hash)
        {
            *place = (0, Timestamp::EPOCH);
        }
    }
}
