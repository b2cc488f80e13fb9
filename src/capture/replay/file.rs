//! Stage 1 of 5, capture: one file of a replay: its format, its filter, its counters, the frame it stands at.

use super::input::Decompressed;
use super::pcap::Pcap;
use super::pcapng::{self, Pcapng};
use super::window::Window;
use super::{Record, Trouble};
use crate::capture::filter::ReplayFilter;
use crate::capture::stop::StopHandle;
use crate::capture::{CaptureError, Frame, InterfaceCounters, LinkType, SourceEvent};
use crate::time::Timestamp;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A file, and the frame of it that comes next.
pub(super) struct CaptureFile {
    window: Window,
    format: Format,
    compression: super::input::Compression,
    filter: Option<ReplayFilter>,
    current: Record,
    frames: u64,
    bytes: u64,
    /// The link type of the last frame that decode follows, so that the common case is one comparison.
    decoded: LinkType,
    undecoded: Vec<(LinkType, u64)>,
    counters: Arc<InterfaceCounters>,
}

enum Format {
    Pcap(Pcap),
    Pcapng(Pcapng),
}

/// What a step forward came to.
pub(super) enum Step {
    /// [`CaptureFile::give`] gives a new one.
    Frame,
    /// There are no more.
    End,
}

impl CaptureFile {
    /// Tells the format and reads the file header. `name` is for messages and counters.
    pub(super) fn open(
        name: String,
        stream: Decompressed,
        filter: Option<&str>,
    ) -> Result<Self, CaptureError> {
        let Decompressed { reader, compression } = stream;
        let mut window = Window::new(reader);
        let format = match format_of(&mut window) {
            Ok(format) => format,
            Err(trouble) => return Err(CaptureError::Open { path: name, why: trouble.explain(compression) }),
        };
        let mut filter = filter.map(ReplayFilter::new).transpose()?;
        if let (Some(filter), Format::Pcap(pcap)) = (&mut filter, &format) {
            filter.require(*pcap.link())?;
        }
        let counters = InterfaceCounters::new(name);
        counters.up.store(true, Ordering::Relaxed);
        Ok(Self {
            window,
            format,
            compression,
            filter,
            current: Record::NONE,
            frames: 0,
            bytes: 0,
            decoded: LinkType::ETHERNET,
            undecoded: Vec::new(),
            counters,
        })
    }

    /// Goes to the next frame that the filter lets pass.
    #[inline]
    pub(super) fn advance(&mut self, stop: &StopHandle) -> Result<Step, CaptureError> {
        loop {
            if stop.is_stopped() {
                return Ok(Step::End);
            }
            let next = match &mut self.format {
                Format::Pcap(pcap) => pcap.next(&mut self.window),
                Format::Pcapng(pcapng) => pcapng.next(&mut self.window),
            };
            let record = match next {
                Ok(Some(record)) => record,
                Ok(None) => return Ok(Step::End),
                // A pipe that was left because of the stop flag is not damage.
                Err(_) if stop.is_stopped() => return Ok(Step::End),
                Err(trouble) => return Err(self.damaged(&trouble)),
            };
            if let Some(filter) = &mut self.filter
                && !filter.passes(record.link, self.window.slice(record.at, record.len))
            {
                continue;
            }
            self.current = record;
            return Ok(Step::Frame);
        }
    }

    /// The stamp of the frame it stands at.
    #[inline]
    pub(super) fn stamp(&self) -> Timestamp {
        self.current.ts
    }

    /// Gives the frame it stands at, and counts it.
    #[inline]
    pub(super) fn give(&mut self) -> SourceEvent<'_> {
        let Record { ts, link, orig_len, at, len } = self.current;
        self.frames += 1;
        self.bytes += u64::from(orig_len);
        if link != self.decoded {
            self.changed(link);
        }
        SourceEvent::Frame(Frame { ts, link, orig_len, data: self.window.slice(at, len) })
    }

    /// Link types in order of first appearance.
    pub(super) fn links(&self) -> &[LinkType] {
        match &self.format {
            Format::Pcap(pcap) => std::slice::from_ref(pcap.link()),
            Format::Pcapng(pcapng) => pcapng.links(),
        }
    }

    pub(super) fn publish(&self) {
        self.counters.frames.store(self.frames, Ordering::Relaxed);
        self.counters.bytes.store(self.bytes, Ordering::Relaxed);
    }

    /// Publishes for the last time.
    pub(super) fn finish(&self) {
        self.publish();
        self.counters.up.store(false, Ordering::Relaxed);
    }

    pub(super) fn counters(&self) -> &Arc<InterfaceCounters> {
        &self.counters
    }

    /// A frame of another link type than the last that decode follows.
    #[cold]
    fn changed(&mut self, link: LinkType) {
        if link.is_decoded() {
            self.decoded = link;
        } else if let Some((_, frames)) = self.undecoded.iter_mut().find(|(known, _)| *known == link) {
            *frames += 1;
        } else if self.undecoded.len() < MOST_LINKS {
            self.undecoded.push((link, 1));
        } else if let Some((_, frames)) = self.undecoded.last_mut() {
            // The list is for one line of text; the sum stays right.
            *frames += 1;
        }
    }

    /// That it had frames nobody looked into, if it had.
    pub(super) fn undecoded(&self) -> Option<CaptureError> {
        /// So many are named; a file of more is no capture of a network.
        const NAMED: usize = 4;
        let mut names: Vec<String> = self.undecoded.iter().map(|(link, _)| link.described()).collect();
        let links = match names.as_mut_slice() {
            [] => return None,
            [one] => format!("link type {one} is"),
            many if many.len() <= NAMED => format!("link types {} are", many.join(", ")),
            many => format!("link types {} and more are", many[..NAMED].join(", ")),
        };
        let frames = self.undecoded.iter().map(|(_, frames)| frames).sum();
        Some(CaptureError::Undecoded { path: self.counters.name.clone(), links, frames })
    }

    #[cold]
    fn damaged(&self, trouble: &Trouble) -> CaptureError {
        CaptureError::Damaged {
            path: self.counters.name.clone(),
            why: trouble.explain(self.compression),
            frames: self.frames,
        }
    }
}

/// Most link types remembered of a file: more are no network's, and each costs a look at all.
pub(super) const MOST_LINKS: usize = 64;

/// How much of what is no capture file is shown.
const SHOWN: usize = 16;

fn format_of(window: &mut Window) -> Result<Format, Trouble> {
    let complete = window.want(4)?;
    let ahead = window.ahead();
    if ahead.is_empty() {
        return Err(Trouble::because("is empty; nothing was written to it yet, or capture again"));
    }
    if complete {
        let first = [ahead[0], ahead[1], ahead[2], ahead[3]];
        if Pcap::recognises(first) {
            return Pcap::open(window).map(Format::Pcap);
        }
        if u32::from_le_bytes(first) == pcapng::SECTION {
            return Pcapng::open(window).map(Format::Pcapng);
        }
    }
    window.want(SHOWN)?;
    let ahead = window.ahead();
    let shown = &ahead[..ahead.len().min(SHOWN)];
    let text = shown.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
    let begins = if text {
        format!("the text \"{}\"", shown.escape_ascii())
    } else {
        let bytes: Vec<String> = shown.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("the bytes {}", bytes.join(" "))
    };
    Err(Trouble::because(format!(
        "is not a capture file (pcap or pcapng, optionally gzip or zstd): it begins with {begins}; \
         write one with tcpdump -w FILE"
    )))
}
