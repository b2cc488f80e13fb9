//! Stage 4 of 5, detect: what it is that the statistic saw. Pure functions over figures; each arm says why.
//!
//! Labels explain. Only three of them hold a flood back, because they say that there is none: an outage, a flash crowd, and
//! clients calling a server that never was there.

use super::callers::LISTEN;
use super::incident::{IncidentKind, ServerMode};

/// Kinds that come of unresolved attempts.
pub(super) const fn is_flood(kind: IncidentKind) -> bool {
    matches!(kind, IncidentKind::SpoofedFlood | IncidentKind::DirectFlood | IncidentKind::CarpetFlood)
}

/// What is known of a key over the last 5 to 10 s, and what is usual for it over the same time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Features {
    /// Attempts, untracked ones included.
    pub(super) attempts: f64,
    /// Usual attempts.
    pub(super) usual_attempts: f64,
    /// Completed.
    pub(super) completed: f64,
    /// Usual completions.
    pub(super) usual_completed: f64,
    /// Completions at the pace of the last two seconds.
    pub(super) completing: f64,
    /// Attempts at the pace of the last two seconds.
    pub(super) attempting: f64,
    /// Completions have stopped: chance is out of the question, and it lasts.
    pub(super) dry: bool,
    /// Turned out well past the grace age, beyond what is usual.
    pub(super) late: f64,
    /// Share of what passes its grace age just now that turns out well, beyond what is usual.
    pub(super) turning_out: f64,
    /// Bins since the statistic began to alarm.
    pub(super) alarming: u32,
    /// Flood units: unresolved and not turned out well.
    pub(super) units: f64,
    /// Usual flood units.
    pub(super) usual_units: f64,
    /// Passed the grace age.
    pub(super) overdue: f64,
    /// Of these, with a SYN-ACK.
    pub(super) overdue_answered: f64,
    /// Of these, whose SYN came again before.
    pub(super) overdue_repeated: f64,
    /// Attempts whose SYN came a second time, as late as a stack sends it.
    pub(super) returned: f64,
    /// Copies of SYNs beyond what a stack sends.
    pub(super) copies: f64,
    /// SYN-ACKs.
    pub(super) answered: f64,
    /// First repetitions of SYN-ACKs.
    pub(super) answer_repeated: f64,
    /// SYN-ACKs that came again once after the ACK.
    pub(super) asked_again: f64,
    /// SYN-ACKs that came again a second time after the ACK, or more often.
    pub(super) answer_after_ack: f64,
    /// Completed, and the server went on as if the ACK had not come.
    pub(super) not_taken: f64,
    /// Reset by the responder.
    pub(super) refused: f64,
    /// Distinct sources of unresolved attempts.
    pub(super) sources: f64,
    /// Unresolved attempts that the table followed itself: those the sources were counted of.
    pub(super) entries: f64,
    /// Of each bin of the last two seconds: unresolved attempts that the table followed itself, and their distinct sources.
    pub(super) each_bin: [f64; 2],
    /// Usual flood units a bin.
    pub(super) usual_each_bin: f64,
    /// Over the time that `sources` are of: unresolved attempts that a stack may have made, of a host those at what never answered;
    /// attempts whose SYN came again.
    pub(super) calls: [f64; 2],
    /// Bins of history.
    pub(super) history: f64,
    /// It has sent SYN-ACKs before.
    pub(super) answers: bool,
    /// It has not, nor completed anything, ever.
    pub(super) dead: bool,
    /// By the model of its queue, its accept queue is full.
    pub(super) overflows: bool,
    /// By the same model, it is full of entries that nobody acknowledges, and turns SYNs away.
    pub(super) besieged: bool,
    /// The same, of a size that was configured or learned.
    pub(super) seems_besieged: bool,
    /// By the same model, SYNs left without an answer in the last seconds.
    pub(super) unanswered: f64,
    /// Seconds of traffic heard since the oldest of these overdue attempts could have begun.
    pub(super) heard: f64,
}

/// The verdict of the classifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A flood, or another thing to raise.
    Raise(IncidentKind),
    /// Clients call a server that never answered, on their usual schedule: nothing is raised.
    DeadServer,
    /// It never answered, and whether its callers are a stack's or a tool's shows within seconds.
    Listen,
    /// Completions are falling, or late, while no more is asked than usual: an outage, if it lasts.
    Wait,
}

