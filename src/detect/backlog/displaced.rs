//! Stage 4 of 5, detect: the few entries whose timers do not run from their SYN.
//!
//! A SYN that comes again makes the server answer again and begin the running timer anew (net/ipv4/tcp_minisocks.c,
//! `tcp_check_req`); a SYN-ACK that answers the second SYN belongs to an entry younger than the attempt. A cache of fixed size: the
//! oldest of a set makes room, and what is forgotten is corrected when its SYN-ACK comes again, or does not.

use crate::time::Timestamp;

/// Sets: with their ways twice the usual backlog.
const SETS: usize = 256;
/// Places of a set: one cache line.
const WAYS: usize = 4;

/// From when the timers of an entry run, by a keyed hash of its originator; 0 is a free place.
#[derive(Debug)]
pub(super) struct Displaced {
    sets: Box<[[(u64, Timestamp); WAYS]]>,
    /// Nothing is looked up before the first is noted.
    used: bool,
}

impl Displaced {
    pub(super) fn new() -> Self {
        Self { sets: vec![[(0, Timestamp::EPOCH); WAYS]; SETS].into(), used: false }
    }

    fn set(&mut self, hash: u64) -> Option<&mut [(u64, Timestamp); WAYS]> {
        self.sets.get_mut((hash % SETS as u64) as usize).filter(|_| self.used)
    }

    /// From when this entry's timers run, where that is not its SYN.
    pub(super) fn birth(&mut self, hash: u64) -> Option<Timestamp> {
        self.set(hash)?.iter().find(|(holder, _)| *holder == hash).map(|(_, birth)| *birth)
    }

    /// Notes it.
    pub(super) fn note(&mut self, hash: u64, birth: Timestamp) {
        self.used = true;
        let Some(set) = self.set(hash) else { return };
        let same = set.iter().position(|(holder, _)| *holder == hash);
        let place = match same {
            Some(place) => set.get_mut(place),
            None => set.iter_mut().min_by_key(|(_, birth)| *birth),
        };
        if let Some(place) = place {
            *place = (hash, birth);
        }
    }

    /// Its entry is gone.
    pub(super) fn forget(&mut self, hash: u64) {
        if let Some(set) = self.set(hash)
            && let Some(place) = set.iter_mut().find(|(holder, _)| *holder == hash)
        {
            *place = (0, Timestamp::EPOCH);
        }
    }
}
