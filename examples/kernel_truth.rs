//! Draws docs/kernel-truth: what the kernel held and what the model said, one picture a case, and the table of all of them.
//!
//! `cargo run --example kernel_truth` reads tests/kernel/records, writes docs/kernel-truth/*.svg and prints the table.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a tool that stops at the first mistake"
)]
#![allow(dead_code, unreachable_pub, reason = "the modules are the test's, which uses more of them")]

#[path = "../tests/kernel/compare.rs"]
mod compare;
#[path = "../tests/kernel/oracle.rs"]
mod oracle;
#[path = "../tests/kernel/truth.rs"]
mod truth;

use compare::{Agreement, Point};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use truth::Truth;

const PANEL: (f64, f64) = (300.0, 130.0);
const MARGIN: (f64, f64) = (44.0, 26.0);
const COLUMNS: usize = 3;

struct Case {
    truth: Truth,
    points: Vec<Point>,
    backlog: u64,
}

fn main() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<PathBuf> = std::fs::read_dir(home.join("tests/kernel/records"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut groups: BTreeMap<String, Vec<Case>> = BTreeMap::new();
    for file in files {
        let truth = Truth::read(&file);
        let points = compare::points(&truth, true);
        let backlog = truth.about["backlog"].as_u64().unwrap();
        let group = truth.about["group"].as_str().unwrap().to_owned();
        groups.entry(group).or_default().push(Case { truth, points, backlog });
    }
    println!(
        "| case | SYN/s | most held | within 5 % | mean off | worst | alarm | first refusal | foreseen at half | off | perfect ones miss |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (group, cases) in &mut groups {
        cases.sort_by(|a, b| rate(a).total_cmp(&rate(b)));
        cases.sort_by_key(|case| case.backlog);
        for case in &*cases {
            println!("{}", row(group, case));
        }
        let directory = home.join("docs/kernel-truth");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(format!("{group}.svg")), picture(cases)).unwrap();
    }
}

fn rate(case: &Case) -> f64 {
    case.truth.about["rate"].as_f64().unwrap()
}

fn row(group: &str, case: &Case) -> String {
    let name = case.truth.about["name"].as_str().unwrap();
    let Agreement { within, mean, largest, .. } = Agreement::of(&case.points, case.backlog);
    let most = case.points.iter().map(|point| point.kernel).max().unwrap();
    // By the kernel's own counters where they are this case's alone.
    let counted = case.truth.first_counted();
    let refusal =
        if case.truth.about["alone"] == true { counted } else { compare::first_refusal(&case.truth) };
    let began = compare::began(&case.truth);
    // Only where something was to be foreseen: the whole detector is a hundred times slower than the model.
    let alarm = refusal
        .and_then(|_| compare::seen(&case.truth, true).raised(&case.truth, |_| true))
        .map(|alarm| format!("{:.1} s", alarm - began));
    let half = case.points.iter().find(|point| point.model * 2 >= case.backlog);
    let foreseen = half.filter(|half| refusal.is_some_and(|at| at > half.second)).map(|half| {
        half.time_to_full
            .map_or_else(|| "never".to_owned(), |time| format!("{:.1} s", half.second + time - began))
    });
    // Of the time from then to the refusal.
    let off = half.zip(refusal).filter(|(half, at)| *at > half.second).and_then(|(half, at)| {
        Some(format!("{:+.0} %", (half.time_to_full? / (at - half.second) - 1.0) * 100.0))
    });
    // Of random arrivals, and a queue that filled slowly: how much of that is chance.
    let slow =
        off.is_some() && refusal.is_some_and(|at| at - began > 2.0) && case.truth.about["even"] != true;
    let chance = slow.then_some(()).and_then(|()| {
        let share = |word, share| if name.contains(word) { share } else { 0.0 };
        oracle::chance(oracle::Arrivals {
            rate: rate(case),
            backlog: case.backlog as u32,
            duplicates: share("duplicates", 0.3),
            resets: share("resets", 0.5),
        })
    });
    format!(
        "| {group} {name} | {:.2} | {most} | {:.0} % | {mean:.1} | {largest} | {} | {}{} | {} | {} | {} |",
        rate(case),
        within * 100.0,
        alarm.unwrap_or_default(),
        refusal.map_or_else(String::new, |at| format!("{:.1} s", (at - began).max(0.0))),
        if counted.is_some() { " (counted)" } else { "" },
        foreseen.unwrap_or_default(),
        off.unwrap_or_default(),
        chance.map_or_else(String::new, |chance| format!("{:.0} %", chance.rate_seen * 100.0)),
    )
}

/// One panel a case.
fn picture(cases: &[Case]) -> String {
    let (width, height) = (PANEL.0 + MARGIN.0, PANEL.1 + 2.0 * MARGIN.1);
    let rows = cases.len().div_ceil(COLUMNS);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.0} {:.0}\" font-family=\"sans-serif\" font-size=\"10\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"8\" y=\"14\" fill=\"#888\">grey: the kernel (ss, state syn-recv); red: the model, from the wire; dashed: what the queue holds</text>\n",
        width * COLUMNS as f64 + 10.0,
        height * rows as f64 + 20.0,
    );
    for (index, case) in cases.iter().enumerate() {
        let (x, y) = ((index % COLUMNS) as f64 * width, (index / COLUMNS) as f64 * height + 20.0);
        writeln!(svg, "<g transform=\"translate({:.0} {:.0})\">", x + MARGIN.0 - 4.0, y + MARGIN.1 - 4.0)
            .unwrap();
        panel(&mut svg, case);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

fn panel(svg: &mut String, case: &Case) {
    let (width, height) = PANEL;
    let most = case.points.iter().map(|point| u64::from(point.kernel).max(point.model)).max().unwrap();
    let top = (most.max(8) as f64) * 1.1;
    let last = case.points.last().unwrap().second;
    let at = |second: f64, entries: f64| (second / last * width, height - entries / top * height);
    let line = |of: &dyn Fn(&Point) -> f64| {
        let points = case.points.iter().map(|point| at(point.second, of(point)));
        points.map(|(x, y)| format!("{x:.0},{y:.1}")).collect::<Vec<_>>().join(" ")
    };
    let (name, group) =
        (case.truth.about["name"].as_str().unwrap(), case.truth.about["group"].as_str().unwrap());
    writeln!(
        svg,
        "<text y=\"-5\">{group} {name}: backlog {}, {:.1} SYN/s</text>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"none\" stroke=\"#ccc\"/>",
        case.backlog,
        rate(case),
    )
    .unwrap();
    let (_, full) = at(0.0, case.backlog as f64 + 1.0);
    if full >= 0.0 {
        writeln!(svg, "<path d=\"M0 {full:.1}H{width}\" stroke=\"#888\" stroke-dasharray=\"3 3\"/>").unwrap();
    }
    writeln!(
        svg,
        "<polyline fill=\"none\" stroke=\"#aaa\" stroke-width=\"4\" points=\"{}\"/>\n\
         <polyline fill=\"none\" stroke=\"#c22\" stroke-width=\"1.2\" points=\"{}\"/>\n\
         <text x=\"-4\" y=\"8\" text-anchor=\"end\" fill=\"#666\">{top:.0}</text><text x=\"-4\" y=\"{height}\" text-anchor=\"end\" fill=\"#666\">0</text>\n\
         <text x=\"{width}\" y=\"{:.0}\" text-anchor=\"end\" fill=\"#666\">{last:.0} s</text>",
        line(&|point| f64::from(point.kernel)),
        line(&|point| point.model as f64),
        height + 11.0,
    )
    .unwrap();
}
