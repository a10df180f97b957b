//! Every kind of root key runs the same suite; tokens are those of SoftHSM.

#![allow(clippy::unwrap_used, reason = "tests fail where they stand")]

mod local;
mod token;
mod token_bytes;
mod token_errors;
