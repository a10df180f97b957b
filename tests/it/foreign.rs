//! The simulated region and the key service, driven by the clients that others wrote: IBM's, the one of AWS, and `redstone`.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// A region in a process of its own, as `coffer sandbox serve` runs it, or a key service as `coffer kms serve` does.
struct Served {
    process: Child,
    said: Value,
}

impl Served {
    fn start(dir: &Path, more: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coffer-under-test"));
        command.args(["--json", "sandbox", "serve", "--dir"]).arg(dir).args(more);
        Self::run(command)
    }

    fn run(mut command: Command) -> Self {
        command.stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        Self { process, said }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // As `kill -9` does it.
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// The interpreter with the clients, if `tests/install-extras.sh` has installed them. In continuous integration it has.
fn python() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python");
    let has_clients = || {
        Command::new(&python)
            .args(["-c", "import boto3, ibm_boto3, keyprotect, redstone, cryptography"])
            .output()
            .unwrap()
            .status
            .success()
    };
    if python.exists() && has_clients() {
        return Some(python);
    }
    assert!(std::env::var_os("COFFER_TESTS_REQUIRE_ALL").is_none(), "tests/install-extras.sh was not run");
    println!("SKIPPED: clients of IBM and AWS; tests/install-extras.sh installs them");
    None
}

fn script(python: &Path, name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign").join(name)).args(arguments);
    command
}

/// What a script prints that must succeed, by line.
fn lines(mut command: Command) -> Vec<String> {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text.lines().map(str::to_owned).collect()
}

fn drive(more: &[&str]) {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path(), more);
    let said = served.said.to_string();
    let lines = lines(script(&python, "cos_clients.py", &[&said]));
    assert_eq!(lines.iter().filter(|line| line.starts_with("ok ")).count(), 32, "{lines:?}");
}

#[test]
fn foreign_clients_do_everything_over_http() {
    drive(&[]);
}

#[test]
fn foreign_clients_do_everything_over_tls() {
    drive(&["--tls"]);
}

#[test]
fn what_was_acknowledged_is_there_after_the_process_was_killed() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeSet::new();
    for round in 0..3 {
        let served = Served::start(dir.path(), &[]);
        let (said, round) = (served.said.to_string(), round.to_string());
        let mut command = script(&python, "cos_durable.py", &[&said, "storm", &round]);
        let mut storm = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(storm.stdout.take().unwrap()).lines().map(Result::unwrap);
        acknowledged.extend(lines.by_ref().take(150));
        // Killed while four writers are at it.
        drop(served);
        acknowledged.extend(lines);
        assert!(storm.wait().unwrap().success());

        let served = Served::start(dir.path(), &[]);
        let said = served.said.to_string();
        let found: BTreeSet<_> =
            self::lines(script(&python, "cos_durable.py", &[&said, "check"])).into_iter().collect();
        let lost: Vec<_> = acknowledged.difference(&found).collect();
        assert!(lost.is_empty(), "round {round}: {lost:?}");
        assert!(acknowledged.len() >= 150);
    }
}

/// Both clients of key services, with every method that they have.
fn drive_keys(python: &Path, said: &str) {
    for (name, steps) in [("keyprotect_client.py", 8), ("redstone_client.py", 7)] {
        let lines = lines(script(python, name, &[said]));
        assert_eq!(lines.iter().filter(|line| line.starts_with("ok ")).count(), steps, "{name}: {lines:?}");
    }
}

#[test]
fn foreign_clients_use_the_key_service_of_the_region() {
    let Some(python) = python() else { return };
    for more in [&[][..], &["--tls"]] {
        let dir = tempfile::tempdir().unwrap();
        let served = Served::start(dir.path(), more);
        drive_keys(&python, &served.said.to_string());
    }
}

#[test]
fn foreign_clients_use_the_key_service_on_its_own() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let coffer = |line: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coffer-under-test"));
        command.current_dir(dir.path()).arg("--json").args(line.split(' '));
        command
    };
    for part in ["a.part", "b.part"] {
        assert!(coffer(&format!("kms new-part {part}")).output().unwrap().status.success());
    }
    let made =
        coffer("kms new-token --tokens tokens --name all --role Manager --role KeyPurge").output().unwrap();
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let serve = "kms serve --dir state --tokens tokens --listen 127.0.0.1:0 --master-key-part a.part --master-key-part b.part";
    let mut served = Served::run(coffer(serve));
    served.said["api_key"] = made["token"].clone();
    drive_keys(&python, &served.said.to_string());
}
