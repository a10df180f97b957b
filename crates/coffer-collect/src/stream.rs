//! A stream as the only entry of a snapshot: standard input, any other reader, or what a command prints.
//!
//! A thread of its own reads, so that whoever waits for more can look up meanwhile; it is a few blocks ahead at most. Whether the stream
//! was whole is known only at its end: [`Stream::finish`] says so, and a snapshot must not be made before it was asked.

use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getegid, geteuid, kill_process};

use crate::{CollectError, EntryPath, Metadata, Names};

/// How much is read at once.
const BLOCK_LEN: usize = 256 << 10;
/// Blocks that were read and not asked for yet.
const BLOCK_COUNT_MAX: usize = 4;
/// How long a command that is not needed any more has to end when it is asked to.
const GRACE: Duration = Duration::from_secs(2);
/// How often it is looked at meanwhile.
const GRACE_POLL: Duration = Duration::from_millis(10);
/// Only the owner may read what came in by a stream: nobody said who else may.
const MODE: u32 = 0o600;

/// A stream and the path of the entry it becomes.
#[derive(Debug)]
pub struct Stream {
    path: EntryPath,
    /// What was read; an empty block is the end.
    blocks: Receiver<io::Result<Vec<u8>>>,
    block: Vec<u8>,
    consumed: usize,
    ended: bool,
    command: Option<Running>,
}

#[derive(Debug)]
struct Running {
    name: String,
    child: Child,
}

impl Stream {
    /// The stream that `reader` gives.
    #[must_use]
    pub fn new(path: EntryPath, reader: impl Read + Send + 'static) -> Self {
        let (out, blocks) = sync_channel(BLOCK_COUNT_MAX);
        // It ends with the stream, or when nobody takes its blocks any more; a read that never returns must not be waited for.
        std::thread::spawn(move || forward(reader, &out));
        Self { path, blocks, block: Vec::new(), consumed: 0, ended: false, command: None }
    }

    /// Starts a command and takes its standard output; its standard error stays that of this process.
    ///
    /// # Errors
    /// [`CollectError::CommandStart`].
    pub fn of_command(path: EntryPath, mut command: Command) -> Result<Self, CollectError> {
        let name = command.get_program().to_string_lossy().into_owned();
        let started = command.stdout(Stdio::piped()).spawn();
        let mut child =
            started.map_err(|source| CollectError::CommandStart { command: name.clone(), source })?;
        let Some(output) = child.stdout.take() else {
            let source = io::Error::other("it has no standard output");
            return Err(CollectError::CommandStart { command: name, source });
        };
        let mut stream = Self::new(path, output);
        stream.command = Some(Running { name, child });
        Ok(stream)
    }

    /// The path of the entry.
    #[must_use]
    pub const fn path(&self) -> &EntryPath {
        &self.path
    }

    /// Takes what comes next, waiting no longer than `patience`: the number of bytes, 0 at the end; `None` if nothing came in time.
    ///
    /// # Errors
    /// [`CollectError::Stream`] when reading fails.
    pub fn read(&mut self, buffer: &mut [u8], patience: Duration) -> Result<Option<usize>, CollectError> {
        if self.consumed == self.block.len() && !self.ended {
            let block = match self.blocks.recv_timeout(patience) {
                Ok(block) => block,
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("it broke off")),
            };
            self.block = block.map_err(|source| CollectError::Stream { source })?;
            self.consumed = 0;
            self.ended = self.block.is_empty();
        }
        let rest = &self.block[self.consumed..];
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        self.consumed += len;
        Ok(Some(len))
    }

    /// After the end of the stream: whether it was whole. A command has to have succeeded.
    ///
    /// # Errors
    /// [`CollectError::CommandFailed`].
    pub fn finish(&mut self) -> Result<(), CollectError> {
        let Some(mut running) = self.command.take() else { return Ok(()) };
        let fail = |outcome| CollectError::CommandFailed { command: running.name.clone(), outcome };
        match running.child.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(fail(describe(status))),
            Err(error) => Err(fail(format!("its end cannot be learned: {error}"))),
        }
    }

    /// What is kept of the entry besides its content: this process owns it.
    #[must_use]
    pub fn metadata(&self, mtime_ns: i64) -> Metadata {
        let (uid, gid, names) = (geteuid().as_raw(), getegid().as_raw(), Names::system());
        Metadata {
            mode: MODE,
            uid,
            gid,
            user: names.user(uid).map(<[u8]>::to_vec),
            group: names.group(gid).map(<[u8]>::to_vec),
            mtime_ns,
            ..Metadata::default()
        }
    }
}

impl Drop for Running {
    /// A command whose output nobody wants any more is ended.
    fn drop(&mut self) {
        let child = &mut self.child;
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw)
            && matches!(child.try_wait(), Ok(None))
        {
            // It was not waited for, so the number is still its own.
            let _ = kill_process(pid, Signal::TERM);
            let end = Instant::now() + GRACE;
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < end {
                std::thread::sleep(GRACE_POLL);
            }
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Hands on what `reader` gives until its end, its first error, or until nobody listens.
fn forward(mut reader: impl Read, out: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut block = vec![0; BLOCK_LEN];
        let read = match reader.read(&mut block) {
            Ok(len) => {
                block.truncate(len);
                Ok(block)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let last = read.as_ref().map_or(true, Vec::is_empty);
        if out.send(read).is_err() || last {
            return;
        }
    }
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it ended with exit code {code}"),
        (None, Some(signal)) => format!("it was killed by signal {signal}"),
        (None, None) => "it did not end by itself".to_owned(),
    }
}
