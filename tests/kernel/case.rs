//! One port of a server and what is done to it.

/// A listener, its queue and its flood.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Case {
    /// Unique within its group; the number of its port is not part of it.
    pub name: String,
    pub port: u16,
    /// What the listener asks for; the namespaces of the tests set `somaxconn` above all of them.
    pub backlog: u32,
    /// Forged SYNs a second, as a Poisson process.
    pub rate: f64,
    /// They are evenly spaced instead: when the queue is full is then no matter of chance.
    pub even: bool,
    /// When the flood begins, seconds.
    pub start: f64,
    /// When it ends, seconds after it began.
    pub seconds: f64,
    /// Share of the forged SYNs that come again, 0.6 to 2.6 s later.
    pub duplicates: f64,
    /// Share of the forged sources that reset 0.3 s after their SYN.
    pub resets: f64,
    /// Every forged source acknowledges the SYN-ACK, in vain: by turns with a number one too high and with a wrong checksum, 20 ms
    /// after it and 1.3 s after it.
    pub in_vain: bool,
    /// Every forged SYN is followed by an ACK of any number, by turns 1 ms and 0.3 s after it.
    pub any_ack: bool,
    /// Real connections.
    pub clients: Vec<Clients>,
    /// The server takes connections; else they stay in its accept queue.
    pub accepts: bool,
    /// `TCP_DEFER_ACCEPT` of the listener, seconds; 0: none.
    pub defer: u32,
}

/// Real connections, each of which sends a byte some time after its handshake and closes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clients {
    /// Of them a second.
    pub rate: f64,
    /// When each sends its byte, seconds after its handshake; never where infinite.
    pub speak_after: f64,
}

/// So many a second, each of which speaks so long after its handshake.
fn clients(rate: f64, speak_after: f64) -> Clients {
    Clients { rate, speak_after }
}

impl Case {
    /// The queue takes more than two seconds to fill, and fills: its first refusal is to be foreseen.
    pub fn fills_slowly(&self) -> bool {
        let entries = f64::from(self.backlog);
        (2.1..12.0).contains(&(entries / self.rate))
    }
}

/// Cases that share a pair of namespaces, and with it the kernel's settings and counters.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    pub name: &'static str,
    /// There is one case only: the counters are its own.
    pub alone: bool,
    /// `net.ipv4.tcp_syncookies`.
    pub cookies: u8,
    /// `net.ipv4.tcp_max_syn_backlog`.
    pub max_syn_backlog: u32,
    pub cases: Vec<Case>,
}

/// How long a group is watched, seconds: past the longest life of an entry (63 s), so that the first ones are seen to go.
pub const WATCHED: u64 = 90;

/// Moments at which floods begin, over three seconds: prime, so that neighbours in rate and size are far apart.
const STEPS: u32 = 23;

/// Rates by the share of the backlog a second: the denominators of science 3.2, and what fills a queue at once.
const SHARES: [(&str, f64, f64); 8] = [
    ("126th", 1.0 / 126.0, 84.0),
    ("63rd", 1.0 / 63.0, 84.0),
    ("30th", 1.0 / 30.0, 84.0),
    ("15th", 1.0 / 15.0, 84.0),
    ("9th", 1.0 / 9.0, 84.0),
    ("5th", 1.0 / 5.0, 70.0),
    ("whole", 1.0, 50.0),
    ("5-fold", 5.0, 40.0),
];

const BACKLOGS: [u32; 4] = [16, 128, 511, 1024];

