//! What can go wrong when a sandbox starts or is configured.

use std::io;
use std::path::PathBuf;

use crate::kms::AuditHead;

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
    /// No master key came of what was given.
    #[error("load the master key: {what}")]
    MasterKey {
        /// What is wrong.
        what: String,
    },
    /// Another master key than the one that the instance has.
    #[error(
        "load the master key: its verification pattern is {pattern}, and that of the instance is {expected}"
    )]
    WrongMasterKey {
        /// The pattern of what was given.
        pattern: String,
        /// The pattern of the master key of the instance.
        expected: String,
    },
    /// The audit log is not as it was written.
    #[error("check the audit log at entry {number}: {what}")]
    Audit {
        /// Where.
        number: u64,
        /// What is wrong.
        what: String,
        /// The newest entry up to which each follows the one before it.
        whole: AuditHead,
    },
    /// A file of the key service says what it must not.
    #[error("read {}: {what}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Others than its owner may write to a file that says who may do what.
    #[error("use {}: its mode is {mode:03o}, so others than its owner may write to it", path.display())]
    Writable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// There is no such instance of the key service.
    #[error("find the instance {guid} of the key service")]
    NoInstance {
        /// Its GUID.
        guid: String,
    },
}
