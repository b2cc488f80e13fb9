//! Stage 1 of 5, capture: frames from an interface, through libpcap. Does not look into a frame.
//!
//! The only place on the packet path that reads a clock, and only while nothing comes: network time must go on for expiry.
//! Frames carry the kernel's stamps as they are.
//!
//! How it waits: libpcap is non-blocking and the wait is a poll(2) of at most [`WAIT`], because on Linux libpcap's own timeout does
//! not begin before the first packet: a blocking read on a silent link never returns, and no signal reaches it. How it reads: in
//! batches, copied out of the ring. The copy is of the snapshot length at most, and it gives a block of the ring back to
//! the kernel before its frames are processed rather than after.
//!
//! What libpcap shows: on `lo` each packet once (it drops the outgoing copy); on `any` once for each interface it passes, so a
//! bridge and its port, or a tunnel and its carrier, show it twice, in cooked form ([`LinkType::LINUX_SLL`]).

mod batch;
mod open;
mod state;

use super::stop::StopHandle;
use super::{CaptureError, FrameSource, InterfaceCounters, LinkType, SourceEvent};
use crate::config::CaptureConfig;
use crate::time::Timestamp;
use batch::Batch;
use open::Opened;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use state::{DropMeter, InterfaceState, Retry};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

pub use open::BLOCK_TIMEOUT;

/// Longest wait for a frame: how long a stop may take on a silent link, and how often time goes on there.
pub const WAIT: Duration = Duration::from_millis(100);

/// How far an idle moment's time lies behind the wall clock: frames younger than two block timeouts may still be in the kernel, and
/// time must not pass them.
const HELD_BACK: Duration = Duration::from_millis(2 * BLOCK_TIMEOUT.as_millis() as u64);

/// How often the state of the interface is looked at while nothing comes, and its drop counters are read.
const LOOK: Duration = Duration::from_secs(1);
const METER: Duration = Duration::from_millis(250);

/// An interface as a source. Goes on when the interface goes down or away, and when it comes back.
pub struct LiveSource {
    name: String,
    config: CaptureConfig,
    stop: StopHandle,
    /// None while the interface is away.
    capture: Option<Opened>,
    link: LinkType,
    batch: Batch,
    meter: DropMeter,
    retry: Retry,
    looked: Instant,
    metered: Option<Instant>,
    frames: u64,
    bytes: u64,
    counters: Arc<InterfaceCounters>,
}

impl LiveSource {
    /// Opens an interface, or `any`. `stop` ends it from another thread within [`WAIT`].
    ///
    /// # Errors
    /// [`CaptureError::NoSuchInterface`], [`CaptureError::NoPermission`], [`CaptureError::Filter`], [`CaptureError::LinkType`], or
    /// [`CaptureError::Live`] with what libpcap says. Only this first opening fails: later ones are tried again.
    pub fn open(interface: &str, config: &CaptureConfig, stop: StopHandle) -> Result<Self, CaptureError> {
        Self::resume(config, stop, InterfaceCounters::new(interface))
    }

