//! The house keeps its order: who may import whom, who may touch what, how long a file may be, and that documents name what exists.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails should say so at once")]

use std::path::{Path, PathBuf};

/// What a stage may import besides itself and what everybody shares; `*` after a path means anything below it.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("capture", &[]),
    ("decode", &["capture::Frame", "capture::LinkType"]),
    ("track", &["decode::segment"]),
    ("detect", &["track::event", "track::flow"]),
    ("report", &["detect::incident"]),
];

/// Shared vocabulary: time, addresses, the histogram, the words of an error, and the configuration, of which each stage takes its own part.
const SHARED: &[&str] = &["time", "histogram", "os_error", "config", "decode::segment::Endpoint"];

/// A file may have this many lines before its tests, and a file of tests as many.
const LONGEST: usize = 400;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a folder, with its text.
fn whole(below: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(below), &mut found);
    found.sort();
    let read = |path: PathBuf| {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        (name, std::fs::read_to_string(&path).unwrap())
    };
    found.into_iter().map(read).collect()
}

/// Whether a file of `src` is all tests: by its name, or by its folder's.
fn is_all_tests(name: &str) -> bool {
    let tests = |part: &str| part == "tests" || part.ends_with("_tests");
    name.strip_prefix("src/")
        .is_some_and(|name| name.split('/').any(|part| tests(part.strip_suffix(".rs").unwrap_or(part))))
}

/// Every Rust file below a folder that is not all tests, with its text up to its tests.
fn sources(below: &str) -> Vec<(String, String)> {
    let up_to_tests = |(name, mut text): (String, String)| {
        // At the margin: what is within a type and for tests alone is code like what surrounds it.
        text.truncate(text.find("\n#[cfg(test)]").unwrap_or(text.len()));
        (name, text)
    };
    whole(below).into_iter().filter(|(name, _)| !is_all_tests(name)).map(up_to_tests).collect()
}

/// The paths after `crate::` in a text, one per imported name: `a::{b, c::d}` gives `a::b` and `a::c::d`.
fn imports(text: &str) -> Vec<String> {
    let code: String =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        expand(&code[at + "crate::".len()..], "", &mut found);
    }
    found
}

fn expand(rest: &str, prefix: &str, found: &mut Vec<String>) {
    let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(rest.len());
    let path = format!("{prefix}{}", &rest[..end]);
    let Some(group) = rest[end..].strip_prefix('{') else {
        found.push(path.trim_end_matches(':').to_owned());
        return;
    };
    let mut depth = 0;
    let mut start = 0;
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                let item = group[start..i].trim();
                if !item.is_empty() {
                    expand(item, &path, found);
                }
                start = i + 1;
                if c == '}' {
                    return;
                }
            }
            _ => {}
        }
    }
}

fn within(path: &str, allowed: &str) -> bool {
    path == allowed || path.strip_prefix(allowed).is_some_and(|rest| rest.starts_with("::"))
}

#[test]
fn imports_are_told_apart() {
    let text = "use crate::a::{b, c::{d, e}};\nfn f() { crate::g::h(); }\n// crate::not::this\nuse crate::i;";
    assert_eq!(imports(text), ["a::b", "a::c::d", "a::c::e", "g::h", "i"]);
}

