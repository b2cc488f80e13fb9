//! What a configuration may not say, and how that is told.

use super::*;

#[test]
fn each_problem_is_one_line_with_its_number_and_a_mend() {
    for (text, expected) in [
        ("\n[capture]\nsnaplne = 1", "f.toml: line 3: capture.snaplne: unknown key; did you mean 'snaplen'?"),
        ("[tabel]\n", "f.toml: line 1: tabel: unknown key; did you mean 'table'?"),
        ("[log]\nxyzzy = 1", "f.toml: line 2: log.xyzzy: unknown key; known here: level, format"),
        (
            "[capture]\nsnaplen = \"big\"",
            "f.toml: line 2: capture.snaplen: expected an integer, found string; for example snaplen = 512",
        ),
        (
            "[capture]\nsnaplen = 5",
            "f.toml: line 2: capture.snaplen: 5 is not within 96 to 262144; for example snaplen = 512",
        ),
        (
            "[table]\n\nentries = -1",
            "f.toml: line 3: table.entries: -1 is not within 1024 to 268435456; for example entries = 1048576",
        ),
        (
            "[table]\nsyn_sent_timeout = \"0s\"",
            "f.toml: line 2: table.syn_sent_timeout: 0ns is not within 4s to 3600s; for example syn_sent_timeout = \"63s\"",
        ),
        (
            "[log]\nlevel = \"loud\"",
            "f.toml: line 2: log.level: 'loud' is none of error, warn, info, debug; for example level = \"info\"",
        ),
        (
            "[web]\nlisten_address = \"127.0.0.1\"",
            "f.toml: line 2: web.listen_address: '127.0.0.1' has no port; write address:port, for example \
             127.0.0.1:10793, [::1]:10793 or :10793",
        ),
        (
            "[detect]\noccupancy = 25",
            "f.toml: line 2: detect.occupancy: 25 is not within 0.01 to 1; for example occupancy = 0.25",
        ),
        (
            "[detect]\ncritical_rate = nan",
            "f.toml: line 2: detect.critical_rate: NaN is not within 0.1 to 10000000; for example critical_rate = 100.0",
        ),
        (
            "[detect]\nmax_grace = \"1s\"",
            "f.toml: line 2: detect.max_grace: 1.5s is not within min_grace to max_grace, 250ms to 1s; change one of the three",
        ),
        (
            "[detect]\nhome = [\"198.51.100.7/24\"]",
            "f.toml: line 2: detect.home: '198.51.100.7/24' has bits set beyond its prefix; write 198.51.100.0/24, or \
             198.51.100.7 for the one address",
        ),
        (
            "[[server]]\naddress = \"198.51.100.1\"\nflor = 3",
            "f.toml: line 3: server.flor: unknown key; did you mean 'floor'?",
        ),
        (
            "[[allow]]\nreason = \"x\"",
            "f.toml: line 1: allow: says neither source nor server; for example source = \"192.0.2.7\"",
        ),
        (
            "\n[[allow]]\nsource = \"192.0.2.7\"",
            "f.toml: line 2: allow.reason: is missing; say why it is not judged, for example reason = \"our own scanner\"",
        ),
        (
            "[[allow]]\nsource = \"192.0.2.7\"\nserver = \"192.0.2.8\"\nreason = \"x\"",
            "f.toml: line 1: allow: has both source and server; write two [[allow]], each with one of them",
        ),
        (
            "[allow]\nsource = \"192.0.2.7\"",
            "f.toml: line 1: allow: must be a list; write [[allow]], with two brackets, before each",
        ),
        (
            "[journal]\nmax_bytes = 5",
            "f.toml: line 2: journal.max_bytes: 5 is not within 65536 to 1099511627776; for example max_bytes = \"16MiB\"",
        ),
        ("[evidence]\npth = \"/x\"", "f.toml: line 2: evidence.pth: unknown key; did you mean 'path'?"),
        ("capture = 1", "f.toml: line 1: capture: must be a section; write [capture] on a line of its own"),
        (
            "[server]\naddress = \"198.51.100.1\"",
            "f.toml: line 1: server: must be a list; write [[server]], with two brackets, before each",
        ),
        (
            "[[server]]\nport = 80",
            "f.toml: line 1: server.address: is missing; for example address = \"198.51.100.10\"",
        ),
        (
            "[[server]]\naddress = \"198.51.100.1\"\nprofile = \"linus\"",
            "f.toml: line 3: server.profile: unknown profile 'linus'; did you mean 'linux'?",
        ),
        (
            "[[server]]\naddress = \"198.51.100.1\"\nname = \"other\"",
            "f.toml: line 3: server.name: 'other' has a meaning of its own in the metrics; choose another name",
        ),
        (
            "[[server]]\naddress = \"198.51.100.1\"\nname = \"198.51.100.7:443\"",
            "f.toml: line 3: server.name: '198.51.100.7:443' is what a server without a name is called; choose another name",
        ),
        (
            "[capture]\ninterfaces = [\"\"]",
            "f.toml: line 2: capture.interfaces: an interface has no name; 'halfopen interfaces' lists them",
        ),
        (
            "[capture]\ninterfaces = [\"any\", \"eth0\"]",
            "f.toml: line 2: capture.interfaces: 'any' takes in every interface, and would count the others twice; \
             name it alone, or leave it out",
        ),
        (
            "[[server]]\naddress = \"198.51.100.1\"\n\n[[server]]\naddress = \"198.51.100.1/32\"",
            "f.toml: line 4: server: same address and port as the server on line 1 has; remove or change one",
        ),
    ] {
        assert_eq!(problems(text), [expected], "for {text:?}");
    }
}

