//! PKCS#11 tokens in software, by the package `softhsm2`.
//!
//! `SoftHSM` finds its tokens through the environment of the process. A test that loads the module itself therefore runs in a child of its
//! own ([`SoftHsm::in_child`]); one that runs a command gives that command the variable.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The variable that names the configuration.
pub const CONFIGURATION_VARIABLE: &str = "SOFTHSM2_CONF";
const CHILD_VARIABLE: &str = "COFFER_TEST_IN_CHILD";
const PROGRAM: &str = "softhsm2-util";
const SO_PIN: &str = "security-officer-pin";

/// Where distributions put the module.
const MODULES: [&str; 6] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
];

/// An installation with a directory of tokens.
pub struct SoftHsm {
    module: PathBuf,
    configuration: PathBuf,
}

impl SoftHsm {
    /// Sets up an empty directory of tokens in `dir`. `more` is what else the configuration says, in whole lines. None, aloud, where the
    /// package is not installed.
    ///
    /// # Panics
    /// When the package is not installed and no test may be skipped.
    #[must_use]
    #[expect(clippy::print_stdout, reason = "it says what is skipped")]
    pub fn new(dir: &Path, more: &str) -> Option<Self> {
        let module = MODULES.iter().map(PathBuf::from).find(|path| path.is_file());
        let path = std::env::var_os("PATH").unwrap_or_default();
        let has_program = std::env::split_paths(&path).any(|folder| folder.join(PROGRAM).is_file());
        let Some(module) = module.filter(|_| has_program) else {
            let must = std::env::var_os("COFFER_TESTS_REQUIRE_ALL").is_some();
            assert!(!must, "tests/install-extras.sh was not run");
            println!("SKIPPED: there is no SoftHSM; tests/install-extras.sh installs it");
            return None;
        };
        let tokens = dir.join("tokens");
        fs::create_dir_all(&tokens).expect("make the directory of tokens");
        let configuration = dir.join("softhsm2.conf");
        let text = format!("directories.tokendir = {}\nlog.level = ERROR\n{more}", tokens.display());
        fs::write(&configuration, text).expect("write the configuration");
        Some(Self { module, configuration })
    }

    /// The module.
    #[must_use]
    pub fn module(&self) -> &Path {
        &self.module
    }

    /// What [`CONFIGURATION_VARIABLE`] has to be in the environment of whoever loads the module.
    #[must_use]
    pub fn configuration(&self) -> &Path {
        &self.configuration
    }

    /// Makes a token.
    ///
    /// # Panics
    /// When that fails.
    pub fn make_token(&self, label: &str, pin: &str) {
        self.run(&["--init-token", "--free", "--label", label, "--pin", pin, "--so-pin", SO_PIN]);
    }

    /// Destroys a token.
    ///
    /// # Panics
    /// When that fails.
    pub fn delete_token(&self, label: &str) {
        self.run(&["--delete-token", "--token", label]);
    }

    fn run(&self, arguments: &[&str]) {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).arg("--module").arg(&self.module);
        let output = command.env(CONFIGURATION_VARIABLE, &self.configuration).output();
        let output = output.expect("run softhsm2-util");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    /// Runs `body` in a process that finds these tokens: the test binary starts itself again, for the one test of this name, which
    /// must be the one that calls.
    ///
    /// # Panics
    /// When the child fails, or has no such test.
    pub fn in_child(dir: &Path, more: &str, test: &str, body: impl FnOnce(&Self)) {
        let Some(tokens) = Self::new(dir, more) else { return };
        if std::env::var_os(CHILD_VARIABLE).as_deref() == Some(OsStr::new(test)) {
            let configuration = std::env::var_os(CONFIGURATION_VARIABLE).expect("the parent sets it");
            return body(&Self { configuration: configuration.into(), ..tokens });
        }
        let mut child = Command::new(std::env::current_exe().expect("the path of the tests"));
        child.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(CHILD_VARIABLE, test);
        let output =
            child.env(CONFIGURATION_VARIABLE, &tokens.configuration).output().expect("run the child");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
        assert!(out.contains("1 passed"), "there is no test named {test}:\n{out}");
    }
}
