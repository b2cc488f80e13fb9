//! Stage 4 of 5, detect: entries that a listener with `TCP_DEFER_ACCEPT` keeps though their originators acknowledged them.
//!
//! The kernel drops a bare ACK for so many timers, sends no SYN-ACK meanwhile, and sends one at the end of them, whose ACK makes
//! the connection (net/ipv4/tcp_minisocks.c, `tcp_check_req`; net/ipv4/inet_connection_sock.c, `syn_ack_recalc`). Data makes it at
//! once. So only who keeps silent is kept, and the wire says who that was when it is over: his share of the completed handshakes
//! of before is taken for the share of those of now.
//!
//! The option's seconds become timers (`secs_to_retrans`, net/ipv4/tcp.c): 1 s is the first, 2 and 3 s the second, 4 to 7 s the
//! third. So the SYN-ACK of a silent client of a server that defers for 1 s comes when that of a full accept queue does
//! (`tcp_check_req`, `listen_overflow`), and that one repetition tells neither from the other. The second does: a deferral explains
//! one repetition of a connection, because its answer is taken; whose SYN-ACK comes at a second timer was not taken. So do new SYNs,
//! which a full accept queue leaves without an answer (`tcp_conn_request`): `mode` sees them. Nothing by flow, no clock.

use super::profile::STAGES;
use std::time::Duration;

/// Cohorts of completed handshakes that are remembered: 15 s, the end of the fourth timer, at 0.11 s each.
const RING: usize = 144;
/// Up to this share of those of another timer, and of those that come a second time, is chance: answers lost on their way.
const CHANCE: f64 = 0.2;
/// So many silent ones tell a deferral.
const ENOUGH: f64 = 3.0;
/// After so long a count is worth half.
const HALF_LIFE: f64 = 15.0;

/// What is known of a server's deferral.
#[derive(Debug)]
pub(super) struct Deferral {
    width: Duration,
    fading: f64,
    /// Completed handshakes by cohort.
    completed: Box<[u32]>,
    newest: usize,
    /// First SYN-ACKs after their ACK, by the timer that went off, faded.
    after_ack: [f64; STAGES],
    /// Further ones, faded.
    further: f64,
    /// Completed handshakes whose deferral is over, by what timer would end it, faded.
    over: [f64; STAGES],
    held: u64,
}

impl Deferral {
    /// Nothing known, in cohorts of this width.
    pub(super) fn new(width: Duration) -> Self {
        Self {
            width,
            fading: 0.5_f64.powf(width.as_secs_f64() / HALF_LIFE),
            completed: vec![0; RING].into(),
            newest: 0,
            after_ack: [0.0; STAGES],
            further: 0.0,
            over: [0.0; STAGES],
            held: 0,
        }
    }

    /// A handshake was completed.
    pub(super) fn completed(&mut self, weight: u32) {
        if let Some(count) = self.completed.get_mut(self.newest) {
            *count = count.saturating_add(weight);
        }
    }

    /// A SYN-ACK came after its ACK at the end of this timer, the `number`-th of its connection, or a copy where 0; whether a
    /// deferral explains it.
    pub(super) fn after_ack(&mut self, stage: Option<usize>, number: u8, weight: u32) -> bool {
        if number > 1 {
            self.further += f64::from(weight);
            return false;
        }
        if let Some(count) = stage.filter(|_| number == 1).and_then(|stage| self.after_ack.get_mut(stage)) {
            *count += f64::from(weight);
        }
        self.is_once()
    }

    fn all(&self) -> f64 {
        self.after_ack.iter().sum()
    }

    /// Whether hardly a SYN-ACK comes twice after its ACK.
    fn is_once(&self) -> bool {
        self.further <= CHANCE * self.all()
    }

    /// So many cohorts began; `ends` are the ages at which timers go off.
    pub(super) fn pass(&mut self, cohorts: u32, ends: &[Duration; STAGES]) {
        let first_fades = self.fading.powi(cohorts.min(10_000) as i32);
        let sums = self.after_ack.iter_mut().chain(&mut self.over).chain([&mut self.further]);
        sums.for_each(|sum| *sum *= first_fades);
        for _ in 0..cohorts.min(RING as u32) {
            self.newest = (self.newest + 1) % RING;
            if let Some(count) = self.completed.get_mut(self.newest) {
                *count = 0;
            }
            for (stage, end) in ends.iter().enumerate() {
                let ended = self.cohorts(*end).and_then(|back| self.count(back));
                self.over[stage] += ended.map_or(0.0, f64::from);
            }
        }
        self.held = self.reckon(ends);
    }

