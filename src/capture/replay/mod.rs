//! Stage 1 of 5, capture: frames from files, as fast as they can be read. May not read a clock: time is in the files.
//!
//! pcap and pcapng, plain, gzip or zstd, from paths or standard input, several files merged by time. The way of a byte:
//! `input` (where from, compression) -> `window` (large reused buffer) -> `pcap` or `pcapng` (records in place) -> `file` (filter,
//! counters) -> the merge below.

mod file;
mod input;
mod pcap;
mod pcapng;
mod window;

#[cfg(test)]
mod tests;

use super::stop::StopHandle;
use super::{CaptureError, FrameSource, InterfaceCounters, LinkType, SourceEvent};
use crate::os_error;
use crate::time::Timestamp;
use file::{CaptureFile, Step};
use input::Compression;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Capture files as one source.
///
/// Several are merged by time stamp, frames of equal stamp in the order the files were named; a file whose own stamps jump back is
/// read in its own order. A damaged file gives what comes before the damage; the error is told after the last frame of the other
/// files, once for each damaged file, and then the source ends.
pub struct ReplaySource {
    files: Vec<CaptureFile>,
    /// Files that have a frame waiting, by its stamp; the one whose frame is out is not in it.
    waiting: BinaryHeap<Reverse<(Timestamp, usize)>>,
    /// The file whose frame was given last and that must go on before the next.
    out: Option<usize>,
    errors: std::vec::IntoIter<CaptureError>,
    found: Vec<CaptureError>,
    started: bool,
    ended: bool,
    progress: Arc<Progress>,
    stop: StopHandle,
}

/// How far a replay has come, for whoever draws the bar.
#[derive(Debug, Default)]
pub struct Progress {
    read: AtomicU64,
    total: Option<u64>,
}

impl Progress {
    /// Bytes read so far of all files, as they lie on disk (compressed where they are).
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Bytes of all files; none where one is a pipe, whose end nobody knows.
    pub fn total(&self) -> Option<u64> {
        self.total
    }
}

impl ReplaySource {
    /// Opens files, `-` being standard input, and reads their headers. `filter` is a BPF expression that frames must match, behind
    /// VLAN tags too.
    ///
    /// # Errors
    /// [`CaptureError::Open`] where a file cannot be read or is no capture file, [`CaptureError::Filter`] where the expression does
    /// not compile.
    pub fn open(paths: &[PathBuf], filter: Option<&str>) -> Result<Self, CaptureError> {
        let stop = StopHandle::new();
        if paths.iter().filter(|path| path.as_os_str() == input::STDIN).count() > 1 {
            let why = "standard input can be read only once; name it once".to_owned();
            return Err(CaptureError::Open { path: input::STDIN.to_owned(), why });
        }
        // Totals first: the shared handle has to know them before anything is read.
        let mut total = Some(0);
        for path in paths {
            let length =
                std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file).map(|file| file.len());
            total = total.zip(length).map(|(sum, length)| sum + length);
        }
        let progress = Arc::new(Progress { read: AtomicU64::new(0), total });
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            let reader = input::open(path, &progress, &stop).map_err(|error| unopened(path, &error))?;
            files.push(open_stream(path.display().to_string(), reader, filter)?);
        }
        Ok(Self::over(files, progress, stop))
    }

    /// A source over one stream of bytes, which may be compressed too; `name` is for messages and counters.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_reader(
        name: impl Into<String>,
        reader: impl Read + Send + 'static,
        filter: Option<&str>,
    ) -> Result<Self, CaptureError> {
        let file = open_stream(name.into(), Box::new(reader), filter)?;
        Ok(Self::over(vec![file], Arc::default(), StopHandle::new()))
    }

    /// How far it has come.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Ends the replay early: the next event after [`StopHandle::stop`] is the end.
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// The files as they were named.
    pub fn file_names(&self) -> Vec<String> {
        self.files.iter().map(|file| file.counters().name.clone()).collect()
    }

    /// libpcap's names of the link types met so far, in order of first appearance, file after file. Complete at the end: a pcapng
    /// file may describe an interface anywhere.
    pub fn link_types(&self) -> Vec<String> {
        let mut links: Vec<LinkType> = Vec::new();
        for link in self.files.iter().flat_map(CaptureFile::links) {
            if !links.contains(link) {
                links.push(*link);
            }
        }
        links.into_iter().map(LinkType::name).collect()
    }

    /// Files that had frames of link types nobody decodes: those frames were given and counted, but not looked into. Complete at
    /// the end.
    pub fn undecoded(&self) -> Vec<CaptureError> {
        self.files.iter().filter_map(CaptureFile::undecoded).collect()
    }

    fn over(files: Vec<CaptureFile>, progress: Arc<Progress>, stop: StopHandle) -> Self {
        let waiting = BinaryHeap::with_capacity(files.len());
        Self {
            files,
            waiting,
            out: None,
            errors: Vec::new().into_iter(),
            found: Vec::new(),
            started: false,
            ended: false,
            progress,
            stop,
        }
    }

    /// Moves one file on; where it has another frame, true.
    #[inline]
    fn advance(&mut self, index: usize) -> bool {
        match self.files[index].advance(&self.stop) {
            Ok(Step::Frame) => true,
            Ok(Step::End) => false,
            Err(error) => {
                self.found.push(error);
                false
            }
        }
    }

    /// The file whose frame comes next.
    fn next_merged(&mut self) -> Option<usize> {
        if !self.started {
            self.started = true;
            for index in 0..self.files.len() {
                self.queue(index);
            }
        }
        if let Some(index) = self.out.take() {
            self.queue(index);
        }
        let Reverse((_, index)) = self.waiting.pop()?;
        self.out = Some(index);
        Some(index)
    }

    fn queue(&mut self, index: usize) {
        if self.advance(index) {
            self.waiting.push(Reverse((self.files[index].stamp(), index)));
        }
    }

    /// What is still to be told at the end.
    #[cold]
    fn end(&mut self) -> Option<CaptureError> {
        if !self.ended {
            self.ended = true;
            self.files.iter().for_each(CaptureFile::finish);
            self.errors = std::mem::take(&mut self.found).into_iter();
        }
        self.errors.next()
    }
}

