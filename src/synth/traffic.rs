//! From one kind of traffic to its conversations, in order of their beginning.

use super::address::{Prefix, Targets};
use super::arrivals::{Arrivals, Pace, Pulse, Rhythm, Spread};
use super::conversation::{Close, Conversation, Look, Script, retransmission};
use super::frame::Encapsulation;
use super::kinds::{Acks, Answers, Backscatter, Flood, Handshakes, Outage, Scan};
use super::random::{SplitMix64, scatter};
use super::scenario::Traffic;
use crate::decode::segment::Endpoint;
use std::time::Duration;

/// Source ports are drawn from the upper half: 2^15 ports, none of which a server of ours uses.
const PORT_BITS: u32 = 15;
const FIRST_PORT: u16 = 1 << PORT_BITS;

/// How long a server takes to answer a SYN: interrupt, stack and back on an idle Linux host.
const ANSWER: Duration = Duration::from_micros(50);

/// The conversations of one kind of traffic.
#[derive(Debug, Clone)]
pub struct Conversations {
    traffic: Traffic,
    arrivals: Arrivals,
    random: SplitMix64,
    index: u64,
}

impl Conversations {
    /// Part number `part` of a scenario that lasts `whole`.
    pub fn new(traffic: &Traffic, seed: u64, part: u64, whole: Duration) -> Self {
        let pace = traffic.pace(whole);
        Self {
            traffic: traffic.clone(),
            arrivals: Arrivals::new(pace, SplitMix64::split(seed, 2 * part)),
            random: SplitMix64::split(seed, 2 * part + 1),
            index: 0,
        }
    }
}

impl Iterator for Conversations {
    type Item = (Duration, Conversation);

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.arrivals.next()?;
        let index = self.index;
        self.index += 1;
        let random = &mut self.random;
        let conversation = match &self.traffic {
            Traffic::Handshakes(handshakes) => handshakes.conversation(index, at, random),
            Traffic::Flood(flood) => flood.conversation(index, random),
            Traffic::Scan(scan) => scan.conversation(index, random),
            Traffic::Backscatter(backscatter) => backscatter.conversation(index, random),
        };
        Some((at, conversation))
    }
}

impl Traffic {
    /// Tags and tunnels of all its frames.
    pub const fn encapsulation(&self) -> Encapsulation {
        match self {
            Self::Handshakes(Handshakes { encapsulation, .. })
            | Self::Flood(Flood { encapsulation, .. })
            | Self::Scan(Scan { encapsulation, .. })
            | Self::Backscatter(Backscatter { encapsulation, .. }) => *encapsulation,
        }
    }

    /// What cannot be, in words.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let pace = self.pace(Duration::ZERO);
        if !(pace.rate >= 0.0 && pace.rate.is_finite()) {
            return Err("'rate' must be 0 or more");
        }
        match self {
            Self::Handshakes(h) if !(shares(&h.shares()) && (0.0..=1.0).contains(&h.ecn)) => {
                Err("shares must lie between 0 and 1 and their sum may not exceed 1")
            }
            Self::Handshakes(h) if !(0.0..1e6).contains(&h.dispersion) => {
                Err("'dispersion' must be 0 or more")
            }
            Self::Handshakes(Handshakes { rhythm: Some(Rhythm { period, depth }), .. })
                if !(*period > 0.0 && period.is_finite() && (0.0..=1.0).contains(depth)) =>
            {
                Err("a rhythm needs a period above 0 and a depth from 0 to 1")
            }
            Self::Handshakes(h) if h.rtt_mean < h.rtt_min => Err("'rtt_mean' must not be below 'rtt_min'"),
            Self::Handshakes(h) if mixed(h.servers, h.clients) => Err(MIXED),
            Self::Flood(f) if !(0.0..=1.0).contains(&f.answered) => Err("'answered' is a share from 0 to 1"),
            Self::Flood(f) if !(0.0..1e6).contains(&f.dispersion) => Err("'dispersion' must be 0 or more"),
            Self::Flood(Flood { pulse: Some(Pulse { count, width, period }), .. })
                if !(*count > 0 && *width >= 0.0 && *period > *width && period.is_finite()) =>
            {
                Err("a pulse needs a count and a width below its period")
            }
            Self::Flood(f) if mixed(f.servers, f.sources) => Err(MIXED),
            Self::Scan(s) if !shares(&[s.open, s.silent]) => {
                Err("'open' and 'silent' are shares of one whole")
            }
            Self::Scan(s) if mixed(s.targets, s.sources) => Err(MIXED),
            Self::Backscatter(b) if !(0.0..=1.0).contains(&b.refusals) => {
                Err("'refusals' is a share from 0 to 1")
            }
            Self::Backscatter(b) if mixed(b.victims, b.addresses) => Err(MIXED),
            Self::Handshakes(_) | Self::Flood(_) | Self::Scan(_) | Self::Backscatter(_) => Ok(()),
        }
    }

    fn pace(&self, whole: Duration) -> Pace {
        let (rate, start, duration, count, ramp, spread) = match self {
            Self::Handshakes(h) => (h.rate, h.start, h.duration, h.count, h.ramp, spread(h.dispersion)),
            Self::Flood(f) => {
                let spread = f.pulse.map_or_else(|| spread(f.dispersion), Spread::Pulsed);
                (f.rate, f.start, f.duration, f.count, f.ramp, spread)
            }
            Self::Scan(s) => {
                let count = if s.count == 0 { s.targets.size() } else { s.count };
                (s.rate, s.start, s.duration, count, Duration::ZERO, Spread::Even)
            }
            Self::Backscatter(b) => (b.rate, b.start, b.duration, b.count, Duration::ZERO, Spread::Poisson),
        };
        let duration = duration.unwrap_or_else(|| whole.saturating_sub(start));
        let rhythm = if let Self::Handshakes(h) = self { h.rhythm } else { None };
        Pace { rate, start, duration, ramp, rhythm, count, spread }
    }
}

