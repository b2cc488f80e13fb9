//! The loop: event, advance, expire, decode, track, detect. Live and replay run it alike.
//!
//! The only folder besides the binary that knows all five stages. It decides nothing.

mod closing;
mod lens;
mod memory;
mod packets;
mod relay;
mod remember;
mod shared;
mod targets;
mod view;

pub use shared::{Discovered, Journal, Sensor};
