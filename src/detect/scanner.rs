//! Stage 4 of 5, detect: what it is that one source does, by what it failed at. Pure functions over figures.

use super::classify::share;
use super::incident::IncidentKind;

/// What the failures of one source look like.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct SourceFeatures {
    /// Failed attempts in the last minute.
    pub(super) failed: f64,
    /// Of these, with a SYN-ACK that it neither acknowledged nor reset.
    pub(super) unacknowledged: f64,
    /// Of these, reset by the responder.
    pub(super) refused: f64,
    /// Of these, unanswered, and with a SYN without any option, as no stack sends it.
    pub(super) bare: f64,
    /// Distinct servers.
    pub(super) servers: f64,
    /// Distinct hosts.
    pub(super) hosts: f64,
    /// Distinct ports.
    pub(super) ports: f64,
    /// Failures a second in the last bin.
    pub(super) rate: f64,
    /// Of these, not refused. A port that refuses keeps nothing of the attempt (RFC 9293 section 3.10.7.1): no queue fills.
    pub(super) left_rate: f64,
}

/// Servers that a forged victim's SYNs go to, at least, to be reflection rather than a flood.
const REFLECTORS: f64 = 4.0;
/// Attempts left hanging at each port that make a flood of a fast scan. A scanner asks each port once, and up to three times more where
/// nothing comes back; the estimate of the ports may be an eighth too low. A flood of one source over many ports has no more than
/// 65,535 of them, and comes round again and again.
pub(super) const EACH_PORT: f64 = 5.0;

impl SourceFeatures {
    /// Attempts that nobody refused, to each port of a host that it failed at.
    pub(super) fn left_each(&self) -> f64 {
        share(self.failed - self.refused, self.servers)
    }

    /// What it is, if anything. `ports` and `hosts` are the thresholds, `flood` the rate that makes a flood of a scan
    /// that repeats itself, or whose SYNs are no stack's.
    pub(super) fn verdict(&self, ports: f64, hosts: f64, flood: f64) -> Option<IncidentKind> {
        // A forged victim: many SYN-ACKs go to it from many of our servers, again and again, and it never says a word.
        if self.failed >= 2.0 * hosts
            && self.unacknowledged >= 0.7 * self.failed
            && self.servers >= REFLECTORS
            && self.failed >= 3.0 * self.servers
        {
            return Some(IncidentKind::Reflection);
        }
        // However fast, whoever asks each port a few times is looking for open ones; a flood repeats itself.
        if self.servers >= ports && self.servers >= 4.0 * self.hosts {
            // Within its first seconds a flood of random ports has hardly come to one twice. Scanners of today take a stack's options.
            let is_of_tool = self.bare >= 0.5 * (self.failed - self.refused);
            let floods = self.left_rate >= flood && (self.left_each() >= EACH_PORT || is_of_tool);
            return Some(if floods { IncidentKind::DirectFlood } else { IncidentKind::PortScan });
        }
        // The same few ports on many hosts. Peers of a file-sharing client have a port each, and do not count.
        if self.hosts >= hosts && self.hosts >= 4.0 * self.ports {
            return Some(IncidentKind::HostScan);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_known_by_what_it_fails_at() {
        let of = |failed, unacknowledged, servers, hosts, ports, rate| SourceFeatures {
            failed,
            unacknowledged,
            refused: 0.0,
            bare: 0.0,
            servers,
            hosts,
            ports,
            rate,
            left_rate: rate,
        };
        let told = |features: SourceFeatures| features.verdict(15.0, 30.0, 4000.0);
        let judge = |failed, unacknowledged, servers, hosts, ports, rate| {
            told(of(failed, unacknowledged, servers, hosts, ports, rate))
        };
        // A thousand ports of one host.
        assert_eq!(judge(2000.0, 3.0, 1000.0, 1.0, 1000.0, 90.0), Some(IncidentKind::PortScan));
        // Every port of a host, three times each and at once: still a scan.
        assert_eq!(judge(196_605.0, 0.0, 65_535.0, 1.0, 65_535.0, 100_000.0), Some(IncidentKind::PortScan));
        // Every port again and again at that rate is none; slower than any flood it is.
        assert_eq!(judge(400_000.0, 0.0, 65_535.0, 1.0, 65_535.0, 12_000.0), Some(IncidentKind::DirectFlood));
        assert_eq!(judge(400_000.0, 0.0, 65_535.0, 1.0, 65_535.0, 3000.0), Some(IncidentKind::PortScan));
        // Nor are SYNs without any option at that rate; slower they may be an old scanner's.
        let bare =
            |rate| SourceFeatures { bare: 12_000.0, ..of(13_000.0, 0.0, 12_000.0, 1.0, 12_000.0, rate) };
        assert_eq!(told(bare(12_000.0)), Some(IncidentKind::DirectFlood));
        assert_eq!(told(bare(3000.0)), Some(IncidentKind::PortScan));
        // What is refused neither holds a queue nor repeats anything.
        let many = of(400_000.0, 0.0, 9000.0, 1.0, 9000.0, 12_000.0);
        let refused = SourceFeatures { refused: 390_000.0, left_rate: 300.0, ..many };
        assert_eq!(
            (told(many), told(refused)),
            (Some(IncidentKind::DirectFlood), Some(IncidentKind::PortScan))
        );
        assert_eq!(told(SourceFeatures { refused: 390_000.0, ..many }), Some(IncidentKind::PortScan));
        // One port of 256 hosts.
        assert_eq!(judge(509.0, 0.0, 256.0, 256.0, 1.0, 300.0), Some(IncidentKind::HostScan));
        // Open ports everywhere and a scanner that says nothing: still a sweep, each server once.
        assert_eq!(judge(256.0, 250.0, 256.0, 256.0, 1.0, 300.0), Some(IncidentKind::HostScan));
        // Fifty reflectors, each again and again, and the victim silent.
        assert_eq!(judge(2000.0, 1990.0, 50.0, 50.0, 1.0, 200.0), Some(IncidentKind::Reflection));
        // A file-sharing client: seventy dead peers, a port each.
        assert_eq!(judge(70.0, 0.0, 70.0, 68.0, 66.0, 1.0), None);
        // A client whose one server is down.
        assert_eq!(judge(500.0, 0.0, 1.0, 1.0, 1.0, 10.0), None);
    }
}
