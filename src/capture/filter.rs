//! Stage 1 of 5, capture: BPF expressions: what is always left to the kernel to drop, and a user's own, made to see behind tags.
//!
//! May not look into a frame itself: libpcap compiles, the kernel or libpcap's interpreter matches.
//!
//! # What the kernel drops for us
//!
//! Only what can hold no TCP segment that decode would find: ARP, ICMP, and UDP that is no tunnel. The tempting filters all lose
//! traffic without a word:
//!
//! - `tcp` loses all that is not TCP directly over IP directly over an untagged frame: in-frame VLAN tags, MPLS, PPPoE, GRE, IP in
//!   IP, VXLAN, Geneve, GTP-U, and IPv6 with extension headers (pcap-filter(7): `tcp` does not chase the header chain).
//! - `tcp[tcpflags] & (tcp-syn|tcp-rst|tcp-fin) != 0` also loses the ACK that completes a handshake, without which every attempt
//!   looks abandoned. No filter of single packets can tell that ACK from data.
//! - `tcp or vlan and tcp or ...`: the first `vlan` or `mpls` shifts every offset after it, parentheses or not, so that a list of
//!   encapsulations cannot be written as alternatives.
//!
//! So ours names what to drop rather than what to keep; whatever it does not recognise reaches decode, which counts it. Linux takes
//! the outer VLAN tag off a received frame before filters see it and libpcap puts it back afterwards: an expression on the
//! untagged frame is then right as it stands, and in-frame tags (a second tag, sent frames, files) have another ethertype and pass.

use super::{CaptureError, LinkType};
use pcap::{BpfProgram, Capture, Precision};

/// UDP ports whose payload is a packet again: GTP-U (3GPP TS 29.281), VXLAN (RFC 7348 section 5), GRE in UDP (RFC 8086 section 7),
/// Geneve (RFC 8926 section 3.3), MPLS in UDP (RFC 7510 section 3), Teredo (RFC 4380 section 2.7), the port of VXLAN in Linux before it had its own,
/// and IPsec and L2TP, which decode may come to follow.
const TUNNEL_PORTS: [u16; 9] = [2152, 4789, 4754, 6081, 6635, 3544, 8472, 4500, 1701];

/// Tags that a frame's ethertype can announce: 802.1Q, 802.1ad, and the number used for stacked tags before 802.1ad.
const TAGS: &str = "(ether proto 0x8100 or ether proto 0x88a8 or ether proto 0x9100)";

/// What we drop, as an expression that matches all the rest.
///
/// IPv6 is asked for its next header directly: `udp` would also match a fragment of UDP, whose ports the port tests do not find
/// behind the fragment header, and so lose a fragmented tunnel packet's first part.
fn ours() -> String {
    let ports: Vec<String> = TUNNEL_PORTS.iter().map(|port| format!("udp port {port}")).collect();
    let tunnel = ports.join(" or ");
    format!(
        "not (arp or (ip and (icmp or (udp and not ({tunnel})))) \
         or (ip6 and (ip6[6] = 58 or (ip6[6] = 17 and not ({tunnel})))))"
    )
}

/// The whole expression for a live capture: ours, and the user's where there is one.
///
/// # Errors
/// [`CaptureError::Filter`] where the user's does not compile for this link type; the message is about what the user wrote.
pub fn live_expression(link: LinkType, user: Option<&str>) -> Result<String, CaptureError> {
    let Some(user) = user.map(str::trim).filter(|user| !user.is_empty()) else { return Ok(ours()) };
    // Alone first, on a live capture's terms: `inbound` and the like compile there only, so a refusal here is not the last word;
    // but a closing parenthesis too many must not be able to end ours.
    if let Err(why) = compile(link, user)
        && !needs_live_capture(&why)
    {
        return Err(refused(user, why));
    }
    Ok(format!("({}) and ({})", ours(), behind_tags(link, user)))
}

/// Words of libpcap's message for what only a live capture can be asked.
fn needs_live_capture(why: &str) -> bool {
    why.contains("not supported") && why.contains("savefile") || why.contains("not a live capture")
}

