//! Every kind of root key runs the same suite; tokens are those of SoftHSM.

#![allow(clippy::unwrap_used, reason = "tests fail where they stand")]

mod altered_module;
mod local;
#[path = "../common/rfc5649.rs"]
mod rfc5649;
mod token;
mod token_bytes;
mod token_errors;
mod token_wraps;
