//! Restores that are stopped on their way, and go on when they are run again.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::typed::{Bench, files_below, mount_small};
use crate::support::{assert_same, noise, tree_of};

/// Some hundred files, small and large, in directories that the restore makes.
fn filled() -> Bench {
    let bench = Bench::new();
    for directory in 0..10_u64 {
        let path = bench.work(&format!("src/d{directory}"));
        fs::create_dir_all(&path).unwrap();
        for file in 0..30_u64 {
            let seed = directory * 30 + file;
            let len = if file % 10 == 0 { 2_500_000 } else { usize::try_from(seed * 97 % 9_000).unwrap() };
            fs::write(path.join(format!("f{file:02}")), noise(seed, len)).unwrap();
        }
    }
    bench.run(["backup", "--compression", "off", "src"]).expect(0);
    bench
}

/// Begins a restore, lets it write so many bytes, and sends it a signal. Says whether that stopped it.
fn stop(bench: &Bench, target: &str, after: u64, signal: Signal) -> bool {
    let mut command = bench.command(["restore", "latest", "--target", target]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    let written = || {
        let root = bench.work(target);
        let src = root.join("src");
        if src.is_dir() { files_below_if_there(&src) } else { 0 }
    };
    // Before anything is written, the process may not have come to listening for signals.
    let at_once = written() >= after;
    while written() < after && child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(300), "nothing more is written");
    }
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    let _ = kill_process(pid, signal);
    let status = child.wait().unwrap();
    if signal == Signal::INT && !status.success() && !at_once {
        assert_eq!(status.code(), Some(130), "{status:?}");
    }
    !status.success()
}

/// Bytes in files, of which some may vanish while they are looked at.
fn files_below_if_there(root: &std::path::Path) -> u64 {
    let mut sum = 0;
    let mut open = vec![root.to_path_buf()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(stat) if stat.is_dir() => open.push(entry.path()),
                Ok(stat) => sum += stat.len(),
                Err(_) => {}
            }
        }
    }
    sum
}

fn goes_on_after(signal: Signal) {
    let bench = filled();
    let expected = tree_of(&bench.work("src"));
    let mut stopped = 0;
    for (round, after) in [1_u64, 3_000_000, 9_000_000, 20_000_000].into_iter().enumerate() {
        let target = format!("out{round}");
        if !stop(&bench, &target, after, signal) {
            continue;
        }
        stopped += 1;
        let there = files_below(&bench.work(&target));
        if signal == Signal::INT {
            // Whoever stops in order leaves no file in part.
            for (path, _) in &there {
                let name = path.strip_prefix(bench.work(&target).join("src")).unwrap();
                assert_eq!(
                    fs::read(path).unwrap(),
                    fs::read(bench.work("src").join(name)).unwrap(),
                    "{path:?}"
                );
            }
        }
        // Stopped once more on the way, then to the end.
        stop(&bench, &target, after + 5_000_000, signal);
        let report = bench.restore(&["--target", &target, "--verify", "--delete"], 0);
        assert_same(&expected, &tree_of(&bench.work(&target).join("src")), &format!("after {after}"));
        let reused = report["reused_bytes"].as_u64().unwrap();
        let written = report["written_bytes"].as_u64().unwrap();
        assert_eq!(reused + written, report["content_bytes"].as_u64().unwrap());
        // What was in place is not fetched again. Of each file that was being written, a chunk may be missing.
        assert!(reused + 8_000_000 >= after, "{reused} of {after} bytes were used");
    }
    assert!(stopped >= 2, "it was stopped {stopped} times");
}

#[test]
fn a_restore_that_was_interrupted_goes_on() {
    goes_on_after(Signal::INT);
}

#[test]
fn a_restore_that_was_killed_goes_on() {
    goes_on_after(Signal::KILL);
}

/// What a killed restore leaves in directories that were there before has a name that says so; the next one does not trip over it, and
/// takes it away if it may delete.
#[test]
fn what_a_killed_restore_has_left_is_in_nobodys_way() {
    let bench = filled();
    let expected = tree_of(&bench.work("src"));
    bench.restore(&["--target", "out"], 0);
    // Every file is another one, so that each is made anew beside it.
    let spoil = || {
        for (path, len) in files_below(&bench.work("out/src")) {
            fs::write(path, noise(len, usize::try_from(len).unwrap())).unwrap();
        }
    };
    let left_overs = || {
        let files = files_below(&bench.work("out/src")).into_iter().map(|(path, _)| path);
        files
            .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(".coffer-"))
            .collect::<Vec<_>>()
    };
    let before = files_below(&bench.work("out/src")).into_iter().map(|(_, len)| len).sum::<u64>();
    for round in 1..20_u64 {
        spoil();
        stop(&bench, "out", before + round * 400_000, Signal::KILL);
        if !left_overs().is_empty() {
            break;
        }
    }
    let left = left_overs();
    assert!(!left.is_empty(), "it was never killed while it wrote a file");
    bench.restore(&["--target", "out", "--verify"], 0);
    // They may be of a restore that is under way: nothing takes them away unasked.
    assert_eq!(left_overs(), left);
    bench.restore(&["--target", "out", "--delete"], 0);
    assert_same(&expected, &tree_of(&bench.work("out/src")), "after --delete");
}

