//! A desk to type commands at: a directory with a key, a source, a place for a vault, and nothing of the tester's own environment.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::{fmt, fs};

use serde_json::Value;
use tempfile::TempDir;

use super::messages::check_message;
use crate::support::{noise, scratch};

/// The environment variables that the command reads.
pub(super) const VARIABLES: [&str; 19] = [
    "COFFER_VAULT",
    "COFFER_KEY_FILE",
    "COFFER_PASSPHRASE",
    "COFFER_PASSPHRASE_FILE",
    "COFFER_PASSPHRASE_COMMAND",
    "COFFER_PASSPHRASE_COST",
    "COFFER_WRITER",
    "COFFER_CACHE_DIR",
    "COFFER_CONFIG",
    "COFFER_PROFILE",
    "COFFER_ENDPOINT",
    "COFFER_REGION",
    "COFFER_COS_CREDENTIALS",
    "COFFER_IBM_API_KEY_FILE",
    "COFFER_IBM_API_KEY",
    "COFFER_IBM_TRUSTED_PROFILE",
    "COFFER_IBM_CR_TOKEN_FILE",
    "COFFER_IAM_ENDPOINT",
    "COFFER_CA_CERT",
];

/// What else in the tester's own environment would change what the command does.
const SURROUNDINGS: [&str; 5] =
    ["XDG_CACHE_HOME", "XDG_CONFIG_HOME", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"];

/// The passphrase that tests use; no output may contain it.
pub(super) const PASSPHRASE: &str = "correct horse battery staple";

/// A directory to work in. Commands run in `work`, where the directory `src` is.
pub(super) struct Desk {
    dir: TempDir,
}

impl Desk {
    /// A desk with a key file and a source, and no vault yet.
    pub(super) fn new() -> Self {
        let desk = Self { dir: scratch() };
        fs::create_dir_all(desk.path("work/src/d")).unwrap();
        fs::create_dir(desk.path("home")).unwrap();
        fs::write(desk.path("work/src/a"), "a small file\n").unwrap();
        fs::write(desk.path("work/src/d/b"), noise(1, 5000)).unwrap();
        fs::write(desk.path("work/src/d/large"), noise(2, 3_000_000)).unwrap();
        desk.bare("keys new-file ../key").expect(0);
        desk
    }

    /// A desk with a vault, which is still empty.
    pub(super) fn with_vault() -> Self {
        let desk = Self::new();
        desk.run("init --single-slot").expect(0);
        desk
    }

    /// A desk with a vault that holds one snapshot of `src`.
    pub(super) fn with_snapshot() -> Self {
        let desk = Self::with_vault();
        desk.run("backup src").expect(0);
        desk
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Names of the objects in a directory of the vault, sorted.
    pub(super) fn objects(&self, directory: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open = vec![self.path("vault").join(directory)];
        while let Some(directory) = open.pop() {
            let Ok(entries) = fs::read_dir(directory) else { continue };
            for entry in entries {
                let path = entry.unwrap().path();
                if path.is_dir() { open.push(path) } else { found.push(path) }
            }
        }
        found.sort();
        found
    }

    /// The command with an environment that is empty but for what any process has.
    pub(super) fn bare_command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coffer-under-test"));
        self.furnish(&mut command);
        command.args(arguments);
        command
    }

    /// Gives a command the directory, and the environment, of the desk.
    pub(super) fn furnish(&self, command: &mut Command) {
        command
            .current_dir(self.path("work"))
            .env("HOME", self.path("home"))
            .env("TZ", "UTC")
            .env("USER", "tester");
        for variable in VARIABLES.into_iter().chain(SURROUNDINGS) {
            command.env_remove(variable);
        }
        // Tests make many slots, and guess no passphrase.
        command.env("COFFER_PASSPHRASE_COST", "floor").stdin(Stdio::null());
    }

    /// The command with vault, key file and cache given by the environment.
    pub(super) fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = self.bare_command(arguments);
        command.env("COFFER_VAULT", self.path("vault")).env("COFFER_KEY_FILE", self.path("key"));
        command.env("COFFER_CACHE_DIR", self.path("cache"));
        command
    }

    /// Runs what a user would type behind `coffer`, with vault, key and cache given.
    pub(super) fn run(&self, line: &str) -> Ran {
        self.finish(&mut self.command(&words(line)))
    }

    /// As [`Self::run`], with nothing given by the environment.
    pub(super) fn bare(&self, line: &str) -> Ran {
        self.finish(&mut self.bare_command(&words(line)))
    }

    /// As [`Self::run`], with `--json`; the messages are held against the documentation.
    pub(super) fn json(&self, line: &str) -> Ran {
        let ran = self.run(&format!("--json {line}"));
        ran.messages().iter().chain(&ran.error_messages()).for_each(check_message);
        ran
    }

    /// Runs a command to its end, and makes sure that it told nobody a secret.
    pub(super) fn finish(&self, command: &mut Command) -> Ran {
        let output = command.output().unwrap();
        let ran = Ran::new(command, output);
        let mut secrets = vec![PASSPHRASE.to_owned()];
        for entry in fs::read_dir(self.dir.path()).unwrap() {
            // Every key file of the desk lies in its directory.
            let Ok(text) = fs::read_to_string(entry.unwrap().path()) else { continue };
            let is_secret = |line: &&str| line.starts_with("COFFER-KEY") || line.starts_with("COFFER-WRITER");
            secrets.extend(text.lines().filter(is_secret).map(str::to_owned));
        }
        for secret in secrets {
            let digits = secret.rsplit('-').next().unwrap();
            assert!(!ran.out.contains(digits) && !ran.err.contains(digits), "{ran:?} shows a secret");
        }
        ran
    }

    /// Id and head of the vault.
    pub(super) fn vault_id(&self) -> String {
        text_of(&self.json("snapshots").expect(0).message()["vault_id"])
    }

    pub(super) fn head(&self) -> String {
        text_of(&self.json("snapshots").expect(0).message()["head"])
    }

    pub(super) fn snapshot_count(&self) -> usize {
        self.json("--no-cache snapshots").expect(0).message()["snapshots"].as_array().unwrap().len()
    }
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

pub(super) fn text_of(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// What a command did.
pub(super) struct Ran {
    command: String,
    pub(super) code: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
}

impl fmt::Debug for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, code, out, err } = self;
        write!(f, "{command} ended with {code:?}\nstandard output:\n{out}\nstandard error:\n{err}")
    }
}

