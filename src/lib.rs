//! halfopen: a SYN flood detector and embryonic-connection monitor.
//!
//! ```text
//!  capture  -->  decode  -->  track  -->  detect  -->  report
//!        Frame        Segment      Event        Incident
//! ```
//!
//! A stage imports `time`, its own part of `config`, itself, and the type file of the stage before it. Only `pipeline` and the
//! binary know all five. Time comes in with the packet: live capture and replay are one loop, and the same trace gives the
//! same output, always.

pub mod histogram;
pub mod os_error;
pub mod time;

pub mod config;

pub mod capture;
pub mod decode;
pub mod detect;
pub mod report;
pub mod track;

pub mod pipeline;

pub mod synth;