#[test]
fn a_file_left_in_part_under_its_name_is_found_out() {
    let bench = filled();
    bench.restore(&["--target", "out"], 0);
    let expected = tree_of(&bench.work("src"));
    // As a restore into a new directory leaves it that is killed: full length, mode 0600, some of it zeros, the time of now.
    let file = bench.work("out/src/d3/f10");
    for policy in ["always", "if-changed"] {
        let mut bytes = fs::read(&file).unwrap();
        bytes[700_000..1_400_000].fill(0);
        fs::write(&file, bytes).unwrap();
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let report = bench.restore(&["--target", "out", "--overwrite", policy], 0);
        assert_eq!(report["updated"], 1, "{report}");
        assert!(report["written_bytes"].as_u64().unwrap() <= 2_500_000);
        assert_same(&expected, &tree_of(&bench.work("out/src")), policy);
    }
}

#[test]
fn a_disk_that_fills_up_leaves_no_file_in_part() {
    let bench = filled();
    let expected = tree_of(&bench.work("src"));
    let Some(small) = mount_small(&bench, "small", "16m") else { return };
    let report = bench.restore(&["--target", "small/out"], 3);
    assert!(report["error_count"].as_u64().unwrap() > 0);
    let errors = report["errors"].as_array().unwrap();
    assert!(errors.iter().any(|error| error["message"].as_str().unwrap().contains("No space")), "{errors:?}");
    let there = files_below(&bench.work("small/out"));
    assert!(!there.is_empty());
    for (path, _) in &there {
        let name = path.strip_prefix(bench.work("small/out/src")).unwrap();
        assert_eq!(fs::read(path).unwrap(), fs::read(bench.work("src").join(name)).unwrap(), "{path:?}");
    }
    // With more room it goes on; it is another file system than the vault's and the source's.
    small.remount("size=128m");
    let dev = |path: &str| fs::metadata(bench.work(path)).unwrap().dev();
    assert_ne!(dev("small"), dev("vault"));
    let report = bench.restore(&["--target", "small/out", "--verify"], 0);
    assert!(report["unchanged"].as_u64().unwrap() > 0);
    assert_same(&expected, &tree_of(&bench.work("small/out/src")), "with more room");
}

#[test]
fn what_is_mounted_below_the_target_is_not_deleted() {
    let bench = Bench::new();
    fs::create_dir(bench.work("src")).unwrap();
    fs::write(bench.work("src/a"), "a").unwrap();
    bench.run(["backup", "src"]).expect(0);
    bench.restore(&["--target", "out"], 0);
    let Some(_small) = mount_small(&bench, "out/src/mounted", "1m") else { return };
    let mounted = bench.work("out/src/mounted");
    fs::write(mounted.join("precious"), "precious").unwrap();
    let report = bench.restore(&["--target", "out", "--delete"], 3);
    assert_eq!(report["errors"][0]["path"], "src/mounted", "{report}");
    assert_eq!(fs::read(mounted.join("precious")).unwrap(), b"precious");
}

#[test]
fn deleting_from_the_root_is_wrong_usage_and_the_vault_is_not_deleted() {
    let bench = Bench::new();
    fs::create_dir(bench.work("src")).unwrap();
    fs::write(bench.work("src/a"), "a").unwrap();
    // The whole directory is the source, with the vault in it.
    bench.run(["backup", "."]).expect(0);
    let ran = bench.run(["restore", "latest", "-t", "/", "--delete", "-n"]).expect(2);
    assert!(
        ran.err().contains("--delete would remove from /") && ran.err().contains("--include"),
        "{}",
        ran.err()
    );
    fs::write(bench.work("surplus"), "surplus").unwrap();
    let out = bench.run(["restore", "latest", "-t", ".", "--delete", "-n", "-v"]).expect(0).out();
    assert!(out.contains("delete    surplus\n") && !out.contains("delete    vault"), "{out}");
    assert!(bench.work("surplus").exists());
    bench.run(["restore", "latest", "-t", ".", "--delete", "--exclude", "/cache"]).expect(0);
    assert!(!bench.work("surplus").exists());
    bench.run(["verify", "--deep"]).expect(0);
    for (words, text) in [
        (&["--include", "a", "--exclude", "b"][..], "cannot be used with"),
        (&["--dry-run", "--verify"], "cannot be used with"),
        (&["--include", "a/../b"], "is not valid"),
        (&["--overwrite", "sometimes"], "if-changed"),
    ] {
        let ran = bench.run(["restore", "latest", "-t", "out"].iter().chain(words)).expect(2);
        assert!(ran.err().contains(text), "{}", ran.err());
    }
    fs::write(bench.work("list"), "# a comment\n\n*.txt\n").unwrap();
    fs::write(bench.work("src/B.TXT"), "b").unwrap();
    bench.run(["backup", "src"]).expect(0);
    for (words, expected) in [
        (["--include-file", "list"], &[][..]),
        (["--iinclude-file", "list"], &["B.TXT"]),
        (["--exclude-file", "list"], &["B.TXT", "a"]),
        (["--iexclude-file", "list"], &["a"]),
        (["--iinclude", "b.*"], &["B.TXT"]),
        (["--iexclude", "b.*"], &["a"]),
    ] {
        let target = format!("out{}", words[0]);
        bench.restore(&["-t", &target, words[0], words[1]], 0);
        let names: Vec<_> = fs::read_dir(bench.work(&target).join("src"))
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let mut names = names;
        names.sort();
        assert_eq!(names, expected, "{words:?}");
    }
}
