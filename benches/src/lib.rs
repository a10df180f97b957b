//! What the measuring programs share: data that is the same everywhere, keys, a world for operations, and a stopwatch.
//!
//! Nothing here is a test, and nothing here is used by the product.

pub mod data;
pub mod stopwatch;
pub mod world;
