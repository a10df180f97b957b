//! Streams: what they bring, how they end, and how one gets rid of them.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{self, Read};
use std::process::Command;
use std::time::{Duration, Instant};

use coffer_collect::{CollectError, EntryPath, Stream};

const PATIENCE: Duration = Duration::from_secs(30);

fn path() -> EntryPath {
    EntryPath::new("dump").unwrap()
}

fn shell(script: &str) -> Stream {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    Stream::of_command(path(), command).unwrap()
}

fn read_all(stream: &mut Stream) -> Result<Vec<u8>, CollectError> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 70_000]);
    loop {
        match stream.read(&mut buffer, PATIENCE)?.expect("something comes in time") {
            0 => return Ok(bytes),
            len => bytes.extend_from_slice(&buffer[..len]),
        }
    }
}

#[test]
fn a_reader_is_read_to_its_end() {
    for len in [0, 1, 262_144, 3_000_001] {
        let bytes: Vec<u8> = (0..=250).cycle().take(len).collect();
        let mut stream = Stream::new(path(), io::Cursor::new(bytes.clone()));
        assert!(read_all(&mut stream).unwrap() == bytes, "{len}");
        assert_eq!(stream.read(&mut [0; 9], PATIENCE).unwrap(), Some(0), "the end remains the end");
        stream.finish().unwrap();
    }
}

#[test]
fn what_breaks_off_is_no_end() {
    struct Fails(usize);
    impl Read for Fails {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0 += 1;
            match self.0 {
                1 => Ok(buffer.len().min(100)),
                2 => Err(io::ErrorKind::Interrupted.into()),
                _ => Err(io::Error::other("cable pulled")),
            }
        }
    }
    let error = read_all(&mut Stream::new(path(), Fails(0))).unwrap_err();
    assert!(
        matches!(&error, CollectError::Stream { source } if source.to_string() == "cable pulled"),
        "{error:?}"
    );

    struct Panics;
    impl Read for Panics {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            std::panic::resume_unwind(Box::new("nobody prints this"))
        }
    }
    assert!(matches!(read_all(&mut Stream::new(path(), Panics)), Err(CollectError::Stream { .. })));
}

#[test]
fn a_command_has_to_succeed() {
    let mut stream = shell("printf abc; printf def");
    assert_eq!(read_all(&mut stream).unwrap(), b"abcdef");
    stream.finish().unwrap();
    for (script, how) in [("printf part; exit 3", "exit code 3"), ("printf part; kill -9 $$", "signal 9")] {
        let mut stream = shell(script);
        assert_eq!(read_all(&mut stream).unwrap(), b"part");
        let error = stream.finish().unwrap_err();
        assert!(error.to_string().contains(how), "{error}");
    }
    let missing = Stream::of_command(path(), Command::new("/nowhere/no-such-command"));
    let error = missing.unwrap_err();
    assert!(
        matches!(&error, CollectError::CommandStart { .. }) && error.to_string().contains("no-such-command")
    );
}

#[test]
fn one_need_not_wait() {
    let begin = Instant::now();
    let mut stream = shell("exec sleep 600");
    assert_eq!(stream.read(&mut [0; 10], Duration::from_millis(20)).unwrap(), None);
    drop(stream);
    // One that does not want to end is ended.
    let mut stream = shell("trap '' TERM; printf x; while :; do sleep 1; done");
    assert_eq!(stream.read(&mut [0; 10], PATIENCE).unwrap(), Some(1));
    drop(stream);
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
}

#[test]
fn only_the_owner_may_read_the_entry() {
    let metadata = Stream::new(path(), io::empty()).metadata(17);
    let own = rustix::process::geteuid().as_raw();
    assert_eq!((metadata.mode, metadata.mtime_ns, metadata.uid), (0o600, 17, own));
}
