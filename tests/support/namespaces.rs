//! Two network namespaces joined by a veth pair: `originators` on one end, `servers` on the other.
//!
//! Forged sources (198.18.0.0/15, RFC 2544) are routed from the servers back over the pair, so that the answers to them are on
//! the wire; the originators' end has no such address and does not forward, so it drops them without a word.

use super::process::Process;
use super::{run, skipped};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The address of the originators' end.
pub const ORIGINATOR: &str = "10.199.0.1";
/// The address of the servers' end.
pub const SERVER: &str = "10.199.0.2";
/// The interface of either end, by its namespace.
pub const ORIGINATOR_LINK: &str = "hoveth0";
pub const SERVER_LINK: &str = "hoveth1";
/// Hardware addresses of the two ends.
pub const ORIGINATOR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x0a];
pub const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x0b];

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The pair of namespaces; deleted when dropped, also by a panic.
pub struct Namespaces {
    pub originators: String,
    pub servers: String,
}

impl Namespaces {
    /// Makes them; none, said on the terminal, where this user may not.
    pub fn make() -> Option<Self> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = |end: &str| format!("halfopen-{}-{number}-{end}", std::process::id());
        let made = Self { originators: name("a"), servers: name("b") };
        // The first step tells whether the rest may be done; from here on a failure is one of the test.
        match Command::new("ip").args(["netns", "add", &made.originators]).output() {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr);
                skipped(&format!("live test: needs root and network namespaces: {}", why.trim()));
                return None;
            }
            Err(why) => {
                skipped(&format!(
                    "live test: needs iproute2 ('scripts/setup.sh --tests' installs it): ip: {why}"
                ));
                return None;
            }
        }
        made.set_up();
        Some(made)
    }

    /// A command inside a namespace.
    pub fn command(namespace: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, program]);
        command
    }

    /// Keeps what passes the servers' end of the link and matches, headers only, from when this returns. `buffer` in KiB.
    pub fn record(&self, buffer: u32, filter: &str, into: &Path) -> Process {
        let mut tcpdump = Self::command(&self.servers, "tcpdump");
        tcpdump.args(["-n", "-U", "--immediate-mode", "-s", "96", "-Z", "root", "-i", SERVER_LINK]);
        tcpdump.args(["-B", &buffer.to_string(), "-w"]).arg(into).arg(filter);
        let mut tcpdump = Process::start(&mut tcpdump);
        tcpdump.wait_for_line("listening on", Duration::from_secs(30));
        tcpdump
    }

    fn set_up(&self) {
        let (a, b) = (self.originators.as_str(), self.servers.as_str());
        ip(&["netns", "add", b]);
        for namespace in [a, b] {
            // No neighbour discovery on the wire: every frame there is one that the test sent or provoked.
            // A kernel without IPv6 has nothing to switch off.
            let _ = set(namespace, "net/ipv6/conf/all/disable_ipv6", 1).output();
            let _ = set(namespace, "net/ipv6/conf/default/disable_ipv6", 1).output();
            run(&mut set(namespace, "net/ipv4/ip_forward", 0));
            ip(&["-n", namespace, "link", "set", "lo", "up"]);
        }
        // Answers that meet a full SYN queue must be cookies, not silence.
        run(&mut set(b, "net/ipv4/tcp_syncookies", 1));
        let (mac_a, mac_b) = (mac(ORIGINATOR_MAC), mac(SERVER_MAC));
        let pair = ["link", "add", ORIGINATOR_LINK, "type", "veth", "peer", "name", SERVER_LINK, "netns", b];
        ip(&[&["-n", a], &pair[..]].concat());
        for (namespace, link, mac, address, peer, peer_mac) in [
            (a, ORIGINATOR_LINK, &mac_a, ORIGINATOR, SERVER, &mac_b),
            (b, SERVER_LINK, &mac_b, SERVER, ORIGINATOR, &mac_a),
        ] {
            ip(&["-n", namespace, "link", "set", link, "address", mac, "up"]);
            ip(&["-n", namespace, "address", "add", &format!("{address}/30"), "dev", link]);
            let to = ["neighbour", "replace", peer, "lladdr", peer_mac, "dev", link, "nud", "permanent"];
            ip(&[&["-n", namespace], &to[..]].concat());
        }
        ip(&["-n", b, "route", "add", "198.18.0.0/15", "via", ORIGINATOR]);
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for namespace in [&self.originators, &self.servers] {
            // The pair goes with either end.
            let _ = Command::new("ip").args(["netns", "delete", namespace]).output();
        }
    }
}

/// The command that sets a kernel setting of a namespace, without a program that minimal systems lack.
fn set(namespace: &str, setting: &str, value: u8) -> Command {
    let mut command = Namespaces::command(namespace, "sh");
    command.args(["-c", &format!("echo {value} > /proc/sys/{setting}")]);
    command
}

fn ip(arguments: &[&str]) {
    run(Command::new("ip").args(arguments));
}

fn mac(octets: [u8; 6]) -> String {
    octets.map(|octet| format!("{octet:02x}")).join(":")
}
