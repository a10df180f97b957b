//! Tests of damage.
