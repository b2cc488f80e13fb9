//! Stage 1 of 5, capture: what can be captured on, and what is captured on where nothing is said. May not read a frame.

use super::{CaptureError, LinkType};
use pcap::{Capture, Device};
use std::net::IpAddr;

/// An interface, as `halfopen interfaces` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceInfo {
    /// Its name, as `-i` takes it.
    pub name: String,
    /// Its link type; none where it cannot be opened, for want of the right or because it is down.
    pub link: Option<LinkType>,
    /// Configured up.
    pub up: bool,
    /// With a link.
    pub running: bool,
    /// The loopback.
    pub loopback: bool,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// libpcap's description.
    pub description: Option<String>,
}

impl InterfaceInfo {
    /// libpcap's name of its link type, or `-`.
    pub fn link_name(&self) -> String {
        self.link.map_or_else(|| "-".to_owned(), LinkType::name)
    }

    /// Its state in a few words: `up`, `up,running`, `up,running,loopback`, `down`.
    pub fn state(&self) -> String {
        let words = [(self.up, "up"), (self.running, "running"), (self.loopback, "loopback")];
        let set: Vec<&str> = words.into_iter().filter_map(|(is, word)| is.then_some(word)).collect();
        if self.up { set.join(",") } else { "down".to_owned() }
    }
}

/// Every interface libpcap knows, in its order (best candidates first). Each is opened once to learn its link type.
///
/// # Errors
/// [`CaptureError::Live`] where the list cannot be had.
pub fn interfaces() -> Result<Vec<InterfaceInfo>, CaptureError> {
    let devices = Device::list().map_err(|error| CaptureError::Live {
        name: "*".to_owned(),
        why: format!("interfaces cannot be listed: {}", super::filter::message(&error)),
    })?;
    Ok(devices.into_iter().map(described).collect())
}

fn described(device: Device) -> InterfaceInfo {
    let link = Capture::from_device(device.name.as_str())
        .and_then(|inactive| inactive.promisc(false).buffer_size(1 << 20).open())
        .map(|capture| LinkType::from_number(capture.get_datalink().0.cast_unsigned()))
        .ok();
    InterfaceInfo {
        link,
        up: device.flags.is_up(),
        running: device.flags.is_running(),
        loopback: device.flags.is_loopback(),
        addresses: device.addresses.into_iter().map(|address| address.addr).collect(),
        description: device.desc,
        name: device.name,
    }
}

/// The interface of the default route: of IPv4, else of IPv6, else libpcap's first choice if that is a real link.
///
/// # Errors
/// [`CaptureError::NoDefaultRoute`] where there is none.
pub fn default_route_interface() -> Result<String, CaptureError> {
    let table = |path| std::fs::read_to_string(path).unwrap_or_default();
    if let Some(name) =
        default_ipv4(&table("/proc/net/route")).or_else(|| default_ipv6(&table("/proc/net/ipv6_route")))
    {
        return Ok(name);
    }
    match Device::lookup() {
        Ok(Some(device))
            if !device.flags.is_loopback() && device.name != "any" && !device.addresses.is_empty() =>
        {
            Ok(device.name)
        }
        _ => Err(CaptureError::NoDefaultRoute),
    }
}

/// Route flags of Linux (include/uapi/linux/route.h): usable, and a route that rejects.
const RTF_UP: u32 = 0x1;
const RTF_REJECT: u32 = 0x200;

/// From `/proc/net/route`: interface, destination, gateway, flags, -, -, metric, mask; numbers in hexadecimal but for the metric.
fn default_ipv4(table: &str) -> Option<String> {
    let routes = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [name, destination, _, flags, _, _, metric, mask, ..] = fields.as_slice() else { return None };
        let is_default = *destination == "00000000" && *mask == "00000000" && usable(flags);
        is_default.then(|| (metric.parse::<u32>().unwrap_or(u32::MAX), (*name).to_owned()))
    });
    routes.min_by_key(|(metric, _)| *metric).map(|(_, name)| name)
}

/// From `/proc/net/ipv6_route`: destination, prefix length, source, its length, next hop, metric, -, -, flags, interface.
fn default_ipv6(table: &str) -> Option<String> {
    let routes = table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [destination, length, _, _, _, metric, _, _, flags, name] = fields.as_slice() else {
            return None;
        };
        let is_default =
            destination.bytes().all(|byte| byte == b'0') && *length == "00" && usable(flags) && *name != "lo";
        is_default.then(|| (u32::from_str_radix(metric, 16).unwrap_or(u32::MAX), (*name).to_owned()))
    });
    routes.min_by_key(|(metric, _)| *metric).map(|(_, name)| name)
}

fn usable(flags: &str) -> bool {
    u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & RTF_UP != 0 && flags & RTF_REJECT == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ipv4_default_route_of_the_lowest_metric_wins() {
        let table = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
wlan0\t00000000\t0100A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
eth1\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
dead0\t00000000\t0101A8C0\t0200\t0\t0\t0\t00000000\t0\t0\t0
half\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000080\t0\t0\t0
";
        assert_eq!(default_ipv4(table).as_deref(), Some("eth1"));
        assert_eq!(default_ipv4("Iface\n"), None);
        assert_eq!(default_ipv4("torn\nrow 1"), None);
    }

    #[test]
    fn the_ipv6_reject_route_on_lo_is_no_route() {
        let zero = "00000000000000000000000000000000";
        let table = format!(
            "{zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth0\n\
             {zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200 lo\n"
        );
        assert_eq!(default_ipv6(&table).as_deref(), Some("eth0"));
        assert_eq!(default_ipv6(&table[table.find('\n').unwrap() + 1..]), None);
    }

    #[test]
    fn state_in_words() {
        let mut info = InterfaceInfo {
            name: "x".into(),
            link: None,
            up: true,
            running: true,
            loopback: false,
            addresses: vec![],
            description: None,
        };
        assert_eq!((info.state().as_str(), info.link_name().as_str()), ("up,running", "-"));
        info.up = false;
        assert_eq!(info.state(), "down");
    }
}