/// Bins after which a partial outage is called one: 5 s.
const PATIENT: u32 = 10;

/// Bins after which history counts: 10 s.
pub(super) const HISTORY: f64 = 20.0;
/// Up to so many sources are few: a handful of tools, not a forger's random numbers.
pub(super) const FEW_SOURCES: f64 = 16.0;
/// More unresolved attempts than this from each source are not random forgeries either.
const MANY_EACH: f64 = 100.0;
/// As many within a bin, at the rate of [`MANY_EACH`] in 10 s.
const OFTEN: f64 = 5.0;
/// Share of late handshakes that explains what rose: with a flood beside them they are fewer.
const NEARLY_ALL: f64 = 0.8;
/// Share that keeps what was told for it.
pub(super) const MOST: f64 = 0.5;
/// So many clients at most call a server again at once.
pub(super) const STORM: f64 = 500.0;
/// How many times the usual load, and as many such storms beside it, the clients of a server that is gone ask of it at most, as they
/// connect anew.
const ANEW: f64 = 8.0;

/// So many SYNs without an answer within seconds are not lost ones.
const MANY_UNANSWERED: f64 = 8.0;

/// Share, and 0 where there is nothing to share.
pub(super) fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

impl Features {
    /// Share of unresolved attempts whose SYN came again, as real clients' do. A stack waits a second (RFC 6298 section 2), longer
    /// than the grace age of a near server: there it comes again after the attempt was given up.
    pub(super) fn repeated_share(&self) -> f64 {
        share(self.overdue_repeated.max(self.returned.min(self.overdue)), self.overdue)
    }

    /// Completions stopped, where there usually are some.
    pub(super) fn silent(&self) -> bool {
        self.history >= HISTORY && self.usual_completed >= 3.0 && self.dry
    }

    /// Hardly any attempt completes in time, of what usually does.
    pub(super) fn completes_nothing(&self) -> bool {
        self.completed - self.late <= 0.2 * self.usual_completed
    }

    /// At least this share of what passes its grace age turns out well, over the window or just now, while no more is asked than
    /// usual: the server is slow. Nobody forges a source and completes its handshakes.
    pub(super) fn answers_late(&self, least: f64) -> bool {
        let turned_out = share(self.late, self.overdue).max(self.turning_out);
        self.asked_as_usual() && turned_out >= least
    }

    /// Real clients wait: most SYNs come again.
    pub(super) fn is_repeated(&self) -> bool {
        self.repeated_share() >= 0.5
    }

    /// It answers none of what rose, and usually completes handshakes: if it is gone, and all who held a connection call it again at
    /// once, their stacks will say so. More than so many, beyond what is usual, nobody waits for.
    pub(super) fn may_come_again(&self) -> bool {
        self.history >= HISTORY
            && self.usual_completed >= 3.0
            && (self.units <= STORM || self.asked_as_usual())
            && self.copies == 0.0
            && self.mostly_unanswered()
    }

    /// What stays unresolved has no SYN-ACK. Beyond what is usual: the clients that never acknowledge are still in the window when a
    /// server falls silent. Or all in all, where it has only begun and a server that is hardly known may usually leave as many.
    pub(super) fn mostly_unanswered(&self) -> bool {
        (self.overdue_answered - self.usual_units).max(0.0) < 0.2 * (self.overdue - self.usual_units)
            || self.overdue_answered < 0.2 * self.overdue
    }

    /// Hardly more is asked of it than usual.
    fn asked_as_usual(&self) -> bool {
        self.attempting <= 2.0 * self.usual_attempts + 5.0
    }

    /// The same, or by the same clients again. Whoever forges them can send each SYN twice: there is a bound to what they ask.
    fn usual_load(&self) -> bool {
        let bound = ANEW * (self.usual_attempts + STORM);
        self.asked_as_usual() || (self.is_repeated() && self.attempting <= bound)
    }

