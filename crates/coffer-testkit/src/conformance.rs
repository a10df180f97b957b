//! Suites that every implementation of a trait runs.

mod root_key;
mod store;

pub use root_key::RootKeySuite;
pub use store::store_conformance;