/// A user's expression that means the same on an untagged frame, behind one tag, and behind two.
///
/// `vlan` moves every later offset by one tag, for the rest of the expression, so each alternative is written behind the one
/// before it, and each but the last asks first that no further tag follows: otherwise `not port 80` would match every tagged frame.
/// An expression that speaks of tags or labels itself is taken as it is. Link types without ethertypes at a fixed place (such as
/// that of `any`) have no `vlan`; there, what lies behind an in-frame tag is not matched.
/// What MPLS, PPPoE and tunnels carry is matched only where the expression names them: `port 80 or proto gre or mpls` (`mpls` last: it moves offsets too).
///
/// `inbound` and `outbound` are libpcap's to keep: 1.10.3 runs the filter a second time over the first turn of the ring, where it
/// does not know the direction, and matches nothing until then (tcpdump likewise).
pub fn behind_tags(link: LinkType, user: &str) -> String {
    const OWN_OFFSETS: [&str; 5] = ["vlan", "mpls", "pppoes", "pppoed", "geneve"];
    let words = user.split(|c: char| !c.is_ascii_alphanumeric());
    if link != LinkType::ETHERNET || words.into_iter().any(|word| OWN_OFFSETS.contains(&word)) {
        return user.to_owned();
    }
    format!(
        "(not {TAGS} and ({user}\n)) or (vlan and ((not {TAGS} and ({user}\n)) or (vlan and ({user}\n))))"
    )
}

/// Whether an expression compiles for any link type that decode follows, or could on a live capture.
///
/// # Errors
/// What libpcap says where it does not.
pub fn check(expression: &str) -> Result<(), String> {
    let Err(why) = compile(LinkType::ETHERNET, expression) else { return Ok(()) };
    let elsewhere = LinkType::DECODED.iter().any(|link| compile(*link, expression).is_ok());
    if elsewhere || needs_live_capture(&why) { Ok(()) } else { Err(why) }
}

fn compile(link: LinkType, expression: &str) -> Result<BpfProgram, String> {
    Capture::dead_with_precision(link.to_pcap(), Precision::Nano)
        .and_then(|capture| capture.compile(expression, true))
        .map_err(|error| message(&error))
}

/// What libpcap says, on one line.
pub(super) fn message(error: &pcap::Error) -> String {
    let text = if let pcap::Error::PcapError(text) = error { text.clone() } else { error.to_string() };
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn refused(filter: &str, why: String) -> CaptureError {
    CaptureError::Filter { filter: filter.to_owned(), why }
}

/// A user's expression over files, which may hold several link types.
pub(super) struct ReplayFilter {
    expression: String,
    /// Compiled at the first frame of each link type; none: it means nothing there, and nothing there matches.
    programs: Vec<(LinkType, Option<BpfProgram>)>,
}

impl ReplayFilter {
    /// Checks that the expression compiles for at least one link type that decode follows.
    pub(super) fn new(expression: &str) -> Result<Self, CaptureError> {
        let expression = expression.trim();
        if let Err(why) = compile(LinkType::ETHERNET, expression)
            && !LinkType::DECODED.iter().any(|link| compile(*link, expression).is_ok())
        {
            return Err(refused(expression, why));
        }
        Ok(Self { expression: expression.to_owned(), programs: Vec::new() })
    }

    /// Compiles for the only link type there will be, if frames of it are looked into at all.
    pub(super) fn require(&mut self, link: LinkType) -> Result<(), CaptureError> {
        if !link.is_decoded() {
            return Ok(());
        }
        let program = compile(link, &behind_tags(link, &self.expression))
            .map_err(|why| refused(&self.expression, why))?;
        self.programs.push((link, Some(program)));
        Ok(())
    }

    /// Whether a frame matches. One of a link type that nobody decodes always does: it has to be counted as that.
    #[inline]
    pub(super) fn passes(&mut self, link: LinkType, data: &[u8]) -> bool {
        if let Some((_, program)) = self.programs.iter().find(|(known, _)| *known == link) {
            return program.as_ref().is_some_and(|program| program.filter(data));
        }
        self.meet(link, data)
    }

    #[cold]
    fn meet(&mut self, link: LinkType, data: &[u8]) -> bool {
        // Not remembered: a file may have as many of these as there are numbers.
        if !link.is_decoded() {
            return true;
        }
        let program = compile(link, &behind_tags(link, &self.expression)).ok();
        let passes = program.as_ref().is_some_and(|program| program.filter(data));
        self.programs.push((link, program));
        passes
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
