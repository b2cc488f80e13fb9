//! Stage 4 of 5, detect: the queue models of the configured servers, and how events come to them.
//!
//! Packet threads note the events of those servers as they are; the detector puts them in order of time and gives them to the
//! models, once a bin. Bounded: so many servers, so many notes. No I/O, no clock.

use super::backlog::BacklogModel;
use super::backlog::profile::Profile;
use super::watch::is_one_server;
use crate::config::ServerConfig;
use crate::decode::segment::Endpoint;
use crate::time::Timestamp;
use crate::track::event::{EventKind, HandshakeEvent};
use std::collections::BTreeMap;

/// Servers with a model, at most: 43 kB each.
const MODELS: usize = 256;
/// Events of one thread between two ticks, at most: 32,000 SYNs a second with their answers.
const NOTES: usize = 32_768;
/// SYNs and first answers may take so many of them: what they leave is for repetitions and endings, which are no more than the
/// queues hold. What is not noted came while every queue was full.
const OPENINGS: usize = NOTES * 3 / 4;

/// The configured servers that are one address and port, in order; as many as have a model.
fn modelled(servers: &[ServerConfig]) -> impl Iterator<Item = (Endpoint, &ServerConfig)> {
    let one = servers.iter().filter(|server| is_one_server(server));
    one.filter_map(|server| Some((Endpoint::new(server.address, server.port?), server))).take(MODELS)
}

/// What one thread has noted since the last tick.
#[derive(Debug)]
pub(super) struct Notes {
    servers: Box<[Endpoint]>,
    /// The last server asked for: one and the same comes again and again.
    last: Option<(Endpoint, bool)>,
    events: Vec<HandshakeEvent>,
}

impl Notes {
    pub(super) fn new(servers: &[ServerConfig]) -> Self {
        let mut servers: Vec<Endpoint> = modelled(servers).map(|(at, _)| at).collect();
        servers.sort();
        let room = if servers.is_empty() { 0 } else { NOTES };
        Self { servers: servers.into(), last: None, events: Vec::with_capacity(room) }
    }

    /// Notes an event if a model wants it.
    #[inline]
    pub(super) fn take(&mut self, event: &HandshakeEvent) {
        if self.servers.is_empty() {
            return;
        }
        let server = event.flow.resp;
        let wanted = match self.last {
            Some((last, wanted)) if last == server => wanted,
            _ => {
                let wanted = self.servers.binary_search(&server).is_ok();
                self.last = Some((server, wanted));
                wanted
            }
        };
        let opens = matches!(event.kind, EventKind::Opened { .. } | EventKind::Answered { .. });
        if wanted && self.events.len() < if opens { OPENINGS } else { NOTES } {
            self.events.push(*event);
        }
    }
}

/// The models.
#[derive(Debug)]
pub(super) struct Queues {
    models: BTreeMap<Endpoint, BacklogModel>,
    events: Vec<HandshakeEvent>,
}

impl Queues {
    pub(super) fn new(servers: &[ServerConfig], seed: u64) -> Self {
        let mut queues = Self { models: BTreeMap::new(), events: Vec::new() };
        queues.seat(servers, seed);
        queues
    }

    /// Makes the models of these servers; those of servers that stay go on, unless what is known of the host changed.
    pub(super) fn seat(&mut self, servers: &[ServerConfig], seed: u64) {
        let mut before = std::mem::take(&mut self.models);
        for (at, server) in modelled(servers) {
            let profile = server.profile.as_deref().and_then(Profile::from_name).unwrap_or_default();
            let same = before.remove(&at).filter(|model| model.is_for(profile, server.backlog));
            self.models.insert(at, same.unwrap_or_else(|| BacklogModel::new(profile, server.backlog, seed)));
        }
    }

    /// The model of a server, if it has one.
    pub(super) fn get(&self, at: Endpoint) -> Option<&BacklogModel> {
        self.models.get(&at)
    }

    /// Takes what a thread noted.
    pub(super) fn absorb(&mut self, notes: &mut Notes) {
        self.events.append(&mut notes.events);
    }

    /// Brings the models up to the end of a bin.
    pub(super) fn close(&mut self, end: Timestamp) {
        // Two threads see the two directions of a tap; the order of threads must not matter.
        self.events.sort_by_key(|event| (event.ts, event.flow.orig));
        for event in self.events.drain(..) {
            if let Some(model) = self.models.get_mut(&event.flow.resp) {
                model.on_event(&event);
            }
        }
        for model in self.models.values_mut() {
            model.advance(end);
        }
    }
}
