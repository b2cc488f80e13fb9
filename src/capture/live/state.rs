//! Stage 1 of 5, capture: whether an interface is there, when to try again, and drop counters that do not wrap. No clock: the time
//! is handed in.

use super::open::ANY;
use pcap::Device;
use std::time::{Duration, Instant};

/// First pause between tries to open an interface again, and the longest: one that is away for a night is not worth a search a
/// second, and one that comes back should not wait longer than anyone would notice.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What the operating system says of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InterfaceState {
    /// Up and with a link.
    Up,
    /// Taken down, or without a link.
    Down,
    /// Not there.
    Missing,
}

/// The present state; taken for up where it cannot be known. Asks over a socket, so the answer is of this network namespace, which
/// `/sys` need not be.
pub(super) fn of(name: &str) -> InterfaceState {
    let Ok(devices) = Device::list() else { return InterfaceState::Up };
    match devices.iter().find(|device| device.name == name) {
        _ if name == ANY => InterfaceState::Up,
        Some(device) if device.flags.is_up() && device.flags.is_running() => InterfaceState::Up,
        Some(_) => InterfaceState::Down,
        None => InterfaceState::Missing,
    }
}

/// When to try again: after a second, then after twice as long each time, up to five.
#[derive(Debug)]
pub(super) struct Retry {
    at: Instant,
    pause: Duration,
}

impl Retry {
    pub(super) fn new(now: Instant) -> Self {
        Self { at: now + FIRST_PAUSE, pause: FIRST_PAUSE }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.at
    }

    pub(super) fn failed(&mut self, now: Instant) {
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.at = now + self.pause;
    }
}

/// libpcap's 32-bit drop counters as 64-bit ones that go on over a wrap and over a reopening.
#[derive(Debug, Default)]
pub(super) struct DropMeter {
    kernel: Counter,
    interface: Counter,
}

#[derive(Debug, Default)]
struct Counter {
    last: u32,
    total: u64,
}

impl Counter {
    fn read(&mut self, value: u32) {
        self.total += u64::from(value.wrapping_sub(self.last));
        self.last = value;
    }
}

impl DropMeter {
    /// One that goes on from these totals.
    pub(super) fn going_on(kernel: u64, interface: u64) -> Self {
        let from = |total| Counter { last: 0, total };
        Self { kernel: from(kernel), interface: from(interface) }
    }

    /// Takes in what libpcap says now.
    pub(super) fn read(&mut self, kernel: u32, interface: u32) {
        self.kernel.read(kernel);
        self.interface.read(interface);
    }

    /// A new capture counts from zero.
    pub(super) fn reopened(&mut self) {
        self.kernel.last = 0;
        self.interface.last = 0;
    }

    pub(super) fn kernel(&self) -> u64 {
        self.kernel.total
    }

    pub(super) fn interface(&self) -> u64 {
        self.interface.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drop_counters_survive_a_wrap_and_a_reopening() {
        let mut meter = DropMeter::default();
        meter.read(u32::MAX - 1, 5);
        meter.read(3, 5);
        assert_eq!((meter.kernel(), meter.interface()), (u64::from(u32::MAX) + 4, 5));
        meter.reopened();
        meter.read(10, 1);
        assert_eq!((meter.kernel(), meter.interface()), (u64::from(u32::MAX) + 14, 6));
    }

    #[test]
    fn pauses_grow_to_five_seconds_and_no_further() {
        #[allow(clippy::disallowed_methods)] // An origin to count from; the test waits for nothing.
        let mut now = Instant::now();
        let mut retry = Retry::new(now);
        let mut pauses = Vec::new();
        for _ in 0..5 {
            let start = now;
            while !retry.is_due(now) {
                now += Duration::from_millis(100);
            }
            pauses.push((now - start).as_millis());
            retry.failed(now);
        }
        assert_eq!(pauses, [1000, 2000, 4000, 5000, 5000]);
    }
}
