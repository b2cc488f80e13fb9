//! Stage 4 of 5, detect: half-open connections that showed, on their way to the journal: bounded in number and in rate.
//!
//! Decides only what is told. Sees events, never a segment, never the table.

use super::incident::Discovery;
use crate::time::Timestamp;
use crate::track::event::{EventKind, HandshakeEvent};
use std::collections::VecDeque;

/// What a thread keeps between two ticks: more than the journal takes in that time.
const NOTED: usize = 128;

/// Discoveries told at once, at most: as many as a rack of servers that loses its power has neighbours. A restart of one busy
/// server leaves tens of thousands, all of one cause; they are counted.
const BURST: f64 = 100.0;

/// And a second, once the burst is used up: what a person can read.
const PER_SECOND: f64 = 1.0;

/// Discoveries the API lists.
const LISTED: usize = 100;

/// What one packet thread found since the last tick.
#[derive(Debug, Default)]
pub(super) struct Found {
    noted: Vec<HandshakeEvent>,
    untold: u64,
}

impl Found {
    /// Notes an event, where there is room.
    pub(super) fn note(&mut self, event: &HandshakeEvent) {
        if self.noted.len() < NOTED {
            self.noted.push(*event);
        } else {
            self.untold += 1;
        }
    }
}

/// What was found, by all threads together.
#[derive(Debug)]
pub(super) struct Discoveries {
    news: Vec<Discovery>,
    listed: VecDeque<Discovery>,
    untold: u64,
    /// How many may be told now.
    credit: f64,
    credited: Timestamp,
}

impl Default for Discoveries {
    fn default() -> Self {
        Self {
            news: Vec::new(),
            listed: VecDeque::new(),
            untold: 0,
            credit: BURST,
            credited: Timestamp::EPOCH,
        }
    }
}

impl Discoveries {
    /// Takes what a thread found.
    pub(super) fn absorb(&mut self, found: &mut Found) {
        self.untold += std::mem::take(&mut found.untold);
        self.news.extend(found.noted.drain(..).filter_map(|event| discovery(&event)));
    }

    /// Tells what may be told at `now`, in the order it was found, and remembers the latest.
    pub(super) fn tell(&mut self, now: Timestamp, hear: &mut dyn FnMut(&Discovery)) {
        let earned = now.since(self.credited).as_secs_f64() * PER_SECOND;
        self.credit = (self.credit + earned).min(BURST);
        self.credited = self.credited.max(now);
        // Threads hand over one after the other; what they found happened in between.
        self.news
            .sort_by(|a, b| (a.ts, &a.originator, &a.responder).cmp(&(b.ts, &b.originator, &b.responder)));
        for found in self.news.drain(..) {
            if self.credit >= 1.0 {
                self.credit -= 1.0;
                hear(&found);
            } else {
                self.untold += 1;
            }
            if self.listed.len() >= LISTED {
                self.listed.pop_front();
            }
            self.listed.push_back(found);
        }
    }

    /// The latest, oldest first.
    pub(super) fn listed(&self) -> Vec<Discovery> {
        self.listed.iter().cloned().collect()
    }

    /// Found, and not told for want of room.
    pub(super) fn untold(&self) -> u64 {
        self.untold
    }
}

fn discovery(event: &HandshakeEvent) -> Option<Discovery> {
    let HandshakeEvent { ts, flow, kind: EventKind::HalfOpen { case, originator_is_gone, after }, .. } =
        *event
    else {
        return None;
    };
    let (crashed, stale) = if originator_is_gone { (flow.orig, flow.resp) } else { (flow.resp, flow.orig) };
    Some(Discovery {
        ts,
        case: case.as_label(),
        originator: flow.orig.to_string(),
        responder: flow.resp.to_string(),
        crashed: crashed.to_string(),
        stale: stale.to_string(),
        duration: after,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::segment::Endpoint;
    use crate::track::event::HalfOpenCase;
    use crate::track::flow::Flow;
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    fn event(port: u16) -> HandshakeEvent {
        let end = |host, port| Endpoint::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, host)), port);
        let kind = EventKind::HalfOpen {
            case: HalfOpenCase::Reconnect,
            originator_is_gone: true,
            after: Duration::from_secs(1),
        };
        let flow = Flow { orig: end(1, port), resp: end(2, 80) };
        HandshakeEvent { ts: Timestamp::from_parts(100, i64::from(port)), flow, weight: 1, kind }
    }

    fn told(discoveries: &mut Discoveries, seconds: i64) -> usize {
        let mut told = 0;
        discoveries.tell(Timestamp::from_parts(seconds, 0), &mut |_| told += 1);
        told
    }

    #[test]
    fn a_burst_is_told_and_then_one_a_second_and_the_rest_is_counted() {
        let (mut found, mut discoveries) = (Found::default(), Discoveries::default());
        for port in 0..200 {
            found.note(&event(port));
        }
        discoveries.absorb(&mut found);
        assert_eq!(told(&mut discoveries, 100), 100);
        assert_eq!(discoveries.untold(), 100, "28 that the thread had to keep and 72 that it had not");
        assert_eq!(discoveries.listed().len(), LISTED);
        assert!(discoveries.listed()[0].originator.ends_with(":28"), "the latest are listed");
        for port in 0..10 {
            found.note(&event(port));
        }
        discoveries.absorb(&mut found);
        assert_eq!(told(&mut discoveries, 103), 3);
        assert_eq!(discoveries.untold(), 107);
    }
}
