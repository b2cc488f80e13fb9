//! Stage 1 of 5, capture: a moving window over a byte stream. Knows no file format; may not allocate per record.

use std::io::{self, Read};

/// Bytes asked of the operating system at once: few calls, and still small enough to stay in a core's second-level cache between the
/// copy out of the kernel and the parse.
const CHUNK: usize = 256 << 10;

/// Reads a stream in large chunks and hands out slices of it without copying them again.
///
/// A slice taken by [`take`](Self::take) stays valid until the next call that may read, so a record is parsed where it lies.
pub(super) struct Window {
    source: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    /// The first byte not yet taken, and the end of what was read.
    start: usize,
    end: usize,
    /// Bytes of the stream before `buffer[0]`, for messages.
    before: u64,
    exhausted: bool,
}

impl Window {
    pub(super) fn new(source: Box<dyn Read + Send>) -> Self {
        Self { source, buffer: vec![0; CHUNK], start: 0, end: 0, before: 0, exhausted: false }
    }

    /// Where in the stream (decompressed) the next byte lies.
    pub(super) fn offset(&self) -> u64 {
        self.before + self.start as u64
    }

    /// Makes `count` bytes available; false where the stream ends before.
    #[inline]
    pub(super) fn want(&mut self, count: usize) -> io::Result<bool> {
        if self.end - self.start >= count { Ok(true) } else { self.fill(count) }
    }

    /// What is available, at least as much as the last [`want`](Self::want) that returned true asked for.
    #[inline]
    pub(super) fn ahead(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Moves past `count` available bytes; the position of the first in [`slice`](Self::slice)'s terms.
    #[inline]
    pub(super) fn take(&mut self, count: usize) -> usize {
        let at = self.start;
        self.start = self.end.min(at + count);
        at
    }

    /// Bytes taken earlier, by their position, with no read in between.
    #[inline]
    pub(super) fn slice(&self, at: usize, len: usize) -> &[u8] {
        &self.buffer[at..at + len]
    }

    /// Moves past `count` bytes without keeping them; false where the stream ends before.
    pub(super) fn skip(&mut self, mut count: u64) -> io::Result<bool> {
        loop {
            let here = (self.end - self.start).min(usize::try_from(count).unwrap_or(usize::MAX));
            self.start += here;
            count -= here as u64;
            if count == 0 {
                return Ok(true);
            }
            if !self.fill(1)? {
                return Ok(false);
            }
        }
    }

    #[cold]
    fn fill(&mut self, count: usize) -> io::Result<bool> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.before += self.start as u64;
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() < count {
            self.buffer.resize(count, 0);
        }
        while self.end < count && !self.exhausted {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.exhausted = true,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.end >= count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives at most `step` bytes a read, as a pipe does.
    struct Dribble(Vec<u8>, usize, usize);

    impl Read for Dribble {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.2.min(into.len()).min(self.0.len() - self.1);
            into[..count].copy_from_slice(&self.0[self.1..self.1 + count]);
            self.1 += count;
            Ok(count)
        }
    }

    #[test]
    fn records_across_chunk_borders_come_out_whole() {
        let bytes: Vec<u8> = (0..3 * CHUNK as u32 + 17).map(|i| (i % 251) as u8).collect();
        for step in [7, 4096, usize::MAX] {
            let mut window = Window::new(Box::new(Dribble(bytes.clone(), 0, step)));
            let mut at = 0;
            while window.want(1000).unwrap() {
                assert_eq!(window.offset(), at as u64);
                let position = window.take(1000);
                assert_eq!(window.slice(position, 1000), &bytes[at..at + 1000]);
                at += 1000;
            }
            assert_eq!(window.ahead(), &bytes[at..]);
        }
    }

    #[test]
    fn grows_for_a_large_record_and_skips_without_growing() {
        let mut window = Window::new(Box::new(io::repeat(3).take(5 * CHUNK as u64)));
        assert!(window.want(2 * CHUNK).unwrap());
        assert!(window.skip(4 * CHUNK as u64).unwrap());
        assert_eq!(window.buffer.len(), 2 * CHUNK);
        assert!(!window.skip(2 * CHUNK as u64).unwrap());
    }
}
