//! A sensor as a process: how it starts, what it says where it cannot, how it stops.

use super::*;

#[test]
fn a_port_in_use_is_status_1_and_names_the_address() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = halfopen(&["run", "-i", "lo", "--web.listen-address", &address, "--log.level", "error"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        err(&output),
        format!(
            "halfopen: cannot listen on {address}: address already in use; stop what listens there, or choose another \
             with --web.listen-address\n"
        )
    );
}

/// Whoever reads the log by machine gets no line of another form.
#[test]
fn what_ends_a_start_is_told_in_the_logs_form() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let json = Scratch::new("json.toml", "[log]\nformat = \"json\"\n");
    let wrong = Scratch::new("wrong.toml", "[log]\nformat = \"json\"\n[web]\ntop_servers = -1\n");
    for (arguments, status, said) in [
        (
            &["run", "--config.file", json.path(), "--web.listen-address", &address][..],
            1,
            "address already in use",
        ),
        (&["run", "--log.format", "json", "--web.listen-address", &address], 1, "address already in use"),
        (&["run", "--config.file", json.path(), "-i", ""], 2, "--interface"),
        (&["run", "--config.file", wrong.path(), "--log.format", "json"], 2, "line 4: web.top_servers"),
        (&["replay", "--log.format", "json", "/nowhere"], 1, "/nowhere"),
    ] {
        let output = halfopen(arguments);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {}", err(&output));
        let text = err(&output);
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|why| panic!("{arguments:?}: {why}: {line}"))
            })
            .collect();
        let last = lines.last().unwrap();
        assert!(last["level"] == "ERROR" && last["msg"].as_str().unwrap().contains(said), "{last}");
    }
    let plain = halfopen(&["run", "--web.listen-address", &address]);
    assert!(
        err(&plain).lines().last().unwrap().starts_with("halfopen: cannot listen on "),
        "{}",
        err(&plain)
    );
}

#[test]
fn a_closed_pipe_is_no_panic() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_halfopen"))
        .args(["run", "--help"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}

/// Where the sensor listens, from its log; none where this user may not capture.
fn listening(child: &mut Child) -> Option<(BufReader<std::process::ChildStderr>, String)> {
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    let mut address = None;
    while log.read_line(&mut line).unwrap() > 0 {
        if let Some(rest) = line.split("url=http://").nth(1) {
            address = rest.split('/').next().map(str::to_owned);
        }
        if line.contains("msg=capturing") {
            return address.map(|address| (log, address));
        }
        line.clear();
    }
    None
}

fn request(address: &str, head: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream
        .write_all(format!("{head} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn runs_reloads_and_stops_cleanly() {
    let config = Scratch::new("run.toml", "[web]\ntop_servers = 5\n");
    let mut child = Command::new(env!("CARGO_BIN_EXE_halfopen"))
        .args([
            "run",
            "-i",
            "lo",
            "-f",
            "port 1",
            "--web.listen-address",
            "127.0.0.1:0",
            "--config.file",
            config.path(),
        ])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let Some((mut log, address)) = listening(&mut child) else {
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(1));
        eprintln!("skipped: this user may not capture on lo");
        return;
    };
    assert!(request(&address, "GET /metrics").contains("halfopen_build_info{"));
    assert!(request(&address, "POST /-/reload").starts_with("HTTP/1.1 200"));

    std::fs::write(config.path(), "[web]\ntop_servers = -5\n").unwrap();
    signal(&child, "HUP");
    let mut line = String::new();
    while !line.contains("the old one stays") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "the log ended");
    }
    assert!(line.contains("line 2: web.top_servers"), "{line}");
    let refused = request(&address, "POST /-/reload");
    assert!(refused.starts_with("HTTP/1.1 500") && refused.contains("line 2: web.top_servers"), "{refused}");
    assert!(request(&address, "GET /metrics").contains("halfopen_build_info{"), "it goes on");

    let asked = std::time::SystemTime::now();
    signal(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(asked.elapsed().unwrap().as_secs_f64() < 2.0, "stops within two seconds");
}