    /// It leaves SYNs without an answer though it lives and its queue has room, and no more is asked of it than usual: its program
    /// does not accept. A flood that drops look like this because somebody configured too large a queue asks for more.
    pub(super) fn does_not_accept(&self) -> bool {
        self.overflows && self.usual_load() && self.accepts_less()
    }

    /// What it does not take may be for want of room to accept: with no more asked of it than usual, or if it answers fewer SYNs
    /// too (Linux drops them while the accept queue is full; net/ipv4/tcp_input.c, `tcp_conn_request`). A server that answers
    /// everything and takes none of many ACKs has room: it is the ACKs that are wrong.
    ///
    /// Of the whole window: what is not taken shows seconds after its SYN.
    fn accepts_less(&self) -> bool {
        let asked_as_usual = self.asked_as_usual() && self.attempts <= 2.0 * self.usual_attempts + 5.0;
        asked_as_usual || self.leaves_unanswered()
    }

    /// Far more was asked of it just now than on average over the window.
    fn just_rose(&self) -> bool {
        self.attempts < 0.6 * self.attempting
    }

    /// Far less.
    pub(super) fn ebbs(&self) -> bool {
        self.attempting < 0.6 * self.attempts
    }

    /// It leaves SYNs without an answer.
    pub(super) fn leaves_unanswered(&self) -> bool {
        self.answered < 0.5 * self.attempts || self.unanswered >= MANY_UNANSWERED
    }

    /// Its SYN-ACKs come again after the ACK. Of more attempts than usual, that is only said once their second repetition had its
    /// time to come, which tells a flood.
    pub(super) fn turns_away(&self) -> bool {
        self.mode().0 == ServerMode::AcceptOverflow && (self.accepts_less() || !self.just_rose())
    }

    /// Most of what stays unresolved was acknowledged, and it has no room to accept it.
    fn has_no_room(&self) -> bool {
        self.not_taken >= 0.5 * self.units && self.not_taken > 0.0 && self.accepts_less()
    }

    /// Completions that the server took, as far as it says: its timers do not run for those. One that asks again may only wait for
    /// data; until that is known its clients are no crowd.
    pub(super) fn taken(&self) -> f64 {
        let again = self.asked_again.max(self.answer_after_ack);
        let doubtful = again.max(self.not_taken).max(self.answer_repeated);
        (self.completed - doubtful).max(0.0)
    }

    fn rise_of_completions(&self) -> f64 {
        // Without history any completion is a rise, but then it must outnumber what failed by far.
        if self.history >= HISTORY { self.taken() - self.usual_completed } else { self.taken() / 2.0 }
    }

    /// What raised the statistic.
    pub(super) fn verdict(&self) -> Verdict {
        let unresolved = self.units - self.usual_units;
        if self.does_not_accept() || self.has_no_room() {
            return Verdict::Raise(IncidentKind::AcceptOverflow);
        }
        // Completions rose with the attempts, by at least twice what stayed unresolved, and doubled: a crowd, not a flood.
        let crowd = self.rise_of_completions();
        let doubled = self.history < HISTORY || self.taken() >= 2.0 * self.usual_completed;
        if crowd > 0.0 && crowd >= 2.0 * unresolved && doubled && !self.seems_besieged {
            return Verdict::Raise(IncidentKind::FlashCrowd);
        }
        // It completes them all the same, seconds too late: it is slow, and out of service where it usually is not.
        if self.history >= HISTORY && self.answers_late(NEARLY_ALL) {
            let gone = self.usual_completed >= 3.0 && self.completes_nothing();
            return if gone { Verdict::Raise(IncidentKind::Outage) } else { Verdict::Wait };
        }
        // It completed handshakes and now answers none, while hardly more is asked of it than usual (or by the same clients
        // again): the server is gone. Completions take seconds to run dry: until then it is not called a flood either.
        let gone = self.mostly_unanswered() && self.usual_load() && !self.besieged;
        if self.history >= HISTORY && self.usual_completed >= 3.0 && gone {
            if self.silent() || (self.completing < 0.75 * self.usual_completed && self.alarming >= PATIENT) {
                return Verdict::Raise(IncidentKind::Outage);
            }
            if self.completing < 0.75 * self.usual_completed {
                return Verdict::Wait;
            }
        }
        if self.takes_only_some() {
            return Verdict::Raise(IncidentKind::AcceptOverflow);
        }
        // Nothing stayed unresolved of late, or for long no more than usual: what is still held is what was, and was called something
        // else then.
        if self.units <= 0.0 || (self.alarming > LISTEN && unresolved <= 0.0) {
            return Verdict::Wait;
        }
        self.called_in_vain().unwrap_or_else(|| Verdict::Raise(self.flood()))
    }

