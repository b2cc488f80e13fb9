//! Stage 1 of 5, capture: frames from a wire, a file or memory, behind one trait.
//!
//! The only stage that may touch libpcap, and (in `live`) a clock. It does not look into a frame.

pub mod filter;
pub mod interfaces;
pub mod link;
pub mod live;
pub mod memory;
pub mod privileges;
pub mod replay;
pub mod stop;

use crate::time::Timestamp;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A link-layer header type, by its number in the LINKTYPE registry of the tcpdump group (not the DLT of one system).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkType(pub u16);

impl LinkType {
    /// BSD loopback: a protocol family in the capturing host's byte order.
    pub const NULL: Self = Self(0);
    /// Ethernet.
    pub const ETHERNET: Self = Self(1);
    /// PPP, with or without HDLC framing.
    pub const PPP: Self = Self(9);
    /// PPP in HDLC-like framing (RFC 1662).
    pub const PPP_HDLC: Self = Self(50);
    /// PPPoE session header.
    pub const PPP_ETHER: Self = Self(51);
    /// Raw IP; the version nibble tells which.
    pub const RAW: Self = Self(101);
    /// Cisco HDLC.
    pub const C_HDLC: Self = Self(104);
    /// OpenBSD loopback: a protocol family in network byte order.
    pub const LOOP: Self = Self(108);
    /// Linux cooked capture v1.
    pub const LINUX_SLL: Self = Self(113);
    /// Raw IPv4.
    pub const IPV4: Self = Self(228);
    /// Raw IPv6.
    pub const IPV6: Self = Self(229);
    /// Linux cooked capture v2.
    pub const LINUX_SLL2: Self = Self(276);
}

/// One captured frame, borrowed for one step of the pipeline.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// When it was captured, by the capturing clock.
    pub ts: Timestamp,
    /// What its first bytes are.
    pub link: LinkType,
    /// Its length on the wire, bytes.
    pub orig_len: u32,
    /// What was captured of it.
    pub data: &'a [u8],
}

/// What a source gives.
#[derive(Debug, Clone, Copy)]
pub enum SourceEvent<'a> {
    /// A frame.
    Frame(Frame<'a>),
    /// Nothing came for a moment; the wall clock of the capturing host says so much (live sources only).
    Idle(Timestamp),
    /// The source is exhausted or was told to stop.
    End,
}

/// Frames from somewhere. Live and replay differ in nothing else.
pub trait FrameSource {
    /// The next event; blocks for at most about 100 ms on a silent live link.
    ///
    /// # Errors
    /// What makes this source unusable. A replay error leaves everything before it valid.
    fn next_event(&mut self) -> Result<SourceEvent<'_>, CaptureError>;

    /// Brings the shared counters up to date; called now and then from the packet thread.
    fn publish(&mut self);

    /// Whether frames wait while the pipeline works (they are lost when it is late); a file's do not.
    fn is_live(&self) -> bool {
        false
    }

    /// Whether the next event may have to be waited for: what the pipeline still holds back should be done first.
    #[inline]
    fn may_wait(&self) -> bool {
        false
    }

    /// The counters this source publishes to, one per interface or file.
    fn counters(&self) -> Vec<Arc<InterfaceCounters>>;
}

/// A borrowed source is a source: the caller keeps it to ask afterwards what it was.
impl<S: FrameSource + ?Sized> FrameSource for &mut S {
    #[inline]
    fn next_event(&mut self) -> Result<SourceEvent<'_>, CaptureError> {
        (**self).next_event()
    }

    fn publish(&mut self) {
        (**self).publish();
    }

    fn is_live(&self) -> bool {
        (**self).is_live()
    }

    #[inline]
    fn may_wait(&self) -> bool {
        (**self).may_wait()
    }

    fn counters(&self) -> Vec<Arc<InterfaceCounters>> {
        (**self).counters()
    }
}

