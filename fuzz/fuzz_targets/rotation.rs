//! See bodies.rs, which plain `cargo test --test fuzz` runs too.

#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::rotation(bytes));
