//! Stage 3 of 5, track: a queue of deadlines in chunks, one a timeout.
//!
//! Never walks anything: attempts enter in order of network time and a timeout is a constant, so the front is always due first.
//! Knows nothing of attempts beyond their key and when they opened.

use crate::config::room::CHUNK;
use crate::time::Timestamp;
use std::collections::VecDeque;

/// Longest span of one chunk: a record keeps 32 bits of microseconds after the chunk's base.
const SPAN_NANOS: i64 = (u32::MAX as i64) * 1000;

/// One attempt to look at again: its key, and when it opened, in microseconds after its chunk's base.
#[derive(Debug, Clone, Copy)]
struct Record<K> {
    key: K,
    offset_micros: u32,
}

/// Bytes a record takes.
pub(crate) const fn size<K>() -> usize {
    size_of::<Record<K>>()
}

#[derive(Debug)]
struct Chunk<K> {
    base: Timestamp,
    records: Vec<Record<K>>,
}

/// A first-in first-out queue of (key, opening time). Opening times are kept to the microsecond.
#[derive(Debug)]
pub(crate) struct DeadlineQueue<K> {
    /// Chunks before the last one, all filled, oldest first.
    full: VecDeque<Chunk<K>>,
    /// The one being filled. The queue's front is in it where no other is left.
    last: Chunk<K>,
    /// Records of the front's chunk that were taken.
    taken: usize,
    spare: Option<Vec<Record<K>>>,
    len: usize,
}

