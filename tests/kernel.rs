//! The model of a server's SYN queue, held against the kernel whose queue it is.
//!
//! Live, it needs root, for it makes its own network namespaces; elsewhere that test says that it was skipped, and the same
//! comparison is made with what was recorded. Nothing is sent outside the namespaces.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test binary"
)]
#![allow(unreachable_pub, reason = "its modules are its own")]

#[path = "kernel/case.rs"]
mod case;
#[path = "kernel/compare.rs"]
mod compare;
#[path = "kernel/live.rs"]
mod live;
#[path = "kernel/parties.rs"]
mod parties;
mod support;
#[path = "kernel/truth.rs"]
mod truth;

/// Not a test: what the parties inside the namespaces run.
#[test]
fn helper() {
    parties::main();
}

#[test]
fn the_kernel_agrees() {
    let directory = std::path::PathBuf::from(std::env::var("HALFOPEN_RECORD").unwrap());
    std::thread::scope(|scope| {
        let only = std::env::var("ONLY").unwrap_or_default();
        for group in case::groups().into_iter().filter(|group| group.name.contains(&only)) {
            let directory = &directory;
            scope.spawn(move || {
                for truth in live::run_group(&group).unwrap() {
                    let name = format!("{}-{}.truth.zst", group.name, truth.about["name"].as_str().unwrap());
                    truth.write(&directory.join(name));
                }
            });
        }
    });
}

#[test]
fn the_records_agree() {
    let directory = std::path::PathBuf::from(std::env::var("HALFOPEN_RECORD").unwrap());
    let only = std::env::var("ONLY").unwrap_or_default();
    let configured = std::env::var("UNKNOWN").is_err();
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.ends_with(".truth.zst") || !name.contains(&only) {
            continue;
        }
        let truth = truth::Truth::read(&file);
        let points = compare::points(&truth, configured);
        let backlog = truth.about["backlog"].as_u64().unwrap();
        let a = compare::Agreement::of(&points, backlog);
        let mark = if a.within >= 0.95 { ' ' } else { '!' };
        println!("{mark} {:40} refused {:?} {:5.1}% mean {:6.1} bias {:6.1} largest {:4}", name.trim_end_matches(".truth.zst"), compare::first_refusal(&truth), a.within * 100.0, a.mean, a.bias, a.largest);
        if !only.is_empty() {
            for p in points {
                println!("   {:6.2} kernel {:5} model {:5} {:+} {} ttf {:?}", p.second, p.kernel, p.model, p.off(), p.mode, p.time_to_full);
            }
        }
    }
}
