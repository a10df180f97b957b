//! What concerns the process as a whole: interrupts, what the system may see of it, how much of the machine it takes.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};

use anyhow::{Context, Result};

use crate::command_error::CommandError;
use crate::exit_code::Exit;
use crate::{pending_files, progress};

/// Set by the first interrupt.
pub(crate) static INTERRUPT: AtomicBool = AtomicBool::new(false);

/// Lets the first interrupt end the operation in order, if it can do so, and the second one end the process.
pub(crate) fn catch_interrupts(orderly: bool, json: bool) -> Result<()> {
    ctrlc::set_handler(move || {
        let is_first = !INTERRUPT.swap(true, Ordering::Relaxed);
        if is_first && orderly {
            return;
        }
        let advice = pending_files::end();
        if is_first || advice.is_some() {
            say_interrupted(json, advice);
        }
        std::process::exit(Exit::Interrupted as i32);
    })
    .context("install the handler of interrupts")
}

/// For a service, which runs until it is told to end: at the first interrupt, or request to terminate, what is given back has a
/// word to receive, and the service ends in order. The second one ends the process.
pub(crate) fn catch_end() -> Result<Receiver<()>> {
    let (tell, told) = mpsc::channel();
    ctrlc::set_handler(move || {
        if INTERRUPT.swap(true, Ordering::Relaxed) {
            std::process::exit(Exit::Interrupted as i32);
        }
        // Nobody listens any more if the service has failed, and then the process is ending.
        let _ = tell.send(());
    })
    .context("install the handler of interrupts")?;
    Ok(told)
}

/// Says why the process ends, unless nobody takes it: a full pipe must not keep it from ending.
fn say_interrupted(json: bool, hint: Option<String>) {
    let (said, is_said) = mpsc::channel();
    std::thread::spawn(move || {
        progress::clear();
        CommandError::interrupted(hint).print(json);
        // Whoever waits may have given up.
        let _ = said.send(());
    });
    // The process ends in any case; on a busy machine it takes a while until the thread has its turn.
    let _ = is_said.recv_timeout(std::time::Duration::from_secs(3));
}

/// Keys are in memory: no core dump, no debugger of other processes of the user. More open files, where that is allowed.
pub(crate) fn harden_process() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{
            DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
        };
        // Each is done as far as the system allows it; none is needed to go on.
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
        let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
        let files = getrlimit(Resource::Nofile);
        let _ = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum });
    }
}

/// How many files this process may have open.
pub(crate) fn open_file_count_max() -> usize {
    #[cfg(target_os = "linux")]
    {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
    }
    #[cfg(not(target_os = "linux"))]
    {
        256
    }
}

/// Threads for work that keeps a processor busy.
pub(crate) fn thread_count(flag: Option<usize>) -> usize {
    flag.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
        .clamp(1, 64)
}

/// Whether a person can be asked.
pub(crate) fn has_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}
