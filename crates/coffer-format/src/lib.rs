//! The vault format: what the bytes at rest mean.
//!
//! This crate is the codec of `docs/format.md`, which is normative. It knows layouts, names, versions, limits and the replay
//! of the log. It refuses to know keys, stores, clocks and threads: with it and the specification one can write another reader.
//!
//! | module | what |
//! | --- | --- |
//! | [`cbor`] | the restricted CBOR that structures are made of |
//! | [`id`], [`object`] | identifiers, and names of objects |
//! | [`header`], [`slot`] | the vault's header and its key slots |
//! | [`record`], [`log`], [`manifest`] | log records, their replay, and what a snapshot record says |
//! | [`pack`], [`index`] | where chunks are |
//! | [`tree`], [`path`] | what a snapshot holds |
//! | [`limits`] | every bound |
//!
//! Every reader checks lengths before it allocates, and rejects what a writer would not have written.

#![forbid(unsafe_code)]

pub mod cbor;
mod error;
pub mod header;
pub mod id;
pub mod index;
pub mod limits;
pub mod log;
pub mod manifest;
pub mod object;
pub mod pack;
pub mod path;
pub mod policy;
pub mod record;
pub mod slot;
pub mod store;
pub mod tree;

#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;
#[cfg(test)]
mod testing;

pub use error::FormatError;
