//! What is refused or cannot be done, and how that is told.

use super::*;

#[test]
fn check_prints_each_problem_with_its_line() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/config/halfopen.toml");
    let good = halfopen(&["check", example]);
    assert_eq!((good.status.code(), out(&good).lines().count()), (Some(0), 1), "{}", out(&good));

    let bad = Scratch::new("bad.toml", "[capture]\nsnaplne = 100\n\n[web]\ntop_servers = \"many\"\n");
    let output = halfopen(&["check", bad.path()]);
    assert_eq!(output.status.code(), Some(2));
    let file = bad.path();
    assert_eq!(
        out(&output),
        format!(
            "{file}: line 2: capture.snaplne: unknown key; did you mean 'snaplen'?\n\
             {file}: line 5: web.top_servers: expected an integer, found string; for example top_servers = 50\n"
        )
    );

    let run = halfopen(&["run", "--config.file", bad.path()]);
    assert_eq!(run.status.code(), Some(2), "a wrong configuration starts nothing");
    assert_eq!(err(&run).lines().count(), 2);

    if !std::path::Path::new("/etc/halfopen/halfopen.toml").exists() {
        let none = halfopen(&["check"]);
        assert_eq!(none.status.code(), Some(0));
        assert!(out(&none).contains("/etc/halfopen/halfopen.toml: there is no such file"));
    }

    let missing = halfopen(&["check", "/nonexistent/x.toml"]);
    assert_eq!(missing.status.code(), Some(2));
    assert_eq!(err(&missing), "halfopen: /nonexistent/x.toml: no such file or directory; check its name\n");
}

#[test]
fn what_replay_recommends_is_a_configuration() {
    let scenario = "seed = 3\nduration = 150\n[[traffic]]\nkind = \"handshakes\"\nservers = \"192.0.2.10:80\"\nrate = 60\n\
                    abandoned = 0.2\n[[traffic]]\nkind = \"handshakes\"\nservers = \"192.0.2.11:443\"\nrate = 20\n";
    let stream = Scenario::from_toml(scenario).unwrap().stream();
    let pcap = Scratch::new("recommend.pcap", "");
    let mut writer = PcapWriter::create(&pcap.0).unwrap();
    stream.for_each(|at, frame| writer.write(at, frame).unwrap());
    writer.finish().unwrap();

    let first = halfopen(&["replay", "--recommend", pcap.path()]);
    assert_eq!(first.status.code(), Some(0), "{}", err(&first));
    let config = Scratch::new("recommended.toml", &out(&first));
    let check = halfopen(&["check", config.path()]);
    assert_eq!(check.status.code(), Some(0), "{}{}", out(&check), out(&first));
    let parsed: toml::Table = out(&first).parse().unwrap();
    let [busy, calm] = parsed["server"].as_array().unwrap().as_slice() else { panic!("{}", out(&first)) };
    assert_eq!((busy["address"].as_str(), busy["port"].as_integer()), (Some("192.0.2.10"), Some(80)));
    // A fifth of 60/s: 12 unresolved a second, 120 in ten, and four deviations of some eleven each.
    let floor = busy["floor"].as_integer().unwrap();
    assert!((140..260).contains(&floor), "{}", out(&first));
    assert!(busy.get("critical_rate").is_none(), "the default of 100/s is right for 12/s");
    assert_eq!((calm["address"].as_str(), calm.get("floor")), (Some("192.0.2.11"), None), "{}", out(&first));

    // With it nothing is lost: what it says is said again, with what else is configured.
    let mut text = out(&first)
        .replace("port = 80\n", "port = 80\nname = 'a \"b\"'\nbacklog = 4096\nprofile = 'linux'\n");
    text.push_str("\n[table]\nentries = 4096\n");
    std::fs::write(config.path(), text).unwrap();
    let second = halfopen(&["replay", "--recommend", "--config.file", config.path(), pcap.path()]);
    let again: toml::Table = out(&second).parse().unwrap_or_else(|error| panic!("{error}: {}", out(&second)));
    let busy = &again["server"][0];
    assert_eq!(busy["floor"].as_integer(), Some(floor));
    assert_eq!((busy["name"].as_str(), busy["profile"].as_str()), (Some("a \"b\""), Some("linux")));
    // 4,096 in five seconds are 819.2 a second.
    assert_eq!((busy["backlog"].as_integer(), busy["critical_rate"].as_float()), (Some(4096), Some(820.0)));
}

