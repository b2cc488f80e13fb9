//! All traffic of a scenario as one stream of frames in order of time.
//!
//! Holds one pending step for each open conversation and nothing else: memory does not grow with the length of the trace.

use super::conversation::{Conversation, Script, Step};
use super::frame::Wire;
use super::random::SplitMix64;
use super::scenario::{Direction, Scenario, Sensor};
use super::traffic::Conversations;
use crate::time::Timestamp;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;

/// What a stream has begun so far, by what becomes of it if the trace is long enough and nothing is lost: the truth to hold a
/// sensor against. Attempts are the contract's: a client that crashes and opens again makes two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Frames given out.
    pub frames: u64,
    /// Attempts begun.
    pub attempts: u64,
    /// Of these, completed.
    pub completed: u64,
    /// Reset by the responder.
    pub refused: u64,
    /// Reset by the originator.
    pub reset: u64,
    /// Never answered.
    pub unanswered: u64,
    /// Answered and never acknowledged.
    pub abandoned: u64,
    /// SYN-ACKs nobody asked for, first copies.
    pub stray_syn_acks: u64,
    /// Refusals nobody asked for.
    pub stray_resets: u64,
}

impl Tally {
    fn count(&mut self, script: Script) {
        let (attempts, outcome) = match script {
            Script::Exchange { .. }
            | Script::FastOpen
            | Script::SimultaneousOpen
            | Script::AcceptOverflow { .. }
            | Script::InVain { beyond: 0, .. }
            | Script::ResetOnData => (1, &mut self.completed),
            Script::Reconnect => (2, &mut self.completed),
            Script::Refused => (1, &mut self.refused),
            Script::ResetByOriginator => (1, &mut self.reset),
            Script::Unanswered { .. } | Script::Guessed { syn_acks: 0 } => (1, &mut self.unanswered),
            Script::Abandoned { .. } | Script::InVain { .. } | Script::Guessed { .. } => {
                (1, &mut self.abandoned)
            }
            Script::StraySynAck { .. } => {
                self.stray_syn_acks += 1;
                return;
            }
            Script::StrayReset => {
                self.stray_resets += 1;
                return;
            }
        };
        *outcome += attempts;
        self.attempts += attempts;
    }
}

/// The frames of a scenario, one after the other.
#[derive(Debug, Clone)]
pub struct Stream {
    start: Timestamp,
    end: Duration,
    sensor: Sensor,
    sources: Vec<Source>,
    pending: BinaryHeap<Reverse<Pending>>,
    /// Conversations begun: breaks ties, so that equal times have one order.
    begun: u64,
    random: SplitMix64,
    /// The frame just given is to be given again.
    repeat: bool,
    last: Timestamp,
    tally: Tally,
}

#[derive(Debug, Clone)]
struct Source {
    conversations: Conversations,
    wire: Wire,
    /// Its next conversation, not begun yet.
    next: Option<(Duration, Conversation)>,
}

#[derive(Debug, Clone)]
struct Pending {
    at: Duration,
    order: u64,
    opened: Duration,
    step: u32,
    source: u32,
    conversation: Conversation,
}

impl Stream {
    /// The frames of this scenario.
    pub fn new(scenario: &Scenario) -> Self {
        let sources = scenario.traffic.iter().enumerate().map(|(part, traffic)| {
            let mut conversations =
                Conversations::new(traffic, scenario.seed, part as u64, scenario.duration);
            let next = conversations.next();
            Source { conversations, wire: Wire::wrapped(traffic.encapsulation()), next }
        });
        Self {
            start: scenario.start(),
            end: scenario.duration,
            sensor: scenario.sensor.clone(),
            sources: sources.collect(),
            pending: BinaryHeap::new(),
            begun: 0,
            random: SplitMix64::split(scenario.seed, u64::MAX),
            repeat: false,
            last: Timestamp::EPOCH,
            tally: Tally::default(),
        }
    }

    /// Sets the hardware addresses of every frame, for frames that are sent on a real link.
    pub fn set_link(&mut self, from: [u8; 6], to: [u8; 6]) {
        for source in &mut self.sources {
            (source.wire.from, source.wire.to) = (from, to);
        }
    }

    /// Writes the next frame into `out` and returns its stamp; none after the last.
    pub fn next_frame(&mut self, out: &mut Vec<u8>) -> Option<Timestamp> {
        if std::mem::take(&mut self.repeat) {
            self.tally.frames += 1;
            return Some(self.last);
        }
        loop {
            let (at, step, source) = self.next_step()?;
            if at >= self.end {
                // Nothing comes before what the heap gives first, and each source is in order.
                return None;
            }
            let seen = match self.sensor.direction {
                Direction::Both => true,
                Direction::ToServers => step.from_originator,
                Direction::FromServers => !step.from_originator,
            };
            if !seen || (self.sensor.loss > 0.0 && self.random.chance(self.sensor.loss)) {
                continue;
            }
            self.repeat = self.sensor.duplicates > 0.0 && self.random.chance(self.sensor.duplicates);
            self.sources.get(source)?.wire.write(&step.packet, out);
            self.last = self.stamp(at);
            self.tally.frames += 1;
            return Some(self.last);
        }
    }

    /// Gives every frame left to `take`.
    pub fn for_each(mut self, mut take: impl FnMut(Timestamp, &[u8])) -> Tally {
        let mut frame = Vec::with_capacity(256);
        while let Some(at) = self.next_frame(&mut frame) {
            take(at, &frame);
        }
        self.tally
    }

    /// What has been begun so far.
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    fn next_step(&mut self) -> Option<(Duration, Step, usize)> {
        let soonest = self
            .sources
            .iter()
            .enumerate()
            .filter_map(|(index, source)| source.next.as_ref().map(|(at, _)| (*at, index)))
            .min();
        let due = match (soonest, self.pending.peek()) {
            (Some((at, index)), pending) if pending.is_none_or(|Reverse(first)| at < first.at) => {
                self.begin(index, at)?
            }
            (_, None) => return None,
            (_, Some(_)) => self.pending.pop()?.0,
        };
        let step = due.conversation.step(due.step)?;
        let (at, source) = (due.at, due.source as usize);
        if let Some(following) = due.conversation.step(due.step + 1) {
            let at = due.opened + following.after;
            if at < self.end {
                self.pending.push(Reverse(Pending { at, step: due.step + 1, ..due }));
            }
        }
        Some((at, step, source))
    }

    fn begin(&mut self, index: usize, opened: Duration) -> Option<Pending> {
        let source = self.sources.get_mut(index)?;
        let (_, conversation) = source.next.take()?;
        source.next = source.conversations.next();
        if opened < self.end {
            self.tally.count(conversation.script);
        }
        self.begun += 1;
        let after = conversation.step(0)?.after;
        Some(Pending {
            at: opened + after,
            order: self.begun,
            opened,
            step: 0,
            source: index as u32,
            conversation,
        })
    }

    /// A moment of the trace by the capturing clock, jumps and all.
    fn stamp(&self, at: Duration) -> Timestamp {
        let jumps = self.sensor.clock_jumps.iter().filter(|jump| jump.at <= at);
        let nanos: f64 = jumps.map(|jump| jump.by * 1e9).sum();
        Timestamp::from_nanos(self.start.plus(at).as_nanos().saturating_add(nanos as i64))
    }
}

impl Ord for Pending {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order, self.step).cmp(&(other.at, other.order, other.step))
    }
}

impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pending {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Pending {}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
