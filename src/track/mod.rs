//! Stage 3 of 5, track: segments to handshake events, through a table of the embryonic connections.
//!
//! No bytes, no I/O, no clock, no metrics: it returns what happened.
//!
//! A segment goes `batch` -> `tracker` -> `table` (one entry of one shard) -> `handshake` (what it does) -> `event`. Time goes `expiry` ->
//! `lane` (what is due) -> `table` -> `event`; what a thread leaves behind goes to `estate`, and from there to the next. A segment of no handshake goes `tracker` -> `discover` -> `established` (one set) ->
//! `event`.

pub mod counts;
pub mod event;
pub mod flow;
pub mod table;
pub mod tracker;

mod batch;
mod consequence;
mod discover;
pub(crate) mod established;
mod estate;
mod expiry;
mod grace;
pub(crate) mod handshake;
mod lane;
mod oddity;
pub(crate) mod packed;
mod prefetch;
mod queue;
mod remembered;
mod shares;
mod stored;
mod stray;
mod visibility;
mod waiting;
