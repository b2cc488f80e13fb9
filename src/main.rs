//! The binary: parses the command line, runs, chooses the exit status; nothing else.

fn main() {}
