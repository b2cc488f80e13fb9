//! Stage 4 of 5, detect: how a server treats SYNs, from what it did in the last seconds.
//!
//! Fading sums and the verdict on them; no queue, no clock.

use super::neglect::Neglect;
use super::queue::Shown;
use crate::detect::incident::ServerMode;
use std::time::Duration;

/// After so long a sum counts half: several repetitions of a SYN-ACK lie in it, and a change shows within 5 s.
const HALF_LIFE: Duration = Duration::from_secs(2);
/// SYN-ACKs or SYNs that must tell the same before it is believed.
const ENOUGH: f64 = 3.0;
/// So many SYN-ACKs within seconds that two timers repeated, though they had been acknowledged, are no few lost ACKs.
const MANY: f64 = 4.0;
/// Share of them that must.
const SHARE: f64 = 0.05;
/// What was not seen for so long is over.
const FRESH: Duration = Duration::from_millis(2500);
/// The same of SYN-ACKs after their ACK: two of them are 2 s and 4 s apart.
const FRESH_OVERFLOW: Duration = Duration::from_millis(4500);
/// A server that sent SYN-ACKs within so long may live, though it answers nothing now.
const ALIVE: Duration = Duration::from_secs(60);
/// What it sent so lately when a SYN is given up came after that SYN: the shortest first timer is a second.
const SINCE_THE_SYN: Duration = Duration::from_secs(1);
/// A SYN-ACK that comes again sooner than this was copied by a tap or asked for by a SYN.
const SHORTEST_REPETITION: Duration = Duration::from_millis(500);

/// How a server treats SYNs, and why.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// What it does.
    pub mode: ServerMode,
    /// 0 to 1: the share of the evidence that speaks for it, less where there is little.
    pub confidence: f64,
    /// Of the last seconds, faded: SYN-ACKs that came again.
    pub repeated: f64,
    /// SYN-ACKs that should have and did not.
    pub unrepeated: f64,
    /// SYNs without an answer.
    pub unanswered: f64,
    /// SYN-ACKs that came again after their ACK.
    pub after_ack: f64,
    /// Handshakes completed.
    pub completed: f64,
    /// Where it is `accept_overflow`: enough that neither a burst of loss nor a few slow clients explain it.
    pub beyond_loss: bool,
}

impl Verdict {
    /// Whether SYN-ACKs that came again after their ACK say so, and not SYNs that it leaves without an answer while its queue has room.
    pub fn turned_away(&self) -> bool {
        self.after_ack >= ENOUGH && self.after_ack >= SHARE * self.completed
    }
}

/// Seconds since something was last seen.
#[derive(Debug, Clone, Copy)]
struct Since {
    unrepeated: f64,
    unanswered: f64,
    after_ack: f64,
    answered: f64,
    sign_of_life: f64,
}

impl Since {
    const NEVER: Self = Self {
        unrepeated: f64::MAX,
        unanswered: f64::MAX,
        after_ack: f64::MAX,
        answered: f64::MAX,
        sign_of_life: f64::MAX,
    };

    fn pass(&mut self, seconds: f64) {
        let Self { unrepeated, unanswered, after_ack, answered, sign_of_life } = self;
        for since in [unrepeated, unanswered, after_ack, answered, sign_of_life] {
            *since += seconds;
        }
    }
}

/// Fading sums.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recent {
    /// What one cohort's time leaves of a sum.
    fading: f64,
    width: f64,
    repeated: f64,
    unrepeated: f64,
    unanswered: f64,
    answered: f64,
    completed: f64,
    after_ack: f64,
    /// Seconds that entries which left before their first timer had stayed.
    stayed: f64,
    /// Time since the last of each, seconds.
    since: Since,
    /// It sent SYN-ACKs while it left SYNs without an answer.
    lives: bool,
    /// Share of entries among the SYN-ACKs whose first timer is over or that were acknowledged.
    share: f64,
    /// Handshakes completed since cohorts last showed anything.
    completed_since: f64,
    neglect: Neglect,
}

