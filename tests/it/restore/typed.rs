//! The command as a user types it, as root and as somebody else.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use coffer_testkit::Mounted;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::scratch;

/// Somebody who is not root.
pub(super) const NOBODY: u32 = 65_534;

/// Who types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum User {
    /// Whoever runs the tests.
    Tester,
    /// An ordinary user, where the tests are run by root.
    Nobody,
}

/// A directory with a key, a vault and the command.
pub(super) struct Bench {
    dir: TempDir,
    user: User,
}

impl Bench {
    /// `None`, said aloud, where this user cannot be had.
    pub(super) fn of(user: User) -> Option<Self> {
        let bench = Self { dir: scratch(), user };
        if user == User::Nobody {
            if !rustix::process::geteuid().is_root() {
                println!("skipped: only root can become an ordinary user");
                return None;
            }
            fs::set_permissions(bench.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
            // Where the command was built, others may not be allowed in. This process must not write the copy: a child that another test
            // is starting would have it open for a moment, and what is open for writing cannot be run.
            let copied = Command::new("cp")
                .arg(env!("CARGO_BIN_EXE_coffer-under-test"))
                .arg(bench.path("coffer"))
                .status();
            assert!(copied.unwrap().success());
            let works = bench.program("true").status().is_ok_and(|status| status.success());
            if !works {
                println!("skipped: setpriv does not work here");
                return None;
            }
            fs::create_dir(bench.path("work")).unwrap();
            std::os::unix::fs::chown(bench.path("work"), Some(NOBODY), Some(NOBODY)).unwrap();
        } else {
            fs::create_dir(bench.path("work")).unwrap();
        }
        bench.run(["keys", "new-file", "key"]).expect(0);
        bench.run(["init", "--single-slot"]).expect(0);
        Some(bench)
    }

    pub(super) fn new() -> Self {
        Self::of(User::Tester).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where everything happens.
    pub(super) fn work(&self, name: &str) -> PathBuf {
        self.path("work").join(name)
    }

    /// A program as the user would run it.
    pub(super) fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = match self.user {
            User::Tester => Command::new(program),
            User::Nobody => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", &NOBODY.to_string(), "--regid", &NOBODY.to_string()]);
                command.arg("--clear-groups").arg("--").arg(program);
                command
            }
        };
        let work = self.path("work");
        if work.is_dir() {
            command.current_dir(work);
        }
        command.stdin(Stdio::null());
        command
    }

    /// The command, with vault and key given.
    pub(super) fn command<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut command = match self.user {
            User::Tester => self.program(env!("CARGO_BIN_EXE_coffer-under-test")),
            User::Nobody => self.program(self.path("coffer")),
        };
        command.env_clear().env("PATH", "/usr/bin:/bin").env("COFFER_VAULT", self.work("vault"));
        command.env("COFFER_KEY_FILE", self.work("key")).env("COFFER_CACHE_DIR", self.work("cache"));
        command.args(words);
        command
    }

    pub(super) fn run<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Ran {
        Ran(self.command(words).output().unwrap())
    }

    /// What a restore with these words reports in JSON.
    #[track_caller]
    pub(super) fn restore(&self, words: &[&str], code: i32) -> Value {
        let words = ["--json", "restore", "latest"].iter().chain(words);
        let ran = self.run(words).expect(code);
        let last = ran.out().lines().last().map(str::to_owned);
        serde_json::from_str(&last.unwrap_or_else(|| panic!("{ran:?}"))).unwrap()
    }
}

/// How a command ended.
#[derive(Debug)]
pub(super) struct Ran(pub(super) Output);

impl Ran {
    #[track_caller]
    pub(super) fn expect(self, code: i32) -> Self {
        assert_eq!(self.0.status.code(), Some(code), "{}\n{}", self.out(), self.err());
        self
    }

    pub(super) fn out(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    pub(super) fn err(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }
}

/// Every file below a directory that is no directory, with its length; paths are short.
pub(super) fn files_below(root: &Path) -> Vec<(PathBuf, u64)> {
    let mut files = Vec::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let stat = fs::symlink_metadata(&path).unwrap();
            if stat.is_dir() { open.push(path) } else { files.push((path, stat.len())) }
        }
    }
    files.sort();
    files
}

/// Mounts a small file system in memory at a directory of the bench, which is made if it is not there. `None`, said aloud, where this process
/// may not mount.
pub(super) fn mount_small(bench: &Bench, path: &str, size: &str) -> Option<Mounted> {
    let path = bench.work(path);
    fs::create_dir_all(&path).unwrap();
    Mounted::tmpfs(&path, &format!("size={size}"))
}
