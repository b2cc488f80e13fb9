//! The real binary: what it accepts, what it says, and with which status it ends. Expectations are the contract's, by hand.

// Helpers outside of #[test] functions are test code too; stopping times are measured by the wall clock.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, clippy::disallowed_methods)]

#[path = "cli/refusals.rs"]
mod refusals;
#[path = "cli/running.rs"]
mod running;

use halfopen::synth::Scenario;
use halfopen::synth::pcapfile::PcapWriter;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

fn halfopen(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_halfopen")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A file of this test's own, removed with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("halfopen-cli-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn help_names_every_flag_of_the_contract() {
    let top = halfopen(&["--help"]);
    assert_eq!(top.status.code(), Some(0));
    for command in ["run", "replay", "journal", "top", "healthcheck", "check", "interfaces"] {
        assert!(out(&top).lines().any(|line| line.trim_start().starts_with(command)), "{command}");
    }
    for (command, flags) in [
        (
            "run",
            &[
                "-i, --interface",
                "-f, --filter",
                "--config.file",
                "--web.listen-address",
                "--web.telemetry-path",
                "--log.level",
                "--log.format",
                "-h, --help",
            ][..],
        ),
        (
            "replay",
            &["-f, --filter", "--config.file", "--json", "--events", "--report", "--metrics", "--exit-code"]
                [..],
        ),
        ("journal", &["--since", "--until", "--server", "--kind", "--limit", "--json"][..]),
        ("top", &["--url"][..]),
    ] {
        let help = out(&halfopen(&[command, "--help"]));
        for flag in flags {
            assert!(help.contains(flag), "{command} --help lacks {flag}");
        }
    }
    let version = halfopen(&["--version"]);
    assert_eq!(out(&version).trim(), format!("halfopen {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_is_one_line_and_status_2() {
    for (arguments, expected) in [
        (&[][..], "no command given; try 'halfopen --help'"),
        (&["rnu"][..], "unrecognized subcommand 'rnu'"),
        (&["replay"][..], "<FILE>"),
        (&["replay", "--jsno", "x"][..], "'--json'"),
        (&["run", "--web.listen-address", "nowhere"][..], "'nowhere' has no port"),
        (&["run", "--web.telemetry-path", "/-/ready"][..], "taken by another page"),
        (&["run", "--log.level", "loud"][..], "error, warn, info, debug"),
        (&["run", "-i", "any", "-i", "lo"][..], "name it alone, or leave it out"),
        (&["top", "--url", "ftp://x"][..], "'ftp://x' is no address of a sensor"),
        (&["journal"][..], "<FILE>"),
        (&["journal", "--since", "yesterday", "j"][..], "no point in time"),
        (&["journal", "--since", "2026-01-02", "--until", "2026-01-01", "j"][..], "swap them"),
        (&["journal", "--kind", "mood", "j"][..], "spoofed_flood"),
        (&["journal", "-", "-"][..], "named twice"),
        (&["run", "-i", ""][..], "'halfopen interfaces' lists them"),
        (&["run", "--config.file", "/nonexistent/\n\u{1b}[31mx"][..], "/nonexistent/\\n\\u{1b}[31mx: "),
        (
            &["run", "--config.file", "/nonexistent/x.toml"][..],
            "/nonexistent/x.toml: no such file or directory",
        ),
    ] {
        let output = halfopen(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let text = err(&output);
        assert_eq!(text.lines().count(), 1, "{arguments:?}: {text}");
        assert!(text.starts_with("halfopen: ") && text.contains(expected), "{arguments:?}: {text}");
        assert_eq!(out(&output), "");
    }
    let text = err(&halfopen(&["replay", "--jsno", "x"]));
    assert!(text.ends_with("try 'halfopen replay --help'\n"), "{text}");
}

/// One TCP SYN from 198.18.0.1 to 198.51.100.10:80, in a pcap file of one frame.
fn one_syn() -> Vec<u8> {
    let mut frame = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 0x08, 0x00];
    frame.extend([0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 198, 18, 0, 1, 198, 51, 100, 10]);
    frame.extend([0x04, 0xd2, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1, 1_750_000_000, 500_000] {
        file.extend(word.to_le_bytes());
    }
    for _ in 0..2 {
        file.extend((frame.len() as u32).to_le_bytes());
    }
    file.extend(frame);
    file
}

#[test]
fn replays_one_syn() {
    let pcap = Scratch::new("syn.pcap", "");
    std::fs::write(pcap.path(), one_syn()).unwrap();
    let metrics = Scratch::new("metrics.prom", "");
    let events = Scratch::new("events.jsonl", "");
    let output =
        halfopen(&["replay", "--json", "--metrics", metrics.path(), "--events", events.path(), pcap.path()]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let document: serde_json::Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!(document["schema"], 1);
    assert_eq!(document["source"]["first_timestamp"], 1_750_000_000.5);
    assert_eq!(document["source"]["link_types"], serde_json::json!(["EN10MB"]));
    assert_eq!(document["frames"]["read"], 1);
    assert_eq!(document["segments"]["syn"], 1);
    assert_eq!(document["handshakes"]["open"]["syn_sent"], 1);
    let exposition = std::fs::read_to_string(metrics.path()).unwrap();
    assert!(exposition.contains("halfopen_embryonic_connections{state=\"syn_sent\"} 1\n"));
    assert_eq!(std::fs::read_to_string(events.path()).unwrap(), "");

    let table = halfopen(&["replay", pcap.path()]);
    assert!(out(&table).contains("1 attempts = 0 completed"), "{}", out(&table));

    for flag in ["--report", "--metrics"] {
        assert_eq!(halfopen(&["replay", flag, pcap.path(), pcap.path()]).status.code(), Some(2), "{flag}");
    }
    let over = halfopen(&["replay", "--events", pcap.path(), pcap.path()]);
    assert_eq!(over.status.code(), Some(2), "a capture is never written over");
    assert_eq!(std::fs::read(pcap.path()).unwrap(), one_syn());

    // Cut in the middle of the frame: what came before counts, and the status says that something is wrong.
    let whole = one_syn();
    let twice: Vec<u8> = whole.iter().chain(&whole[24..whole.len() - 10]).copied().collect();
    std::fs::write(pcap.path(), twice).unwrap();
    let damaged = halfopen(&["replay", pcap.path()]);
    assert_eq!(damaged.status.code(), Some(1));
    assert!(out(&damaged).contains("1 read = 1 TCP"), "{}", out(&damaged));
    assert_eq!(err(&damaged).lines().count(), 1, "{}", err(&damaged));
    assert!(err(&damaged).contains(pcap.path()));
}

#[test]
fn a_journal_is_read_back_as_it_was_told() {
    // Two floods that end, and one that runs on when the trace is over.
    let scenario = Scenario::from_toml(
        "seed = 5\nduration = 150\n\
         [[traffic]]\nkind = \"handshakes\"\nservers = \"192.0.2.10:443\"\nrate = 20\n\
         [[traffic]]\nkind = \"flood\"\nservers = \"192.0.2.10:443\"\nrate = 300\nstart = 20\nduration = 10\nanswers = \"drop\"\n\
         [[traffic]]\nkind = \"flood\"\nservers = \"[2001:db8::10]:443\"\nsources = \"2001:db8:1::/48\"\nrate = 300\nstart = 30\nduration = 10\nanswers = \"drop\"\n\
         [[traffic]]\nkind = \"flood\"\nservers = \"192.0.2.20:80\"\nrate = 300\nstart = 130\n",
    )
    .unwrap();
    let pcap = Scratch::new("told.pcap", "");
    let mut writer = PcapWriter::new(Vec::new(), halfopen::capture::LinkType::ETHERNET).unwrap();
    scenario.stream().for_each(|ts, frame| writer.write(ts, frame).unwrap());
    std::fs::write(&pcap.0, writer.finish().unwrap()).unwrap();
    let events = Scratch::new("told.jsonl", "");
    let replay = halfopen(&["replay", "--json", "--events", events.path(), pcap.path()]);
    assert_eq!(replay.status.code(), Some(0), "{}", err(&replay));
    let json = |output: &Output| -> serde_json::Value { serde_json::from_str(&out(output)).unwrap() };
    // What the detector holds at the end, which did not pass through a journal.
    let held = json(&replay)["incidents"].as_array().unwrap().clone();
    assert!(held.len() >= 3 && held.iter().any(|one| one["ended_at"].is_null()), "{held:?}");

    let read = halfopen(&["journal", "--json", events.path()]);
    assert_eq!((read.status.code(), err(&read)), (Some(0), String::new()));
    let told = json(&read)["incidents"].as_array().unwrap().clone();
    assert_eq!(told.len(), held.len());
    for one in &held {
        let same = told.iter().find(|other| other["id"] == one["id"]).unwrap();
        for field in ["kind", "server", "severity", "onset", "ended_at", "end_reason"] {
            assert_eq!(same[field], one[field], "{field} of {}", one["id"]);
        }
        // One that runs goes on growing after it was last told of.
        let (peak, of) = (same["syn_rate_peak"].as_f64().unwrap(), one["syn_rate_peak"].as_f64().unwrap());
        assert!(peak == of || one["ended_at"].is_null() && peak <= of, "{peak} of {of}");
    }
    let table = halfopen(&["journal", events.path()]);
    for one in &held {
        assert!(out(&table).contains(one["id"].as_str().unwrap()), "{}", out(&table));
    }

    // The same in two files, the older gzip and named last; the newer cut in its last line.
    let lines = std::fs::read_to_string(&events.0).unwrap();
    let half = lines.match_indices('\n').nth(lines.lines().count() / 2).unwrap().0 + 1;
    let older = Scratch::new("told.jsonl.1", "");
    let file = std::fs::File::create(&older.0).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::default());
    gzip.write_all(&lines.as_bytes()[..half]).unwrap();
    gzip.finish().unwrap();
    std::fs::write(&events.0, format!("{}{}", &lines[half..], &lines[..100])).unwrap();
    let cut = halfopen(&["journal", "--json", events.path(), older.path()]);
    assert_eq!(json(&cut)["incidents"].as_array().unwrap(), &told);
    assert_eq!(cut.status.code(), Some(1));
    let last = lines[half..].lines().count() + 1;
    let expected = format!(
        "halfopen: file '{}': line {last} is cut short; it was left out, the rest was read\n",
        events.path()
    );
    assert_eq!(err(&cut), expected);

    let only = |arguments: &[&str]| {
        let output = halfopen(&[&["journal", "--json", older.path(), events.path()], arguments].concat());
        json(&output)["incidents"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["server"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(only(&["--server", "192.0.2.20"]), ["192.0.2.20:80"]);
    assert_eq!(
        only(&["--since", "2025-06-15 15:08:30"]),
        ["192.0.2.20:80"],
        "those that ended before are left out"
    );
    assert_eq!(only(&["--kind", "port_scan"]), [""; 0]);

    let nowhere = halfopen(&["journal", "/nonexistent/j", events.path()]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(
        err(&nowhere).starts_with("halfopen: file '/nonexistent/j': no such file or directory; "),
        "{}",
        err(&nowhere)
    );
    assert!(out(&nowhere).contains("192.0.2.20:80"), "the other is read");
}

const COMMANDS: [&str; 9] =
    ["run", "replay", "journal", "top", "healthcheck", "check", "interfaces", "completions", "man"];

/// The flags that a help text lists, long and short.
fn flags(help: &str) -> Vec<&str> {
    let listed = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    listed
        .flat_map(|line| line.split([' ', ',']).take_while(|word| word.is_empty() || word.starts_with('-')))
        .filter(|word| !word.is_empty())
        .collect()
}

/// Whether a tool takes a file without a word; none where the tool is not installed.
fn accepts(tool: &str, arguments: &[&str]) -> Option<Output> {
    let result = Command::new(tool).args(arguments).stdin(Stdio::null()).output();
    if result.is_err() {
        eprintln!("SKIPPED: {tool} is not installed; scripts/setup.sh --packages installs it");
    }
    result.ok()
}

#[test]
fn every_page_of_the_manual_names_every_flag_and_satisfies_the_typesetters() {
    for command in [""].iter().chain(&COMMANDS[..8]) {
        let asked: Vec<&str> = ["man", command].into_iter().filter(|word| !word.is_empty()).collect();
        let page = halfopen(&asked);
        assert_eq!(page.status.code(), Some(0), "{}", err(&page));
        let text = out(&page).replace('\\', "");
        let help: Vec<&str> = [*command, "--help"].into_iter().filter(|word| !word.is_empty()).collect();
        let help = out(&halfopen(&help));
        let flags = flags(&help);
        assert!(flags.contains(&"--help"), "{help}");
        for flag in flags {
            assert!(text.contains(flag), "the page of '{command}' lacks {flag}");
        }
        assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{text}");

        let file = Scratch::new(&format!("page{command}.1"), &out(&page));
        for (tool, arguments) in [
            ("mandoc", &["-Tlint", "-W", "warning", file.path()][..]),
            ("groff", &["-ww", "-man", "-Tutf8", "-z", file.path()]),
        ] {
            let Some(said) = accepts(tool, arguments) else { continue };
            assert!(said.status.success() && out(&said).is_empty(), "{tool}: {}", out(&said));
            assert!(err(&said).is_empty(), "{tool}: {}", err(&said));
        }
    }
}

#[test]
fn the_completions_of_each_shell_are_well_formed_and_name_every_flag() {
    for (shell, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "-n")] {
        let script = halfopen(&["completions", shell]);
        assert_eq!(script.status.code(), Some(0), "{}", err(&script));
        for command in COMMANDS {
            let help = out(&halfopen(&[command, "--help"]));
            for flag in flags(&help).into_iter().filter(|flag| flag.starts_with("--")) {
                // fish writes a long flag as -l and its name.
                let bare = flag.trim_start_matches('-');
                let there = out(&script).contains(if shell == "fish" { bare } else { flag });
                assert!(there, "{shell} completes no {flag} of {command}");
            }
        }
        let file = Scratch::new(&format!("completions.{shell}"), &out(&script));
        let Some(said) = accepts(shell, &[check, file.path()]) else { continue };
        assert!(said.status.success() && err(&said).is_empty(), "{shell}: {}", err(&said));
    }
}

#[test]
fn bash_completes_a_command_and_a_flag_of_it() {
    let script = Scratch::new("completing.bash", &out(&halfopen(&["completions", "bash"])));
    for (words, expected) in [("halfopen re", "replay"), ("halfopen run --config.", "--config.file")] {
        let number = words.split(' ').count() - 1;
        let last = words.split(' ').next_back().unwrap();
        let ask = format!(
            "source '{}'; COMP_WORDS=({words}); COMP_CWORD={number}; _halfopen halfopen '{last}' ''; echo \"${{COMPREPLY[@]}}\"",
            script.path()
        );
        let Some(said) = accepts("bash", &["-c", &ask]) else { return };
        assert_eq!(out(&said).trim(), expected, "{}", err(&said));
    }
}
