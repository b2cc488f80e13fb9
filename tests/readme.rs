//! The README shows what the commands beside it print.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use halfopen::synth::Scenario;
use halfopen::synth::pcapfile::PcapWriter;
use std::path::Path;
use std::process::Command;

#[test]
fn the_replay_in_the_readme_is_what_is_printed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let shown: Vec<&str> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .skip_while(|line| *line != "$ halfopen replay attack.pcap")
        .skip(1)
        .take_while(|line| !line.starts_with('$'))
        .collect();
    assert!(shown.len() > 15, "{shown:#?}");

    let directory = std::env::temp_dir().join(format!("halfopen-readme-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let scenario = std::fs::read_to_string(root.join("tests/scenarios/readme-attack.toml")).unwrap();
    let mut file = PcapWriter::create(&directory.join("attack.pcap")).unwrap();
    Scenario::from_toml(&scenario).unwrap().stream().for_each(|at, frame| file.write(at, frame).unwrap());
    file.finish().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_halfopen"))
        .args(["replay", "attack.pcap"])
        .current_dir(&directory)
        .output()
        .unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    for (shown, printed) in shown.iter().zip(printed.lines()) {
        if shown.trim() == "..." {
            return;
        }
        assert_eq!(*shown, printed, "the README's line, and what is printed:\n{printed}");
    }
    panic!("the README ends with '...' before the cost, which differs by machine");
}
