//! Files with secrets: read within bounds, and made for their owner alone.

use std::io::{ErrorKind, Read};
use std::path::Path;

use anyhow::Result;
use zeroize::Zeroizing;

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
///
/// The bytes are read into one buffer that never grows, so that no piece of them stays behind; whoever gets it wipes it.
pub(crate) fn read_bounded(what: &str, path: &Path, len_max: u64, missing: &str) -> Result<Vec<u8>> {
    let open = || -> std::io::Result<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(len_max).unwrap_or_default()));
        std::fs::File::open(path)?.take(len_max).read_to_end(&mut bytes)?;
        Ok(std::mem::take(&mut *bytes))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_into_a_buffer_that_never_grows() {
        let path = std::env::temp_dir().join(format!("coffer-private-file-{}", std::process::id()));
        for (len, len_max) in [(0, 4096), (100, 4096), (4096, 4096), (4097, 4096), (100_000, 1 << 17)] {
            std::fs::write(&path, vec![7; len]).expect("is written");
            let bytes = read_bounded("secret", &path, len_max, "").expect("is read");
            let most = usize::try_from(len_max).expect("a length");
            assert_eq!((bytes.len(), bytes.capacity()), (len.min(most), most));
        }
        std::fs::remove_file(&path).expect("is removed");
        assert!(read_bounded("secret", &path, 10, "").is_err());
    }
}
