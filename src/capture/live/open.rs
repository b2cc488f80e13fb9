//! Stage 1 of 5, capture: opening an interface, and saying what stands in the way. May not read a frame.

use crate::capture::filter::{live_expression, message};
use crate::capture::{CaptureError, LinkType};
use crate::config::CaptureConfig;
use pcap::{Active, Capture, Device, Precision};
use std::time::Duration;

/// How long the kernel may keep a block of the ring that is not full. Well under the half second the detector counts in, and long
/// enough that a quiet link wakes us twenty times a second rather than for every frame (that would be immediate mode).
pub const BLOCK_TIMEOUT: Duration = Duration::from_millis(50);

/// The interface that stands for all of them on Linux.
pub(super) const ANY: &str = "any";

/// An interface that is being captured on.
pub(super) struct Opened {
    pub(super) capture: Capture<Active>,
    pub(super) link: LinkType,
}

/// Opens it, non-blocking and filtered.
pub(super) fn open(name: &str, config: &CaptureConfig) -> Result<Opened, CaptureError> {
    // libpcap warns where an interface cannot be promiscuous (`any`, some tunnels), and this binding takes a warning for a failure.
    let promiscuous = config.promiscuous && name != ANY;
    let mut capture = match activate(name, config, promiscuous) {
        Err(error) if promiscuous => activate(name, config, false).map_err(|_| error),
        outcome => outcome,
    }
    .map_err(|error| explain(name, &message(&error)))?;

    let link = LinkType::from_number(capture.get_datalink().0.cast_unsigned());
    // Also because devices that are no network interface (usbmon, D-Bus) have no descriptor to wait on.
    if !link.is_decoded() {
        return Err(CaptureError::LinkType { name: name.to_owned(), link: link.0, link_name: link.name() });
    }
    let expression = live_expression(link, config.filter.as_deref())?;
    capture.filter(&expression, true).map_err(|error| CaptureError::Filter {
        filter: config.filter.clone().unwrap_or_default(),
        why: message(&error),
    })?;
    let capture = capture.setnonblock().map_err(|error| explain(name, &message(&error)))?;
    Ok(Opened { capture, link })
}

fn activate(name: &str, config: &CaptureConfig, promiscuous: bool) -> Result<Capture<Active>, pcap::Error> {
    let inactive = Capture::from_device(name)?
        .snaplen(i32::try_from(config.snaplen).unwrap_or(i32::MAX))
        .buffer_size(i32::try_from(config.buffer).unwrap_or(i32::MAX))
        .promisc(promiscuous)
        .immediate_mode(false)
        .timeout(BLOCK_TIMEOUT.as_millis() as i32);
    // Elsewhere than on Linux libpcap may refuse, and this binding would not tell: stamps would be read a thousandfold.
    if cfg!(target_os = "linux") { inactive.precision(Precision::Nano) } else { inactive }.open()
}

/// The error for what libpcap said.
fn explain(name: &str, why: &str) -> CaptureError {
    let lower = why.to_lowercase();
    if lower.contains("permission") || lower.contains("not permitted") || lower.contains("cap_net_raw") {
        let binary =
            std::env::current_exe().map_or_else(|_| "halfopen".to_owned(), |path| path.display().to_string());
        return CaptureError::NoPermission { name: name.to_owned(), binary };
    }
    let missing = lower.contains("no such device") || lower.contains("doesn't exist");
    if missing || Device::list().is_ok_and(|devices| devices.iter().all(|device| device.name != name)) {
        return CaptureError::NoSuchInterface { name: name.to_owned() };
    }
    let why = if lower.contains("not up") || lower.contains("network is down") {
        format!("it is down; bring it up: ip link set {name} up")
    } else {
        why.to_owned()
    };
    CaptureError::Live { name: name.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_says_what_mends_it() {
        let text = |why| explain("lo", why).to_string();
        assert!(
            text("Attempt to create packet socket failed - CAP_NET_RAW may be required").contains("setcap")
        );
        assert!(text("socket: Operation not permitted").contains("setcap"));
        assert!(text("SIOCETHTOOL ioctl failed: No such device").contains("halfopen interfaces"));
        for why in ["x: Permission denied", "No such device exists", "whatever else"] {
            assert!(!text(why).contains('\n'));
        }
    }

    #[test]
    fn an_interface_that_is_not_there_is_named() {
        let error = open("nosuch0", &CaptureConfig::default()).err().map(|error| error.to_string());
        let error = error.unwrap();
        assert!(error.contains("'nosuch0'"), "{error}");
    }
}
