//! Stage 5 of 5, report: what the tests of files stand on: a directory, and a disk that may be full or read-only. Of tests only.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

/// A directory of one test, removed with the value.
pub(super) struct Directory(pub(super) PathBuf);

impl Directory {
    pub(super) fn make() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("halfopen-report-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(&self.0).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A file system that may be made read-only or filled, in a mount namespace of this thread's own child: the test binary runs
/// itself again inside it.
pub(super) fn in_own_mounts(test: &str, options: &str) -> Option<PathBuf> {
    const INSIDE: &str = "HALFOPEN_OWN_MOUNT";
    if let Some(path) = std::env::var_os(INSIDE) {
        return Some(path.into());
    }
    let directory = Directory::make();
    let place = directory.0.to_str().unwrap();
    let binary = std::env::current_exe().unwrap();
    let script = format!(
        "mount -t tmpfs -o {options} tmpfs {place} || exit 77; exec \"$0\" --exact {test} --nocapture"
    );
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", &script, binary.to_str().unwrap()])
        .env(INSIDE, place)
        .output();
    let skip = |why: String| {
        // Past the test harness's capture.
        let _ = writeln!(io::stderr(), "SKIPPED: {test}: needs root and mount namespaces: {}", why.trim());
    };
    match output {
        Err(error) => skip(error.to_string()),
        Ok(output) if output.status.success() => {
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(said.contains("1 passed"), "{said}");
        }
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            let refused = output.status.code() == Some(77) || why.starts_with("unshare:");
            assert!(refused, "{}{why}", String::from_utf8_lossy(&output.stdout));
            skip(why);
        }
    }
    None
}