const MIXED: &str = "both ends must be IPv4 or both IPv6";

fn mixed(servers: Targets, others: Prefix) -> bool {
    servers.prefix.nth(0).is_ipv4() != others.nth(0).is_ipv4()
}

fn shares(shares: &[f64]) -> bool {
    shares.iter().all(|share| (0.0..=1.0).contains(share)) && shares.iter().sum::<f64>() <= 1.0
}

fn spread(dispersion: f64) -> Spread {
    match dispersion {
        0.0 => Spread::Even,
        ratio if ratio > 1.0 => Spread::Clumped(ratio),
        _ => Spread::Poisson,
    }
}

impl Handshakes {
    /// In the order of the scripts of `conversation`.
    fn shares(&self) -> [f64; 9] {
        [
            self.refused,
            self.unanswered,
            self.abandoned,
            self.reset,
            self.fast_open,
            self.simultaneous,
            self.accept_overflow,
            self.reconnect,
            self.reset_on_data,
        ]
    }

    fn conversation(&self, index: u64, at: Duration, random: &mut SplitMix64) -> Conversation {
        let scripts = [
            Script::Refused,
            Script::Unanswered { syns: self.syns },
            Script::Abandoned { syn_acks: 6 },
            Script::ResetByOriginator,
            Script::FastOpen,
            Script::SimultaneousOpen,
            Script::AcceptOverflow { again: 5 },
            Script::Reconnect,
            Script::ResetOnData,
        ];
        let mut left = random.unit();
        let usual = Script::Exchange { lost_syns: 0, up: self.up, down: self.down, close: Close::Fin };
        let mut script = usual;
        for (share, candidate) in self.shares().into_iter().zip(scripts) {
            if left <= share {
                script = candidate;
                break;
            }
            left -= share;
        }
        if let Some(outage) = self.outage {
            script = self.during(outage, at, script);
        }
        let beyond = self.rtt_mean.saturating_sub(self.rtt_min).as_secs_f64();
        // Client ports are counted up, so that no tuple comes twice until all clients have used all of theirs.
        let clients = self.clients.size();
        let port = FIRST_PORT + ((index / clients) % (1 << PORT_BITS)) as u16;
        Conversation {
            orig: Endpoint::new(self.clients.nth(index % clients), port),
            resp: self.servers.pick(random),
            orig_isn: random.next_u32(),
            resp_isn: random.next_u32(),
            rtt: self.rtt_min + Duration::from_secs_f64(random.exponential(beyond)),
            answer: ANSWER,
            idle: Duration::from_secs_f64(random.exponential(self.idle.as_secs_f64())),
            look: Look { ecn: random.chance(self.ecn), ..Look::STACK },
            script,
        }
    }

