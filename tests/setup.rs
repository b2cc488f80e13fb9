//! What the set-up asks package managers for, on systems that lack everything. The managers are stand-ins that note what they are asked
//! for; the names are those of the distributions' own package lists, written here by hand.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A directory that is the whole of a system's path: a shell's few helpers, cargo, and one package manager.
struct System(PathBuf);

impl System {
    fn new(manager: &str, kernel: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("halfopen-setup-{}-{manager}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let system = Self(directory);
        for tool in ["sh", "sed", "grep", "ls", "env"] {
            let found = ["/usr/bin", "/bin"].map(|path| Path::new(path).join(tool));
            let found = found.iter().find(|path| path.exists()).expect("a tool of every system");
            symlink(found, system.0.join(tool)).unwrap();
        }
        system.stub("cargo", "exit 0");
        system.stub("id", "echo 0");
        system.stub("uname", &format!("echo {kernel}"));
        system.stub(manager, "echo \"$0 $*\" >> \"$ASKED\"");
        system
    }

    fn stub(&self, name: &str, body: &str) {
        let path = self.0.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// The script's output, and what the manager was asked for.
    fn set_up(&self, arguments: &[&str]) -> (Output, String) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let asked = self.0.join("asked");
        // The script adds the administrators' directories to the path, where this machine's own tools may lie; it may not find them.
        let text = std::fs::read_to_string(root.join("scripts/setup.sh")).unwrap();
        let line = text.lines().find(|line| line.starts_with("PATH=")).expect("the line that sets the path");
        let script = self.0.join("setup.sh");
        std::fs::write(&script, text.replace(line, "")).unwrap();
        let output = Command::new(self.0.join("sh"))
            .arg(&script)
            .args(arguments)
            .env_clear()
            .env("PATH", &self.0)
            .env("HOME", &self.0)
            .env("ASKED", &asked)
            .output()
            .unwrap();
        let asked = std::fs::read_to_string(asked).unwrap_or_default();
        (output, asked.replace(&format!("{}/", self.0.display()), ""))
    }
}

impl Drop for System {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn dnf_and_apk_are_asked_by_their_own_names() {
    for (manager, expected) in [
        ("dnf", "dnf install -y gcc glibc-devel libpcap-devel libcap\n"),
        ("apk", "apk add gcc musl-dev libpcap-dev libcap-setcap\n"),
    ] {
        let (output, asked) = System::new(manager, "Linux").set_up(&[]);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(asked, expected);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains("setup: installing: "), "says so before it does: {said}");
    }
}

#[test]
fn with_tests_what_a_system_does_not_package_is_named_and_skipped() {
    for (manager, expected, missing) in [
        (
            "dnf",
            "dnf install -y gcc glibc-devel libpcap-devel libcap tcpdump wireshark-cli chromium tmux iproute\n",
            "prometheus",
        ),
        (
            "apk",
            "apk add gcc musl-dev libpcap-dev libcap-setcap tcpdump tshark prometheus chromium tmux iproute2\n",
            "prometheus-alertmanager",
        ),
    ] {
        let (output, asked) = System::new(manager, "Linux").set_up(&["--tests"]);
        assert_eq!(asked, expected);
        let said = String::from_utf8(output.stdout).unwrap();
        let line =
            format!("setup: {missing} is not among this system's packages; what needs it will be skipped\n");
        assert!(said.contains(&line), "{said}");
    }
}

#[test]
fn homebrew_has_no_compiler_and_the_first_of_the_two_is_said_to_be_missing() {
    let (output, asked) = System::new("brew", "Darwin").set_up(&[]);
    assert_eq!((output.status.code(), asked.as_str()), (Some(1), ""));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("cc is missing and this script cannot install it here"), "{said}");

    let system = System::new("brew", "Darwin");
    // With a compiler that finds no libpcap.
    system.stub("cc", "exit 1");
    let (output, asked) = system.set_up(&[]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(asked, "brew install libpcap\n");
}

#[test]
fn without_a_package_manager_it_says_what_to_do() {
    let (output, _) = System::new("nothing", "Linux").set_up(&[]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("install a C compiler and libpcap's headers by hand"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
