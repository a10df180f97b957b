//! What every store promises, and what each store adds.

mod key;
mod local;
mod no_space;
mod probe;
mod retry;
mod stores;
