//! Stage 3 of 5, track: a queue of deadlines in chunks, one a timeout.
//!
//! Never walks anything: attempts enter in order of network time and a timeout is a constant, so the front is always due first.
//! Knows nothing of attempts beyond their key and when they opened.

use crate::time::Timestamp;
use std::collections::VecDeque;

/// Records a chunk holds: 64 kB of IPv4 records, so that growing never copies and a quiet sensor stays small.
const CHUNK: usize = 4096;

/// Longest span of one chunk: a record keeps 32 bits of microseconds after the chunk's base.
const SPAN_NANOS: i64 = (u32::MAX as i64) * 1000;

/// One attempt to look at again: its key, and when it opened, in microseconds after its chunk's base.
#[derive(Debug, Clone, Copy)]
struct Record<K> {
    key: K,
    offset_micros: u32,
}

#[derive(Debug)]
struct Chunk<K> {
    base: Timestamp,
    taken: usize,
    records: Vec<Record<K>>,
}

/// A first-in first-out queue of (key, opening time). Opening times are kept to the microsecond.
#[derive(Debug)]
pub(crate) struct DeadlineQueue<K> {
    chunks: VecDeque<Chunk<K>>,
    spare: Option<Chunk<K>>,
    len: usize,
}

impl<K: Copy> DeadlineQueue<K> {
    pub(crate) fn new() -> Self {
        Self { chunks: VecDeque::new(), spare: None, len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes held, reckoned from capacities.
    pub(crate) fn bytes(&self) -> usize {
        (self.chunks.len() + usize::from(self.spare.is_some())) * CHUNK * size_of::<Record<K>>()
    }

    /// Appends; `opened_at` may not lie before that of the record appended last. It is kept to the microsecond.
    pub(crate) fn push(&mut self, key: K, opened_at: Timestamp) {
        let fits = self.chunks.back().is_some_and(|chunk| {
            let offset = opened_at.as_nanos().saturating_sub(chunk.base.as_nanos());
            chunk.records.len() < CHUNK && (0..SPAN_NANOS).contains(&offset)
        });
        if !fits {
            let mut chunk = self.spare.take().unwrap_or_else(|| Chunk {
                base: opened_at,
                taken: 0,
                records: Vec::with_capacity(CHUNK),
            });
            chunk.base = opened_at.to_micros();
            chunk.taken = 0;
            chunk.records.clear();
            self.chunks.push_back(chunk);
        }
        if let Some(chunk) = self.chunks.back_mut() {
            let offset = opened_at.as_nanos() - chunk.base.as_nanos();
            chunk.records.push(Record { key, offset_micros: (offset / 1000) as u32 });
            self.len += 1;
        }
    }

    /// When the record at the front opened.
    #[inline]
    pub(crate) fn front_opened_at(&self) -> Option<Timestamp> {
        let chunk = self.chunks.front()?;
        let record = chunk.records.get(chunk.taken)?;
        Some(opened_at(chunk.base, record.offset_micros))
    }

    /// Takes the record at the front.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<(K, Timestamp)> {
        let chunk = self.chunks.front_mut()?;
        let record = *chunk.records.get(chunk.taken)?;
        let popped = (record.key, opened_at(chunk.base, record.offset_micros));
        chunk.taken += 1;
        self.len -= 1;
        if chunk.taken == chunk.records.len() {
            self.spare = self.chunks.pop_front();
        }
        Some(popped)
    }
}

fn opened_at(base: Timestamp, offset_micros: u32) -> Timestamp {
    Timestamp::from_nanos(base.as_nanos() + i64::from(offset_micros) * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn first_in_first_out_over_chunks_and_gaps() {
        let mut queue = DeadlineQueue::new();
        let at = |i: u64| Timestamp::from_parts(1_700_000_000, 0).plus(Duration::from_micros(i * i));
        for i in 0..20_000u64 {
            queue.push(i, at(i));
        }
        // A gap longer than a chunk can span starts a new chunk.
        let later = at(0).plus(Duration::from_secs(1_000_000));
        queue.push(99_999, later);
        assert_eq!(queue.len(), 20_001);
        for i in 0..20_000u64 {
            assert_eq!(queue.front_opened_at(), Some(at(i)));
            assert_eq!(queue.pop(), Some((i, at(i))));
        }
        assert_eq!(queue.pop(), Some((99_999, later)));
        assert_eq!(queue.pop(), None);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn memory_is_given_back_as_the_front_moves() {
        let mut queue = DeadlineQueue::new();
        for i in 0..1_000_000u64 {
            queue.push(i, Timestamp::from_nanos(i as i64 * 1000));
            if queue.len() > 1000 {
                queue.pop();
            }
        }
        assert!(queue.bytes() <= 3 * CHUNK * size_of::<Record<u64>>());
    }

    #[test]
    fn an_ipv4_record_takes_16_bytes() {
        assert_eq!(size_of::<Record<[u32; 3]>>(), 16);
    }
}
