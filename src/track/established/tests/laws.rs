//! What holds for any conversation, and for any segments.

use super::*;
use proptest::prelude::*;

/// What a well-behaved pair does next.
#[derive(Debug, Clone)]
enum Act {
    /// One side sends; the other acknowledges after so many milliseconds, unless its answer is data of its own.
    Data { by: usize, len: u16, lost: u8, delay: u64, answer: u16 },
    /// A keepalive and its answer.
    Keepalive { by: usize, lost: u8 },
    /// Nothing, for seconds.
    Silence(u64),
    /// A forged SYN that the other side challenges.
    Forged { by: usize, isn: u32, again: bool },
}

/// How a conversation ends.
#[derive(Debug, Clone)]
enum End {
    Fin { by: usize, data_after: bool },
    Abort { by: usize, bare: bool },
    Open,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (0usize..2, 1u16..1460, 0u8..4, 0u64..300, prop_oneof![Just(0u16), 1u16..1460])
            .prop_map(|(by, len, lost, delay, answer)| Act::Data { by, len, lost, delay, answer }),
        2 => (0usize..2, 0u8..2).prop_map(|(by, lost)| Act::Keepalive { by, lost }),
        2 => (0u64..10_000).prop_map(Act::Silence),
        1 => (0usize..2, any::<u32>(), any::<bool>()).prop_map(|(by, isn, again)| Act::Forged { by, isn, again }),
    ]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        3 => (0usize..2, any::<bool>()).prop_map(|(by, data_after)| End::Fin { by, data_after }),
        2 => (0usize..2, any::<bool>()).prop_map(|(by, bare)| End::Abort { by, bare }),
        1 => Just(End::Open),
    ]
}

/// A pair of stacks that lose nothing of their state; segments may be lost, before us or behind us.
struct Pair<'a> {
    world: &'a mut World,
    ends: [Endpoint; 2],
    next: [u32; 2],
    acked: [u32; 2],
}