impl Ran {
    pub(super) fn new(command: &Command, output: Output) -> Self {
        Self {
            command: format!("coffer {:?}", command.get_args().collect::<Vec<_>>()),
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Panics unless the exit code is this one.
    #[track_caller]
    pub(super) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// Panics unless standard output or standard error contains the text.
    #[track_caller]
    pub(super) fn says(self, text: &str) -> Self {
        assert!(self.out.contains(text) || self.err.contains(text), "{text:?} is missing: {self:?}");
        self
    }

    #[track_caller]
    pub(super) fn says_not(self, text: &str) -> Self {
        assert!(!self.out.contains(text) && !self.err.contains(text), "{text:?}: {self:?}");
        self
    }

    /// The JSON values on standard output.
    #[track_caller]
    pub(super) fn messages(&self) -> Vec<Value> {
        parse(&self.out).unwrap_or_else(|| panic!("not JSON: {self:?}"))
    }

    /// The JSON values on standard error.
    #[track_caller]
    pub(super) fn error_messages(&self) -> Vec<Value> {
        parse(&self.err).unwrap_or_else(|| panic!("not JSON: {self:?}"))
    }

    /// The only JSON value on standard output, but for those that say every second how far a command is: how many, the machine decides.
    #[track_caller]
    pub(super) fn message(&self) -> Value {
        let mut messages = self.messages();
        messages.retain(|message| message["message_type"] != "status");
        assert_eq!(messages.len(), 1, "{self:?}");
        messages.pop().unwrap()
    }
}

fn parse(text: &str) -> Option<Vec<Value>> {
    text.lines().map(|line| serde_json::from_str(line).ok()).collect()
}

/// Copies a directory with everything in it.
pub(super) fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(status.success());
}
