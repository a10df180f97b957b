//! Commands that are stopped on their way.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::commits::{send, wait_for_packs};
use super::desk::{Desk, Ran};
use crate::support::{assert_same, noise, tree_of};

/// Makes a directory of so many MiB whose backup takes a while with `--compression 12`, as it can be compressed.
pub(super) fn slow_source(desk: &Desk, name: &str, count: u64) {
    fs::create_dir(desk.path(name)).unwrap();
    for number in 0..count {
        let letters: Vec<u8> = noise(100 + number, 1 << 20).iter().map(|byte| b'a' + byte % 20).collect();
        fs::write(desk.path(&format!("{name}/{number:02}")), letters).unwrap();
    }
}

const SLOW_BACKUP: [&str; 8] = ["backup", "--threads", "1", "--pack-size", "4", "--compression", "12", "src"];

fn spawn(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Begins a slow backup on a desk with one snapshot, and returns when its first pack is stored.
fn begin(desk: &Desk) -> (Command, Child) {
    // Much more than what the queues hold, so the source is still being read when the first pack is stored.
    slow_source(desk, "work/src/z", 48);
    let before = desk.objects("packs").len();
    let mut command = desk.command(&SLOW_BACKUP);
    let mut child = spawn(&mut command);
    wait_for_packs(desk, &mut child, before);
    (command, child)
}

/// The first snapshot restores, the vault verifies, and the next backup goes on from what was stored.
fn assert_goes_on(desk: &Desk) {
    assert_eq!(desk.snapshot_count(), 1);
    desk.run("verify").expect(0);
    desk.run("verify --deep").expect(0);
    desk.run("restore latest --target ../before").expect(0);
    assert!(!desk.path("before/src/z").exists() && desk.path("before/src/d/large").exists());
    desk.run("backup src").expect(0);
    desk.run("verify --deep").expect(0);
    desk.run("restore latest --target ../after").expect(0);
    assert_same(&tree_of(&desk.path("work/src")), &tree_of(&desk.path("after/src")), "restored");
}

#[test]
fn an_interrupted_backup_is_exit_code_130_and_the_next_one_goes_on() {
    let desk = Desk::with_snapshot();
    let (command, child) = begin(&desk);
    send(&child, Signal::INT);
    let ran = Ran::new(&command, child.wait_with_output().unwrap()).expect(130);
    ran.says("interrupted").says("run the command again to continue");
    // What was stored is named by a progress record, so it is not stored again.
    let message = desk.json("--no-cache stats").expect(0).message();
    assert!(message["packs"].as_u64().unwrap() >= 2, "{message}");
    let stored = desk.objects("packs");
    assert_goes_on(&desk);
    let kept = desk.objects("packs");
    assert!(stored.iter().all(|pack| kept.contains(pack)));
    let message = desk.json("verify").expect(0).message();
    assert_eq!(message["residue_count"], 0, "everything that was stored is used: {message}");
}

#[test]
fn a_killed_backup_leaves_residue_only() {
    let desk = Desk::with_snapshot();
    let (_, mut child) = begin(&desk);
    child.kill().unwrap();
    child.wait().unwrap();
    let message = desk.json("verify").expect(0).message();
    assert!(message["residue_count"].as_u64().unwrap() >= 1, "{message}");
    desk.run("doctor").expect(0);
    assert_goes_on(&desk);
}

/// How long what must happen is waited for, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(120);

/// A command that waits for a passphrase that nobody types.
struct Asking {
    command: Command,
    child: Child,
    /// What it runs to ask.
    asker: Pid,
}

impl Asking {
    /// Returns when the command waits.
    fn start(desk: &Desk, options: &[&str], words: &[&str]) -> Self {
        let marker = desk.path("asked");
        // Longer than the test lasts. The marker appears with its content.
        let ask = format!("echo $$ > {0}.new; mv {0}.new {0}; exec sleep 600 2>/dev/null", marker.display());
        let more = ["-V", "../vault", "--passphrase-command", &ask];
        let mut command = desk.bare_command(&[options, &more, words].concat());
        let mut child = spawn(&mut command);
        let begun = Instant::now();
        while !marker.exists() {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it asked");
            assert!(begun.elapsed() < PATIENCE, "it does not ask");
            std::thread::sleep(Duration::from_millis(5));
        }
        let asker = fs::read_to_string(marker).unwrap().trim().parse().unwrap();
        Self { command, child, asker: Pid::from_raw(asker).unwrap() }
    }

    /// What it did until it ended, which it does long before somebody types.
    fn end(mut self) -> Ran {
        let begun = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        // Nobody waits for it any more.
        let _ = kill_process(self.asker, Signal::KILL);
        Ran::new(&self.command, self.child.wait_with_output().unwrap())
    }
}

#[test]
fn a_second_interrupt_ends_the_process_at_once() {
    let desk = Desk::with_snapshot();
    // The first interrupt has to wait for the passphrase.
    let mut asking = Asking::start(&desk, &[], &["backup", "src"]);
    send(&asking.child, Signal::INT);
    std::thread::sleep(Duration::from_millis(300));
    assert!(
        asking.child.try_wait().unwrap().is_none(),
        "the first interrupt lets the operation end in order"
    );
    // Two signals that come before the first is looked at are one, so on a busy machine the second may have to be sent again.
    let begun = Instant::now();
    while asking.child.try_wait().unwrap().is_none() && begun.elapsed() < PATIENCE {
        send(&asking.child, Signal::INT);
        std::thread::sleep(Duration::from_millis(300));
    }
    asking.end().expect(130);
    desk.run("verify").expect(0);
}

#[test]
fn commands_that_only_look_end_at_the_first_interrupt() {
    let desk = Desk::with_snapshot();
    let asking = Asking::start(&desk, &[], &["stats"]);
    send(&asking.child, Signal::INT);
    assert_eq!(asking.end().expect(130).err, "error: interrupted\n");
}

#[test]
fn an_interrupted_verification_says_so() {
    let desk = Desk::with_snapshot();
    let asking = Asking::start(&desk, &["--json"], &["verify", "--deep"]);
    send(&asking.child, Signal::INT);
    let ran = asking.end().expect(130);
    let messages = ran.error_messages();
    assert_eq!(messages.len(), 1, "{ran:?}");
    assert_eq!((&messages[0]["message"], &messages[0]["exit_code"]), (&"interrupted".into(), &130.into()));
}