    /// Entries it keeps of silent originators.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// The timer at whose end a deferral is over, if there is one.
    fn stage(&self) -> Option<usize> {
        let all = self.all();
        (0..STAGES)
            .filter(|_| self.is_once())
            .find(|stage| self.after_ack[*stage] >= ENOUGH && self.after_ack[*stage] >= (1.0 - CHANCE) * all)
    }

    fn reckon(&self, ends: &[Duration; STAGES]) -> u64 {
        let reckoned = self.stage().and_then(|stage| {
            let silent = (self.after_ack[stage] / self.over[stage].max(1.0)).min(1.0);
            let lately: u64 =
                (0..self.cohorts(ends[stage])?).filter_map(|back| self.count(back)).map(u64::from).sum();
            Some((silent * lately as f64).round() as u64)
        });
        reckoned.unwrap_or(0)
    }

    /// So many cohorts make this time; none where more than are remembered.
    fn cohorts(&self, time: Duration) -> Option<usize> {
        let cohorts = (time.as_secs_f64() / self.width.as_secs_f64()).round() as usize;
        (1..RING).contains(&cohorts).then_some(cohorts)
    }

    /// Handshakes completed so many cohorts ago.
    fn count(&self, back: usize) -> Option<u32> {
        self.completed.get((self.newest + RING - back % RING) % RING).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS: [Duration; STAGES] = [
        Duration::from_secs(1),
        Duration::from_secs(3),
        Duration::from_secs(7),
        Duration::from_secs(15),
        Duration::from_secs(31),
        Duration::from_secs(63),
    ];

    #[test]
    fn the_silent_are_held_for_as_long_as_the_deferral_lasts() {
        let mut deferral = Deferral::new(Duration::from_millis(100));
        for cohort in 0..600_u32 {
            // Ten handshakes a second; one in ten stays silent and is asked again 7 s later.
            deferral.completed(1);
            if cohort >= 70 && cohort % 10 == 0 {
                assert!(deferral.after_ack(Some(2), 1, 1));
            }
            deferral.pass(1, &ENDS);
        }
        assert!((6..=8).contains(&deferral.held()), "{}", deferral.held());
        for _ in 0..80 {
            deferral.pass(1, &ENDS);
        }
        assert_eq!(deferral.held(), 0, "nobody came since");
    }

    #[test]
    fn a_deferral_of_one_second_shows_at_the_first_timer_and_only_once() {
        let mut deferral = Deferral::new(Duration::from_millis(100));
        for cohort in 0..600_u32 {
            // Forty handshakes a second; every fourth client keeps silent and is asked again a second later.
            deferral.completed(4);
            if cohort >= 10 {
                assert!(deferral.after_ack(Some(0), 1, 1), "{cohort}");
            }
            deferral.pass(1, &ENDS);
        }
        assert!((9..=11).contains(&deferral.held()), "{}", deferral.held());
    }

    #[test]
    fn a_full_accept_queue_is_no_deferral() {
        let mut deferral = Deferral::new(Duration::from_millis(100));
        for cohort in 0..100 {
            deferral.completed(1);
            let deferred = deferral.after_ack(Some(0), 1, 1);
            // 2 s after the first it comes a second time; 0.7 s later no first one is explained any more.
            assert!(!deferred || cohort < 27, "{cohort}");
            assert!(cohort < 20 || !deferral.after_ack(Some(1), 2, 1), "it came again");
            deferral.pass(1, &ENDS);
        }
        assert_eq!(deferral.held(), 0);
        assert_eq!(deferral.stage(), None);
    }

    #[test]
    fn what_comes_twice_is_no_deferral_whenever_it_began() {
        // Acknowledged after the first timer, in vain: asked again at 3 s and at 7 s.
        let mut deferral = Deferral::new(Duration::from_millis(100));
        for cohort in 0..300 {
            deferral.completed(1);
            if cohort >= 30 {
                let deferred = deferral.after_ack(Some(1), 1, 1);
                // The first comes again after 4 s; 2 s later it is known.
                assert!(deferred || cohort > 70, "{cohort}");
                assert!(!deferred || cohort < 90, "{cohort}");
            }
            if cohort >= 70 {
                assert!(!deferral.after_ack(Some(2), 2, 1), "it came again");
            }
            deferral.pass(1, &ENDS);
        }
        assert_eq!(deferral.held(), 0);
    }
}