impl FrameSource for ReplaySource {
    // Into the one loop that there is: what it gives is then not laid down in pieces and read back whole.
    #[inline(always)]
    fn next_event(&mut self) -> Result<SourceEvent<'_>, CaptureError> {
        let next = if self.ended || self.stop.is_stopped() {
            None
        } else if self.files.len() == 1 {
            // One file needs no merge: it would cost 6 ns a frame, a quarter of what reading takes.
            self.advance(0).then_some(0)
        } else {
            self.next_merged()
        };
        match next {
            Some(index) => Ok(self.files[index].give()),
            None => self.end().map_or(Ok(SourceEvent::End), Err),
        }
    }

    fn publish(&mut self) {
        self.files.iter().for_each(CaptureFile::publish);
    }

    fn counters(&self) -> Vec<Arc<InterfaceCounters>> {
        self.files.iter().map(|file| Arc::clone(file.counters())).collect()
    }
}

impl fmt::Debug for ReplaySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplaySource").field("files", &self.file_names()).finish_non_exhaustive()
    }
}

fn open_stream(
    name: String,
    reader: Box<dyn Read + Send>,
    filter: Option<&str>,
) -> Result<CaptureFile, CaptureError> {
    match input::decompressed(reader) {
        Ok(Ok(stream)) => CaptureFile::open(name, stream, filter),
        Ok(Err(why)) => Err(CaptureError::Open { path: name, why }),
        Err(error) => Err(CaptureError::Open { path: name, why: os_error::unreadable(&error) }),
    }
}

fn unopened(path: &Path, error: &io::Error) -> CaptureError {
    CaptureError::Open { path: path.display().to_string(), why: os_error::unreadable(error) }
}

/// A frame in a window: what was said of it and where its bytes lie.
#[derive(Debug, Clone, Copy)]
struct Record {
    ts: Timestamp,
    link: LinkType,
    orig_len: u32,
    at: usize,
    len: usize,
}

impl Record {
    /// Before the first.
    const NONE: Self = Self { ts: Timestamp::EPOCH, link: LinkType::NULL, orig_len: 0, at: 0, len: 0 };
}

/// Why a file cannot be read on.
enum Trouble {
    Format(Box<str>),
    Stream(io::Error),
}

impl Trouble {
    #[cold]
    fn because(why: impl Into<String>) -> Self {
        Self::Format(why.into().into_boxed_str())
    }

    #[cold]
    fn cut() -> Self {
        Self::because(
            "ends in the middle of a packet, as a capture that was killed or a copy that was cut does",
        )
    }

    fn explain(&self, compression: Compression) -> String {
        match self {
            Self::Format(why) => why.to_string(),
            Self::Stream(error) => compression.explain(error),
        }
    }
}

impl From<io::Error> for Trouble {
    #[cold]
    fn from(error: io::Error) -> Self {
        Self::Stream(error)
    }
}
