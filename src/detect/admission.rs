//! Stage 4 of 5, detect: which servers get a watch of their own.
//!
//! On evidence only, so that nobody who asks for many ports gets one for each. Judges nothing.

use super::judge::{Bin, Court};
use super::ledger::Key;
use super::tally::{Count, Tally};
use super::watch::{Settings, Watch};
use crate::decode::segment::Endpoint;

/// Attempts in one bin that make a server of an endpoint which never answered. A scan tries a port twice at most.
const SERVER_EVIDENCE: u32 = 4;
/// Servers a single host may have: a host that answers on every port is one host.
const SERVERS_PER_HOST: usize = 256;

impl Court {
    /// Gives every configured server that is one address and port its watch.
    pub(super) fn seat_configured(&mut self, bin: u64) {
        for server in &self.servers {
            let Some(port) = server.port.filter(|_| super::watch::is_one_server(server)) else { continue };
            let key = Key::Server(Endpoint::new(server.address, port));
            if self.ledger.find(key).is_none() {
                let settings = Settings::of(key, &self.config, &self.servers);
                self.ledger.insert(Watch::new(key, settings, bin), &self.config, &mut self.sketches);
            }
        }
    }

    /// The watch of a server, made where it has earned one.
    pub(super) fn server(&mut self, bin: Bin, at: Endpoint, tally: &Tally) -> Option<usize> {
        let key = Key::Server(at);
        if let Some(number) = self.ledger.find(key) {
            return Some(number);
        }
        let earned = tally[Count::Answered] > 0
            || tally[Count::Completed] > 0
            || tally[Count::Attempts] >= SERVER_EVIDENCE
            || tally[Count::Overdue] >= SERVER_EVIDENCE
            || tally[Count::Copies] > 0;
        if !earned
            || self.new_left == 0
            || self.ledger.servers_of(at.addr, SERVERS_PER_HOST) >= SERVERS_PER_HOST
        {
            return None;
        }
        self.new_left -= 1;
        let settings = Settings::of(key, &self.config, &self.servers);
        let watch = Watch::new(key, settings, bin.number);
        self.ledger.insert(watch, &self.config, &mut self.sketches)
    }
}
