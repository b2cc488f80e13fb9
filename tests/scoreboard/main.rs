//! The scoreboard: every scenario of `tests/scenarios` through the real pipeline, against what must come of it.
//!
//! `cargo test --test scoreboard` runs the quick ones, `make scoreboard` all of them; words after `--` choose by name. Each
//! runs twice and must say the same twice; where it says so, two capture threads must say what one does. The exit status is 1
//! where anything was missed, came late or was raised for nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it is a table for people, and a broken scenario should say so at once"
)]

mod expect;
mod lockstep;
mod score;

use expect::Expect;
use halfopen::synth::Scenario;
use score::Row;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One scenario file.
struct Case {
    name: String,
    scenario: Scenario,
    expect: Expect,
}

fn main() -> ExitCode {
    let (flags, names): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    if flags.iter().any(|flag| flag == "--list") {
        return ExitCode::SUCCESS;
    }
    let all = flags.iter().any(|flag| flag == "--all");
    let cases: Vec<Case> = cases(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios"))
        .into_iter()
        .filter(|case| names.is_empty() || names.iter().any(|name| case.name.contains(name.as_str())))
        .filter(|case| all || !names.is_empty() || !case.expect.full)
        .collect();
    println!("\n{}", score::HEAD);
    let rows = run(&cases);
    let failed = rows.iter().filter(|row| !row.good()).count();
    println!("\n{} scenarios, {failed} failed.", rows.len());
    for line in rows.iter().flat_map(|row| &row.complaints) {
        println!("  {line}");
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Every scenario, by name.
fn cases(directory: &Path) -> Vec<Case> {
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    let read = |path: &std::path::PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let scenario = Scenario::from_toml(&text).unwrap_or_else(|why| panic!("{name}: {why}"));
        let expect = Expect::of(&scenario).unwrap_or_else(|why| panic!("{name}: {why}"));
        Case { name, scenario, expect }
    };
    files.iter().map(read).collect()
}

/// All of them on as many threads as there are processors; each row is printed as soon as those before it are.
fn run(cases: &[Case]) -> Vec<Row> {
    let next = AtomicUsize::new(0);
    let done: Mutex<(usize, Vec<Option<Row>>)> = Mutex::new((0, cases.iter().map(|_| None).collect()));
    let work = || {
        while let Some((number, case)) = {
            let number = next.fetch_add(1, Ordering::Relaxed);
            cases.get(number).map(|case| (number, case))
        } {
            let row = score::judge(&case.name, &case.scenario, &case.expect);
            let mut done = done.lock().unwrap();
            done.1[number] = Some(row);
            while let Some(Some(row)) = done.1.get(done.0) {
                println!("{row}");
                done.0 += 1;
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            worker.join().unwrap();
        }
    });
    done.into_inner().unwrap().1.into_iter().flatten().collect()
}