impl Recent {
    /// Sums over cohorts of this width.
    pub(super) fn new(width: Duration) -> Self {
        Self {
            fading: fading(width),
            width: width.as_secs_f64(),
            repeated: 0.0,
            unrepeated: 0.0,
            unanswered: 0.0,
            answered: 0.0,
            completed: 0.0,
            after_ack: 0.0,
            stayed: 0.0,
            since: Since::NEVER,
            lives: false,
            share: 1.0,
            completed_since: 0.0,
            neglect: Neglect::default(),
        }
    }

    /// Cohorts are of this width from now on.
    pub(super) fn set_width(&mut self, width: Duration) {
        (self.fading, self.width) = (fading(width), width.as_secs_f64());
    }

    /// So many cohorts began.
    pub(super) fn pass(&mut self, cohorts: u32) {
        let fading = self.fading.powi(cohorts.min(10_000) as i32);
        for sum in [
            &mut self.repeated,
            &mut self.unrepeated,
            &mut self.unanswered,
            &mut self.answered,
            &mut self.completed,
            &mut self.after_ack,
            &mut self.stayed,
        ] {
            *sum *= fading;
        }
        self.since.pass(self.width * f64::from(cohorts));
    }

    /// What cohorts showed.
    pub(super) fn show(&mut self, shown: Shown) {
        self.repeated += shown.repeated as f64;
        self.unrepeated += (shown.unrepeated + shown.cookies) as f64;
        self.unanswered += shown.unanswered as f64;
        self.neglect.left(shown.unanswered as f64);
        if shown.unrepeated + shown.cookies > 0 {
            self.since.unrepeated = 0.0;
        }
        if shown.unanswered > 0 {
            self.since.unanswered = 0.0;
            self.lives |= self.since.sign_of_life <= SINCE_THE_SYN.as_secs_f64();
        } else if self.since.unanswered > FRESH.as_secs_f64() {
            self.lives = false;
        }
        let kept = shown.repeated as f64 + std::mem::take(&mut self.completed_since);
        let known = kept + shown.unrepeated as f64;
        if known > 0.0 {
            // A cohort of ten or more is believed, one of few shifts the share a little.
            let weight = (known / 10.0).min(1.0);
            self.share += (kept / known - self.share) * weight;
        }
    }

    /// A SYN-ACK went out.
    pub(super) fn answered(&mut self, weight: u32) {
        self.answered += f64::from(weight);
        self.neglect.answered(f64::from(weight));
        self.since.answered = 0.0;
        self.spoke();
    }

    /// The server sent something.
    pub(super) fn spoke(&mut self) {
        self.since.sign_of_life = 0.0;
    }

    /// A handshake was completed.
    pub(super) fn completed(&mut self, weight: u32) {
        self.completed += f64::from(weight);
        self.completed_since += f64::from(weight);
    }

    /// A SYN-ACK came again after its ACK.
    pub(super) fn overflowed(&mut self, weight: u32, age: Duration) {
        if age >= SHORTEST_REPETITION {
            self.after_ack += f64::from(weight);
            self.since.after_ack = 0.0;
        }
    }

    /// Entries left after so long: their clients acknowledged or reset.
    pub(super) fn left(&mut self, weight: u32, after: Duration) {
        // What stayed longer was no longer young.
        self.stayed += f64::from(weight) * after.as_secs_f64().min(1.0);
    }

    /// Young entries that will not see their first timer, at any time: by Little's law, as many as leave a second times their stay.
    pub(super) fn passing(&self) -> f64 {
        self.stayed * std::f64::consts::LN_2 / HALF_LIFE.as_secs_f64()
    }

    /// Share of SYN-ACKs that have an entry.
    pub(super) fn repeated_share(&self) -> f64 {
        self.share
    }

