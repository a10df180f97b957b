//! Files that are made before the commit that gives them a meaning, and a command that is stopped between the two.

use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use coffer_testkit::proxy::{NetworkFault, Proxy};
use rustix::process::{Pid, Signal, kill_process};

use super::desk::{Desk, Ran};

/// How long what must happen is waited for, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs a command, and sends it a signal once it has asked for an object below `folder` to be created, which the store does not answer.
fn stop_at(desk: &Desk, proxy: &Proxy, line: &str, folder: &str, signal: Signal) -> Ran {
    let reached = Arc::new(AtomicBool::new(false));
    let (seen, folder) = (Arc::clone(&reached), format!("/v/{folder}"));
    proxy.set_plan(move |request| {
        let is_it = request.method == "PUT" && request.path.contains(&folder);
        seen.fetch_or(is_it, Ordering::SeqCst);
        is_it.then_some(NetworkFault::StallRequest(PATIENCE))
    });
    let mut command = desk.command(line);
    command.env("COFFER_ENDPOINT", proxy.endpoint()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child: Child = command.spawn().unwrap();
    let begun = Instant::now();
    while !reached.load(Ordering::SeqCst) {
        assert!(child.try_wait().unwrap().is_none(), "{line}: it ended before it came there");
        assert!(begun.elapsed() < PATIENCE, "{line}: it does not come there");
        std::thread::sleep(Duration::from_millis(5));
    }
    kill_process(Pid::from_child(&child), signal).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

fn count_in(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

fn proxy_of(desk: &Desk) -> Proxy {
    Proxy::start(desk.sandbox.endpoint().strip_prefix("http://").unwrap().parse().unwrap()).unwrap()
}

#[test]
fn shares_of_a_slot_that_is_not_made_do_not_stay() {
    let desk = Desk::new(|_| {});
    let proxy = proxy_of(&desk);
    let (board, there) = (desk.path("board"), desk.path("there"));
    std::fs::create_dir(&there).unwrap();
    // The same of a new vault, and of one that there is.
    let init = "init --add-shares 2of3 --shares-dir ../board";
    stop_at(&desk, &proxy, init, "slots/", Signal::INT).expect(130).says("interrupted");
    assert!(!board.exists(), "{} files", count_in(&board));
    desk.run("init --single-slot").expect(0);
    for (signal, dir) in [(Signal::INT, "board"), (Signal::TERM, "there")] {
        let line = format!("keys add --new-shares 2of3 --shares-dir ../{dir}");
        stop_at(&desk, &proxy, &line, "slots/", signal).expect(130).says("interrupted");
        assert_eq!(count_in(&desk.path(dir)), 0);
    }
    // What was there before stays there.
    assert!(!board.exists() && there.exists());
    desk.run("keys list").expect(0);
    desk.run("keys add --new-shares 2of3 --shares-dir ../board").expect(0);
    assert_eq!(count_in(&board), 3);
}

#[test]
fn shares_of_a_slot_that_may_be_made_stay_and_it_is_said() {
    let desk = Desk::new(|_| {});
    let proxy = proxy_of(&desk);
    let init = "init --add-shares 2of3 --shares-dir ../first";
    let advice = "whether the key slot of the new shares was made is not known";
    stop_at(&desk, &proxy, init, "log/", Signal::TERM).expect(130).says(advice).says("`coffer keys list`");
    assert_eq!(count_in(&desk.path("first")), 3);
    // What was begun is completed with other shares.
    desk.run("init --add-shares 2of3 --shares-dir ../second").expect(0);
    // The credential of a writer is the same.
    let grant = "keys grant-writer web --out ../web";
    stop_at(&desk, &proxy, grant, "log/", Signal::INT).expect(130).says("`coffer keys writers`");
    assert!(desk.path("web").exists());
    let line = "--json keys add --new-shares 2of2 --shares-dir ../third";
    let ran = stop_at(&desk, &proxy, line, "log/", Signal::INT).expect(130);
    let message: serde_json::Value = serde_json::from_str(ran.err.lines().last().unwrap()).unwrap();
    assert_eq!((&message["message"], &message["exit_code"]), (&"interrupted".into(), &130.into()));
    let hint = message["hint"].as_str().unwrap();
    assert!(hint.contains(advice), "{hint}");
    let files: Vec<_> =
        std::fs::read_dir(desk.path("third")).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 2);
    // The set that it names is that of the files.
    let set = hint.split("of the set ").nth(1).unwrap().split(',').next().unwrap();
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.contains(&format!("set {set}")), "{set}: {text}");
    }
}
