//! Stage 1 of 5, capture: where a replay's bytes come from: file or standard input, plain, gzip or zstd, told by their first
//! bytes and never by a name. Knows no capture format beyond naming what it is not.

use super::Progress;
use crate::capture::stop::StopHandle;
use crate::os_error;
use flate2::read::MultiGzDecoder;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The path that means standard input, as tcpdump and tshark have it.
pub(super) const STDIN: &str = "-";

/// How often a pipe that gives nothing is left to see whether to stop.
const PIPE_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// As many first bytes as tell every format apart.
const SNIFFED: usize = 8;

/// Opens a path, or standard input for `-`. Bytes are counted into `progress` as they are read, still compressed.
pub(super) fn open(
    path: &Path,
    progress: &Arc<Progress>,
    stop: &StopHandle,
) -> io::Result<Box<dyn Read + Send>> {
    let file = if path.as_os_str() == STDIN {
        File::from(io::stdin().as_fd().try_clone_to_owned()?)
    } else {
        File::open(path)?
    };
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let waits = !metadata.is_file();
    Ok(Box::new(Counted { file, waits, progress: Arc::clone(progress), stop: stop.clone() }))
}

/// The stream with its compression taken off, or why it cannot be.
pub(super) fn decompressed(mut reader: Box<dyn Read + Send>) -> io::Result<Result<Decompressed, String>> {
    let mut first = Vec::with_capacity(SNIFFED);
    reader.by_ref().take(SNIFFED as u64).read_to_end(&mut first)?;
    let compression = match first.as_slice() {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        // RFC 8878 section 3.1: a frame, or a skippable frame before one.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        _ => Compression::None,
    };
    let known_but_not_read = match first.as_slice() {
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Some(("xz", "xz -dc")),
        [b'B', b'Z', b'h', ..] => Some(("bzip2", "bzip2 -dc")),
        [0x04, 0x22, 0x4d, 0x18, ..] => Some(("lz4", "lz4 -dc")),
        [b'P', b'K', 3, 4, ..] => Some(("zip", "unzip -p")),
        _ => None,
    };
    if let Some((name, tool)) = known_but_not_read {
        return Ok(Err(format!(
            "is compressed with {name}, which is not read; unpack it on the way: {tool} FILE | halfopen replay -"
        )));
    }
    let whole = Cursor::new(first).chain(reader);
    let reader: Box<dyn Read + Send> = match compression {
        Compression::None => Box::new(whole),
        // Several members in a row are one stream (RFC 1952 section 2.2), as rotated captures put together have them.
        Compression::Gzip => Box::new(MultiGzDecoder::new(whole)),
        Compression::Zstd => Box::new(zstd::Decoder::new(whole)?),
    };
    Ok(Ok(Decompressed { reader, compression }))
}

/// A stream of capture file bytes.
pub(super) struct Decompressed {
    pub(super) reader: Box<dyn Read + Send>,
    pub(super) compression: Compression,
}

/// What was taken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// What to say where the stream breaks.
    pub(super) fn explain(self, error: &io::Error) -> String {
        let ends = error.kind() == io::ErrorKind::UnexpectedEof;
        match self {
            Self::None => format!("cannot be read any further ({})", os_error::words(error)),
            Self::Gzip if ends => "its gzip data ends early".to_owned(),
            Self::Zstd if ends => "its zstd data ends early".to_owned(),
            Self::Gzip => format!("its gzip data is damaged ({})", os_error::words(error)),
            Self::Zstd => format!("its zstd data is damaged ({})", os_error::words(error)),
        }
    }
}

/// Counts what is read; on a pipe, looks at the stop flag while nothing comes.
struct Counted {
    file: File,
    waits: bool,
    progress: Arc<Progress>,
    stop: StopHandle,
}

impl Counted {
    /// Until there is something to read, or the end; an error where it was told to stop before.
    fn wait(&self) -> io::Result<()> {
        loop {
            if self.stop.is_stopped() {
                return Err(io::Error::other("stopped"));
            }
            match poll(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(&PIPE_WAIT)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.waits {
            self.wait()?;
        }
        let read = self.file.read(into)?;
        self.progress.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_pipe_is_read_as_it_comes_and_left_when_told_to_stop() {
        let (mut writer, reader) = UnixStream::pair().unwrap();
        let (progress, stop) = (Arc::new(Progress::default()), StopHandle::new());
        let file = File::from(OwnedFd::from(reader));
        let mut counted = Counted { file, waits: true, progress: Arc::clone(&progress), stop: stop.clone() };
        let mut buffer = [0; 16];
        writer.write_all(b"four").unwrap();
        assert_eq!(counted.read(&mut buffer).unwrap(), 4);
        assert_eq!(progress.bytes_read(), 4);

        let waiting = std::thread::spawn(move || counted.read(&mut [0; 16]).unwrap_err().to_string());
        stop.stop();
        assert_eq!(waiting.join().unwrap(), "stopped");
        drop(writer);
    }
}