/// Counters of one interface or file, shared with whoever reports them. All monotone.
#[derive(Debug, Default)]
pub struct InterfaceCounters {
    /// Interface name or file path.
    pub name: String,
    /// Frames delivered to the pipeline.
    pub frames: AtomicU64,
    /// Their bytes on the wire.
    pub bytes: AtomicU64,
    /// Frames the kernel dropped for want of buffer.
    pub drops_kernel: AtomicU64,
    /// Frames the interface dropped, as far as its driver tells.
    pub drops_interface: AtomicU64,
    /// How often the capture was opened again after a failure.
    pub reopened: AtomicU64,
    /// Whether it is capturing now.
    pub up: AtomicBool,
}

impl InterfaceCounters {
    /// Counters at zero for an interface or file of this name.
    pub fn new(name: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { name: name.into(), ..Self::default() })
    }

    /// A consistent enough copy: each counter is exact, together they may be a tick apart.
    pub fn load(&self) -> InterfaceStats {
        InterfaceStats {
            name: self.name.clone(),
            frames: self.frames.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            drops_kernel: self.drops_kernel.load(Ordering::Relaxed),
            drops_interface: self.drops_interface.load(Ordering::Relaxed),
            reopened: self.reopened.load(Ordering::Relaxed),
            up: self.up.load(Ordering::Relaxed),
        }
    }
}

/// A copy of [`InterfaceCounters`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceStats {
    /// Interface name or file path.
    pub name: String,
    /// Frames delivered.
    pub frames: u64,
    /// Bytes on the wire.
    pub bytes: u64,
    /// Lost in the kernel's buffer.
    pub drops_kernel: u64,
    /// Lost in the interface.
    pub drops_interface: u64,
    /// Times reopened.
    pub reopened: u64,
    /// Capturing now.
    pub up: bool,
}

/// Why frames cannot be had. Each displays as one line: what, where, why, what mends it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// No interface of that name.
    #[error(
        "interface '{name}': no such interface; 'halfopen interfaces' lists those that can be captured on"
    )]
    NoSuchInterface {
        /// The name asked for.
        name: String,
    },
    /// No interface was named and none has a default route.
    #[error("no default route to choose an interface by: name one with -i; 'halfopen interfaces' lists them")]
    NoDefaultRoute,
    /// The right to capture is missing.
    #[error(
        "interface '{name}': no permission to capture; run as root, or give the binary the right once: sudo setcap cap_net_raw+ep {binary}"
    )]
    NoPermission {
        /// The interface.
        name: String,
        /// The path of this binary.
        binary: String,
    },
    /// The filter expression does not compile.
    #[error("filter '{filter}': {why}; see pcap-filter(7) for the syntax")]
    Filter {
        /// The expression.
        filter: String,
        /// What libpcap says.
        why: String,
    },
    /// A live capture cannot be opened or went wrong.
    #[error("interface '{name}': {why}")]
    Live {
        /// The interface.
        name: String,
        /// What libpcap says, and what mends it.
        why: String,
    },
    /// A file cannot be opened.
    #[error("file '{path}': {why}")]
    Open {
        /// The path as given.
        path: String,
        /// What is wrong and what mends it.
        why: String,
    },
    /// A file ends in the middle of a packet or is damaged; what came before it counts.
    #[error(
        "file '{path}': {why}; the {frames} frames before it count; for the rest, copy or capture it again"
    )]
    Damaged {
        /// The path as given.
        path: String,
        /// What is wrong.
        why: String,
        /// Frames read from it before.
        frames: u64,
    },
    /// A link type we do not decode.
    #[error(
        "'{name}': link type {link} ({link_name}) is not one halfopen decodes; capture on another interface, or on 'any'"
    )]
    LinkType {
        /// Interface or file.
        name: String,
        /// The number.
        link: u16,
        /// libpcap's name for it.
        link_name: String,
    },
    /// Frames of a file that no one looks into, because of their link type.
    #[error(
        "file '{path}': {links} not decoded by halfopen; its {frames} frames count as undecoded; \
         capture on an interface of another link type, or on 'any'"
    )]
    Undecoded {
        /// The path as given.
        path: String,
        /// `link type 4242 (LINKTYPE_4242) is`, or several and `are`.
        links: String,
        /// Frames of these link types.
        frames: u64,
    },
}