    /// Opens an interface whose capture failed; its counters go on where they are.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn resume(
        config: &CaptureConfig,
        stop: StopHandle,
        counters: Arc<InterfaceCounters>,
    ) -> Result<Self, CaptureError> {
        let interface = counters.name.as_str();
        let opened = open::open(interface, config)?;
        counters.up.store(true, Ordering::Relaxed);
        let now = monotonic();
        Ok(Self {
            name: interface.to_owned(),
            config: config.clone(),
            stop,
            link: opened.link,
            capture: Some(opened),
            batch: Batch::default(),
            retry: Retry::new(now),
            looked: now,
            metered: None,
            frames: counters.frames.load(Ordering::Relaxed),
            bytes: counters.bytes.load(Ordering::Relaxed),
            meter: DropMeter::going_on(
                counters.drops_kernel.load(Ordering::Relaxed),
                counters.drops_interface.load(Ordering::Relaxed),
            ),
            counters,
        })
    }

    /// The link type of its frames; another one where the interface came back as another kind.
    pub fn link_type(&self) -> LinkType {
        self.link
    }

    /// Brings frames into the batch, waiting for them if it must; false where none came.
    fn refill(&mut self) -> bool {
        let Some(opened) = &mut self.capture else {
            self.wait_for_return();
            return false;
        };
        let mut outcome = self.batch.refill(&mut opened.capture);
        if matches!(outcome, Ok(0)) {
            wait_for_frames(opened);
            outcome = self.batch.refill(&mut opened.capture);
        }
        match outcome {
            Ok(0) => {
                self.look();
                false
            }
            Ok(_) => true,
            Err(error) => {
                self.lost(&super::filter::message(&error));
                false
            }
        }
    }

    /// Looks, now and then, whether the interface is up and there: on a silent link libpcap does not say.
    fn look(&mut self) {
        let now = monotonic();
        if now.duration_since(self.looked) < LOOK {
            return;
        }
        self.looked = now;
        match state::of(&self.name) {
            InterfaceState::Up => self.set_up(true),
            // The kernel goes on with the same socket once the interface is up again.
            InterfaceState::Down => self.set_up(false),
            InterfaceState::Missing => self.lost("the interface disappeared"),
        }
    }

    fn set_up(&self, up: bool) {
        if self.counters.up.swap(up, Ordering::Relaxed) != up {
            if up {
                tracing::info!(msg = "capturing again", interface = self.name);
            } else {
                tracing::warn!(msg = "interface is down", interface = self.name);
            }
        }
    }

    #[cold]
    fn lost(&mut self, why: &str) {
        self.read_meter();
        self.capture = None;
        self.counters.up.store(false, Ordering::Relaxed);
        self.retry = Retry::new(monotonic());
        tracing::warn!(msg = "capture lost; trying to open it again", interface = self.name, why);
    }

    /// One wait, and a try to open again where it is time for one.
    fn wait_for_return(&mut self) {
        std::thread::sleep(WAIT);
        let now = monotonic();
        if !self.retry.is_due(now) {
            return;
        }
        match open::open(&self.name, &self.config) {
            Ok(opened) => {
                self.link = opened.link;
                self.capture = Some(opened);
                self.meter.reopened();
                self.looked = now;
                self.counters.reopened.fetch_add(1, Ordering::Relaxed);
                self.counters.up.store(true, Ordering::Relaxed);
                tracing::info!(msg = "capture opened again", interface = self.name);
            }
            Err(error) => {
                self.retry.failed(now);
                tracing::debug!(msg = "cannot be opened yet", interface = self.name, %error);
            }
        }
    }

    fn read_meter(&mut self) {
        if let Some(opened) = &mut self.capture
            && let Ok(stat) = opened.capture.stats()
        {
            self.meter.read(stat.dropped, stat.if_dropped);
        }
        self.counters.drops_kernel.store(self.meter.kernel(), Ordering::Relaxed);
        self.counters.drops_interface.store(self.meter.interface(), Ordering::Relaxed);
    }
}

impl FrameSource for LiveSource {
    // Into the packet loop, as of a replay.
    #[inline(always)]
    fn next_event(&mut self) -> Result<SourceEvent<'_>, CaptureError> {
        if self.stop.is_stopped() {
            self.metered = None;
            self.publish();
            return Ok(SourceEvent::End);
        }
        if self.batch.is_spent() && !self.refill() {
            return Ok(SourceEvent::Idle(wall_clock().minus(HELD_BACK)));
        }
        let frame = self.batch.next(self.link);
        self.frames += 1;
        self.bytes += u64::from(frame.orig_len);
        Ok(SourceEvent::Frame(frame))
    }

    /// Frames and bytes at every call; drops at most four times a second, for asking the kernel costs more than a packet.
    fn publish(&mut self) {
        self.counters.frames.store(self.frames, Ordering::Relaxed);
        self.counters.bytes.store(self.bytes, Ordering::Relaxed);
        let now = monotonic();
        if self.metered.is_none_or(|metered| now.duration_since(metered) >= METER) {
            self.metered = Some(now);
            self.read_meter();
        }
    }

    #[inline]
    fn may_wait(&self) -> bool {
        self.batch.is_spent()
    }

    fn is_live(&self) -> bool {
        true
    }

    fn counters(&self) -> Vec<Arc<InterfaceCounters>> {
        vec![Arc::clone(&self.counters)]
    }
}

impl fmt::Debug for LiveSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveSource").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Waits until the ring has something, an error is to be told, or [`WAIT`] is over. A signal ends the wait too.
fn wait_for_frames(opened: &Opened) {
    let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(WAIT.subsec_nanos()) };
    // What went wrong, if anything, the following read tells better.
    let _ = poll(&mut [PollFd::new(&opened.capture, PollFlags::IN)], Some(&timeout));
}

/// The wall clock, for idle moments.
// The one place on the packet path that asks the operating system for the time: no packet came that would bring it.
#[allow(clippy::disallowed_methods)]
fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::EPOCH.plus(since)
}

/// For pauses between tries and looks, which are about this machine and not about the network.
#[allow(clippy::disallowed_methods)]
fn monotonic() -> Instant {
    Instant::now()
}