impl Pair<'_> {
    fn say(&mut self, by: usize, flags: u8, seq: u32, len: u16) {
        let (from, to) = (self.ends[by], self.ends[1 - by]);
        self.acked[by] = self.next[1 - by];
        self.world.send(from, to, flags, seq, self.acked[by], len);
    }

    fn open(&mut self, gap: u64) {
        self.world.send(self.ends[0], self.ends[1], SYN, self.next[0], 0, 0);
        self.next[0] = self.next[0].wrapping_add(1);
        self.world.wait(gap);
        self.world.send(self.ends[1], self.ends[0], SYN | ACK, self.next[1], self.next[0], 0);
        self.next[1] = self.next[1].wrapping_add(1);
        self.world.wait(gap);
        self.acked[1] = self.next[0];
        self.say(0, ACK, self.next[0], 0);
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Data { by, len, lost, delay, answer } => {
                let seq = self.next[by];
                self.say(by, ACK | TcpFlags::PSH, seq, len);
                for retry in 0..lost {
                    self.world.wait(200 << retry);
                    self.say(by, ACK | TcpFlags::PSH, seq, len);
                }
                self.next[by] = seq.wrapping_add(u32::from(len));
                self.world.wait(delay);
                let own = self.next[1 - by];
                self.say(1 - by, ACK, own, answer);
                self.next[1 - by] = own.wrapping_add(u32::from(answer));
                if answer > 0 {
                    self.world.wait(delay);
                    let seq = self.next[by];
                    self.say(by, ACK, seq, 0);
                }
            }
            Act::Keepalive { by, lost } => {
                for _ in 0..=lost {
                    self.world.wait(75_000);
                    let seq = self.next[by].wrapping_sub(1);
                    self.say(by, ACK, seq, 0);
                }
                let seq = self.next[1 - by];
                self.say(1 - by, ACK, seq, 0);
            }
            Act::Silence(seconds) => self.world.wait(seconds * 1000),
            Act::Forged { by, isn, again } => {
                for _ in 0..=usize::from(again) {
                    self.world.send(self.ends[by], self.ends[1 - by], SYN, isn, 0, 0);
                    let seq = self.next[1 - by];
                    self.say(1 - by, ACK, seq, 0);
                    self.world.wait(1000);
                }
            }
        }
    }

    fn end(&mut self, end: &End) {
        match *end {
            End::Fin { by, data_after } => {
                let seq = self.next[by];
                self.say(by, FIN | ACK, seq, 0);
                self.next[by] = seq.wrapping_add(1);
                let seq = self.next[1 - by];
                if data_after {
                    self.say(1 - by, ACK, seq, 100);
                    self.world.wait(1);
                    self.world.send(self.ends[by], self.ends[1 - by], RST, self.next[by], 0, 0);
                } else {
                    self.say(1 - by, FIN | ACK, seq, 0);
                    self.next[1 - by] = seq.wrapping_add(1);
                    let seq = self.next[by];
                    self.say(by, ACK, seq, 0);
                }
            }
            End::Abort { by, bare } => {
                // In order, after everything was acknowledged: some stacks abort with a bare reset.
                let seq = self.next[by];
                self.say(by, ACK, seq, 0);
                self.say(by, if bare { RST } else { RST | ACK }, seq, 0);
                let seq = self.next[1 - by];
                self.say(1 - by, ACK, seq, 0);
            }
            End::Open => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Several conversations on few tuples: ports are used again, after FINs, aborts, or silence.
    #[test]
    fn who_keeps_his_state_is_never_discovered(
        conversations in proptest::collection::vec(
            (0u32..3, any::<[u32; 2]>(), 0u64..200, proptest::collection::vec(act(), 0..12), end(), 0u64..100_000),
            1..6,
        )
    ) {
        let mut world = World::new(EstablishedConfig { memory: 4096, ..EstablishedConfig::default() });
        for (number, isns, gap, acts, end, pause) in conversations {
            let ends = [client(number), SERVER];
            let mut pair = Pair { world: &mut world, ends, next: isns, acked: [0; 2] };
            pair.open(gap);
            for act in &acts {
                pair.act(act);
            }
            pair.end(&end);
            world.wait(pause);
        }
        prop_assert_eq!(world.found(), []);
        prop_assert_eq!(world.table.established.suspects.len(), 0);
    }

    /// Anything at all: nothing panics, nothing grows, and what was counted up is counted down.
    #[test]
    fn counts_hold_for_any_segments(
        segments in proptest::collection::vec(
            (0u32..4, any::<bool>(), any::<u8>(), 0usize..8, 0usize..8, 0u16..3, 0u64..20_000), 1..200,
        )
    ) {
        const NUMBERS: [u32; 8] = [98, 99, 100, 101, 299, 300, 301, 400];
        let mut world = World::new(EstablishedConfig { memory: 256, ..EstablishedConfig::default() });
        for number in 0..4 {
            world.connect(number);
        }
        for (number, by_server, flags, seq, ack, len, gap) in segments {
            let (from, to) = if by_server { (SERVER, client(number)) } else { (client(number), SERVER) };
            world.send(from, to, flags, NUMBERS[seq], NUMBERS[ack], len);
            world.wait(gap);
        }
        let established = &world.table.established;
        let (mut held, mut suspected, mut reconnecting) = (0, 0, 0);
        for line in &established.lines {
            let set = line.0.lock().unwrap();
            for way in (0..WAYS).filter(|&way| set.fingerprints[way] != 0) {
                held += 1;
                suspected += usize::from(set.ways[way].is_suspected());
                reconnecting += usize::from(set.ways[way].is_reconnecting());
            }
        }
        prop_assert_eq!(established.len(), held);
        prop_assert!(held <= established.limit());
        prop_assert!(established.suspects.len() <= suspected);
        prop_assert_eq!(established.reconnecting.load(Ordering::Relaxed), reconnecting);
    }
}