    /// Whether what it looks like now takes the place of the kind that was told, `early` or later.
    pub(super) fn corrects(&self, told: IncidentKind, now: IncidentKind, early: bool) -> bool {
        use IncidentKind::{AcceptOverflow, FlashCrowd, Outage};
        match (told, now) {
            // A server that is slow leaves SYNs without an answer as long as that.
            (Outage, AcceptOverflow) => !self.answers_late(MOST),
            (Outage, now) if is_flood(now) => !self.answers_late(MOST),
            (AcceptOverflow, now) => is_flood(now),
            // After a flood ended, the server repeats itself for a while with no more asked of it than usual.
            (told, AcceptOverflow) if is_flood(told) => self.leaves_unanswered(),
            // Nor is it a crowd because one comes later: whoever floods can have handshakes completed beside it.
            (told, FlashCrowd) if is_flood(told) => early,
            // A crowd that goes leaves those behind whose last ACK was lost; what comes of them now is no flood.
            (FlashCrowd, now) if is_flood(now) => !self.ebbs(),
            _ => true,
        }
    }

    /// Which flood: by how many sources, and how often each.
    pub(super) fn flood(&self) -> IncidentKind {
        // None counted yet, where a model alarms before the grace age is over, says nothing.
        let counted = self.entries + self.copies > 0.0;
        if (counted && self.sources <= FEW_SOURCES && self.entries + self.copies >= 2.0 * self.sources)
            || self.entries > MANY_EACH * self.sources
            || self.few_rose()
            || self.each_often()
        {
            IncidentKind::DirectFlood
        } else {
            IncidentKind::SpoofedFlood
        }
    }

    /// What came beyond the usual came from few sources. The sources of a minute do not tell where ordinary clients fail beside
    /// a flood; within a bin those are as many as their attempts, and the flood's are few.
    fn few_rose(&self) -> bool {
        let [entries, sources] = self.each_bin;
        let rose = entries - self.usual_each_bin;
        rose > 0.0 && entries - sources >= 0.5 * rose && sources - self.usual_each_bin <= FEW_SOURCES
    }

    /// What came beyond the usual came from each of its sources again and again within a bin: real ones, however many.
    fn each_often(&self) -> bool {
        let [entries, sources] = self.each_bin.map(|mean| mean - self.usual_each_bin);
        entries >= OFTEN * sources.max(1.0)
    }

    /// How the server treats SYNs, and how sure that is, from 0 to 1: the share of what was seen that says so.
    pub(super) fn mode(&self) -> (ServerMode, f64) {
        if self.answer_after_ack >= 10.0 && self.answer_after_ack >= 0.1 * self.completed {
            let all = self.answer_after_ack + self.completed;
            return (ServerMode::AcceptOverflow, share(self.answer_after_ack, all).sqrt());
        }
        if self.overdue >= 10.0 && self.answers && self.answered < 0.2 * self.attempts {
            return (ServerMode::Drop, 1.0 - share(self.answered, self.attempts));
        }
        // A queue repeats an unacknowledged SYN-ACK after 1 s; a cookie has nothing to repeat. Only silence that was listened
        // to long enough says cookie.
        if self.answer_repeated >= 3.0 && self.answer_repeated >= 0.2 * self.overdue_answered {
            return (ServerMode::Queue, share(self.answer_repeated, self.overdue_answered).min(1.0).sqrt());
        }
        if self.overdue_answered >= 20.0
            && self.answer_repeated < 0.05 * self.overdue_answered
            && self.heard >= 3.0
            && !self.just_rose()
        {
            return (ServerMode::Cookie, 1.0 - share(self.answer_repeated, self.overdue_answered));
        }
        (ServerMode::Unknown, 0.0)
    }
}

#[cfg(test)]
#[path = "classify_tests.rs"]
mod tests;
