//! Root keys and key slots.
