//! Conversations segment by segment: their times, their numbers, the figures of RFC 9293.

use super::*;
use std::net::Ipv4Addr;

fn conversation(script: Script) -> Conversation {
    Conversation {
        orig: Endpoint::new(Ipv4Addr::new(198, 51, 100, 7).into(), 50_000),
        resp: Endpoint::new(Ipv4Addr::new(192, 0, 2, 10).into(), 80),
        orig_isn: 1_000,
        resp_isn: u32::MAX, // the first data byte wraps
        rtt: Duration::from_millis(20),
        answer: Duration::from_micros(50),
        idle: Duration::from_millis(200),
        look: Look::STACK,
        script,
    }
}

const ALL: [Script; 19] = [
    Script::Exchange { lost_syns: 0, up: 2, down: 3, close: Close::Fin },
    Script::Exchange { lost_syns: 3, up: 1, down: 0, close: Close::Fin },
    Script::Exchange { lost_syns: 0, up: 0, down: 2, close: Close::Reset },
    Script::Exchange { lost_syns: 0, up: 1, down: 1, close: Close::Never },
    Script::Refused,
    Script::Unanswered { syns: 7 },
    Script::Abandoned { syn_acks: 6 },
    Script::InVain { beyond: 1, after: 20, syn_acks: 6 },
    Script::Guessed { syn_acks: 6 },
    Script::Guessed { syn_acks: 0 },
    Script::InVain { beyond: 0, after: 1500, syn_acks: 3 },
    Script::ResetByOriginator,
    Script::FastOpen,
    Script::SimultaneousOpen,
    Script::AcceptOverflow { again: 5 },
    Script::Reconnect,
    Script::ResetOnData,
    Script::StraySynAck { copies: 3 },
    Script::StrayReset,
];

fn steps(script: Script) -> Vec<Step> {
    let conversation = conversation(script);
    (0..).map_while(|n| conversation.step(n)).collect()
}

fn seconds(script: Script, flags: u8) -> Vec<u64> {
    let chosen = steps(script).into_iter().filter(|step| step.packet.flags == flags);
    chosen.map(|step| step.after.as_secs()).collect()
}

#[test]
fn time_never_goes_back() {
    for script in ALL {
        let steps = steps(script);
        assert!(steps.windows(2).all(|pair| pair[0].after <= pair[1].after), "{script:?}: {steps:#?}");
        assert!(steps.iter().all(|s| s.from_originator == (s.packet.src.port == 50_000)), "{script:?}");
    }
}

/// The lists are RFC 6298's doubling from 1 s, as Linux's defaults (tcp_syn_retries 6, tcp_synack_retries 5) cut them off.
#[test]
fn retransmissions_follow_the_linux_schedule() {
    assert_eq!(seconds(Script::Unanswered { syns: 7 }, SYN), [0, 1, 3, 7, 15, 31, 63]);
    assert_eq!(seconds(Script::Abandoned { syn_acks: 6 }, SYN | ACK), [0, 1, 3, 7, 15, 31]);
    assert_eq!(seconds(Script::Abandoned { syn_acks: 1 }, SYN | ACK), [0]);
    let in_vain = |beyond, after| Script::InVain { beyond, after, syn_acks: 6 };
    for script in [in_vain(0, 20), in_vain(1, 20), in_vain(0, 3500), in_vain(1, 1000)] {
        assert_eq!(seconds(script, SYN | ACK), [0, 1, 3, 7, 15, 31], "{script:?}");
        assert_eq!(seconds(script, ACK).len(), 1);
    }
    assert_eq!(seconds(Script::AcceptOverflow { again: 5 }, SYN | ACK), [0, 1, 3, 7, 15, 31]);
    let late = Script::Exchange { lost_syns: 2, up: 0, down: 0, close: Close::Fin };
    assert_eq!(seconds(late, SYN), [0, 1, 3]);
    assert_eq!(seconds(late, SYN | ACK), [3]);
}

/// What each end acknowledges is what the other has sent: a ledger of the two streams, kept apart from the code above.
#[test]
fn sequence_numbers_fit_in_every_exchange() {
    for script in &ALL[..4] {
        let mut next = [None, None];
        for step in steps(*script) {
            let (mine, theirs) = if step.from_originator { (0, 1) } else { (1, 0) };
            let packet = step.packet;
            let retransmitted = packet.flags == SYN && next[0].is_some();
            if let (Some(expected), false) = (next[mine], retransmitted) {
                assert_eq!(packet.seq, expected, "{script:?} {packet:?}");
            }
            if packet.flags & ACK != 0 {
                assert_eq!(Some(packet.ack), next[theirs], "{script:?} {packet:?}");
            }
            let occupies = u32::from(packet.flags & (SYN | FIN) != 0) + u32::from(packet.payload_len);
            next[mine] = Some(packet.seq.wrapping_add(occupies));
        }
    }
}

#[test]
fn a_reset_by_the_originator_takes_the_number_it_was_given() {
    let reset = steps(Script::ResetByOriginator)[2].packet;
    assert_eq!((reset.flags, reset.seq, reset.ack), (RST, 1_001, 0));
}

/// RFC 9293 figure 7, line by line.
#[test]
fn simultaneous_open_is_the_figure() {
    let seen: Vec<_> = steps(Script::SimultaneousOpen)
        .iter()
        .map(|s| (s.from_originator, s.packet.flags, s.packet.seq, s.packet.ack))
        .collect();
    assert_eq!(
        seen,
        [
            (true, SYN, 1_000, 0),
            (false, SYN, u32::MAX, 0),
            (false, SYN | ACK, u32::MAX, 1_001),
            (true, SYN | ACK, 1_000, 0),
        ]
    );
}

/// RFC 9293 figure 9: the reset's number is the challenge's acknowledgement, and the SYN comes again unchanged.
#[test]
fn reconnect_is_the_figure() {
    let steps = steps(Script::Reconnect);
    let kinds: Vec<_> = steps.iter().map(|s| s.packet.flags).collect();
    assert_eq!(kinds, [SYN, SYN | ACK, ACK, SYN, ACK, RST, SYN, SYN | ACK, ACK]);
    assert_eq!(steps[5].packet.seq, steps[4].packet.ack);
    assert_eq!(steps[3].packet.seq, steps[6].packet.seq);
    assert_ne!(steps[4].packet.ack, steps[3].packet.seq.wrapping_add(1));
}

#[test]
fn a_fast_open_syn_is_acknowledged_with_its_data() {
    let steps = steps(Script::FastOpen);
    assert_eq!(steps[0].packet.payload_len, 64);
    assert_eq!(steps[1].packet.ack, 1_000 + 1 + 64);
}
