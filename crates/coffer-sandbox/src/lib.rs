//! A simulated IBM Cloud region on loopback, for tests and for trying things out; and a key service that is also there on its own.
//!
//! The region has IAM (tokens, service ids, policies), Cloud Object Storage (S3 with IBM's additions), Key Protect and HPCS. State is kept in a directory and
//! survives the end of the process at any moment. Services share one clock that tests move, and switches that make them fail or
//! behave as other stores do. Nothing here is shared with the clients in this workspace, so that each catches the other's mistakes.
//!
//! The region is no store for real data: it listens on loopback only, its admin endpoint asks nobody who they are, objects are not
//! encrypted on its disk, and nothing is forced to the disk. [`KmsServer`], the key service on its own, is meant for real keys: it has a
//! master key, tokens, TLS, and forces each write to the disk.
//!
//! | module | what it does |
//! | --- | --- |
//! | `sandbox` | starts a region and is the handle that tests hold |
//! | `region`, `records`, `clock`, `switches` | what all services share |
//! | `listener`, `tls` | ports and certificates |
//! | `iam` | tokens, identities, policies |
//! | `cos` | object storage |
//! | `kms` | the key service, which also runs on its own |
//! | `admin` | the Rust API over HTTP |

#![forbid(unsafe_code)]

mod admin;
mod clock;
mod cos;
mod error;
mod iam;
mod kms;
mod listener;
mod random;
mod records;
mod region;
mod sandbox;
mod switches;
mod tls;

pub use error::SandboxError;
pub use iam::{HmacKeys, Policy, Role};
pub use kms::{
    AuditEntry, AuditHead, KeyPart, KeyToken, KmsKind, KmsOptions, KmsServer, MasterKeySource, NewToken,
    add_token,
};
pub use sandbox::{NewBucket, Sandbox, SandboxOptions};
pub use switches::{AadMode, ChecksumMode, ConditionMode, KmsGone, Switches, TokenRefusal, WrongLocation};

/// A refusal of a service, for callers of the Rust API.
pub(crate) fn refused(error: s3s::S3Error) -> SandboxError {
    SandboxError::Refused { what: cos::what(&error) }
}
