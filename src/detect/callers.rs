//! Stage 4 of 5, detect: whether those whose attempts stay unresolved are real clients. Pure functions over figures.

use super::classify::{FEW_SOURCES, Features, HISTORY, STORM, Verdict};

/// So many from each source within 5 to 10 s are an attack even where a stack sends and repeats them: nobody who calls a dead address
/// in good faith opens a hundred connections to it each second.
const HAMMERED: f64 = 1_000.0;

/// So many callers of a dead server at most are a few programs that go on calling it: the servers and agents of one site.
const PROGRAMS: f64 = 64.0;
/// Connections each of them opens a bin at most, on average: three a second. A program that tries twice a second opens one.
const EACH_TRIES: f64 = 1.5;
/// Calls of each within a minute that show that they go on.
const AGAIN: f64 = 1.5;
/// What never answered is listened to, for this many bins, while fewer than so many attempts stay unresolved within 5 to 10 s: 3 s, after
/// which every stack has sent its SYN again (RFC 1122 section 4.2.3.1 begins with 3 s); programs that pause, for 20 s.
pub(super) const LISTEN: u32 = 6;
pub(super) const LISTEN_TO_PROGRAMS: u32 = 40;
const LISTENED_TO: f64 = 100.0;

impl Features {
    /// Not known for long, it completes some handshakes and leaves the SYNs of others without an answer, whose stacks send them again:
    /// real clients, of a program that does not accept as many. Where some fail in every way, that is its peace. No more than call a
    /// server at once, or from few sources, as a load generator has: whoever forges random ones can send each SYN twice as well.
    pub(super) fn takes_only_some(&self) -> bool {
        self.history < HISTORY
            && (self.units <= STORM || self.sources <= FEW_SOURCES)
            && self.completed > 0.0
            && self.is_polite()
            && !self.besieged
            && self.overdue_answered < 0.2 * self.overdue
            && self.is_repeated()
    }

    /// No copies faster than a stack's, and from no source as many as only an attack has.
    fn is_polite(&self) -> bool {
        self.copies == 0.0 && self.entries <= HAMMERED * self.sources
    }

    /// What never answered, and is called by real clients.
    pub(super) fn called_in_vain(&self) -> Option<Verdict> {
        if self.answers || self.completed > 0.0 || !self.is_polite() {
            return None;
        }
        // All of them were followed, and a stack may have made them: it gives a SYN options.
        let [calls, returned] = self.calls;
        let of_stacks = self.dead && calls >= 0.9 * self.entries && self.units <= 2.0 * self.entries;
        let [entries, sources] = self.each_bin;
        let seldom = entries <= EACH_TRIES * sources;
        // The SYNs come back as stacks send them, be it late; or a program that gives up sooner comes back itself.
        if self.is_repeated()
            || (of_stacks && returned >= 0.5 * calls)
            || (of_stacks && seldom && self.is_called_again())
        {
            return Some(Verdict::DeadServer);
        }
        let patience = if seldom && self.sources <= PROGRAMS { LISTEN_TO_PROGRAMS } else { LISTEN };
        (of_stacks && self.units < LISTENED_TO && self.alarming <= patience).then_some(Verdict::Listen)
    }

    /// A few sources, and calls of each of them at what never answered.
    fn is_called_again(&self) -> bool {
        self.sources <= PROGRAMS && self.calls[0] >= AGAIN * self.sources
    }

    /// The same at ports of a host that may answer at others, and no more than programs make of it.
    pub(super) fn is_tried_again(&self) -> bool {
        self.is_called_again() && self.calls[0] >= 0.5 * self.entries && self.units < LISTENED_TO
    }
}
