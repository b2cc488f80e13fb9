//! What `make demo` shows.

use super::*;

/// `make demo`: the page is there at once, and figures grow at the speed of the clock.
#[test]
fn the_demonstration_plays() {
    let demo = std::env::current_exe().unwrap().parent().unwrap().with_file_name("examples").join("demo");
    if !demo.exists() {
        support::skipped("the demonstration is not built; 'cargo test' without --test builds it");
        return;
    }
    let mut process = Process::start(Command::new(demo).arg("127.0.0.1:0"));
    let line = process.wait_for_line("the page:", Duration::from_secs(10));
    let base = line.split_whitespace().last().unwrap().to_owned();
    let attempts = |at_least: u64| {
        wait_for(&format!("{at_least} attempts"), Duration::from_secs(20), || {
            let answer = ureq::get(format!("{base}api/v1/overview")).call();
            let overview: Value =
                answer.and_then(|mut answer| answer.body_mut().read_json()).map_err(|why| why.to_string())?;
            let attempts = overview["handshakes"]["attempts"].as_u64().unwrap();
            if attempts >= at_least {
                Ok((attempts, overview["network_time"].as_f64().unwrap()))
            } else {
                Err(attempts.to_string())
            }
        })
    };
    let (first, then) = attempts(1);
    let (more, now) = attempts(first + 200);
    // 93 clients a second.
    let rate = (more - first) as f64 / (now - then);
    assert!((50.0..150.0).contains(&rate), "{rate} a second");
    let page = ureq::get(&base).call().unwrap().body_mut().read_to_string().unwrap();
    assert!(page.contains("<td>shop</td>") && page.contains("<td>mail</td>"), "{page}");
}

/// `make demo` as root: real clients, a real shop, a real flood, a real sensor; the page shows it, and all of it goes away. Where pictures
/// are taken the quiet is as long as it is for people.
#[test]
fn the_demonstration_between_namespaces_is_seen_and_goes_away() {
    if !rustix::process::geteuid().is_root() {
        support::skipped("the demonstration between namespaces: needs root");
        return;
    }
    let built = PathBuf::from(env!("CARGO_BIN_EXE_halfopen")).parent().unwrap().to_owned();
    if !built.join("examples/demo").exists() {
        support::skipped("the demonstration is not built; 'cargo test' without --test builds it");
        return;
    }
    let pictures = std::env::var("HALFOPEN_PICTURES").is_ok();
    let mut command = Command::new(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scripts/demo.sh"));
    command.arg("127.0.0.1:0").env("HALFOPEN_DEMO_BUILT", &built);
    command.env("HALFOPEN_DEMO_QUIET", if pictures { "60" } else { "6" });
    let mut demo = Process::start(&mut command);
    let line = demo.wait_for_line("the page:", Duration::from_secs(20));
    if demo.stderr().contains("instead") {
        support::skipped(&format!("the demonstration between namespaces: {}", demo.stderr()));
        return;
    }
    let base = line.split_whitespace().last().unwrap().to_owned();
    let overview = |until: &dyn Fn(&Value) -> bool| {
        wait_for("the shop under attack", Duration::from_secs(if pictures { 150 } else { 60 }), || {
            let answer = ureq::get(format!("{base}api/v1/overview")).call();
            let overview: Value =
                answer.and_then(|mut answer| answer.body_mut().read_json()).map_err(|why| why.to_string())?;
            if until(&overview) { Ok(overview) } else { Err(overview["incidents"].to_string()) }
        })
    };
    let shop = |overview: &Value| {
        let servers = overview["servers"].as_array().unwrap();
        servers.iter().find(|server| server["server"] == "shop").unwrap().clone()
    };
    // The kernel's queue of 511 is full, and its clients go on by its cookies.
    let before = overview(&|now| {
        now["incidents"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["kind"] == "spoofed_flood" && one["server"] == "shop")
            && shop(now)["mode"] == "cookie"
    });
    assert_eq!(shop(&before)["backlog_limit"], 512);
    let completed = |overview: &Value| shop(overview)["completed"].as_u64().unwrap();
    let later = overview(&|now| completed(now) > completed(&before) + 100);
    let incidents = later["incidents"].as_array().unwrap();
    assert!(
        incidents.iter().all(|one| one["kind"] == "spoofed_flood" && one["server"] == "shop"),
        "{incidents:#?}"
    );
    if let Some(mut browser) = Browser::start("demo") {
        if pictures {
            let since = incidents[0]["onset"].as_f64().unwrap();
            overview(&|now| now["network_time"].as_f64().unwrap() > since + 45.0);
        }
        browser.screen(1280, 1180, false);
        browser.open(&base);
        browser.wait_until("document.querySelector('#incidents a[download]') !== null");
        let frames =
            browser.evaluate("document.querySelector('#incidents a[download]').getAttribute('href')");
        let frames = format!("{base}{}", frames.as_str().unwrap().trim_start_matches('/'));
        let file = ureq::get(frames).call().unwrap().body_mut().read_to_vec().unwrap();
        // The magic number of a capture file with nanoseconds, little end first.
        assert!(file.len() > 1000 && file.starts_with(&[0x4d, 0x3c, 0xb2, 0xa1]), "{:x?}", &file[..4]);
        picture(&mut browser, "page-light.png");
        browser.screen(1280, 1180, true);
        picture(&mut browser, "page-dark.png");
        browser.screen(390, 844, false);
        picture(&mut browser, "page-phone.png");
    }
    let namespaces = || run(Command::new("ip").args(["netns", "list"]));
    let name = format!("halfopen-demo-{}-", demo.id());
    assert!(namespaces().contains(&name), "{}", namespaces());
    // A second one finds the place taken, says so, and leaves nothing behind.
    let mut second = Command::new(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scripts/demo.sh"));
    let address = base.trim_start_matches("http://").trim_end_matches('/');
    let mut second = Process::start(second.arg(address).env("HALFOPEN_DEMO_BUILT", &built));
    assert_eq!(second.wait(Duration::from_secs(20)).code(), Some(1), "{}", second.describe());
    assert!(second.stderr().contains(address), "{}", second.describe());
    assert!(!namespaces().contains(&format!("halfopen-demo-{}-", second.id())), "{}", namespaces());
    demo.signal(Signal::Terminate);
    assert_eq!(demo.wait(Duration::from_secs(10)).code(), Some(143), "{}", demo.describe());
    assert!(!namespaces().contains(&name), "{}", namespaces());
}
