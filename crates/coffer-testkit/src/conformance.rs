//! Suites that every implementation of a trait runs.

mod store;

pub use store::store_conformance;