/// What is not a mere flood, on queues of 128 and 511.
fn mixed() -> Vec<Case> {
    let mut cases = Vec::new();
    for backlog in [128, 511] {
        let size = f64::from(backlog);
        let flood = Case { backlog, rate: size / 20.0, seconds: 84.0, ..Case::default() };
        let hard = Case { rate: size / 5.0, seconds: 70.0, ..flood.clone() };
        let calm = Case { rate: 1.0, seconds: 60.0, ..flood.clone() };
        for (name, case) in [
            ("clients", Case { clients: vec![clients(20.0, 0.0)], accepts: true, ..flood.clone() }),
            ("clients-flooded", Case { clients: vec![clients(20.0, 0.0)], accepts: true, ..hard.clone() }),
            ("duplicates", Case { duplicates: 0.3, ..flood.clone() }),
            ("duplicates-flooded", Case { duplicates: 0.3, ..hard.clone() }),
            ("resets", Case { resets: 0.5, ..flood.clone() }),
            ("resets-flooded", Case { resets: 0.5, ..hard.clone() }),
            ("in-vain", Case { in_vain: true, ..flood.clone() }),
            ("not-accepting", Case { clients: vec![clients(size / 10.0, 0.0)], ..calm.clone() }),
            // Nobody accepts, and a bare ACK would be waited upon too: some speak at once, some late, some never.
            (
                "not-accepting-1s",
                Case {
                    clients: vec![
                        clients(size / 20.0, 0.0),
                        clients(size / 40.0, 0.5),
                        clients(size / 80.0, 3.0),
                        clients(size / 80.0, f64::INFINITY),
                    ],
                    defer: 1,
                    ..calm.clone()
                },
            ),
            (
                "deferring",
                Case {
                    clients: vec![clients(10.0, 0.0), clients(size / 128.0, f64::INFINITY)],
                    defer: 5,
                    seconds: 80.0,
                    accepts: true,
                    ..calm.clone()
                },
            ),
            // The SYN-ACK comes again when one of a full accept queue would.
            (
                "deferring-1s",
                Case {
                    clients: vec![
                        clients(5.0, 0.0),
                        clients(size / 64.0, 0.5),
                        clients(size / 64.0, 3.0),
                        clients(size / 64.0, f64::INFINITY),
                    ],
                    defer: 1,
                    seconds: 80.0,
                    accepts: true,
                    ..calm.clone()
                },
            ),
        ] {
            let port = 1000 + cases.len() as u16;
            cases.push(Case { name: format!("{backlog}-{name}"), port, ..case });
        }
    }
    cases
}

/// Everything the kernel is held against. What fills slowly stands alone, so that the kernel's counters, of which a namespace has
/// one set, say when it first sent a cookie or dropped.
pub fn groups() -> Vec<Group> {
    let mut groups = Vec::new();
    let mut number = 0;
    for mut group in together() {
        for case in &mut group.cases {
            // Thousands of SYN-ACKs that fall due in one tick of the timers overrun the 1,000 packets that a CPU takes at once, and
            // an entry whose SYN-ACK cannot be sent is dropped. So floods begin one after the other.
            case.start = f64::from(number % STEPS) * 3.0 / f64::from(STEPS);
            number += 1;
        }
        let (apart, stay): (Vec<Case>, Vec<Case>) =
            std::mem::take(&mut group.cases).into_iter().partition(Case::fills_slowly);
        let alone = |case| Group { alone: true, cases: vec![case], ..group.clone() };
        groups.extend(apart.into_iter().map(alone));
        groups.push(Group { cases: stay, ..group });
    }
    groups
}

/// By the kernel's settings.
fn together() -> Vec<Group> {
    let all = |backlogs: &[u32], shares: &[(&str, f64, f64)]| {
        let mut cases = Vec::new();
        for &backlog in backlogs {
            for &(share, rate, seconds) in shares {
                let port = 1000 + cases.len() as u16;
                let name = format!("{backlog}-{share}");
                let rate = rate * f64::from(backlog);
                // Half of a queue of 128 is 64 arrivals: at random their time alone varies by an eighth, and so does the rate
                // seen before. What is foreseen at half full can be held to 30 % only where arrivals are even.
                let even = share == "5th";
                cases.push(Case { name, port, backlog, rate, even, seconds, ..Case::default() });
            }
        }
        cases
    };
    vec![
        Group {
            name: "cookies",
            alone: false,
            cookies: 1,
            max_syn_backlog: 4096,
            cases: all(&BACKLOGS, &SHARES),
        },
        Group {
            name: "no-cookies",
            alone: false,
            cookies: 0,
            max_syn_backlog: 4096,
            cases: all(&BACKLOGS, &SHARES),
        },
        Group { name: "mixed", alone: false, cookies: 1, max_syn_backlog: 4096, cases: mixed() },
        Group {
            name: "three-quarters",
            alone: false,
            cookies: 0,
            max_syn_backlog: 256,
            cases: all(&[128, 511], &[SHARES[3], SHARES[5], SHARES[6]]),
        },
        Group {
            name: "always-cookies",
            alone: false,
            cookies: 2,
            max_syn_backlog: 4096,
            cases: all(&BACKLOGS, &[SHARES[4], SHARES[6]]),
        },
        Group {
            name: "any-ack",
            alone: false,
            cookies: 1,
            max_syn_backlog: 4096,
            cases: any_ack(all(&[128, 511], &[SHARES[5], SHARES[6]])),
        },
        Group {
            name: "any-ack-no-cookies",
            alone: false,
            cookies: 0,
            max_syn_backlog: 4096,
            cases: any_ack(all(&[128, 511], &[SHARES[5], SHARES[6]])),
        },
    ]
}

fn any_ack(cases: Vec<Case>) -> Vec<Case> {
    cases.into_iter().map(|case| Case { any_ack: true, ..case }).collect()
}
