//! Files that are still there after a power cut.

use std::io;
use std::path::Path;

/// Forces to the disk what a directory holds: files that are new in it, and their names.
#[cfg_attr(not(unix), expect(clippy::unnecessary_wraps, reason = "directories are forced on Unix"))]
pub(super) fn sync(directory: &Path) -> io::Result<()> {
    #[cfg(unix)]
    std::fs::File::open(directory)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = directory;
    Ok(())
}

/// The directory that a path is in.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
