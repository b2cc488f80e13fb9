//! `halfopen top` in a real terminal: tmux is the terminal, and its screen is what is compared.

// Helpers outside of #[test] functions are test code too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::print_stdout)]
#![allow(unreachable_pub, reason = "its modules are its own")]

mod support;

use halfopen::config::Addresses;
use halfopen::report::http::Guard;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use support::served::{Served, demonstration};
use support::{has_tools, run, wait_for};

const PATIENCE: Duration = Duration::from_secs(20);

/// A terminal of its own tmux server, ended with the value.
struct Terminal {
    socket: String,
}

impl Terminal {
    fn start(name: &str, command: &str) -> Self {
        let terminal = Self { socket: format!("halfopen-{name}-{}", std::process::id()) };
        let size = ["new-session", "-d", "-x", "132", "-y", "36"];
        // What the shell's end says of the program's end stays on the screen.
        let command = format!("{command}; echo \"status $?\"; sleep 60");
        run(terminal.command().args(["-f", "/dev/null"]).args(size).arg(command));
        terminal
    }

    fn command(&self) -> Command {
        let mut command = Command::new("tmux");
        command
            .args(["-u", "-L", &self.socket])
            .env("TERM", "xterm-256color")
            .env("LANG", "C.UTF-8")
            .env_remove("LC_ALL");
        command
    }

    fn screen(&self) -> String {
        run(self.command().args(["capture-pane", "-p"]))
    }

    fn press(&self, keys: &[&str]) {
        run(self.command().arg("send-keys").args(keys));
    }

    /// Waits until the screen satisfies, and gives it.
    fn wait(&self, what: &str, satisfied: impl Fn(&str) -> bool) -> String {
        wait_for(what, PATIENCE, || {
            let screen = self.screen();
            if satisfied(&screen) { Ok(screen) } else { Err(format!("the screen is\n{screen}")) }
        })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.command().arg("kill-server").stderr(Stdio::null()).status();
    }
}