#[test]
fn what_cannot_be_read_or_written_is_status_1_and_one_line() {
    for (arguments, names) in [
        (&["replay", "/nonexistent/a.pcap"][..], "/nonexistent/a.pcap"),
        (&["replay", "/nonexistent/a\nb\u{1b}"][..], "'/nonexistent/a\\nb\\u{1b}'"),
        (&["replay", "/"][..], "is a directory; name a file in it"),
        (
            &["replay", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")][..],
            "; write one with tcpdump -w FILE",
        ),
        (&["replay", "--metrics", "/nonexistent/m", "-"][..], "; "),
        (
            &["run", "-i", "nosuch0", "--web.listen-address", "127.0.0.1:0", "--log.level", "error"][..],
            "nosuch0",
        ),
    ] {
        let output = halfopen(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", err(&output));
        let text = err(&output);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(names) && text.contains("; ") && !text.contains("os error"), "{text}");
    }
}

#[test]
fn a_link_type_nobody_decodes_is_told_and_counted() {
    let pcap = Scratch::new("link.pcap", "");
    let mut file = one_syn();
    file[20..24].copy_from_slice(&4242_u32.to_le_bytes());
    std::fs::write(pcap.path(), file).unwrap();
    for arguments in
        [&["replay", "--json", pcap.path()][..], &["replay", "--json", "-f", "port 80", pcap.path()]]
    {
        let output = halfopen(arguments);
        assert_eq!(output.status.code(), Some(1), "{}", err(&output));
        assert_eq!(
            err(&output),
            format!(
                "halfopen: file '{}': link type 4242 is not decoded by halfopen; its 1 frames count as undecoded; \
                 capture on an interface of another link type, or on 'any'\n",
                pcap.path()
            )
        );
        let document: serde_json::Value = serde_json::from_str(&out(&output)).unwrap();
        assert_eq!((&document["frames"]["read"], &document["frames"]["tcp"]), (&1.into(), &0.into()));
    }
}

#[test]
fn a_filter_that_does_not_compile_is_found_by_check() {
    let file = Scratch::new("filter.toml", "[log]\nlevel = \"info\"\n[capture]\nfilter = \"junk junk\"\n");
    let output = halfopen(&["check", file.path()]);
    assert_eq!(output.status.code(), Some(2));
    let expected = format!("{}: line 4: capture.filter: 'junk junk' does not compile: ", file.path());
    assert!(out(&output).starts_with(&expected), "{}", out(&output));
    assert_eq!(out(&output).lines().count(), 1);
}

#[test]
fn two_outputs_in_one_place_are_refused() {
    let pcap = Scratch::new("same.pcap", "");
    std::fs::write(pcap.path(), one_syn()).unwrap();
    let place = std::env::temp_dir().join(format!("halfopen-cli-{}-same", std::process::id()));
    let other = std::env::temp_dir().join(".").join(place.file_name().unwrap());
    let dotted = format!("{}/./{}", std::env::temp_dir().display(), place.file_name().unwrap().display());
    for second in [place.to_str().unwrap(), other.to_str().unwrap(), dotted.as_str()] {
        let output =
            halfopen(&["replay", "--metrics", place.to_str().unwrap(), "--events", second, pcap.path()]);
        assert_eq!(output.status.code(), Some(2), "{}", err(&output));
        assert!(!place.exists());
    }
}
