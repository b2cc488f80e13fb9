//! What the sensor gives up once everything is open: told by the kernel, of a running sensor, and tried from inside.
//!
//! Needs root; elsewhere each test says that it was skipped.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test binary"
)]
#![allow(unreachable_pub, reason = "its modules are its own")]

mod support;

use halfopen::capture::privileges::{Files, Layer, Outcome, User, confine};
use halfopen::config::PrivilegesConfig;
use rustix::io::Errno;
use rustix::process::geteuid;
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use support::helper;
use support::namespaces::{Namespaces, SERVER_LINK};
use support::process::{Process, Signal};
use support::{run, skipped, wait_for};

const PATIENCE: Duration = Duration::from_secs(30);
const WEB: &str = "127.0.0.1:10793";

/// Set where this binary is to confine itself and then try what must fail: the directory it may write to.
const INSIDE: &str = "HALFOPEN_TEST_CONFINED";

fn is_root() -> bool {
    let root = geteuid().is_root();
    if !root {
        skipped("confinement: needs root, to have something to give up");
    }
    root
}

struct Directory(PathBuf);

impl Directory {
    fn make(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("halfopen-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Not a test: what the parties inside the namespaces run.
#[test]
fn helper() {
    helper::main();
}

/// Every thread of a process, as `/proc` has it.
fn threads(pid: &str) -> Vec<BTreeMap<String, String>> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let status = |entry: std::io::Result<fs::DirEntry>| {
        let text = fs::read_to_string(entry.unwrap().path().join("status")).unwrap();
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        pairs.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect()
    };
    tasks.map(status).collect()
}

fn sensor(namespaces: &Namespaces, arguments: &[&str]) -> Process {
    let mut command = Namespaces::command(&namespaces.servers, env!("CARGO_BIN_EXE_halfopen"));
    command.args(["run", "-i", SERVER_LINK, "--web.listen-address", WEB]).args(arguments);
    let mut process = Process::start(&mut command);
    wait_for("a ready sensor", PATIENCE, || {
        assert!(process.is_running(), "{}", process.describe());
        helper::get(&namespaces.servers, WEB, "/-/ready")
    });
    process
}

fn metric(namespaces: &Namespaces, name: &str) -> String {
    let text = helper::get(&namespaces.servers, WEB, "/metrics").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    line.unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
}

fn in_force(namespaces: &Namespaces, layer: &str) -> String {
    metric(namespaces, &format!("halfopen_confinement_active{{layer=\"{layer}\"}}"))
}

#[test]
fn the_kernel_says_so_of_every_thread() {
    let Some(namespaces) = Namespaces::make() else { return };
    let mut process = sensor(&namespaces, &[]);
    let threads = threads(&process.id().to_string());
    assert!(threads.len() >= 4, "two of tokio, one that captures, the first: {}", threads.len());
    for status in &threads {
        assert_eq!(status["Uid"], "65534\t65534\t65534\t65534");
        assert_eq!(status["Gid"], "65534\t65534\t65534\t65534");
        assert_eq!(status["Groups"], "");
        // CAP_NET_RAW is capability 13 (linux/capability.h).
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(u64::from_str_radix(&status[set], 16).unwrap(), 1 << 13, "{set}");
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(u64::from_str_radix(&status[set], 16).unwrap(), 0, "{set}");
        }
        assert_eq!(status["NoNewPrivs"], "1");
        // 2: SECCOMP_MODE_FILTER.
        assert_eq!(status["Seccomp"], "2", "{}", status["Name"]);
    }
    for layer in ["user", "capabilities", "no_new_privs", "landlock", "seccomp"] {
        assert_eq!(in_force(&namespaces, layer), "1", "{layer}");
        assert!(process.stderr().contains(&format!("msg=confined layer={layer}")), "{}", process.stderr());
    }
    process.signal(Signal::Terminate);
    assert_eq!(process.wait(Duration::from_secs(2)).code(), Some(0));
}

/// A confined sensor still does all that it is for: counts, survives the loss of its interface, reads its configuration again,
/// writes its journal.
#[test]
fn it_still_works() {
    let Some(namespaces) = Namespaces::make() else { return };
    let directory = Directory::make("confined-works");
    let place = |name: &str| directory.0.join(name).display().to_string();
    let config = place("halfopen.toml");
    let text = format!("[journal]\npath = \"{}\"\n[evidence]\npath = \"{}\"\n", place("new/j"), place("e"));
    fs::write(&config, &text).unwrap();
    let mut process = sensor(&namespaces, &["--config.file", &config, "--user", "4242:4343"]);
    assert_eq!(threads(&process.id().to_string())[0]["Uid"], "4242\t4242\t4242\t4242");

    let link = |words: &[&str]| {
        let command = [&["-n", &namespaces.servers, "link"], words].concat();
        run(Command::new("ip").args(command));
    };
    link(&["set", SERVER_LINK, "name", "away"]);
    wait_for("the loss of the interface", PATIENCE, || {
        match metric(&namespaces, "halfopen_capture_up{interface=\"hoveth1\"}").as_str() {
            "0" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
    link(&["set", "away", "name", SERVER_LINK]);
    link(&["set", SERVER_LINK, "up"]);
    wait_for("the interface captured on again", PATIENCE, || {
        match metric(&namespaces, "halfopen_capture_reopened_total{interface=\"hoveth1\"}").as_str() {
            "1" => Ok(()),
            other => Err(format!("{other}: {}", process.describe())),
        }
    });

    fs::write(&config, format!("{text}[web]\ntop_servers = 3\n")).unwrap();
    process.signal(Signal::Hangup);
    process.wait_for_line("configuration reloaded", PATIENCE);

    let _listener = helper::listener(&namespaces.servers, "10.199.0.2:80");
    helper::run(&namespaces.originators, "forge 10.199.0.2:80 5000");
    wait_for("a line of the journal", PATIENCE, || {
        let text = fs::read_to_string(place("new/j")).map_err(|why| why.to_string())?;
        if text.contains("\"raised\"") { Ok(()) } else { Err(text) }
    });
    wait_for("a file of evidence", PATIENCE, || {
        fs::read_dir(place("e"))
            .map_err(|why| why.to_string())?
            .next()
            .map(|_| ())
            .ok_or_else(|| process.describe())
    });
    process.signal(Signal::Terminate);
    assert_eq!(process.wait(Duration::from_secs(2)).code(), Some(0), "{}", process.describe());
}

#[test]
fn each_layer_can_be_switched_off_and_says_so() {
    let Some(namespaces) = Namespaces::make() else { return };
    let directory = Directory::make("confined-off");
    let config = directory.0.join("halfopen.toml");
    let text = "[privileges]\nuser = \"0\"\ncapabilities = false\nno_new_privs = false\nseccomp = false\nlandlock = false\n";
    fs::write(&config, text).unwrap();
    let mut process = sensor(&namespaces, &["--config.file", config.to_str().unwrap()]);
    let status = &threads(&process.id().to_string())[0];
    assert_eq!((status["NoNewPrivs"].as_str(), status["Seccomp"].as_str()), ("0", "0"));
    for layer in ["capabilities", "no_new_privs", "landlock", "seccomp"] {
        assert_eq!(in_force(&namespaces, layer), "0", "{layer}");
        let said = format!("layer={layer}");
        assert!(process.stderr().lines().any(|line| line.contains("level=warn") && line.contains(&said)));
    }
    process.signal(Signal::Terminate);
    process.wait(Duration::from_secs(2));
}

#[test]
fn a_user_that_is_not_there_is_refused() {
    if !is_root() {
        return;
    }
    let mut process = Process::start(Command::new(env!("CARGO_BIN_EXE_halfopen")).args([
        "run",
        "-i",
        "lo",
        "--web.listen-address",
        "127.0.0.1:0",
        "--user",
        "no-such-user",
    ]));
    assert_eq!(process.wait(PATIENCE).code(), Some(2), "{}", process.describe());
    assert!(
        process.stderr().contains("user 'no-such-user' is not in /etc/passwd; make it"),
        "{}",
        process.stderr()
    );
}

/// The same function that the sensor calls, in a child of this test, which then tries what must fail.
#[test]
fn what_must_fail_fails_from_inside() {
    if !is_root() {
        return;
    }
    let directory = Directory::make("confined-inside");
    std::os::unix::fs::chown(&directory.0, Some(4242), Some(4242)).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "inside", "--nocapture", "--test-threads=1"])
        .env(INSIDE, &directory.0)
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("inside: all refused"), "{said}");
}

/// Not a test: the child of the one before.
#[test]
fn inside() {
    let Some(place) = std::env::var_os(INSIDE).map(PathBuf::from) else { return };
    // World-readable, so that its owner's rights do not explain the refusal; and a listener, so that nobody's absence does.
    let outside = "/etc/hostname";
    fs::read_to_string("/etc/passwd").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let open = listener.local_addr().unwrap();
    let files = Files { read: Vec::new(), write: vec![place.clone()] };
    let user = Some(User { uid: 4242, gid: 4242 });
    let outcomes = confine(&PrivilegesConfig::default(), user, &files);
    for (layer, outcome) in &outcomes {
        assert!(matches!(outcome, Outcome::Active(_)), "{layer:?}: {outcome:?}");
    }
    assert_eq!(outcomes.last().unwrap().0, Layer::Seccomp);

    let denied = |what: &str, error: std::io::Error| {
        let kind = error.kind();
        assert_eq!(kind, ErrorKind::PermissionDenied, "{what}: {error}");
    };
    // Each of them succeeds without the layer that refuses it, or with root's rights.
    denied("execve", Command::new("/bin/true").spawn().unwrap_err());
    denied("a file outside", fs::read_to_string("/etc/passwd").unwrap_err());
    denied("a file outside", fs::read_to_string(outside).unwrap_err());
    denied("listing a directory outside", fs::read_dir("/usr").unwrap_err());
    denied("writing outside", fs::write("/tmp/halfopen-outside", "x").unwrap_err());
    denied("connecting", TcpStream::connect(open).unwrap_err());
    denied("listening", TcpListener::bind("127.0.0.1:0").unwrap_err());
    denied(
        "a link out of the place",
        std::os::unix::fs::symlink("/etc/passwd", place.join("link")).unwrap_err(),
    );
    denied("another owner", std::os::unix::fs::chown(&place, Some(0), Some(0)).unwrap_err());
    denied("another root", std::os::unix::fs::chroot("/").unwrap_err());
    let root = rustix::process::Uid::ROOT;
    assert_eq!(rustix::thread::set_thread_res_uid(root, root, root), Err(Errno::PERM), "setuid");
    let parent = rustix::process::getppid().unwrap();
    assert_eq!(
        rustix::process::kill_process(parent, rustix::process::Signal::CONT),
        Err(Errno::PERM),
        "kill"
    );
    let all = rustix::thread::CapabilitySets {
        effective: rustix::thread::CapabilitySet::all(),
        permitted: rustix::thread::CapabilitySet::all(),
        inheritable: rustix::thread::CapabilitySet::empty(),
    };
    assert_eq!(rustix::thread::set_capabilities(None, all), Err(Errno::PERM), "capset");
    // AF_BLUETOOTH, the family of a past of exploits: as if the kernel had none.
    let bluetooth = socket2::Socket::new(socket2::Domain::from(31), socket2::Type::RAW, None).unwrap_err();
    assert_eq!(bluetooth.raw_os_error(), Some(Errno::AFNOSUPPORT.raw_os_error()));
    // A tracer is a process of its own and cannot be started; its call is refused all the same.
    assert_eq!(rustix::thread::set_no_new_privs(false), Err(Errno::PERM), "prctl");

    // What it is for goes on: its own place, threads, the time.
    fs::write(place.join("state.tmp"), "x").unwrap();
    fs::rename(place.join("state.tmp"), place.join("state")).unwrap();
    fs::remove_file(place.join("state")).unwrap();
    assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
    println!("inside: all refused");
}
