//! Files with secrets: read within bounds, and made for their owner alone.

use std::io::{ErrorKind, Read};
use std::path::Path;

use anyhow::Result;

use crate::command_error::Failure;
use crate::exit_code::Exit;

/// A secret in a text file, without the end of its line.
pub(crate) fn without_line_end(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    bytes
}

/// Reads at most `len_max` bytes of a file; `what` names it in an error, and `missing` is the next step where there is none.
pub(crate) fn read_bounded(what: &str, path: &Path, len_max: u64, missing: &str) -> Result<Vec<u8>> {
    let open = || -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(len_max).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    open().map_err(|error| {
        let message = format!("the {what} {} cannot be read: {error}", path.display());
        let failure = Failure::new(Exit::WrongKey, message);
        match error.kind() {
            ErrorKind::NotFound => failure.hint(missing).into(),
            ErrorKind::PermissionDenied => {
                failure.hint("it belongs to another user; check who you are").into()
            }
            _ => failure.into(),
        }
    })
}

/// Makes a file that only its owner may read; an existing one is an error.
pub(crate) fn create_private(path: &Path) -> std::io::Result<std::fs::File> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path)
}

/// Writes a private file so that it is there after a power cut: what is committed next may rely on it.
pub(crate) fn write_private(mut file: std::fs::File, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    file.write_all(bytes)?;
    file.sync_all()?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(parent)?.sync_all()
}
