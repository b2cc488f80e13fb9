//! Traffic out of nothing, for tests, benchmarks and demonstrations; the sensor does not use it.
//!
//! ```text
//!  scenario  -->  traffic  -->  conversation  -->  frame  -->  pcapfile | source
//!  (TOML)         arrivals      segments of one     bytes       a file    the pipeline
//! ```
//!
//! Everything is a function of the scenario and its seed: the same bytes on every machine, for ever. Memory is bounded by the
//! conversations open at once, not by the length of the trace. The addresses are those reserved for documentation and for
//! benchmarks (RFC 5737, RFC 2544, RFC 3849); nothing here opens a socket.

pub mod address;
pub mod arrivals;
pub mod conversation;
mod departures;
pub mod frame;
pub mod kinds;
pub mod pcapfile;
pub mod random;
pub mod scenario;
pub mod source;
pub mod stream;
pub mod traffic;

pub use scenario::{Scenario, ScenarioError};
pub use stream::{Stream, Tally};
