//! Configuration: how large the parts of the half-open table may get, from the number of its entries.
//!
//! Stage 3 makes its parts by these figures, and `limits` adds them up: what is reckoned is what can be taken.

/// Entries a shard of a map is made for. A shard doubles under its lock, which at this size takes about half a millisecond, well below
/// the 5 ms that a packet may wait; more and smaller shards would only spread their heads over more of the cache. They begin
/// empty: room kept for millions would spread the few entries of a quiet day over as much memory.
const ENTRIES_PER_SHARD: usize = 16_384;

/// Shards at most.
const MAX_SHARDS: usize = 4096;

/// Shards of the map of attempts that crossed another, which are few.
pub(crate) const CROSSED_SHARDS: usize = 16;

/// One attempt in so many may have crossed another: nobody opens at once from both sides on purpose, but whoever forges both SYNs could
/// make each entry two, in a map of its own.
const CROSSED: usize = 64;

/// Bytes of a bucket with its control byte: an IPv4 entry and an IPv6 one. Either family may hold all entries, and the maps of the one
/// keep their buckets when the other's entries come.
const BUCKETS: u64 = 33 + 57;

/// Bytes of deadlines that a packet thread may keep for each entry the table may hold, 16 for IPv4 and 40 for IPv6; those of attempts
/// that ended stay until their time comes. Four an entry of IPv4, and for a table full of IPv6 half as many again as are open.
const DEADLINES: usize = 64;

/// A small table may still keep the deadlines of so many.
const MIN_RECORDS: usize = 1 << 16;

/// Records of a chunk of deadlines: 16 kB of IPv4 records, so that growing never copies and a quiet sensor stays small.
pub(crate) const CHUNK: usize = 1024;

/// Queues of deadlines of a packet thread and family: three waits by six grace classes. Besides whole chunks each has one half taken,
/// one half filled and a spare.
const QUEUES: u64 = 18 * 3;

/// Grace classes of both families, a ring each, of words of two bytes.
const RINGS: u64 = 2 * 6 * 2;

/// Attempts that ended wait for their grace age too: rings with room for 87,000 handshakes a second of 3 s, however small the table.
const SMALLEST_RING: usize = 1 << 18;

/// More no ticket can tell apart.
const LARGEST_RING: usize = 1 << 23;

/// The most of each part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// Shards of a family's map; a power of two.
    pub(crate) shards: usize,
    /// Buckets of one of them; a power of two.
    pub(crate) buckets: usize,
    /// Attempts that crossed another.
    pub(crate) crossed: usize,
    /// Buckets of a shard of theirs; a power of two.
    pub(crate) crossed_buckets: usize,
    /// Bytes of deadlines of a packet thread, chunks that are not full apart.
    pub(crate) deadlines: usize,
    /// Words of a ring: attempts that wait for one grace age, of one family and packet thread; a power of two.
    pub(crate) ring: usize,
}

impl Room {
    /// Of a table of so many entries.
    pub(crate) fn new(entries: usize) -> Self {
        let shards = entries.div_ceil(ENTRIES_PER_SHARD).next_power_of_two().clamp(16, MAX_SHARDS);
        let crossed = (entries / CROSSED).max(CROSSED);
        Self {
            shards,
            buckets: buckets(entries, shards),
            crossed,
            crossed_buckets: buckets(crossed, CROSSED_SHARDS),
            deadlines: DEADLINES * entries.max(MIN_RECORDS),
            ring: entries.next_power_of_two().clamp(SMALLEST_RING, LARGEST_RING),
        }
    }

    /// Bytes of all maps.
    pub(crate) fn of_maps(&self) -> u64 {
        (self.shards * self.buckets + CROSSED_SHARDS * self.crossed_buckets) as u64 * BUCKETS
    }

    /// Bytes of a packet thread's deadlines and rings.
    pub(crate) fn of_thread(&self) -> u64 {
        self.deadlines as u64 + QUEUES * CHUNK as u64 * (16 + 40) + RINGS * self.ring as u64
    }
}

/// Buckets that a shard is allowed: as many as leave its part of the entries three quarters of what it can take, seven of eight.
/// Then an emptied bucket is seldom one that has to be swept, and making the map anew (`track/table.rs`) is seldom needed. A keyed
/// hash spreads the entries; six standard deviations more than its part a shard sees once in a billion times.
fn buckets(entries: usize, shards: usize) -> usize {
    let part = entries.div_ceil(shards);
    let most = part + 6 * (part.isqrt() + 1);
    (most * 4 * 8).div_ceil(3 * 7).next_power_of_two().max(16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand, of the default table: 64 shards of 16,384 entries and 6 times 129; 26,157 buckets, so 32,768.
    #[test]
    fn of_a_million() {
        let room = Room::new(1 << 20);
        let expected = Room {
            shards: 64,
            buckets: 32_768,
            crossed: 16_384,
            crossed_buckets: 2_048,
            deadlines: 64 << 20,
            ring: 1 << 20,
        };
        assert_eq!(room, expected);
        assert_eq!(room.of_maps(), (2_097_152 + 32_768) * 90);
    }

    #[test]
    fn more_entries_never_take_less() {
        let mut before = Room::new(1024);
        for entries in (1024..1 << 22).step_by(997) {
            let room = Room::new(entries);
            assert!(
                room.of_maps() >= before.of_maps() && room.of_thread() >= before.of_thread(),
                "{entries}"
            );
            before = room;
        }
    }
}