#[test]
fn every_problem_is_told_not_only_the_first() {
    let found = problems(
        "[capture]\nsnaplen = true\n[web]\ntop_servers = 5000\nnope = \n[[server]]\naddress = \"x\"\nportt = 1\n",
    );
    let lines: Vec<_> = found.iter().map(|p| p.split(": ").nth(1).unwrap().to_owned()).collect();
    assert_eq!(lines, ["line 2", "line 4", "line 5", "line 7", "line 8"], "{found:#?}");
}

#[test]
fn no_text_makes_a_panic() {
    for text in [
        "\u{0}",
        "[",
        "[[",
        "=",
        "a.b.c = {",
        "[server]\n[[server]]",
        "server = [1, {}]",
        "\u{feff}[log]",
        "a=99999999999999999999999999999999999999999999",
    ] {
        let _ = problems(text);
    }
}

#[test]
fn many_servers_are_read_in_time_and_too_many_refused() {
    let server = |n: u32| format!("[[server]]\naddress = \"{}\"\n", std::net::Ipv4Addr::from_bits(n));
    let most: String = (0..4096).map(server).collect();
    assert_eq!(Config::parse("f", &most).unwrap().servers.len(), 4096);
    let found = problems(&(most + &server(5000)));
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("4097 entries are more than 4096; name prefixes instead"), "{found:?}");
}

#[test]
fn a_hundred_problems_are_told_and_the_rest_counted() {
    let many: String = (0..5000).map(|n| format!("k{n} = 1\n")).collect();
    let found = problems(&many);
    assert_eq!(found.len(), 101);
    assert!(found[100].contains("and 4900 more problems"), "{}", found[100]);
}

#[test]
fn a_broken_line_is_told_once() {
    let found = problems("[[[[[[[[[[[[[[[[[[[[[[[[[[[[ = = = ] ] ]\n[log]\nlevle = 1\n");
    let lines: Vec<&str> = found.iter().map(|problem| problem.split(": ").nth(1).unwrap()).collect();
    let mut once = lines.clone();
    once.dedup();
    assert_eq!(lines, once, "{found:#?}");
}

#[test]
fn a_filter_that_does_not_compile_has_its_line() {
    let check = |text: &str| if text == "junk junk" { Err("syntax error".to_owned()) } else { Ok(()) };
    let load = |text: &str| {
        crate::config::parse::parse("f.toml", text, &check).map_err(|problems| problems.to_string())
    };
    assert_eq!(
        load("[capture]\nfilter = \"junk junk\"").unwrap_err(),
        "f.toml: line 2: capture.filter: 'junk junk' does not compile: syntax error; see pcap-filter(7)"
    );
    assert!(load("[capture]\nfilter = \"port 80\"").is_ok());
}

#[test]
fn only_a_small_regular_text_file_is_read() {
    let refused = |path: &std::path::Path| {
        let problems = Config::load(path, &|_| Ok(())).unwrap_err();
        let lines: Vec<String> = problems.lines().collect();
        assert!(lines.len() == 1 && lines[0].contains("; "), "{lines:?}");
        lines[0].clone()
    };
    let scratch = std::env::temp_dir().join(format!("halfopen-config-{}\n.toml", std::process::id()));
    std::fs::write(&scratch, "#".repeat((1 << 20) + 1)).unwrap();
    let large = refused(&scratch);
    assert!(large.contains("larger than 1 MiB") && large.contains("\\n.toml"), "{large}");
    std::fs::write(&scratch, [0xff, 0xfe, 0]).unwrap();
    assert!(refused(&scratch).contains("is not text"));
    std::fs::remove_file(&scratch).unwrap();
    assert!(refused(&scratch).contains("no such file or directory; check its name"));
    assert!(refused("/".as_ref()).contains("is a directory"));
    assert!(refused("/dev/zero".as_ref()).contains("is not a regular file"));
}

proptest::proptest! {
    #[test]
    fn any_text_is_accepted_or_refused_line_by_line(text in "(\\[\\[?(capture|table|detect|journal|evidence|web|server|allow|log)\\]?\\]\n|[a-z_]{1,9} = [-\"\\[\\]{}a-z0-9:./ \\x00]{0,12}\n|\\PC{0,9}\n){0,8}") {
        if let Err(problems) = Config::parse("f", &text) {
            let lines = text.lines().count() + 1;
            proptest::prop_assert!(!problems.list.is_empty());
            for problem in &problems.list {
                proptest::prop_assert!(problem.line.is_some_and(|line| (1..=lines).contains(&line)), "{problem:?}");
                proptest::prop_assert!(!format!("{}{}", problem.key, problem.what).contains(char::is_control), "{problem:?}");
            }
        }
    }
}
