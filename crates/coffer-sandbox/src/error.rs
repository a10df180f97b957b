//! What can go wrong when a sandbox starts or is configured.

use std::io;
use std::path::PathBuf;

/// Why a sandbox did not start, or did not take a setting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// A file or directory of the sandbox could not be used.
    #[error("use {}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// Another process serves the same directory.
    #[error("serve {}: another sandbox has it open", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A port could not be opened.
    #[error("listen on {address}")]
    Listen {
        /// The address asked for.
        address: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A sandbox is for one machine: it holds no secret worth the name.
    #[error("listen on {address}: a sandbox listens on loopback only")]
    NotLoopback {
        /// The address asked for.
        address: String,
    },
    /// The records of the sandbox could not be read or written.
    #[error("use the records of the sandbox: {what}")]
    Records {
        /// What the database said.
        what: String,
    },
    /// No certificate could be made.
    #[error("make a certificate: {what}")]
    Certificate {
        /// What the library said.
        what: String,
    },
    /// A setting that the service would not take.
    #[error("apply a setting: {what}")]
    Refused {
        /// What is wrong with it.
        what: String,
    },
}
