//! What holds of every snapshot, whoever asks and whenever. Of the tests and of the fuzz targets.

use halfopen::report::snapshot::Snapshot;

/// The closing law and the frames' law (`docs/metrics.md`); the attempts that are open.
pub fn counted(snapshot: &Snapshot) -> u64 {
    let counts = &snapshot.handshakes;
    let open = counts.open_syn_sent + counts.open_syn_received;
    assert_eq!(counts.attempts, counts.closed.iter().sum::<u64>() + open, "the closing law");
    let undecoded: u64 = snapshot.frames.undecoded.iter().map(|(_, count)| count).sum();
    assert_eq!(snapshot.frames.read, snapshot.frames.tcp + snapshot.frames.not_tcp + undecoded);
    assert_eq!(snapshot.frames.tcp, snapshot.segments.iter().sum::<u64>());
    open
}
