//! Stage 5 of 5, report: what the page and the API show of the addresses of others. Servers keep theirs: they are what is protected.
//!
//! Changes copies on their way out; the log and the journal have everything.

use crate::config::Addresses;
use crate::detect::incident::{Incident, IncidentKind, Scope};
use crate::report::snapshot::{EmbryonicView, HalfOpenListing, Snapshot};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What stands in the place of an address that is not shown.
const HIDDEN: &str = "hidden";

/// Hides what incidents say of others.
pub(super) fn snapshot(snapshot: &mut Snapshot, addresses: Addresses) {
    if addresses == Addresses::Full {
        return;
    }
    for one in &mut snapshot.incidents {
        incident(one, addresses);
    }
}

/// Hides who asked.
pub(super) fn embryonic(list: &mut [EmbryonicView], addresses: Addresses) {
    for view in list {
        view.originator = words(&view.originator, addresses, None);
    }
}

/// Hides who opened what is half-open, wherever he is named.
pub(super) fn half_open(listing: &mut HalfOpenListing, addresses: Addresses) {
    for found in listing.discovered.iter_mut().chain(&mut listing.suspected) {
        let shown = words(&found.originator, addresses, None);
        for end in [&mut found.crashed, &mut found.stale] {
            if *end == found.originator {
                end.clone_from(&shown);
            }
        }
        found.originator = shown;
    }
}

fn incident(incident: &mut Incident, addresses: Addresses) {
    // A scan is named after its source, a reflection after a victim elsewhere; a flood after a server.
    let foreign = matches!(
        incident.kind,
        IncidentKind::PortScan
            | IncidentKind::HostScan
            | IncidentKind::Reflection
            | IncidentKind::Backscatter
    ) || incident.kind == IncidentKind::DirectFlood && incident.scope == Scope::Host;
    let own = Some(incident.server.clone()).filter(|_| !foreign);
    if foreign {
        incident.server = words(&incident.server, addresses, None);
    }
    for evidence in &mut incident.evidence {
        evidence.text = words(&evidence.text, addresses, own.as_deref());
    }
}

/// A text with every address in it cut or hidden, but for those of `own`.
fn words(text: &str, addresses: Addresses, own: Option<&str>) -> String {
    if addresses == Addresses::Full {
        return text.to_owned();
    }
    let part = |c: char| c.is_ascii_hexdigit() || matches!(c, '.' | ':' | '[' | ']');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c| !part(c)).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        let shown = word(run, addresses, own);
        let kept = shown == run;
        out.push_str(&shown);
        // The length of a prefix that is cut or hidden goes with it.
        let after = if kept { after } else { without_length(after) };
        let plain = after.find(part).unwrap_or(after.len());
        out.push_str(&after[..plain]);
        rest = &after[plain..];
    }
    out
}

/// What follows an address, without the length that makes a prefix of it.
fn without_length(after: &str) -> &str {
    let length = after.strip_prefix('/').map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    length.unwrap_or(after)
}

/// One run of characters that addresses are made of; a full stop or colon behind it is the sentence's.
fn word(run: &str, addresses: Addresses, own: Option<&str>) -> String {
    let trimmed = run.trim_end_matches(['.', ':']);
    // An IPv6 address may end with two colons.
    for candidate in [run, trimmed] {
        let addr = candidate.parse::<IpAddr>().or_else(|_| candidate.parse::<SocketAddr>().map(|at| at.ip()));
        let Ok(addr) = addr else { continue };
        if own.is_some_and(|own| own.contains(candidate) || own.contains(&addr.to_string())) {
            return run.to_owned();
        }
        let shown = if addresses == Addresses::Prefix { prefix(addr) } else { HIDDEN.to_owned() };
        return shown + &run[candidate.len()..];
    }
    run.to_owned()
}

/// The /24, or the /48 of IPv6: what is routed and belongs to somebody.
fn prefix(addr: IpAddr) -> String {
    match addr.to_canonical() {
        IpAddr::V4(v4) => format!("{}/24", Ipv4Addr::from_bits(v4.to_bits() & !0xff)),
        IpAddr::V6(v6) => format!("{}/48", Ipv6Addr::from_bits(v6.to_bits() & !(u128::MAX >> 48))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_a_sentence_is_cut_or_hidden() {
        for (text, cut, hidden) in [
            ("198.51.100.7:4242", "198.51.100.0/24", "hidden"),
            ("[2001:db8:1:2::3]:80", "2001:db8:1::/48", "hidden"),
            (
                "198.18.0.1 failed at 7 ports of 198.51.100.7.",
                "198.18.0.0/24 failed at 7 ports of 198.51.100.0/24.",
                "hidden failed at 7 ports of hidden.",
            ),
            (
                "2001:db8:1:: sent, ::ffff:192.0.2.9 got",
                "2001:db8:1::/48 sent, 192.0.2.0/24 got",
                "hidden sent, hidden got",
            ),
            (
                "0.67 are usual, 1.4 times; 10:42",
                "0.67 are usual, 1.4 times; 10:42",
                "0.67 are usual, 1.4 times; 10:42",
            ),
            (
                "2001:db8:1:2::/64 failed at 80 hosts",
                "2001:db8:1::/48 failed at 80 hosts",
                "hidden failed at 80 hosts",
            ),
            ("a cafe, dead: beef", "a cafe, dead: beef", "a cafe, dead: beef"),
            ("", "", ""),
            ("…é198.18.0.1é", "…é198.18.0.0/24é", "…éhiddené"),
        ] {
            assert_eq!(words(text, Addresses::Prefix, None), cut);
            assert_eq!(words(text, Addresses::None, None), hidden);
            assert_eq!(words(text, Addresses::Full, None), text);
        }
    }

    #[test]
    fn the_server_that_is_protected_keeps_its_name() {
        let text = "198.51.100.10 is asked by 198.18.0.1";
        let shown = words(text, Addresses::None, Some("198.51.100.10:80"));
        assert_eq!(shown, "198.51.100.10 is asked by hidden");
    }
}
