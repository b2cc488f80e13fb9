//! Stage 3 of 5, track: one packet thread's tracker: segments and time in, events out.
//!
//! No bytes, no I/O, no clock, no metrics. What a segment does is decided in `handshake`, what is stored in `table`.

use super::batch::{BATCH, Located};
use super::consequence::take;
use super::counts::LedgerCounts;
use super::established::Loss;
use super::event::{EventKind, EventSink, HandshakeEvent, HandshakeState, Outcome};
use super::grace::GRACE;
use super::handshake::{Attempt, Sender, Step, next};
use super::lane::{Laned, Lanes};
use super::remembered::End;
use super::shares::{Admission, Places};
use super::table::{Fate, HalfOpenTable, Place, Spot};
use super::waiting::Ticket;
use crate::config::TableConfig;
use crate::decode::segment::{Endpoint, Segment, SegmentKind};
use crate::time::Timestamp;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

/// Before any packet: whatever time is handed in next, deadlines are looked at.
pub(super) const AT_ONCE: Timestamp = Timestamp::from_nanos(i64::MIN);

/// No stack sends its SYN again later than this: Linux does at 63 s (`tcp_syn_retries` of 6; 67 s since 6.5, `tcp_syn_linear_timeouts`), and
/// the BSDs give up after 75 s (`TCPTV_KEEP_INIT`).
const LAST_OF_A_STACK: Duration = Duration::from_secs(76);

/// Life of an attempt by state.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    pub(super) syn_sent: Duration,
    pub(super) syn_received: Duration,
    pub(super) emergency: Duration,
}

impl From<&TableConfig> for Timeouts {
    fn from(config: &TableConfig) -> Self {
        Self {
            syn_sent: config.syn_sent_timeout,
            syn_received: config.syn_received_timeout,
            emergency: config.emergency_timeout,
        }
    }
}

/// Follows the handshakes of one packet thread in a table that all threads share.
///
/// Call [`Self::advance`] with the network time before each segment, then [`Self::on_segment`]; or hand segments to [`Self::take`],
/// which does the same a few segments later and several times as fast, and call [`Self::catch_up`] before anything is read.
pub struct Tracker {
    pub(super) table: Arc<HalfOpenTable>,
    pub(super) timeouts: Timeouts,
    pub(super) counts: LedgerCounts,
    pub(super) lanes: Lanes,
    /// Nothing is due before.
    pub(super) next_due: Timestamp,
    /// Records looked at in one call of `advance`, at most.
    pub(super) budget: usize,
    pub(super) lag: Duration,
    /// The server of the last SYN: in a flood it is that of the next one as well.
    last: (Endpoint, Places),
    /// What this thread missed of established connections.
    pub(super) loss: Loss,
    /// Segments taken whose memory was asked for.
    pub(super) pending: Vec<Located>,
}

/// Where a new attempt will wait for its grace age.
#[derive(Debug, Clone, Copy)]
struct Wait {
    class: usize,
    ticket: Ticket,
    /// Where its server's figures lie.
    at: Places,
}

/// What a SYN met.
enum Met {
    Opened {
        level: u8,
    },
    Repeated(Attempt),
    Superseded(Attempt),
    Crossing,
    /// `expired`: so long ago that whoever sends it is no stack.
    Remembered {
        expired: bool,
    },
    Refused,
}

impl Tracker {
    /// A tracker on a table. `budget` bounds how many deadlines one call of [`Self::advance`] handles, so that a live packet is
    /// never held up; `usize::MAX` where nothing waits (replay).
    ///
    /// It goes on with the deadlines of one that was dropped before, if there are any: see [`Self::resumes_at`].
    pub fn new(table: Arc<HalfOpenTable>, config: &TableConfig, budget: usize) -> Self {
        let nobody = Endpoint::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let last = (nobody, table.shares.places(nobody));
        let lanes = table.estate.take().unwrap_or_else(|| Lanes::new(&table.waiting));
        let next_due = if lanes.len() == 0 { Timestamp::FAR_FUTURE } else { AT_ONCE };
        Self {
            table,
            timeouts: Timeouts::from(config),
            counts: LedgerCounts::default(),
            lanes,
            next_due,
            budget,
            lag: Duration::ZERO,
            last,
            loss: Loss::default(),
            pending: Vec::with_capacity(BATCH),
        }
    }

    /// What was counted so far.
    pub fn counts(&self) -> &LedgerCounts {
        &self.counts
    }

    /// How far expiry lags behind network time.
    pub fn lag(&self) -> Duration {
        self.lag
    }

    /// Bytes the deadlines take.
    pub fn bytes(&self) -> usize {
        self.lanes.bytes()
    }

