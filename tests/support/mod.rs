//! What the live tests stand on: namespaces, processes and helpers, each cleaned up when it is dropped.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod browser;
pub mod helper;
pub mod laws;
pub mod monitoring;
pub mod namespaces;
pub mod process;
pub mod served;

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Says on the terminal, past the test harness's capture, that a test did not run and what it lacks.
pub fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// Whether every one of these programs starts; says which does not.
pub fn has_tools(tools: &[(&str, &str)]) -> bool {
    tools.iter().all(|(tool, question)| {
        let there =
            Command::new(tool).arg(question).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
        if !there {
            skipped(&format!("{tool} is not installed; 'scripts/setup.sh --tests' installs it"));
        }
        there
    })
}

/// Asks until the answer is there; panics with the last refusal once the time is over.
pub fn wait_for<T>(what: &str, within: Duration, mut ask: impl FnMut() -> Result<T, String>) -> T {
    #[allow(clippy::disallowed_methods)] // a deadline of a test on a real kernel
    let now = Instant::now;
    let deadline = now() + within;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(why) if now() >= deadline => panic!("{what}: not within {within:?}: {why}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Runs a command to its end; panics with its standard error where it fails.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|why| panic!("{command:?}: {why}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {stderr}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Sends a frame. A busy machine's queue may be full for a moment (ENOBUFS); a frame that never goes out fails the test.
pub fn send(link: &mut pcap::Capture<pcap::Active>, frame: &[u8]) {
    wait_for("room in the link's queue", Duration::from_secs(5), || {
        link.sendpacket(frame).map_err(|why| why.to_string())
    });
}
