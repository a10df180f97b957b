//! Chunks, compression and packs over slices; no I/O.
//!
//! The data plane: every byte of a backup passes here, and every byte of a restore. It knows the format and the keys; it refuses to know
//! stores, files, clocks and threads, so that it can be benchmarked and fuzzed on slices.
//!
//! | module | what |
//! | --- | --- |
//! | [`chunker`] | where a stream is cut |
//! | [`compress`] | zstd, and when not to |
//! | [`pack_writer`], [`pack_reader`] | frames into packs and back |
//! | [`segment`] | index segments |
//! | [`tree_writer`] | entries into leaves and nodes, chunks into content lists |
//! | [`keyring`] | the reading keys of every epoch |
//! | [`record`] | log records sealed and signed |

#![deny(unsafe_code)]

pub mod chunker;
pub mod compress;
pub mod epoch;
mod error;
pub mod keyring;
pub mod pack_reader;
pub mod pack_writer;
pub mod record;
pub mod segment;
#[cfg(test)]
mod testing;
pub mod tree_writer;

pub use error::PipelineError;
