//! Stage 4 of 5, detect: how hosts keep the entries of their SYN queues.
//!
//! Constants and their sources; no state.

use std::time::Duration;

/// Most timers an entry can have one after the other: Linux's six.
pub(super) const STAGES: usize = 6;

/// The lives of an entry on one kind of host.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Timers {
    /// Age at the end of each timer. At the end of each but the last the SYN-ACK comes again.
    pub(super) ends: [Duration; STAGES],
    /// How many of them there are.
    pub(super) stages: usize,
    /// How late that is, until the wire tells better: half the coarseness of the kernel's clockwork at that length, summed up.
    pub(super) lag: [Duration; STAGES],
    /// How much later than that it may still be.
    pub(super) slack: [Duration; STAGES],
}

/// How a host treats its SYN queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// Linux since 4.4: SYN-ACKs at 0, 1, 3, 7, 15 and 31 s, gone at 63 s; sooner where the queue is more than half full
    /// (net/ipv4/inet_connection_sock.c, `reqsk_timer_handler`). Holds one entry more than the backlog
    /// (include/net/inet_connection_sock.h, `inet_csk_reqsk_queue_is_full`), and sends cookies beyond.
    #[default]
    Linux,
    /// The same with `tcp_syncookies = 0`: SYNs beyond the limit are dropped, and beyond three quarters of
    /// `tcp_max_syn_backlog` too (net/ipv4/tcp_input.c, `tcp_conn_request`).
    LinuxNoCookies,
    /// FreeBSD: SYN-ACKs at 0, 1, 3 and 7 s, gone at 15 s (sys/netinet/tcp_syncache.c).
    FreeBsd,
    /// Windows: SYN-ACKs at 0, 3 and 9 s, gone at 21 s (TcpMaxConnectResponseRetransmissions in Microsoft's registry reference).
    Windows,
    /// The connection tracking of a Linux firewall: 60 s in SYN_RECV, begun anew by each packet; 120 s for a SYN without an answer (net/netfilter/nf_conntrack_proto_tcp.c).
    Conntrack,
    /// Any other: gone after this time.
    Fixed(Duration),
}

const fn ms<const N: usize>(millis: [u64; N]) -> [Duration; STAGES] {
    let mut all = [Duration::ZERO; STAGES];
    let mut at = 0;
    while at < N {
        all[at] = Duration::from_millis(millis[at]);
        at += 1;
    }
    all
}

/// Linux's timer wheel rounds up: to 32 ms for timers below 2 s, 256 ms below 16 s, 2 s beyond at 250 ticks a second; two to
/// four times finer at 1000 (kernel/time/timer.c, `LVL_GRAN`).
const LINUX: Timers = Timers {
    ends: ms([1000, 3000, 7000, 15_000, 31_000, 63_000]),
    stages: 6,
    lag: ms([20, 40, 170, 300, 430, 1430]),
    slack: ms([60, 80, 200, 300, 350, 1300]),
};

/// A host whose clockwork is not known.
const fn even(ends: [Duration; STAGES], stages: usize) -> Timers {
    Timers { ends, stages, lag: ms([20; STAGES]), slack: ms([200; STAGES]) }
}

impl Profile {
    /// A profile by its name in the configuration, or a lifetime in seconds as a decimal number.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "linux" => Self::Linux,
            "linux-nocookies" => Self::LinuxNoCookies,
            "freebsd" => Self::FreeBsd,
            "windows" => Self::Windows,
            "conntrack" => Self::Conntrack,
            seconds => Self::Fixed(Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?),
        })
    }

    /// Its name in the configuration; a lifetime is its seconds.
    pub fn name(self) -> String {
        match self {
            Self::Linux => "linux".to_owned(),
            Self::LinuxNoCookies => "linux-nocookies".to_owned(),
            Self::FreeBsd => "freebsd".to_owned(),
            Self::Windows => "windows".to_owned(),
            Self::Conntrack => "conntrack".to_owned(),
            Self::Fixed(life) => life.as_secs_f64().to_string(),
        }
    }

    pub(super) const fn timers(self) -> Timers {
        match self {
            Self::Linux | Self::LinuxNoCookies => LINUX,
            Self::FreeBsd => even(ms([1000, 3000, 7000, 15_000]), 4),
            Self::Windows => even(ms([3000, 9000, 21_000]), 3),
            // The second life is that of a SYN without an answer.
            Self::Conntrack => even(ms([60_000, 120_000]), 2),
            Self::Fixed(life) => {
                let mut ends = ms([0]);
                ends[0] = life;
                even(ends, 1)
            }
        }
    }

    /// Whether entries go before their time where the queue is more than half full.
    pub(super) const fn prunes(self) -> bool {
        matches!(self, Self::Linux | Self::LinuxNoCookies)
    }

    /// Whether the host itself repeats SYN-ACKs by these timers, so that a missing repetition means a missing entry.
    pub(super) const fn repeats(self) -> bool {
        !matches!(self, Self::Conntrack | Self::Fixed(_))
    }

    /// Entries a queue of this backlog holds.
    pub(in crate::detect) const fn capacity(self, backlog: u64) -> u64 {
        match self {
            // The queue is full where it holds more than the backlog, not as much.
            Self::Linux | Self::LinuxNoCookies => backlog.saturating_add(1),
            Self::FreeBsd | Self::Windows | Self::Conntrack | Self::Fixed(_) => backlog,
        }
    }
}
