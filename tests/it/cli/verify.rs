//! `verify` without keys and without a network: what it proves, and what it says that it does not.

use std::fs;
use std::process::Command;

use super::desk::{Desk, Ran, copy};

#[test]
fn what_is_not_proved_is_said() {
    let desk = Desk::with_snapshot();
    let (id, head) = (desk.vault_id(), desk.head());
    let origin = "self-consistent; origin not proved";
    let fresh = "freshness not proved";
    let offline = |rest: &str| desk.bare(&format!("-V ../vault verify --offline {rest}")).expect(0);
    offline("").says(origin).says(fresh).says("no errors were found");
    offline(&format!("--vault-id {id}")).says_not(origin).says("origin proved").says(fresh);
    offline(&format!("--head {head}")).says(origin).says_not(fresh);
    offline(&format!("--vault-id {id} --head {head}")).says_not(origin).says_not(fresh);
    // What this machine remembers counts as given, but not offline.
    desk.run("verify").expect(0).says_not(origin).says_not(fresh);
    desk.run("verify --offline").expect(0).says(origin).says(fresh);
    desk.run("--no-cache verify").expect(0).says(origin).says(fresh);
    let message = desk.json("verify --offline").expect(0).message();
    assert_eq!(message["statements"][0], origin);
    assert_eq!((&message["origin_proved"], &message["fresh_proved"]), (&false.into(), &false.into()));
}

/// A way to run a command without a network, if this machine permits one.
fn without_network() -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&["-n"], &["-r", "-n"]];
    ways.into_iter().find(|way| {
        let mut probe = Command::new("unshare");
        probe.args(*way).arg("true").output().is_ok_and(|output| output.status.success())
    })
}

#[test]
fn a_copy_is_checked_without_a_key_and_without_a_network() {
    let desk = Desk::with_snapshot();
    let (id, head) = (desk.vault_id(), desk.head());
    copy(&desk.path("vault"), &desk.path("copy"));
    for name in ["key", "vault", "cache"] {
        let path = desk.path(name);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
    let line = format!("-V ../copy verify --offline --vault-id {id} --head {head}");
    desk.bare(&line).expect(0).says("no errors were found");
    let Some(way) = without_network() else {
        println!("skipped: this machine does not permit a process without a network (unshare -n)");
        return;
    };
    let mut command = Command::new("unshare");
    desk.furnish(&mut command);
    command.args(way).arg(env!("CARGO_BIN_EXE_coffer-under-test")).args(line.split(' '));
    let output = command.output().unwrap();
    Ran::new(&command, output).expect(0).says("origin proved").says_not("not proved");
    assert!(!desk.path("home/.cache").exists(), "nothing is remembered offline");
}

#[test]
fn a_part_of_the_packs_can_be_read() {
    let desk = Desk::with_vault();
    for number in 0..6 {
        fs::write(desk.path("work/src/a"), format!("{number}").repeat(1000)).unwrap();
        desk.run("backup src").expect(0);
    }
    let count = desk.objects("packs").len() as u64;
    assert!(count >= 6);
    let read = |subset: &str| {
        let message = desk.json(&format!("verify --read-subset {subset}")).expect(0).message();
        assert_eq!(message["packs"], count, "{message}");
        message["hashed_packs"].as_u64().unwrap()
    };
    assert_eq!((1..=3).map(|part| read(&format!("{part}/3"))).sum::<u64>(), count);
    assert_eq!(read("50%"), count.div_ceil(2));
    assert_eq!(read("100%"), count);
    assert_eq!(read("10G"), count);
    assert_eq!(read("1"), 1);
    desk.run("verify --read-subset 1/6 --threads 1").expect(0).says("were read whole");
    desk.run("verify --deep --read-subset 5%").expect(0);
}

#[test]
fn what_no_record_names_is_residue_and_harmless() {
    let desk = Desk::with_snapshot();
    copy(&desk.path("vault"), &desk.path("before"));
    fs::write(desk.path("work/src/new"), vec![7; 100_000]).unwrap();
    desk.run("backup src").expect(0);
    // As a run leaves it that was killed before its commit.
    fs::remove_file(desk.objects("log").pop().unwrap()).unwrap();
    desk.run("--no-cache verify").expect(0).says("uncommitted or released object(s)").says("harmless");
    desk.run("--no-cache verify --deep").expect(0);
    let message = desk.json("--no-cache verify").expect(0).message();
    assert_eq!(message["residue_count"], 2, "a pack and an index segment: {message}");
    desk.run("--no-cache backup src").expect(0);
    desk.run("--no-cache ls latest").expect(0).says("src/new");
}