    /// The network time of the deadlines: times handed in may not lie before. It is none for a tracker that begins with nothing; one
    /// that goes on where another ended begins with that one's, by [`NetworkTime::resume`](crate::time::NetworkTime::resume).
    pub fn resumes_at(&self) -> Option<Timestamp> {
        self.lanes.until
    }

    /// Applies timeouts that changed.
    pub fn reconfigure(&mut self, config: &TableConfig) {
        self.timeouts = Timeouts::from(config);
        self.table.established.reconfigure(&config.established);
        self.next_due = AT_ONCE;
    }

    /// Takes one segment at once; its `ts` is network time.
    #[inline]
    pub fn on_segment(&mut self, segment: &Segment, sink: &mut impl EventSink) {
        let located = self.locate(*segment);
        self.on_located(&located, sink);
    }

    #[inline]
    pub(super) fn on_tuple<K: Laned>(
        &mut self,
        spot: &Spot<K>,
        src_is_low: bool,
        segment: &Segment,
        sink: &mut impl EventSink,
    ) {
        match segment.kind {
            SegmentKind::Syn => self.on_syn(spot, src_is_low, segment, sink),
            SegmentKind::SynAck | SegmentKind::Ack | SegmentKind::Fin | SegmentKind::Rst => {
                let found = self.on_other(spot, Place::First, src_is_low, segment, sink);
                let crossed = self.table.has_crossed()
                    && self.on_other(spot, Place::Crossed, src_is_low, segment, sink);
                if !found && !crossed {
                    self.follow(spot.hash, src_is_low, segment, sink);
                    self.on_stray(segment, sink);
                }
            }
            SegmentKind::Odd => {}
        }
    }

    fn on_syn<K: Laned>(
        &mut self,
        spot: &Spot<K>,
        src_is_low: bool,
        segment: &Segment,
        sink: &mut impl EventSink,
    ) {
        let flow = spot.key.flow(src_is_low);
        if self.last.0 != flow.resp {
            self.last = (flow.resp, self.table.shares.places(flow.resp));
        }
        let at = self.last.1;
        let class = self.table.grace.class(at.server, segment.ts);
        let ticket = K::of(&mut self.lanes).rings().map_or(Ticket::NONE, |rings| rings.next_ticket(class));
        let wait = Wait { class, ticket, at };
        let mut place = Place::First;
        let mut met = if self.table.has_crossed()
            && !self.is_open(spot, Place::First, segment)
            && self.is_open(spot, Place::Crossed, segment)
        {
            // The first attempt ended and the one that crossed it lives on: it has the tuple now.
            Met::Crossing
        } else {
            self.meet(spot, Place::First, src_is_low, segment, wait)
        };
        if matches!(met, Met::Crossing) {
            place = Place::Crossed;
            met = self.meet(spot, Place::Crossed, src_is_low, segment, wait);
        }
        // Before anything is told of it, for whoever hears it may panic: what is in the table has a deadline.
        let level = match &met {
            Met::Opened { level } => Some(*level),
            Met::Superseded(before) => Some(before.level),
            Met::Repeated(_) | Met::Crossing | Met::Remembered { .. } | Met::Refused => None,
        };
        if let Some(level) = level {
            self.opened(spot.key, src_is_low, wait, level, segment);
        }
        let mut say = |weight, kind| sink.on_event(&HandshakeEvent { ts: segment.ts, flow, weight, kind });
        match met {
            Met::Opened { level } => {
                self.counts.sampled += u64::from(level > 0);
                say(1 << level, EventKind::Opened);
                if place == Place::Crossed {
                    self.counts.simultaneous_opens += 1;
                    say(1, EventKind::SimultaneousOpen);
                }
                self.after_disowned(&flow, segment, sink);
            }
            Met::Superseded(before) => {
                let outcome = Outcome::Superseded;
                self.counts.closed(outcome, before.state);
                let after = segment.ts.since(before.opened_at);
                let (state, overdue) = (before.state, before.overdue);
                say(1 << before.level, EventKind::Closed { outcome, state, after, overdue });
                say(1 << before.level, EventKind::Opened);
            }
            Met::Repeated(before) => {
                self.counts.syn_retransmissions += 1;
                let (state, count) = (Some(before.state), (before.syn_copies + 1).min(15));
                let after = segment.ts.since(before.opened_at);
                say(1 << before.level, EventKind::SynRetransmitted { state, count, after });
                self.syn_again(spot.hash, &before, segment, sink);
            }
            Met::Remembered { expired } => {
                self.counts.syn_retransmissions += 1;
                let count = if expired { u8::MAX } else { 0 };
                say(1, EventKind::SynRetransmitted { state: None, count, after: Duration::ZERO });
            }
            Met::Refused => {
                self.counts.untracked += 1;
                self.table.shares.refused(flow.resp, segment.ts);
                say(1, EventKind::Untracked);
            }
            // A third SYN cannot cross: the crossing attempt has this direction.
            Met::Crossing => {}
        }
    }