#[test]
fn a_stage_imports_only_the_type_file_of_the_stage_before() {
    let mut wrong = Vec::new();
    for (stage, may) in MAY_IMPORT {
        for (file, text) in sources(&format!("src/{stage}")) {
            for path in imports(&text) {
                let allowed = within(&path, stage)
                    || SHARED.iter().any(|shared| within(&path, shared))
                    || may.iter().any(|allowed| within(&path, allowed));
                if !allowed {
                    wrong.push(format!("{file} imports {path}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn crates_are_named_only_where_they_belong() {
    /// A crate, and the only places that may name it.
    const HOMES: &[(&str, &[&str])] = &[
        ("dashmap::", &["src/track/table.rs"]),
        ("pcap::", &["src/capture/", "src/synth/"]),
        ("pnet_packet::", &["src/decode/"]),
        ("prometheus::", &["src/report/"]),
        ("tokio::", &["src/report/", "src/app/", "src/shutdown.rs", "src/main.rs"]),
        ("axum::", &["src/report/"]),
        ("ratatui::", &["src/app/top/"]),
        ("ureq::", &["src/app/"]),
        ("ring::", &["src/report/http/"]),
        ("landlock::", &["src/capture/privileges"]),
        ("seccompiler::", &["src/capture/privileges"]),
        ("tokio_rustls::", &["src/report/http/"]),
        ("bcrypt::", &["src/report/http/", "src/config/web_file.rs"]),
        ("tracing::", &["src/report/", "src/app/", "src/capture/"]),
    ];
    let mut wrong = Vec::new();
    for (file, text) in sources("src") {
        for (name, homes) in HOMES {
            let starts = |at: usize| {
                at == 0
                    || !text.as_bytes()[at - 1].is_ascii_alphanumeric()
                        && text.as_bytes()[at - 1] != b'_'
                        && text.as_bytes()[at - 1] != b':'
            };
            let code = text.match_indices(name).any(|(at, _)| {
                let line = text[..at].rfind('\n').map_or(0, |start| start + 1);
                starts(at) && !text[line..at].trim_start().starts_with("//")
            });
            if code && !homes.iter().any(|home| file.starts_with(home)) {
                wrong.push(format!("{file} names {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_clock_is_read_on_the_packet_path() {
    let mut wrong = Vec::new();
    for (file, text) in sources("src") {
        let reads = text.contains("Instant::now()") || text.contains("SystemTime::now()");
        let may = ["src/capture/live", "src/report/", "src/app/"].iter().any(|home| file.starts_with(home));
        if reads && !may {
            wrong.push(file);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?} read a clock");
}

#[test]
fn every_file_is_short_and_says_what_it_may_not_do() {
    let mut wrong = Vec::new();
    for (file, text) in sources("src") {
        let lines = text.lines().count();
        if lines > LONGEST {
            wrong.push(format!("{file} has {lines} lines"));
        }
        if !text.starts_with("//!") {
            wrong.push(format!("{file} does not say what it is"));
        }
    }
    let of_tests = |(name, _): &(String, String)| is_all_tests(name) || name.starts_with("tests/");
    for (file, text) in ["src", "tests"].into_iter().flat_map(whole).filter(of_tests) {
        let lines = text.lines().count();
        if lines > LONGEST {
            wrong.push(format!("{file} has {lines} lines"));
        }
        if !text.starts_with("//!") {
            wrong.push(format!("{file} does not say what it tests"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_is_left_unfinished_or_silenced() {
    let marks = [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["todo", "!("].concat(),
        ["unimpl", "emented!("].concat(),
    ];
    let mut wrong = Vec::new();
    for folder in ["src", "tests", "benches", "examples"] {
        for (file, text) in sources(folder) {
            for mark in &marks {
                if text.contains(mark.as_str()) {
                    wrong.push(format!("{file}: {mark}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_dependency_has_its_reason_beside_it() {
    let mut wrong = Vec::new();
    for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
        let text = std::fs::read_to_string(root().join(manifest)).unwrap();
        let (mut among, mut looked_at) = (false, 0);
        for line in text.lines() {
            if line.starts_with('[') {
                among = line.ends_with("dependencies]");
            } else if among && line.contains('=') && !line.contains("path = ") {
                looked_at += 1;
                if line.split_once(" # ").is_none_or(|(_, reason)| reason.trim().is_empty()) {
                    wrong.push(format!("{manifest}: {line}"));
                }
            }
        }
        assert!(looked_at > 0, "{manifest}");
    }
    assert!(wrong.is_empty(), "no reason given: {}", wrong.join("\n"));
}

/// The words in backticks of a text.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2).filter(|word| !word.contains('\n'))
}

/// Whether a test named so, or beginning so, is in a Rust file.
fn has_test(file: &Path, name: &str) -> bool {
    std::fs::read_to_string(file).is_ok_and(|text| text.contains(&format!("fn {name}")))
}

#[test]
fn every_claim_about_security_names_a_test_that_exists() {
    let text = std::fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let mut wrong = Vec::new();
    let mut claims = 0;
    for row in text.lines().filter(|line| line.starts_with('|') && !line.starts_with("| ---")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        assert_eq!(cells.len(), 3, "{row}");
        if cells[2] == "shown by" {
            continue;
        }
        claims += 1;
        // A file and the test's whole name.
        let named: Vec<(&str, &str)> = quoted(cells[2]).filter_map(|word| word.split_once(".rs ")).collect();
        if named.is_empty() {
            wrong.push(format!("'{}' names no test", cells[0]));
        }
        for (file, test) in named {
            if !has_test(&root().join(format!("{file}.rs")), &format!("{test}(")) {
                wrong.push(format!("'{}': {file}.rs has no test {test}", cells[0]));
            }
        }
    }
    assert!(claims > 10, "{claims} claims");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_command_that_a_document_names_is_there() {
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    let all_tests: Vec<(String, String)> = ["src", "tests"].iter().flat_map(|folder| whole(folder)).collect();
    let mut documents = vec!["README.md".to_owned(), "SECURITY.md".to_owned(), "ARCHITECTURE.md".to_owned()];
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        documents.extend(name.ends_with(".md").then(|| format!("docs/{name}")));
    }
    let mut wrong = Vec::new();
    for document in documents {
        let text = std::fs::read_to_string(root().join(&document)).unwrap();
        for command in quoted(&text) {
            let words: Vec<&str> = command.split_whitespace().skip_while(|word| word.contains('=')).collect();
            let there = match *words.as_slice() {
                ["make", target, ..] if !target.contains('=') => makefile.contains(&format!("\n{target}:")),
                ["cargo", "test", "--test", test, ref rest @ ..] => {
                    let file = format!("tests/{test}.rs");
                    let folder = format!("tests/{test}/");
                    let filter = rest.first().filter(|word| !word.starts_with('-'));
                    all_tests.iter().any(|(name, text)| {
                        (*name == file || name.starts_with(&folder))
                            && filter.is_none_or(|filter| text.contains(&format!("fn {filter}")))
                    })
                }
                // A module: its file or folder has that name.
                ["cargo", "test", "--lib" | "--bin", ref rest @ ..] => {
                    let filter = rest.iter().find(|word| !word.starts_with('-') && **word != "halfopen");
                    filter.is_none_or(|filter| {
                        let path = filter.trim_end_matches("::").replace("::", "/");
                        all_tests
                            .iter()
                            .any(|(name, text)| name.contains(&path) || text.contains(&format!("fn {path}")))
                    })
                }
                _ => true,
            };
            if !there {
                wrong.push(format!("{document}: {command}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