    /// What becomes of a handshake that begins at `at`, where the server is out for a while.
    fn during(&self, outage: Outage, at: Duration, script: Script) -> Script {
        let end = outage.start + outage.duration;
        if at < outage.start || at >= end {
            return script;
        }
        if outage.refusing {
            return Script::Refused;
        }
        match (0..self.syns).find(|n| at + retransmission((*n).into()) >= end) {
            Some(lost_syns) => {
                Script::Exchange { lost_syns, up: self.up, down: self.down, close: Close::Fin }
            }
            None => Script::Unanswered { syns: self.syns },
        }
    }
}

impl Flood {
    fn conversation(&self, index: u64, random: &mut SplitMix64) -> Conversation {
        let answered = random.chance(self.answered);
        let script = match self.answers {
            _ if self.acks == Acks::Guessed => Script::Guessed {
                syn_acks: match self.answers {
                    Answers::Queue if answered => self.syn_acks,
                    Answers::Cookie if answered => 1,
                    Answers::Queue | Answers::Cookie | Answers::Drop | Answers::Reset | Answers::Refuse => 0,
                },
            },
            _ if !answered => Script::Unanswered { syns: 1 },
            Answers::Drop => Script::Unanswered { syns: 1 },
            Answers::Queue => {
                let (syn_acks, after) =
                    (self.syn_acks, self.ack_after.as_millis().min(u32::MAX.into()) as u32);
                match self.acks {
                    Acks::None | Acks::Guessed => Script::Abandoned { syn_acks },
                    Acks::Wrong => Script::InVain { beyond: 1, after, syn_acks },
                    Acks::Void => Script::InVain { beyond: 0, after, syn_acks },
                }
            }
            Answers::Cookie => Script::Abandoned { syn_acks: 1 },
            Answers::Reset => Script::ResetByOriginator,
            Answers::Refuse => Script::Refused,
        };
        let look = Look {
            ecn: self.ecn,
            payload: self.payload,
            ..if self.options { Look::STACK } else { Look::TOOL }
        };
        Conversation {
            orig: source(self.sources, self.source_port, index, random),
            resp: self.servers.pick(random),
            orig_isn: self.isn.unwrap_or_else(|| random.next_u32()),
            resp_isn: random.next_u32(),
            rtt: Duration::from_millis(40),
            answer: ANSWER,
            idle: Duration::ZERO,
            look,
            script,
        }
    }
}

/// Forged source number `index`: addresses and ports scattered so that no pair repeats before all were used.
fn source(prefix: Prefix, port: Option<u16>, index: u64, random: &mut SplitMix64) -> Endpoint {
    let bits = prefix.free_bits();
    if bits > 48 {
        // So many that a repetition is not to be met with.
        let addr = prefix.pick(random);
        return Endpoint::new(addr, port.unwrap_or(FIRST_PORT + random.below(1 << PORT_BITS) as u16));
    }
    match port {
        Some(port) => Endpoint::new(prefix.nth(scatter(index, bits)), port),
        None => {
            let pair = scatter(index, bits + PORT_BITS);
            Endpoint::new(prefix.nth(pair >> PORT_BITS), FIRST_PORT | (pair as u16 & (FIRST_PORT - 1)))
        }
    }
}

impl Scan {
    fn conversation(&self, index: u64, random: &mut SplitMix64) -> Conversation {
        let draw = random.unit();
        let script = match draw {
            _ if draw <= self.open => Script::ResetByOriginator,
            _ if draw <= self.open + self.silent => Script::Unanswered { syns: self.syns },
            _ => Script::Refused,
        };
        Conversation {
            orig: source(self.sources, None, index, random),
            resp: self.targets.nth(index),
            orig_isn: random.next_u32(),
            resp_isn: random.next_u32(),
            rtt: Duration::from_millis(30),
            answer: ANSWER,
            idle: Duration::ZERO,
            look: Look { stack: false, window: 1024, ..Look::TOOL },
            script,
        }
    }
}

impl Backscatter {
    fn conversation(&self, index: u64, random: &mut SplitMix64) -> Conversation {
        let refusal = random.chance(self.refusals);
        Conversation {
            orig: source(self.addresses, None, index, random),
            resp: self.victims.pick(random),
            orig_isn: random.next_u32(),
            resp_isn: random.next_u32(),
            rtt: Duration::from_millis(40),
            answer: ANSWER,
            idle: Duration::ZERO,
            look: Look::TOOL,
            script: if refusal { Script::StrayReset } else { Script::StraySynAck { copies: self.copies } },
        }
    }
}