    /// Whether SYNs go without an answer.
    pub(super) fn drops(&self) -> bool {
        said(self.unanswered, self.unanswered + self.answered, self.since.unanswered, FRESH)
            && self.since.sign_of_life <= ALIVE.as_secs_f64()
    }

    /// Whether it sends cookies or drops, and is not merely gone.
    pub(super) fn refuses(&self) -> bool {
        (self.drops() && self.lives) || self.sends_cookies()
    }

    /// Whether SYN-ACKs stay without the repetition that an entry makes. Completed handshakes had theirs: of thousands a second, a few
    /// whose last segment the sensor lost are no cookies.
    pub(super) fn sends_cookies(&self) -> bool {
        let known = self.unrepeated + self.repeated + self.completed;
        said(self.unrepeated, known, self.since.unrepeated, FRESH)
    }

    /// Share of SYNs that are answered.
    pub(super) fn answered_share(&self) -> f64 {
        self.answered / (self.answered + self.unanswered).max(1.0)
    }

    /// Whether SYN-ACKs come again after their ACK.
    pub(super) fn overflows(&self) -> bool {
        said(self.after_ack, self.completed, self.since.after_ack, FRESH_OVERFLOW)
    }

    /// How the server treats SYNs. `room`: its queue has plenty, so that a SYN dropped was dropped for another reason.
    pub(super) fn verdict(&self, room: bool) -> Verdict {
        let Self { repeated, unrepeated, unanswered, answered, completed, after_ack, .. } = *self;
        let kept = repeated + completed;
        let queued = if kept >= 1.0 {
            (ServerMode::Queue, kept / (kept + unrepeated + unanswered + after_ack), kept)
        } else {
            (ServerMode::Unknown, 0.0, 0.0)
        };
        let (mode, share, evidence) = if self.overflows() {
            (ServerMode::AcceptOverflow, after_ack / (after_ack + completed).max(1.0), after_ack)
        } else if self.sends_cookies() && !(self.drops() && unanswered > unrepeated) {
            // A full queue that leaves SYNs unanswered takes few in: some of those whose repetition was lost are soon a share.
            (ServerMode::Cookie, unrepeated / (unrepeated + repeated), unrepeated)
        } else if self.drops() && room && !self.turns_away() {
            // It answers most: the others were lost on their way.
            queued
        } else if self.drops() && room && !self.lives {
            // Nothing comes from it: an outage looks like this, and is no way to treat SYNs.
            (ServerMode::Unknown, 0.0, 0.0)
        } else if self.drops() {
            let mode = if room { ServerMode::AcceptOverflow } else { ServerMode::Drop };
            // Room in the queue is a weaker sign than an ACK passed over.
            let doubt = if room { 0.5 } else { 1.0 };
            (mode, doubt * unanswered / (unanswered + answered), unanswered)
        } else {
            queued
        };
        // Three of a kind are half the certainty that many are.
        let confidence = share.sqrt() * evidence / (evidence + ENOUGH);
        // It is no better known than to the hundredth.
        let confidence = (confidence * 100.0).round() / 100.0;
        let beyond_loss = mode == ServerMode::AcceptOverflow
            && ((self.neglect.is_beyond_chance() && self.turns_away())
                || (after_ack >= MANY && after_ack >= 0.1 * completed));
        Verdict { mode, confidence, repeated, unrepeated, unanswered, after_ack, completed, beyond_loss }
    }

    /// Whether it leaves most SYNs without an answer, or all of those of the last second.
    fn turns_away(&self) -> bool {
        self.unanswered >= self.answered || self.since.answered >= SINCE_THE_SYN.as_secs_f64()
    }
}

/// What a cohort's time leaves of a sum.
fn fading(width: Duration) -> f64 {
    0.5_f64.powf(width.as_secs_f64() / HALF_LIFE.as_secs_f64())
}

/// Whether enough of one kind was seen, lately.
fn said(what: f64, of: f64, since: f64, fresh: Duration) -> bool {
    what >= ENOUGH && what >= SHARE * of && since <= fresh.as_secs_f64()
}