    fn is_open<K: Laned>(&self, spot: &Spot<K>, place: Place, segment: &Segment) -> bool {
        self.table.visit(spot, place, segment.ts, |_| (Fate::Keep, ())).is_some()
    }

    fn opened<K: Laned>(&mut self, key: K, src_is_low: bool, wait: Wait, level: u8, segment: &Segment) {
        self.counts.opened();
        let lane = K::of(&mut self.lanes);
        if let Some(rings) = lane.rings() {
            rings.opened(wait.ticket, level, src_is_low, segment.options_len == 0);
        }
        lane.open(key, wait.class, segment.ts);
        self.next_due = self.next_due.min(segment.ts.plus(GRACE[wait.class]));
    }

    /// Puts a SYN to the attempt of its tuple, or enters a new one.
    fn meet<K: Laned>(
        &mut self,
        spot: &Spot<K>,
        place: Place,
        src_is_low: bool,
        segment: &Segment,
        wait: Wait,
    ) -> Met {
        let fresh = |level| Attempt {
            opened_at: segment.ts,
            isn: segment.seq,
            responder_isn: Default::default(),
            syn_payload: segment.payload_len,
            state: HandshakeState::SynSent,
            syn_copies: 0,
            syn_ack_copies: 0,
            level,
            originator_is_low: src_is_low,
            overdue: false,
            early_ack: false,
            contested: false,
            crossed: place == Place::Crossed,
            spoken: false,
            ticket: wait.ticket,
        };
        let deadlines = self.lanes.of_records();
        let waiting = K::of(&mut self.lanes).waiting_for_grace(wait.class);
        let table = &*self.table;
        let full = waiting >= table.waiting.size() || deadlines >= table.room.deadlines;
        let present = |attempt: &mut Attempt| {
            if attempt.originator_is_low != src_is_low {
                attempt.crossed = true;
                return Met::Crossing;
            }
            let before = *attempt;
            let age = segment.ts.since(before.opened_at);
            if attempt.isn == segment.seq {
                attempt.syn_copies = (before.syn_copies + 1).min(15);
                table.waiting.came_again(attempt, age);
                Met::Repeated(before)
            } else if full {
                Met::Refused
            } else {
                let overdue = table.waiting.overdue(&before, age);
                table.waiting.ended(&before, age);
                *attempt = fresh(before.level);
                Met::Superseded(Attempt { overdue, ..before })
            }
        };
        let absent = || {
            let flow = spot.key.flow(src_is_low);
            if let Some(ended) = table.remembered.find(&flow)
                && ended.isn == segment.seq
                && ended.end != End::Reset
            {
                let expired = ended.end == End::Expired && ended.age(segment.ts) > LAST_OF_A_STACK;
                return (None, Met::Remembered { expired });
            }
            match table.shares.admit(wait.at, table.free()) {
                Admission::Sample(level)
                    if !full && table.has_place(place) && table.samples(&flow, segment.seq, level) =>
                {
                    (Some(fresh(level)), Met::Opened { level })
                }
                Admission::Sample(_) | Admission::Refuse => (None, Met::Refused),
            }
        };
        table.visit_or_enter(spot, place, segment.ts, wait.at, present, absent)
    }

    /// Puts any other segment to the attempt of its tuple; whether there was one.
    #[inline]
    fn on_other<K: Laned>(
        &mut self,
        spot: &Spot<K>,
        place: Place,
        src_is_low: bool,
        segment: &Segment,
        sink: &mut impl EventSink,
    ) -> bool {
        let table = &*self.table;
        let visited = table.visit(spot, place, segment.ts, |attempt| {
            let mut before = *attempt;
            let sender =
                if before.originator_is_low == src_is_low { Sender::Originator } else { Sender::Responder };
            let visible = || table.visibility.sees(spot.key.flow(before.originator_is_low).resp, segment.ts);
            let step = next(&before, sender, segment, visible);
            let fate = take(attempt, step);
            if !matches!(step, Step::Nothing | Step::Mismatch) {
                let age = segment.ts.since(before.opened_at);
                before.overdue = table.waiting.overdue(&before, age);
                match fate {
                    Fate::Keep => table.waiting.changed(attempt, age),
                    Fate::Remove => table.waiting.ended(attempt, age),
                }
            }
            (fate, (step, before))
        });
        let Some((step, before)) = visited else { return false };
        self.took(&spot.key.flow(before.originator_is_low), step, &before, segment, sink);
        true
    }
}

impl Drop for Tracker {
    /// Its attempts stay in the table, whose own the deadlines become: also where this is the end of a panic.
    fn drop(&mut self) {
        let lanes = std::mem::replace(&mut self.lanes, Lanes::none());
        self.table.estate.leave(lanes);
    }
}