impl<K: Copy> DeadlineQueue<K> {
    pub(crate) fn new() -> Self {
        let last = Chunk { base: Timestamp::EPOCH, records: Vec::new() };
        Self { full: VecDeque::new(), last, taken: 0, spare: None, len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes held, reckoned from capacities.
    pub(crate) fn bytes(&self) -> usize {
        let last = usize::from(self.last.records.capacity() > 0);
        (self.full.len() + last + usize::from(self.spare.is_some())) * CHUNK * size_of::<Record<K>>()
    }

    /// Appends; `opened_at` may not lie before that of the record appended last. It is kept to the microsecond.
    #[inline]
    pub(crate) fn push(&mut self, key: K, opened_at: Timestamp) {
        let mut offset = opened_at.as_nanos().wrapping_sub(self.last.base.as_nanos());
        if self.last.records.len() == self.last.records.capacity() || !(0..SPAN_NANOS).contains(&offset) {
            self.turn_over(opened_at);
            offset = opened_at.as_nanos() - self.last.base.as_nanos();
        }
        self.last.records.push(Record { key, offset_micros: (offset as u64 / 1000) as u32 });
        self.len += 1;
    }

    /// Begins another chunk.
    #[cold]
    fn turn_over(&mut self, opened_at: Timestamp) {
        let base = opened_at.to_micros();
        if self.last.records.is_empty() && self.last.records.capacity() > 0 {
            self.last.base = base;
            return;
        }
        let records = self.spare.take().unwrap_or_else(|| Vec::with_capacity(CHUNK));
        let before = std::mem::replace(&mut self.last, Chunk { base, records });
        if !before.records.is_empty() {
            self.full.push_back(before);
        }
    }

    fn front(&self) -> &Chunk<K> {
        self.full.front().unwrap_or(&self.last)
    }

    /// When the record at the front opened.
    #[inline]
    pub(crate) fn front_opened_at(&self) -> Option<Timestamp> {
        let chunk = self.front();
        let record = chunk.records.get(self.taken)?;
        Some(opened_at(chunk.base, record.offset_micros))
    }

    /// Gives every record to `look`, oldest first; they stay.
    pub(crate) fn each(&self, mut look: impl FnMut(K, Timestamp)) {
        let front = self.front().records.get(self.taken..).unwrap_or_default();
        let behind = self.full.iter().skip(1).chain((!self.full.is_empty()).then_some(&self.last));
        let behind = behind.flat_map(|chunk| chunk.records.iter().map(|record| (chunk.base, record)));
        for (base, record) in front.iter().map(|record| (self.front().base, record)).chain(behind) {
            look(record.key, opened_at(base, record.offset_micros));
        }
    }

    /// Takes the records at the front that opened at `latest` or before, at most so many; gives each to `take`.
    #[inline]
    pub(crate) fn pop_until(&mut self, latest: Timestamp, most: usize, mut take: impl FnMut(K, Timestamp)) {
        let mut left = most;
        while left > 0 && self.front_opened_at().is_some_and(|opened| opened <= latest) {
            let chunk = self.full.front().unwrap_or(&self.last);
            // Not negative, or the front would not be due.
            let until = latest.as_nanos().saturating_sub(chunk.base.as_nanos()) / 1000;
            let waiting = chunk.records.get(self.taken..).unwrap_or_default();
            let mut count = 0;
            for record in
                waiting.iter().take(left).take_while(|record| i64::from(record.offset_micros) <= until)
            {
                take(record.key, opened_at(chunk.base, record.offset_micros));
                count += 1;
            }
            self.taken += count;
            self.len -= count;
            left -= count;
            if self.taken == self.front().records.len() {
                self.drop_front();
            }
        }
    }

    /// The front's chunk is spent.
    fn drop_front(&mut self) {
        self.taken = 0;
        match self.full.pop_front() {
            Some(mut chunk) => {
                chunk.records.clear();
                self.spare = Some(chunk.records);
            }
            None => self.last.records.clear(),
        }
    }
}

#[inline]
fn opened_at(base: Timestamp, offset_micros: u32) -> Timestamp {
    Timestamp::from_nanos(base.as_nanos() + i64::from(offset_micros) * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pop<K: Copy>(queue: &mut DeadlineQueue<K>) -> Option<(K, Timestamp)> {
        let mut popped = None;
        queue.pop_until(Timestamp::FAR_FUTURE, 1, |key, opened_at| popped = Some((key, opened_at)));
        popped
    }
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
            if i % 999 == 0 {
                let mut left = (i..20_000).map(|i| (i, at(i))).chain([(99_999, later)]);
                queue.each(|key, opened_at| assert_eq!(Some((key, opened_at)), left.next()));
                assert_eq!(left.next(), None);
            }
            assert_eq!(pop(&mut queue), Some((i, at(i))));
        }
        assert_eq!(pop(&mut queue), Some((99_999, later)));
        assert_eq!(pop(&mut queue), None);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn memory_is_given_back_as_the_front_moves() {
        let mut queue = DeadlineQueue::new();
        for i in 0..1_000_000u64 {
            queue.push(i, Timestamp::from_nanos(i as i64 * 1000));
            if queue.len() > 1000 {
                pop(&mut queue);
            }
        }
        assert!(queue.bytes() <= 3 * CHUNK * size_of::<Record<u64>>());
    }

    #[test]
    fn nothing_is_taken_before_its_time_nor_beyond_the_number_asked_for() {
        let mut queue = DeadlineQueue::new();
        let at = |i: i64| Timestamp::from_nanos(1_000_000 + i * 10_000);
        (0..10_000).for_each(|i| queue.push(i, at(i)));
        let mut taken = Vec::new();
        queue.pop_until(at(0).minus(Duration::from_nanos(1)), 5, |key, _| taken.push(key));
        assert!(taken.is_empty());
        queue.pop_until(at(4999), 20_000, |key, opened_at| {
            assert_eq!(opened_at, at(key));
            taken.push(key);
        });
        assert!(taken.iter().copied().eq(0..5000));
        queue.pop_until(at(9999), 7, |key, _| taken.push(key));
        assert!(taken.iter().copied().eq(0..5007));
        assert_eq!(queue.len(), 10_000 - 5007);
        assert_eq!(queue.front_opened_at(), Some(at(5007)));
    }

    #[test]
    fn a_record_takes_16_bytes_or_40() {
        assert_eq!((size::<[u32; 3]>(), size::<[u32; 9]>()), (16, 40));
    }
}
