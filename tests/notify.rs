//! What systemd is told, on a socket that this test stands behind. Needs root, to capture; elsewhere it says that it was skipped.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that fails should say so at once"
)]
#![allow(unreachable_pub, reason = "its modules are its own")]

mod support;

use rustix::process::geteuid;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;
use std::time::Duration;
use support::process::{Process, Signal};
use support::skipped;

#[test]
fn readiness_life_and_the_stop_are_told() {
    if !geteuid().is_root() {
        skipped("notify: needs root, to capture");
        return;
    }
    let file = std::env::temp_dir().join(format!("halfopen-notify-{}", std::process::id()));
    let _ = std::fs::remove_file(&file);
    let hidden = format!("halfopen-notify-{}", std::process::id());
    let by_name = UnixDatagram::bind(&file).unwrap();
    let by_abstract = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&hidden).unwrap()).unwrap();
    for (socket, place) in [(by_name, file.display().to_string()), (by_abstract, format!("@{hidden}"))] {
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_halfopen"));
        command.args(["run", "-i", "lo", "-f", "tcp port 1", "--web.listen-address", "127.0.0.1:0"]);
        let mut process = Process::start(command.env("NOTIFY_SOCKET", place).env("WATCHDOG_USEC", "1000000"));
        let next = || {
            let mut buffer = [0; 200];
            let length = socket.recv(&mut buffer).unwrap_or_else(|why| panic!("nothing was told: {why}"));
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        assert_eq!(next(), "READY=1");
        // On a silent link: it is life that is told, not traffic.
        for _ in 0..4 {
            assert_eq!(next(), "WATCHDOG=1", "{}", process.describe());
        }
        process.signal(Signal::Terminate);
        while next() != "STOPPING=1" {}
        assert_eq!(process.wait(Duration::from_secs(2)).code(), Some(0));
    }
    let _ = std::fs::remove_file(&file);
}
