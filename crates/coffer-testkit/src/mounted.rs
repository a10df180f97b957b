//! File systems that a test mounts for itself, where the system lets it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a file system that is in use is waited for.
///
/// Another thread of the tests may be about to start a program: its child has a copy of every open file until it has become that program.
/// On a busy machine this takes a while.
const BUSY_TIME_MAX: Duration = Duration::from_secs(10);

const PAUSE: Duration = Duration::from_millis(20);

/// A mounted file system. It is unmounted when this is dropped, in any case: where somebody still has a file of it open, it is taken from the
/// tree of directories at once and goes when the last of them is closed. That never panics.
pub struct Mounted {
    path: PathBuf,
}

impl Mounted {
    /// Mounts a file system in memory; `options` are those of `mount -o`. `None`, said aloud, where this process may not mount.
    #[must_use]
    pub fn tmpfs(path: &Path, options: &str) -> Option<Self> {
        Self::new(path, &["-t", "tmpfs", "-o", options, "tmpfs"])
    }

    /// Mounts `lower`, changes to which go to `upper`; `scratch` is an empty directory beside `upper`. `None`, said aloud, where this process
    /// may not mount such a thing.
    #[must_use]
    pub fn overlay(path: &Path, lower: &Path, upper: &Path, scratch: &Path) -> Option<Self> {
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.display(),
            upper.display(),
            scratch.display()
        );
        Self::new(path, &["-t", "overlay", "-o", &options, "overlay"])
    }

    #[expect(clippy::print_stdout, reason = "it says what is skipped")]
    fn new(path: &Path, arguments: &[&str]) -> Option<Self> {
        match run("mount", arguments, path) {
            Ok(()) => Some(Self { path: path.to_owned() }),
            Err(why) => {
                println!("skipped: this process may not mount a file system: {why}");
                None
            }
        }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Changes the options of the mount.
    ///
    /// # Panics
    /// When that fails for a while.
    pub fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        if let Err(why) = tried_for_a_while(|| run("mount", &["-o", &options], &self.path)) {
            panic!("mount -o {options} {}: {why}", self.path.display());
        }
    }
}

impl Drop for Mounted {
    #[expect(clippy::print_stderr, reason = "it fails no test, and is not kept secret")]
    fn drop(&mut self) {
        let unmounted = tried_for_a_while(|| run("umount", &[], &self.path))
            .or_else(|_| run("umount", &["-l"], &self.path));
        if let Err(why) = unmounted {
            eprintln!("{} stays mounted: {why}", self.path.display());
        }
    }
}

impl fmt::Debug for Mounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mounted({})", self.path.display())
    }
}

fn tried_for_a_while(mut attempt: impl FnMut() -> Result<(), String>) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        let done = attempt();
        if done.is_ok() || begun.elapsed() > BUSY_TIME_MAX {
            return done;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Runs a program with a path as its last argument; what it said if it failed.
fn run(program: &str, arguments: &[&str], path: &Path) -> Result<(), String> {
    let output = Command::new(program).args(arguments).arg(path).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_mounted(path: &Path) -> bool {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("the list of mounts");
        mounts.lines().any(|line| line.split(' ').nth(4) == path.to_str())
    }

    #[test]
    fn a_file_that_is_open_keeps_no_file_system_mounted() {
        let dir = std::env::temp_dir().join(format!("coffer-mounted-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let Some(mounted) = Mounted::tmpfs(&dir, "size=1m") else { return };
        mounted.remount("size=2m");
        let file = std::fs::File::create(mounted.path().join("open")).expect("a file");
        assert!(is_mounted(&dir));
        drop(mounted);
        assert!(!is_mounted(&dir), "it is taken away, whoever has a file open");
        drop(file);
        std::fs::remove_dir(&dir).expect("it is empty again");
    }
}