/// The words of the line that begins with this one.
fn words(screen: &str, first: &str) -> Vec<String> {
    let line = screen.lines().find(|line| line.split_whitespace().next() == Some(first));
    line.unwrap_or_else(|| panic!("no line '{first}':\n{screen}"))
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

#[test]
fn it_shows_what_the_api_has_and_outlives_the_sensor() {
    if !has_tools(&[("tmux", "-V")]) {
        return;
    }
    let (sensor, _hold) = demonstration(100);
    let served = Served::start(Arc::clone(&sensor) as _);
    let address = served.base.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let binary = env!("CARGO_BIN_EXE_halfopen");
    let terminal = Terminal::start("top", &format!("{binary} top --url {address}"));

    // A screen is drawn from its top: a look may come in between.
    let screen = terminal.wait("the servers", |screen| {
        let row = |name: &str| screen.lines().any(|line| line.starts_with(name));
        screen.contains("servers by trouble")
            && screen.contains("1 running")
            && ["shop", "pictures", "mail"].into_iter().all(row)
    });
    let overview = served.json("api/v1/overview");
    for server in overview["servers"].as_array().unwrap().iter().filter(|server| server["server"] != "other")
    {
        let row = words(&screen, server["server"].as_str().unwrap());
        let open = server["embryonic_syn_sent"].as_u64().unwrap()
            + server["embryonic_syn_received"].as_u64().unwrap();
        let held =
            format!("{:.0}/{}", server["backlog_occupancy"].as_f64().unwrap(), server["backlog_limit"]);
        assert_eq!(row[2], held, "{screen}");
        assert_eq!(row[3].replace(',', ""), open.to_string(), "{screen}");
        assert_eq!(row[7].replace(',', ""), server["distinct_sources"].to_string(), "{screen}");
        assert_eq!(row[8], server["mode"].as_str().unwrap());
    }
    let line = |text: &str| screen.lines().position(|line| line.starts_with(text)).unwrap();
    assert!(line("shop") < line("pictures"), "trouble first: {screen}");
    assert!(words(&screen, "shop")[1] == "██████████", "a full queue: {screen}");
    assert!(screen.contains("critical spoofed flood on shop for "), "{screen}");
    assert!(screen.contains("▇") || screen.contains("█"), "curves");

    // Keys: sort, filter, open, back.
    terminal.press(&["s", "s", "s"]);
    let screen = terminal.wait("servers by name", |screen| screen.contains("servers by name"));
    let line = |text: &str| screen.lines().position(|line| line.starts_with(text)).unwrap();
    assert!(line("mail") < line("pictures") && line("pictures") < line("shop"), "{screen}");
    terminal.press(&["/", "p", "i", "c"]);
    terminal.wait("only pictures", |screen| {
        screen.contains("servers with 'pic'") && !screen.lines().any(|line| line.starts_with("shop"))
    });
    terminal.press(&["Escape"]);
    terminal.wait("all again", |screen| screen.lines().any(|line| line.starts_with("shop")));
    terminal.press(&["j", "j", "Enter"]);
    let shop =
        overview["servers"].as_array().unwrap().iter().find(|server| server["server"] == "shop").unwrap();
    let signals: Vec<_> =
        shop["evidence"].as_array().unwrap().iter().map(|it| it["signal"].as_str().unwrap()).collect();
    assert!(!signals.is_empty());
    terminal.wait("why", |screen| {
        screen.contains("which means") && signals.iter().all(|signal| screen.contains(signal))
    });
    terminal.press(&["Enter"]);

    // A smaller window, and a larger one again.
    run(terminal.command().args(["resize-window", "-x", "70", "-y", "14"]));
    terminal.wait("the servers in a small window", |screen| {
        screen.lines().count() <= 14
            && screen.contains("q: quit")
            && screen.lines().any(|line| line.starts_with("shop"))
    });
    run(terminal.command().args(["resize-window", "-x", "132", "-y", "36"]));
    terminal.wait("the curves again", |screen| screen.contains("embryonic connections, at most"));

    // The sensor goes and comes back at the same address.
    drop(served);
    let screen = terminal.wait("no answer", |screen| screen.contains("no answer: "));
    assert!(screen.lines().any(|line| line.starts_with("shop")), "what was known stays: {screen}");
    let _again = Served::start_at(sensor, &address);
    terminal.wait("an answer", |screen| !screen.contains("no answer: ") && screen.contains("1 running"));

    terminal.press(&["q"]);
    let screen = terminal.wait("its end", |screen| screen.contains("status "));
    assert!(
        screen.contains("status 0") && !screen.contains("servers by"),
        "the terminal is given back: {screen}"
    );
}

/// Behind TLS and a password, whose sensor shows a certificate of an authority that only a file names.
#[test]
fn it_speaks_tls_with_the_authority_it_is_given() {
    if !has_tools(&[("tmux", "-V")]) {
        return;
    }
    let folder = std::env::temp_dir().join(format!("halfopen-top-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    std::fs::write(folder.join("ca.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
    let authority = Issuer::new(params, key);
    let own = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(folder.join("web.crt"), certificate.signed_by(&own, &authority).unwrap().pem()).unwrap();
    std::fs::write(folder.join("web.key"), own.serialize_pem()).unwrap();
    let password = bcrypt::hash("sesame", 4).unwrap();
    let web = format!(
        "tls_server_config:\n  cert_file: web.crt\n  key_file: web.key\nbasic_auth_users:\n  alice: {password}\n"
    );
    std::fs::write(folder.join("web.yml"), web).unwrap();
    let (sensor, _hold) = demonstration(100);
    let guard = Guard::load(&folder.join("web.yml")).unwrap();
    let served = Served::behind(sensor as _, "127.0.0.1:0", Addresses::Full, guard);
    let address = served.base.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let top = format!("{} top --url https://alice:sesame@{address}", env!("CARGO_BIN_EXE_halfopen"));

    let trusting = Terminal::start("tls", &format!("{top} --ca {}", folder.join("ca.crt").display()));
    let screen = trusting.wait("the servers", |screen| screen.contains("1 running"));
    assert!(screen.contains(&format!("https://{address}")) && !screen.contains("sesame"), "{screen}");
    let doubting = Terminal::start("doubt", &top);
    doubting.wait("a refusal", |screen| screen.contains("no answer: ") && screen.contains("ertificate"));

    let none = folder.join("web.yml");
    let output = Command::new("script")
        .args(["-qec", &format!("{top} --ca {}", none.display()), "/dev/null"])
        .stdin(Stdio::null())
        .output();
    if let Ok(output) = output {
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("has no certificate in PEM form") && output.status.code() == Some(2), "{said}");
    }
    let _ = std::fs::remove_dir_all(folder);
}

#[test]
fn a_signal_gives_the_terminal_back() {
    if !has_tools(&[("tmux", "-V")]) {
        return;
    }
    let file = std::env::temp_dir().join(format!("halfopen-top-{}.pid", std::process::id()));
    // Nothing listens on port 9 here; exec keeps the number of the shell.
    let command =
        format!("echo $$ >{}; exec {} top --url 127.0.0.1:9", file.display(), env!("CARGO_BIN_EXE_halfopen"));
    let terminal = Terminal::start("signal", &format!("sh -c '{command}'"));
    terminal.wait("a screen", |screen| screen.contains("no answer: "));
    let child = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    run(Command::new("sh").args(["-c", &format!("kill -TERM {child}")]));
    let screen = terminal.wait("its end", |screen| screen.contains("status "));
    assert!(screen.contains("status 0") && !screen.contains("q: quit"), "{screen}");
}

#[test]
fn without_a_terminal_it_says_what_there_is_instead() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_halfopen")).arg("top").stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("needs a terminal") && said.contains("/api/v1/overview"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
